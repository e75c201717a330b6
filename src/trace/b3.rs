//! The fields of B3, read (OpenZipkin's B3 propagation): one field, or one for each part. Not here: writing them; they go on as they came.

use super::context::{is_hexadecimal, is_zero};
use crate::http::RequestHead;

/// The value of the Traceparent that says what the fields of B3 say. A decision that is deferred becomes one against. None: there are none,
/// or they name no span.
#[cold]
pub(super) fn read(request: &RequestHead, head: &[u8]) -> Option<[u8; 55]> {
    let value = |name: &[u8]| {
        let mut fields = request.fields.named(head, name);
        let first = fields.next().filter(|field| !field.dropped)?;
        fields.next().is_none().then(|| first.value.of(head))
    };
    if let Some(one) = value(b"b3") {
        let mut parts = one.split(|byte| *byte == b'-');
        let (trace, span) = (parts.next()?, parts.next()?);
        return join(trace, span, matches!(parts.next(), Some(b"1" | b"d")));
    }
    let sampled = value(b"x-b3-flags") == Some(b"1") || matches!(value(b"x-b3-sampled"), Some(b"1" | b"true"));
    join(value(b"x-b3-traceid")?, value(b"x-b3-spanid")?, sampled)
}

fn join(trace: &[u8], span: &[u8], sampled: bool) -> Option<[u8; 55]> {
    let valid = matches!(trace.len(), 16 | 32) && span.len() == 16;
    let digits = is_hexadecimal(trace) && is_hexadecimal(span) && !is_zero(trace) && !is_zero(span);
    if !valid || !digits {
        return None;
    }
    let mut value = *b"00-00000000000000000000000000000000-0000000000000000-00";
    // An id of 64 bits stands right.
    value[35 - trace.len()..35].copy_from_slice(trace);
    value[36..52].copy_from_slice(span);
    value[54] = if sampled { b'1' } else { b'0' };
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::super::context::{Received, tests::received};

    #[test]
    fn both_forms_are_read() {
        let (trace, short, span) = ("80f198ee56343ba864fe8b2a57d3eff7", "64fe8b2a57d3eff7", "e457b5a2e4d86bd1");
        let cases = [
            (format!("b3: {trace}-{span}-1-05e3ac9a4f6e3b90\r\n"), Some((trace, "01"))),
            (format!("b3: {trace}-{span}-d\r\n"), Some((trace, "01"))),
            (format!("b3: {trace}-{span}-0\r\n"), Some((trace, "00"))),
            (format!("b3: {trace}-{span}\r\n"), Some((trace, "00"))),
            (format!("B3: {short}-{span}-1\r\n"), Some(("000000000000000064fe8b2a57d3eff7", "01"))),
            (format!("X-B3-TraceId: {trace}\r\nX-B3-SpanId: {span}\r\nX-B3-Sampled: 1\r\n"), Some((trace, "01"))),
            (format!("X-B3-TraceId: {trace}\r\nX-B3-SpanId: {span}\r\nX-B3-Flags: 1\r\n"), Some((trace, "01"))),
            (format!("X-B3-TraceId: {trace}\r\nX-B3-SpanId: {span}\r\nX-B3-Sampled: 0\r\n"), Some((trace, "00"))),
            (format!("X-B3-TraceId: {trace}\r\n"), None),
            ("b3: 0\r\n".to_owned(), None),
            (format!("b3: {trace}\r\n"), None),
            (format!("b3: {trace}-{short}0-1\r\n"), None),
            (format!("b3: {}-{span}-1\r\n", trace.to_uppercase()), None),
            (format!("b3: 0000000000000000-{span}-1\r\n"), None),
            (format!("b3: {trace}-{span}-1\r\nb3: {trace}-{span}-1\r\n"), None),
        ];
        for (fields, expected) in cases {
            let expected = expected.map(|(trace, flags)| {
                Received::B3(format!("00-{trace}-{span}-{flags}").as_bytes().try_into().unwrap())
            });
            assert_eq!(received(&fields, true), expected, "{fields}");
            assert_eq!(received(&fields, false), None, "{fields}");
        }
        // Traceparent is what is asked for first.
        let w3c = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let both = format!("b3: {trace}-{span}-1\r\ntraceparent: {w3c}\r\n");
        assert_eq!(received(&both, true), Some(Received::Traceparent(w3c.as_bytes().try_into().unwrap())));
    }
}
