//! The time that a client allows for its answer: read where a trusted peer says it, passed on as what is left of it. Not here: keeping to
//! it (`progress`).

use std::time::Duration;

use crate::buffer::{Buffers, Queue};
use crate::http::{RequestHead, parse_decimal};
use crate::respond::write_parts;

/// Milliseconds, in decimal.
pub(super) const TIMEOUT_MS: &[u8] = b"x-request-timeout-ms";
/// A number of up to eight digits and a unit (gRPC over HTTP/2, "Requests").
pub(super) const GRPC_TIMEOUT: &[u8] = b"grpc-timeout";
/// Digits of both fields as they are written: all eight, so that the value of a request that is sent again can be written over.
const DIGITS: usize = 8;
/// The longest time that these digits hold, milliseconds.
const MOST: u64 = 99_999_999;

/// The time that a request allows; the shorter one where it has both fields. None: none, or nothing that can be read.
pub(super) fn allowed(request: &RequestHead, head: &[u8]) -> Option<Duration> {
    let value = |name| request.fields.named(head, name).next().map(|field| field.value.of(head));
    let plain = value(TIMEOUT_MS).and_then(parse_decimal).map(Duration::from_millis);
    let grpc = value(GRPC_TIMEOUT).and_then(grpc_timeout);
    plain.into_iter().chain(grpc).min()
}

fn grpc_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    let number = parse_decimal(digits).filter(|_| digits.len() <= DIGITS)?;
    Some(match unit {
        b'H' => Duration::from_secs(number.checked_mul(3600)?),
        b'M' => Duration::from_secs(number.checked_mul(60)?),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

/// Whether a received field says how much time there is.
pub(super) fn is_timeout(name: &[u8]) -> bool {
    [TIMEOUT_MS, GRPC_TIMEOUT].into_iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// Writes the lines that tell an origin how much time is left. `grpc`: also as gRPC has it.
pub(super) fn write_left(left: Duration, grpc: bool, out: &mut Vec<u8>) {
    let digits = digits(left);
    write_parts(out, &[TIMEOUT_MS, b": ", &digits, b"\r\n"]);
    if grpc {
        write_parts(out, &[GRPC_TIMEOUT, b": ", &digits, b"m\r\n"]);
    }
}

/// Writes what is left now over what was left when the head at the front of a request was written.
pub(super) fn shorten(buffers: &mut Buffers, request: &mut Queue, left: Duration) {
    let Some(mut lease) = request.pop(buffers.pieces()) else { return };
    let digits = digits(left);
    for name in [TIMEOUT_MS, GRPC_TIMEOUT] {
        if let Some(at) = value_of(lease.bytes(), name)
            && let Some(value) = lease.bytes_mut().get_mut(at..at + DIGITS)
            && value.iter().all(u8::is_ascii_digit)
        {
            value.copy_from_slice(&digits);
        }
    }
    request.push_front(buffers.pieces(), lease);
}

/// Where the value of a field begins that was written by [`write_left`].
fn value_of(head: &[u8], name: &[u8]) -> Option<usize> {
    let end = memchr::memmem::find(head, b"\r\n\r\n").unwrap_or(head.len());
    let mut lines = memchr::memmem::find_iter(&head[..end], b"\r\n").map(|at| at + 2);
    lines
        .find(|at| head[*at..].starts_with(name) && head[at + name.len()..].starts_with(b": "))
        .map(|at| at + name.len() + 2)
}

fn digits(left: Duration) -> [u8; DIGITS] {
    let mut number = (left.as_millis() as u64).min(MOST);
    let mut digits = [b'0'; DIGITS];
    for digit in digits.iter_mut().rev() {
        *digit += (number % 10) as u8;
        number /= 10;
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_timeouts_have_a_unit() {
        let cases = [
            (&b"1H"[..], Some(3_600_000_000)),
            (b"2M", Some(120_000_000)),
            (b"3S", Some(3_000_000)),
            (b"99999999m", Some(99_999_999_000)),
            (b"5u", Some(5)),
            (b"5000n", Some(5)),
            (b"100000000m", None),
            (b"1", None),
            (b"m", None),
            (b"", None),
            (b"-1m", None),
            (b"1x", None),
        ];
        for (text, micros) in cases {
            assert_eq!(grpc_timeout(text), micros.map(Duration::from_micros), "{}", text.escape_ascii());
        }
    }

    #[test]
    fn what_is_left_has_eight_digits() {
        assert_eq!(&digits(Duration::from_millis(1230)), b"00001230");
        assert_eq!(&digits(Duration::MAX), b"99999999");
        let mut out = b"GET / HTTP/1.1\r\nx-request-timeout-ms-not: 1\r\n".to_vec();
        write_left(Duration::from_millis(7), true, &mut out);
        assert!(out.ends_with(b"x-request-timeout-ms: 00000007\r\ngrpc-timeout: 00000007m\r\n"));
        let at = value_of(&out, TIMEOUT_MS).unwrap();
        assert_eq!(&out[at..at + DIGITS], b"00000007");
        let at = value_of(&out, GRPC_TIMEOUT).unwrap();
        assert_eq!(&out[at..at + DIGITS], b"00000007");
        assert_eq!(value_of(b"POST / HTTP/1.1\r\n\r\n\r\ngrpc-timeout: 1", GRPC_TIMEOUT), None, "a body is no head");
    }
}
