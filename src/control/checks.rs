//! Health checks: each endpoint of a cluster that asks for it has a task that asks the endpoint how it does, once for the process.
//! Not here: what follows from a judgement (`health`).

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{AcquireError, Semaphore, SemaphorePermit, mpsc};
use tokio::task::AbortHandle;
use tokio::time::error::Elapsed;
use tokio::time::{sleep, timeout};

use super::http2_checks;
use crate::cluster::{CheckKind, Cluster, Endpoint, EndpointState, HealthSpec, Hold, HttpCheck, Initial};
use crate::id::{Address, EndpointId};
use crate::proxy_protocol::{HeaderBytes, Version};
use crate::snapshot::Snapshot;

/// Checks under way at a time besides those for which clusters have places of their own: each takes a descriptor.
const SHARED_PLACES: usize = 64;
/// Checks of one cluster that may be under way whatever those of others do.
const OWN_PLACES: usize = 4;
/// Shortest time between two checks of an endpoint.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// Bytes of an answer's head.
const HEAD_BYTES: usize = 16 * 1024;
/// Bytes that may be read until that head is complete, interim ones included.
const HEADS_BYTES: usize = 4 * HEAD_BYTES;
/// Bytes of an answer's body that are looked at.
const BODY_BYTES: usize = 64 * 1024;
/// Bytes that may be read for them: each may come in a chunk of its own.
const FRAMED_BODY_BYTES: usize = 8 * BODY_BYTES;

/// All checks of the process.
#[derive(Debug)]
pub(super) struct Checks {
    /// By [`Endpoint::state_key`].
    running: HashMap<usize, Running>,
    /// Version of the snapshot whose endpoints are checked.
    version: u64,
    results: mpsc::UnboundedReceiver<Judgement>,
    results_to: mpsc::UnboundedSender<Judgement>,
    shared_places: Arc<Semaphore>,
    /// By number of the cluster.
    own_places: HashMap<u32, Arc<Semaphore>>,
}

/// Where a check finds a place. Endpoints that are silent for as long as their time-out allows keep checks of their own cluster waiting
/// at most, for each has some places that no other one takes.
#[derive(Clone, Debug)]
struct Places {
    own: Arc<Semaphore>,
    shared: Arc<Semaphore>,
}

/// The checks of one endpoint.
#[derive(Debug)]
struct Running {
    task: AbortHandle,
    /// Everything that they depend on.
    checked: Arc<Checked>,
    /// Whether they have judged it, and not only the configuration.
    judged: bool,
}

/// An endpoint as it is checked.
#[derive(Debug)]
struct Checked {
    /// Its id in the snapshot that is followed.
    endpoint: EndpointId,
    /// Held for its key.
    state: Arc<EndpointState>,
    spec: Arc<HealthSpec>,
    /// What is asked for where the check names nothing else.
    host: String,
    addresses: Vec<Address>,
    tls: Option<(crate::tls::Client, crate::tls::ServerName<'static>)>,
    proxy_protocol: Option<Version>,
    /// HTTP/2 is spoken, unless TLS chooses HTTP/1.1.
    http2: bool,
}

/// A change of what is thought of an endpoint.
#[derive(Debug)]
pub(super) struct Judgement {
    pub(super) endpoint: EndpointId,
    /// Who says so.
    checked: Arc<Checked>,
    /// None: its checks are good.
    pub(super) problem: Option<String>,
}

/// Counts checks until they suffice for a change.
#[derive(Clone, Copy, Debug)]
struct Judge {
    /// None: no check has ended yet.
    up: Option<bool>,
    /// Checks in a row that speak against it.
    against: u32,
}

impl Default for Checks {
    fn default() -> Self {
        let (results_to, results) = mpsc::unbounded_channel();
        let shared_places = Arc::new(Semaphore::new(SHARED_PLACES));
        let (running, own_places) = (HashMap::new(), HashMap::new());
        Self { running, version: 0, results, results_to, shared_places, own_places }
    }
}

impl Checks {
    /// Checks the endpoints of a snapshot, and no others any more.
    pub(super) fn follow(&mut self, snapshot: &Snapshot) {
        if self.version == snapshot.version {
            return;
        }
        self.version = snapshot.version;
        let mut before = std::mem::take(&mut self.running);
        let places = std::mem::take(&mut self.own_places);
        for cluster in snapshot.clusters.iter().filter(|it| it.health.is_some()) {
            let number = cluster.state.number();
            let own = places.get(&number).cloned().unwrap_or_else(|| Arc::new(Semaphore::new(OWN_PLACES)));
            self.own_places.insert(number, own);
        }
        for cluster in &snapshot.clusters {
            for endpoint in &cluster.endpoints {
                self.follow_endpoint(cluster, endpoint, &mut before);
            }
        }
        before.into_values().for_each(|running| running.task.abort());
    }

