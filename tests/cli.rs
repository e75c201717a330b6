//! The command as its users meet it: output and exit codes, on the files of `conf/` and on broken ones. `tests/config/NAME.txt`
//! is the report on `NAME.toml`; `tests/explain/` holds command lines and what they print. Not here: serving.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn cairn(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cairn")).current_dir(directory).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn files(directory: &str, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(Path::new(ROOT).join(directory)).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension() == Some(extension.as_ref()));
    files.sort();
    assert!(!files.is_empty(), "{directory} holds no {extension} file");
    files
}

/// Compares with the text of `path`, or writes it when `CAIRN_UPDATE` is set.
fn expect(path: &Path, found: &str) {
    if std::env::var_os("CAIRN_UPDATE").is_some() {
        fs::write(path, found).unwrap();
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    assert!(expected == found, "{} is not what was printed; CAIRN_UPDATE=1 rewrites it:\n{found}", path.display());
}

#[test]
fn check_accepts_every_file_of_conf() {
    for path in files("conf", "toml") {
        let path = path.to_str().unwrap();
        for arguments in [["check", "-c", path], ["-t", "-c", path]] {
            let output = cairn(Path::new(ROOT), &arguments);
            assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()), "{arguments:?}");
            assert!(text(&output.stdout).starts_with(&format!("configuration {path} is valid: ")), "{arguments:?}");
        }
    }
}

#[test]
fn check_says_what_it_found() {
    let output = cairn(Path::new(ROOT), &["check", "-c", "conf/edge.toml"]);
    let expected = "configuration conf/edge.toml is valid: 2 listeners, 6 routes, 4 clusters\n";
    assert_eq!(text(&output.stdout), expected);
    let output = cairn(Path::new(ROOT), &["check", "-c", "conf/minimal.toml"]);
    let expected = "configuration conf/minimal.toml is valid: 1 listener, 1 route, 1 cluster\n";
    assert_eq!(text(&output.stdout), expected);
}

#[test]
fn check_notes_what_a_route_that_denies_does_not_see() {
    let folder = tempfile::tempdir().unwrap();
    let check = |keep: &str, route: &str| {
        let listeners = format!(
            "[[listener]]\nname = \"a\"\nbind = \"127.0.0.1:80\"\n{keep}\n[[listener]]\nname = \"b\"\nbind = \"127.0.0.1:81\"\n\
             encoded_slash = \"decode\"\n"
        );
        fs::write(folder.path().join("cairn.toml"), format!("{listeners}[[route]]\nname = \"deny\"\n{route}\n"))
            .unwrap();
        let output = cairn(folder.path(), &["check", "-c", "cairn.toml"]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        text(&output.stdout).lines().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    for status in [401, 403] {
        let notes = check("", &format!("path_prefix = \"/admin\"\nrespond = {{ status = {status} }}"));
        let note = format!(
            "cairn.toml:9: note: route deny answers {status} for /admin and does not see %2f for a slash in it, which an origin may: \
             set encoded_slash = \"refuse\" or \"decode\" in listener a"
        );
        assert_eq!(notes, [note]);
    }
    let deny = "path = \"/admin\"\nrespond = { status = 403 }";
    for (keep, route) in [
        ("encoded_slash = \"refuse\"", deny),
        ("", "path = \"/a\"\nrespond = { status = 404 }"),
        ("", "respond = { status = 403 }"),
        ("", "path_prefix = \"/\"\nrespond = { status = 403 }"),
        ("", &format!("listeners = [\"b\"]\n{deny}")),
    ] {
        assert_eq!(check(keep, route), [""; 0], "{keep} {route}");
    }
}

/// `tests/config/notes/NAME.txt` is what is printed for a valid file with warnings, which only `--strict` refuses.
#[test]
fn check_warns_of_traps_and_strict_refuses_them() {
    for path in files("tests/config/notes", "toml") {
        let name = path.file_name().unwrap().to_str().unwrap();
        let check = |arguments: &[&str]| {
            let arguments = [&["check", "-c", name], arguments].concat();
            let output = cairn(&Path::new(ROOT).join("tests/config/notes"), &arguments);
            assert_eq!(text(&output.stderr), "", "{name}");
            (output.status.code(), text(&output.stdout))
        };
        let (code, found) = check(&[]);
        assert_eq!((code, check(&["--strict"])), (Some(0), (Some(1), found.clone())), "{name}");
        expect(&path.with_extension("txt"), &found);
    }
    for path in ["edge", "groups", "minimal", "sidecar", "teams", "waypoint"] {
        let path = format!("conf/{path}.toml");
        let output = cairn(Path::new(ROOT), &["check", "--strict", "-c", &path]);
        assert_eq!(output.status.code(), Some(0), "{}{}", text(&output.stdout), text(&output.stderr));
    }
}

#[test]
fn check_reports_every_error_of_broken_files() {
    reports("tests/config");
}

/// Each file holds one mistake of somebody who knows another proxy. Every message has a place and a cure.
#[test]
fn check_cures_the_mistakes_of_those_who_come_from_other_proxies() {
    for report in reports("tests/config/mistakes") {
        let errors = report.lines().filter(|line| line.contains(": error: ")).count();
        let cures = report.lines().filter(|line| line.starts_with("      help: ")).count();
        assert_eq!(errors, cures, "{report}");
    }
}

/// Checks the report on each file of a directory.
fn reports(directory: &str) -> Vec<String> {
    let report = |path: PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        let output = cairn(&Path::new(ROOT).join(directory), &["check", "-c", name]);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), String::new()), "{name}");
        let report = text(&output.stderr);
        expect(&path.with_extension("txt"), &report);
        report
    };
    files(directory, "toml").into_iter().map(report).collect()
}

