//! The admin interface: HTTP on a Unix-domain socket for the verbs of `cairn`, and on an address for scrapers and browsers,
//! where nothing can be changed. Not here: what is answered (`status`, `plan`, `reload`).

use std::io;
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::Listener;
use axum::{Json, Router, middleware};
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};

use super::prepare::is_same_file;
use super::secured::Secured;
use super::serving::{self, check_host, check_origin, check_token};
use super::{
    ConnectionsStatus, ControlRequest, EndpointOrder, Guard, GuardEnd, GuardError, MetricsFormat, Status, Verdict,
};
use super::{dashboard, events, tap};
use crate::config::{AdminHosts, AdminSpec};
use crate::event_log::{self, Level, log};
use crate::printable::printable;
use crate::tls::Acceptor;
use crate::uring;

/// The listening sockets of the admin interface.
#[derive(Debug)]
pub struct AdminListeners {
    tcp: Option<TcpListener>,
    hosts: Arc<AdminHosts>,
    /// Who asks at the address has to show it; None: nothing.
    token: Option<String>,
    /// TLS of the address; None: it is spoken to in the clear.
    tls: Option<Acceptor>,
    unix: Option<(UnixListener, PathBuf)>,
}

/// The admin interface cannot be opened where the configuration asks for it.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// With the kernel's reason.
    #[error("the admin interface cannot listen on {place}: {source}; change `{key}`, or turn it off with \"off\"")]
    Bind {
        /// Address or path.
        place: String,
        /// The key that names it.
        key: &'static str,
        /// The reason.
        source: io::Error,
    },
    /// A living process has the socket: the verbs would reach that one.
    #[error(
        "{holder} has the admin socket {path} already, and each needs one of its own: set `socket = \"/another/path\"` in [admin], or `socket = \"off\"`, or end that process first"
    )]
    Taken {
        /// The process.
        holder: String,
        /// Path of the socket.
        path: String,
    },
}

/// State that every handler of the admin interface shares.
#[derive(Clone, Debug)]
pub struct AdminState {
    /// Channel to the control thread.
    pub asks: mpsc::Sender<ControlRequest>,
    /// Whether `/ready` answers 200: false as soon as the process drains.
    pub ready: Arc<AtomicBool>,
    /// Whether all endpoints were checked for which `/ready` waits at the start.
    pub checked: Arc<AtomicBool>,
    /// Absolute path of the configuration that the process was started with; None: the demo.
    pub served: Option<PathBuf>,
}

/// Query parameters of `/reload`.
#[derive(Debug, Deserialize)]
struct ReloadQuery {
    /// Length of the guard, milliseconds.
    guard_ms: Option<String>,
    /// By how much the share of failures may rise, 0 to 1.
    threshold: Option<String>,
}

impl ReloadQuery {
    fn guard(&self) -> Result<Option<Guard>, GuardError> {
        let Some(window) = &self.guard_ms else { return Ok(None) };
        let milliseconds = window.parse().map_err(|_| GuardError::Window)?;
        let threshold = match &self.threshold {
            Some(text) => text.parse().map_err(|_| GuardError::Threshold)?,
            None => THRESHOLD,
        };
        Guard::new(Duration::from_millis(milliseconds), threshold).map(Some)
    }
}

/// Query parameters of `/plan`.
#[derive(Debug, Deserialize)]
struct PlanQuery {
    /// Absolute path of a configuration; None: the one that the process was started with.
    path: Option<PathBuf>,
}

/// Query parameter by which a verb names the configuration that it means: its absolute path.
pub const MEANT: &str = "config";

/// What to do instead of a reload of another file.
const RELOAD_CURE: &str = "; a reload reads the file that the process was started with: copy the other one over it, or let `cairn plan -c` \
                           say what that would change";

/// Default of `threshold`: the share by which failures may rise under guard.
const THRESHOLD: f64 = 0.05;

