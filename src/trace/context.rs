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
/// Where the flags begin, 2 digits.
const FLAGS: usize = PARENT + 17;
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

/// The id of the span of an attempt, by that of its exchange and its number, which begins with 1. Never 0, which names no span.
#[must_use]
pub fn attempt_span(exchange: u64, number: u8) -> u64 {
    // Steps of the golden ratio: no two of 256 attempts meet.
    exchange.wrapping_add(u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15)).max(1)
}

/// The digits of a span's id.
#[must_use]
pub fn hexadecimal(id: u64) -> [u8; 16] {
    let mut digits = [0; 16];
    for (at, digit) in digits.iter_mut().enumerate() {
        *digit = b"0123456789abcdef"[(id >> (60 - 4 * at) & 15) as usize];
    }
    digits
}

/// Makes the attempt of this number the parent in the line of Traceparent of a head that was written for an earlier one of the same
/// exchange. A line that a route has set stays as it is.
pub fn replace_parent(head: &mut [u8], exchange: u64, number: u8) {
    let end = memchr::memmem::find(head, b"\r\n\r\n").unwrap_or(head.len());
    let Some(at) = memchr::memmem::find(&head[..end], b"\r\ntraceparent: 00-").map(|at| at + 2) else { return };
    let Some(parent) = head.get_mut(at + PARENT..at + PARENT + 16) else { return };
    if (1..number).any(|earlier| *parent == hexadecimal(attempt_span(exchange, earlier))) {
        parent.copy_from_slice(&hexadecimal(attempt_span(exchange, number)));
    }
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
    /// Id of the span of the exchange; 0: it is not recorded.
    span: u64,
    /// Id of the span that is its parent; 0: none, the trace begins here.
    parent: u64,
}

impl Default for TraceContext {
    fn default() -> Self {
        Self { line: BLANK, known: false, replaced: FIELDS, written: false, span: 0, parent: 0 }
    }
}

impl TraceContext {
    /// The request is part of no trace that goes on.
    pub fn clear(&mut self) {
        self.span = 0;
        (self.known, self.replaced, self.written) = (false, FIELDS, false);
    }

    /// The request is part of this trace: Traceparent goes on as it came. What came as B3 is said in a Traceparent besides.
    pub fn continue_with(&mut self, received: &Received) {
        let (value, replaced) = match received {
            Received::Traceparent(value) => (value, 0),
            Received::B3(value) => (value, FIELDS),
        };
        self.line[NAME.len()..NAME.len() + VALUE].copy_from_slice(value);
        self.span = 0;
        (self.known, self.replaced, self.written) = (true, replaced, replaced != 0);
    }

    /// The request begins a trace that is not sampled: `id` is 32 hexadecimal digits in lower case, `parent` 16.
    #[inline]
    pub fn begin(&mut self, id: &[u8; 32], parent: &[u8; 16]) {
        self.line = BLANK;
        self.span = 0;
        self.line[TRACE..TRACE + 32].copy_from_slice(id);
        self.line[PARENT..PARENT + 16].copy_from_slice(parent);
        (self.known, self.replaced, self.written) = (true, FIELDS, true);
    }

    /// The exchange of the request is recorded as the span `id`: its origin gets that of the first attempt as its parent. `root`: the trace
    /// begins with it.
    pub fn record(&mut self, id: u64, root: bool) {
        let digits = |range: std::ops::Range<usize>| std::str::from_utf8(&self.line[range]).ok();
        let parent = digits(PARENT..PARENT + 16).and_then(|digits| u64::from_str_radix(digits, 16).ok());
        (self.span, self.parent) = (id, if root { 0 } else { parent.unwrap_or(0) });
        self.line[NAME.len()..TRACE].copy_from_slice(b"00-");
        self.line[PARENT..PARENT + 16].copy_from_slice(&hexadecimal(attempt_span(id, 1)));
        self.line[PARENT + 16..].copy_from_slice(b"-01\r\n");
        self.replaced |= FieldName::Traceparent.bit();
        self.written = true;
    }

    /// Whether who has begun the trace, or joined it before, records it.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        let digit = char::from(self.line[FLAGS + 1]).to_digit(16).unwrap_or(0);
        self.known && digit & 1 == 1
    }

    /// The trace's id, 32 digits.
    #[must_use]
    pub fn trace(&self) -> Option<&[u8; 32]> {
        self.line[TRACE..].first_chunk().filter(|_| self.known)
    }

    /// Ids of the span of the exchange and of its parent; 0: there is none.
    #[must_use]
    #[inline(always)]
    pub fn spans(&self) -> (u64, u64) {
        (self.span, self.parent)
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
        assert!(context.is_sampled());
        context.record(0x0123_4567_89ab_cdef, false);
        assert_eq!(context.spans(), (0x0123_4567_89ab_cdef, 0xb7ad_6b71_6920_3331));
        let own = hexadecimal(attempt_span(0x0123_4567_89ab_cdef, 1));
        let own = str::from_utf8(&own).unwrap();
        let line = format!("traceparent: 00-0af7651916cd43dd8448eb211c80319c-{own}-01\r\n");
        assert_eq!(context.line().map(|line| &line[..]), Some(line.as_bytes()));
        assert_eq!(context.replaced(), FieldName::Traceparent.bit(), "Tracestate goes on");
        context.begin(b"0123456789abcdef0123456789abcdef", b"fedcba9876543210");
        assert!(!context.is_sampled() && context.spans().0 == 0);
        context.record(1, true);
        assert_eq!((context.spans(), context.is_sampled()), ((1, 0), true));
        context.clear();
        assert_eq!((context.value(), context.replaced()), (&b""[..], FIELDS));
    }

    #[test]
    fn another_attempt_is_another_parent() {
        let mut context = TraceContext::default();
        context.begin(b"0123456789abcdef0123456789abcdef", b"fedcba9876543210");
        context.record(7, true);
        let line = str::from_utf8(context.line().unwrap()).unwrap();
        let head = |line: &str| format!("GET / HTTP/1.1\r\nhost: a\r\n{line}via: b\r\n\r\n{line}");
        let mut written = head(line).into_bytes();
        replace_parent(&mut written, 7, 3);
        let parent = |number| String::from_utf8(hexadecimal(attempt_span(7, number)).to_vec()).unwrap();
        let expected = head(line).replacen(&parent(1), &parent(3), 1);
        assert_eq!(String::from_utf8_lossy(&written), expected, "and the body is as it was");
        let own = head(GOOD).into_bytes();
        let mut same = own.clone();
        replace_parent(&mut same, 7, 3);
        assert_eq!(same, own);
    }
}
