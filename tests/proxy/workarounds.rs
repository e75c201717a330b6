//! What is done without on kernels with defects, forced: traffic is the same. Not here: how a kernel is tried (`src/uring`).

use std::os::unix::net::UnixListener;
use std::thread;

use crate::bodies::{self, Framing};
use crate::harness::{Origin, Proxy, Setup, Wire, refused_without};

#[test]
fn traffic_is_the_same_without_what_a_kernel_may_break() {
    for names in ["no-bundles", "peek-fin", "no-bundles,peek-fin"] {
        for framing in [Framing::Length, Framing::Chunks, Framing::Close] {
            let origin = bodies::origin(framing);
            let proxy = Proxy::start_without(names, &Setup::to(&[&origin.address]).text());
            for name in names.split(',') {
                assert!(proxy.workarounds.contains(name), "{:?}", proxy.workarounds);
            }
            for length in [0, 1, 16_384, 100_000, 20_000_000] {
                bodies::download(&proxy, length);
            }
            if framing != Framing::Close {
                bodies::upload(&proxy, framing, 20_000_000);
            }
        }
    }
}

/// The end of a response is the end of the connection, and comes with it, over a Unix-domain socket as well.
#[test]
fn an_end_that_comes_with_data_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("origin");
    let listener = UnixListener::bind(&path).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut wire = Wire::over(stream.unwrap());
            wire.head();
            wire.send("HTTP/1.1 200 OK\r\n\r\nall of it");
        }
    });
    let tcp = Origin::start(|mut wire, _| {
        wire.head();
        wire.send("HTTP/1.1 200 OK\r\n\r\nall of it");
    });
    for endpoint in [format!("unix:{}", path.display()), tcp.address] {
        let proxy = Proxy::start_without("peek-fin", &Setup::to(&[&endpoint]).text());
        for _ in 0..50 {
            assert_eq!(proxy.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").text(), "all of it");
        }
    }
}

#[test]
fn a_workaround_that_does_not_exist_is_refused() {
    let output = refused_without("bundles", &Setup::to(&["127.0.0.1:1"]).text());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && said.contains("no-bundles and peek-fin"), "{said}");
}