    fn follow_endpoint(&mut self, cluster: &Cluster, endpoint: &Endpoint, before: &mut HashMap<usize, Running>) {
        let key = endpoint.state_key();
        let Some(spec) = &cluster.health else {
            // It is not known any more how it does.
            if endpoint.state.set(Hold::Down, false) {
                cluster.state.change();
            }
            return;
        };
        let checked = Arc::new(Checked {
            endpoint: endpoint.id,
            state: Arc::clone(&endpoint.state),
            spec: Arc::clone(spec),
            host: host(endpoint),
            addresses: (0..endpoint.addresses()).map(|at| endpoint.address_at(at).clone()).collect(),
            tls: cluster.tls.as_ref().map(crate::tls::Client::apart).zip(endpoint.tls_name.clone()),
            proxy_protocol: cluster.proxy_protocol,
            http2: cluster.http2.is_some(),
        });
        let known = before.remove(&key);
        let mut judged = false;
        if let Some(running) = known {
            judged = running.judged;
            if running.checked.is_same(&checked) {
                self.running.insert(key, running);
                return;
            }
            running.task.abort();
        } else if endpoint.state.set(Hold::Down, spec.initial != Initial::Up) {
            cluster.state.change();
        }
        // Other checks than before begin with what those have found: one that fails does not suffice against it.
        let judge = Judge { up: judged.then(|| !endpoint.state.has(Hold::Down)), against: 0 };
        let Some(own) = self.own_places.get(&cluster.state.number()).map(Arc::clone) else { return };
        let places = Places { own, shared: Arc::clone(&self.shared_places) };
        let task = run(Arc::clone(&checked), judge, self.results_to.clone(), places);
        self.running.insert(key, Running { task: tokio::spawn(task).abort_handle(), checked, judged });
    }

    /// Whether an endpoint has not been checked yet for which the start of the process waits.
    pub(super) fn awaits_first(&self) -> bool {
        self.running.values().any(|it| !it.judged && it.checked.spec.initial == Initial::Wait)
    }

    /// Waits for the next change. What checks have said that were ended meanwhile is dropped. Cancel-safe.
    pub(super) async fn next(&mut self) -> Judgement {
        loop {
            match self.results.recv().await {
                Some(judgement) if self.admits(&judgement) => return judgement,
                Some(_) => {}
                // The sender is held here.
                None => std::future::pending().await,
            }
        }
    }

    /// Whether a judgement comes from checks that run.
    fn admits(&mut self, judgement: &Judgement) -> bool {
        let running = self.running.get_mut(&judgement.checked.key());
        let running = running.filter(|running| Arc::ptr_eq(&running.checked, &judgement.checked));
        running.is_some_and(|running| {
            running.judged = true;
            true
        })
    }
}

impl Places {
    async fn take(&self) -> Result<SemaphorePermit<'_>, AcquireError> {
        tokio::select! {
            biased;
            place = self.own.acquire() => place,
            place = self.shared.acquire() => place,
        }
    }
}

impl Checked {
    /// What is asked for, with the scheme.
    fn authority(&self) -> String {
        format!("{}://{}", if self.tls.is_some() { "https" } else { "http" }, self.host)
    }

    fn key(&self) -> usize {
        Arc::as_ptr(&self.state).addr()
    }

    fn is_same(&self, other: &Self) -> bool {
        let tls = |it: &Self| it.tls.as_ref().map(|(client, name)| (client.spec().clone(), name.clone()));
        let begins_alike =
            tls(self) == tls(other) && (self.proxy_protocol, self.http2) == (other.proxy_protocol, other.http2);
        let goes_alike = self.spec == other.spec && self.addresses == other.addresses && self.host == other.host;
        self.endpoint == other.endpoint && goes_alike && begins_alike
    }
}

