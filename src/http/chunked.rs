//! The chunked transfer coding, decoded in place: which bytes are passed on unchanged, and which are cut out.
//! Not here: copying, and trailers (`head`).

use crate::buffer::scan::is_tchar;
use crate::http::number::{HEX_DIGITS, hex_digit};
use crate::limits::{BODY_LENGTH_MAX, CHUNK_EXTENSION_BYTES, CHUNK_LINE_BYTES};

/// Decodes one chunked body, however its bytes are divided among buffers (RFC 9112 section 7.1).
///
/// The concatenation of all `Framing` and `Data` parts is the same body without extensions and leading zeros and
/// without its last chunk; it does not depend on the buffers. No byte has to be kept from one buffer to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkedDecoder {
    /// While a size is read: its value so far. While data is read: the number of bytes still to come.
    left: u64,
    /// Length of the current size line so far.
    line: u16,
    /// Length of all extensions of a request's body so far.
    extensions: u16,
    state: State,
    sender: Sender,
}

const _: () = assert!(size_of::<ChunkedDecoder>() <= 24);
const _: () = assert!(CHUNK_LINE_BYTES + CHUNK_EXTENSION_BYTES < u16::MAX as usize);

/// Who sent the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sender {
    /// Whitespace outside the grammar is refused, because request smuggling uses it. Extensions are bounded over the whole body.
    Client,
    /// Whitespace may follow a size, because some origins send it. Extensions are bounded per line only.
    Origin,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the first digit of a size.
    Size,
    /// After digits that are all zero.
    Zeros,
    /// After digits of which one is not zero.
    Digits,
    /// Whitespace before `;`.
    BeforeSemicolon,
    /// After `;`: whitespace or the name of an extension.
    BeforeName,
    Name,
    /// Whitespace after a name, before `=` or `;`.
    AfterName,
    /// After `=`: whitespace, a token or a quoted string.
    BeforeValue,
    Value,
    Quoted,
    Escaped,
    AfterQuoted,
    /// After the CR of a size line.
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// The last chunk's line has ended.
    Done,
}

/// A range of bytes of a chunked body that are all of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkedPart {
    /// The kind.
    pub kind: ChunkedPartKind,
    /// Number of bytes; 0 for `NeedMore` only.
    pub len: usize,
}

/// The kinds of bytes in a chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkedPartKind {
    /// Size digits and line ends: passed on if the body is forwarded chunked.
    Framing,
    /// Data of a chunk.
    Data,
    /// An extension, leading zeros, or the size of the last chunk: not passed on.
    Skip,
    /// The end of the last chunk's line; the trailer section follows. The writer makes its own last chunk.
    LastChunk,
    /// The input is used up, or the body has ended.
    NeedMore,
}

/// Consecutive bytes that can be passed on unchanged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VerbatimRun {
    /// Number of bytes: framing and data.
    pub len: usize,
    /// Number of bytes of data among them.
    pub data: usize,
}

/// Why a chunked body is refused. A request is answered 400; a response is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChunkError {
    /// The chunk size is no hexadecimal number, or too large.
    BadSize,
    /// An extension does not follow the grammar.
    BadExtension,
    /// A size line, or all extensions of a request's body, are longer than allowed.
    ExtensionTooLong,
    /// A size line or chunk data does not end with CRLF.
    BadLineEnd,
}

impl ChunkError {
    /// The reason code.
    pub fn reason(self) -> &'static str {
        match self {
            Self::BadSize => "bad_chunk_size",
            Self::BadExtension => "bad_chunk_extension",
            Self::ExtensionTooLong => "chunk_extension_too_long",
            Self::BadLineEnd => "bad_chunk_end",
        }
    }
}

impl ChunkedDecoder {
    /// Whether the next byte begins a size line.
    #[must_use]
    pub fn is_between_chunks(&self) -> bool {
        self.state == State::Size
    }

    /// A decoder at the beginning of the body of a request.
    pub fn new() -> Self {
        Self { left: 0, line: 0, extensions: 0, state: State::Size, sender: Sender::Client }
    }

    /// A decoder at the beginning of the body of a response: whitespace may follow a size, and extensions are bounded per line only.
    pub fn of_response() -> Self {
        Self { sender: Sender::Origin, ..Self::new() }
    }