/// A case is a line `$ arguments`; what follows is the output and the exit code.
#[test]
fn explain_prints_the_way_of_a_request() {
    for path in files("tests/explain", "txt") {
        let mut found = String::new();
        for line in fs::read_to_string(&path).unwrap().lines().filter_map(|line| line.strip_prefix("$ ")) {
            let arguments: Vec<_> = line.split(' ').collect();
            let output = cairn(Path::new(ROOT), &arguments);
            let code = output.status.code().unwrap();
            found += &format!("$ {line}\n{}{}exit {code}\n\n", text(&output.stdout), text(&output.stderr));
        }
        expect(&path, &found);
    }
}

/// With files, which have to be made: a listener in the clear and one with TLS.
#[test]
fn explain_knows_which_listeners_speak_https() {
    let folder = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap().self_signed(&key).unwrap();
    fs::write(folder.path().join("cert.pem"), certificate.pem()).unwrap();
    fs::write(folder.path().join("key.pem"), key.serialize_pem()).unwrap();
    let clear = "[[listener]]\nname = \"clear\"\nbind = \"127.0.0.1:80\"\n";
    let tls = "[[listener]]\nname = \"tls\"\nbind = \"127.0.0.1:443\"\n\
               tls = { certificates = [{ cert = \"cert.pem\", key = \"key.pem\" }] }\n";
    let route = "[[route]]\nredirect = { host = \"b.example\" }\n";
    fs::write(folder.path().join("cairn.toml"), format!("{clear}{tls}{route}")).unwrap();
    let explain = |arguments: &[&str]| {
        let output = cairn(folder.path(), &[&["explain", "-c", "cairn.toml", "GET"], arguments].concat());
        let lines = text(&output.stdout);
        let lines = lines.lines().filter(|line| line.starts_with("listener") || line.starts_with("answer"));
        let lines = lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>();
        (output.status.code().unwrap(), lines, text(&output.stderr))
    };
    let in_clear = ["listener clear, 127.0.0.1:80", "answer 308, location http://b.example/x"];
    let with_tls = ["listener tls, 127.0.0.1:443, TLS", "answer 308, location https://b.example/x"];
    let seen = |lines: &[&str]| (0, lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>(), String::new());
    assert_eq!(explain(&["http://a.example/x"]), seen(&in_clear));
    assert_eq!(explain(&["https://a.example/x"]), seen(&with_tls));
    assert_eq!(explain(&["/x"]), seen(&[in_clear, with_tls].concat()));
    let (code, lines, problem) = explain(&["--listener", "clear", "https://a.example/x"]);
    assert!((code, lines.len()) == (2, 0) && problem.contains("listener clear does not speak https"), "{problem}");
    fs::write(folder.path().join("cairn.toml"), format!("{clear}{route}")).unwrap();
    assert!(explain(&["https://a.example/x"]).2.contains("no listener speaks https"));
}

