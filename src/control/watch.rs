//! Notices that files of the configuration have changed: told by inotify(7), or by looking. Watched are the directories that
//! lead to the files, not the files, so that one that is renamed into place is seen, and a link that is switched on the way.
//! Not here: what leads to them, and reading them (`config`).

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use notify::{ErrorKind, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::config::{Seen, Trace, Watch};
use crate::event_log::say;

/// How long nothing may happen before what happened is looked at: an editor or a copy makes several events.
const QUIET: Duration = Duration::from_millis(200);
/// How long that may be put off by further events.
const QUIET_MAX: Duration = Duration::from_secs(2);
/// How often files are looked at where nothing tells of changes.
const POLL: Duration = Duration::from_secs(1);

/// Eyes on the files of one configuration. Every wait can be given up and taken up again.
#[derive(Debug)]
pub(super) enum Watcher {
    /// The kernel tells.
    Notified(Notified),
    /// They are looked at.
    Polled(Polled),
}

#[derive(Debug)]
pub(super) struct Notified {
    /// It ends when this is dropped.
    _watcher: RecommendedWatcher,
    trace: Arc<Trace>,
    events: mpsc::Receiver<()>,
    /// When something happened that was not acted on yet: first, and last.
    pending: Option<(Instant, Instant)>,
}

#[derive(Debug)]
pub(super) struct Polled {
    seen: Arc<Seen>,
    /// A file had been written so shortly before it was read that the next change could look like none: it is read once more.
    fresh: bool,
    next: Instant,
    /// A look, beside the control thread: a file system on the network may keep it waiting.
    look: Option<JoinHandle<bool>>,
}

/// What becomes of the watcher after a load.
#[derive(Debug)]
pub(super) enum Renewed {
    /// It watches what it should.
    Kept,
    /// Another takes its place, or none. `changed`: a file has changed since the load looked at it, which nobody tells of.
    Replaced { watcher: Option<Watcher>, changed: bool },
}

/// Sees to it that what a load has `seen` is watched as `how` says; `watched` is what is watched so far. Every change after a file
/// was looked at is noticed: by what watched it before, or by the comparison that follows the beginning of the watch.
pub(super) fn renew(how: Watch, seen: &Seen, watched: Option<&Watched>) -> Renewed {
    if seen.is_empty() || how == Watch::Off {
        return Renewed::Replaced { watcher: None, changed: false };
    }
    let polled = || Watcher::Polled(Polled::new(seen.clone()));
    if how == Watch::Poll {
        return Renewed::Replaced { watcher: Some(polled()), changed: false };
    }
    let leads = seen.trace();
    if matches!(watched, Some(Watched::Trace(trace)) if **trace == leads) {
        return Renewed::Kept;
    }
    match Notified::new(leads) {
        Ok(watcher) => {
            // What leads to the files may have changed before it was watched.
            let changed = seen.has_changed() || seen.trace() != *watcher.trace;
            Renewed::Replaced { watcher: Some(Watcher::Notified(watcher)), changed }
        }
        Err(error) => {
            if !matches!(watched, Some(Watched::Polled)) {
                say(format_args!(
                    "cannot be told of changes of the configuration: {error}; it is looked at every {POLL:?} instead"
                ));
            }
            Renewed::Replaced { watcher: Some(polled()), changed: false }
        }
    }
}

/// Waits for a change; for ever without a watcher.
pub(super) async fn changed(watcher: &mut Option<Watcher>) {
    match watcher {
        Some(Watcher::Notified(watcher)) => watcher.changed().await,
        Some(Watcher::Polled(watcher)) => watcher.changed().await,
        None => std::future::pending().await,
    }
}

/// What a watcher does.
#[derive(Debug)]
pub(super) enum Watched {
    /// It is told of changes of this.
    Trace(Arc<Trace>),
    /// It looks.
    Polled,
}

impl Watcher {
    /// What it does.
    pub(super) fn watched(&self) -> Watched {
        match self {
            Self::Notified(watcher) => Watched::Trace(Arc::clone(&watcher.trace)),
            Self::Polled(_) => Watched::Polled,
        }
    }
}

impl Notified {
    fn new(trace: Trace) -> notify::Result<Self> {
        // One event that waits says as much as many.
        let (sender, events) = mpsc::channel(1);
        let trace = Arc::new(trace);
        let concerned = Arc::clone(&trace);
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if is_change(&event, &concerned) {
                let _ = sender.try_send(());
            }
        })?;
        for directory in trace.directories() {
            match watcher.watch(directory, RecursiveMode::NonRecursive) {
                // Gone since: the comparison that follows sees it.
                Err(error) if matches!(error.kind, ErrorKind::PathNotFound) => {}
                watched => watched?,
            }
        }
        Ok(Self { _watcher: watcher, trace, events, pending: None })
    }

    async fn changed(&mut self) {
        loop {
            let Some((first, last)) = self.pending else {
                if self.events.recv().await.is_none() {
                    return std::future::pending().await;
                }
                let now = Instant::now();
                self.pending = Some((now, now));
                continue;
            };
            match timeout_at((last + QUIET).min(first + QUIET_MAX), self.events.recv()).await {
                Ok(Some(())) => self.pending = Some((first, Instant::now())),
                Ok(None) | Err(_) => {
                    self.pending = None;
                    return;
                }
            }
        }
    }
}

/// Reading is no change; what cannot be told, such as an overflow of the kernel's queue, is one.
fn is_change(event: &notify::Result<notify::Event>, trace: &Trace) -> bool {
    let Ok(event) = event else { return true };
    let read = matches!(event.kind, EventKind::Access(_));
    event.need_rescan() || !read && event.paths.iter().any(|path| trace.concerns(path))
}

impl Polled {
    fn new(seen: Seen) -> Self {
        let fresh = seen.is_fresh(SystemTime::now());
        Self { seen: Arc::new(seen), fresh, next: Instant::now() + POLL, look: None }
    }

    async fn changed(&mut self) {
        loop {
            let Some(look) = &mut self.look else {
                sleep_until(self.next).await;
                let (seen, fresh) = (Arc::clone(&self.seen), self.fresh);
                self.look = Some(spawn_blocking(move || fresh || seen.has_changed()));
                continue;
            };
            let changed = look.await.unwrap_or(false);
            self.look = None;
            self.next = Instant::now() + POLL;
            if changed {
                return;
            }
        }
    }
}
