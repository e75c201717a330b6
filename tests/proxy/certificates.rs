//! What is said of certificates that are served: how long they last, and why clients may not take them. Not here: what cannot be served
//! (`tests/config/tls.toml`).

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, DnType, IsCa, KeyPair, date_time_ymd,
};

use crate::harness::{Origin, Proxy, Setup, Wire};
use crate::tls::{Authority, Site};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
const DAY: u64 = 24 * 3600;

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A certificate for a.test that ends at this time, in seconds since 1970.
fn until(end: u64) -> CertificateParams {
    let mut params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
    params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(end);
    params
}

/// An authority of this name, signed by another one or by itself.
fn authority(name: &str, by: Option<&CertifiedIssuer<'static, KeyPair>>) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    match by {
        Some(by) => CertifiedIssuer::signed_by(params, key, by).unwrap(),
        None => CertifiedIssuer::self_signed(params, key).unwrap(),
    }
}

/// Warnings of `cairn check` for a chain.
fn warnings(site: &Site, key: &str, chain: &str, more: &str) -> Vec<String> {
    fs::write(site.folder.path().join("a.key"), key).unwrap();
    fs::write(site.folder.path().join("a.pem"), chain).unwrap();
    let origin = Origin::answering(OK);
    let setup = Setup::to(&[&origin.address]).listener(&site.keys(&["a"])).more(more).managed();
    let file = site.folder.path().join("cairn.toml");
    fs::write(&file, setup.text().replace("FOLDER", site.folder.path().to_str().unwrap())).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_cairn")).arg("check").arg("-c").arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let warnings = text.lines().filter_map(|line| line.split_once("warning: "));
    warnings.map(|(_, warning)| warning.to_owned()).collect()
}

#[test]
fn days_left_are_in_status_and_metrics() {
    let site = Site::new();
    let key = KeyPair::generate().unwrap();
    let end = now() + 30 * DAY + 100;
    let pem = until(end).signed_by(&key, &site.authority.issuer).unwrap().pem();
    fs::write(site.folder.path().join("a.pem"), pem).unwrap();
    fs::write(site.folder.path().join("a.key"), key.serialize_pem()).unwrap();
    site.add("b", &["b.test"]);
    let folder = site.folder.path().display();
    let origin = Origin::answering(OK);
    let cluster = format!("tls = {{ insecure = true, cert = \"{folder}/b.pem\", key = \"{folder}/b.key\" }}");
    let setup = Setup::to(&[&origin.address]).listener(&site.keys(&["b", "a"])).cluster(&cluster).managed();
    let proxy: Proxy = setup.start();
    let status = proxy.status();
    let certificate = &status["certificates"][1];
    assert_eq!((&certificate["name"], &certificate["expires"]), (&"a.test".into(), &end.into()));
    let text = String::from_utf8(proxy.verb(&["status"]).stdout).unwrap();
    assert!(text.contains("certificate   a.test of listener public, 30 days left\n"), "{text}");
    assert!(text.contains("certificate   b.test of cluster app, "), "{text}");
    let mut wire = Wire::connect(proxy.admin());
    wire.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let metrics = wire.message().unwrap();
    let labels = "kind=\"listener\",owner=\"public\",position=\"2\",name=\"a.test\"";
    let line = format!("cairn_tls_certificate_expiry_timestamp_seconds{{{labels}}} {end}\n");
    assert!(metrics.text().contains(&line), "{}", metrics.text());
}

#[test]
fn what_ends_soon_is_warned_of() {
    let site = Site::new();
    let key = KeyPair::generate().unwrap();
    let said = |params: CertificateParams| {
        let pem = params.signed_by(&key, &site.authority.issuer).unwrap().pem();
        warnings(&site, &key.serialize_pem(), &pem, "")
    };
    assert_eq!(said(until(now() + 14 * DAY + 60)), [""; 0]);
    let soon = said(until(now() + 9 * DAY + 60));
    assert_eq!(soon.len(), 1, "{soon:?}");
    assert!(soon[0].starts_with("certificate a.test of listener public ends in 9 days, on 20"), "{soon:?}");
    let mut past = until(0);
    (past.not_before, past.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 2, 3));
    assert_eq!(said(past), ["certificate a.test of listener public has ended on 2021-02-03: renew it"]);
    let mut early = until(now() + 100 * DAY);
    early.not_before = date_time_ymd(2200, 1, 1);
    early.not_after = date_time_ymd(2201, 1, 1);
    assert_eq!(said(early), ["certificate a.test of listener public: certificate 1 is not valid yet"]);
}

