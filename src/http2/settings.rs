//! Parameters of a connection (RFC 9113 section 6.5, RFC 8441 section 3, RFC 9218 section 2.1): their values on each side and which of
//! them are valid. Not here: frames (`reader`, `writer`), and what a change does to windows (`flow`) and tables (`hpack`).

use crate::http2::flow::WINDOW_MAX;
use crate::http2::{Error, ErrorCode};

/// Smallest limit of a payload that a peer may ask for, and the one before any SETTINGS.
pub const FRAME_SIZE_MIN: u32 = 1 << 14;
/// Largest limit of a payload.
pub const FRAME_SIZE_MAX: u32 = (1 << 24) - 1;
/// Bytes of one parameter in a frame.
pub const SETTING_BYTES: usize = 6;

/// A parameter as it stands in a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Setting {
    /// Its number; unknown ones are ignored.
    pub id: u16,
    /// Its value.
    pub value: u32,
}

impl Setting {
    /// `SETTINGS_HEADER_TABLE_SIZE`
    pub const HEADER_TABLE_SIZE: u16 = 0x1;
    /// `SETTINGS_ENABLE_PUSH`
    pub const ENABLE_PUSH: u16 = 0x2;
    /// `SETTINGS_MAX_CONCURRENT_STREAMS`
    pub const MAX_CONCURRENT_STREAMS: u16 = 0x3;
    /// `SETTINGS_INITIAL_WINDOW_SIZE`
    pub const INITIAL_WINDOW_SIZE: u16 = 0x4;
    /// `SETTINGS_MAX_FRAME_SIZE`
    pub const MAX_FRAME_SIZE: u16 = 0x5;
    /// `SETTINGS_MAX_HEADER_LIST_SIZE`
    pub const MAX_HEADER_LIST_SIZE: u16 = 0x6;
    /// `SETTINGS_ENABLE_CONNECT_PROTOCOL`
    pub const ENABLE_CONNECT_PROTOCOL: u16 = 0x8;
    /// `SETTINGS_NO_RFC7540_PRIORITIES`
    pub const NO_RFC7540_PRIORITIES: u16 = 0x9;
}

/// A side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The one that opens the connection and sends requests.
    Client,
    /// The one that answers.
    Server,
}

/// The parameters that one side has sent, with the initial values of those that it has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Most bytes of the dynamic table that the other side's encoder may use.
    pub header_table_size: u32,
    /// Whether the other side may push.
    pub enable_push: bool,
    /// Most streams that the other side may have open; `u32::MAX`: no limit.
    pub max_concurrent_streams: u32,
    /// The window of each new stream, for what the other side sends.
    pub initial_window_size: u32,
    /// Most bytes of a payload that the other side may send.
    pub max_frame_size: u32,
    /// Most bytes of a field section, counted as decoded; advice only. `u32::MAX`: no limit.
    pub max_header_list_size: u32,
    /// Whether the other side may send extended CONNECT.
    pub enable_connect_protocol: bool,
    /// Whether priorities of RFC 7540 are not used.
    pub no_rfc7540_priorities: bool,
}

/// What the change of a parameter asks for, besides the new value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    Nothing,
    /// The send windows of all streams grow by this many bytes, which may be less than 0.
    Windows(i64),
    /// The encoder has a new bound for its table.
    HeaderTable(u32),
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            header_table_size: 4096,
            enable_push: true,
            max_concurrent_streams: u32::MAX,
            initial_window_size: 65_535,
            max_frame_size: FRAME_SIZE_MIN,
            max_header_list_size: u32::MAX,
            enable_connect_protocol: false,
            no_rfc7540_priorities: false,
        }
    }
}

impl Settings {
    /// Takes a parameter that `sender` has sent, in the order of the frame: each value is checked, even if another follows.
    ///
    /// # Errors
    /// A value that is not valid ends the connection.
    pub fn apply(&mut self, sender: Side, setting: Setting) -> Result<Change, Error> {
        let value = setting.value;
        let invalid = |reason| Error::connection(ErrorCode::ProtocolError, reason);
        match setting.id {
            Setting::HEADER_TABLE_SIZE => {
                self.header_table_size = value;
                return Ok(Change::HeaderTable(value));
            }
            Setting::ENABLE_PUSH => {
                let enabled = flag(value).ok_or(invalid("ENABLE_PUSH is neither 0 nor 1"))?;
                if enabled && sender == Side::Server {
                    return Err(invalid("a server sets ENABLE_PUSH to 1"));
                }
                self.enable_push = enabled;
            }
            Setting::MAX_CONCURRENT_STREAMS => self.max_concurrent_streams = value,
            Setting::INITIAL_WINDOW_SIZE => {
                if value > WINDOW_MAX {
                    return Err(Error::connection(ErrorCode::FlowControlError, "INITIAL_WINDOW_SIZE above 2^31-1"));
                }
                let by = i64::from(value) - i64::from(self.initial_window_size);
                self.initial_window_size = value;
                return Ok(if by == 0 { Change::Nothing } else { Change::Windows(by) });
            }
            Setting::MAX_FRAME_SIZE => {
                if !(FRAME_SIZE_MIN..=FRAME_SIZE_MAX).contains(&value) {
                    return Err(invalid("MAX_FRAME_SIZE outside of 2^14 and 2^24-1"));
                }
                self.max_frame_size = value;
            }
            Setting::MAX_HEADER_LIST_SIZE => self.max_header_list_size = value,
            Setting::ENABLE_CONNECT_PROTOCOL => {
                let enabled = flag(value).ok_or(invalid("ENABLE_CONNECT_PROTOCOL is neither 0 nor 1"))?;
                if self.enable_connect_protocol && !enabled {
                    return Err(invalid("ENABLE_CONNECT_PROTOCOL goes back to 0"));
                }
                self.enable_connect_protocol = enabled;
            }
            Setting::NO_RFC7540_PRIORITIES => {
                self.no_rfc7540_priorities = flag(value).ok_or(invalid("NO_RFC7540_PRIORITIES is neither 0 nor 1"))?;
            }
            _ => {}
        }
        Ok(Change::Nothing)
    }

