//! What runs beside the control thread because it may block: reading and compiling a configuration, opening the sockets of its
//! new listeners, watching its files. It changes nothing that is served. Not here: serving what came of it (`reload`).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;

use super::watch::{self, Renewed, Watched};
use super::{Control, plan};
use crate::config::{Config, Loader, Seen, TenantReport, TenantState, Watch};
use crate::limits::LISTENER_IDS;
use crate::listener::{self, Bound, Sockets};
use crate::snapshot::{Ledger, Snapshot};

/// How nice the thread is that reads and compiles.
const NICE: i32 = 10;

/// What makes snapshots out of files.
#[derive(Debug)]
pub struct Compiler {
    /// None: the configuration is the demo's, which is no file.
    loader: Option<Loader>,
    ledger: Ledger,
}

/// What is asked for.
#[derive(Debug)]
pub(super) enum Request {
    /// To begin to watch the files that were read at the start.
    Watch,
    /// What the files say now; but not what was taken back.
    Load { taken_back: Option<Arc<Config>> },
    /// This configuration.
    Restore(Arc<Config>),
}

/// What was served when it began.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) config: Arc<Config>,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) bound: Bound,
    /// Open connections of each listener, by its name.
    pub(super) connections: Vec<(String, u64)>,
    pub(super) workers: usize,
    pub(super) watched: Option<Watched>,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) compiler: Compiler,
    pub(super) result: Result<Ready, String>,
    pub(super) watch: Renewed,
}

#[derive(Debug)]
pub(super) enum Ready {
    /// There is nothing else to serve.
    Nothing,
    /// The files say what is served.
    Same(Arc<Config>),
    /// They say something else.
    New(Box<New>),
}

/// A configuration that workers can go over to at once.
#[derive(Debug)]
pub(super) struct New {
    pub(super) config: Config,
    pub(super) snapshot: Snapshot,
    /// Of the new listeners, by worker.
    pub(super) sockets: Vec<Sockets>,
    pub(super) bound: Bound,
    /// What changes, in words.
    pub(super) summary: String,
}

impl Compiler {
    /// For the configuration at `loader`'s path.
    #[must_use]
    pub fn new(loader: Option<Loader>) -> Self {
        Self { loader, ledger: Ledger::default() }
    }

    /// Compiles a configuration that was loaded.
    ///
    /// # Errors
    /// What only compiling finds.
    pub fn compile(&mut self, config: &Config, version: u64) -> Result<Snapshot, String> {
        config.compile(version, &mut self.ledger).map_err(|report| report.to_string())
    }

    /// Reads what the files say now.
    fn load(&mut self) -> Result<Config, String> {
        let Some(loader) = &mut self.loader else { return Err("the demo has no file to reload".to_owned()) };
        loader.load().map_err(|report| report.to_string())
    }

    /// Another loader that knows the tenants' last good versions.
    pub(super) fn scout(&self) -> Option<Loader> {
        self.loader.clone()
    }

    fn seen(&self) -> Option<&Seen> {
        self.loader.as_ref().map(Loader::seen)
    }

    /// Does what is asked for. May block for as long as file systems and name servers like.
    pub(super) fn prepare(mut self, request: Request, served: &Served) -> Prepared {
        // Requests come first where there is a worker on every CPU. Threads have their own (setpriority(2), notes).
        let _ = rustix::process::setpriority_process(None, NICE);
        // The ids in the ledger have to outlive a defect of ours.
        let result = catch_unwind(AssertUnwindSafe(|| match &request {
            Request::Watch => Ok(Ready::Nothing),
            Request::Load { taken_back } => self.load().and_then(|config| match taken_back {
                Some(taken_back) if config.same(taken_back) => Ok(Ready::Nothing),
                _ => self.ready(config, served),
            }),
            Request::Restore(config) => self.ready(Config::clone(config), served),
        }));
        let result = result.unwrap_or_else(|_| Err("cairn itself failed; see the panic above".to_owned()));
        let how = match &result {
            Ok(Ready::Same(config)) => config.watch,
            Ok(Ready::New(new)) => new.config.watch,
            Ok(Ready::Nothing) | Err(_) => served.config.watch,
        };
        let watch = match self.seen() {
            Some(seen) => watch::renew(how, seen, served.watched.as_ref()),
            None => watch::renew(Watch::Off, &Seen::default(), None),
        };
        Prepared { compiler: self, result, watch }
    }

    fn ready(&mut self, config: Config, served: &Served) -> Result<Ready, String> {
        if config.same(&served.config) {
            return Ok(Ready::Same(Arc::new(config)));
        }
        let snapshot = self.compile(&config, served.snapshot.version + 1)?;
        if snapshot.listeners().any(|(id, _)| id.index() >= LISTENER_IDS) {
            return Err("too many removed listeners still have connections; try again when they have ended".to_owned());
        }
        let new = snapshot.listeners().filter(|(id, _)| !served.snapshot.has_listener(*id));
        let opened = listener::open(new, served.workers, &served.bound);
        let (sockets, bound) = opened.map_err(|error| error.to_string())?;
        let summary = plan::difference(&served.config, &config, &|name| served.connections(name)).summary();
        Ok(Ready::New(Box::new(New { config, snapshot, sockets, bound, summary })))
    }
}

impl Served {
    /// Open connections of the listener of that name.
    pub(super) fn connections(&self, name: &str) -> u64 {
        let found = self.connections.iter().find(|(known, _)| known == name);
        found.map_or(0, |(_, count)| *count)
    }
}

impl Control {
    /// What is served now; None before anything is.
    pub(super) fn served(&self) -> Option<Served> {
        let snapshot = Arc::clone(self.snapshots.last()?);
        let open = |id| self.workers.iter().map(|worker| worker.counters.connections(id)).sum();
        let connections = snapshot.listeners().map(|(id, listener)| (listener.name.clone(), open(id))).collect();
        Some(Served {
            config: Arc::clone(&self.config),
            snapshot,
            bound: self.bound.clone(),
            connections,
            workers: self.workers.len(),
            watched: self.watcher.as_ref().map(watch::Watcher::watched),
        })
    }
}

/// What became of tenants' files since `old`.
pub(super) fn tenant_news(old: &Config, new: &Config) -> Vec<(String, String)> {
    let text = |report: &TenantReport| report.problems.as_ref().map(ToString::to_string);
    let same = |a: &TenantReport, b: &TenantReport| a.name == b.name && a.state == b.state && text(a) == text(b);
    let news = new.tenants.iter().filter(|tenant| !old.tenants.iter().any(|known| same(known, tenant)));
    let line = |tenant: &TenantReport| {
        let so = match tenant.state {
            TenantState::Live => "",
            TenantState::Stale => ", its last good version is served",
            TenantState::Absent => ", its claims are answered 503",
        };
        (tenant.name.clone(), format!("is {}{so}\n{}", tenant.state, text(tenant).unwrap_or_default()))
    };
    news.map(line).collect()
}

/// A loader for a look at what a reload of `path` would find: `scout`, unless `path` is another configuration. May block.
pub(super) fn loader_for(scout: Option<Loader>, path: Option<PathBuf>) -> Option<Loader> {
    let real = |path: &std::path::Path| std::fs::canonicalize(path).ok();
    let same = |loader: &Loader| path.as_ref().is_none_or(|path| real(path) == real(loader.path()));
    scout.filter(same).or_else(|| path.map(Loader::new))
}
