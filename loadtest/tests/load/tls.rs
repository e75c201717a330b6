//! https:// against a server of rustls with certificates of its own.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use rcgen::{BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Origin, command, read_report};

/// A server for `localhost` whose authority is in a file.
struct Server {
    url: String,
    ca: PathBuf,
    /// Of each connection, when it has ended: whether the client said so first.
    ends: Receiver<bool>,
    _folder: TempDir,
}

impl Server {
    /// A server whose certificate an authority has signed.
    fn start() -> Self {
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec!["localhost".into()]).unwrap().signed_by(&key, &authority).unwrap();
        Self::with(&certificate, &key, &authority.pem())
    }

    /// A server with what `openssl req -x509` makes.
    fn self_signed() -> Self {
        let mut own = CertificateParams::new(vec!["localhost".into()]).unwrap();
        own.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = own.self_signed(&key).unwrap();
        Self::with(&certificate, &key, &certificate.pem())
    }

    fn with(certificate: &Certificate, key: &KeyPair, authority: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.pem");
        fs::write(&ca, authority).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = builder.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let config = Arc::new(config);
        let (ended, ends) = mpsc::channel();
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                stream.set_nodelay(true).unwrap();
                let (config, ended) = (Arc::clone(&config), ended.clone());
                thread::spawn(move || {
                    // rustls calls an end without close_notify an error.
                    let end = serve(ServerConnection::new(config).unwrap(), stream);
                    // The test may not want to know.
                    let _ = ended.send(end.is_ok());
                });
            }
        });
        Self { url, ca, ends, _folder: folder }
    }

    fn run(&self, arguments: &str) -> Value {
        let url = format!("{}{}", self.url, arguments.split(' ').next().unwrap());
        let all = ["run", &url, "--json", "--threads", "1", "--ca", self.ca.to_str().unwrap()];
        read_report(&command(&all).args(arguments.split(' ').skip(1)).output().unwrap())
    }
}

/// Answers `/N` with N bytes, after it has read the request's body; until the client says goodbye.
fn serve(connection: ServerConnection, stream: TcpStream) -> std::io::Result<()> {
    let mut stream = BufReader::new(StreamOwned::new(connection, stream));
    loop {
        let (mut line, mut size, mut length, mut close) = (String::new(), 0, 0, false);
        while line != "\r\n" {
            line.clear();
            if stream.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                [_, path, "HTTP/1.1"] => size = path[1..].parse().unwrap_or(0),
                ["Content-Length:", value] => length = value.parse().unwrap(),
                ["Connection:", "close"] => close = true,
                _ => {}
            }
        }
        std::io::copy(&mut (&mut stream).take(length), &mut std::io::sink())?;
        let answer = stream.get_mut();
        write!(answer, "HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n")?;
        answer.write_all(&vec![b'x'; size])?;
        answer.flush()?;
        if close {
            answer.conn.send_close_notify();
            answer.flush()?;
        }
    }
}

#[test]
fn requests_go_through_tls_whole() {
    let server = Server::start();
    for (load, length) in [
        ("/5 -n 300 -c 3", 5),
        ("/5 -n 300 -c 2 --pipeline 8", 5),
        ("/1000000 -n 10 -c 2", 1_000_000),
        ("/7 -n 10 -c 2 --body-size 1000000", 7),
    ] {
        let report = server.run(&format!("{load} --expect-length {length}"));
        assert_eq!(report["answered"].as_u64(), load.split(' ').nth(2).unwrap().parse().ok(), "{load}: {report}");
        assert_eq!(report["resumed"], 0, "{load}");
    }
}

