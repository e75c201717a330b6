//! Notices that files of the configuration have changed, by inotify(7) or by polling. It watches the directories that lead to the
//! files, not the files, so that it sees a file that is renamed into place, and a link on the way that is switched.
//! Not here: which directories those are, and reading the files (`config`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use notify::{ErrorKind, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::config::{FileStamps, Watch, WatchSet};
use crate::event_log::{Level, log};

/// How long no event may come before a change is reported: an editor or a copy makes several.
const QUIET: Duration = Duration::from_millis(200);
/// Longest time by which further events delay the report.
const QUIET_MAX: Duration = Duration::from_secs(2);
/// Interval of polling.
const POLL: Duration = Duration::from_secs(1);

/// Watches the files of one configuration. Waiting is cancel-safe.
#[derive(Debug)]
pub(super) enum Watcher {
    /// By inotify.
    Notified(Notified),
    /// By polling.
    Polling(Polling),
}

#[derive(Debug)]
pub(super) struct Notified {
    /// Dropping it ends the watches.
    _watcher: RecommendedWatcher,
    watch_set: Arc<WatchSet>,
    /// See [`WatchState::WatchSet`].
    lost: Arc<AtomicBool>,
    events: mpsc::Receiver<()>,
    /// Times of the first and the last event that were not reported yet.
    pending: Option<(Instant, Instant)>,
}

#[derive(Debug)]
pub(super) struct Polling {
    file_stamps: Arc<FileStamps>,
    /// A file was written so shortly before it was read that a further change could leave its stamp as it is: the next comparison
    /// reports a change.
    fresh: bool,
    next: Instant,
    /// A comparison under way, on a blocking thread: network file systems may be slow.
    look: Option<JoinHandle<bool>>,
}

/// How a load changes the watcher.
#[derive(Debug)]
pub(super) enum WatcherUpdate {
    /// The watcher stays: it watches the right directories.
    Kept,
    /// Another watcher, or none, takes its place. `changed`: a file has changed between the load and the beginning of the watch, so
    /// that no event will come for it.
    Replaced { watcher: Option<Watcher>, changed: bool },
}

/// Makes the watcher of what a load has read (`file_stamps`), in the way `how`; `watch_state` is that of the present one. Every
/// change after a file was stamped is noticed: by the present watcher, or by the comparison after the new one has begun.
pub(super) fn update_watcher(how: Watch, file_stamps: &FileStamps, watch_state: Option<&WatchState>) -> WatcherUpdate {
    if file_stamps.is_empty() || how == Watch::Off {
        return WatcherUpdate::Replaced { watcher: None, changed: false };
    }
    let polled = || Watcher::Polling(Polling::new(file_stamps.clone()));
    if how == Watch::Poll {
        return WatcherUpdate::Replaced { watcher: Some(polled()), changed: false };
    }
    let leads = file_stamps.watch_set();
    if let Some(WatchState::WatchSet { watch_set, lost }) = watch_state
        && **watch_set == leads
        && !lost.load(Ordering::Acquire)
    {
        return WatcherUpdate::Kept;
    }
    match Notified::new(leads) {
        Ok(watcher) => {
            // Links and files may have changed before the watch began.
            let changed = file_stamps.has_changed() || file_stamps.watch_set() != *watcher.watch_set;
            WatcherUpdate::Replaced { watcher: Some(Watcher::Notified(watcher)), changed }
        }
        Err(error) => {
            if !matches!(watch_state, Some(WatchState::Polling)) {
                log(
                    Level::Warn,
                    format_args!(
                        "cannot be told of changes of the configuration: {error}; it is looked at every {POLL:?} instead"
                    ),
                );
            }
            WatcherUpdate::Replaced { watcher: Some(polled()), changed: false }
        }
    }
}

/// Waits for a change, for ever without a watcher.
pub(super) async fn changed(watcher: &mut Option<Watcher>) {
    match watcher {
        Some(Watcher::Notified(watcher)) => watcher.changed().await,
        Some(Watcher::Polling(watcher)) => watcher.changed().await,
        None => std::future::pending().await,
    }
}

/// What a watcher watches.
#[derive(Debug)]
pub(super) enum WatchState {
    /// Events for this set. `lost`: events may be missing from now on, so that the next load has to begin another watch. Setting
    /// it always comes with an event, so that there is a next load.
    WatchSet { watch_set: Arc<WatchSet>, lost: Arc<AtomicBool> },
    /// Polling needs no set.
    Polling,
}

impl Watcher {
    /// What it watches, for [`update_watcher`].
    pub(super) fn watch_state(&self) -> WatchState {
        match self {
            Self::Notified(watcher) => {
                WatchState::WatchSet { watch_set: Arc::clone(&watcher.watch_set), lost: Arc::clone(&watcher.lost) }
            }
            Self::Polling(_) => WatchState::Polling,
        }
    }
}

