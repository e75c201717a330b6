//! Notices that files of the configuration have changed (inotify(7)). Folders are watched, not files, so that a file which is
//! renamed into place is seen, and links are followed. Not here: reading them (`config`).

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

use super::Control;
use crate::event_log::say;

/// How long nothing may happen before what happened is looked at: an editor or a copy makes several events.
const QUIET: Duration = Duration::from_millis(200);
/// How long that may be put off by further events.
const QUIET_MAX: Duration = Duration::from_secs(2);

/// Eyes on the files of one configuration.
#[derive(Debug)]
pub(super) struct Watcher {
    /// It ends when this is dropped.
    _watcher: RecommendedWatcher,
    events: mpsc::Receiver<()>,
    /// Something has happened and was not looked at yet.
    dirty: bool,
    files: Vec<PathBuf>,
    seen: Vec<Stamp>,
}

/// What changes with a file.
type Stamp = Option<(SystemTime, u64, u64)>;

impl Watcher {
    fn new(files: Vec<PathBuf>) -> notify::Result<Self> {
        // One event that waits says as much as many.
        let (sender, events) = mpsc::channel(1);
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if !event.is_ok_and(|event| matches!(event.kind, EventKind::Access(_))) {
                let _ = sender.try_send(());
            }
        })?;
        for folder in folders(&files) {
            watcher.watch(&folder, RecursiveMode::NonRecursive)?;
        }
        let mut watcher = Self { _watcher: watcher, events, dirty: false, files, seen: Vec::new() };
        watcher.note();
        Ok(watcher)
    }

    /// Takes the files as they are now for known.
    pub(super) fn note(&mut self) {
        self.seen = self.files.iter().map(|file| stamp(file)).collect();
    }

    /// Waits until a file has changed and nothing has happened for a moment. Nothing is lost when the wait is given up.
    async fn changed(&mut self) {
        loop {
            if !self.dirty && self.events.recv().await.is_none() {
                return std::future::pending().await;
            }
            self.dirty = true;
            let settle = async { while tokio::time::timeout(QUIET, self.events.recv()).await.is_ok() {} };
            // However long it goes on.
            let _ = tokio::time::timeout(QUIET_MAX, settle).await;
            self.dirty = false;
            let seen: Vec<_> = self.files.iter().map(|file| stamp(file)).collect();
            if seen != self.seen {
                self.seen = seen;
                return;
            }
        }
    }
}

/// Waits for a change; for ever without a watcher.
pub(super) async fn changed(watcher: &mut Option<Watcher>) {
    match watcher {
        Some(watcher) => watcher.changed().await,
        None => std::future::pending().await,
    }
}

impl Control {
    /// Watches the files that were read last, if that is asked for.
    pub(super) fn rewatch(&mut self) {
        let files = self.compiler.as_ref().map(|compiler| compiler.files()).unwrap_or_default();
        if !self.config.watch || files.is_empty() {
            self.watcher = None;
        } else if self.watcher.as_ref().is_none_or(|watcher| watcher.files != files) {
            self.watcher =
                Watcher::new(files).map_err(|error| say(format_args!("cannot watch the configuration: {error}"))).ok();
        }
    }
}

/// The folders in which these files, and what they link to, stand; a folder among them is watched itself.
fn folders(files: &[PathBuf]) -> BTreeSet<PathBuf> {
    let mut folders = BTreeSet::new();
    for file in files {
        let parent = |path: &Path| {
            path.parent().map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent }.to_owned())
        };
        let target = fs::canonicalize(file).ok();
        folders.extend([parent(file), target.as_deref().and_then(parent)].into_iter().flatten());
        folders.extend(target.filter(|target| target.is_dir()));
    }
    folders.retain(|folder| folder.is_dir());
    folders
}

fn stamp(file: &Path) -> Stamp {
    use std::os::unix::fs::MetadataExt;
    let metadata = fs::metadata(file).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}
