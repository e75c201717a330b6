//! The blocking part of a reload, on a thread of its own: reads and compiles a configuration, opens the sockets of its new
//! listeners, watches its files. It changes nothing that is served. Not here: applying the result (`reload`).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::watch::{self, WatchState, WatcherUpdate};
use super::{Control, plan};
use crate::access_log::{AccessLogSpec, Sink};
use crate::cluster::ClusterSpec;
use crate::config::{Config, FileStamps, Loader, TenantReport, TenantState, Watch};
use crate::limits::LISTENER_IDS;
use crate::listener::{self, BoundAddresses, Sockets};
use crate::runtime::Bell;
use crate::snapshot::{Ledger, Snapshot};
use crate::tls::Trust;

/// Nice value of the thread that reads and compiles.
const NICE: i32 = 10;

/// Makes snapshots out of files.
#[derive(Debug)]
pub struct Compiler {
    /// None for the demo, whose configuration is no file.
    loader: Option<Loader>,
    ledger: Ledger,
    bell: Bell,
}

/// What [`Compiler::prepare`] is to do.
#[derive(Debug)]
pub(super) enum Request {
    /// Begin to watch the files that were read at the start.
    Watch,
    /// Load the files; a configuration equal to the one rolled back does not count as new.
    Load { rolled_back_config: Option<Arc<Config>> },
    /// Go back to this configuration.
    Restore(Arc<Config>),
}

/// What the process serves when preparation begins.
#[derive(Debug)]
pub(super) struct ServingState {
    pub(super) config: Arc<Config>,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) bound: BoundAddresses,
    /// Open connections of each listener, by its name.
    pub(super) connections: Vec<(String, u64)>,
    pub(super) workers: usize,
    pub(super) watch_state: Option<WatchState>,
}

/// The result of [`Compiler::prepare`]. Gives the compiler back.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) compiler: Compiler,
    pub(super) result: Result<Outcome, String>,
    pub(super) watch: WatcherUpdate,
}

/// Whether there is another configuration to serve.
#[derive(Debug)]
pub(super) enum Outcome {
    /// None was asked for, or only the one that was rolled back was found.
    Nothing,
    /// The files hold the configuration that is served.
    Same(Arc<Config>),
    /// The files hold another configuration.
    New(Box<NewConfig>),
}

/// A configuration that is ready to be applied by workers.
#[derive(Debug)]
pub(super) struct NewConfig {
    pub(super) config: Config,
    pub(super) snapshot: Snapshot,
    /// Sockets of the new listeners, by worker.
    pub(super) sockets: Vec<Sockets>,
    pub(super) bound: BoundAddresses,
    /// Where the access log is written, if that has changed.
    pub(super) log_sink: Option<Sink>,
    /// The changes, as text.
    pub(super) summary: String,
}

impl Compiler {
    /// A compiler of what `loader` loads.
    #[must_use]
    pub fn new(loader: Option<Loader>) -> Self {
        Self { loader, ledger: Ledger::default(), bell: Bell::default() }
    }

    /// Prepares for a process with so many workers, before anything is compiled.
    pub fn serve_with(&mut self, workers: usize) {
        self.ledger = Ledger::new(workers, self.bell.clone());
    }

    /// What workers ring when an endpoint has failed too often.
    pub(super) fn bell(&self) -> Bell {
        self.bell.clone()
    }

    /// Compiles a configuration that was loaded.
    ///
    /// # Errors
    /// Problems that only compiling finds.
    pub fn compile(&mut self, config: &Config, version: u64) -> Result<Snapshot, String> {
        config.compile(version, &mut self.ledger).map_err(|report| report.to_string())
    }

    /// Reads the files as they are now.
    fn load(&mut self) -> Result<Config, String> {
        let Some(loader) = &mut self.loader else { return Err("the demo has no file to reload".to_owned()) };
        loader.load().map_err(|report| report.to_string())
    }

    /// A copy of the loader, with the tenants' last good versions.
    pub(super) fn plan_loader(&self) -> Option<Loader> {
        self.loader.clone()
    }

    /// Absolute path of the configuration, as it was given; None: the demo.
    #[must_use]
    pub fn path(&self) -> Option<PathBuf> {
        self.loader.as_ref().map(absolute_path)
    }

    fn file_stamps(&self) -> Option<&FileStamps> {
        self.loader.as_ref().map(Loader::file_stamps)
    }

    /// Does what `request` says. Blocks on file systems and name servers, without a bound.
    pub(super) fn prepare(mut self, request: Request, serving: &ServingState) -> Prepared {
        // Workers on the same CPU come first. The nice value is the thread's own (setpriority(2), notes).
        let _ = rustix::process::setpriority_process(None, NICE);
        // A panic must not take the ledger along: its ids are in use.
        let result = catch_unwind(AssertUnwindSafe(|| match &request {
            Request::Watch => Ok(Outcome::Nothing),
            Request::Load { rolled_back_config } => self.load().and_then(|config| match rolled_back_config {
                Some(rolled_back_config) if config.same(rolled_back_config) => Ok(Outcome::Nothing),
                _ => self.ready(config, serving),
            }),
            Request::Restore(config) => self.ready(Config::clone(config), serving),
        }));
        let result = result.unwrap_or_else(|_| Err("cairn itself failed; see the panic above".to_owned()));
        let how = match &result {
            Ok(Outcome::Same(config)) => config.watch,
            Ok(Outcome::New(new)) => new.config.watch,
            Ok(Outcome::Nothing) | Err(_) => serving.config.watch,
        };
        let watch = match self.file_stamps() {
            Some(file_stamps) => watch::update_watcher(how, file_stamps, serving.watch_state.as_ref()),
            None => watch::update_watcher(Watch::Off, &FileStamps::default(), None),
        };
        Prepared { compiler: self, result, watch }
    }