/// Who the client is can be stated, and counts where a listener asks for it.
#[test]
fn explain_takes_who_the_client_is() {
    let folder = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap().self_signed(&key).unwrap();
    fs::write(folder.path().join("cert.pem"), certificate.pem()).unwrap();
    fs::write(folder.path().join("key.pem"), key.serialize_pem()).unwrap();
    let clear = "[[listener]]\nname = \"clear\"\nbind = \"127.0.0.1:80\"\n";
    let tls = "[[listener]]\nname = \"tls\"\nbind = \"127.0.0.1:443\"\n[listener.tls]\n\
               certificates = [{ cert = \"cert.pem\", key = \"key.pem\" }]\nclient_ca = \"cert.pem\"\n";
    let routes = "[[route]]\nname = \"shop\"\nclient = \"spiffe://corp/ns/shop/*\"\nrespond = {}\n\
                  [[route]]\nname = \"no-pay\"\nnot = { client = \"spiffe://corp/ns/pay\" }\nrespond = {}\n";
    fs::write(folder.path().join("cairn.toml"), format!("{clear}{tls}{routes}")).unwrap();
    let explain = |arguments: &[&str]| {
        let output = cairn(folder.path(), &[&["explain", "-c", "cairn.toml", "GET", "/"], arguments].concat());
        let rows = text(&output.stdout);
        let rows =
            rows.lines().filter(|row| ["client", "route", "because", "not"].contains(&row.split(' ').next().unwrap()));
        rows.map(|row| row.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
    };
    assert_eq!(
        explain(&["--listener", "tls", "--client", "spiffe://corp/ns/shop/web"]),
        [
            "client spiffe://corp/ns/shop/web, by its certificate",
            "route shop, cairn.toml:10",
            "because client spiffe://corp/ns/shop/*",
            "not no-pay, cairn.toml:14: fits too, but shop comes before it",
        ]
    );
    assert_eq!(
        explain(&["--listener", "tls", "--client", "spiffe://corp/ns/pay"]),
        [
            "client spiffe://corp/ns/pay, by its certificate",
            "not shop, cairn.toml:10: its client is not spiffe://corp/ns/pay",
            "not no-pay, cairn.toml:14: its `not` excludes it: client spiffe://corp/ns/pay",
        ]
    );
    assert_eq!(
        explain(&["--listener", "clear", "--client", "spiffe://corp/ns/pay"]),
        [
            "client without a certificate: the listener asks for none",
            "route no-pay, cairn.toml:14",
            "because not client spiffe://corp/ns/pay",
            "not shop, cairn.toml:10: its client holds for no client without a certificate: --client states one",
        ]
    );
}

/// `ca = "system"` is what is trusted by default, and whose authorities these are is said.
#[test]
fn a_cluster_says_that_it_speaks_tls_and_whom_it_trusts() {
    let folder = tempfile::tempdir().unwrap();
    let other = "[[route]]\npath = \"/b\"\ncluster = \"b\"\n[[cluster]]\nname = \"b\"\nendpoints = [\"127.0.0.1:2\"]\ntls = false\n";
    let text_of = format!(
        "[[listener]]\nname = \"l\"\nbind = \"127.0.0.1:80\"\n[[route]]\ncluster = \"a\"\n[[cluster]]\nname = \"a\"\n\
         endpoints = [\"127.0.0.1:1\"]\ntls = true\n{other}[defaults.cluster.tls]\nserver_name = \"a.test\"\n"
    );
    fs::write(folder.path().join("cairn.toml"), text_of).unwrap();
    let said = |arguments: &[&str]| {
        let output = cairn(folder.path(), &[arguments, &["-c", "cairn.toml"]].concat());
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()), "{arguments:?}");
        text(&output.stdout)
    };
    let notes = said(&["check"]);
    let note = notes.lines().nth(1).unwrap();
    assert!(note.starts_with("cairn.toml:6: note: cluster a trusts "), "{notes}");
    assert!(note.contains("authorities of this machine #") || note.contains("as of the build #"), "{notes}");
    assert_eq!(notes.lines().count(), 2, "{notes}");
    let shown = said(&["config", "show"]);
    let tls = shown.split("\n[cluster.tls]\n").nth(1).unwrap();
    let keys: Vec<_> = tls.lines().take(3).map(|line| line.split("  ").next().unwrap()).collect();
    assert_eq!(keys, ["ca = \"system\"", "server_name = \"a.test\"", "insecure = false"], "{shown}");
    assert_eq!((shown.matches("[cluster.tls]").count(), shown.matches("tls = false").count()), (1, 1), "{shown}");
    let explained = said(&["explain", "GET", "/"]);
    assert!(explained.contains("a, least_request, TLS"), "{explained}");
    let explained = said(&["explain", "GET", "/b"]);
    assert!(explained.contains("b, least_request\n"), "{explained}");
}

#[test]
fn a_missing_file_is_invalid_and_missing_arguments_are_wrong_usage() {
    let output = cairn(Path::new(ROOT), &["check", "-c", "nowhere.toml"]);
    assert_eq!(output.status.code(), Some(1));
    let expected =
        "nowhere.toml: error: No such file or directory (os error 2)\nconfiguration nowhere.toml is invalid: 1 error\n";
    assert_eq!(text(&output.stderr), expected);
    for arguments in [&[][..], &["check"], &["-t"], &["-c", "conf/edge.toml"], &["chekc"], &["run", "--workers", "0"]] {
        assert_eq!(cairn(Path::new(ROOT), arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn config_default_prints_the_documented_file() {
    let output = cairn(Path::new(ROOT), &["config", "default"]);
    let documented = fs::read_to_string(Path::new(ROOT).join("conf/cairn.toml")).unwrap();
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), documented));
}

/// `tests/show/NAME.txt` is what is in effect with `conf/NAME.toml`.
#[test]
fn config_show_prints_every_value_with_its_origin() {
    for path in files("tests/show", "txt") {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let output = cairn(Path::new(ROOT), &["config", "show", "-c", &format!("conf/{name}.toml")]);
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()), "{name}");
        expect(&path, &text(&output.stdout));
    }
    let output = cairn(&Path::new(ROOT).join("tests/config"), &["config", "show", "-c", "ranges.toml"]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), String::new()));
}