    /// The parameters that differ from the initial values, for a frame.
    pub fn changed(&self) -> impl Iterator<Item = Setting> + Clone + use<> {
        let initial = Self::default().all();
        self.all().into_iter().zip(initial).filter(|(own, initial)| own != initial).map(|(own, _)| own)
    }

    fn all(&self) -> [Setting; 8] {
        [
            (Setting::HEADER_TABLE_SIZE, self.header_table_size),
            (Setting::ENABLE_PUSH, u32::from(self.enable_push)),
            (Setting::MAX_CONCURRENT_STREAMS, self.max_concurrent_streams),
            (Setting::INITIAL_WINDOW_SIZE, self.initial_window_size),
            (Setting::MAX_FRAME_SIZE, self.max_frame_size),
            (Setting::MAX_HEADER_LIST_SIZE, self.max_header_list_size),
            (Setting::ENABLE_CONNECT_PROTOCOL, u32::from(self.enable_connect_protocol)),
            (Setting::NO_RFC7540_PRIORITIES, u32::from(self.no_rfc7540_priorities)),
        ]
        .map(|(id, value)| Setting { id, value })
    }
}

fn flag(value: u32) -> Option<bool> {
    match value {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_checked() {
        use ErrorCode::{FlowControlError, ProtocolError};
        for (sender, id, value, want) in [
            (Side::Client, Setting::HEADER_TABLE_SIZE, u32::MAX, None),
            (Side::Client, Setting::ENABLE_PUSH, 0, None),
            (Side::Client, Setting::ENABLE_PUSH, 1, None),
            (Side::Client, Setting::ENABLE_PUSH, 2, Some(ProtocolError)),
            (Side::Server, Setting::ENABLE_PUSH, 0, None),
            (Side::Server, Setting::ENABLE_PUSH, 1, Some(ProtocolError)),
            (Side::Server, Setting::MAX_CONCURRENT_STREAMS, 0, None),
            (Side::Client, Setting::INITIAL_WINDOW_SIZE, 0, None),
            (Side::Client, Setting::INITIAL_WINDOW_SIZE, 0x7fff_ffff, None),
            (Side::Client, Setting::INITIAL_WINDOW_SIZE, 0x8000_0000, Some(FlowControlError)),
            (Side::Client, Setting::INITIAL_WINDOW_SIZE, u32::MAX, Some(FlowControlError)),
            (Side::Client, Setting::MAX_FRAME_SIZE, 16_383, Some(ProtocolError)),
            (Side::Client, Setting::MAX_FRAME_SIZE, 16_384, None),
            (Side::Client, Setting::MAX_FRAME_SIZE, 0xff_ffff, None),
            (Side::Client, Setting::MAX_FRAME_SIZE, 0x100_0000, Some(ProtocolError)),
            (Side::Client, Setting::MAX_HEADER_LIST_SIZE, 0, None),
            (Side::Server, Setting::ENABLE_CONNECT_PROTOCOL, 1, None),
            (Side::Server, Setting::ENABLE_CONNECT_PROTOCOL, 2, Some(ProtocolError)),
            (Side::Client, Setting::NO_RFC7540_PRIORITIES, 2, Some(ProtocolError)),
            (Side::Client, 0, 1, None),
            (Side::Client, 0x7, u32::MAX, None),
            (Side::Client, 0xffff, u32::MAX, None),
        ] {
            let result = Settings::default().apply(sender, Setting { id, value });
            assert_eq!(result.err().map(|error| error.code), want, "{sender:?} {id} {value}");
        }
    }

    #[test]
    fn changes_say_what_follows_from_them() {
        let mut settings = Settings::default();
        let mut apply = |id, value| settings.apply(Side::Server, Setting { id, value });
        assert_eq!(apply(Setting::INITIAL_WINDOW_SIZE, 65_535), Ok(Change::Nothing));
        assert_eq!(apply(Setting::INITIAL_WINDOW_SIZE, 0), Ok(Change::Windows(-65_535)));
        assert_eq!(apply(Setting::INITIAL_WINDOW_SIZE, 10), Ok(Change::Windows(10)));
        assert_eq!(apply(Setting::HEADER_TABLE_SIZE, 100), Ok(Change::HeaderTable(100)));
        assert_eq!(apply(Setting::ENABLE_CONNECT_PROTOCOL, 1), Ok(Change::Nothing));
        assert!(apply(Setting::ENABLE_CONNECT_PROTOCOL, 0).is_err());
    }

    #[test]
    fn only_what_differs_is_sent() {
        assert_eq!(Settings::default().changed().count(), 0);
        let own = Settings { enable_push: false, max_concurrent_streams: 100, ..Settings::default() };
        let mut read = Settings::default();
        for setting in own.changed() {
            assert!(read.apply(Side::Client, setting).is_ok());
        }
        assert_eq!((read, own.changed().count()), (own, 2));
    }
}
