//! Reads the tree and fails on what the compiler does not check: import order, fences, sizes, bans, documents.
//! Each message names the place and the cure.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Crates with one importer, by path prefix under `src/`.
const SOLE_IMPORTERS: [(&str, &str); 16] = [
    ("glommio", "runtime/"),
    ("crossbeam", "runtime/"),
    ("io_uring", "uring/"),
    ("socket2", "uring/"),
    ("toml", "config/"),
    ("opentelemetry_proto", "observer/"),
    ("prost", "observer/"),
    ("httparse", "nowhere: it is the oracle of tests"),
    ("clap", "cli/"),
    ("ratatui", "cli/"),
    ("rustls", "tls/"),
    ("webpki", "tls/"),
    ("webpki_roots", "tls/"),
    ("rustls_native_certs", "tls/"),
    ("aws_lc_rs", "tls/"),
    ("zeroize", "tls/"),
];
/// Where unsafe code may stand.
const UNSAFE: [&str; 2] = ["uring/", "buffer/"];
/// Modules that requests flow through.
const DATA_PATH: [&str; 18] = [
    "worker.rs",
    "listener.rs",
    "downstream/",
    "exchange/",
    "upstream.rs",
    "pool.rs",
    "forward/",
    "respond.rs",
    "http/",
    "http2/",
    "tls/client_hello.rs",
    "tls/handshake.rs",
    "tls/keys.rs",
    "tls/record.rs",
    "tls/session.rs",
    "tls/traffic.rs",
    "uring/",
    "buffer/",
];
/// Words that allocate or share, and what to use instead. Tests and start-up say so with `tidy: start-up`.
const BANS: [(&str, &str); 6] = [
    ("Box<dyn", "match on an enum"),
    ("&dyn ", "match on an enum or take a type parameter"),
    ("String::", "spans, byte slices or `&'static str`"),
    ("format!(", "write into the worker's scratch buffer"),
    (".to_vec()", "a lease"),
    (".unwrap()", "a typed error, or a match"),
];
/// Lines of a file without its tests.
const LINES_MAX: usize = 600;

struct Source {
    /// Under `src/`, with `/`.
    path: String,
    /// Without the inline tests.
    code: String,
}

fn sources() -> Vec<Source> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("a readable folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    walk(&root, &mut found);
    found.sort();
    let is_test = |path: &str| path.ends_with("tests.rs") || path.contains("/tests/");
    let load = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("UTF-8");
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned();
        let path = path.strip_prefix(&root).expect("under src").to_string_lossy().into_owned();
        Source { path, code }
    };
    found.into_iter().map(load).filter(|source| !is_test(&source.path)).collect()
}

/// Modules of `lib.rs`, in order.
fn modules() -> Vec<String> {
    let lib = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).expect("lib.rs");
    let names = lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    names.map(str::to_owned).collect()
}

fn judge(problems: Vec<String>) {
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

/// Lines of code with their numbers, comments left out.
fn lines(source: &Source) -> impl Iterator<Item = (usize, &str)> {
    source
        .code
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

#[test]
fn a_module_imports_only_modules_declared_below_it() {
    let order: BTreeMap<String, usize> = modules().into_iter().enumerate().map(|(index, name)| (name, index)).collect();
    let mut problems = Vec::new();
    for source in sources() {
        let own = source.path.split(['/', '.']).next().unwrap_or_default();
        let Some(&position) = order.get(own) else { continue };
        for (number, line) in lines(&source) {
            for part in line.split("crate::").skip(1) {
                let name: String = part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if order.get(&name).is_some_and(|&target| target < position) {
                    problems.push(format!(
                        "src/{}:{number}: `{own}` imports `{name}`, which is declared above it: move the code or the call",
                        source.path
                    ));
                }
            }
        }
    }
    judge(problems);
}

#[test]
fn crates_and_unsafe_code_stay_behind_their_fences() {
    let mut problems = Vec::new();
    for source in sources() {
        for (number, line) in lines(&source) {
            for (name, importer) in SOLE_IMPORTERS {
                let used = line.contains(&format!("use {name}::")) || line.contains(&format!(" {name}::"));
                if used && !source.path.starts_with(importer) && !line.contains(&format!("crate::{name}")) {
                    problems.push(format!("src/{}:{number}: only {importer} may import {name}", source.path));
                }
            }
            let is_unsafe =
                line.contains("unsafe {") || line.contains("unsafe fn") || line.contains("allow(unsafe_code");
            if is_unsafe && !UNSAFE.iter().any(|fence| source.path.starts_with(fence)) {
                problems.push(format!("src/{}:{number}: unsafe code belongs in uring or buffer", source.path));
            }
        }
    }
    judge(problems);
}

#[test]
fn files_say_what_they_are_and_stay_small() {
    let mut problems = Vec::new();
    for source in sources() {
        if !source.code.starts_with("//! ") {
            problems.push(format!("src/{}: its first line must say what it is and what it is not", source.path));
        }
        let count = source.code.lines().count();
        if count > LINES_MAX {
            problems.push(format!("src/{}: {count} lines; split it into files of one idea", source.path));
        }
    }
    judge(problems);
}

#[test]
fn the_data_path_neither_boxes_nor_formats() {
    let mut problems = Vec::new();
    let flows = |source: &Source| DATA_PATH.iter().any(|prefix| source.path.starts_with(prefix));
    for source in sources().iter().filter(|source| flows(source) && !source.path.ends_with("start.rs")) {
        for (number, line) in lines(source) {
            for (word, instead) in BANS.iter().filter(|(word, _)| line.contains(word)) {
                problems.push(format!("src/{}:{number}: `{word}` in the data path; use {instead}", source.path));
            }
        }
    }
    judge(problems);
}

#[test]
fn architecture_has_a_heading_for_each_module() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md");
    let text = std::fs::read_to_string(path).expect("ARCHITECTURE.md");
    let headings: Vec<String> =
        text.lines().filter_map(|line| Some(line.strip_prefix("### `")?.split('`').next()?.to_owned())).collect();
    assert_eq!(headings, modules(), "the code map of ARCHITECTURE.md follows lib.rs");
}