#[test]
fn handshakes_are_full_or_resumed_as_asked() {
    let server = Server::start();
    let run = |connections: u64, more: &str| {
        let report = server.run(&format!("/5 -n 300 -c {connections} --close{more}"));
        assert_eq!(report["agreed"], serde_json::json!(["TLSv1.3 TLS13_AES_256_GCM_SHA384 X25519"]), "{report}");
        let count = |name: &str| report[name].as_u64().unwrap();
        assert_eq!((count("answered"), count("handshakes"), count("retried")), (300, 300, 0), "{report}");
        count("resumed")
    };
    assert_eq!(run(1, ""), 0);
    for connections in [1, 40] {
        // All but the first of each connection, whose tickets the others use.
        assert_eq!(run(connections, " --resume"), 300 - connections);
    }
}

#[test]
fn every_connection_ends_with_a_goodbye() {
    for (load, connections) in [("/5 -n 30 -c 3", 3), ("/5 -n 30 -c 3 --pipeline 4", 3), ("/5 -n 30 -c 3 --close", 30)]
    {
        let server = Server::start();
        assert_eq!(server.run(load)["answered"], 30, "{load}");
        // One is the probe's.
        for number in 0..=connections {
            assert_eq!(server.ends.recv_timeout(Duration::from_secs(10)), Ok(true), "{load}: {number}");
        }
    }
}

#[test]
fn certificates_are_checked_unless_told_otherwise() {
    let (server, other, signed) = (Server::start(), Server::start(), Server::self_signed());
    let number = server.url.replace("localhost", "127.0.0.1");
    let plain = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = plain.local_addr().unwrap().port();
    thread::spawn(move || {
        while let Ok((mut stream, _)) = plain.accept() {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let (own, others) = (server.ca.to_str().unwrap(), other.ca.to_str().unwrap());
    for (arguments, says) in [
        (
            server.url.clone(),
            "of an authority that is not believed; --ca FILE names its authority, --insecure takes any",
        ),
        (format!("{} --ca {others}", server.url), "ca.pem does not hold its authority, --insecure takes any"),
        (format!("{number} --ca {own}"), "for another name; write the URL with a name that it has"),
        (signed.url.clone(), "that of an authority (CA:TRUE), not that of a server; --ca FILE with this very"),
        (format!("{} --ca {own}", signed.url), "does not hold this very certificate; `openssl req -x509` makes one"),
        (format!("https://localhost:{port} --insecure"), "no TLS with https://localhost"),
        (format!("{} --ca /nonexistent", server.url), "cannot read certificates from /nonexistent"),
        (format!("{} --ca {}", server.url, file!()), "holds no certificate"),
    ] {
        let line = format!("run {arguments} -n 1");
        let output = command(&line.split(' ').collect::<Vec<_>>())
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            .output()
            .unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && complaint.contains(says), "{arguments}: {complaint}");
        assert_eq!(complaint.lines().count(), 1, "{complaint}");
    }
    let report = read_report(&command(&["run", &number, "-n", "5", "--json", "--insecure"]).output().unwrap());
    assert_eq!((&report["answered"], &signed.run("/5 -n 5 -c 1")["answered"]), (&5.into(), &5.into()));
}

#[test]
fn the_origin_speaks_tls_where_it_is_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".into()]).unwrap().self_signed(&key).unwrap();
    let both = folder.path().join("both.pem");
    fs::write(&both, format!("{}{}", certificate.pem(), key.serialize_pem())).unwrap();
    let both = both.to_str().unwrap();
    let origin = Origin::start(&["--threads", "1", "--tls", both]);
    let url = origin.url.replace("http://127.0.0.1", "https://localhost");
    for path in ["/", "/size/100000", "/receipt"] {
        let url = format!("{url}{path}");
        let all =
            ["run", &url, "--json", "--threads", "1", "--ca", both, "-n", "50", "-c", "2", "--body-size", "70000"];
        assert_eq!(read_report(&command(&all).output().unwrap())["answered"], 50, "{path}");
    }
    fs::write(both, certificate.pem()).unwrap();
    let output = command(&["origin", "--tls", both]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("both.pem: it holds no private key"), "{said}");
}
