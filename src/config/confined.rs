//! Opens files that belong to somebody else than the operator: only below a directory, only plain ones, only if nobody but
//! their owner and group can write them. Not here: what is in them.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Opens `name` below `directory`; links may not lead out of it (openat2(2), RESOLVE_BENEATH).
///
/// # Errors
/// Also when others can write the file, or when it belongs to neither root, nor this process's user, nor the directory's owner.
pub(super) fn open(directory: &Path, name: &Path) -> io::Result<File> {
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let directory = File::from(rustix::fs::open(directory, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?);
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    // Without NONBLOCK a pipe in its place would hold the reload.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = match rustix::fs::openat2(&directory, name, flags, Mode::empty(), beneath) {
        Ok(file) => File::from(file),
        Err(Errno::XDEV) => return Err(io::Error::other("it leads out of the directory of the tenant's file")),
        Err(error) => return Err(error.into()),
    };
    let (found, parent) = (file.metadata()?, directory.metadata()?);
    if !found.is_file() {
        return Err(io::Error::other("it is not a plain file"));
    }
    let trusted = [0, rustix::process::geteuid().as_raw(), parent.uid()];
    judge(found.mode(), found.uid(), &trusted).map_err(io::Error::other)?;
    Ok(file)
}

/// Whether what `owner` owns can be believed to be what one of `trusted` wrote.
fn judge(mode: u32, owner: u32, trusted: &[u32]) -> Result<(), String> {
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
            assert_eq!(judge(mode, owner, &[0, 7, 8]).is_ok(), ok, "{mode:o} {owner}");
        }
    }
}
