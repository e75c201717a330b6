//! Stamps of the files that a load has read, to tell whether one has changed since, and the directories that lead to them.
//! Not here: when to compare, and watching directories (`control`).

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::confined::{ConfinedDir, ConfinedEntry};

/// Most symbolic links on one path (path_resolution(7)).
const LINKS_MAX: usize = 40;
/// Time after a change in which a further change may leave the stamp as it is, because file systems keep coarse times.
const FRESH: Duration = Duration::from_secs(2);

/// Paths in the order of reading, each with its stamp from just before it was opened.
#[derive(Clone, Debug, Default)]
pub struct FileStamps(Vec<(LookupPath, Stamp)>);

/// A path, and the directory that it must not leave.
#[derive(Clone, Debug)]
pub(super) struct LookupPath {
    path: PathBuf,
    /// A prefix of the path that neither links nor `..` in the rest may leave; nothing outside of it is looked up. None: no bound.
    directory: Option<PathBuf>,
}

/// The target of a path and the links on the way. Equal stamps mean: no change that can be told without reading the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Target of each link, in the order of the path.
    links: Vec<PathBuf>,
    /// None: the path does not exist.
    target: Option<Target>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    File {
        device: u64,
        inode: u64,
        length: u64,
        modified: (i64, i64),
        changed: (i64, i64),
    },
    /// A directory, with the names of the configuration files in it.
    Directory {
        device: u64,
        inode: u64,
        parts: BTreeSet<OsString>,
    },
}

/// What has to be watched to notice that a path leads to another file: every directory on its way, links followed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchSet {
    /// Directories that hold an element of a path, with device and inode. Their paths have no links.
    directories: BTreeMap<PathBuf, (u64, u64)>,
    /// Paths of the elements.
    elements: HashSet<PathBuf>,
    /// Directories in which every configuration file counts.
    listed: HashSet<PathBuf>,
}

impl FileStamps {
    /// Stamps a path. The caller opens it after this.
    pub(super) fn note(&mut self, lookup: LookupPath) {
        let stamp = Stamp::of(&lookup);
        self.0.push((lookup, stamp));
    }

    /// Adds stamps taken before.
    pub(super) fn extend<'a>(&mut self, others: impl Iterator<Item = (&'a LookupPath, &'a Stamp)>) {
        self.0.extend(others.map(|(lookup, stamp)| (lookup.clone(), stamp.clone())));
    }

    /// Every path.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().map(|(lookup, _)| lookup.path.as_path())
    }

    /// Whether there is no path.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the stamp of a path is another now. Accesses the file system, which may block.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        self.0.iter().any(|(lookup, stamp)| Stamp::of(lookup) != *stamp)
    }

    /// Whether a file was written so shortly before `now` that [`FileStamps::has_changed`] could miss its next change.
    #[must_use]
    pub fn is_fresh(&self, now: SystemTime) -> bool {
        self.0.iter().any(|(_, stamp)| stamp.is_fresh(now))
    }

    /// The directories that lead to the paths now.
    #[must_use]
    pub fn watch_set(&self) -> WatchSet {
        let mut watch_set = WatchSet::default();
        for (lookup, _) in &self.0 {
            watch_set.add(lookup);
        }
        watch_set
    }
}

impl LookupPath {
    /// A path without a bound.
    pub(super) fn anywhere(path: PathBuf) -> Self {
        Self { path, directory: None }
    }

    /// The path `name` in `directory`, which it must not leave. None: `name` leaves it without any link.
    pub(super) fn beneath(directory: &Path, name: &Path) -> Option<Self> {
        let mut depth = 0_usize;
        for part in name.components() {
            match part {
                Component::Normal(_) => depth += 1,
                Component::ParentDir => depth = depth.checked_sub(1)?,
                Component::CurDir => {}
                Component::RootDir | Component::Prefix(_) => return None,
            }
        }
        Some(Self { path: directory.join(name), directory: Some(directory.to_owned()) })
    }

