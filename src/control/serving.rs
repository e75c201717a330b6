//! Connections of the admin interface: their number, their time-outs, and the host names under which they serve.
//! Not here: what is answered (`admin`).

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::uri::Authority;
use axum::http::{HeaderValue, StatusCode, Uri, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::process::{Resource, getrlimit};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, Sleep, sleep};

use crate::config::AdminHosts;
use crate::route::HostPattern;

/// Most open connections of one listener. A further one replaces the oldest that has no request under way.
const CONNECTIONS: usize = 64;
/// Least value of that cap. Where descriptors are few, one in sixteen is for these connections.
const CONNECTIONS_FEW: usize = 4;
/// Time from the last answer, or from the beginning, to the end of the next head.
const HEAD: Duration = Duration::from_secs(10);
/// How long a client may read nothing of its answer.
const STALL: Duration = Duration::from_secs(10);
/// Longest head, bytes, and most fields in it.
const HEAD_BYTES: usize = 16 * 1024;
const HEAD_FIELDS: usize = 100;
/// Size of hyper's buffers, bytes. Larger answers are kept outside them.
const BUFFER_BYTES: usize = 64 * 1024;

/// Serves until `ending` becomes true and the last answer has been sent.
pub(super) async fn serve(mut listener: impl Listener, answers: Router, mut ending: watch::Receiver<bool>) {
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let most = usize::try_from(descriptors / 16).unwrap_or(usize::MAX).clamp(CONNECTIONS_FEW, CONNECTIONS);
    let mut open = Vec::<Open>::new();
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            (stream, _) = listener.accept() => stream,
            Some(_) = connections.join_next() => continue,
            // An error means that the sender is dropped, which ends serving, too.
            _ = ending.wait_for(|ending| *ending) => break,
        };
        if make_room(&mut open, most) {
            let requests = Arc::new(AtomicUsize::new(0));
            let connection = connection(stream, answers.clone(), Arc::clone(&requests), ending.clone());
            open.push(Open { task: connections.spawn(connection), requests });
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// An open connection; they are kept in order of arrival.
struct Open {
    task: AbortHandle,
    /// Number of requests under way.
    requests: Arc<AtomicUsize>,
}

/// Makes room for one connection. False: every connection has a request under way, so that the new one is closed.
fn make_room(open: &mut Vec<Open>, most: usize) -> bool {
    open.retain(|connection| !connection.task.is_finished());
    if open.len() < most {
        return true;
    }
    let Some(idle) = open.iter().position(|it| it.requests.load(Ordering::Relaxed) == 0) else { return false };
    open.remove(idle).task.abort();
    true
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    answers: Router,
    requests: Arc<AtomicUsize>,
    mut ending: watch::Receiver<bool>,
) {
    let answers = TowerToHyperService::new(answers);
    let service = service_fn(|request| {
        let (in_flight, answer) = (InFlight::new(&requests), answers.call(request));
        async move {
            let answer = answer.await;
            drop(in_flight);
            answer
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD);
    http.max_header_size(HEAD_BYTES).max_headers(HEAD_FIELDS).max_buf_size(BUFFER_BYTES);
    let mut served = pin!(http.serve_connection(TokioIo::new(WriteDeadline::new(stream, STALL)), service));
    let end = async { drop(ending.wait_for(|ending| *ending).await) };
    // Errors of a connection concern its client alone.
    tokio::select! {
        _ = served.as_mut() => {}
        () = end => {
            served.as_mut().graceful_shutdown();
            let _ = served.await;
        }
    }
}

/// Counts a request until its answer is made or its connection ends.
struct InFlight(Arc<AtomicUsize>);

impl InFlight {
    fn new(requests: &Arc<AtomicUsize>) -> Self {
        requests.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(requests))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A stream whose writes fail when the peer has read nothing for `patience`.
struct WriteDeadline<S> {
    stream: S,
    patience: Duration,
    /// Whether a write waits for the peer; `deadline` is set then.
    stalled: bool,
    deadline: Pin<Box<Sleep>>,
}

impl<S> WriteDeadline<S> {
    fn new(stream: S, patience: Duration) -> Self {
        Self { stream, patience, stalled: false, deadline: Box::pin(sleep(patience)) }
    }

    fn watch<T>(&mut self, context: &mut Context<'_>, progress: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if progress.is_ready() {
            self.stalled = false;
            return progress;
        }
        if !self.stalled {
            self.stalled = true;
            let deadline = Instant::now() + self.patience;
            self.deadline.as_mut().reset(deadline);
        }
        ready!(self.deadline.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WriteDeadline<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WriteDeadline<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.watch(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.watch(cx, shut)
    }
}

/// Refuses requests whose Host the operator has not allowed. A page of another site can have its own name resolve to this address
/// (DNS rebinding), and the browser then lets it read the answers. It cannot do that with an address, or a name without a dot.
pub(super) async fn check_host(hosts: Arc<AdminHosts>, request: Request, next: Next) -> Response {
    let mut named = request.headers().get_all(header::HOST).iter();
    let (first, second) = (named.next(), named.next());
    if second.is_some() || first.is_none() && request.version() > Version::HTTP_10 {
        return (StatusCode::BAD_REQUEST, "the request needs one Host\n").into_response();
    }
    // A browser says which page has it ask. `null` is a page without a site of its own.
    let origin = request
        .headers()
        .get(header::ORIGIN)
        .map(|value| value.to_str().ok().and_then(|text| text.parse::<Uri>().ok()));
    let is_own = |origin: &Option<Uri>| {
        origin
            .as_ref()
            .filter(|origin| origin.scheme().is_some())
            .and_then(Uri::host)
            .is_some_and(|host| is_known(host, &hosts))
    };
    if origin.is_some_and(|origin| !is_own(&origin)) {
        return (StatusCode::FORBIDDEN, "a page of another site has no business here\n").into_response();
    }
    let host = first.map(|value| value.to_str().ok().and_then(|text| text.parse::<Authority>().ok()));
    let target = request.uri().authority().cloned();
    let known = |authority: &Option<Authority>| authority.as_ref().is_some_and(|it| is_known(it.host(), &hosts));
    if host.as_ref().is_none_or(known) && target.is_none_or(|target| known(&Some(target))) {
        return next.run(request).await;
    }
    let text = "this interface is asked by an address, by localhost or another name without a dot, or by a name that `admin.hosts` lists\n";
    (StatusCode::FORBIDDEN, text).into_response()
}

/// Refuses what a page of another site has its reader's browser send: there is no such page that has business on the socket.
pub(super) async fn check_origin(request: Request, next: Next) -> Response {
    if !request.headers().contains_key(header::ORIGIN) {
        return next.run(request).await;
    }
    (StatusCode::FORBIDDEN, "no page of a browser asks here\n").into_response()
}

/// Refuses requests without the token, if there is one: `Authorization: Bearer TOKEN` (RFC 6750 section 2.1).
pub(super) async fn check_token(token: Option<Arc<str>>, request: Request, next: Next) -> Response {
    let Some(token) = token else { return next.run(request).await };
    let shown = request.headers().get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
    let bearer =
        shown.and_then(|value| value.split_at_checked(7)).filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"Bearer "));
    if bearer.is_some_and(|(_, shown)| is_same(shown, token.as_bytes())) {
        return next.run(request).await;
    }
    let challenge = [(header::WWW_AUTHENTICATE, "Bearer realm=\"cairn\"")];
    (StatusCode::UNAUTHORIZED, challenge, "the request needs `Authorization: Bearer` with the token of admin.token\n")
        .into_response()
}

/// Whether both are the same. Takes as long wherever they differ.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    let differences = one.iter().zip(other).fold(0, |differences, (one, other)| differences | (one ^ other));
    one.len() == other.len() && differences == 0
}

fn is_known(host: &str, hosts: &AdminHosts) -> bool {
    let AdminHosts::Only(hosts) = hosts else { return true };
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let v6 = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if v6.is_some_and(|text| text.parse::<Ipv6Addr>().is_ok()) || host.parse::<Ipv4Addr>().is_ok() {
        return true;
    }
    let label = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
    let local = !host.is_empty() && host.bytes().all(label) || host.ends_with(".localhost");
    local
        || hosts.iter().any(|known| match known {
            HostPattern::Exact(name) => *name == host,
            HostPattern::Wildcard(name) => host.strip_suffix(name.as_str()).is_some_and(|rest| rest.ends_with('.')),
        })
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[test]
    fn only_names_that_no_other_site_can_have_are_known() {
        let only = AdminHosts::Only(vec![
            HostPattern::Exact("admin.example.com".to_owned()),
            HostPattern::Wildcard("ops.example".to_owned()),
        ]);
        let cases = [
            ("127.0.0.1", true),
            ("10.1.2.3", true),
            ("[::1]", true),
            ("localhost", true),
            ("LOCALHOST.", true),
            ("a.localhost", true),
            ("cairn", true),
            ("admin.example.com", true),
            ("Admin.Example.com.", true),
            ("a.ops.example", true),
            ("ops.example", false),
            ("xops.example", false),
            ("example.com", false),
            ("127.0.0.1.example.com", false),
            ("localhost.example.com", false),
            ("[::1", false),
            ("", false),
            (".", false),
        ];
        for (host, expected) in cases {
            assert_eq!(is_known(host, &only), expected, "{host}");
            assert!(is_known(host, &AdminHosts::Any));
        }
    }

    /// Takes nothing.
    struct Full;

    impl AsyncWrite for Full {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Pending
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    #[tokio::test]
    async fn a_peer_that_takes_nothing_breaks_the_stream() {
        let mut stream = WriteDeadline::new(Full, Duration::from_millis(1));
        let written = poll_fn(|cx| Pin::new(&mut stream).poll_write(cx, b"x")).await;
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut);
        poll_fn(|cx| Pin::new(&mut stream).poll_flush(cx)).await.unwrap();
        let shut = poll_fn(|cx| Pin::new(&mut stream).poll_shutdown(cx)).await;
        assert_eq!(shut.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