    /// Whether the last chunk's line has ended; trailers follow.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The longest part of one kind at the beginning of `input`. The caller continues behind it.
    #[inline]
    pub fn next(&mut self, input: &[u8]) -> Result<ChunkedPart, ChunkError> {
        if self.state == State::Data {
            let len = usize::try_from(self.left).unwrap_or(usize::MAX).min(input.len());
            return Ok(self.take_data(len));
        }
        if let Some(len) = self.take_plain(input) {
            return Ok(ChunkedPart { kind: ChunkedPartKind::Framing, len });
        }
        let Some((first, rest)) = input.split_first().filter(|_| self.state != State::Done) else {
            return Ok(ChunkedPart { kind: ChunkedPartKind::NeedMore, len: 0 });
        };
        let kind = self.take_byte(*first)?;
        let mut len = 1;
        for byte in rest {
            if matches!(self.state, State::Data | State::Done) {
                break;
            }
            let before = *self;
            if self.take_byte(*byte)? != kind {
                *self = before;
                break;
            }
            len += 1;
        }
        Ok(ChunkedPart { kind, len })
    }

    /// The longest run at the beginning of `input` that can be passed on unchanged: it ends before bytes to skip,
    /// before the last chunk, or with the input.
    #[inline]
    pub fn run(&mut self, input: &[u8]) -> Result<VerbatimRun, ChunkError> {
        let mut run = VerbatimRun::default();
        while let Some(rest) = input.get(run.len..) {
            if let Some((len, data)) = self.whole_chunk(rest) {
                run.len += len;
                run.data += data;
                continue;
            }
            let before = *self;
            let part = self.next(rest)?;
            match part.kind {
                ChunkedPartKind::Framing => {}
                ChunkedPartKind::Data => run.data += part.len,
                ChunkedPartKind::Skip | ChunkedPartKind::LastChunk | ChunkedPartKind::NeedMore => {
                    *self = before;
                    break;
                }
            }
            run.len += part.len;
        }
        Ok(run)
    }

    #[inline(always)]
    fn take_data(&mut self, len: usize) -> ChunkedPart {
        if len == 0 {
            return ChunkedPart { kind: ChunkedPartKind::NeedMore, len: 0 };
        }
        self.left -= len as u64;
        if self.left == 0 {
            self.state = State::DataCr;
        }
        ChunkedPart { kind: ChunkedPartKind::Data, len }
    }

    /// Takes a common line at once if it is complete: `size CRLF` without extension, or the CRLF behind data.
    /// The result is the same as byte by byte.
    #[inline(always)]
    fn take_plain(&mut self, input: &[u8]) -> Option<usize> {
        match self.state {
            State::DataCr if input.starts_with(b"\r\n") => {
                self.state = State::Size;
                Some(2)
            }
            State::Size => {
                let (size, len) = plain_size(input)?;
                self.left = size;
                self.state = State::Data;
                Some(len)
            }
            _ => None,
        }
    }

    /// The lengths of the chunk at the beginning of `input` and of its data, if the chunk is complete and has no extension.
    #[inline(always)]
    fn whole_chunk(&self, input: &[u8]) -> Option<(usize, usize)> {
        if self.state != State::Size {
            return None;
        }
        let (size, start) = plain_size(input)?;
        let size = usize::try_from(size).ok()?;
        let end = start.checked_add(size)?;
        let is_whole = input.get(end..)?.starts_with(b"\r\n");
        is_whole.then_some((end + 2, size))
    }

    /// Takes one byte that is not data.
    #[inline]
    fn take_byte(&mut self, byte: u8) -> Result<ChunkedPartKind, ChunkError> {
        match (self.state, byte) {
            (State::Size | State::Zeros | State::Digits, _) => match hex_digit(byte) {
                Some(digit) => self.take_digit(digit),
                None if self.state == State::Size => Err(ChunkError::BadSize),
                None => self.end_size(byte),
            },
            (State::SizeLf, b'\n') => {
                self.line = 0;
                if self.left == 0 {
                    self.state = State::Done;
                    return Ok(ChunkedPartKind::LastChunk);
                }
                self.state = State::Data;
                Ok(ChunkedPartKind::Framing)
            }
            (State::DataCr, b'\r') => {
                self.state = State::DataLf;
                Ok(ChunkedPartKind::Framing)
            }
            (State::DataLf, b'\n') => {
                self.state = State::Size;
                Ok(ChunkedPartKind::Framing)
            }
            (State::SizeLf | State::DataCr | State::DataLf, _) => Err(ChunkError::BadLineEnd),
            (State::Data | State::Done, _) => Ok(ChunkedPartKind::NeedMore),
            _ => self.take_extension(byte),
        }
    }

