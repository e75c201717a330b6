//! Reads frames from bytes in any cuts (RFC 9113 section 6). Checks what a frame alone can violate: lengths, padding, stream 0, the
//! order of HEADERS and CONTINUATION. Not here: states of streams, windows, values of parameters, field sections.

use crate::http2::frame::{FRAME_HEAD_BYTES, Flags, FrameHead, FrameKind};
use crate::http2::{Error, ErrorCode, Priority, Scope, Setting, Side, StreamId};

/// Most bytes of a PRIORITY_UPDATE that is read; a longer one is skipped. More than the identifier and `u=7, i=?0`.
const PRIORITY_UPDATE_BYTES: u32 = 32;

/// The next step through the bytes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// How many of the bytes belong to it.
    pub len: usize,
    /// What they are.
    pub event: Event,
}

/// What bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// All bytes are read; more have to arrive.
    NeedMore,
    /// Bytes without a meaning: padding, unknown frames, debug data, deprecated priorities.
    Skip,
    /// The head of a frame of an unknown kind, which is skipped; it may be counted.
    Unknown,
    /// The head of a DATA frame.
    Data {
        /// The stream, never 0.
        stream: StreamId,
        /// Bytes of the payload, padding included: what counts for the windows.
        flow_length: u32,
        /// Whether the message ends with this frame.
        end_stream: bool,
    },
    /// Content of the DATA frame.
    Content,
    /// Padding of the DATA frame, with the byte that says how much: it counts for the windows, and is free at once.
    Padding,
    /// The end of the DATA frame, with the last of its padding: `len` bytes.
    DataEnd {
        /// The stream.
        stream: StreamId,
        /// Whether the message ends.
        end_stream: bool,
    },
    /// The head of a HEADERS frame.
    Headers {
        /// The stream, never 0.
        stream: StreamId,
        /// Whether the message ends with this field section.
        end_stream: bool,
    },
    /// The head of a CONTINUATION frame.
    Continuation,
    /// Bytes of the field section.
    Fragment,
    /// The end of the field section.
    HeadersEnd {
        /// The stream.
        stream: StreamId,
        /// Whether the message ends.
        end_stream: bool,
    },
    /// A priority by the deprecated scheme.
    Priority,
    /// The peer ends a stream.
    RstStream {
        /// The stream, never 0.
        stream: StreamId,
        /// Why.
        code: ErrorCode,
    },
    /// The head of a SETTINGS frame with so many parameters.
    Settings {
        /// Their number.
        count: u32,
    },
    /// A parameter, to be applied at once.
    Setting(Setting),
    /// The end of the parameters: they are to be acknowledged.
    SettingsEnd,
    /// The peer has applied our parameters.
    SettingsAck,
    /// A test of the connection, to be answered with the same bytes; or the answer to ours.
    Ping {
        /// Whether it is an answer.
        ack: bool,
        /// The bytes.
        data: [u8; 8],
    },
    /// The peer ends the connection.
    GoAway {
        /// The highest stream of ours that it may have processed.
        last: StreamId,
        /// Why.
        code: ErrorCode,
    },
    /// A window has grown. An increment of 0 is an error of the stream, or of the connection if the stream is 0.
    WindowUpdate {
        /// The stream, or 0.
        stream: StreamId,
        /// By how much.
        increment: u32,
    },
    /// A priority of a stream (RFC 9218).
    PriorityUpdate {
        /// The stream, never 0.
        stream: StreamId,
        /// Its priority.
        priority: Priority,
    },
}

/// What the next bytes belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The head of a frame.
    Head,
    /// The byte that says how long the padding is.
    PadLength,
    /// The five bytes of a deprecated priority in HEADERS.
    PriorityFields,
    /// Content or a fragment: `left` bytes.
    Content,
    /// Parameters: `left` bytes.
    Parameters,
    /// The payload of a small frame, which is read at once: `left` bytes.
    Payload,
    /// Padding of DATA or HEADERS; its end is an event.
    Padding,
    /// Bytes to be skipped: `left`.
    Skip,
}

/// A reader of the frames that one side sends.
#[derive(Clone, Debug)]
pub struct FrameReader {
    /// The side that sends.
    sender: Side,
    state: State,
    /// Whether no frame has arrived: the first one has to be SETTINGS (RFC 9113 section 3.4).
    is_first: bool,
    /// Bytes gathered of a head or of a small payload.
    gathered: [u8; PRIORITY_UPDATE_BYTES as usize],
    filled: u8,
    padding: u8,
    max_frame_size: u32,
    /// The current frame.
    frame: FrameHead,
    /// Bytes of its payload that have not been read, without padding.
    left: u32,
    /// The stream whose field section is not complete; 0: none. Only its CONTINUATION may follow.
    section: StreamId,
    /// Whether the message ends with that field section.
    section_ends_stream: bool,
}

