//! The chunk decoder: any bytes in any cuts, and what it passes on decoded again.
#![no_main]

use cairn::http::{ChunkError, ChunkedDecoder, ChunkedPartKind};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Default, PartialEq)]
struct Outcome {
    data: Vec<u8>,
    /// What is passed on: framing and data.
    passed: Vec<u8>,
    /// Bytes up to the end of the last chunk's line.
    end: Option<usize>,
    error: Option<ChunkError>,
}

fn decode(bytes: &[u8], mut step: impl FnMut() -> usize) -> Outcome {
    let (mut decoder, mut outcome, mut at) = (ChunkedDecoder::new(), Outcome::default(), 0);
    let mut arrived = 0;
    while arrived < bytes.len() {
        arrived = (arrived + step().max(1)).min(bytes.len());
        while at < arrived {
            let piece = match decoder.next(&bytes[at..arrived]) {
                Ok(piece) => piece,
                Err(error) => {
                    outcome.error = Some(error);
                    return outcome;
                }
            };
            let part = &bytes[at..at + piece.len];
            at += piece.len;
            match piece.kind {
                ChunkedPartKind::Data => {
                    outcome.data.extend_from_slice(part);
                    outcome.passed.extend_from_slice(part);
                }
                ChunkedPartKind::Framing => outcome.passed.extend_from_slice(part),
                ChunkedPartKind::Skip => {}
                ChunkedPartKind::LastChunk => {
                    outcome.end = Some(at);
                    return outcome;
                }
                ChunkedPartKind::NeedMore => break,
            }
        }
    }
    outcome
}

fuzz_target!(|data: &[u8]| {
    let Some((&cut, bytes)) = data.split_first() else { return };
    let whole = decode(bytes, || bytes.len());
    let mut seed = u32::from(cut);
    let random = decode(bytes, || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 24) as usize % 7
    });
    assert_eq!((&whole.data, whole.end, whole.error), (&random.data, random.end, random.error), "a cut changes the result");
    // How much framing went on before an error depends on the cuts; the message is given up anyway.
    assert!(whole.error.is_some() || whole.passed == random.passed, "a cut changes what is passed on");
    if whole.end.is_some() {
        let again = decode(&[&whole.passed[..], b"0\r\n"].concat(), || usize::MAX / 2);
        assert_eq!((again.data, again.error, again.end.is_some()), (whole.data, None, true), "what is passed on");
    }
});
