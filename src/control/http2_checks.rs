//! Checks over HTTP/2, and those of gRPC's health service. Not here: when one is made, and how answers are judged (`checks`).

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http2;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue, TE};
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};

/// What is asked of gRPC's health service (grpc.health.v1).
const CHECK: &str = "/grpc.health.v1.Health/Check";
/// Its answer where a service serves.
const SERVING: u64 = 1;
/// Bytes of a head.
const HEAD_BYTES: u32 = 16 * 1024;
/// Bytes of an answer of the health service: a byte and a length, then a number.
const ANSWER_BYTES: usize = 1024;

/// The same request for an absolute target, as HTTP/2 has it. `authority`: scheme and host of the endpoint.
///
/// # Errors
/// It has no such target.
pub(super) fn absolute<B>(mut request: Request<B>, authority: &str) -> Result<Request<B>, String> {
    let scheme = authority.split_once("://").map_or("http", |(scheme, _)| scheme);
    let host = request.headers_mut().remove(HOST);
    let host = host.as_ref().and_then(|host| host.to_str().ok()).unwrap_or_default();
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = format!("{scheme}://{host}{path}").parse().map_err(|_| format!("{host:?} is no host"))?;
    Ok(request)
}

/// Sends a request over a connection, and returns its answer.
///
/// # Errors
/// There is none.
pub(super) async fn ask<S, B>(stream: S, request: Request<B>) -> Result<Response<Incoming>, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    B: hyper::body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.max_header_list_size(HEAD_BYTES);
    let begun = http.handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = begun.map_err(|error| error.to_string())?;
    // It ends when nobody asks for an answer any more.
    tokio::spawn(connection);
    sender.send_request(request).await.map_err(|error| format!("no answer: {error}"))
}

/// Asks the health service of gRPC for a service; empty: the server as a whole.
///
/// # Errors
/// Why the answer is not a good one.
pub(super) async fn ask_grpc<S>(stream: S, authority: &str, service: &str) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let uri: Uri = format!("{authority}{CHECK}").parse().map_err(|_| format!("{authority:?} is no host"))?;
    let mut request = Request::new(Full::new(Bytes::from(question(service))));
    (*request.method_mut(), *request.uri_mut()) = (Method::POST, uri);
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    request.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
    let answer = ask(stream, request).await?;
    let status = answer.status().as_u16();
    if status != 200 {
        return Err(format!("it has answered {status}"));
    }
    let code = |fields: &hyper::HeaderMap| Some(fields.get("grpc-status")?.to_str().unwrap_or("?").to_owned());
    let mut ended = code(answer.headers());
    let (mut body, mut seen) = (answer.into_body(), Vec::new());
    while ended.is_none()
        && let Some(frame) = body.frame().await
    {
        let frame = frame.map_err(|error| format!("its answer is cut: {error}"))?;
        match frame.data_ref() {
            Some(data) if seen.len() + data.len() <= ANSWER_BYTES => seen.extend_from_slice(data),
            Some(_) => return Err(format!("its answer is longer than {ANSWER_BYTES} bytes")),
            None => ended = frame.trailers_ref().and_then(code),
        }
    }
    match ended.as_deref() {
        Some("0") if serves(&seen) => Ok(()),
        Some("0") => Err("it says that it does not serve".to_owned()),
        Some(code) => Err(format!("it has answered with gRPC's status {code}")),
        None => Err("its answer has no status of gRPC".to_owned()),
    }
}

/// The message that asks for a service: a field of text with number 1, behind what says that it is not compressed and how long it is.
fn question(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        let mut left = service.len();
        while left >= 0x80 {
            message.push(left as u8 | 0x80);
            left >>= 7;
        }
        message.push(left as u8);
        message.extend_from_slice(service.as_bytes());
    }
    [&[0][..], &(message.len() as u32).to_be_bytes(), &message].concat()
}

/// Whether an answer says that the service serves: it has a number in its field 1. Fields that are not known are numbers or have a
/// length.
fn serves(answer: &[u8]) -> bool {
    let Some([0, length @ ..]) = answer.first_chunk::<5>() else { return false };
    let length = u32::from_be_bytes(*length) as usize;
    let Some(mut message) = answer.get(5..).and_then(|rest| rest.get(..length)) else { return false };
    let mut status = 0;
    while !message.is_empty() {
        let (Some(key), Some(value)) = (number(&mut message), number(&mut message)) else { return false };
        match key & 7 {
            0 if key >> 3 == 1 => status = value,
            0 => {}
            2 => match usize::try_from(value).ok().and_then(|length| message.get(length..)) {
                Some(rest) => message = rest,
                None => return false,
            },
            _ => return false,
        }
    }
    status == SERVING
}

/// Takes a number off a message of protocol buffers.
fn number(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_the_health_service() {
        assert_eq!(question(""), [0, 0, 0, 0, 0]);
        assert_eq!(question("a.B"), [0, 0, 0, 0, 5, 0x0a, 3, b'a', b'.', b'B']);
        assert_eq!(question(&"x".repeat(200))[..8], [0, 0, 0, 0, 203, 0x0a, 200, 1]);
        for (answer, good) in [
            (&[0, 0, 0, 0, 2, 8, 1][..], true),
            (&[0, 0, 0, 0, 2, 8, 2], false),
            (&[0, 0, 0, 0, 0], false),
            (&[0, 0, 0, 0, 6, 0x12, 1, b'x', 8, 1, 0], false),
            (&[0, 0, 0, 0, 5, 0x12, 1, b'x', 8, 1], true),
            (&[0, 0, 0, 0, 3, 8, 1], false),
            (&[1, 0, 0, 0, 2, 8, 1], false),
            (&[0, 0, 0, 0, 12, 8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1], false),
            (&[0, 0], false),
            (b"", false),
        ] {
            assert_eq!(serves(answer), good, "{answer:?}");
        }
    }
}
