//! The address of the admin interface against clients that mean no good: by which names it answers, how many it serves and how
//! long it waits. Not here: what it answers (`reload`).

use std::net::TcpStream;

use crate::harness::{Message, PATIENCE, Proxy, Setup, Wire};

fn start(keys: &str) -> Proxy {
    let admin = format!("[admin]\nlisten = \"127.0.0.1:0\"\nsocket = \"FOLDER/admin.sock\"\n{keys}");
    Setup::to(&["127.0.0.1:1"]).more(&admin).start()
}

fn ask(proxy: &Proxy, head: &str) -> Message {
    let mut client = Wire::connect(proxy.admin());
    client.send(format!("{head}\r\n"));
    client.message().unwrap()
}

/// A page of another site whose name leads here reads nothing (DNS rebinding).
#[test]
fn other_sites_names_are_refused() {
    let proxy = start("hosts = [\"admin.example.com\", \"*.ops.example\"]");
    let address = proxy.admin().to_owned();
    for (head, expected) in [
        (format!("GET /status HTTP/1.1\r\nHost: {address}\r\n"), 200),
        ("GET /status HTTP/1.1\r\nHost: localhost\r\n".to_owned(), 200),
        ("GET /status HTTP/1.1\r\nHost: [::1]:9901\r\n".to_owned(), 200),
        ("GET /status HTTP/1.1\r\nHost: admin.example.com:9901\r\n".to_owned(), 200),
        ("GET /metrics HTTP/1.1\r\nHost: a.ops.example\r\n".to_owned(), 200),
        ("GET /status HTTP/1.0\r\n".to_owned(), 200),
        ("GET /status HTTP/1.1\r\nHost: evil.example\r\n".to_owned(), 403),
        ("GET /status HTTP/1.1\r\nHost: evil.example:9901\r\n".to_owned(), 403),
        ("GET /metrics HTTP/1.0\r\nHost: evil.example\r\n".to_owned(), 403),
        ("GET /nowhere HTTP/1.1\r\nHost: evil.example\r\n".to_owned(), 403),
        ("POST /reload HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 0\r\n".to_owned(), 403),
        (format!("GET http://evil.example/status HTTP/1.1\r\nHost: {address}\r\n"), 403),
        ("GET http://localhost/status HTTP/1.1\r\nHost: evil.example\r\n".to_owned(), 403),
        (format!("GET /status HTTP/1.1\r\nHost: {address}\r\nHost: evil.example\r\n"), 400),
        ("GET /status HTTP/1.1\r\n".to_owned(), 400),
    ] {
        let answer = ask(&proxy, &head);
        assert_eq!(answer.status(), expected, "{head:?} {answer:?}");
        assert!(expected == 200 || !answer.text().contains("version"), "{answer:?}");
    }
    let any = start("hosts = [\"*\"]");
    assert_eq!(ask(&any, "GET /status HTTP/1.1\r\nHost: evil.example\r\n").status(), 200);
}

#[test]
fn silent_clients_keep_nobody_out() {
    const SILENT: usize = 200;
    let proxy = start("");
    let before = proxy.descriptors();
    let mut silent: Vec<TcpStream> = Vec::new();
    for number in 0..SILENT {
        let mut client = Wire::connect(proxy.admin());
        if number % 2 == 0 {
            client.send("GET /status HTTP/1.1\r\nHost: loc");
        }
        silent.push(client.stream);
        if number % 20 == 0 {
            assert_eq!(ask(&proxy, "GET /status HTTP/1.1\r\nHost: localhost\r\n").status(), 200, "{number}");
        }
    }
    assert_eq!(ask(&proxy, "GET /status HTTP/1.1\r\nHost: localhost\r\n").status(), 200);
    let held = proxy.descriptors() - before;
    assert!(held <= 80, "{held} descriptors for {SILENT} silent clients");
    // And none of them is waited for longer than for a head.
    for client in silent {
        client.set_read_timeout(Some(2 * PATIENCE)).unwrap();
        let mut wire = Wire::over(client);
        wire.end();
    }
}