impl AdminListeners {
    /// Opens the sockets of `spec`. An address by default that cannot be bound is logged and left out: another cairn may have it.
    /// So is the default socket if its directory cannot be made, and, for the `demo`, if another process has it.
    ///
    /// # Errors
    /// An address that the configuration names cannot be bound, or the socket is another process's.
    pub async fn open(spec: &AdminSpec, demo: bool) -> Result<Self, AdminError> {
        let hosts = Arc::new(spec.hosts.clone());
        let tls = spec.tls.as_ref().map(Acceptor::new);
        let mut admin = Self { tcp: None, hosts, token: spec.token.clone(), tls, unix: None };
        if let Some(address) = spec.listen {
            let opened = TcpListener::bind(address).await;
            let fail = |source| AdminError::Bind { place: address.to_string(), key: "admin.listen", source };
            admin.tcp = without_default(opened.map_err(fail), spec.listen_is_default)?;
            if let Some(Ok(address)) = admin.tcp.as_ref().map(TcpListener::local_addr) {
                log(Level::Info, format_args!("admin on {address}"));
            }
        }
        if let Some(path) = &spec.socket {
            let own_path = path.clone();
            let make_folder = spec.socket_is_default;
            // Blocks: it waits for an answer of a process that may hold the socket.
            let task = tokio::task::spawn_blocking(move || open_socket(&own_path, make_folder));
            let bound = task.await.unwrap_or_else(|error| Err(io::Error::other(error)));
            let opened = match bound.and_then(UnixListener::from_std) {
                Ok(socket) => Ok(socket),
                Err(source) => Err(socket_error(path, source).await),
            };
            let may_lack = spec.socket_is_default && (demo || !matches!(opened, Err(AdminError::Taken { .. })));
            admin.unix = without_default(opened, may_lack)?.map(|socket| (socket, path.clone()));
            if admin.unix.is_some() {
                log(Level::Info, format_args!("admin on unix:{}", path.display()));
            }
        }
        Ok(admin)
    }

    /// Serves until `ending` becomes true and the last answer has been sent.
    pub async fn serve(self, state: AdminState, ending: watch::Receiver<bool>) {
        let public = async {
            let Some(listener) = self.tcp else { return };
            let hosts = self.hosts;
            let check = middleware::from_fn(move |request, next| check_host(Arc::clone(&hosts), request, next));
            let answers = read_only_paths(state.clone(), ending.clone()).merge(forbidden_paths());
            let token = self.token.map(Arc::from);
            let answers =
                answers.layer(middleware::from_fn(move |request, next| check_token(token.clone(), request, next)));
            // A browser can show no token before it has a page that asks for it.
            let answers = answers.merge(root()).layer(check);
            match self.tls {
                Some(tls) => serving::serve(Secured::new(listener, tls), answers, ending.clone()).await,
                None => serving::serve(listener, answers, ending.clone()).await,
            }
        };
        let private = async {
            let Some((listener, path)) = self.unix else { return };
            let _gone = RemoveSocketFile(path);
            let check = middleware::from_fn_with_state(state.served.clone(), check_meant);
            let answers = read_only_paths(state.clone(), ending.clone()).merge(command_paths(state.clone()));
            let answers = answers.merge(tap::path(state.clone(), ending.clone())).merge(root());
            let answers = answers.layer(check).layer(middleware::from_fn(check_origin));
            serving::serve(ForeignProcesses(listener), answers, ending.clone()).await;
        };
        tokio::join!(public, private);
    }
}

/// The admin socket, closed to this process itself: its connections carry requests of clients, and a tenant's endpoint may have
/// become a link to the socket after it was checked.
struct ForeignProcesses(UnixListener);