    fn ready(&mut self, config: Config, serving: &ServingState) -> Result<Outcome, String> {
        if config.same(&serving.config) {
            return Ok(Outcome::Same(Arc::new(config)));
        }
        let snapshot = self.compile(&config, serving.snapshot.version + 1)?;
        if snapshot.listeners().any(|(id, _)| id.index() >= LISTENER_IDS) {
            return Err("too many removed listeners still have connections; try again when they have ended".to_owned());
        }
        let new = snapshot.listeners().filter(|(id, _)| !serving.snapshot.has_listener(*id));
        let opened = listener::open(new, serving.workers, &serving.bound);
        let (sockets, bound) = opened.map_err(|error| error.to_string())?;
        let kept = snapshot.listeners().filter(|(id, _)| serving.snapshot.has_listener(*id));
        for (_, it) in kept.filter(|(id, it)| serving.snapshot.listener(*id).options != it.options) {
            listener::permit(it).map_err(|error| error.to_string())?;
        }
        let log = snapshot.access_log.as_ref().filter(|_| snapshot.access_log != serving.snapshot.access_log);
        let log_sink = log.map(AccessLogSpec::open).transpose().map_err(|error| error.to_string())?;
        let summary = plan::difference(&serving.config, &config, &|name| serving.connections(name)).summary();
        Ok(Outcome::New(Box::new(NewConfig { config, snapshot, sockets, bound, log_sink, summary })))
    }
}

impl ServingState {
    /// Open connections of the listener `name`.
    pub(super) fn connections(&self, name: &str) -> u64 {
        let found = self.connections.iter().find(|(known, _)| known == name);
        found.map_or(0, |(_, count)| *count)
    }
}

impl Control {
    /// What is served now; None before the first snapshot.
    pub(super) fn serving_state(&self) -> Option<ServingState> {
        let snapshot = Arc::clone(self.snapshots.last()?);
        let open = |id| self.workers.iter().map(|worker| worker.counters.connections(id)).sum();
        let connections = snapshot.listeners().map(|(id, listener)| (listener.name.clone(), open(id))).collect();
        Some(ServingState {
            config: Arc::clone(&self.config),
            snapshot,
            bound: self.bound.clone(),
            connections,
            workers: self.workers.len(),
            watch_state: self.watcher.as_ref().map(watch::Watcher::watch_state),
        })
    }
}

/// Tenants whose state or problems differ from those in `old`: (name, text).
pub(super) fn tenant_changes(old: &Config, new: &Config) -> Vec<(String, String)> {
    let text = |report: &TenantReport| report.problems.as_ref().map(ToString::to_string);
    let same = |a: &TenantReport, b: &TenantReport| a.name == b.name && a.state == b.state && text(a) == text(b);
    let news = new.tenants.iter().filter(|tenant| !old.tenants.iter().any(|known| same(known, tenant)));
    news.map(tenant_news).collect()
}

/// Name of a tenant, and its state with the problems of its file.
fn tenant_news(tenant: &TenantReport) -> (String, String) {
    let so = match tenant.state {
        TenantState::Live => "",
        TenantState::Stale => ", its last good version is served",
        TenantState::Absent => ", its claims are answered 503",
    };
    let problems = tenant.problems.as_ref().map(ToString::to_string).unwrap_or_default();
    (tenant.name.clone(), format!("is {}{so}\n{problems}", tenant.state))
}

/// The tenants of `config` whose files have problems, each with these.
#[must_use]
pub fn tenant_complaints(config: &Config) -> Vec<String> {
    let broken = config.tenants.iter().filter(|tenant| tenant.problems.is_some()).map(tenant_news);
    broken.map(|(name, news)| format!("tenant {name} {}", news.trim_end())).collect()
}

/// The clusters of `config` that take any certificate, and did not in `before`, each with a warning.
#[must_use]
pub fn insecure_clusters(before: Option<&Config>, config: &Config) -> Vec<String> {
    let insecure = |it: &&ClusterSpec| it.tls.as_ref().is_some_and(|tls| tls.trust == Trust::Anyone);
    let known = |name: &str| {
        let mut clusters = before.into_iter().flat_map(|before| &before.snapshot.clusters);
        clusters.any(|it| it.name == name && insecure(&it))
    };
    let new = config.snapshot.clusters.iter().filter(insecure).filter(|it| !known(&it.name));
    new.map(|it| format!("cluster {} takes any certificate (`insecure`): its endpoints are not authenticated", it.name))
        .collect()
}

/// Absolute path of what `loader` loads.
pub(super) fn absolute_path(loader: &Loader) -> PathBuf {
    std::path::absolute(loader.path()).unwrap_or_else(|_| loader.path().to_owned())
}

/// Whether two paths lead to the same file or directory now. May block.
pub(super) fn is_same_file(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    one == other || real(one).is_some_and(|real_one| Some(real_one) == real(other))
}

/// The loader for a plan of `path`: `plan_loader`, unless `path` is another configuration. May block.
pub(super) fn loader_for(plan_loader: Option<Loader>, path: Option<PathBuf>) -> Option<Loader> {
    let same = |loader: &Loader| path.as_ref().is_none_or(|path| is_same_file(path, &absolute_path(loader)));
    plan_loader.filter(same).or_else(|| path.map(Loader::new))
}
