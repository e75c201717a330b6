//! Logins that hold for a connection (RFC 4559 section 6): whose connection to the origin a client gets. Not here: other
//! authentication, which passes through.

use std::sync::mpsc;

use crate::harness::{Origin, Proxy, Setup, Wire, next, poll};

/// Whoever has sent `Authorization: NTLM name` or `Negotiate name` is `name` for as long as the connection lives.
fn trusting() -> Origin {
    Origin::start(|mut wire, number| {
        let mut user = None;
        while let Some(request) = wire.message() {
            let login = request.field("authorization").and_then(|value| Some(value.split_once(' ')?.1.to_owned()));
            user = login.or(user);
            let (status, challenge, body) = match &user {
                Some(user) => ("200 OK", String::new(), format!("{user} on {number}")),
                None => (
                    "401 Unauthorized",
                    "WWW-Authenticate: Basic realm=a, NTLM\r\n".to_owned(),
                    format!("who? {number}"),
                ),
            };
            wire.send(format!("HTTP/1.1 {status}\r\n{challenge}Content-Length: {}\r\n\r\n{body}", body.len()));
        }
    })
}

fn ask(client: &mut Wire, fields: &str) -> String {
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
    client.message().unwrap().text().to_owned()
}

fn start(origin: &Origin) -> Proxy {
    Setup::to(&[&origin.address]).start()
}

#[test]
fn a_login_belongs_to_its_client() {
    for scheme in ["NTLM", "Negotiate", "negotiate"] {
        let origin = trusting();
        let proxy = start(&origin);
        let (mut alice, mut bob) = (proxy.client(), proxy.client());
        assert_eq!(ask(&mut alice, &format!("Authorization: {scheme} alice\r\n")), "alice on 0");
        assert_eq!(ask(&mut bob, ""), "who? 1");
        // What was asked for a login is that client's from then on.
        assert_eq!(ask(&mut proxy.client(), ""), "who? 2");
        assert_eq!(ask(&mut bob, &format!("Authorization: {scheme} bob\r\n")), "bob on 1");
        assert_eq!(ask(&mut alice, ""), "alice on 0");
        assert_eq!(ask(&mut bob, ""), "bob on 1");
    }
}

#[test]
fn the_connection_goes_with_its_client() {
    let (ended, ends) = mpsc::channel();
    let origin = Origin::start(move |mut wire, number| {
        while wire.message().is_some() {
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
        // The test may be over.
        let _ = ended.send(number);
    });
    let proxy = start(&origin);
    let mut alice = proxy.client();
    ask(&mut alice, "Authorization: NTLM alice\r\n");
    drop(alice);
    assert_eq!(next(&ends), 0);
    // An ordinary one is pooled.
    ask(&mut proxy.client(), "Authorization: Basic alice\r\n");
    ask(&mut proxy.client(), "");
    assert_eq!(origin.connections(), 2);
}

/// The origin ends the connection that is somebody's: the next request begins anew, and no other client is hurt.
#[test]
fn a_bound_connection_that_ends_is_replaced() {
    let origin = Origin::start(|mut wire, number| {
        wire.message();
        let body = format!("on {number}");
        wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
        if number > 0 {
            wire.message();
        }
    });
    let proxy = start(&origin);
    let mut alice = proxy.client();
    assert_eq!(ask(&mut alice, "Authorization: NTLM alice\r\n"), "on 0");
    assert_eq!(ask(&mut alice, "Authorization: NTLM alice\r\n"), "on 1");
    poll(|| (origin.connections() == 2).then_some(()));
    assert_eq!(ask(&mut proxy.client(), ""), "on 2");
}