    #[inline(always)]
    fn take_digit(&mut self, digit: u8) -> Result<ChunkedPartKind, ChunkError> {
        let size = self.left << 4 | u64::from(digit);
        self.line += 1;
        if usize::from(self.line) > HEX_DIGITS || size > BODY_LENGTH_MAX {
            return Err(ChunkError::BadSize);
        }
        self.left = size;
        if size == 0 {
            self.state = State::Zeros;
            return Ok(ChunkedPartKind::Skip);
        }
        self.state = State::Digits;
        Ok(ChunkedPartKind::Framing)
    }

    /// Takes the byte behind the digits: the first of the line end, of an extension, or of whitespace before an extension.
    #[inline(always)]
    fn end_size(&mut self, byte: u8) -> Result<ChunkedPartKind, ChunkError> {
        match byte {
            b'\r' => Ok(self.end_line()),
            b';' | b' ' | b'\t' => {
                self.state = State::BeforeSemicolon;
                self.take_extension(byte)
            }
            b'\n' => Err(ChunkError::BadLineEnd),
            _ => Err(ChunkError::BadSize),
        }
    }

    /// Takes the CR of a size line. The CR of the last chunk's line is not passed on, like the rest of that line.
    #[inline(always)]
    fn end_line(&mut self) -> ChunkedPartKind {
        self.state = State::SizeLf;
        if self.left == 0 { ChunkedPartKind::Skip } else { ChunkedPartKind::Framing }
    }

    /// Takes one byte of `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )` (RFC 9112 section 7.1.1).
    fn take_extension(&mut self, byte: u8) -> Result<ChunkedPartKind, ChunkError> {
        use State::*;
        self.state = match (self.state, byte) {
            (Name | Value | AfterQuoted, b'\r') => return Ok(self.end_line()),
            (BeforeSemicolon | AfterName, b'\r') if self.sender == Sender::Origin => return Ok(self.end_line()),
            (Escaped, b'\t' | b' '..=b'~' | 0x80..) => Quoted,
            (Quoted, b'"') => AfterQuoted,
            (Quoted, b'\\') => Escaped,
            (Quoted, b'\t' | b' '..=b'~' | 0x80..) => Quoted,
            (BeforeValue, b'"') => Quoted,
            (BeforeSemicolon | BeforeName | AfterName | BeforeValue, b' ' | b'\t') => self.state,
            (BeforeSemicolon | Name | AfterName | Value | AfterQuoted, b';') => BeforeName,
            (Name | AfterName, b'=') => BeforeValue,
            (Name, b' ' | b'\t') => AfterName,
            (Value | AfterQuoted, b' ' | b'\t') => BeforeSemicolon,
            (BeforeName | Name, _) if is_tchar(byte) => Name,
            (BeforeValue | Value, _) if is_tchar(byte) => Value,
            (_, b'\r' | b'\n') => return Err(ChunkError::BadLineEnd),
            _ => return Err(ChunkError::BadExtension),
        };
        self.line += 1;
        self.extensions += u16::from(self.sender == Sender::Client);
        if usize::from(self.line) > CHUNK_LINE_BYTES || usize::from(self.extensions) > CHUNK_EXTENSION_BYTES {
            return Err(ChunkError::ExtensionTooLong);
        }
        Ok(ChunkedPartKind::Skip)
    }
}

/// The chunk size and the length of a size line that can be passed on unchanged: digits and CRLF. None for other lines, for leading
/// zeros, which are not passed on, and for sizes with so many digits that they have to be counted.
#[inline(always)]
fn plain_size(input: &[u8]) -> Option<(u64, usize)> {
    let mut size = 0;
    let mut len = 0;
    loop {
        match hex_digit(*input.get(len)?) {
            Some(0) if len == 0 => return None,
            Some(_) if len == HEX_DIGITS - 1 => return None,
            Some(digit) => size = size << 4 | u64::from(digit),
            None => break,
        }
        len += 1;
    }
    (len > 0 && input.get(len..)?.starts_with(b"\r\n")).then_some((size, len + 2))
}