    /// Resolves the path as the kernel does. Calls `element` with each directory and the path of the element looked up in it, and
    /// `link` with the target of each link. Returns the path without links; None: it does not exist, or leaves its directory.
    fn follow(
        &self,
        mut element: impl FnMut(&Path, &Path),
        mut link: impl FnMut(&Path),
    ) -> Option<(PathBuf, Metadata)> {
        let mut walk = Walk { here: PathBuf::from("/"), links: 0, bounds: None };
        let Some(directory) = &self.directory else {
            walk.along(&std::path::absolute(&self.path).ok()?, &mut element, &mut link)?;
            let metadata = fs::metadata(&walk.here).ok()?;
            return Some((walk.here, metadata));
        };
        let name = self.path.strip_prefix(directory).ok()?;
        let beneath = ConfinedDir::open(directory);
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        walk.along(&std::path::absolute(directory).ok()?, &mut element, &mut link)?;
        walk.bounds = Some((walk.here.clone(), beneath.ok()?));
        walk.along(name, &mut element, &mut link)?;
        let metadata = walk.look()?.metadata().ok()?;
        Some((walk.here, metadata))
    }
}

impl Stamp {
    pub(super) fn of(lookup: &LookupPath) -> Self {
        let mut stamp = Self::default();
        if let Some((end, metadata)) = lookup.follow(|_, _| {}, |link| stamp.links.push(link.to_owned())) {
            let listed = lookup.directory.is_none().then_some(end);
            stamp.target = Some(Target::of(listed.as_deref(), &metadata));
        }
        stamp
    }

    fn is_fresh(&self, now: SystemTime) -> bool {
        let Some(Target::File { changed: (seconds, _), .. }) = self.target else { return false };
        let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        let distance = now.duration_since(changed).unwrap_or_else(|error| error.duration());
        distance < FRESH
    }
}

impl Target {
    /// The target with this metadata; of the directory `listed`, with its files.
    fn of(listed: Option<&Path>, metadata: &Metadata) -> Self {
        let (device, inode) = (metadata.dev(), metadata.ino());
        if metadata.is_dir() {
            let entries = listed.map(fs::read_dir).into_iter().flatten().flatten().flatten();
            let parts = entries.map(|entry| entry.file_name()).filter(|name| is_part(Path::new(name)));
            return Self::Directory { device, inode, parts: parts.collect() };
        }
        let modified = (metadata.mtime(), metadata.mtime_nsec());
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        Self::File { device, inode, length: metadata.len(), modified, changed }
    }
}

/// Whether a file of this name in `conf.d` is a configuration file.
pub(super) fn is_part(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "toml")
}

impl WatchSet {
    /// The directories to watch.
    pub fn directories(&self) -> impl Iterator<Item = &Path> {
        self.directories.keys().map(PathBuf::as_path)
    }

    /// Whether an event for `path`, in a watched directory, can mean that a file has changed.
    #[must_use]
    pub fn concerns(&self, path: &Path) -> bool {
        let listed = |directory: &Path| self.listed.contains(directory) && is_part(path);
        self.elements.contains(path) || path.parent().is_some_and(listed)
    }

    /// Whether `path` is one of the directories to watch. An event for it may end its watch, even if the directory comes back with
    /// the same inode.
    #[must_use]
    pub fn watches(&self, path: &Path) -> bool {
        self.directories.contains_key(path)
    }

    fn add(&mut self, lookup: &LookupPath) {
        let (directories, elements) = (&mut self.directories, &mut self.elements);
        let element = |directory: &Path, element: &Path| {
            if elements.insert(element.to_owned()) && !directories.contains_key(directory) {
                directories.insert(directory.to_owned(), identity(directory));
            }
        };
        if let Some((end, metadata)) = lookup.follow(element, |_| {})
            && metadata.is_dir()
            && lookup.directory.is_none()
        {
            self.directories.insert(end.clone(), identity(&end));
            self.listed.insert(end);
        }
    }
}

/// Device and inode of a directory; zeros if it does not exist.
fn identity(directory: &Path) -> (u64, u64) {
    fs::metadata(directory).map(|metadata| (metadata.dev(), metadata.ino())).unwrap_or_default()
}

/// The resolution of a path, element by element.
struct Walk {
    /// The resolved part of the path, without links.
    here: PathBuf,
    links: usize,
    /// The directory that it must not leave.
    bounds: Option<(PathBuf, ConfinedDir)>,
}