impl FrameReader {
    /// A reader of what `sender` sends, behind the preface. `max_frame_size`: the one that it was told of.
    #[must_use]
    pub fn new(sender: Side, max_frame_size: u32) -> Self {
        Self {
            sender,
            state: State::Head,
            is_first: true,
            gathered: [0; PRIORITY_UPDATE_BYTES as usize],
            filled: 0,
            padding: 0,
            max_frame_size,
            frame: FrameHead::default(),
            left: 0,
            section: StreamId::CONNECTION,
            section_ends_stream: false,
        }
    }

    /// Whether a field section has begun and not ended.
    #[must_use]
    pub fn is_within_section(&self) -> bool {
        !self.section.is_connection()
    }

    /// Reads the next part of `bytes`, which are those behind the last part. Called again until it needs more.
    ///
    /// # Errors
    /// The connection ends. What follows must not be read.
    #[inline]
    pub fn next(&mut self, bytes: &[u8]) -> Result<Part, Error> {
        match self.state {
            State::Head => {
                if let Some(head) = bytes.first_chunk().filter(|_| self.filled == 0) {
                    return self.begin(FrameHead::decode(head), FRAME_HEAD_BYTES);
                }
                let (len, is_complete) = self.gather(bytes, FRAME_HEAD_BYTES);
                match self.gathered.first_chunk() {
                    Some(head) if is_complete => self.begin(FrameHead::decode(head), len),
                    _ => Ok(Part { len, event: Event::NeedMore }),
                }
            }
            State::Content => Ok(self.content(bytes)),
            State::PadLength => self.pad_length(bytes),
            State::Padding => Ok(self.padding(bytes)),
            State::PriorityFields | State::Skip => Ok(self.skip(bytes)),
            State::Parameters => Ok(self.parameter(bytes)),
            State::Payload => self.payload(bytes),
        }
    }

    /// Copies bytes to those gathered, until there are `wanted`. Returns how many, and whether that is all; then the next begins anew.
    fn gather(&mut self, bytes: &[u8], wanted: usize) -> (usize, bool) {
        let filled = usize::from(self.filled);
        let len = wanted.saturating_sub(filled).min(bytes.len());
        if let (Some(to), Some(from)) = (self.gathered.get_mut(filled..filled + len), bytes.get(..len)) {
            to.copy_from_slice(from);
        }
        let is_complete = filled + len >= wanted;
        self.filled = if is_complete { 0 } else { (filled + len) as u8 };
        (len, is_complete)
    }

    /// Takes a head, of whose bytes the last `len` were in the bytes at hand.
    fn begin(&mut self, frame: FrameHead, len: usize) -> Result<Part, Error> {
        let kind = FrameKind::from_wire(frame.kind);
        if frame.length > self.max_frame_size {
            return Err(size_error("a frame longer than MAX_FRAME_SIZE"));
        }
        // A server that is slow to make its own may acknowledge the client's first.
        let is_early = frame.flags.has(Flags::ACK) && self.sender == Side::Server;
        // And there are servers that answer what they were sent before that; of any other stream, HEADERS are an error.
        let answers = kind == Some(FrameKind::Headers) && self.sender == Side::Server;
        if self.is_first && !answers && (kind != Some(FrameKind::Settings) || frame.flags.has(Flags::ACK) && !is_early)
        {
            return Err(protocol_error("the first frame is no SETTINGS"));
        }
        self.is_first &= is_early;
        let continues = kind == Some(FrameKind::Continuation) && frame.stream == self.section;
        if self.is_within_section() && !continues {
            return Err(protocol_error("another frame within a field section"));
        }
        (self.frame, self.left, self.padding) = (frame, frame.length, 0);
        let event = match kind {
            Some(kind) => self.begin_known(kind, frame)?,
            None => {
                self.state = State::Skip;
                Event::Unknown
            }
        };
        if self.left == 0 && self.state == State::Skip {
            self.state = State::Head;
        }
        Ok(Part { len, event })
    }