impl Default for ChunkedDecoder {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes `input` cut into buffers of `cut` bytes: what is passed on, the data, and the bytes taken.
    fn decode(input: &[u8], cut: usize) -> Result<(Vec<u8>, Vec<u8>, usize), ChunkError> {
        decode_with(ChunkedDecoder::new(), input, cut)
    }

    fn decode_with(
        mut decoder: ChunkedDecoder,
        input: &[u8],
        cut: usize,
    ) -> Result<(Vec<u8>, Vec<u8>, usize), ChunkError> {
        let mut passed = Vec::new();
        let mut data = Vec::new();
        let mut taken = 0;
        for buffer in input.chunks(cut) {
            let mut rest = buffer;
            loop {
                let part = decoder.next(rest)?;
                let (bytes, behind) = rest.split_at(part.len);
                match part.kind {
                    ChunkedPartKind::Data => data.extend_from_slice(bytes),
                    ChunkedPartKind::NeedMore => break,
                    _ => {}
                }
                if matches!(part.kind, ChunkedPartKind::Data | ChunkedPartKind::Framing) {
                    passed.extend_from_slice(bytes);
                }
                taken += part.len;
                rest = behind;
            }
        }
        Ok((passed, data, taken))
    }

    #[test]
    fn parts_do_not_depend_on_the_buffers() {
        for (input, passed, data) in [
            ("5\r\nhello\r\n0\r\n", "5\r\nhello\r\n", "hello"),
            ("0000a;a=b\r\n0123456789\r\n000;c\r\n", "a\r\n0123456789\r\n", "0123456789"),
            ("5 ; a = \"b\\\"c;\" ;d\r\nhello\r\n1\r\n!\r\n0\r\n", "5\r\nhello\r\n1\r\n!\r\n", "hello!"),
            ("7\r\n\r\n0\r\n\r\n\r\n0\r\n", "7\r\n\r\n0\r\n\r\n\r\n", "\r\n0\r\n\r\n"),
            (
                "1A\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\n",
                "1A\r\nabcdefghijklmnopqrstuvwxyz\r\n",
                "abcdefghijklmnopqrstuvwxyz",
            ),
        ] {
            let input = [input, "X-Trailer: v\r\n\r\n"].concat();
            for cut in 1..=input.len() {
                let (got_passed, got_data, taken) = decode(input.as_bytes(), cut).unwrap();
                assert_eq!(got_passed.escape_ascii().to_string(), passed.as_bytes().escape_ascii().to_string());
                assert_eq!(got_data, data.as_bytes());
                assert!(input[taken..].starts_with("X-Trailer"), "{input:?} cut {cut}");
            }
        }
    }

    #[test]
    fn what_is_not_in_the_grammar_is_refused() {
        use ChunkError::*;
        for (input, error) in [
            ("+5\r\nhello\r\n", BadSize),
            ("0x5\r\nhello\r\n", BadSize),
            ("\r\n", BadSize),
            (" 5\r\n", BadSize),
            ("5.0\r\n", BadSize),
            ("5h\r\n", BadSize),
            ("00000000000000005\r\n", BadSize),
            ("4000000000000000\r\n", BadSize),
            ("10000000000000005\r\n", BadSize),
            ("5\nhello\n", BadLineEnd),
            ("5\rhello", BadLineEnd),
            ("5\r\nhello\n0\r\n", BadLineEnd),
            ("5\r\nhello\rX", BadLineEnd),
            ("5\r\nhelloX\r\n", BadLineEnd),
            ("0 \r\n", BadLineEnd),
            ("5;\r\n", BadLineEnd),
            ("5;\nhello", BadLineEnd),
            ("5;a=\"b\r\n", BadLineEnd),
            ("5;a=\"\n\"\r\n", BadLineEnd),
            ("5\r\r;ABCD\r\n", BadLineEnd),
            ("5 5\r\n", BadExtension),
            ("5;a=\0\r\n", BadExtension),
            ("5;a b\r\n", BadExtension),
        ] {
            for cut in [1, 2, input.len()] {
                assert_eq!(decode(input.as_bytes(), cut), Err(error), "{input:?} cut {cut}");
            }
        }
        let long = format!("5;a={}\r\n", "x".repeat(CHUNK_LINE_BYTES));
        assert_eq!(decode(long.as_bytes(), 7), Err(ExtensionTooLong));
        let many = format!("1;a={}\r\nx\r\n", "x".repeat(200)).repeat(30);
        assert_eq!(decode(many.as_bytes(), 1000), Err(ExtensionTooLong));
    }

