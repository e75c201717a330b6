//! `cairn dev-cert`, and the example of `conf/tls/` with what it writes. Not here: TLS by itself (`tls`).

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use crate::harness::Proxy;

const FILES: [&str; 6] = ["ca-key.pem", "ca.pem", "cert.pem", "client-key.pem", "client.pem", "key.pem"];

fn dev_cert(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cairn")).current_dir(folder).arg("dev-cert").args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn read(folder: &Path) -> Vec<String> {
    FILES.iter().map(|name| fs::read_to_string(folder.join(name)).unwrap()).collect()
}

#[test]
fn files_are_private_and_not_replaced_unless_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let output = dev_cert(folder, &["localhost", "*.app.test", "::1"]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
    let said = text(&output.stdout);
    assert!(said.contains("curl --cacert ./ca.pem https://localhost:8443/"), "{said}");
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|it| it.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, FILES);
    for name in FILES {
        let mode = fs::metadata(folder.join(name)).unwrap().permissions().mode() & 0o777;
        assert!(mode == 0o600 || !name.contains("key"), "{name} {mode:o}");
    }
    let before = read(folder);
    let refused = dev_cert(folder, &["localhost"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("./cert.pem is there already: --force replaces"), "{refused:?}");
    assert_eq!(read(folder), before);
    // The authority stays, so that nobody has to trust another one.
    assert!(dev_cert(folder, &["--force", "localhost"]).status.success());
    for ((name, before), after) in FILES.iter().zip(&before).zip(read(folder)) {
        assert_eq!(*before == after, name.starts_with("ca"), "{name}");
    }
    let mut verify = Command::new("openssl");
    verify.current_dir(folder).args(["verify", "-x509_strict", "-CAfile", "ca.pem", "cert.pem", "client.pem"]);
    let output = verify.output().expect("openssl");
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    // Another authority is not taken for one of these.
    fs::copy(folder.join("cert.pem"), folder.join("ca.pem")).unwrap();
    let refused = dev_cert(folder, &["--force", "localhost"]);
    assert!(text(&refused.stderr).contains("is no authority of `cairn dev-cert`"), "{refused:?}");
    fs::remove_file(folder.join("ca.pem")).unwrap();
    assert_eq!(dev_cert(folder, &["--force", "localhost"]).status.code(), Some(1));
    for bad in [&[][..], &["https://localhost"], &["a b"], &["*"], &["a..b"], &["localhost:80"]] {
        assert_eq!(dev_cert(folder, bad).status.code(), Some(2), "{bad:?}");
    }
}

#[test]
fn the_example_runs_with_them_at_once() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/tls/cairn.toml");
    let example = fs::read_to_string(example).unwrap();
    let folder = tempfile::tempdir().unwrap();
    assert!(dev_cert(folder.path(), &["localhost", "127.0.0.1"]).status.success());
    fs::write(folder.path().join("cairn.toml"), &example).unwrap();
    let check = Command::new(env!("CARGO_BIN_EXE_cairn"))
        .args(["check", "--strict", "-c"])
        .arg(folder.path().join("cairn.toml"))
        .output()
        .unwrap();
    assert!(check.status.success(), "{}{}", text(&check.stdout), text(&check.stderr));
    // On free ports; the cluster needs to know one of them.
    let files = folder.path().display().to_string();
    let port = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port()
    };
    let config = example
        .replace(":8080", ":0")
        .replace(":8443", ":0")
        .replace("8444", &port.to_string())
        .replace("\"ca.pem\"", &format!("\"{files}/ca.pem\""))
        .replace("\"cert.pem\"", &format!("\"{files}/cert.pem\""))
        .replace("\"key.pem\"", &format!("\"{files}/key.pem\""))
        .replace("\"client.pem\"", &format!("\"{files}/client.pem\""))
        .replace("\"client-key.pem\"", &format!("\"{files}/client-key.pem\""));
    let config = format!("watch = false\nadmin.listen = \"off\"\nadmin.socket = \"off\"\nworkers.count = 1\n{config}");
    let proxy = Proxy::start(&config, &[]);
    let curl = |listener: &str, path: &str, more: &[&str]| {
        let port = proxy.address(listener).rsplit(':').next().unwrap();
        let mut curl = Command::new("curl");
        curl.current_dir(folder.path()).args(["-sSi", "--cacert", "ca.pem"]).args(more);
        let output = curl.arg(format!("https://localhost:{port}{path}")).output().expect("curl");
        text(&output.stdout)
    };
    let client = ["--cert", "client.pem", "--key", "client-key.pem"];
    let secure = curl("secure", "/", &[]);
    assert!(
        secure.contains("x-tls: TLSv1.3\r\n") && secure.contains("strict-transport-security: max-age=86400\r\n"),
        "{secure}"
    );
    for known in [curl("mutual", "/", &client), curl("secure", "/through", &[])] {
        assert!(known.contains("x-client: spiffe://dev.cairn/client\r\n"), "{known}");
    }
    assert_eq!(curl("mutual", "/", &[]), "");
}
