//! A message to the collector: OTLP over HTTP/1.1, in protobuf. Not here: when, and what becomes of a failure (`exporter`).

use std::fmt;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::ExportSpec;
use crate::tls::{Client, ClientSpec, ServerName};

/// Bytes of an answer that are read.
const ANSWER_BYTES: usize = 64 * 1024;
/// Longest wait that a collector may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// Where spans go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collector {
    /// Host and port, to connect to and for the field Host.
    pub authority: String,
    /// Path of traces.
    pub path: String,
    /// How it is authenticated, and by which name; None: it speaks in the clear.
    pub tls: Option<(ClientSpec, ServerName<'static>)>,
}

impl fmt::Display for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.path)
    }
}

/// Why a message was not taken.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) why: String,
    /// Whether it may be taken later.
    pub(super) again: bool,
    /// How long the collector asks to be left alone.
    pub(super) after: Option<Duration>,
}

impl Refused {
    /// By nobody who has read it.
    fn unheard(why: impl fmt::Display) -> Self {
        Self { why: why.to_string(), again: true, after: None }
    }
}

/// A connection to the collector.
pub(super) type Connection = SendRequest<Full<Bytes>>;

/// Sends a message over `connection`, or over a new one. Returns the body of the answer, and the connection for the next message.
pub(super) async fn send(
    spec: &ExportSpec,
    tls: Option<&Client>,
    connection: Option<Connection>,
    message: Bytes,
) -> Result<(Vec<u8>, Option<Connection>), Refused> {
    let late = || Refused::unheard(format_args!("no answer within {:?}", spec.timeout));
    let idle = match connection {
        // The collector may have closed it.
        Some(mut connection) => connection.ready().await.is_ok().then_some(connection),
        None => None,
    };
    let exchange = async {
        let mut connection = match idle {
            Some(connection) => connection,
            None => connect(spec, tls).await?,
        };
        let answer = connection.send_request(request(spec, message)?).await.map_err(Refused::unheard)?;
        let status = answer.status();
        let seconds = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let after = seconds.map(|seconds| Duration::from_secs(seconds).min(RETRY_AFTER_MAX));
        let body = Limited::new(answer.into_body(), ANSWER_BYTES).collect().await;
        if status == StatusCode::OK {
            let body = body.map(|body| body.to_bytes().to_vec()).unwrap_or_default();
            return Ok((body, Some(connection)));
        }
        // OTLP/HTTP, on failures: these and no others may be sent again.
        let again = matches!(status.as_u16(), 429 | 502..=504);
        Err(Refused { why: format!("the collector answers {}", status.as_u16()), again, after })
    };
    timeout(spec.timeout, exchange).await.unwrap_or_else(|_| Err(late()))
}

fn request(spec: &ExportSpec, message: Bytes) -> Result<Request<Full<Bytes>>, Refused> {
    let invalid = |error: hyper::http::Error| Refused { why: error.to_string(), again: false, after: None };
    let mut request = Request::post(&spec.collector.path)
        .header(HOST, &spec.collector.authority)
        .header(CONTENT_TYPE, "application/x-protobuf")
        .header(USER_AGENT, concat!("cairn/", env!("CARGO_PKG_VERSION")));
    for (name, value) in &spec.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| invalid(error.into()))?;
        request = request.header(name, HeaderValue::from_str(value).map_err(|error| invalid(error.into()))?);
    }
    request.body(Full::new(message)).map_err(invalid)
}

async fn connect(spec: &ExportSpec, tls: Option<&Client>) -> Result<Connection, Refused> {
    let stream = TcpStream::connect(&spec.collector.authority).await.map_err(Refused::unheard)?;
    match tls.zip(spec.collector.tls.as_ref()) {
        None => begin(stream).await,
        Some((client, (_, name))) => {
            let failed = |error| Refused::unheard(format_args!("TLS failed: {error}"));
            begin(client.connect(name, stream).await.map_err(failed)?).await
        }
    }
}

async fn begin<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S) -> Result<Connection, Refused> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(Refused::unheard)?;
    // Carries the connection to its end. If that is a failure, the answer fails, too.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}
