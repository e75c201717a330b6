//! Traceparent, read and written (W3C Trace Context, level 1). Tracestate is passed on or dropped, never read. Not here: whose is
//! believed (`exchange`).

use super::b3;
use crate::http::{FieldName, RequestHead};

/// What stands before the value in a field line.
const NAME: &[u8; 13] = b"traceparent: ";
/// Bytes of a value of version 00.
const VALUE: usize = 55;
/// Bytes of a field line.
const LINE: usize = NAME.len() + VALUE + 2;
/// Where in a line the trace's id begins, 32 digits.
const TRACE: usize = NAME.len() + 3;
/// Where the id of the parent begins, 16 digits.
const PARENT: usize = TRACE + 33;
/// A line of a trace that is not sampled.
const BLANK: [u8; LINE] = *b"traceparent: 00-00000000000000000000000000000000-0000000000000000-00\r\n";
/// The bits of the fields in a set of names.
const FIELDS: u64 = FieldName::Traceparent.bit() | FieldName::Tracestate.bit();

/// A trace context that a request brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// In a valid Traceparent, which can be passed on as it is.
    Traceparent([u8; VALUE]),
    /// In fields of B3, as Traceparent says the same.
    B3([u8; VALUE]),
}

impl Received {
    /// What a request brings. `b3`: the fields of B3 are read where there is no valid Traceparent. None: nothing, or nothing that can be
    /// read; a Traceparent that comes twice cannot.
    #[must_use]
    #[inline]
    pub fn of(request: &RequestHead, head: &[u8], b3: bool) -> Option<Self> {
        if request.fields.has(FieldName::Traceparent)
            && let Some(value) = traceparent(request, head)
        {
            return Some(Self::Traceparent(value));
        }
        if b3 { b3::read(request, head).map(Self::B3) } else { None }
    }
}

/// The value of Traceparent, if it is valid and may go on.
#[inline(never)]
fn traceparent(request: &RequestHead, head: &[u8]) -> Option<[u8; VALUE]> {
    let mut fields = request.fields.all(FieldName::Traceparent);
    let field = fields.next().filter(|field| !field.dropped)?;
    if fields.next().is_some() { None } else { valid(field.value.of(head)) }
}

/// The first bytes of a valid value. A later version may have more behind them (W3C, on versioning).
fn valid(value: &[u8]) -> Option<[u8; VALUE]> {
    let (known, more) = value.split_first_chunk::<VALUE>()?;
    let version = &known[..2];
    let framed = [2, 35, 52].into_iter().all(|at| known[at] == b'-');
    let hexadecimal = [0..2, 3..35, 36..52, 53..55].into_iter().all(|range| is_hexadecimal(&known[range]));
    let ends = more.is_empty() || version != b"00" && more.first() == Some(&b'-');
    let set = !is_zero(&known[3..35]) && !is_zero(&known[36..52]);
    (framed && hexadecimal && ends && set && version != b"ff").then_some(*known)
}

/// Lower case only (section 3.2.2).
pub(super) fn is_hexadecimal(digits: &[u8]) -> bool {
    digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
}

pub(super) fn is_zero(digits: &[u8]) -> bool {
    digits.iter().all(|digit| *digit == b'0')
}

/// The trace context of one request, as its origin is told of it.
#[derive(Clone, Copy, Debug)]
pub struct TraceContext {
    /// The line of Traceparent.
    line: [u8; LINE],
    /// Whether the request is part of a trace.
    known: bool,
    /// Received fields that do not go on, bits of [`FieldName`].
    replaced: u64,
    /// Whether the line is written.
    written: bool,
}

impl Default for TraceContext {
    fn default() -> Self {
        Self { line: BLANK, known: false, replaced: FIELDS, written: false }
    }
}

impl TraceContext {
    /// The request is part of no trace that goes on.
    pub fn clear(&mut self) {
        (self.known, self.replaced, self.written) = (false, FIELDS, false);
    }

    /// The request is part of this trace: Traceparent goes on as it came. What came as B3 is said in a Traceparent besides.
    pub fn continue_with(&mut self, received: &Received) {
        let (value, replaced) = match received {
            Received::Traceparent(value) => (value, 0),
            Received::B3(value) => (value, FIELDS),
        };
        self.line[NAME.len()..NAME.len() + VALUE].copy_from_slice(value);
        (self.known, self.replaced, self.written) = (true, replaced, replaced != 0);
    }