    /// Checks the head of a known kind, and decides how its payload is read.
    fn begin_known(&mut self, kind: FrameKind, frame: FrameHead) -> Result<Event, Error> {
        let FrameHead { length, flags, stream, .. } = frame;
        check_stream(kind, stream)?;
        let expected = match kind {
            FrameKind::Priority => Some(5),
            FrameKind::RstStream | FrameKind::WindowUpdate => Some(4),
            FrameKind::Ping => Some(8),
            FrameKind::Settings if flags.has(Flags::ACK) => Some(0),
            _ => None,
        };
        let is_too_short = match kind {
            FrameKind::GoAway => length < 8,
            FrameKind::PriorityUpdate => length < 4,
            _ => false,
        };
        if expected.is_some_and(|expected| length != expected) || is_too_short {
            return Err(size_error("a length that the kind of frame does not allow"));
        }
        let end_stream = flags.has(Flags::END_STREAM);
        Ok(match kind {
            FrameKind::Data => {
                self.begin_content(flags.has(Flags::PADDED))?;
                Event::Data { stream, flow_length: length, end_stream }
            }
            FrameKind::Headers => {
                if self.sender == Side::Client && !stream.is_of_client() {
                    return Err(protocol_error("HEADERS on a stream with an even identifier"));
                }
                self.begin_content(flags.has(Flags::PADDED))?;
                (self.section, self.section_ends_stream) = (stream, end_stream);
                Event::Headers { stream, end_stream }
            }
            FrameKind::Continuation => {
                if !self.is_within_section() {
                    return Err(protocol_error("CONTINUATION without a field section"));
                }
                self.begin_content(false)?;
                Event::Continuation
            }
            FrameKind::PushPromise => return Err(protocol_error("PUSH_PROMISE, although push is disabled")),
            FrameKind::Settings => return self.begin_settings(),
            FrameKind::Priority => {
                self.state = State::Skip;
                Event::Priority
            }
            FrameKind::PriorityUpdate if self.sender == Side::Server => {
                return Err(protocol_error("PRIORITY_UPDATE from a server"));
            }
            FrameKind::PriorityUpdate if length > PRIORITY_UPDATE_BYTES => {
                self.state = State::Skip;
                Event::Unknown
            }
            FrameKind::RstStream
            | FrameKind::Ping
            | FrameKind::GoAway
            | FrameKind::WindowUpdate
            | FrameKind::PriorityUpdate => {
                self.state = State::Payload;
                Event::Skip
            }
        })
    }

    /// Begins the payload of DATA, HEADERS or CONTINUATION.
    fn begin_content(&mut self, is_padded: bool) -> Result<(), Error> {
        if is_padded && self.left == 0 {
            return Err(size_error("a padded frame without the length of its padding"));
        }
        self.state = if is_padded { State::PadLength } else { self.behind_pad_length()? };
        Ok(())
    }

    /// The state behind the length of the padding.
    fn behind_pad_length(&self) -> Result<State, Error> {
        let is_prioritized = self.frame.kind == FrameKind::Headers as u8 && self.frame.flags.has(Flags::PRIORITY);
        match is_prioritized {
            true if self.left < 5 && self.frame.flags.has(Flags::PADDED) => {
                Err(protocol_error("padding that leaves no room for the priority"))
            }
            true if self.left < 5 => Err(size_error("HEADERS too short for their priority")),
            true => Ok(State::PriorityFields),
            false => Ok(State::Content),
        }
    }

    fn begin_settings(&mut self) -> Result<Event, Error> {
        let FrameHead { length, flags, .. } = self.frame;
        if flags.has(Flags::ACK) {
            self.state = State::Head;
            return Ok(Event::SettingsAck);
        }
        if length % 6 != 0 {
            return Err(size_error("SETTINGS whose length is no multiple of 6"));
        }
        self.state = State::Parameters;
        Ok(Event::Settings { count: length / 6 })
    }

    fn pad_length(&mut self, bytes: &[u8]) -> Result<Part, Error> {
        let Some(padding) = bytes.first() else { return Ok(Part { len: 0, event: Event::NeedMore }) };
        let Some(left) = (self.left - 1).checked_sub(u32::from(*padding)) else {
            return Err(protocol_error("padding longer than the payload"));
        };
        (self.left, self.padding) = (left, *padding);
        self.state = self.behind_pad_length()?;
        let is_data = self.frame.kind == FrameKind::Data as u8;
        Ok(Part { len: 1, event: if is_data { Event::Padding } else { Event::Skip } })
    }

    /// Reads content or a fragment; then comes the padding, with the end.
    #[inline]
    fn content(&mut self, bytes: &[u8]) -> Part {
        if self.left == 0 {
            self.state = State::Padding;
            return self.padding(bytes);
        }
        let len = bytes.len().min(self.left as usize);
        self.left -= len as u32;
        let event = match len {
            0 => Event::NeedMore,
            _ if self.frame.kind == FrameKind::Data as u8 => Event::Content,
            _ => Event::Fragment,
        };
        Part { len, event }
    }