impl Listener for ForeignProcesses {
    type Io = UnixStream;
    type Addr = <UnixListener as Listener>::Addr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let own = i32::try_from(std::process::id()).ok();
        loop {
            let (stream, address) = Listener::accept(&mut self.0).await;
            let peer = stream.peer_cred().ok().and_then(|peer| peer.pid());
            if peer.is_none() || peer != own {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Listener::local_addr(&self.0)
    }
}

/// Removes the socket's file when dropped.
struct RemoveSocketFile(PathBuf);

impl Drop for RemoveSocketFile {
    fn drop(&mut self) {
        // An operator may have removed it already.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Why the admin socket could not be opened: a process that has it is named.
async fn socket_error(path: &Path, source: io::Error) -> AdminError {
    let place = path.display().to_string();
    let taken = source.kind() == io::ErrorKind::AddrInUse;
    let Some(held) = (if taken { UnixStream::connect(path).await.ok() } else { None }) else {
        return AdminError::Bind { place, key: "admin.socket", source };
    };
    // In another namespace of processes it has no id here.
    let pid = held.peer_cred().ok().and_then(|holder| holder.pid()).filter(|pid| *pid > 0);
    let holder = pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
    AdminError::Taken { holder, path: place }
}

/// Refuses requests of verbs that name another configuration than the one that is served: they mean another process. `plan`, which
/// compares configurations, names what it compares in another way.
async fn check_meant(State(served): State<Option<PathBuf>>, request: Request, next: Next) -> Response {
    let query = form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes());
    let meant = query.into_owned().find(|(name, _)| name == MEANT);
    let Some((_, meant)) = meant else { return next.run(request).await };
    let cure = if request.uri().path() == "/reload" { RELOAD_CURE } else { "" };
    let verb = request.uri().path().to_owned();
    let judge = move || {
        let served = served.as_deref();
        if served.is_some_and(|served| is_same_file(Path::new(&meant), served)) {
            return None;
        }
        let served = served.map_or_else(|| "the demo".to_owned(), |served| served.display().to_string());
        log(Level::Warn, format_args!("{verb} is refused: it means {}, and {served} is served", printable(&meant)));
        Some(format!("process {} serves {served}, not {meant}{cure}\n", std::process::id()))
    };
    // Blocks on the file system.
    match tokio::task::spawn_blocking(judge).await {
        Ok(None) => next.run(request).await,
        Ok(Some(problem)) => (StatusCode::CONFLICT, problem).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// `Ok(None)` if opening failed and the address is a default; the failure is logged.
fn without_default<T>(opened: Result<T, AdminError>, is_default: bool) -> Result<Option<T>, AdminError> {
    match opened {
        Ok(opened) => Ok(Some(opened)),
        Err(error) if is_default => {
            log(Level::Warn, format_args!("going on without: {error}"));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Binds a socket that only its owner may connect to. Replaces the file that a dead process left behind.
fn open_socket(path: &Path, make_folder: bool) -> io::Result<StdListener> {
    if let Some(folder) = path.parent().filter(|_| make_folder) {
        // If the folder cannot be made, `bind_private` fails and says why.
        let _ = std::fs::create_dir(folder);
    }
    let listener = StdListener::from(uring::bind_private(path)?);
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// What stands at the root: a page for browsers, and the paths for others. It tells nothing of the process.
fn root() -> Router {
    let answer = async |fields: HeaderMap| {
        if dashboard::is_wanted(&fields) {
            dashboard::page()
        } else {
            ([(header::VARY, "Accept")], HELP).into_response()
        }
    };
    Router::new().route("/", get(answer))
}

/// Paths that change nothing; served on the address and on the socket.
fn read_only_paths(state: AdminState, ending: watch::Receiver<bool>) -> Router {
    Router::new()
        .route("/live", get(async || "live\n"))
        .route("/ready", get(ready))
        .route("/status", get(async |State(state)| answer(&state, ControlRequest::Status).await.map(Json)))
        .route("/routes", get(async |State(state)| answer(&state, ControlRequest::Routes).await.map(Json)))
        .route("/clusters", get(async |State(state)| part(&state, |status| status.clusters).await))
        .route("/connections", get(async |State(state)| part(&state, ConnectionsStatus::of).await))
        .route("/certificates", get(async |State(state)| part(&state, |status| status.certificates).await))
        .route("/log-level", get(async || Json(LogLevel { level: event_log::least().name().to_owned() })))
        .route("/config", get(config))
        .route("/metrics", get(metrics))
        .with_state(state.clone())
        .merge(events::paths(state, ending))
}

/// Paths that change the process, or tell of single requests; served on the socket only.
fn command_paths(state: AdminState) -> Router {
    Router::new()
        .route("/reload", post(reload))
        .route(
            "/reload/accept",
            post(async |State(state): State<AdminState>| end_guard(&state, GuardEnd::Accept).await),
        )
        .route(
            "/reload/rollback",
            post(async |State(state): State<AdminState>| end_guard(&state, GuardEnd::RollBack).await),
        )
        .route("/plan", post(plan))
        .route("/endpoint", post(endpoint))
        .route("/log/reopen", post(reopen_log))
        .route("/log-level", post(set_log_level))
        .route("/why", get(why))
        .route("/recent", get(recent))
        .route("/drain", post(async |State(state)| answer(&state, ControlRequest::Drain).await))
        .with_state(state)
}

/// The paths of [`command_paths`], each answered 403, for the address.
fn forbidden_paths() -> Router {
    let refuse = || post(async || (StatusCode::FORBIDDEN, "only on the admin socket\n"));
    let paths =
        ["/reload", "/reload/accept", "/reload/rollback", "/plan", "/endpoint", "/log/reopen", "/log-level", "/drain"];
    let commands = paths.into_iter().fold(Router::new(), |router, path| router.route(path, refuse()));
    let private = || get(async || (StatusCode::FORBIDDEN, "only on the admin socket\n"));
    ["/why", "/recent", "/tap"].into_iter().fold(commands, |router, path| router.route(path, private()))
}

const HELP: &str = "\
cairn: /status /routes /clusters /connections /certificates /config /log-level /top /top/events /metrics /ready /live
on the admin socket also GET /why?id=REQUEST-ID /recent /tap and POST /reload /reload/accept /reload/rollback /plan /endpoint /log/reopen /log-level /drain
";

/// The answer when the control thread takes no requests any more: 503.
pub(super) struct ControlEnded;

impl IntoResponse for ControlEnded {
    fn into_response(self) -> Response {
        (StatusCode::SERVICE_UNAVAILABLE, "cairn is ending\n").into_response()
    }
}

/// The answer of the control thread to a request.
pub(super) async fn answer<T>(
    state: &AdminState,
    ask: impl FnOnce(oneshot::Sender<T>) -> ControlRequest,
) -> Result<T, ControlEnded> {
    let (reply, answer) = oneshot::channel();
    state.asks.send(ask(reply)).await.map_err(|_| ControlEnded)?;
    answer.await.map_err(|_| ControlEnded)
}

/// Query parameters of `/endpoint`.
#[derive(Debug, Deserialize)]
struct EndpointQuery {
    cluster: String,
    address: String,
    /// `drain`, `ready` or `weight`.
    order: String,
    /// 0 to 65535, for `weight`.
    weight: Option<u16>,
}

async fn endpoint(
    State(state): State<AdminState>,
    Query(query): Query<EndpointQuery>,
) -> Result<Response, ControlEnded> {
    let order = match (query.order.as_str(), query.weight) {
        ("drain", None) => EndpointOrder::Drain,
        ("ready", None) => EndpointOrder::Ready,
        ("weight", Some(weight)) => EndpointOrder::Weight(weight),
        _ => return Ok((StatusCode::BAD_REQUEST, "order is drain, ready, or weight with a weight\n").into_response()),
    };
    let ask = |reply| ControlRequest::Endpoint(query.cluster, query.address, order, reply);
    Ok(match answer(&state, ask).await? {
        Ok(done) => format!("{done}\n").into_response(),
        Err(problem) => (StatusCode::NOT_FOUND, format!("{problem}\n")).into_response(),
    })
}

/// A part of the state of the process.
async fn part<T: Serialize>(state: &AdminState, of: impl FnOnce(Status) -> T) -> Result<Json<T>, ControlEnded> {
    answer(state, ControlRequest::Status).await.map(|status| Json(of(status)))
}

/// What is said on stderr; also the query parameters that change it.
#[derive(Debug, Serialize, Deserialize)]
struct LogLevel {
    /// `info`, `warn` or `error`.
    level: String,
}

async fn set_log_level(Query(query): Query<LogLevel>) -> Response {
    let Some(level) = Level::ALL.into_iter().find(|level| level.name() == query.level) else {
        return (StatusCode::BAD_REQUEST, "level is info, warn or error\n").into_response();
    };
    log(Level::Warn, format_args!("log.level is {} until the next reload", level.name()));
    event_log::set_least(level);
    Json(query).into_response()
}

async fn reopen_log(State(state): State<AdminState>) -> Result<Response, ControlEnded> {
    Ok(match answer(&state, ControlRequest::ReopenLog).await? {
        Ok(done) => format!("{done}\n").into_response(),
        Err(problem) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{problem}\n")).into_response(),
    })
}

/// Query parameters of `/why`.
#[derive(Debug, Deserialize)]
struct WhyQuery {
    /// Identifier of the request.
    id: String,
}

async fn why(State(state): State<AdminState>, Query(query): Query<WhyQuery>) -> Result<Response, ControlEnded> {
    Ok(match answer(&state, |reply| ControlRequest::Why(query.id, reply)).await? {
        Ok(story) => Json(story).into_response(),
        Err(problem) => (StatusCode::NOT_FOUND, format!("{problem}\n")).into_response(),
    })
}

/// Requests of which `/recent` tells at most, and by default.
const RECENT_MAX: usize = 1000;
const RECENT: usize = 100;

/// Query parameters of `/recent`.
#[derive(Debug, Deserialize)]
struct RecentQuery {
    /// How many.
    limit: Option<usize>,
}

async fn recent(State(state): State<AdminState>, Query(query): Query<RecentQuery>) -> Result<Response, ControlEnded> {
    let count = query.limit.unwrap_or(RECENT).min(RECENT_MAX);
    let stories = answer(&state, |reply| ControlRequest::Recent(count, reply)).await?;
    Ok(Json(stories).into_response())
}

async fn ready(State(state): State<AdminState>) -> Response {
    if !state.ready.load(Ordering::Relaxed) {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response()
    } else if !state.checked.load(Ordering::Relaxed) {
        (StatusCode::SERVICE_UNAVAILABLE, "endpoints are being checked\n").into_response()
    } else {
        "ready\n".into_response()
    }
}

async fn metrics(State(state): State<AdminState>, fields: HeaderMap) -> Result<Response, ControlEnded> {
    let accepts = fields.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let format = MetricsFormat::accepted(&accepts.collect::<Vec<_>>().join(","));
    let text = answer(&state, |reply| ControlRequest::Metrics(format, reply)).await?;
    Ok(([(header::CONTENT_TYPE, format.content_type())], text).into_response())
}

async fn config(State(state): State<AdminState>) -> Result<Response, ControlEnded> {
    Ok(match answer(&state, ControlRequest::Config).await? {
        Ok(text) => text.into_response(),
        Err(problem) => (StatusCode::INTERNAL_SERVER_ERROR, problem).into_response(),
    })
}

async fn reload(State(state): State<AdminState>, Query(query): Query<ReloadQuery>) -> Result<Response, ControlEnded> {
    let guard = match query.guard() {
        Ok(guard) => guard,
        Err(problem) => return Ok((StatusCode::BAD_REQUEST, format!("{problem}\n")).into_response()),
    };
    let outcome = answer(&state, |reply| ControlRequest::Reload(guard, reply)).await?;
    let status = match outcome.verdict {
        Verdict::Applied | Verdict::Unchanged => StatusCode::OK,
        Verdict::Refused => StatusCode::UNPROCESSABLE_ENTITY,
        Verdict::RolledBack | Verdict::Stuck => StatusCode::CONFLICT,
    };
    Ok((status, Json(outcome)).into_response())
}

async fn end_guard(state: &AdminState, end: GuardEnd) -> Result<Response, ControlEnded> {
    let Some(outcome) = answer(state, |reply| ControlRequest::EndGuard(end, reply)).await? else {
        return Ok((StatusCode::CONFLICT, "no reload is under guard\n").into_response());
    };
    let status = if outcome.verdict == Verdict::Stuck { StatusCode::CONFLICT } else { StatusCode::OK };
    Ok((status, Json(outcome)).into_response())
}

async fn plan(State(state): State<AdminState>, Query(query): Query<PlanQuery>) -> Result<Response, ControlEnded> {
    Ok(match answer(&state, |reply| ControlRequest::Plan(query.path, reply)).await? {
        Ok(plan) => Json(plan).into_response(),
        Err(problem) => (StatusCode::UNPROCESSABLE_ENTITY, problem).into_response(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A second process went on without, and its verbs reached the first one.
    #[tokio::test]
    async fn the_default_socket_is_another_process_s_or_this_one_s() {
        let folder = tempfile::tempdir().unwrap();
        let spec = |path: PathBuf| AdminSpec {
            listen: None,
            listen_is_default: true,
            hosts: AdminHosts::Any,
            token: None,
            tls: None,
            socket: Some(path),
            socket_is_default: true,
        };
        let path = folder.path().join("cairn/admin.sock");
        let first = AdminListeners::open(&spec(path.clone()), false).await.unwrap();
        assert!(first.unix.is_some());
        let second = AdminListeners::open(&spec(path.clone()), false).await;
        let why = second.unwrap_err().to_string();
        let expected = format!("process {} has the admin socket {} already", std::process::id(), path.display());
        assert!(why.starts_with(&expected), "{why}");
        // The demo has no file in which another path could be set.
        assert!(AdminListeners::open(&spec(path), true).await.unwrap().unix.is_none());
        // Users that may not write there have no socket.
        let nowhere = folder.path().join("no/such/admin.sock");
        assert!(AdminListeners::open(&spec(nowhere), false).await.unwrap().unix.is_none());
        drop(first);
    }
}
