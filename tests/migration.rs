//! docs/migration.md: each key in its tables exists and takes the value that stands there, by `cairn check`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::Command;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, IsCa, Issuer, KeyIdMethod, KeyPair,
    SerialNumber, date_time_ymd,
};

/// Least rows of each table.
const ROWS: usize = 40;

/// The cells of each row of the table below the heading `name`.
fn rows(text: &str, name: &str) -> Vec<Vec<String>> {
    let (_, section) = text.split_once(&format!("\n## {name}\n")).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| ")).skip(1);
    rows.map(|row| row.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect()).collect()
}

/// Name of the key that a line sets.
fn key(line: &str) -> &str {
    line.split([' ', '.']).next().unwrap()
}

/// A configuration of one listener, route and cluster, in which `line` stands, and what it excludes does not.
fn configuration(line: &str) -> String {
    // `listener: name = 1` or `listener.limits.connections = 1`
    let (place, setting) = line.split_once(": ").or_else(|| line.split_once('.')).unwrap();
    let table = |title: &str, defaults: &[&str]| {
        let here = title.trim_matches(['[', ']']) == place;
        let is_action = ["split", "redirect", "respond"].contains(&key(setting));
        let excluded = |line: &str| here && (key(line) == key(setting) || (is_action && key(line) == "cluster"));
        let kept: String = defaults.iter().filter(|line| !excluded(line)).map(|line| format!("{line}\n")).collect();
        format!("{title}\n{kept}{}\n", if here { setting } else { "" })
    };
    let needed = match setting {
        rewrite if rewrite.starts_with("rewrite = { path_prefix") => "path_prefix = \"/old\"",
        tls if tls.starts_with("tls.client_auth") || tls.starts_with("tls.crl") => {
            "tls.client_ca = \"ca.pem\"\ntls.certificates = [{ cert = \"cert.pem\", key = \"key.pem\" }]"
        }
        tls if tls.starts_with("tls.client_ca") => "tls.certificates = [{ cert = \"cert.pem\", key = \"key.pem\" }]",
        hashed if hashed.starts_with("hash_on") => "balance = \"maglev\"",
        "balance = \"ring_hash\"" => "hash_on = \"source\"",
        _ => "",
    };
    let beside = |place: &str, key: &str| if place == key { needed } else { "" };
    [
        if ["workers", "admin", "log"].contains(&place) { table(&format!("[{place}]"), &[]) } else { String::new() },
        table("[[listener]]", &["name = \"a\"", "bind = \"127.0.0.1:8080\""]) + beside(place, "listener") + "\n",
        table("[[route]]", &["cluster = \"api\""]) + beside(place, "route") + "\n",
        table("[[cluster]]", &["name = \"api\"", "endpoints = [\"127.0.0.1:9000\"]"]) + beside(place, "cluster") + "\n",
        "[[cluster]]\nname = \"next\"\nendpoints = [\"127.0.0.1:9001\"]\n".to_owned(),
    ]
    .concat()
}

/// Files to which lines refer.
fn certificates(folder: &Path) {
    let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    fs::write(folder.join("ca.pem"), params.clone().self_signed(&key).unwrap().pem()).unwrap();
    let list = CertificateRevocationListParams {
        this_update: date_time_ymd(2024, 1, 1),
        next_update: date_time_ymd(4000, 1, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let list = list.signed_by(&Issuer::from_params(&params, &key)).unwrap();
    fs::write(folder.join("revoked.pem"), list.pem().unwrap()).unwrap();
    let own = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
    fs::write(folder.join("cert.pem"), own.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
}

#[test]
fn every_line_is_what_cairn_takes() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/migration.md")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let (mut checked, mut problems) = (0, Vec::new());
    for name in ["nginx", "HAProxy"] {
        let rows = rows(&text, name);
        assert!(rows.len() >= ROWS, "{name}");
        for row in rows {
            assert_eq!(row.len(), 3, "{row:?}");
            if row[1] == "–" {
                continue;
            }
            let line = row[1].strip_prefix('`').and_then(|cell| cell.strip_suffix('`')).unwrap();
            let configuration = configuration(line);
            let setting = line.split_once(": ").or_else(|| line.split_once('.')).unwrap().1;
            assert!(configuration.contains(setting), "{line}");
            fs::write(folder.path().join("cairn.toml"), &configuration).unwrap();
            let mut check = Command::new(env!("CARGO_BIN_EXE_cairn"));
            let output = check.args(["check", "-c", "cairn.toml"]).current_dir(folder.path()).output().unwrap();
            let report = String::from_utf8_lossy(&output.stderr);
            if !output.status.success() {
                problems.push(format!("{line}:\n{report}\n{configuration}"));
            }
            checked += 1;
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(checked > ROWS, "{checked}");
}
