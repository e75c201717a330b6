//! `[listener.tls]` with files that are good, and with keys of others. Other errors: `tests/config/tls.toml`.

use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

use super::*;
use crate::id::ListenerId;

const TEXT: &str = r#"
[[listener]]
name = "public"
bind = "127.0.0.1:0"
[listener.tls]
certificates = [{ cert = "cert.pem", key = "key.pem" }]
client_ca = "ca.pem"
"#;

/// Certificate and key.
fn make(name: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        let (certificate, key) = make("a.example");
        for (name, text) in [("cert.pem", &certificate), ("key.pem", &key), ("ca.pem", &make("ca.example").0)] {
            folder.write(name, text);
        }
        folder.write("cairn.toml", TEXT);
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }
}

#[test]
fn renewed_files_are_watched_and_no_unchanged_reload() {
    let folder = Folder::new();
    let mut loader = Loader::new(folder.path("cairn.toml"));
    let config = loader.load().unwrap();
    let tls = config.snapshot.listeners[0].tls.as_ref().unwrap();
    assert_eq!((tls.identities[0].names(), tls.clients.is_some()), (&["a.example".to_owned()][..], true));
    assert!(config.compile(1, &mut Ledger::default()).unwrap().tls(ListenerId(0)).is_some());
    for name in ["cert.pem", "key.pem", "ca.pem"] {
        assert!(loader.file_stamps().paths().any(|path| path == folder.path(name)), "{:?}", loader.file_stamps());
    }
    assert!(loader.load().unwrap().same(&config));
    folder.write("ca.pem", &make("ca.example").0);
    let authorities = loader.load().unwrap();
    assert!(!authorities.same(&config));
    let (certificate, key) = make("a.example");
    folder.write("cert.pem", &certificate);
    // Between the two renamings of a renewal.
    assert!(loader.load().unwrap_err().to_string().contains("belongs to another certificate"));
    assert!(loader.file_stamps().paths().any(|path| path == folder.path("key.pem")), "{:?}", loader.file_stamps());
    folder.write("key.pem", &key);
    assert!(!loader.load().unwrap().same(&authorities));
}

#[test]
fn without_the_table_a_listener_speaks_in_the_clear() {
    let config = parse("clear.toml", "[[listener]]\nname = \"a\"\nbind = \"127.0.0.1:0\"\n").unwrap();
    assert_eq!(config.snapshot.listeners[0].tls, None);
    assert!(config.compile(1, &mut Ledger::default()).unwrap().tls(ListenerId(0)).is_none());
}

#[test]
fn keys_of_other_certificates_are_pointed_at() {
    let folder = Folder::new();
    let report = |chain: &str| {
        folder.write("cert.pem", chain);
        let text = load(&folder.path("cairn.toml")).unwrap_err().to_string();
        let lines = text.lines().filter(|line| ["error: ", "note: ", "help: "].iter().any(|mark| line.contains(mark)));
        let prefix = format!("{}/", folder.0.path().display());
        lines.map(|line| line.trim_start().replacen(&prefix, "", 1)).collect::<Vec<_>>()
    };
    let own = std::fs::read_to_string(folder.path("cert.pem")).unwrap();
    let other = make("other.example").0;
    let mut expected = [
        "cairn.toml:6:44: error: the file \"key.pem\" cannot be used: its private key belongs to another certificate",
        "cairn.toml:6:26: note: the certificate is here",
        "help: name the key that the certificate was made for",
    ];
    assert_eq!(report(&other), expected);
    expected[0] = "cairn.toml:6:44: error: the file \"key.pem\" cannot be used: its private key belongs to certificate 2 of \
                   the chain, not to the first";
    expected[2] = "help: put the certificate of the key first in its file";
    assert_eq!(report(&format!("{other}{own}")), expected);
}

#[test]
fn files_of_a_part_are_relative_to_it_and_shown_so() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path("conf.d")).unwrap();
    for name in ["cert.pem", "key.pem", "ca.pem"] {
        std::fs::rename(folder.path(name), folder.path("conf.d").join(name)).unwrap();
    }
    folder.write("cairn.toml", "");
    folder.write("conf.d/10.toml", TEXT);
    let shown = show(folder.0.path()).unwrap();
    for line in
        ["certificates = [{ cert = \"conf.d/cert.pem\", key = \"conf.d/key.pem\" }]", "client_ca = \"conf.d/ca.pem\""]
    {
        assert!(shown.contains(line), "{shown}");
    }
    folder.write("shown.toml", &shown);
    assert_eq!(load(&folder.path("shown.toml")).unwrap().snapshot, load(folder.0.path()).unwrap().snapshot);
}
