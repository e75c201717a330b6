//! The head of a frame, kinds, flags and stream identifiers (RFC 9113 sections 4.1 and 6), and the connection preface. Not here: payloads
//! (`reader`, `writer`).

/// Bytes of the head of a frame.
pub const FRAME_HEAD_BYTES: usize = 9;
/// What a client sends first (RFC 9113 section 3.4). SETTINGS follow.
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The identifier of a stream: 31 bits. 0 stands for the connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(u32);

impl StreamId {
    /// The connection.
    pub const CONNECTION: Self = Self(0);
    /// The highest identifier.
    pub const MAX: Self = Self(0x7fff_ffff);

    /// The identifier in a field of 32 bits, whose highest bit is reserved and ignored.
    #[must_use]
    #[inline]
    pub const fn new(bits: u32) -> Self {
        Self(bits & Self::MAX.0)
    }

    /// The number.
    #[must_use]
    #[inline]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Whether it stands for the connection.
    #[must_use]
    #[inline]
    pub const fn is_connection(self) -> bool {
        self.0 == 0
    }

    /// Whether clients open streams with this identifier.
    #[must_use]
    #[inline]
    pub const fn is_of_client(self) -> bool {
        self.0 & 1 == 1
    }
}

/// Kinds of frames that have a meaning here; all others are skipped (RFC 9113 section 5.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FrameKind {
    /// Content of a message.
    Data = 0x0,
    /// The beginning of a field section.
    Headers = 0x1,
    /// A priority by the deprecated scheme, which is ignored.
    Priority = 0x2,
    /// The abrupt end of a stream.
    RstStream = 0x3,
    /// Parameters of the connection, or that they were applied.
    Settings = 0x4,
    /// The announcement of a pushed stream, which cairn neither sends nor allows.
    PushPromise = 0x5,
    /// A test of the connection, or the answer to it.
    Ping = 0x6,
    /// The end of the connection.
    GoAway = 0x7,
    /// More room in a window.
    WindowUpdate = 0x8,
    /// More of a field section.
    Continuation = 0x9,
    /// A priority (RFC 9218 section 7.1).
    PriorityUpdate = 0x10,
}

impl FrameKind {
    /// The kind with this number, if it is a known one.
    #[must_use]
    #[inline]
    pub const fn from_wire(kind: u8) -> Option<Self> {
        Some(match kind {
            0x0 => Self::Data,
            0x1 => Self::Headers,
            0x2 => Self::Priority,
            0x3 => Self::RstStream,
            0x4 => Self::Settings,
            0x5 => Self::PushPromise,
            0x6 => Self::Ping,
            0x7 => Self::GoAway,
            0x8 => Self::WindowUpdate,
            0x9 => Self::Continuation,
            0x10 => Self::PriorityUpdate,
            _ => return None,
        })
    }
}

/// Flags of a frame. A flag that has no meaning for the kind is ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u8);

impl Flags {
    /// None.
    pub const NONE: Self = Self(0);
    /// The last frame of its stream's message: DATA, HEADERS.
    pub const END_STREAM: Self = Self(0x1);
    /// An acknowledgement: SETTINGS, PING.
    pub const ACK: Self = Self(0x1);
    /// The last frame of a field section: HEADERS, PUSH_PROMISE, CONTINUATION.
    pub const END_HEADERS: Self = Self(0x4);
    /// The payload begins with the length of the padding behind it: DATA, HEADERS, PUSH_PROMISE.
    pub const PADDED: Self = Self(0x8);
    /// A deprecated priority stands before the field section: HEADERS.
    pub const PRIORITY: Self = Self(0x20);