    /// The request begins a trace that is not sampled: `id` is 32 hexadecimal digits in lower case, `parent` 16.
    #[inline]
    pub fn begin(&mut self, id: &[u8; 32], parent: &[u8; 16]) {
        self.line = BLANK;
        self.line[TRACE..TRACE + 32].copy_from_slice(id);
        self.line[PARENT..PARENT + 16].copy_from_slice(parent);
        (self.known, self.replaced, self.written) = (true, FIELDS, true);
    }

    /// Received fields that do not go on, bits of [`FieldName`].
    #[must_use]
    #[inline(always)]
    pub fn replaced(&self) -> u64 {
        self.replaced
    }

    /// The field line that the origin gets in their place.
    #[must_use]
    #[inline(always)]
    pub fn line(&self) -> Option<&[u8; LINE]> {
        self.written.then_some(&self.line)
    }

    /// The value of Traceparent as it goes on; empty: the request is part of no trace.
    #[must_use]
    pub fn value(&self) -> &[u8] {
        if self.known { &self.line[NAME.len()..NAME.len() + VALUE] } else { b"" }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::http::{HeadLimits, parse_request};
    use crate::limits::{HEAD_BYTES_MAX, HEADER_COUNT_MAX, REQUEST_LINE_BYTES};

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    pub(in crate::trace) fn received(fields: &str, b3: bool) -> Option<Received> {
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let limits =
            HeadLimits { head_bytes: HEAD_BYTES_MAX, field_count: HEADER_COUNT_MAX, request_line: REQUEST_LINE_BYTES };
        let mut request = RequestHead::new();
        assert_eq!(parse_request(head.as_bytes(), &limits, &mut 0, &mut request), Ok(Some(head.len())), "{fields}");
        Received::of(&request, head.as_bytes(), b3)
    }

    /// What section 3.2 asks for, and cases such as those of the test suite of the W3C.
    #[test]
    fn a_traceparent_is_valid_or_is_none() {
        let cases = [
            (GOOD.to_owned(), true),
            (GOOD.replace("-01", "-00"), true),
            (GOOD.replace("-01", "-ff"), true),
            (GOOD.replacen("00-", "cc-", 1), true),
            (format!("{}-what-the-future-will-be-like", GOOD.replacen("00-", "cc-", 1)), true),
            (format!("{}.", GOOD.replacen("00-", "cc-", 1)), false),
            (format!("{GOOD}-more"), false),
            (GOOD.replacen("00-", "ff-", 1), false),
            (GOOD.replacen("00-", ".0-", 1), false),
            (GOOD.replacen("00-", "0-", 1), false),
            (GOOD.to_uppercase(), false),
            (GOOD.replace("0af7651916cd43dd8448eb211c80319c", "00000000000000000000000000000000"), false),
            (GOOD.replace("b7ad6b7169203331", "0000000000000000"), false),
            (GOOD.replace("-01", "-1"), false),
            (GOOD.replace("-01", "-.0"), false),
            (GOOD.replace("-b7", "_b7"), false),
            (format!("{GOOD},{GOOD}"), false),
            (String::new(), false),
        ];
        for (value, good) in cases {
            let expected = good.then(|| Received::Traceparent(value.as_bytes()[..VALUE].try_into().unwrap()));
            assert_eq!(received(&format!("Traceparent: {value}\r\n"), false), expected, "{value}");
        }
        assert_eq!(received(&format!("traceparent: {GOOD}\r\nTRACEPARENT: {GOOD}\r\n"), false), None, "twice");
        assert_eq!(received(&format!("Traceparent: {GOOD}\r\nConnection: traceparent\r\n"), false), None, "dropped");
    }

    #[test]
    fn a_context_is_one_line() {
        let mut context = TraceContext::default();
        assert_eq!((context.line(), context.value(), context.replaced()), (None, &b""[..], FIELDS));
        context.begin(b"0123456789abcdef0123456789abcdef", b"fedcba9876543210");
        let line = b"traceparent: 00-0123456789abcdef0123456789abcdef-fedcba9876543210-00\r\n";
        assert_eq!(context.line(), Some(line));
        context.continue_with(&received(&format!("Traceparent: {GOOD}\r\n"), false).unwrap());
        assert_eq!((context.line(), context.value(), context.replaced()), (None, GOOD.as_bytes(), 0));
        context.clear();
        assert_eq!((context.value(), context.replaced()), (&b""[..], FIELDS));
    }
}