    /// Reads padding. The last part says what ends with the frame.
    fn padding(&mut self, bytes: &[u8]) -> Part {
        let len = bytes.len().min(usize::from(self.padding));
        self.padding -= len as u8;
        let is_data = self.frame.kind == FrameKind::Data as u8;
        if self.padding > 0 {
            let event = match len {
                0 => Event::NeedMore,
                _ if is_data => Event::Padding,
                _ => Event::Skip,
            };
            return Part { len, event };
        }
        self.state = State::Head;
        let FrameHead { flags, stream, .. } = self.frame;
        let event = if is_data {
            Event::DataEnd { stream, end_stream: flags.has(Flags::END_STREAM) }
        } else if flags.has(Flags::END_HEADERS) {
            self.section = StreamId::CONNECTION;
            Event::HeadersEnd { stream, end_stream: self.section_ends_stream }
        } else {
            Event::Skip
        };
        Part { len, event }
    }

    /// Skips the rest of a frame, or the priority in HEADERS.
    fn skip(&mut self, bytes: &[u8]) -> Part {
        if self.state == State::PriorityFields {
            let (len, is_complete) = self.gather(bytes, 5);
            if is_complete {
                self.left -= 5;
                self.state = State::Content;
            }
            return Part { len, event: if is_complete { Event::Skip } else { Event::NeedMore } };
        }
        let len = bytes.len().min(self.left as usize);
        self.left -= len as u32;
        if self.left == 0 {
            self.state = State::Head;
        }
        Part { len, event: if len == 0 { Event::NeedMore } else { Event::Skip } }
    }

    fn parameter(&mut self, bytes: &[u8]) -> Part {
        if self.left == 0 {
            self.state = State::Head;
            return Part { len: 0, event: Event::SettingsEnd };
        }
        let (len, is_complete) = self.gather(bytes, 6);
        if !is_complete {
            return Part { len, event: Event::NeedMore };
        }
        self.left -= 6;
        let [a, b, value @ ..] = self.gathered_bytes::<6>();
        let setting = Setting { id: u16::from_be_bytes([a, b]), value: u32::from_be_bytes(value) };
        Part { len, event: Event::Setting(setting) }
    }

    fn payload(&mut self, bytes: &[u8]) -> Result<Part, Error> {
        let kind = FrameKind::from_wire(self.frame.kind);
        let wanted = if kind == Some(FrameKind::GoAway) { 8 } else { self.left };
        let (len, is_complete) = self.gather(bytes, wanted as usize);
        if !is_complete {
            return Ok(Part { len, event: Event::NeedMore });
        }
        self.left -= wanted;
        self.state = if self.left == 0 { State::Head } else { State::Skip };
        let [a, b, c, d, e, f, g, h] = self.gathered_bytes();
        let (word, code) = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]));
        let stream = self.frame.stream;
        let event = match kind {
            Some(FrameKind::RstStream) => Event::RstStream { stream, code: ErrorCode::from_wire(word) },
            Some(FrameKind::Ping) => {
                Event::Ping { ack: self.frame.flags.has(Flags::ACK), data: [a, b, c, d, e, f, g, h] }
            }
            Some(FrameKind::GoAway) => Event::GoAway { last: StreamId::new(word), code: ErrorCode::from_wire(code) },
            Some(FrameKind::WindowUpdate) => Event::WindowUpdate { stream, increment: StreamId::new(word).get() },
            Some(FrameKind::PriorityUpdate) => {
                let stream = StreamId::new(word);
                if stream.is_connection() {
                    return Err(protocol_error("PRIORITY_UPDATE for stream 0"));
                }
                let value = self.gathered.get(4..wanted as usize).unwrap_or_default();
                Event::PriorityUpdate { stream, priority: Priority::parse(value) }
            }
            _ => Event::Skip,
        };
        Ok(Part { len, event })
    }

    /// The first gathered bytes.
    fn gathered_bytes<const N: usize>(&self) -> [u8; N] {
        self.gathered.first_chunk().copied().unwrap_or([0; N])
    }
}

/// Checks whether the kind belongs to a stream or to the connection.
fn check_stream(kind: FrameKind, stream: StreamId) -> Result<(), Error> {
    let belongs_to_stream = match kind {
        FrameKind::Data
        | FrameKind::Headers
        | FrameKind::Priority
        | FrameKind::RstStream
        | FrameKind::PushPromise
        | FrameKind::Continuation => true,
        FrameKind::Settings | FrameKind::Ping | FrameKind::GoAway | FrameKind::PriorityUpdate => false,
        FrameKind::WindowUpdate => return Ok(()),
    };
    match belongs_to_stream {
        true if stream.is_connection() => Err(protocol_error("a frame of a stream on stream 0")),
        false if !stream.is_connection() => Err(protocol_error("a frame of the connection on a stream")),
        _ => Ok(()),
    }
}

const fn protocol_error(reason: &'static str) -> Error {
    Error { scope: Scope::Connection, code: ErrorCode::ProtocolError, reason }
}

const fn size_error(reason: &'static str) -> Error {
    Error { scope: Scope::Connection, code: ErrorCode::FrameSizeError, reason }
}