impl Judge {
    /// Takes in a check. Returns whether it changes what is thought.
    fn take(&mut self, good: bool, spec: &HealthSpec) -> bool {
        let Some(up) = self.up else {
            self.up = Some(good);
            return true;
        };
        if up == good {
            self.against = 0;
            return false;
        }
        self.against += 1;
        let enough = self.against >= if good { spec.rise } else { spec.fall };
        if enough {
            *self = Self { up: Some(good), against: 0 };
        }
        enough
    }

    /// Time until the next check: shorter while a change is under way.
    fn pause(self, spec: &HealthSpec) -> Duration {
        let interval = if self.against > 0 { spec.interval / 4 } else { spec.interval };
        interval.max(INTERVAL_MIN)
    }
}

/// Checks an endpoint for ever, and sends what changes.
async fn run(checked: Arc<Checked>, mut judge: Judge, results: mpsc::UnboundedSender<Judgement>, places: Places) {
    let spec = &checked.spec;
    // The address that could be connected to last.
    let mut first = 0;
    loop {
        let Ok(place) = places.take().await else { return };
        let checking = timeout(spec.timeout, check(&checked, &mut first));
        let result = checking.await.unwrap_or_else(|_| Err(format!("no good answer within {:?}", spec.timeout)));
        drop(place);
        if judge.take(result.is_ok(), spec) {
            let judgement =
                Judgement { endpoint: checked.endpoint, checked: Arc::clone(&checked), problem: result.err() };
            if results.send(judgement).is_err() {
                return;
            }
        }
        // A tenth more or less, so that many endpoints are not checked at once.
        let tenth = 0.9 + 0.2 * (RandomState::new().hash_one(()) as f64 / u64::MAX as f64);
        sleep(judge.pause(spec).mul_f64(tenth)).await;
    }
}

/// A connection of which so much is read and no more: an origin that sends interim heads without end would keep the control thread busy
/// for as long as the time-out allows.
struct Bounded<S> {
    stream: S,
    left: Arc<AtomicUsize>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let left = self.left.load(Ordering::Relaxed);
        if left == 0 {
            return Poll::Ready(Err(io::Error::other("it sends too much")));
        }
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer));
        // One read may go a buffer beyond it.
        self.left.store(left.saturating_sub(buffer.filled().len() - before), Ordering::Relaxed);
        Poll::Ready(read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// One check, over the first address that can be connected to, beginning with the one at `first`, which becomes that one. The addresses
/// share the time-out, so that one that is silent leaves time for the next.
async fn check(checked: &Checked, first: &mut usize) -> Result<(), String> {
    let mut problem = "it has no address".to_owned();
    let count = checked.addresses.len();
    let begin = *first;
    for step in 0..count {
        let position = (begin + step) % count;
        let last = step + 1 == count;
        let share = if last { checked.spec.timeout } else { checked.spec.timeout / count as u32 };
        let connected = match &checked.addresses[position] {
            Address::Inet(address) => check_over(checked, timeout(share, TcpStream::connect(address)).await).await,
            Address::Unix(path) => check_over(checked, timeout(share, UnixStream::connect(path)).await).await,
        };
        match connected {
            Ok(result) => {
                *first = position;
                return result;
            }
            Err(Some(error)) => problem = format!("no connection: {error}"),
            Err(None) => problem = format!("no connection within {share:?}"),
        }
    }
    Err(problem)
}

/// The check over a connection, if there is one.
///
/// # Errors
/// Why there is none; None: it took too long.
async fn check_over<S>(
    checked: &Checked,
    connected: Result<io::Result<S>, Elapsed>,
) -> Result<Result<(), String>, Option<io::Error>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    Ok(check_on(checked, connected.map_err(|_| None)??).await)
}

async fn check_on<S>(checked: &Checked, mut stream: S) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    if let Some(version) = checked.proxy_protocol {
        let header = HeaderBytes::local(version);
        stream.write_all(header.bytes()).await.map_err(|error| format!("no connection: {error}"))?;
    }
    match &checked.tls {
        None => ask(checked, stream, checked.http2).await,
        Some((client, name)) => {
            let stream = client.connect(name, stream).await.map_err(|error| format!("TLS failed: {error}"))?;
            let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            ask(checked, stream, http2).await
        }
    }
}

