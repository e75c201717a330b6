//! Notices that files of the configuration have changed: told by inotify(7), or by looking. Watched are the directories that
//! lead to the files, not the files, so that one that is renamed into place is seen, and a link that is switched on the way.
//! Not here: what leads to them, and reading them (`config`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
    /// See [`Watched::Trace`].
    lost: Arc<AtomicBool>,
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
    if let Some(Watched::Trace { trace, lost }) = watched
        && **trace == leads
        && !lost.load(Ordering::Acquire)
    {
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
    /// It is told of changes of this; `lost`: perhaps not of all any more, and the next load has to begin another watch. Whoever sets
    /// it makes an event as well, so that there is a next load.
    Trace { trace: Arc<Trace>, lost: Arc<AtomicBool> },
    /// It looks.
    Polled,
}

impl Watcher {
    /// What it does.
    pub(super) fn watched(&self) -> Watched {
        match self {
            Self::Notified(watcher) => {
                Watched::Trace { trace: Arc::clone(&watcher.trace), lost: Arc::clone(&watcher.lost) }
            }
            Self::Polled(_) => Watched::Polled,
        }
    }
}

impl Notified {
    fn new(trace: Trace) -> notify::Result<Self> {
        // One event that waits says as much as many.
        let (sender, events) = mpsc::channel(1);
        let (trace, lost) = (Arc::new(trace), Arc::new(AtomicBool::new(false)));
        let (concerned, losing) = (Arc::clone(&trace), Arc::clone(&lost));
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let loses = loses_watch(&event, &concerned);
            if loses {
                losing.store(true, Ordering::Release);
            }
            if loses || is_change(&event, &concerned) {
                let _ = sender.try_send(());
            }
        })?;
        for directory in trace.directories() {
            match watcher.watch(directory, RecursiveMode::NonRecursive) {
                // Gone since: the comparison that follows sees it. When it comes back, the directory above, which is watched before
                // it, tells that this watch is lost.
                Err(error) if matches!(error.kind, ErrorKind::PathNotFound) => {}
                watched => watched?,
            }
        }
        Ok(Self { _watcher: watcher, trace, lost, events, pending: None })
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

/// Whether a directory may not be watched any more. A watch ends with the directory, and with the directory's name, whatever takes
/// its place; what the kernel's queue had no room for may have been just that.
fn loses_watch(event: &notify::Result<notify::Event>, trace: &Trace) -> bool {
    let Ok(event) = event else { return true };
    let read = matches!(event.kind, EventKind::Access(_));
    event.need_rescan() || !read && event.paths.iter().any(|path| trace.watches(path))
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use notify::Event;
    use notify::event::{AccessKind, AccessMode, CreateKind, DataChange, Flag, ModifyKind, RemoveKind, RenameMode};

    use super::*;
    use crate::config::Loader;

    /// What was seen of a tenant's directory `team` in `folder`, in which there is no file.
    fn seen(folder: &Path) -> Seen {
        let tenant = "[[tenant]]\nname = \"a\"\nfile = \"team/a.toml\"\nclaims = [{ host = \"a\" }]\n";
        let text = format!("[[listener]]\nname = \"a\"\nbind = \"127.0.0.1:0\"\n{tenant}");
        fs::write(folder.join("cairn.toml"), text).unwrap();
        let mut loader = Loader::new(folder.join("cairn.toml"));
        loader.load().unwrap();
        loader.seen().clone()
    }

    fn replaced(renewed: Renewed) -> (Notified, bool) {
        match renewed {
            Renewed::Replaced { watcher: Some(Watcher::Notified(watcher)), changed } => (watcher, changed),
            other => panic!("{other:?}"),
        }
    }

    fn watched(watcher: &Notified) -> Option<Watched> {
        Some(Watched::Trace { trace: Arc::clone(&watcher.trace), lost: Arc::clone(&watcher.lost) })
    }

    #[tokio::test]
    async fn a_watch_that_is_lost_is_begun_again_once() {
        let folder = tempfile::tempdir().unwrap();
        let team = folder.path().join("team");
        fs::create_dir(&team).unwrap();
        let seen = seen(folder.path());
        let (mut watcher, changed) = replaced(renew(Watch::Notified, &seen, None));
        assert!(!changed);
        for round in 0..3 {
            // With nothing in it that could tell: all is as it was.
            fs::rename(&team, folder.path().join("away")).unwrap();
            fs::rename(folder.path().join("away"), &team).unwrap();
            watcher.changed().await;
            let (again, changed) = replaced(renew(Watch::Notified, &seen, watched(&watcher).as_ref()));
            assert!(!changed, "{round}");
            watcher = again;
            assert!(matches!(renew(Watch::Notified, &seen, watched(&watcher).as_ref()), Renewed::Kept), "{round}");
        }
    }

    /// The directory is gone when it is to be watched, and back when it is compared.
    #[tokio::test]
    async fn what_could_not_be_watched_is_when_it_is_back() {
        let folder = tempfile::tempdir().unwrap();
        let (team, away) = (folder.path().join("team"), folder.path().join("away"));
        fs::create_dir(&team).unwrap();
        let seen = seen(folder.path());
        let trace = seen.trace();
        fs::rename(&team, &away).unwrap();
        let mut watcher = Notified::new(trace).unwrap();
        fs::rename(&away, &team).unwrap();
        assert!(!seen.has_changed() && seen.trace() == *watcher.trace);
        watcher.changed().await;
        replaced(renew(Watch::Notified, &seen, watched(&watcher).as_ref()));
    }

    #[test]
    fn only_what_happens_to_a_directory_itself_ends_its_watch() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().canonicalize().unwrap();
        fs::create_dir(home.join("team")).unwrap();
        let trace = seen(&home).trace();
        let event = |kind, path: PathBuf| Ok(Event::new(kind).add_path(path));
        let (team, file) = (home.join("team"), home.join("team/a.toml"));
        let data = EventKind::Modify(ModifyKind::Data(DataChange::Any));
        let name = EventKind::Modify(ModifyKind::Name(RenameMode::From));
        let removed = EventKind::Remove(RemoveKind::Folder);
        for (what, event, change, loss) in [
            ("a file is written", event(data, file.clone()), true, false),
            ("a file is renamed", event(name, file.clone()), true, false),
            ("a file goes", event(removed, file), true, false),
            ("a neighbour goes", event(removed, home.join("other")), false, false),
            ("it is read", event(EventKind::Access(AccessKind::Open(AccessMode::Any)), team.clone()), false, false),
            ("it goes", event(removed, team.clone()), true, true),
            ("it comes", event(EventKind::Create(CreateKind::Folder), team.clone()), true, true),
            ("it is renamed", event(name, team), true, true),
            ("one above is renamed", event(name, home), true, true),
            ("the queue overflows", Ok(Event::new(EventKind::Other).set_flag(Flag::Rescan)), true, true),
            ("an error", Err(notify::Error::generic("")), true, true),
        ] {
            assert_eq!((is_change(&event, &trace), loses_watch(&event, &trace)), (change, loss), "{what}");
        }
    }
}