impl Notified {
    fn new(watch_set: WatchSet) -> notify::Result<Self> {
        // One pending event is as good as many.
        let (sender, events) = mpsc::channel(1);
        let (watch_set, lost) = (Arc::new(watch_set), Arc::new(AtomicBool::new(false)));
        let (concerned, losing) = (Arc::clone(&watch_set), Arc::clone(&lost));
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let loses = loses_watch(&event, &concerned);
            if loses {
                losing.store(true, Ordering::Release);
            }
            if loses || is_change(&event, &concerned) {
                let _ = sender.try_send(());
            }
        })?;
        for directory in watch_set.directories() {
            match watcher.watch(directory, RecursiveMode::NonRecursive) {
                // Removed since the load: the comparison that follows notices it. When the directory comes back, the watch of its
                // parent, which began before, sets `lost`.
                Err(error) if matches!(error.kind, ErrorKind::PathNotFound) => {}
                begun => begun?,
            }
        }
        Ok(Self { _watcher: watcher, watch_set, lost, events, pending: None })
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

/// Whether an event may mean a change. Reading is none; an error, or an overflow of the kernel's queue, is one.
fn is_change(event: &notify::Result<notify::Event>, watch_set: &WatchSet) -> bool {
    let Ok(event) = event else { return true };
    let read = matches!(event.kind, EventKind::Access(_));
    event.need_rescan() || !read && event.paths.iter().any(|path| watch_set.concerns(path))
}

/// Whether an event may mean that a directory's watch has ended. A watch ends when the directory is removed or renamed, even if
/// another takes its place. Such an event may also be among those lost in an overflow of the kernel's queue.
fn loses_watch(event: &notify::Result<notify::Event>, watch_set: &WatchSet) -> bool {
    let Ok(event) = event else { return true };
    let read = matches!(event.kind, EventKind::Access(_));
    event.need_rescan() || !read && event.paths.iter().any(|path| watch_set.watches(path))
}

impl Polling {
    fn new(file_stamps: FileStamps) -> Self {
        let fresh = file_stamps.is_fresh(SystemTime::now());
        Self { file_stamps: Arc::new(file_stamps), fresh, next: Instant::now() + POLL, look: None }
    }

    async fn changed(&mut self) {
        loop {
            let Some(look) = &mut self.look else {
                sleep_until(self.next).await;
                let (file_stamps, fresh) = (Arc::clone(&self.file_stamps), self.fresh);
                self.look = Some(spawn_blocking(move || fresh || file_stamps.has_changed()));
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
    fn file_stamps(folder: &Path) -> FileStamps {
        let tenant = "[[tenant]]\nname = \"a\"\nfile = \"team/a.toml\"\nclaims = [{ host = \"a\" }]\n";
        let text = format!("[[listener]]\nname = \"a\"\nbind = \"127.0.0.1:0\"\n{tenant}");
        fs::write(folder.join("cairn.toml"), text).unwrap();
        let mut loader = Loader::new(folder.join("cairn.toml"));
        loader.load().unwrap();
        loader.file_stamps().clone()
    }

    fn replaced(renewed: WatcherUpdate) -> (Notified, bool) {
        match renewed {
            WatcherUpdate::Replaced { watcher: Some(Watcher::Notified(watcher)), changed } => (watcher, changed),
            other => panic!("{other:?}"),
        }
    }

    fn watch_state(watcher: &Notified) -> Option<WatchState> {
        Some(WatchState::WatchSet { watch_set: Arc::clone(&watcher.watch_set), lost: Arc::clone(&watcher.lost) })
    }

    #[tokio::test]
    async fn a_watch_that_is_lost_is_begun_again_once() {
        let folder = tempfile::tempdir().unwrap();
        let team = folder.path().join("team");
        fs::create_dir(&team).unwrap();
        let file_stamps = file_stamps(folder.path());
        let (mut watcher, changed) = replaced(update_watcher(Watch::Notified, &file_stamps, None));
        assert!(!changed);
        for round in 0..3 {
            // With nothing in it that could tell: all is as it was.
            fs::rename(&team, folder.path().join("away")).unwrap();
            fs::rename(folder.path().join("away"), &team).unwrap();
            watcher.changed().await;
            let (again, changed) =
                replaced(update_watcher(Watch::Notified, &file_stamps, watch_state(&watcher).as_ref()));
            assert!(!changed, "{round}");
            watcher = again;
            assert!(
                matches!(
                    update_watcher(Watch::Notified, &file_stamps, watch_state(&watcher).as_ref()),
                    WatcherUpdate::Kept
                ),
                "{round}"
            );
        }
    }

    /// The directory is gone when it is to be watched, and back when it is compared.
    #[tokio::test]
    async fn what_could_not_be_watched_is_when_it_is_back() {
        let folder = tempfile::tempdir().unwrap();
        let (team, away) = (folder.path().join("team"), folder.path().join("away"));
        fs::create_dir(&team).unwrap();
        let file_stamps = file_stamps(folder.path());
        let watch_set = file_stamps.watch_set();
        fs::rename(&team, &away).unwrap();
        let mut watcher = Notified::new(watch_set).unwrap();
        fs::rename(&away, &team).unwrap();
        assert!(!file_stamps.has_changed() && file_stamps.watch_set() == *watcher.watch_set);
        watcher.changed().await;
        replaced(update_watcher(Watch::Notified, &file_stamps, watch_state(&watcher).as_ref()));
    }

    #[test]
    fn only_what_happens_to_a_directory_itself_ends_its_watch() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().canonicalize().unwrap();
        fs::create_dir(home.join("team")).unwrap();
        let watch_set = file_stamps(&home).watch_set();
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
            assert_eq!((is_change(&event, &watch_set), loses_watch(&event, &watch_set)), (change, loss), "{what}");
        }
    }
}