#[test]
fn config_schema_prints_json() {
    for arguments in [&["config", "schema"][..], &["config", "schema", "--tenant"]] {
        let output = cairn(Path::new(ROOT), arguments);
        assert_eq!(output.status.code(), Some(0));
        let schema: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(schema["properties"].get("tenant").is_some(), arguments.len() == 2);
    }
}

/// Files of one directory, each good by itself.
#[test]
fn what_two_files_both_define_is_reported_with_both_places() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    fs::create_dir(directory.path().join("conf.d")).unwrap();
    write("cairn.toml", "[[listener]]\nname = \"a\"\nbind = \"127.0.0.1:80\"\n");
    let part = "[[cluster]]\nname = \"c\"\nendpoints = [\"127.0.0.1:1\"]\n[[route]]\nname = \"r\"\ncluster = \"c\"\n";
    write("conf.d/10.toml", part);
    write("conf.d/20.toml", &format!("{part}[[listener]]\nname = \"a\"\nbind = \"127.0.0.1:80\"\n"));
    let output = cairn(directory.path(), &["check", "-c", "."]);
    let report = text(&output.stderr);
    let heads: Vec<_> = report.lines().filter(|line| line.contains("error: ") || line.contains("note: ")).collect();
    let expected = [
        "./conf.d/20.toml:2:8: error: two clusters are named \"c\"",
        "./conf.d/10.toml:2:8: note: the first one is here",
        "./conf.d/20.toml:5:8: error: two routes are named \"r\"",
        "./conf.d/10.toml:5:8: note: the first one is here",
        "./conf.d/20.toml:8:8: error: two listeners are named \"a\"",
        "./cairn.toml:2:8: note: the first one is here",
        "./conf.d/20.toml:9:8: error: two listeners bind 127.0.0.1:80",
        "./cairn.toml:3:8: note: the first one is here",
    ];
    assert_eq!(heads, expected, "{report}");
    // What only compiling finds.
    write("conf.d/20.toml", "[[route]]\nname = \"other\"\ncluster = \"c\"\n");
    let report = text(&cairn(directory.path(), &["check", "-c", "."]).stderr);
    assert!(report.starts_with("./conf.d/20.toml:2:8: error: route \"other\": matches the same requests"), "{report}");
    assert!(report.contains("./conf.d/10.toml:5:8: note: the other one is here"), "{report}");
}

/// Output that is lost is a failure, and a reader that has read enough is none.
#[test]
fn what_cannot_be_written_is_an_error() {
    let verbs: [&[&str]; 8] = [
        &["--help"],
        &["--version"],
        &["check", "-c", "conf/minimal.toml"],
        &["-t", "-c", "conf/minimal.toml"],
        &["explain", "-c", "conf/minimal.toml", "GET", "http://a/"],
        &["config", "default"],
        &["config", "schema"],
        &["config", "show", "-c", "conf/minimal.toml"],
    ];
    for arguments in verbs {
        let to = |stdout: Stdio| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_cairn"));
            command.current_dir(ROOT).args(arguments).stdout(stdout).output().unwrap()
        };
        let full = to(fs::File::options().write(true).open("/dev/full").unwrap().into());
        let why = "cairn: cannot write to standard output: No space left on device (os error 28)\n";
        assert_eq!((full.status.code(), text(&full.stderr)), (Some(1), why.to_owned()), "{arguments:?}");
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let closed = to(writer.into());
        assert_eq!((closed.status.code(), text(&closed.stderr)), (Some(0), String::new()), "{arguments:?}");
    }
}

#[test]
fn only_verbs_that_do_something_are_listed() {
    let help = text(&cairn(Path::new(ROOT), &["--help"]).stdout);
    let verbs = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let verbs: Vec<_> = verbs.filter_map(|line| line.split_whitespace().next()).collect();
    let expected = [
        "run", "check", "explain", "plan", "reload", "status", "routes", "endpoint", "log", "why", "top", "tap",
        "drain", "import", "dev-cert", "config", "help",
    ];
    assert_eq!(verbs, expected);
}
