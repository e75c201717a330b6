//! The request parser: any bytes, whole and cut in two.
#![no_main]

use cairn::http::{HeadLimits, RequestError, RequestHead, parse_request};
use libfuzzer_sys::fuzz_target;

const LIMITS: HeadLimits = HeadLimits { head_bytes: 16 * 1024, field_count: 100, request_line: 8 * 1024 };

fn parse(bytes: &[u8], cut: usize) -> (Result<Option<usize>, RequestError>, RequestHead) {
    let (mut head, mut scanned) = (RequestHead::new(), 0);
    let result = match parse_request(&bytes[..cut], &LIMITS, &mut scanned, &mut head) {
        Ok(None) => parse_request(bytes, &LIMITS, &mut scanned, &mut head),
        done => done,
    };
    (result, head)
}

fuzz_target!(|data: &[u8]| {
    let Some((&cut, bytes)) = data.split_first() else { return };
    let (whole, head) = parse(bytes, bytes.len());
    let (halves, again) = parse(bytes, bytes.len() * usize::from(cut) / 255);
    match (whole, halves) {
        (Ok(Some(length)), halves) => {
            assert_eq!(halves, Ok(Some(length)), "a cut changes the result");
            let text = &bytes[..length];
            assert_eq!(head.fields.len(), again.fields.len());
            for (field, other) in head.fields.iter().zip(again.fields.iter()) {
                assert_eq!((field.name.of(text), field.value.of(text)), (other.name.of(text), other.value.of(text)));
                assert!(!field.name.of(text).is_empty());
                assert!(!field.value.of(text).iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
            }
            assert!(head.path(text).iter().all(u8::is_ascii_graphic));
            assert_eq!((head.body, head.keep_alive), (again.body, again.keep_alive));
        }
        // A prefix can be refused for less than the whole is, but never turn into a request.
        (_, halves) => assert!(!matches!(halves, Ok(Some(_))), "a cut turns a refusal into a request"),
    }
});
