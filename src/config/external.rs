//! Inputs of a configuration beside its own text: files to which values refer, addresses of names. Each is read once a load. Kept
//! together with a text, they give that text the same meaning at a later load. Not here: the text (`files`).

use std::collections::HashMap;
use std::env::{self, VarError};
use std::fs::File;
use std::io::{self, Read};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::confined::{self, LEADS_OUT};
use super::file_stamps::{LookupPath, Stamp};
use crate::id::Address;
use crate::limits;
use crate::tls::Authorities;

/// Largest file to which a value may refer, bytes.
const VALUE_BYTES_MAX: u64 = 1024 * 1024;
/// Why a file has no text.
const NO_TEXT: &str = "stream did not contain valid UTF-8";
/// Largest file of revocation lists, bytes: some 300,000 entries.
const LARGE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// What a file holds, or why it cannot be read.
type Content = Result<Vec<u8>, String>;

/// Results so far; failures are results, too.
#[derive(Clone, Debug, Default)]
pub(super) struct External {
    /// Whether variables of the environment are out of reach, and files outside the directory of the referring file.
    confined: bool,
    files: HashMap<PathBuf, (LookupPath, Stamp, Content)>,
    addresses: HashMap<String, Result<Vec<Address>, String>>,
    authorities: Option<Authorities>,
}

/// Why a variable has no value, and the remedy.
#[derive(Clone, Copy, Debug)]
pub(super) struct VariableError {
    pub(super) why: &'static str,
    pub(super) help: &'static str,
}

impl External {
    /// Inputs for a tenant's file, which may not read all that this process can read.
    pub(super) fn confined() -> Self {
        Self { confined: true, ..Self::default() }
    }

    /// Content of the file `name` in `directory`, without its final newline.
    pub(super) fn file(&mut self, directory: &Path, name: &Path) -> Result<String, String> {
        self.read(directory, name, VALUE_BYTES_MAX).and_then(text_of)
    }

    /// The same for a file that may be large.
    pub(super) fn large_file(&mut self, directory: &Path, name: &Path) -> Result<String, String> {
        self.read(directory, name, LARGE_BYTES_MAX).and_then(text_of)
    }

    /// Content of a file that is no text.
    pub(super) fn binary_file(&mut self, directory: &Path, name: &Path) -> Result<Vec<u8>, String> {
        self.read(directory, name, VALUE_BYTES_MAX)
    }

    fn read(&mut self, directory: &Path, name: &Path, most: u64) -> Content {
        let path = directory.join(name);
        if let Some((.., known)) = self.files.get(&path) {
            return known.clone();
        }
        let lookup =
            if self.confined { LookupPath::beneath(directory, name) } else { Some(LookupPath::anywhere(path.clone())) };
        // A path outside the tenant's directory is not even stamped: reloads would disclose when the file changes.
        let Some(lookup) = lookup else { return Err(LEADS_OUT.to_owned()) };
        let stamp = Stamp::of(&lookup);
        let file = if self.confined { confined::open(directory, name) } else { open(&path) };
        let content = file.and_then(|file| bytes(file, most)).map_err(|error| error.to_string());
        self.files.insert(path, (lookup, stamp, content.clone()));
        content
    }

    /// Value of a variable of the environment.
    pub(super) fn variable(&self, name: &str) -> Result<String, VariableError> {
        if self.confined {
            let why = "a tenant's file cannot read the environment";
            return Err(VariableError { why, help: "write \"@NAME\" for a file beside this one; $${ is a literal ${" });
        }
        let help = "set it for the process that reads the configuration; $${ is a literal ${";
        env::var(name).map_err(|error| match error {
            VarError::NotPresent => VariableError { why: "the environment does not have it", help },
            VarError::NotUnicode(_) => VariableError { why: "it is not UTF-8", help },
        })
    }

    /// Addresses of `NAME:PORT` in the order of attempts; at least one.
    pub(super) fn addresses(&mut self, name: &str) -> Result<Vec<Address>, String> {
        if let Some(known) = self.addresses.get(name) {
            return known.clone();
        }
        let found = resolve(name);
        self.addresses.insert(name.to_owned(), found.clone());
        found
    }

    /// The public authorities that this machine trusts; if it has none, those that were public when this was built.
    pub(super) fn public_authorities(&mut self) -> Authorities {
        let found = || Authorities::of_machine().unwrap_or_else(Authorities::public);
        self.authorities.get_or_insert_with(found).clone()
    }

    /// The files that were looked for, with their stamps from before they were opened.
    pub(super) fn files(&self) -> impl Iterator<Item = (&LookupPath, &Stamp)> {
        self.files.values().map(|(lookup, stamp, _)| (lookup, stamp))
    }
}

/// Opens a plain file. Opening a pipe could block until it has a writer, and reading a device may never end (open(2), O_NONBLOCK).
///
/// # Errors
/// Also if `path` is no plain file.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    match file.metadata()? {
        found if found.is_file() => Ok(file),
        found if found.is_dir() => Err(rustix::io::Errno::ISDIR.into()),
        _ => Err(io::Error::other("it is not a plain file")),
    }
}

