//! `[admin]`: where operators and the verbs of `cairn` reach a running process. Not here: what answers there (`control`).

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::external::External;
use super::files::FILE_BYTES_MAX;
use super::reference;
use super::report::Problems;
use super::section::{Section, Text};
use super::tables::ADMIN_SOCKET;
use super::{external, host, tls};

use crate::id::Address;
use crate::route::HostPattern;
use crate::snapshot::ListenerSpec;
use crate::tls::ServerSpec;

/// Where the admin interface listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminSpec {
    /// Address for HTTP; None: off.
    pub listen: Option<SocketAddr>,
    /// Whether `listen` is the default: if it cannot be bound, cairn starts without it.
    pub listen_is_default: bool,
    /// Host names under which `listen` serves.
    pub hosts: AdminHosts,
    /// What who asks at `listen` has to show; None: nothing.
    pub token: Option<String>,
    /// TLS of `listen`, with certificates of clients; None: it is spoken to in the clear.
    pub tls: Option<ServerSpec>,
    /// Path of the socket for the verbs; None: off.
    pub socket: Option<PathBuf>,
    /// Whether `socket` is the default: if it cannot be made there, cairn starts without it. Not if another process has it.
    pub socket_is_default: bool,
}

/// Host names under which the admin interface serves, besides addresses and names without a dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminHosts {
    /// Any name.
    Any,
    /// These names.
    Only(Vec<HostPattern>),
}

/// The shortest token, bytes: so many hexadecimal digits cannot be guessed over a network.
const TOKEN_BYTES_MIN: usize = 16;

/// Value that turns an address or a socket off.
const OFF: &str = "off";

/// Longest path of a socket, bytes (unix(7): 108 with the terminating null byte).
const SOCKET_PATH_BYTES: usize = 107;

pub(super) fn admin(section: Section<'_>, external: &mut External, problems: &mut Problems) -> AdminSpec {
    let listen = match section.text("listen") {
        Some(text) => listen(text, problems),
        None => section.word("listen").parse().ok(),
    };
    if let Some(text) = section.text("socket") {
        check_socket(text, problems);
    }
    let token = section.text("token").and_then(|text| token(text, problems));
    let open = !section.has("token") && !section.has("tls");
    if let Some(address) = listen.filter(|address| !address.ip().to_canonical().is_loopback() && open) {
        problems
            .add(
                section.span("listen"),
                format!("{address} can be reached from other machines, and whoever asks there needs neither a token nor a certificate"),
            )
            .help(
                "write token = \"@admin.token\", a file with 16 random characters or more, or [admin.tls] with client_ca, or listen on \
                 127.0.0.1",
            );
    }
    AdminSpec {
        token,
        tls: tls::admin(section, external, problems),
        listen,
        listen_is_default: !section.has("listen"),
        hosts: match &*section.texts("hosts") {
            [any] if any.value == "*" => AdminHosts::Any,
            names => AdminHosts::Only(host::patterns(names, problems)),
        },
        socket: socket(section.word("socket")),
        socket_is_default: !section.has("socket"),
    }
}

/// Reports a listener that binds an address configured for the admin interface.
pub(super) fn clash(section: Section<'_>, admin: &AdminSpec, listeners: &[ListenerSpec], problems: &mut Problems) {
    let own = [
        ("listen", admin.listen.map(Address::Inet).filter(|address| !is_any_port(address))),
        ("socket", admin.socket.clone().map(Address::Unix)),
    ];
    for (key, address) in own {
        let other = address.as_ref().and_then(|own| listeners.iter().find(|listener| overlap(own, listener)));
        if let Some(listener) = other.filter(|_| section.has(key)) {
            problems
                .add(
                    section.span(key),
                    format!("listener \"{}\" binds this address ({})", listener.name, listener.bind),
                )
                .help("give the admin interface one of its own, or turn it \"off\"");
        }
    }
}

/// Whether a socket of the admin interface, which shares its port with none, cannot be bound beside a listener.
fn overlap(own: &Address, listener: &ListenerSpec) -> bool {
    let (Address::Inet(own), Address::Inet(bind)) = (own, &listener.bind) else { return *own == listener.bind };
    let family = own.is_ipv4() == bind.is_ipv4() || listener.options.dual_stack;
    let any = (own.ip().is_unspecified() || bind.ip().is_unspecified()) && family;
    own.port() == bind.port() && (own.ip() == bind.ip() || any)
}

fn is_any_port(address: &Address) -> bool {
    matches!(address, Address::Inet(inet) if inet.port() == 0)
}

