//! Reading the configuration again, and serving it in place of the old one. Not here: when (`watch`, `admin`, signals).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fmt, fs};

use serde::{Deserialize, Serialize};

use super::guard::{Guard, Guarded};
use super::watch::Watcher;
use super::{Control, Reply, plan};
use crate::config::{Config, Loader, TenantReport, TenantState};
use crate::event_log::say;
use crate::id::Address;
use crate::limits::LISTENER_IDS;
use crate::listener;
use crate::snapshot::{Ledger, Snapshot};
use crate::worker::Letter;

/// How long workers get to adopt a snapshot before that is complained about; they do it between two turns.
const ADOPTION: Duration = Duration::from_secs(5);
/// How nice the thread is that reads and compiles.
const NICE: i32 = 10;
/// How often it is looked whether they have.
const ADOPTION_STEP: Duration = Duration::from_millis(1);

/// What makes snapshots out of files.
#[derive(Debug)]
pub struct Compiler {
    /// None: the configuration is the demo's, which is no file.
    loader: Option<Loader>,
    ledger: Ledger,
}

/// What became of a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The new configuration is served.
    Applied,
    /// It says the same as the one that is served.
    Unchanged,
    /// It has errors, or its listeners cannot be opened; the old one is served on.
    Refused,
    /// It was served, and then taken back by its guard.
    RolledBack,
    /// Its guard wanted to take it back and could not.
    Stuck,
}

/// The answer to a reload.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reloaded {
    /// What became of it.
    pub verdict: Verdict,
    /// Version of the configuration that is served now.
    pub version: u64,
    /// What changed, or why nothing did.
    pub message: String,
    /// Tenants whose file fares otherwise than before, each with what is wrong with it.
    pub tenants: Vec<String>,
}

impl Reloaded {
    /// Whether what was asked for holds.
    #[must_use]
    pub fn is_good(&self) -> bool {
        matches!(self.verdict, Verdict::Applied | Verdict::Unchanged)
    }
}

