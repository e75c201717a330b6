//! Origins that speak HTTP/2: requests share connections, and none is lost when one of those ends. Not here: frames (`http2_wire`).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;

use rcgen::KeyPair;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::harness::{End, Origin, Proxy, Setup, Wire, next};
use crate::http2_wire::{
    CANCEL, DATA, END_STREAM, H2Wire, HEADERS, MAX_CONCURRENT_STREAMS, PING, REFUSED_STREAM, RST_STREAM, Request,
};
use crate::tls::Authority;

/// A proxy to one origin over HTTP/2, with further keys of the cluster.
fn start(origin: &Origin, keys: &str) -> Proxy {
    Setup::to(&[&origin.address]).cluster(&format!("protocol = \"http2\"\n{keys}")).start()
}

/// Answers every request with its path.
fn echoing() -> Origin {
    Origin::start(|wire, _| {
        let Some(mut wire) = H2Wire::accept(wire, &[]) else { return };
        while let Some(request) = wire.request() {
            wire.answer(request.stream, request.field(":path").unwrap().as_bytes());
        }
    })
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
}

#[test]
fn requests_share_a_connection() {
    let (sender, requests) = mpsc::channel();
    let origin = Origin::start(move |wire, _| {
        let Some(mut wire) = H2Wire::accept(wire, &[]) else { return };
        while let Some(request) = wire.request() {
            wire.headers(request.stream, &[(":status", "103"), ("link", "</a>")], false);
            wire.headers(request.stream, &[(":status", "200"), ("x-a", "b")], false);
            wire.send(DATA, 0, request.stream, b"hel");
            wire.send(DATA, 0, request.stream, b"lo");
            wire.headers(request.stream, &[("x-sum", "5")], true);
            // The test may be over.
            let _ = sender.send(request);
        }
    });
    let proxy = start(&origin, "");
    for (number, body) in
        ["", "Content-Length: 2\r\n\r\nhi", "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-T: 1\r\n\r\n"]
            .into_iter()
            .enumerate()
    {
        let mut client = proxy.client();
        let method = if body.is_empty() { "GET" } else { "POST" };
        // Trailers of a message that names fields in Connection are dropped.
        let hop = if number == 2 { "" } else { "Connection: x-hop\r\nX-Hop: 1\r\n" };
        let end = if body.is_empty() { "\r\n" } else { body };
        client.send(format!("{method} /a?b=c HTTP/1.1\r\nHost: shop.test\r\nX-Case: {number}\r\n{hop}{end}"));
        assert_eq!(client.head().unwrap().lines().next(), Some("HTTP/1.1 103 "));
        let answer = client.message().unwrap();
        assert_eq!((answer.status(), answer.text(), answer.field("x-a").as_deref()), (200, "hello", Some("b")));
        assert_eq!(answer.trailers, "x-sum: 5\r\n");
        let request = next(&requests);
        assert_eq!(request.stream as usize, 2 * number + 1, "one connection");
        let pseudo = [":method", ":scheme", ":path", ":authority"].map(|name| request.field(name).unwrap().to_owned());
        assert_eq!(pseudo, [method, "http", "/a?b=c", "shop.test"]);
        assert_eq!(request.field("x-case").unwrap(), number.to_string());
        for gone in ["connection", "host", "x-hop", "transfer-encoding"] {
            assert_eq!(request.field(gone), None, "{gone}");
        }
        assert_eq!(request.body, if body.is_empty() { &b""[..] } else { b"hi" });
        let trailers = if number == 2 { vec![("x-t".to_owned(), "1".to_owned())] } else { vec![] };
        assert_eq!(request.trailers, trailers);
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_large_body_goes_both_ways() {
    let origin = Origin::start(|wire, _| {
        let Some(mut wire) = H2Wire::accept(wire, &[]) else { return };
        while let Some(request) = wire.request() {
            // The window of the proxy is 128 KiB.
            wire.headers(request.stream, &[(":status", "200")], false);
            for part in request.body.chunks(10_000).take(12) {
                wire.send(DATA, 0, request.stream, part);
            }
            wire.send(DATA, END_STREAM, request.stream, b"");
        }
    });
    let proxy = start(&origin, "");
    let body: Vec<u8> = (0..1_000_000_u32).map(|at| (at % 251) as u8).collect();
    for _ in 0..3 {
        let mut client = proxy.client();
        client.send(format!("PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()));
        client.send(&body);
        assert_eq!(client.message().unwrap().body, body[..120_000]);
    }
    assert_eq!(origin.connections(), 1);
}

/// Sends one request a client, all at once, and returns their answers.
fn all_at_once(proxy: &Proxy, requests: &[String]) -> Vec<(u16, String)> {
    let address = proxy.address("public").to_owned();
    let ask = |request: &String| {
        let (address, request) = (address.clone(), request.clone());
        thread::spawn(move || {
            let mut client = Wire::connect(&address);
            client.send(request);
            let answer = client.message().unwrap();
            (answer.status(), answer.text().to_owned())
        })
    };
    let clients: Vec<_> = requests.iter().map(ask).collect();
    clients.into_iter().map(|client| client.join().unwrap()).collect()
}

/// However many streams an origin allows for, no more are open, and further connections are made only as far as they may be.
#[test]
fn streams_are_capped() {
    for (allowed, keys, connections) in [
        (3, "http2 = { connections = 1 }", 1),
        (100, "http2 = { streams = 4, connections = 1 }", 1),
        (4, "http2 = { connections = 2 }", 2),
    ] {
        let most = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&most);
        let origin = Origin::start(move |wire, _| {
            let Some(mut wire) = H2Wire::accept(wire, &[(MAX_CONCURRENT_STREAMS, allowed)]) else { return };
            let mut open = Vec::<Request>::new();
            while let Some((request, ended)) = wire.head() {
                assert!(ended);
                open.push(request);
                seen.fetch_max(open.len(), Ordering::SeqCst);
                // Answered two at a time, so that there always are some open.
                if open.len() >= 2 {
                    for request in open.drain(..) {
                        wire.answer(request.stream, request.field(":path").unwrap().as_bytes());
                    }
                }
            }
        });
        let proxy = start(&origin, keys);
        let requests: Vec<_> = (0..40).map(|number| get(&format!("/{number}"))).collect();
        let answers = all_at_once(&proxy, &requests);
        for (number, answer) in answers.into_iter().enumerate() {
            assert_eq!(answer, (200, format!("/{number}")), "{keys}");
        }
        assert!(most.load(Ordering::SeqCst) <= allowed.min(4) as usize, "{keys}");
        assert!(origin.connections() <= connections, "{keys}");
    }
}

/// Connections that requests share count as others do: where `limits.connections` allows for two, there are two, whatever `http2` would
/// allow; requests wait for their streams.
#[test]
fn shared_connections_stay_within_the_limit() {
    let both = Barrier::new(2);
    let origin = Origin::start(move |wire, number| {
        let Some(mut wire) = H2Wire::accept(wire, &[(MAX_CONCURRENT_STREAMS, 1)]) else { return };
        let mut waits = number < 2;
        while let Some(request) = wire.request() {
            // Neither is answered before there are two, so that there are two.
            if std::mem::take(&mut waits) {
                both.wait();
            }
            wire.answer(request.stream, request.field(":path").unwrap().as_bytes());
        }
    });
    let keys =
        "http2 = { streams = 1, connections = 8 }\nlimits = { connections = 2, queue = 100, queue_timeout = \"10s\" }";
    let proxy = start(&origin, keys);
    let requests: Vec<_> = (0..40).map(|number| get(&format!("/{number}"))).collect();
    for (number, answer) in all_at_once(&proxy, &requests).into_iter().enumerate() {
        assert_eq!(answer, (200, format!("/{number}")));
    }
    assert_eq!(origin.connections(), 2);
}

/// RFC 9113 section 8.7: whatever the method, it was not processed.
#[test]
fn refused_streams_are_sent_again() {
    let origin = Origin::start(|wire, _| {
        let Some(mut wire) = H2Wire::accept(wire, &[]) else { return };
        let mut count = 0;
        while let Some(request) = wire.request() {
            count += 1;
            if count % 2 == 1 {
                wire.reset(request.stream, REFUSED_STREAM);
            } else {
                wire.answer(request.stream, &request.body);
            }
        }
    });
    let proxy = start(&origin, "http2 = { connections = 1 }");
    for number in 0..20 {
        let body = format!("number {number}");
        let request = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let answer = proxy.ask(&request);
        assert_eq!((answer.status(), answer.text()), (200, &*body));
    }
    let answer = {
        let stubborn = Origin::start(|wire, _| {
            let Some(mut wire) = H2Wire::accept(wire, &[]) else { return };
            while let Some(request) = wire.request() {
                wire.reset(request.stream, REFUSED_STREAM);
            }
        });
        start(&stubborn, "").ask(&get("/"))
    };
    assert_eq!((answer.status(), &*answer.reason()), (503, "upstream_refused"));
}

/// An origin that takes 50 streams a connection, and says so when many more are on their way.
#[test]
fn nothing_is_lost_when_connections_go_away() {
    nothing_is_lost("http2 = { connections = 2 }");
}

/// The next connection is made when the one before is gone, and is not idle while it is being made.
#[test]
fn nothing_is_lost_when_the_only_connection_goes_away() {
    nothing_is_lost("limits = { connections = 1, queue = 100, queue_timeout = \"60s\" }");
}

fn nothing_is_lost(keys: &str) {
    let executed = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&executed);
    let origin = Origin::start(move |wire, _| {
        let Some(mut wire) = H2Wire::accept(wire, &[]) else { return };
        let mut count = 0;
        while let Some(request) = wire.request() {
            count += 1;
            if count > 50 {
                continue;
            }
            if count == 50 {
                wire.go_away(request.stream);
            }
            counter.fetch_add(1, Ordering::SeqCst);
            wire.answer(request.stream, &request.body);
        }
    });
    let proxy = start(&origin, keys);
    for round in 0..10 {
        let requests: Vec<_> = (10..50)
            .map(|number| format!("POST /{number} HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n{round}-{number}"))
            .collect();
        let answers = all_at_once(&proxy, &requests);
        for (number, answer) in (10..50).zip(answers) {
            assert_eq!(answer, (200, format!("{round}-{number}")), "{keys}");
        }
    }
    assert_eq!(executed.load(Ordering::SeqCst), 400, "each once");
}

/// The end of one connection ends its own streams, and those alone.
#[test]
fn a_dead_connection_takes_only_its_streams_along() {
    let (sender, arrivals) = mpsc::channel();
    let gate = Arc::new(Barrier::new(2));
    let opens = Arc::clone(&gate);
    let origin = Origin::start(move |wire, number| {
        let Some(mut wire) = H2Wire::accept(wire, &[(MAX_CONCURRENT_STREAMS, 1)]) else { return };
        while let Some(request) = wire.request() {
            let path = request.field(":path").unwrap().to_owned();
            let _ = sender.send(number);
            match &*path {
                "/dies" => {
                    wire.headers(request.stream, &[(":status", "200")], false);
                    wire.send(DATA, 0, request.stream, b"half");
                    opens.wait();
                    return wire.close();
                }
                "/posted" => return wire.close(),
                _ => wire.answer(request.stream, path.as_bytes()),
            }
        }
    });
    let proxy = start(&origin, "");
    let mut half = proxy.client();
    half.send(get("/dies"));
    assert_eq!(half.head().unwrap().lines().next(), Some("HTTP/1.1 200 OK"));
    assert_eq!(next(&arrivals), 0);
    gate.wait();
    // The cut shows: there is no last chunk.
    let End::Clean(rest) = half.end() else { panic!("RST where the cut shows") };
    assert_eq!(String::from_utf8_lossy(&rest).trim_end(), "4\r\nhalf");
    assert_eq!(proxy.ask(&get("/a")).text(), "/a");
    let posted = proxy.ask("POST /posted HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx");
    assert_eq!((posted.status(), &*posted.reason()), (502, "upstream_closed"));
    assert_eq!(proxy.ask(&get("/b")).text(), "/b");
}

/// A client that goes away frees the place of its stream at once.
#[test]
fn aborts_free_streams() {
    let (sender, resets) = mpsc::channel();
    let origin = Origin::start(move |wire, _| {
        let Some(mut wire) = H2Wire::accept(wire, &[(MAX_CONCURRENT_STREAMS, 2)]) else { return };
        while let Some(frame) = wire.frame() {
            match frame.kind {
                HEADERS => {
                    let fields = wire.fields(&frame);
                    if fields.iter().any(|(name, value)| name == ":path" && value == "/quick") {
                        wire.answer(frame.stream, b"quick");
                    } else {
                        wire.headers(frame.stream, &[(":status", "200")], false);
                        wire.send(DATA, 0, frame.stream, b"begun");
                    }
                }
                RST_STREAM => drop(sender.send((frame.stream, frame.code()))),
                _ => {}
            }
        }
    });
    let proxy = start(&origin, "http2 = { connections = 1 }");
    for number in 0..100 {
        let mut client = proxy.client();
        client.send(get("/slow"));
        client.head().unwrap();
        client.abort();
        let (stream, code) = next(&resets);
        assert_eq!((stream, code), (number * 4 + 1, CANCEL));
        assert_eq!(proxy.ask(&get("/quick")).text(), "quick");
    }
    assert_eq!(origin.connections(), 1);
}

/// A connection that is not established in time, because TCP is all that it does, fails its own requests; the next one gets another.
#[test]
fn a_stalled_handshake_does_not_wedge_the_pool() {
    let origin = Origin::start(|wire, number| {
        if number == 0 {
            // No SETTINGS ever come.
            let Some(mut wire) = H2Wire::silent(wire) else { return };
            while wire.frame().is_some() {}
            return;
        }
        let Some(mut wire) = H2Wire::accept(wire, &[]) else { return };
        while let Some(request) = wire.request() {
            wire.answer(request.stream, b"ok");
        }
    });
    let proxy =
        start(&origin, "timeouts.connect = \"300ms\"\nhttp2 = { connections = 1 }\noutlier.consecutive_failures = 0");
    for answer in all_at_once(&proxy, &[get("/"), get("/"), get("/")]) {
        assert_eq!(answer.0, 504);
    }
    assert_eq!(proxy.ask(&get("/")).text(), "ok");
}

/// A request that may be sent again does not wait for SETTINGS, and there are origins that answer it before they have sent theirs.
#[test]
fn one_request_goes_ahead_of_settings() {
    let origin = Origin::start(|wire, _| {
        let Some(mut wire) = H2Wire::silent(wire) else { return };
        let Some((request, _)) = wire.head() else { return };
        wire.answer(request.stream, b"early");
        wire.settings(&[(MAX_CONCURRENT_STREAMS, 1)]);
        while let Some(request) = wire.request() {
            wire.answer(request.stream, &request.body);
        }
    });
    let proxy = start(&origin, "");
    assert_eq!(proxy.ask(&get("/")).text(), "early");
    let answer = proxy.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nlate");
    assert_eq!((answer.text(), origin.connections()), ("late", 1));
}

/// An origin that does not speak HTTP/2 is told apart at once.
#[test]
fn an_origin_of_http1_is_a_named_failure() {
    let origin = Origin::answering("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let answer = start(&origin, "").ask(&get("/"));
    assert_eq!((answer.status(), &*answer.reason()), (502, "http2_protocol"));
}

/// An origin with TLS that chooses among these protocols. It answers with the one that was chosen and the number of the connection.
fn choosing(protocols: &[&str]) -> Origin {
    let (authority, key) = (Authority::new(), KeyPair::generate().unwrap());
    let chain = vec![CertificateDer::from_pem_slice(authority.sign(&["a.test"], &key).as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
    let mut config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    let config = Arc::new(config);
    Origin::start(move |wire, number| {
        let mut stream = StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), wire.stream);
        while stream.conn.is_handshaking() {
            if stream.conn.complete_io(&mut stream.sock).is_err() {
                return;
            }
        }
        let speaks_http2 = stream.conn.alpn_protocol() == Some(b"h2");
        let mut wire = Wire::over(stream);
        if speaks_http2 {
            let Some(mut wire) = H2Wire::accept(wire, &[]) else { return };
            while let Some(request) = wire.request() {
                wire.answer(request.stream, format!("h2 {number}").as_bytes());
            }
            return;
        }
        while let Some(request) = wire.message() {
            match request.field("upgrade") {
                Some(protocol) => {
                    wire.send(format!(
                        "HTTP/1.1 101 Ok\r\nConnection: upgrade\r\nUpgrade: {protocol}\r\n\r\nhello {number}"
                    ));
                }
                None => wire.send(format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\nh1 {number}",
                    3 + number.to_string().len()
                )),
            }
        }
    })
}

/// RFC 7301: what is spoken is what TLS has agreed on.
#[test]
fn tls_decides_what_is_spoken() {
    for (protocol, offered, answers) in [
        ("auto", &["h2", "http/1.1"][..], ["h2 0", "h2 0"]),
        ("auto", &["http/1.1"], ["h1 0", "h1 0"]),
        ("auto", &[], ["h1 0", "h1 0"]),
        ("http2", &["http/1.1", "h2"], ["h2 0", "h2 0"]),
        ("http1", &["h2", "http/1.1"], ["h1 0", "h1 0"]),
        ("http2", &["http/1.1"], ["tls_alert", "tls_alert"]),
        ("http2", &[], ["http2_protocol", "http2_protocol"]),
    ] {
        let origin = choosing(offered);
        let keys = format!(
            "protocol = \"{protocol}\"\ntls = {{ insecure = true, server_name = \"a.test\" }}\noutlier.consecutive_failures = 0"
        );
        let proxy = Setup::to(&[&origin.address]).cluster(&keys).start();
        for expected in answers {
            let answer = proxy.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
            let told = if answer.status() == 200 { answer.text().to_owned() } else { answer.reason() };
            assert_eq!(told, expected, "{protocol} {offered:?}");
        }
        // What many have at once is decided once.
        let all = all_at_once(&proxy, &[get("/"), get("/"), get("/"), get("/")]);
        assert!(
            all.iter().all(|(status, _)| (*status == 200) == (answers[0].len() == 4)),
            "{protocol} {offered:?} {all:?}"
        );
    }
}

/// A protocol that is switched to needs a connection of its own.
#[test]
fn upgrades_go_over_http1_where_tls_decides() {
    let origin = choosing(&["h2", "http/1.1"]);
    let keys = "protocol = \"auto\"\ntls = { insecure = true, server_name = \"a.test\" }";
    let proxy = Setup::to(&[&origin.address]).cluster(keys).start();
    assert_eq!(proxy.ask(&get("/")).text(), "h2 0");
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\n");
    assert!(client.head().unwrap().starts_with("HTTP/1.1 101 "));
    client.take(7, &mut |part| assert!(b"hello 1".windows(part.len()).any(|window| window == part)));
    assert_eq!(proxy.ask(&get("/")).text(), "h2 0");
}

/// An idle connection ends with its time, politely.
#[test]
fn idle_connections_end() {
    let (sender, ends) = mpsc::channel();
    let origin = Origin::start(move |wire, _| {
        let Some(mut wire) = H2Wire::accept(wire, &[]) else { return };
        let mut last = 0;
        while let Some(frame) = wire.frame() {
            if frame.kind == HEADERS {
                wire.fields(&frame);
                wire.answer(frame.stream, b"ok");
            }
            last = frame.kind;
        }
        let _ = sender.send(last);
    });
    let proxy = start(&origin, "pool.idle = \"100ms\"");
    assert_eq!(proxy.ask(&get("/")).text(), "ok");
    assert_eq!(next(&ends), crate::http2_wire::GOAWAY);
    assert_eq!(proxy.ask(&get("/")).text(), "ok");
}

/// A peer that answers nothing any more is found by a PING.
#[test]
fn dead_connections_are_found() {
    let (sender, pings) = mpsc::channel();
    let origin = Origin::start(move |wire, number| {
        let Some(mut wire) = H2Wire::accept(wire, &[]) else { return };
        wire.answers_pings = number > 0;
        while let Some(frame) = wire.frame() {
            match frame.kind {
                PING => drop(sender.send(number)),
                HEADERS => {
                    wire.fields(&frame);
                    if number > 0 {
                        wire.answer(frame.stream, b"alive");
                    }
                }
                _ => {}
            }
        }
    });
    let proxy = start(&origin, "");
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(next(&pings), 0);
    let answer = client.message().unwrap();
    assert_eq!((answer.status(), &*answer.reason()), (502, "upstream_reset"));
    assert_eq!(proxy.ask(&get("/")).text(), "alive");
}

/// The counts of streams hold over a reload that takes the endpoint away: what is under way ends as it should.
#[test]
fn a_reload_lets_streams_end() {
    let (sender, arrivals) = mpsc::channel();
    let gate = Arc::new(Barrier::new(2));
    let opens = Arc::clone(&gate);
    let origin = Origin::start(move |wire, _| {
        let Some(mut wire) = H2Wire::accept(wire, &[]) else { return };
        while let Some(request) = wire.request() {
            let _ = sender.send(());
            opens.wait();
            wire.answer(request.stream, b"late");
        }
    });
    let other = echoing();
    let setup = |origin: &Origin| Setup::to(&[&origin.address]).cluster("protocol = \"http2\"").managed();
    let proxy = setup(&origin).start();
    let mut client = proxy.client();
    client.send(get("/"));
    next(&arrivals);
    proxy.reload(&setup(&other).text());
    assert_eq!(proxy.ask(&get("/new")).text(), "/new");
    gate.wait();
    assert_eq!(client.message().unwrap().text(), "late");
}

/// RFC 9113 section 8.5: a tunnel is a stream, and both of its directions end by themselves.
#[test]
fn a_tunnel_is_a_stream() {
    let origin = Origin::start(|wire, _| {
        let Some(mut wire) = H2Wire::accept(wire, &[]) else { return };
        let mut tunnel = 0;
        while let Some(frame) = wire.frame() {
            match frame.kind {
                HEADERS => {
                    let fields = wire.fields(&frame);
                    assert_eq!(
                        fields[..2],
                        [":method", ":authority"]
                            .map(str::to_owned)
                            .into_iter()
                            .zip(["CONNECT", "a.test:443"].map(str::to_owned))
                            .collect::<Vec<_>>()
                    );
                    tunnel = frame.stream;
                    wire.headers(tunnel, &[(":status", "200")], false);
                }
                DATA if frame.ends() => wire.send(DATA, END_STREAM, tunnel, b"bye"),
                DATA => wire.send(DATA, 0, tunnel, &frame.payload),
                _ => {}
            }
        }
    });
    let proxy = Setup::to(&[&origin.address]).cluster("protocol = \"http2\"").route("methods = [\"CONNECT\"]").start();
    let mut client = proxy.client();
    client.send("CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n");
    assert!(client.head().unwrap().starts_with("HTTP/1.1 200 "));
    for text in ["ping", "pong"] {
        client.send(text);
        assert_eq!(client.bytes(4).unwrap(), text.as_bytes());
    }
    client.finish();
    assert_eq!(client.end(), End::Clean(b"bye".to_vec()));
}

/// RFC 4559 section 6: whoever has logged in on a connection must not share it.
#[test]
fn logins_of_connections_are_refused() {
    let proxy = start(&echoing(), "");
    for (scheme, status) in [("NTLM a", 502), ("Negotiate a", 502), ("Basic a", 200)] {
        let answer = proxy.ask(&format!("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: {scheme}\r\n\r\n"));
        assert_eq!(answer.status(), status, "{scheme}");
        assert!(status == 200 || answer.reason() == "connection_login", "{scheme}");
    }
}