/// The admin socket that a configuration names, even if it has errors elsewhere. None: the socket is turned off.
#[must_use]
pub fn admin_socket(path: &Path) -> Option<PathBuf> {
    let file = if path.is_dir() { path.join("cairn.toml") } else { path.to_owned() };
    let text = external::open(&file).and_then(|file| external::text(file, FILE_BYTES_MAX)).unwrap_or_default();
    let (root, _) = DeTable::parse_recoverable(&text);
    let admin = root.get_ref().get("admin").map(Spanned::get_ref).and_then(DeValue::as_table);
    let named = admin.and_then(|admin| admin.get("socket")?.get_ref().as_str());
    let directory = file.parent().unwrap_or(Path::new(""));
    let named = named.and_then(|named| reference::value(named, directory));
    socket(named.as_deref().unwrap_or(ADMIN_SOCKET))
}

fn socket(text: &str) -> Option<PathBuf> {
    (text != OFF).then(|| PathBuf::from(text))
}

/// The token, which stands in a file or in the environment, so that nobody who reads the configuration has it.
fn token(text: Text<'_>, problems: &mut Problems) -> Option<String> {
    let value = text.value.trim();
    if text.value == text.shown {
        problems
            .add(text.at, "a token does not stand in the configuration itself")
            .help("write token = \"@admin.token\", a file beside this one, or \"${NAME}\" of the environment");
    } else if value.len() < TOKEN_BYTES_MIN || !value.bytes().all(|byte| byte.is_ascii_graphic()) {
        problems
            .add(text.at, format!("the token of {} is no {TOKEN_BYTES_MIN} or more printable characters", text.shown))
            .help("make one: openssl rand -hex 32");
    }
    Some(value.to_owned())
}

fn listen(text: Text<'_>, problems: &mut Problems) -> Option<SocketAddr> {
    if text.value == OFF {
        return None;
    }
    let address = text.value.parse().ok();
    if address.is_none() {
        problems
            .add(text.at, format!("\"{}\" is not an address to listen on", text.shown.escape_debug()))
            .help("write \"127.0.0.1:9901\", \"[::1]:9901\" or \"off\"");
    }
    address
}

fn check_socket(text: Text<'_>, problems: &mut Problems) {
    let problem = if text.value == OFF {
        return;
    } else if !Path::new(text.value).is_absolute() {
        "the path of the admin socket is not absolute"
    } else if text.value.len() > SOCKET_PATH_BYTES {
        "the path of the admin socket is longer than 107 bytes"
    } else {
        return;
    };
    problems.add(text.at, problem).help(format!("write \"{ADMIN_SOCKET}\" or \"off\""));
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::parse;

    #[test]
    fn defaults_depend_on_the_role_and_off_is_off() {
        let default = |listen: Option<&str>| AdminSpec {
            listen: listen.map(|listen| listen.parse().unwrap()),
            listen_is_default: true,
            hosts: AdminHosts::Only(Vec::new()),
            token: None,
            tls: None,
            socket: Some(ADMIN_SOCKET.into()),
            socket_is_default: true,
        };
        let asked = |listen: Option<&str>, socket: Option<&str>| AdminSpec {
            listen: listen.map(|listen| listen.parse().unwrap()),
            listen_is_default: false,
            hosts: AdminHosts::Only(Vec::new()),
            token: None,
            tls: None,
            socket: socket.map(PathBuf::from),
            socket_is_default: false,
        };
        let cases = [
            ("role = \"edge\"", default(Some("127.0.0.1:9901"))),
            ("role = \"waypoint\"", default(Some("127.0.0.1:9901"))),
            ("role = \"sidecar\"", default(None)),
            ("[admin]\nlisten = \"[::1]:1\"\nsocket = \"/a\"", asked(Some("[::1]:1"), Some("/a"))),
            ("[admin]\nlisten = \"off\"\nsocket = \"off\"", asked(None, None)),
        ];
        for (text, expected) in cases {
            let text = format!("{text}\n[[listener]]\nname = \"a\"\nbind = \"127.0.0.1:0\"\n");
            assert_eq!(parse("admin.toml", &text).unwrap().admin, expected, "{text}");
        }
    }

    #[test]
    fn the_socket_is_found_in_broken_files_too() {
        let directory = tempfile::tempdir().unwrap();
        let cases = [
            ("[admin]\nsocket = \"/run/a\"\n[[route]\nname = 7", Some("/run/a")),
            ("[admin]\nsocket = \"off\"", None),
            ("admin = 7", Some(ADMIN_SOCKET)),
            ("", Some(ADMIN_SOCKET)),
        ];
        for (text, expected) in cases {
            fs::write(directory.path().join("cairn.toml"), text).unwrap();
            for path in [directory.path(), &directory.path().join("cairn.toml")] {
                assert_eq!(admin_socket(path), expected.map(PathBuf::from), "{text}");
            }
        }
        assert_eq!(admin_socket(Path::new("nowhere.toml")), Some(ADMIN_SOCKET.into()));
    }
}
