//! Mutual TLS with other programs on both sides: nginx and HAProxy as client and as origin. Not here: what they are to cairn otherwise.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::harness::{Message, Proxy, Wire, poll};

/// A process that ends with its owner.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Certificates in a folder, by `cairn dev-cert`; the names of authority and owners differ, as OpenSSL wants it.
fn certificates() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_cairn"));
    let output = command.current_dir(folder.path()).args(["dev-cert", "localhost"]).output().unwrap();
    assert!(output.status.success());
    for (both, cert, key) in [("server-both", "cert", "key"), ("client-both", "client", "client-key")] {
        let read = |name: &str| fs::read_to_string(folder.path().join(format!("{name}.pem"))).unwrap();
        fs::write(folder.path().join(format!("{both}.pem")), read(cert) + &read(key)).unwrap();
    }
    folder
}

/// cairn between a client that has to show a certificate and an origin that asks for one.
fn proxy(folder: &Path) -> Proxy {
    let folder = folder.display();
    let config = format!(
        "watch = false\nadmin.listen = \"off\"\nadmin.socket = \"off\"\nworkers.count = 1\n\
         [[listener]]\nname = \"public\"\nbind = \"127.0.0.1:0\"\n[listener.tls]\n\
         certificates = [{{ cert = \"{folder}/cert.pem\", key = \"{folder}/key.pem\" }}]\n\
         client_ca = \"{folder}/ca.pem\"\nforward_client_cert = \"xfcc\"\n\
         [[route]]\nclient = \"spiffe://dev.cairn/*\"\ncluster = \"app\"\n\
         [[cluster]]\nname = \"app\"\nendpoints = [\"unix:{folder}/origin.sock\"]\n[cluster.tls]\nserver_name = \"localhost\"\n\
         ca = \"{folder}/ca.pem\"\ncert = \"{folder}/client.pem\"\nkey = \"{folder}/client-key.pem\"\n"
    );
    Proxy::start(&config, &[])
}

/// Asks by way of `front.sock`, as soon as that answers.
fn ask(folder: &Path) -> Message {
    let stream = poll(|| UnixStream::connect(folder.join("front.sock")).ok());
    stream.set_read_timeout(Some(crate::harness::PATIENCE)).unwrap();
    let mut wire = Wire::over(stream);
    wire.send("GET / HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-Client-Cert: Hash=forged\r\nConnection: close\r\n\r\n");
    wire.message().expect("an answer")
}

fn judge(answer: &Message) {
    assert_eq!(answer.status(), 200, "{answer:?}");
    let text = answer.text();
    assert!(text.contains("CN=client"), "the origin knows cairn: {text}");
    assert!(text.contains(";Subject=\"CN=client\";URI=spiffe://dev.cairn/client"), "{text}");
    assert!(!text.contains("forged"), "{text}");
}

#[test]
fn nginx_is_client_and_origin() {
    let folder = certificates();
    let proxy = proxy(folder.path());
    let at = folder.path().display();
    let config = format!(
        "daemon off; master_process off; pid {at}/nginx.pid; error_log stderr;\nevents {{}}\nhttp {{ access_log off;\n\
         client_body_temp_path {at}/t1; proxy_temp_path {at}/t2; fastcgi_temp_path {at}/t3; uwsgi_temp_path {at}/t4; scgi_temp_path {at}/t5;\n\
         server {{ listen unix:{at}/front.sock;\n location / {{ proxy_pass https://{};\n proxy_ssl_name localhost; \
         proxy_ssl_server_name on;\n proxy_ssl_verify on; proxy_ssl_trusted_certificate {at}/ca.pem;\n \
         proxy_ssl_certificate {at}/client.pem; proxy_ssl_certificate_key {at}/client-key.pem; }} }}\n\
         server {{ listen unix:{at}/origin.sock ssl; ssl_certificate {at}/cert.pem; ssl_certificate_key {at}/key.pem;\n \
         ssl_client_certificate {at}/ca.pem; ssl_verify_client on;\n \
         location / {{ return 200 \"$ssl_client_s_dn $http_x_forwarded_client_cert\"; }} }} }}\n",
        proxy.address("public")
    );
    fs::write(folder.path().join("nginx.conf"), config).unwrap();
    let mut nginx = Command::new("nginx");
    nginx.arg("-p").arg(folder.path()).arg("-c").arg(folder.path().join("nginx.conf"));
    let _nginx = Running(nginx.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("nginx"));
    judge(&ask(folder.path()));
}

#[test]
fn haproxy_is_client_and_origin() {
    let folder = certificates();
    let proxy = proxy(folder.path());
    let at = folder.path().display();
    let config = format!(
        "global\n  maxconn 100\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 10s\n  timeout server 10s\n\
         frontend front\n  bind unix@{at}/front.sock\n  default_backend cairn\n\
         backend cairn\n  server a {} ssl crt {at}/client-both.pem ca-file {at}/ca.pem verify required verifyhost localhost \
         sni str(localhost)\n\
         frontend origin\n  bind unix@{at}/origin.sock ssl crt {at}/server-both.pem ca-file {at}/ca.pem verify required\n  \
         http-request return status 200 content-type text/plain lf-string \"%[ssl_c_s_dn] %[req.fhdr(x-forwarded-client-cert)]\"\n",
        proxy.address("public")
    );
    fs::write(folder.path().join("haproxy.cfg"), config).unwrap();
    let mut haproxy = Command::new("haproxy");
    haproxy.args(["-db", "-f"]).arg(folder.path().join("haproxy.cfg"));
    let _haproxy = Running(haproxy.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("haproxy"));
    judge(&ask(folder.path()));
}