    /// Whether all of `flags` are set.
    #[must_use]
    #[inline]
    pub const fn has(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// These and `flags`.
    #[must_use]
    #[inline]
    pub const fn with(self, flags: Self) -> Self {
        Self(self.0 | flags.0)
    }

    /// These flags if `set`, otherwise none.
    #[must_use]
    #[inline]
    pub const fn if_set(self, set: bool) -> Self {
        if set { self } else { Self::NONE }
    }
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameHead {
    /// Bytes of the payload: 24 bits.
    pub length: u32,
    /// The number of the kind.
    pub kind: u8,
    /// The flags.
    pub flags: Flags,
    /// The stream.
    pub stream: StreamId,
}

impl FrameHead {
    /// A head of a known kind.
    #[must_use]
    pub const fn new(kind: FrameKind, flags: Flags, stream: StreamId, length: u32) -> Self {
        Self { length, kind: kind as u8, flags, stream }
    }

    /// Reads a head. Every nine bytes are one.
    #[must_use]
    #[inline]
    pub const fn decode(bytes: &[u8; FRAME_HEAD_BYTES]) -> Self {
        let [a, b, c, kind, flags, stream @ ..] = bytes;
        Self {
            length: u32::from_be_bytes([0, *a, *b, *c]),
            kind: *kind,
            flags: Flags(*flags),
            stream: StreamId::new(u32::from_be_bytes(*stream)),
        }
    }

    /// Writes the head. Of the length, the lower 24 bits are written.
    #[must_use]
    #[inline]
    pub const fn encode(&self) -> [u8; FRAME_HEAD_BYTES] {
        let [_, a, b, c] = self.length.to_be_bytes();
        let [d, e, f, g] = self.stream.0.to_be_bytes();
        [a, b, c, self.kind, self.flags.0, d, e, f, g]
    }
}

/// The check of a client's preface, which may arrive in pieces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Preface {
    /// Bytes of it that have arrived.
    matched: u8,
}

/// What bytes are as a preface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrefaceStep {
    /// All of them belong to it, and more have to follow.
    NeedMore,
    /// So many of them complete it.
    Complete(usize),
    /// They are something else: no HTTP/2.
    Mismatch,
}

impl Preface {
    /// A preface of which nothing has arrived.
    #[must_use]
    pub const fn new() -> Self {
        Self { matched: 0 }
    }

    /// Checks the next bytes.
    pub fn next(&mut self, bytes: &[u8]) -> PrefaceStep {
        let rest = PREFACE.get(usize::from(self.matched)..).unwrap_or_default();
        let len = rest.len().min(bytes.len());
        if bytes.get(..len) != rest.get(..len) {
            return PrefaceStep::Mismatch;
        }
        self.matched += len as u8;
        if len == rest.len() { PrefaceStep::Complete(len) } else { PrefaceStep::NeedMore }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_written_as_they_are_read() {
        let head = FrameHead::decode(&[0x00, 0x40, 0x01, 0x01, 0x25, 0x80, 0x00, 0x00, 0x05]);
        let flags = Flags::END_STREAM.with(Flags::END_HEADERS).with(Flags::PRIORITY);
        assert_eq!(
            head,
            FrameHead::new(FrameKind::Headers, flags, StreamId::new(5), 16_385),
            "the reserved bit is ignored"
        );
        assert_eq!(head.encode(), [0x00, 0x40, 0x01, 0x01, 0x25, 0x00, 0x00, 0x00, 0x05]);
        let largest = FrameHead { length: 0xff_ffff, kind: 0xff, flags: Flags(0xff), stream: StreamId::MAX };
        assert_eq!(FrameHead::decode(&largest.encode()), largest);
    }

    #[test]
    fn known_kinds_have_their_numbers() {
        for number in 0..=u8::MAX {
            assert!(FrameKind::from_wire(number).is_none_or(|kind| kind as u8 == number), "{number}");
        }
        assert_eq!((0..=u8::MAX).filter(|number| FrameKind::from_wire(*number).is_some()).count(), 11);
    }

    #[test]
    fn a_preface_may_arrive_in_pieces() {
        for cut in 0..PREFACE.len() {
            let mut preface = Preface::new();
            assert_eq!(preface.next(&PREFACE[..cut]), PrefaceStep::NeedMore);
            assert_eq!(preface.next(&[&PREFACE[cut..], b"more"].concat()), PrefaceStep::Complete(PREFACE.len() - cut));
        }
        assert_eq!(Preface::new().next(b"PRI * HTTP/1.1\r\n\r\n"), PrefaceStep::Mismatch);
        assert_eq!(Preface::new().next(b"GET / HTTP/1.1"), PrefaceStep::Mismatch);
        let mut late = Preface::new();
        assert_eq!(late.next(&PREFACE[..23]), PrefaceStep::NeedMore);
        assert_eq!(late.next(b"x"), PrefaceStep::Mismatch);
    }
}
