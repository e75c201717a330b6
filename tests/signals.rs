//! Signals that come before anybody is served. One test, because signals belong to the process.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use cairn::config::Loader;
use cairn::control::Compiler;
use cairn::server::Server;
use rustix::process::{Signal, getpid, kill_process};

fn raise(signal: Signal) {
    kill_process(getpid(), signal).unwrap();
}

/// Asks until the answer has the status 204.
fn wait_for_204(socket: &Path) {
    let patience = Instant::now() + Duration::from_secs(30);
    let mut text = String::new();
    while Instant::now() < patience {
        if let Ok(mut client) = UnixStream::connect(socket) {
            client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
            text.clear();
            client.read_to_string(&mut text).unwrap();
            if text.starts_with("HTTP/1.1 204 ") {
                return;
            }
        }
        thread::yield_now();
    }
    panic!("{text}");
}

#[test]
fn signals_that_come_early_neither_kill_nor_are_forgotten() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = Server::new().unwrap();
        // A name that nobody answers for, say.
        let (never, stuck) = channel::<()>();
        raise(Signal::HUP);
        raise(signal);
        assert_eq!(server.prepare(move || stuck.recv().is_ok()), None);
        drop(never);
        server.end();
    }

    let folder = tempfile::tempdir().unwrap();
    let (file, socket) = (folder.path().join("cairn.toml"), folder.path().join("listener.sock"));
    let write = |status: u16| {
        let text = format!(
            "watch = false\n[workers]\ncount = 1\n[admin]\nlisten = \"127.0.0.1:0\"\nsocket = \"{0}/admin.sock\"\n\
             [[listener]]\nname = \"l\"\nbind = \"unix:{0}/listener.sock\"\n[[route]]\nrespond = {{ status = {status} }}\n",
            folder.path().display()
        );
        std::fs::write(&file, text).unwrap();
    };
    write(503);
    let mut server = Server::new().unwrap();
    let mut loader = Loader::new(file.clone());
    let load = move || {
        let config = loader.load();
        (loader, config)
    };
    let (loader, config) = server.prepare(load).unwrap();
    write(204);
    raise(Signal::HUP);
    let served = thread::spawn(move || server.run(config.unwrap(), Compiler::new(Some(loader))));
    wait_for_204(&socket);
    raise(Signal::TERM);
    served.join().unwrap().unwrap();
}