impl fmt::Display for Reloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { verdict, version, message, tenants } = self;
        match verdict {
            Verdict::Applied => write!(f, "reloaded, version {version}: {message}"),
            Verdict::Unchanged => write!(f, "nothing has changed, version {version}"),
            Verdict::Refused => write!(f, "the reload is refused, version {version} is served on:\n{message}"),
            Verdict::Stuck => write!(f, "the reload cannot be rolled back, version {version} is served on: {message}"),
            Verdict::RolledBack => {
                write!(f, "the reload is rolled back, version {version} serves as before: {message}")
            }
        }?;
        tenants.iter().try_for_each(|tenant| write!(f, "\n{}", tenant.trim_end()))
    }
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

    /// Every file that a change of should be noticed.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        self.loader.as_ref().map(|loader| loader.files().to_vec()).unwrap_or_default()
    }

    /// A second loader, for a look at what a reload would find: one that knows the tenants' last good versions, unless `path` is
    /// another configuration.
    pub(super) fn scout(&self, path: Option<PathBuf>) -> Option<Loader> {
        let same = |loader: &&Loader| {
            path.as_ref().is_none_or(|path| fs::canonicalize(path).ok() == fs::canonicalize(loader.path()).ok())
        };
        self.loader.as_ref().filter(same).cloned().or_else(|| path.map(Loader::new))
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

impl Control {
    /// Reads the configuration again and serves it.
    pub(super) async fn reload(&mut self) -> Reloaded {
        if let Some(guarded) = &self.guarded {
            let message = format!("a reload under guard ends in {:?} at the latest; ask again then", guarded.left());
            return Reloaded { verdict: Verdict::Refused, version: self.version(), message, tenants: Vec::new() };
        }
        // What changes from here on is noticed, even while the files are read.
        self.watcher.iter_mut().for_each(Watcher::note);
        let before = Arc::clone(&self.config);
        let mut outcome = match self.with_compiler(Compiler::load).await {
            Ok(config) if config.same(&self.config) => {
                // What became of a tenant's file may have changed all the same.
                self.config = Arc::new(config);
                self.tally.unchanged += 1;
                Reloaded {
                    verdict: Verdict::Unchanged,
                    version: self.version(),
                    message: String::new(),
                    tenants: Vec::new(),
                }
            }
            Ok(config) => match self.serve(config).await {
                Ok(message) => {
                    self.tally.applied += 1;
                    self.tally.problem = None;
                    Reloaded { verdict: Verdict::Applied, version: self.version(), message, tenants: Vec::new() }
                }
                Err(problem) => self.refused(problem),
            },
            Err(problem) => self.refused(problem),
        };
        let news = tenant_news(&before, &self.config).into_iter();
        outcome.tenants = news.map(|(name, news)| format!("tenant {name} {news}")).collect();
        self.rewatch();
        outcome
    }

    /// The same because files have changed; that nothing changed in what they say is not worth a word.
    pub(super) async fn reload_changed(&mut self) {
        self.put_off = self.guarded.is_some();
        if self.put_off {
            return;
        }
        let outcome = self.reload().await;
        if outcome.verdict != Verdict::Unchanged || !outcome.tenants.is_empty() {
            say(format_args!("files have changed: {outcome}"));
        }
    }

    /// The same because an operator asked for it, who may want a guard.
    pub(super) async fn reload_asked(&mut self, guard: Option<Guard>, reply: Reply<Reloaded>) {
        let (before, base) = (Arc::clone(&self.config), self.history.rates());
        let outcome = self.reload().await;
        say(&outcome);
        match guard.filter(|_| outcome.verdict == Verdict::Applied) {
            Some(guard) => self.guarded = Some(Guarded::new(guard, before, base, self.sample(), outcome, reply)),
            // Who asked may be gone.
            None => drop(reply.send(outcome)),
        }
    }

    /// Compiles and publishes; on failure nothing has changed. Returns what did change, in words.
    pub(super) async fn serve(&mut self, config: Config) -> Result<String, String> {
        let version = self.version() + 1;
        let (config, snapshot) = self
            .with_compiler(move |compiler| {
                let snapshot = compiler.compile(&config, version);
                snapshot.map(|snapshot| (config, snapshot))
            })
            .await?;
        let plan = plan::difference(&self.config, &config, &|name| self.connections(name));
        self.publish(snapshot).await?;
        self.config = Arc::new(config);
        Ok(plan.summary())
    }

    /// Sends a snapshot to every worker, with the sockets of its new listeners, and waits until all have adopted it.
    async fn publish(&mut self, snapshot: Snapshot) -> Result<(), String> {
        let (snapshot, before) = (Arc::new(snapshot), self.snapshot().map(Arc::clone));
        let known = |id| before.as_ref().is_some_and(|before| before.has_listener(id));
        if snapshot.listeners().any(|(id, _)| id.index() >= LISTENER_IDS) {
            return Err("too many removed listeners still have connections; try again when they have ended".to_owned());
        }
        let new = snapshot.listeners().filter(|(id, _)| !known(*id));
        let opened = listener::open(new, self.workers.len(), &self.bound);
        let (sockets, bound) = opened.map_err(|error| error.to_string())?;
        for (id, address) in &bound {
            say(format_args!("listener {} on {address}", snapshot.listener(*id).name));
        }
        for (worker, sockets) in self.workers.iter().zip(sockets) {
            worker.send(Letter { snapshot: Arc::clone(&snapshot), sockets });
        }
        let (stay, leave) = std::mem::take(&mut self.bound).into_iter().partition(|(id, _)| snapshot.has_listener(*id));
        self.bound = stay;
        self.bound.extend(bound);
        let version = snapshot.version;
        self.snapshots.push(snapshot);
        self.adopted(version).await;
        for (_, address) in leave {
            say(format_args!("no listener on {address} any more"));
            if let Address::Unix(path) = address {
                // A file that is left behind does no harm: nobody answers there.
                let _ = fs::remove_file(path);
            }
        }
        self.collect();
        Ok(())
    }

    /// Waits until every worker serves under `version`.
    async fn adopted(&self, version: u64) {
        let begun = Instant::now();
        while self.workers.iter().any(|worker| worker.counters.version.get() < version) {
            if begun.elapsed() > ADOPTION {
                return say(format_args!(
                    "a worker has not taken version {version} for {ADOPTION:?}; it will when its turn ends"
                ));
            }
            tokio::time::sleep(ADOPTION_STEP).await;
        }
    }

    /// Runs what may block, such as reading files or asking for names, beside the control thread.
    async fn with_compiler<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Compiler) -> Result<T, String> + Send + 'static,
    ) -> Result<T, String> {
        let Some(mut compiler) = self.compiler.take() else { return Err("a reload is under way".to_owned()) };
        let done = tokio::task::spawn_blocking(move || {
            // Requests come first where there is a worker on every CPU. Threads have their own (setpriority(2), notes).
            let _ = rustix::process::setpriority_process(None, NICE);
            // The ids in the ledger have to outlive a defect of ours.
            let outcome = catch_unwind(AssertUnwindSafe(|| work(&mut compiler)));
            (compiler, outcome.unwrap_or_else(|_| Err("cairn itself failed; see the panic above".to_owned())))
        });
        let (compiler, outcome) = done.await.map_err(|error| error.to_string())?;
        self.compiler = Some(compiler);
        outcome
    }

    fn refused(&mut self, problem: String) -> Reloaded {
        self.tally.refused += 1;
        self.tally.problem = Some(problem.clone());
        Reloaded { verdict: Verdict::Refused, version: self.version(), message: problem, tenants: Vec::new() }
    }

    /// Of the configuration that is served.
    pub(super) fn version(&self) -> u64 {
        self.snapshot().map_or(0, |snapshot| snapshot.version)
    }
}
