//! The response parser: any bytes, whole and cut in two, to each kind of request.
#![no_main]

use cairn::http::{HeadLimits, Method, ResponseError, ResponseHead, parse_response};
use libfuzzer_sys::fuzz_target;

const LIMITS: HeadLimits = HeadLimits { head_bytes: 48 * 1024, field_count: 256, request_line: 8 * 1024 };

fn parse(bytes: &[u8], cut: usize, method: Method) -> (Result<Option<usize>, ResponseError>, ResponseHead) {
    let (mut head, mut scanned) = (ResponseHead::new(), 0);
    let result = match parse_response(&bytes[..cut], &LIMITS, &mut scanned, method, &mut head) {
        Ok(None) => parse_response(bytes, &LIMITS, &mut scanned, method, &mut head),
        done => done,
    };
    (result, head)
}

fuzz_target!(|data: &[u8]| {
    let Some((&cut, bytes)) = data.split_first() else { return };
    let method = [Method::Get, Method::Head, Method::Connect, Method::Post][usize::from(cut % 4)];
    let (whole, head) = parse(bytes, bytes.len(), method);
    let (halves, again) = parse(bytes, bytes.len() * usize::from(cut) / 255, method);
    match (whole, halves) {
        (Ok(Some(length)), halves) => {
            assert_eq!(halves, Ok(Some(length)), "a cut changes the result");
            assert!((100..600).contains(&head.status));
            let text = &bytes[..length];
            assert!(!head.reason.of(text).iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
            for (field, other) in head.fields.iter().zip(again.fields.iter()) {
                assert_eq!((field.name.of(text), field.value.of(text)), (other.name.of(text), other.value.of(text)));
            }
            assert_eq!((head.body, head.keep_alive), (again.body, again.keep_alive));
        }
        (_, halves) => assert!(!matches!(halves, Ok(Some(_))), "a cut turns a refusal into a response"),
    }
});