#[test]
fn faults_of_a_chain_are_named() {
    let site = Site::new();
    let key = KeyPair::generate().unwrap();
    let root = authority("root", None);
    let middle = authority("middle", Some(&root));
    let mut params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
    let leaf = params.clone().signed_by(&key, &middle).unwrap().pem();
    // Says where the certificate of the issuer is, as those of public authorities.
    let place = [&[0x30, 0x14, 0x30, 0x12, 6, 8, 0x2b, 6, 1, 5, 5, 7, 48, 2, 0x86, 6][..], b"http:x"].concat();
    params.custom_extensions.push(CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], place));
    let public = params.signed_by(&key, &middle).unwrap().pem();
    let other = authority("other", None);
    let (root, middle, other) = (root.pem(), middle.pem(), other.pem());
    let said = |parts: &[&str]| warnings(&site, &key.serialize_pem(), &parts.concat(), "");
    for good in [&[&*leaf][..], &[&leaf, &middle], &[&leaf, &middle, &root], &[&public, &middle]] {
        assert_eq!(said(good), [""; 0]);
    }
    let fault = |text: &str| vec![format!("certificate a.test of listener public: {text}")];
    assert_eq!(
        said(&[&leaf, &root, &middle]),
        fault(
            "certificate 1 is not followed by that of its issuer, which is certificate 3: put each before that of its issuer"
        )
    );
    assert_eq!(
        said(&[&public]),
        fault(
            "the certificate of CN=middle, who has signed certificate 1, is missing: add it behind (`fullchain.pem`)"
        )
    );
    assert_eq!(
        said(&[&leaf, &other]),
        fault("certificate 2 is not that of the issuer of the one before: leave it out")
    );
    let unnamed = CertificateParams::default().signed_by(&key, &Authority::new().issuer).unwrap().pem();
    assert_eq!(
        said(&[&unnamed]),
        ["certificate without a name of listener public: the first certificate has no DNS name and no address \
          (subjectAltName): clients do not take it for any"]
    );
}

#[test]
fn hosts_without_a_certificate_are_named() {
    let site = Site::new();
    let key = KeyPair::generate().unwrap();
    let names = ["a.test", "*.b.test"];
    let pem = site.authority.sign(&names, &key);
    let hosts = |hosts: &str| {
        let route = format!("[[route]]\npath = \"/x\"\nhosts = {hosts}\nrespond = {{}}\n");
        warnings(&site, &key.serialize_pem(), &pem, &route)
    };
    assert_eq!(hosts("[\"a.test\", \"x.b.test\", \"*.b.test\", \"127.0.0.1\"]"), [""; 0]);
    assert_eq!(
        hosts("[\"a.test\", \"b.test\", \"x.y.b.test\"]"),
        [
            "listener public has no certificate for b.test and 1 more, though routes are for it: clients that ask for it are shown \
          another one"
        ]
    );
}

/// What rcgen does not make.
#[test]
fn weak_keys_and_signatures_are_named() {
    let site = Site::new();
    let make = |bits: &str, hash: &str, name: &str| {
        let [cert, key] = ["crt", "key"].map(|kind| site.folder.path().join(format!("{name}.{kind}")));
        let mut openssl = Command::new("openssl");
        openssl.args([
            "req",
            "-x509",
            "-nodes",
            "-days",
            "365",
            "-newkey",
            bits,
            hash,
            "-subj",
            &format!("/CN={name}"),
        ]);
        openssl.args(["-addext", &format!("subjectAltName=DNS:{name}"), "-out"]).arg(&cert).arg("-keyout").arg(&key);
        let output = openssl.output().expect("openssl");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        (fs::read_to_string(cert).unwrap(), fs::read_to_string(key).unwrap())
    };
    let (leaf, key) = make("rsa:2048", "-sha1", "a.test");
    let (short, _) = make("rsa:1024", "-sha256", "short");
    assert_eq!(
        warnings(&site, &key, &format!("{leaf}{short}"), ""),
        [
            "certificate a.test of listener public: certificate 1 is signed with SHA-1 or MD5: clients do not take it",
            "certificate a.test of listener public: certificate 2 has an RSA key of fewer than 2048 bits: clients do not take it",
        ]
    );
}