    #[test]
    fn origins_may_pad_sizes_on_the_right_and_clients_may_not() {
        for (input, passed) in [
            ("5 \r\nhello\r\n0 \r\n", "5\r\nhello\r\n"),
            ("5     \r\nhello\r\n0\r\n", "5\r\nhello\r\n"),
            ("0005\t \r\nhello\r\n000 \r\n", "5\r\nhello\r\n"),
            ("5;a \r\nhello\r\n0;a=b\t\r\n", "5\r\nhello\r\n"),
        ] {
            for cut in 1..=input.len() {
                let got = decode_with(ChunkedDecoder::of_response(), input.as_bytes(), cut);
                assert_eq!(got, Ok((passed.into(), b"hello".to_vec(), input.len())), "{input:?} cut {cut}");
                assert_eq!(decode(input.as_bytes(), cut), Err(ChunkError::BadLineEnd), "{input:?} cut {cut}");
            }
        }
        let origin = |input: &str| decode_with(ChunkedDecoder::of_response(), input.as_bytes(), 3);
        for (input, error) in [
            (" 5\r\nhello\r\n", ChunkError::BadSize),
            ("5 5\r\nhello\r\n", ChunkError::BadExtension),
            ("5 \nhello\r\n", ChunkError::BadLineEnd),
            ("5;\r\nhello\r\n", ChunkError::BadLineEnd),
            ("5;a= \r\nhello\r\n", ChunkError::BadLineEnd),
        ] {
            assert_eq!(origin(input), Err(error), "{input:?}");
        }
        let padded = |blanks: usize| format!("5{}\r\nhello\r\n", " ".repeat(blanks));
        assert!(origin(&padded(CHUNK_LINE_BYTES - 1)).is_ok());
        assert_eq!(origin(&padded(CHUNK_LINE_BYTES)), Err(ChunkError::ExtensionTooLong));
    }

    #[test]
    fn only_requests_bound_extensions_over_the_body() {
        let body = "1;name=value\r\nx\r\n".repeat(2000);
        assert_eq!(decode(body.as_bytes(), 1000), Err(ChunkError::ExtensionTooLong));
        let (_, data, taken) = decode_with(ChunkedDecoder::of_response(), body.as_bytes(), 1000).unwrap();
        assert_eq!((data.len(), taken), (2000, body.len()));
        let few = "1;n=v\r\nx\r\n".repeat(CHUNK_EXTENSION_BYTES / 4);
        assert!(decode(few.as_bytes(), 1000).is_ok());
    }

    #[test]
    fn a_run_is_all_that_needs_no_cut() {
        let mut decoder = ChunkedDecoder::new();
        let input = b"5\r\nhello\r\n3\r\nabc\r\n3;x\r\nabc\r\n0\r\n\r\n";
        assert_eq!(decoder.run(input), Ok(VerbatimRun { len: 19, data: 8 }));
        assert_eq!(decoder.run(&input[19..]), Ok(VerbatimRun { len: 0, data: 0 }));
        assert_eq!(decoder.next(&input[19..]), Ok(ChunkedPart { kind: ChunkedPartKind::Skip, len: 2 }));
        assert_eq!(decoder.run(&input[21..]), Ok(VerbatimRun { len: 7, data: 3 }));
        assert_eq!(decoder.next(&input[28..]), Ok(ChunkedPart { kind: ChunkedPartKind::Skip, len: 2 }));
        assert_eq!(decoder.next(&input[30..]), Ok(ChunkedPart { kind: ChunkedPartKind::LastChunk, len: 1 }));
        assert_eq!(decoder.next(&input[31..]), Ok(ChunkedPart { kind: ChunkedPartKind::NeedMore, len: 0 }));
        assert!(decoder.is_done());
    }
}