/// Does on a connection what the check asks for.
async fn ask<S>(checked: &Checked, stream: S, http2: bool) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let check = match &checked.spec.kind {
        CheckKind::Tcp => return Ok(()),
        CheckKind::Grpc(_) if !http2 => return Err("it does not speak HTTP/2".to_owned()),
        CheckKind::Grpc(service) => return http2_checks::ask_grpc(stream, &checked.authority(), service).await,
        CheckKind::Http(check) if http2 => {
            let request = request(check, &checked.host).map_err(|error| error.to_string())?;
            let request = http2_checks::absolute(request, &checked.authority())?;
            return judge_answer(check, http2_checks::ask(stream, request).await?).await;
        }
        CheckKind::Http(check) => check,
    };
    let mut http = http1::Builder::new();
    http.max_buf_size(HEAD_BYTES);
    let left = Arc::new(AtomicUsize::new(HEADS_BYTES));
    let stream = Bounded { stream, left: Arc::clone(&left) };
    let begun = http.handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await;
    let (mut sender, connection) = begun.map_err(|error| error.to_string())?;
    let request = request(check, &checked.host).map_err(|error| error.to_string())?;
    let answer = async {
        let answer = sender.send_request(request).await.map_err(|error| match left.load(Ordering::Relaxed) {
            0 => format!("no answer in the first {HEADS_BYTES} bytes"),
            _ => format!("no answer: {error}"),
        })?;
        left.fetch_add(FRAMED_BODY_BYTES, Ordering::Relaxed);
        judge_answer(check, answer).await
    };
    // Drives the connection. If that fails, the answer fails, too.
    let carry = async {
        let _ = connection.await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        biased;
        answer = answer => answer,
        () = carry => Err(io::Error::from(io::ErrorKind::UnexpectedEof).to_string()),
    }
}

/// The host of an endpoint as it is written, or the name that TLS asks for if that is another one.
fn host(endpoint: &Endpoint) -> String {
    let name = endpoint.tls_name.as_ref().map(|name| name.to_str());
    let written = endpoint.host.rsplit_once(':').map_or(&*endpoint.host, |(host, _)| host);
    let written = written.trim_start_matches('[').trim_end_matches(']');
    name.filter(|name| !name.eq_ignore_ascii_case(written)).map_or_else(|| endpoint.host.to_string(), Into::into)
}

fn request(check: &HttpCheck, host: &str) -> Result<Request<Empty<Bytes>>, hyper::http::Error> {
    let mut request = Request::builder().method(check.method.as_str()).uri(&check.path);
    request = request.header(HOST, check.host.as_deref().unwrap_or(host));
    let named = |name: &HeaderName| check.headers.iter().any(|(known, _)| name.as_str().eq_ignore_ascii_case(known));
    if !named(&USER_AGENT) {
        request = request.header(USER_AGENT, "cairn-health");
    }
    for (name, value) in &check.headers {
        request = request.header(HeaderName::from_bytes(name.as_bytes())?, HeaderValue::from_str(value)?);
    }
    request.body(Empty::new())
}