/// Runs openssl in a folder.
fn openssl(folder: &Path, arguments: &str) -> String {
    let output = Command::new("openssl").current_dir(folder).args(arguments.split(' ')).output().expect("openssl");
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A site whose certificate `a` has the serial number 0x1234, with what openssl needs to answer for it.
fn with_responder() -> Site {
    let site = Site::new();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
    params.serial_number = Some(rcgen::SerialNumber::from(0x1234_u64));
    let folder = site.folder.path();
    fs::write(folder.join("a.pem"), params.signed_by(&key, &site.authority.issuer).unwrap().pem()).unwrap();
    fs::write(folder.join("a.key"), key.serialize_pem()).unwrap();
    site.authority.write_ca(folder);
    fs::write(folder.join("ca.key"), site.authority.issuer.key().serialize_pem()).unwrap();
    openssl(folder, "ocsp -issuer ca.pem -cert a.pem -reqout request.der");
    site
}

/// Writes `a.ocsp`: what the responder says of a certificate, for so many minutes.
fn respond(folder: &Path, status: &str, minutes: u64) {
    let revoked = if status == "R" { "250101000000Z" } else { "" };
    fs::write(folder.join("index.txt"), format!("{status}\t491231235959Z\t{revoked}\t1234\tunknown\t/CN=a\n")).unwrap();
    let verb = "ocsp -index index.txt -CA ca.pem -rsigner ca.pem -rkey ca.key -reqin request.der -respout a.ocsp";
    openssl(folder, &format!("{verb} -nmin {minutes}"));
}

#[test]
fn an_ocsp_response_is_stapled_while_it_lasts() {
    let site = with_responder();
    let folder = site.folder.path();
    respond(folder, "V", 60);
    let origin = Origin::answering(OK);
    let keys = site.keys(&["a"]).replace(" }]", &format!(", ocsp = \"{}/a.ocsp\" }}]", folder.display()));
    let setup = Setup::to(&[&origin.address]).listener(&keys).managed();
    let proxy = setup.start();
    let stapled = |version: &str| {
        let mut client = Command::new("openssl");
        client.args(["s_client", "-status", "-connect", proxy.address("public"), "-servername", "a.test", version]);
        let output = client.stdin(std::process::Stdio::null()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let next = text.lines().find_map(|line| line.trim().strip_prefix("Next Update: ")).map(str::to_owned);
        assert_eq!(text.contains("Cert Status: good"), next.is_some(), "{text}");
        next
    };
    let first = stapled("-tls1_3");
    assert!(first.is_some() && stapled("-tls1_2") == first);
    assert_eq!(site.client().ask(&proxy, "public").0.status(), 200);
    respond(folder, "V", 600);
    proxy.reload(&setup.text());
    assert!(stapled("-tls1_3").is_some_and(|next| Some(next) != first));
    // The responder says no more than that it was so.
    let bad = |why: &str| {
        let output = proxy.verb(&["reload"]);
        assert_eq!(output.status.code(), Some(1));
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(text.contains(why) && text.contains("help: "), "{text}");
        assert!(stapled("-tls1_3").is_some(), "the old one is served");
    };
    respond(folder, "R", 60);
    bad("it says that the certificate is revoked");
    fs::write(folder.join("a.ocsp"), "nothing of the kind").unwrap();
    bad("it is no OCSP response in DER");
    let whole = {
        respond(folder, "V", 60);
        fs::read(folder.join("a.ocsp")).unwrap()
    };
    for length in [0, 1, 10, 40, 60, 100, whole.len() - 1] {
        fs::write(folder.join("a.ocsp"), &whole[..length]).unwrap();
        bad("it is no OCSP response in DER");
    }
    fs::write(folder.join("a.ocsp"), [0x30, 3, 0x0a, 1, 6]).unwrap();
    bad("the responder refused to answer (status 6)");
    fs::write(folder.join("a.ocsp"), &whole).unwrap();
    site.add("a", &["a.test"]);
    bad("it is for another certificate");
}

#[test]
fn an_ocsp_response_that_is_over_is_warned_of_and_not_sent() {
    let site = with_responder();
    let folder = site.folder.path();
    respond(folder, "V", 60);
    // Its time is in the response as text; nobody checks the signature here.
    let mut response = fs::read(folder.join("a.ocsp")).unwrap();
    let next = memchr::memmem::rfind(&response[..300], b"\xa0\x11\x18\x0f20").expect("the time of the next one");
    response[next + 4..next + 8].copy_from_slice(b"2020");
    fs::write(folder.join("a.ocsp"), &response).unwrap();
    let origin = Origin::answering(OK);
    let keys = site.keys(&["a"]).replace(" }]", &format!(", ocsp = \"{}/a.ocsp\" }}]", folder.display()));
    let proxy = Setup::to(&[&origin.address]).listener(&keys).managed().start();
    let check = String::from_utf8(proxy.verb(&["check"]).stdout).unwrap();
    assert!(
        check.contains("the OCSP response of certificate a.test of listener public was to be replaced by 2020-"),
        "{check}"
    );
    let mut client = Command::new("openssl");
    client.args(["s_client", "-status", "-connect", proxy.address("public"), "-servername", "a.test"]);
    let output = client.stdin(std::process::Stdio::null()).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("OCSP response: no response sent"));
}

#[test]
fn explain_says_which_certificate_a_client_gets() {
    let site = Site::new();
    let rsa = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
    site.authority.write(site.folder.path(), "rsa", &["b.test"], &rsa);
    site.add("b", &["b.test", "*.b.test"]);
    let origin = Origin::answering(OK);
    let proxy = Setup::to(&[&origin.address]).listener(&site.keys(&["a", "rsa", "b"])).managed().start();
    let shown = |url: &str| {
        let text = String::from_utf8(proxy.verb(&["explain", "GET", url]).stdout).unwrap();
        let row = text.lines().find_map(|line| line.strip_prefix("shows     ")).unwrap().to_owned();
        let words = row.split(' ').filter(|word| !word.starts_with('#')).collect::<Vec<_>>().join(" ");
        words.replace(['#'], "")
    };
    assert_eq!(shown("https://x.b.test/"), "certificate 3, b.test and 1 more");
    assert_eq!(
        shown("https://B.test:8443/"),
        "certificate 2, b.test to who cannot check its signatures, certificate 3, b.test and 1 more"
    );
    let other = shown("https://c.test/");
    assert!(other.starts_with("certificate 1, a.test") && other.ends_with("none is for c.test"), "{other}");
}

/// RFC 8446 section 4.2.3 and RFC 5246 section 7.2.2; scanners know no other alert for it.
#[test]
fn who_cannot_check_any_signature_is_told_so() {
    let site = Site::new();
    let origin = Origin::answering(OK);
    let proxy = site.start(&origin);
    for arguments in
        [&["-tls1_3", "-sigalgs", "RSA-PSS+SHA256"][..], &["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"]]
    {
        let mut client = Command::new("openssl");
        client.args(["s_client", "-connect", proxy.address("public"), "-servername", "a.test"]).args(arguments);
        let output = client.stdin(std::process::Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("SSL alert number 40"), "{arguments:?}: {said}");
    }
}

/// Whatever a client prefers, the suite is the one that comes first with us.
#[test]
fn the_order_of_suites_is_ours() {
    let site = Site::new();
    let origin = Origin::answering(OK);
    let proxy = site.start(&origin);
    let suite = |arguments: &[&str]| {
        let mut client = Command::new("openssl");
        client.args(["s_client", "-connect", proxy.address("public"), "-servername", "a.test"]).args(arguments);
        let output = client.stdin(std::process::Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = said.lines().find(|line| line.contains("Cipher is "));
        line.and_then(|line| line.split("Cipher is ").nth(1)).unwrap_or_default().to_owned()
    };
    let new = "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384";
    assert_eq!(suite(&["-tls1_3", "-ciphersuites", new]), "TLS_AES_256_GCM_SHA384");
    let old = "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384";
    assert_eq!(suite(&["-tls1_2", "-cipher", old]), "ECDHE-ECDSA-AES256-GCM-SHA384");
}