impl Walk {
    fn along(
        &mut self,
        path: &Path,
        element: &mut impl FnMut(&Path, &Path),
        link: &mut impl FnMut(&Path),
    ) -> Option<()> {
        let mut rest = reversed(path);
        while let Some(part) = rest.pop() {
            if part == ".." {
                if self.bounds.as_ref().is_some_and(|(bounds, _)| *bounds == self.here) {
                    return None;
                }
                self.here.pop();
                continue;
            }
            let next = self.here.join(&part);
            element(&self.here, &next);
            let before = std::mem::replace(&mut self.here, next);
            let Some(target) = self.target()? else { continue };
            link(&target);
            self.here = before;
            self.links += 1;
            if self.links > LINKS_MAX || target.is_absolute() && self.bounds.is_some() {
                return None;
            }
            if target.is_absolute() {
                self.here = PathBuf::from("/");
            }
            rest.extend(reversed(&target));
        }
        Some(())
    }

    /// The target of the link at `here`; `Some(None)`: it is no link; None: it does not exist.
    fn target(&self) -> Option<Option<PathBuf>> {
        if self.bounds.is_some() {
            return self.look()?.target().ok();
        }
        if fs::symlink_metadata(&self.here).ok()?.is_symlink() {
            return fs::read_link(&self.here).ok().map(Some);
        }
        Some(None)
    }

    /// The entry at `here`, looked up beneath the bounds, so that a concurrent change of the path cannot lead out of them.
    fn look(&self) -> Option<ConfinedEntry> {
        let (bounds, beneath) = self.bounds.as_ref()?;
        beneath.entry(self.here.strip_prefix(bounds).ok()?).ok()
    }
}

