//! Opens files that do not belong to the operator: only below a directory, only plain files, only if nobody but their owner and
//! group can write them. Not here: their content.

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Why a path that leaves its directory is refused.
pub(super) const LEADS_OUT: &str = "it leads out of the directory of the tenant's file";

/// A directory; paths looked up in it cannot leave it (openat2(2), RESOLVE_BENEATH).
#[derive(Debug)]
pub(super) struct ConfinedDir(File);

/// A file, directory or link below a [`ConfinedDir`], readable or not.
#[derive(Debug)]
pub(super) struct ConfinedEntry(File);

impl ConfinedDir {
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        Ok(Self(File::from(rustix::fs::open(directory, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)))
    }

    fn look_up(&self, name: &Path, flags: OFlags, resolve: ResolveFlags) -> io::Result<File> {
        let resolve = resolve | ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(&self.0, name, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Ok(file) => Ok(File::from(file)),
            Err(Errno::XDEV) => Err(io::Error::other(LEADS_OUT)),
            Err(error) => Err(error.into()),
        }
    }

    /// The entry at `name`. No component of it but the last may be a link.
    pub(super) fn entry(&self, name: &Path) -> io::Result<ConfinedEntry> {
        let name = if name.as_os_str().is_empty() { Path::new(".") } else { name };
        self.look_up(name, OFlags::PATH | OFlags::NOFOLLOW, ResolveFlags::NO_SYMLINKS).map(ConfinedEntry)
    }
}

impl ConfinedEntry {
    pub(super) fn metadata(&self) -> io::Result<Metadata> {
        self.0.metadata()
    }

    /// The target of a link; None for other entries.
    pub(super) fn target(&self) -> io::Result<Option<PathBuf>> {
        if !self.metadata()?.is_symlink() {
            return Ok(None);
        }
        let target = rustix::fs::readlinkat(&self.0, "", Vec::new())?;
        Ok(Some(OsString::from_vec(target.into_bytes()).into()))
    }
}

/// Opens the plain file `name` below `directory`, which links must not leave.
///
/// # Errors
/// Also if everybody can write the file, or if it belongs to neither root, nor this process's user, nor the directory's owner.
pub(super) fn open(directory: &Path, name: &Path) -> io::Result<File> {
    let directory = ConfinedDir::open(directory)?;
    // Without NONBLOCK, opening a pipe would block the reload.
    let file = directory.look_up(name, OFlags::RDONLY | OFlags::NONBLOCK, ResolveFlags::empty())?;
    let (found, parent) = (file.metadata()?, directory.0.metadata()?);
    if !found.is_file() {
        return Err(io::Error::other("it is not a plain file"));
    }
    let trusted = [0, rustix::process::geteuid().as_raw(), parent.uid()];
    check_owner(found.mode(), found.uid(), &trusted).map_err(io::Error::other)?;
    Ok(file)
}

/// Checks that only `owner` and its group can write the file, and that `owner` is one of `trusted`.
fn check_owner(mode: u32, owner: u32, trusted: &[u32]) -> Result<(), String> {
    if mode & 0o002 != 0 {
        Err("everybody can write it; take that away: chmod o-w".to_owned())
    } else if !trusted.contains(&owner) {
        Err(format!(
            "it belongs to user {owner}; it must belong to root, to the user of this process or to the owner of its directory"
        ))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn only_plain_files_below_the_directory_that_others_cannot_write() {
        let outer = tempfile::tempdir().unwrap();
        let team = outer.path().join("team");
        fs::create_dir_all(team.join("data")).unwrap();
        fs::write(outer.path().join("secret"), "").unwrap();
        fs::write(team.join("data/own"), "").unwrap();
        fs::write(team.join("open"), "").unwrap();
        fs::set_permissions(team.join("open"), Permissions::from_mode(0o646)).unwrap();
        symlink("data/own", team.join("inside")).unwrap();
        symlink("../secret", team.join("outside")).unwrap();
        symlink(outer.path().join("secret"), team.join("absolute")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, team.join("pipe"), Mode::RUSR).unwrap();
        let cases = [
            ("data/own", None),
            ("inside", None),
            ("data/../inside", None),
            ("../secret", Some("leads out")),
            ("outside", Some("leads out")),
            ("absolute", Some("leads out")),
            ("/etc/hostname", Some("leads out")),
            ("pipe", Some("not a plain file")),
            ("data", Some("not a plain file")),
            ("open", Some("chmod o-w")),
            ("nowhere", Some("No such file")),
        ];
        for (name, refusal) in cases {
            let opened = open(&team, Path::new(name)).map_err(|error| error.to_string());
            match refusal {
                None => assert!(opened.is_ok(), "{name}: {opened:?}"),
                Some(why) => assert!(opened.as_ref().is_err_and(|error| error.contains(why)), "{name}: {opened:?}"),
            }
        }
    }
    #[test]
    fn owners_are_root_the_process_and_the_directorys() {
        let cases = [(0o644, 0, true), (0o664, 7, true), (0o600, 8, true), (0o644, 9, false), (0o646, 0, false)];
        for (mode, owner, ok) in cases {
            assert_eq!(check_owner(mode, owner, &[0, 7, 8]).is_ok(), ok, "{mode:o} {owner}");
        }
    }
}