/// The content of `file`, which has to be UTF-8 of at most `most` bytes.
pub(super) fn text(file: File, most: u64) -> io::Result<String> {
    String::from_utf8(bytes(file, most)?).map_err(|_| io::Error::other(NO_TEXT))
}

/// The content of `file`, of at most `most` bytes.
fn bytes(file: File, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let length = file.take(most + 1).read_to_end(&mut bytes)?;
    if length as u64 > most {
        return Err(io::Error::other(format!("the file is larger than {most} bytes")));
    }
    Ok(bytes)
}

/// The text, without its final newline.
fn text_of(content: Vec<u8>) -> Result<String, String> {
    let mut text = String::from_utf8(content).map_err(|_| NO_TEXT.to_owned())?;
    let line = text.strip_suffix("\r\n").or(text.strip_suffix('\n')).map(str::len);
    text.truncate(line.unwrap_or(text.len()));
    Ok(text)
}

fn resolve(name: &str) -> Result<Vec<Address>, String> {
    let addresses = name.to_socket_addrs().map_err(|error| error.to_string())?;
    let found: Vec<_> = in_turn(addresses).into_iter().take(limits::ADDRESSES).map(Address::Inet).collect();
    if found.is_empty() { Err("it has no address".to_owned()) } else { Ok(found) }
}

/// Addresses in the resolver's order (RFC 6724), but with the families alternating, IPv6 first: if one family does not work at all,
/// the second attempt uses the other one (RFC 8305 section 4).
fn in_turn(addresses: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut all: Vec<SocketAddr> = Vec::new();
    for address in addresses {
        if !all.contains(&address) {
            all.push(address);
        }
    }
    let (six, four): (Vec<_>, Vec<_>) = all.into_iter().partition(SocketAddr::is_ipv6);
    let rounds = six.len().max(four.len());
    let both = (0..rounds).flat_map(|round| [six.get(round), four.get(round)]);
    both.flatten().copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_newline_is_cut_and_the_first_answer_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("value");
        for (text, value) in [("a\n", "a"), ("a\n\n", "a\n"), ("a\r\n", "a"), ("a", "a"), ("\n", ""), ("", "")] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(
                External::default().file(directory.path(), Path::new("value")).as_deref(),
                Ok(value),
                "{text:?}"
            );
        }
        let mut external = External::default();
        std::fs::write(&path, "first").unwrap();
        assert_eq!(external.file(directory.path(), Path::new("value")).as_deref(), Ok("first"));
        std::fs::write(&path, "second").unwrap();
        assert_eq!(external.file(directory.path(), Path::new("value")).as_deref(), Ok("first"));
        assert_eq!(External::default().file(directory.path(), Path::new("value")).as_deref(), Ok("second"));
        std::fs::write(&path, "x".repeat(VALUE_BYTES_MAX as usize + 1)).unwrap();
        assert!(
            External::default().file(directory.path(), Path::new("value")).is_err_and(|why| why.contains("larger"))
        );
    }

    #[test]
    fn only_plain_files_are_opened_and_nothing_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        rustix::fs::mkfifoat(rustix::fs::CWD, at("pipe"), Mode::RUSR | Mode::WUSR).unwrap();
        std::os::unix::fs::symlink("pipe", at("link")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        std::fs::write(at("file"), "").unwrap();
        assert!(open(&at("file")).is_ok());
        for path in [at("pipe"), at("link"), at("socket"), at(""), "/dev/zero".into(), at("nowhere")] {
            assert!(open(&path).is_err(), "{}", path.display());
        }
    }

    #[test]
    fn names_resolve_to_all_their_addresses() {
        let addresses = External::default().addresses("localhost:9000").unwrap();
        assert!(!addresses.is_empty());
        for address in addresses {
            let Address::Inet(address) = address else { panic!("{address} is no address of a name") };
            assert!(address.ip().is_loopback() && address.port() == 9000, "{address}");
        }
        assert!(External::default().addresses("a..b:80").is_err());
    }

    #[test]
    fn families_take_turns() {
        for (given, expected) in [
            ("", ""),
            ("1.1.1.1", "1.1.1.1"),
            ("::1", "::1"),
            ("1.1.1.1 ::1", "::1 1.1.1.1"),
            ("::1 ::2 1.1.1.1 ::3 2.2.2.2", "::1 1.1.1.1 ::2 2.2.2.2 ::3"),
            ("3.3.3.3 1.1.1.1 ::9 2.2.2.2", "::9 3.3.3.3 1.1.1.1 2.2.2.2"),
            ("1.1.1.1 1.1.1.1 ::1 ::1", "::1 1.1.1.1"),
        ] {
            let parse = |text: &str| -> Vec<SocketAddr> {
                text.split_whitespace().map(|ip| SocketAddr::new(ip.parse().unwrap(), 80)).collect()
            };
            assert_eq!(in_turn(parse(given).into_iter()), parse(expected), "{given}");
        }
    }
}