/// Judges status and, where that is asked for, the beginning of the body.
async fn judge_answer(check: &HttpCheck, answer: Response<Incoming>) -> Result<(), String> {
    let status = answer.status().as_u16();
    if !check.expect.iter().any(|range| range.contains(&status)) {
        return Err(format!("it has answered {status}"));
    }
    let Some(wanted) = &check.body else { return Ok(()) };
    let (mut body, mut seen) = (answer.into_body(), Vec::new());
    while seen.len() < BODY_BYTES {
        let Some(frame) = body.frame().await else { break };
        let frame = frame.map_err(|error| format!("its answer is cut: {error}"))?;
        let Some(data) = frame.data_ref() else { break };
        seen.extend_from_slice(&data[..data.len().min(BODY_BYTES - seen.len())]);
    }
    let found = seen.windows(wanted.len().max(1)).any(|part| part == wanted.as_bytes()) || wanted.is_empty();
    if found { Ok(()) } else { Err("its answer does not hold what it should".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;
    use crate::snapshot::Ledger;

    fn snapshot(version: u64, health: &str, ledger: &mut Ledger) -> Snapshot {
        let text = "[[listener]]\nname = \"a\"\nbind = \"127.0.0.1:0\"\n[[route]]\ncluster = \"app\"\n[[cluster]]\nname = \"app\"\n\
                    endpoints = [\"127.0.0.1:1\"]\n";
        parse("a.toml", &format!("{text}{health}")).unwrap().compile(version, ledger).unwrap()
    }

    /// What was said before the checks were taken out of the configuration, or changed, is of no use afterwards.
    #[tokio::test]
    async fn what_ended_checks_have_said_is_dropped() {
        let (mut checks, mut ledger) = (Checks::default(), Ledger::default());
        let tcp = "health = { kind = \"tcp\" }\n";
        let checked = snapshot(1, tcp, &mut ledger);
        checks.follow(&checked);
        let said = |checks: &Checks| {
            let checked = Arc::clone(&checks.running.values().next().unwrap().checked);
            Judgement { endpoint: checked.endpoint, checked, problem: Some("refused".to_owned()) }
        };
        let first = said(&checks);
        assert!(checks.admits(&first));
        checks.follow(&snapshot(2, "", &mut ledger));
        assert!(!checks.admits(&first));
        checks.follow(&snapshot(3, tcp, &mut ledger));
        let second = said(&checks);
        assert!(!checks.admits(&first) && checks.admits(&second));
    }

    /// Endpoints of one cluster that never answer keep no other one's checks from being made.
    #[tokio::test]
    async fn each_cluster_has_places_of_its_own() {
        let shared = Arc::new(Semaphore::new(SHARED_PLACES));
        let places = || Places { own: Arc::new(Semaphore::new(OWN_PLACES)), shared: Arc::clone(&shared) };
        let (silent, other) = (places(), places());
        let mut taken = Vec::new();
        for _ in 0..OWN_PLACES + SHARED_PLACES {
            taken.push(silent.take().await.unwrap());
        }
        assert!(timeout(Duration::ZERO, silent.take()).await.is_err());
        for _ in 0..OWN_PLACES {
            taken.push(timeout(Duration::ZERO, other.take()).await.unwrap().unwrap());
        }
        assert!(timeout(Duration::ZERO, other.take()).await.is_err());
    }

    /// Checked over these addresses by a connection, within half a second.
    fn checked(addresses: Vec<Address>) -> Checked {
        let mut ledger = Ledger::default();
        let snapshot = snapshot(1, "health = { kind = \"tcp\", timeout = \"500ms\" }\n", &mut ledger);
        let mut checks = Checks::default();
        checks.follow(&snapshot);
        let checked = Arc::clone(&checks.running.values().next().unwrap().checked);
        let Checked { endpoint, state, spec, proxy_protocol, .. } = &*checked;
        Checked {
            endpoint: *endpoint,
            state: Arc::clone(state),
            spec: Arc::clone(spec),
            host: "localhost".to_owned(),
            addresses,
            tls: None,
            proxy_protocol: *proxy_protocol,
            http2: false,
        }
    }

    /// An address that does not answer leaves time for the next one, which is tried first the next time.
    #[tokio::test]
    async fn a_silent_address_leaves_time_for_the_next_one() {
        // A queue of connections that is full drops what comes: 0 leaves room for one.
        let full = tokio::net::TcpSocket::new_v4().unwrap();
        full.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let full = full.listen(0).unwrap();
        let silent = full.local_addr().unwrap();
        let mut filling = Vec::new();
        while let Ok(Ok(stream)) = timeout(Duration::from_millis(100), TcpStream::connect(silent)).await {
            filling.push(stream);
        }
        let well = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let checked = checked(vec![Address::Inet(silent), Address::Inet(well.local_addr().unwrap())]);
        let mut first = 0;
        let result = timeout(checked.spec.timeout, check(&checked, &mut first)).await;
        assert_eq!((result, first), (Ok(Ok(())), 1));
    }

    #[test]
    fn the_first_check_decides_and_then_several_in_a_row() {
        let second = Duration::from_secs(1);
        let spec = HealthSpec {
            kind: CheckKind::Tcp,
            interval: 4 * second,
            timeout: second,
            rise: 2,
            fall: 3,
            initial: Initial::Up,
        };
        let mut judge = Judge { up: None, against: 0 };
        let checks = [true, false, false, true, false, false, false, true, true, false];
        let changes = checks.map(|good| judge.take(good, &spec));
        assert_eq!(changes, [true, false, false, false, false, false, true, false, true, false]);
        assert_eq!(judge.pause(&spec), second);
        assert!(!judge.take(true, &spec));
        assert_eq!(judge.pause(&spec), 4 * second);
    }
}