/// The names in a path, `..` included, in reverse order.
fn reversed(path: &Path) -> Vec<OsString> {
    let name = |part: Component<'_>| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().rev().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn file_stamps(path: &Path) -> FileStamps {
        let mut file_stamps = FileStamps::default();
        file_stamps.note(LookupPath::anywhere(path.to_owned()));
        file_stamps
    }

    /// (what is done, whether the path leads to something else then)
    #[test]
    fn a_change_of_any_link_or_directory_on_the_way_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().canonicalize().unwrap().join(name);
        for release in ["1", "2"] {
            fs::create_dir_all(at("releases").join(release)).unwrap();
            fs::write(at("releases").join(release).join("file"), "same").unwrap();
        }
        let swap = |target: &str, link: &str| {
            symlink(target, at("new")).unwrap();
            fs::rename(at("new"), at(link)).unwrap();
        };
        swap("releases/1", "data");
        swap("data/../../data/file", "file");
        swap(at("file").to_str().unwrap(), "absolute");
        let cases: [(&str, &dyn Fn(), bool); 7] = [
            ("nothing", &|| {}, false),
            ("a neighbour", &|| fs::write(at("neighbour"), "").unwrap(), false),
            ("a neighbour in the directory", &|| fs::write(at("releases/1/neighbour"), "").unwrap(), false),
            ("the link in the middle", &|| swap("releases/2", "data"), true),
            ("the last directory", &|| fs::rename(at("releases/2"), at("releases/3")).unwrap(), true),
            ("what replaces it", &|| fs::rename(at("releases/3"), at("releases/2")).unwrap(), true),
            ("the link at the beginning", &|| swap("releases/1/file", "absolute"), true),
        ];
        for (what, change, expected) in cases {
            let before = file_stamps(&at("absolute"));
            change();
            assert_eq!(before.has_changed(), expected, "{what}");
        }
    }

    #[test]
    fn a_trace_is_of_real_directories_and_of_all_elements() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().canonicalize().unwrap().join(name);
        fs::create_dir_all(at("releases/1/conf.d")).unwrap();
        symlink("releases/1", at("data")).unwrap();
        symlink("data/conf.d", at("conf.d")).unwrap();
        let watch_set = file_stamps(&at("conf.d")).watch_set();
        let watched: Vec<_> = watch_set.directories().filter(|directory| directory.starts_with(at(""))).collect();
        assert_eq!(watched, [at("").as_path(), &at("releases"), &at("releases/1"), &at("releases/1/conf.d")]);
        for (path, expected) in [
            ("conf.d", true),
            ("data", true),
            ("releases", true),
            ("releases/1", true),
            ("releases/1/conf.d/10.toml", true),
            ("releases/1/conf.d/.10.toml.swp", false),
            ("releases/1/other.toml", false),
            ("other", false),
        ] {
            assert_eq!(watch_set.concerns(&at(path)), expected, "{path}");
        }
        assert!(
            watch_set.watches(&at("releases")) && !watch_set.watches(&at("conf.d")) && !watch_set.watches(&at("other"))
        );
        // Made again, it is another.
        fs::rename(at("releases/1"), at("releases/2")).unwrap();
        let without = file_stamps(&at("conf.d")).watch_set();
        assert!(without.concerns(&at("releases/1")) && !without.directories().any(|it| it.ends_with("conf.d")));
        fs::create_dir_all(at("releases/1/conf.d")).unwrap();
        assert_ne!(file_stamps(&at("conf.d")).watch_set(), watch_set);
    }

    /// (name, what it may lead to inside; None: the name is refused)
    #[test]
    fn nothing_is_looked_at_beyond_the_directory() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().canonicalize().unwrap();
        let at = |name: &str| home.join(name);
        fs::create_dir_all(at("team/data")).unwrap();
        fs::write(at("team/data/own"), "").unwrap();
        fs::write(at("secret"), "").unwrap();
        for (target, link) in [
            ("data/own", "inside"),
            ("data/../inside", "far"),
            ("../secret", "climbs"),
            (at("secret").to_str().unwrap(), "absolute"),
            ("data/../../team/data/own", "out and back"),
            ("..", "up"),
        ] {
            symlink(target, at("team").join(link)).unwrap();
        }
        let found = |name: &str| {
            let lookup = LookupPath::beneath(&at("team"), Path::new(name))?;
            let mut file_stamps = FileStamps::default();
            file_stamps.note(lookup);
            let watch_set = file_stamps.watch_set();
            assert!(!watch_set.concerns(&at("secret")), "{name}");
            let file = matches!(file_stamps.0[0].1.target, Some(Target::File { .. }));
            // Another file of that length, a moment later.
            fs::rename(at("secret"), at("secret.old")).unwrap();
            fs::write(at("secret"), "").unwrap();
            assert!(!file_stamps.has_changed(), "{name}");
            fs::rename(at("secret.old"), at("secret")).unwrap();
            Some((file, file_stamps.0[0].1.links.len(), watch_set.concerns(&at("team/data/own"))))
        };
        for (name, expected) in [
            ("data/own", Some((true, 0, true))),
            ("data/../data/./own", Some((true, 0, true))),
            ("inside", Some((true, 1, true))),
            ("far", Some((true, 2, true))),
            ("nowhere", Some((false, 0, false))),
            ("data", Some((false, 0, false))),
            ("", Some((false, 0, false))),
            ("climbs", Some((false, 1, false))),
            ("absolute", Some((false, 1, false))),
            ("out and back", Some((false, 1, false))),
            ("up/secret", Some((false, 1, false))),
            ("../secret", None),
            ("data/../../secret", None),
            ("../team/data/own", None),
            (at("secret").to_str().unwrap(), None),
            (at("team/data/own").to_str().unwrap(), None),
        ] {
            assert_eq!(found(name), expected, "{name}");
        }
    }

    #[test]
    fn links_in_a_circle_lead_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        symlink("b", folder.path().join("a")).unwrap();
        symlink("a", folder.path().join("b")).unwrap();
        let file_stamps = file_stamps(&folder.path().join("a"));
        assert!(!file_stamps.has_changed() && file_stamps.0[0].1.target.is_none());
        assert!(file_stamps.watch_set().concerns(&folder.path().canonicalize().unwrap().join("b")));
    }

    #[test]
    fn what_was_written_just_now_is_fresh() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "").unwrap();
        let (file_stamps, now) = (file_stamps(&path), SystemTime::now());
        assert!(
            file_stamps.is_fresh(now)
                && !file_stamps.is_fresh(now + 2 * FRESH)
                && !file_stamps.is_fresh(now - 2 * FRESH)
        );
    }
}
