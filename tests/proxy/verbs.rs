//! Verbs reach the process that they mean, or say which one they have reached. Not here: what they do (`reload`).

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use crate::harness::{Origin, Proxy, Setup, refused};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn cairn(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cairn")).current_dir(directory).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// A copy of the proxy's file in a folder of its own. It names the same socket.
fn copy(proxy: &Proxy) -> tempfile::TempDir {
    let other = tempfile::tempdir().unwrap();
    fs::copy(proxy.folder().join("cairn.toml"), other.path().join("copy.toml")).unwrap();
    other
}

/// They obeyed whoever had the socket: `drain` ended another process, `reload` of a copy said that nothing had changed.
#[test]
fn a_verb_that_means_another_file_is_refused() {
    let origin = Origin::answering(OK);
    let mut proxy = Setup::to(&[&origin.address]).managed().start();
    let other = copy(&proxy);
    let pid = proxy.status()["pid"].as_u64().unwrap();
    let (own, meant) = (proxy.folder().join("cairn.toml"), other.path().join("copy.toml"));
    let expected = format!("process {pid} serves {}, not {}", own.display(), meant.display());
    for verb in [
        &["drain"][..],
        &["reload"],
        &["reload", "--guard", "1s"],
        &["reload", "--accept"],
        &["reload", "--rollback"],
        &["status"],
        &["status", "--json"],
        &["routes"],
    ] {
        let output = cairn(other.path(), &[verb, &["-c", "copy.toml"]].concat());
        let said = text(&output.stderr);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), ""), "{verb:?} {said}");
        assert!(said.starts_with(&expected), "{verb:?} {said}");
        assert_eq!(
            said.contains("copy the other one over it"),
            verb[0] == "reload" && verb.get(1) != Some(&"--accept") && verb.get(1) != Some(&"--rollback"),
            "{said}"
        );
    }
    proxy.said(&format!("cairn: /drain is refused: it means {}, and ", meant.display()));
    assert_eq!(proxy.ask(GET).status(), 200);
    assert_eq!(proxy.status()["reloads"]["unchanged"], 0);
    // The same file by another way, and a socket that is named, are what is meant.
    symlink(proxy.folder(), other.path().join("link")).unwrap();
    assert_eq!(cairn(other.path(), &["status", "-c", "link/cairn.toml"]).status.code(), Some(0));
    assert_eq!(cairn(proxy.folder(), &["reload", "-c", "./cairn.toml"]).status.code(), Some(0));
    let socket = proxy.folder().join("admin.sock");
    assert_eq!(cairn(other.path(), &["routes", "--socket", socket.to_str().unwrap()]).status.code(), Some(0));
    // Also when the file is gone for the moment.
    let away = proxy.folder().join("away.toml");
    fs::rename(&own, &away).unwrap();
    let named = cairn(other.path(), &["status", "--socket", socket.to_str().unwrap()]);
    assert_eq!(named.status.code(), Some(0));
    fs::rename(away, own).unwrap();
    assert_eq!(proxy.verb(&["drain"]).status.code(), Some(0));
    assert_eq!(proxy.wait().code(), Some(0));
}

#[test]
fn a_plan_of_another_file_says_so() {
    let origin = Origin::answering(OK);
    let proxy = Setup::to(&[&origin.address]).managed().start();
    let own = proxy.verb(&["plan"]);
    assert_eq!((own.status.code(), text(&own.stdout)), (Some(0), "nothing would change\n"));
    let other = copy(&proxy);
    let plan = cairn(other.path(), &["plan", "-c", "copy.toml"]);
    let said = text(&plan.stdout);
    let (served, meant) = (proxy.folder().join("cairn.toml"), other.path().join("copy.toml"));
    let note = format!(" serves {}, not {}: if it said what ", served.display(), meant.display());
    assert!(said.starts_with("process ") && said.contains(&note), "{said}");
    assert!(plan.status.code() == Some(0) && said.ends_with("\nnothing would change\n"), "{said}");
    let json: serde_json::Value =
        serde_json::from_slice(&cairn(other.path(), &["plan", "--json", "-c", "copy.toml"]).stdout).unwrap();
    assert!(json["note"].as_str().unwrap().contains(&note), "{json}");
}

#[test]
fn a_reload_from_another_file_says_what_there_is_instead() {
    let output = cairn(Path::new("/"), &["reload", "-c", "a.toml", "--from", "new.toml"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("copy new.toml over it") && said.contains("`cairn plan -c new.toml`"), "{said}");
    assert!(!text(&cairn(Path::new("/"), &["reload", "--help"]).stdout).contains("--from"));
}

/// The default socket is judged the same: `src/control/admin.rs`.
#[test]
fn a_socket_that_a_living_process_has_ends_the_start() {
    let origin = Origin::answering(OK);
    let setup = Setup::to(&[&origin.address]);
    let proxy = setup.clone().managed().start();
    let socket = proxy.folder().join("admin.sock").display().to_string();
    let output = refused(&setup.more(&format!("[admin]\nlisten = \"off\"\nsocket = {socket:?}")).text());
    let pid = proxy.status()["pid"].as_u64().unwrap();
    let expected = format!(
        "cairn: process {pid} has the admin socket {socket} already, and each needs one of its own: set `socket = \"/another/path\"` \
         in [admin], or `socket = \"off\"`, or end that process first\n"
    );
    let said = text(&output.stderr);
    assert!(output.status.code() == Some(1) && said.ends_with(&expected), "{said}");
    assert_eq!(proxy.ask(GET).status(), 200);
}

/// `tests/cli.rs` has those that need no process.
#[test]
fn an_answer_that_cannot_be_written_is_an_error() {
    let proxy = Setup::to(&["127.0.0.1:1"]).managed().start();
    for verb in [&["status"][..], &["status", "--json"], &["routes"], &["plan"], &["reload"], &["drain"]] {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let output = proxy.asking(verb).stdout(full).output().unwrap();
        let why = "cairn: cannot write to standard output: No space left on device (os error 28)\n";
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(1), why), "{verb:?}");
    }
}
