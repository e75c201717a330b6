//! The files under `conf/`: each loads and compiles, and none of its keys can be misspelled or left out without a word.
//! Not here: the defaults that conf/cairn.toml documents (`src/config/tests.rs`).
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use cairn::config;

/// Path and text of each file; those of tenants are read with the file that names them.
fn files() -> Vec<(String, String)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf");
    let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    let mut files: Vec<_> =
        paths.map(|path| (path.to_str().unwrap().to_owned(), fs::read_to_string(path).unwrap())).collect();
    files.sort();
    files
}

/// Lines `key = …`, by number from 0.
fn keys(text: &str) -> Vec<(usize, &str)> {
    let keys = text.lines().enumerate().filter_map(|(number, line)| Some((number, line.split_once(" = ")?.0)));
    keys.filter(|(_, key)| key.bytes().all(|c| c.is_ascii_lowercase() || c == b'_')).collect()
}

fn replace_line(text: &str, number: usize, replace: impl Fn(&str) -> String) -> String {
    let lines = text.lines().enumerate();
    lines.map(|(at, line)| if at == number { replace(line) } else { line.to_owned() } + "\n").collect()
}

#[test]
fn every_file_loads_and_compiles() {
    let files = files();
    let names = files.iter().map(|(name, _)| name.rsplit('/').next().unwrap().strip_suffix(".toml").unwrap());
    let expected = ["cairn", "demo", "edge", "groups", "minimal", "sidecar", "teams", "waypoint"];
    assert_eq!(names.collect::<Vec<_>>(), expected);
    for (name, text) in files {
        let compiled =
            config::parse(&name, &text).and_then(|config| config.compile(1, &mut cairn::snapshot::Ledger::default()));
        assert!(compiled.is_ok(), "{}", compiled.unwrap_err());
    }
}

#[test]
fn a_misspelled_key_is_pointed_at() {
    for (name, text) in files() {
        for (number, key) in keys(&text) {
            let garbled = replace_line(&text, number, |line| format!("q{line}"));
            let report = config::parse(&name, &garbled).unwrap_err().to_string();
            let expected = format!("{name}:{}:1: error: unknown key `q{key}`", number + 1);
            assert!(report.contains(&expected), "{expected}\n{report}");
            assert!(report.contains(&format!("help: did you mean `{key}`?")), "{report}");
        }
    }
}

#[test]
fn a_missing_key_is_asked_for_at_its_table() {
    for (name, text) in files() {
        for (number, key) in keys(&text) {
            let header = text.lines().take(number).filter(|line| line.starts_with('[')).count();
            let (at, table) =
                text.lines().enumerate().filter(|(_, line)| line.starts_with('[')).nth(header.max(1) - 1).unwrap();
            let table = table.split(' ').next().unwrap();
            let required = matches!(
                (table, key),
                ("[[listener]]", "name" | "bind")
                    | ("[[cluster]]", "name" | "endpoints")
                    | ("[[group]]", "name")
                    | ("[[tenant]]", _)
            );
            let stripped = replace_line(&text, number, |_| String::new());
            if required {
                let report = config::parse(&name, &stripped).unwrap_err().to_string();
                let expected = format!("{name}:{}:1: error: {table} has no `{key}`", at + 1);
                assert!(report.contains(&expected), "{expected}\n{report}");
            } else if !matches!(key, "cluster" | "split" | "redirect" | "respond") {
                assert!(config::parse(&name, &stripped).is_ok(), "{name}: {key} is not required");
            }
        }
    }
}
