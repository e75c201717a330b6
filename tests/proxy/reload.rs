//! Configurations that replace each other while requests flow: reload, plan, guard, watching, the admin interface.
//! Not here: what a configuration may say (`tests/cli.rs`).

use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::{fs, thread};

use rustix::process::Signal;
use tungstenite::{Message, WebSocket};

use crate::harness::{End, Origin, PATIENCE, Proxy, Setup, Wire, next, poll};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A configuration that marks its responses.
fn marked(endpoints: &[&str], mark: &str) -> Setup {
    Setup::to(endpoints).route(&format!("response_headers = {{ set = {{ x-mark = \"{mark}\" }} }}")).managed()
}

fn stdout(output: &std::process::Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn mark(client: &mut Wire) -> String {
    client.send(GET);
    let answer = client.message().unwrap();
    assert_eq!(answer.status(), 200, "{answer:?}");
    answer.field("x-mark").unwrap_or_default()
}

#[test]
fn a_connection_goes_on_under_the_new_configuration() {
    let origin = Origin::answering(OK);
    let proxy = marked(&[&origin.address], "one").start();
    let mut client = proxy.client();
    assert_eq!(mark(&mut client), "one");
    proxy.reload(&marked(&[&origin.address], "two").text());
    assert_eq!(mark(&mut client), "two");
    // The endpoint is the same, and so is the connection to it.
    assert_eq!(origin.connections(), 1);
    let same = proxy.verb(&["reload"]);
    assert_eq!((same.status.code(), stdout(&same)), (Some(0), "nothing has changed, version 2\n"));
}

#[test]
fn an_exchange_ends_under_the_configuration_it_began_with() {
    let (sender, begun) = mpsc::channel();
    let origin = Origin::start(move |mut wire, _| {
        wire.message().unwrap();
        sender.send(wire).unwrap();
    });
    let other = Origin::answering(OK);
    let proxy = marked(&[&origin.address], "one").start();
    let mut client = proxy.client();
    client.send(GET);
    let mut begun = next(&begun);
    proxy.reload(&marked(&[&other.address], "two").text());
    assert_eq!(proxy.status()["snapshots"], 2);
    begun.send(OK);
    assert_eq!(client.message().unwrap().field("x-mark").as_deref(), Some("one"));
    assert_eq!(mark(&mut client), "two");
    poll(|| (proxy.status()["snapshots"] == 1).then_some(()));
}

#[test]
fn idle_connections_to_an_endpoint_that_left_are_closed() {
    let (sender, ends) = mpsc::channel();
    let origin = Origin::start(move |mut wire, _| {
        while wire.message().is_some() {
            wire.send(OK);
        }
        sender.send(()).unwrap();
    });
    let other = Origin::answering(OK);
    let proxy = marked(&[&origin.address], "one").start();
    let mut client = proxy.client();
    assert_eq!(mark(&mut client), "one");
    proxy.reload(&marked(&[&other.address], "two").text());
    next(&ends);
    assert_eq!(mark(&mut client), "two");
    assert_eq!((origin.connections(), other.connections()), (1, 1));
}

#[test]
fn listeners_come_and_go_and_the_others_do_not_notice() {
    let origin = Origin::answering(OK);
    let second = "[[listener]]\nname = \"second\"\nbind = \"127.0.0.1:0\"";
    let proxy = marked(&[&origin.address], "one").start();
    let mut first = proxy.client();
    assert_eq!(mark(&mut first), "one");
    proxy.reload(&marked(&[&origin.address], "two").more(second).text());
    let address = proxy.said("cairn: listener second on ").rsplit(' ').next().unwrap().to_owned();
    let (mut idle, mut fresh) = (Wire::connect(&address), Wire::connect(&address));
    assert_eq!(mark(&mut idle), "two");
    proxy.reload(&marked(&[&origin.address], "three").text());
    proxy.said("cairn: no listener on ");
    // Whoever is connected gets one more answer, by the last configuration that had the listener, and is told to leave.
    for client in [&mut idle, &mut fresh] {
        client.send(GET);
        let last = client.message().unwrap();
        let fields = (last.status(), last.field("x-mark").unwrap(), last.field("connection").unwrap());
        assert_eq!(fields, (200, "two".to_owned(), "close".to_owned()));
        assert_eq!(client.end(), End::Clean(Vec::new()));
    }
    assert!(TcpStream::connect(&address).is_err());
    assert_eq!(mark(&mut first), "three");
    poll(|| (proxy.status()["snapshots"] == 1).then_some(()));
}

#[test]
fn a_listener_that_cannot_be_opened_changes_nothing() {
    let (origin, taken) = (Origin::answering(OK), TcpListener::bind("127.0.0.1:0").unwrap());
    let proxy = marked(&[&origin.address], "one").start();
    let second = format!("[[listener]]\nname = \"second\"\nbind = \"{}\"", taken.local_addr().unwrap());
    proxy.configure(&marked(&[&origin.address], "two").more(&second).text());
    let output = proxy.verb(&["reload"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("version 1 is served on:\ncannot listen on "), "{}", stdout(&output));
    assert_eq!(mark(&mut proxy.client()), "one");
}

/// Sends a request to the admin socket.
fn post(proxy: &Proxy, path: &str) -> Wire<UnixStream> {
    let stream = UnixStream::connect(proxy.folder().join("admin.sock")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut wire = Wire::over(stream);
    wire.send(format!("POST {path} HTTP/1.1\r\nHost: cairn\r\n\r\n"));
    wire
}

/// A reload that is under way for a second: it tries to listen where somebody else does.
fn slow(proxy: &Proxy, setup: Setup, taken: &TcpListener) -> Wire<UnixStream> {
    let second = format!("[[listener]]\nname = \"second\"\nbind = \"{}\"", taken.local_addr().unwrap());
    proxy.configure(&setup.more(&second).text());
    post(proxy, "/reload")
}

fn is_answered(wire: &Wire<UnixStream>) -> bool {
    wire.stream.set_nonblocking(true).unwrap();
    let answered = socket2::SockRef::from(&wire.stream).peek(&mut [MaybeUninit::uninit()]).is_ok();
    wire.stream.set_nonblocking(false).unwrap();
    answered
}

#[test]
fn control_answers_while_a_reload_is_under_way_and_the_next_ones_are_one() {
    let (origin, taken) = (Origin::answering(OK), TcpListener::bind("127.0.0.1:0").unwrap());
    // A reload that waits does so for a second. A machine that is too busy to do anything within that shows nothing, and gets another one.
    poll(|| answers_meanwhile(&origin, &taken).then_some(()));
}

/// Whether anything could be asked while a reload was under way; if so, it was answered, and of the reloads that came meanwhile one was made.
fn answers_meanwhile(origin: &Origin, taken: &TcpListener) -> bool {
    let proxy = marked(&[&origin.address], "one").start();
    let mut admin = Wire::connect(proxy.admin());
    let mut ask = |path: &str| {
        admin.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        admin.message().unwrap().text().to_owned()
    };
    let mut first = slow(&proxy, marked(&[&origin.address], "two"), taken);
    // It has read its file: that it says so shows that it answers.
    while !ask("/status").contains("\"reloading\":true") {
        if is_answered(&first) {
            return false;
        }
    }
    proxy.configure(&marked(&[&origin.address], "three").text());
    let later: Vec<_> = (0..3).map(|_| post(&proxy, "/reload")).collect();
    let metrics = ask("/metrics");
    if is_answered(&first) {
        return false;
    }
    assert!(metrics.contains("cairn_config_version 1\n"));
    assert_eq!(first.message().unwrap().status(), 422);
    for mut reload in later {
        let answer = reload.message().unwrap();
        assert!(answer.status() == 200 && answer.text().contains("\"verdict\":\"applied\""), "{answer:?}");
    }
    let status = proxy.status();
    let reloads = &status["reloads"];
    assert_eq!((&reloads["refused"], &reloads["applied"], &reloads["unchanged"]), (&1.into(), &1.into(), &0.into()));
    assert_eq!(mark(&mut proxy.client()), "three");
    true
}

#[test]
fn no_end_waits_for_a_reload() {
    let (origin, taken) = (Origin::answering(OK), TcpListener::bind("127.0.0.1:0").unwrap());
    for end in ["TERM", "INT", "drain"] {
        let mut proxy = marked(&[&origin.address], "one").start();
        let mut reload = slow(&proxy, marked(&[&origin.address], "two"), &taken);
        // It has begun: the next one is answered before it.
        poll(|| proxy.status()["reloading"].as_bool().filter(|reloading| *reloading));
        match end {
            "TERM" => proxy.signal(Signal::TERM),
            "INT" => proxy.signal(Signal::INT),
            _ => assert_eq!(post(&proxy, "/drain").message().unwrap().status(), 200),
        }
        assert_eq!(proxy.wait().code(), Some(0));
        assert!(reload.message().is_none_or(|answer| answer.status() == 503), "{end}");
    }
}

#[test]
fn a_broken_file_is_refused_and_says_why_everywhere() {
    let origin = Origin::answering(OK);
    let proxy = marked(&[&origin.address], "one").start();
    let mut client = proxy.client();
    proxy.configure(&marked(&[&origin.address], "two").route("timout = \"1s\"").text());
    let output = proxy.verb(&["reload"]);
    assert_eq!(output.status.code(), Some(1));
    let why = "error: unknown key `timout` in [[route]]";
    assert!(stdout(&output).contains(why), "{}", stdout(&output));
    assert_eq!(mark(&mut client), "one");
    let status = proxy.status();
    assert!(status["reloads"]["problem"].as_str().unwrap().contains(why), "{status}");
    assert_eq!((&status["version"], &status["reloads"]["refused"]), (&1.into(), &1.into()));
    assert!(stdout(&proxy.verb(&["status"])).contains(why));
    proxy.said("cairn: the reload is refused, version 1 is served on:");
    // And once it is right, nothing of that is left.
    proxy.reload(&marked(&[&origin.address], "two").text());
    assert_eq!(proxy.status()["reloads"]["problem"], serde_json::Value::Null);
    assert_eq!(mark(&mut client), "two");
}

fn failed(proxy: &Proxy) -> (bool, bool) {
    let mut client = Wire::connect(proxy.admin());
    client.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let metric = client.message().unwrap().text().contains("cairn_config_last_reload_failed 1\n");
    (metric, stdout(&proxy.verb(&["status"])).contains("The last reload failed"))
}

/// An error stayed when the file was restored, and was not reported when it came again.
#[test]
fn a_failed_reload_is_history_when_the_file_says_what_is_served() {
    let origin = Origin::answering(OK);
    let proxy = marked(&[&origin.address], "one").start();
    let watched = marked(&[&origin.address], "one").text().replace("watch = false", "watch = true");
    let broken = format!("role = 7\n{watched}");
    proxy.reload(&watched);
    for _ in 0..2 {
        proxy.configure(&broken);
        proxy.said("cairn: files have changed: the reload is refused, version 2 is served on:");
        assert_eq!(failed(&proxy), (true, true));
        proxy.configure(&watched);
        proxy.said("cairn: files have changed: nothing has changed, version 2: the files say what is served");
        assert_eq!(failed(&proxy), (false, false));
    }
    // What somebody asks for is told, too.
    proxy.configure(&broken);
    proxy.said("cairn: files have changed: the reload is refused");
    let unwatched = marked(&[&origin.address], "two").text();
    proxy.reload(&unwatched);
    assert_eq!(failed(&proxy), (false, false));
}

/// What was taken back is still in the file: that stays visible until the file is another.
#[test]
fn a_rollback_stays_visible_while_the_file_is_as_it_was() {
    let origin = Origin::answering(OK);
    let proxy = marked(&[&origin.address], "one").start();
    let one = marked(&[&origin.address], "one").text();
    proxy.configure(&marked(&[&origin.address], "two").text());
    let mut guarded = proxy.asking(&["reload", "--guard", "24h"]).stdout(Stdio::null()).spawn().unwrap();
    proxy.said("cairn: reloaded, version 2");
    assert!(proxy.verb(&["reload", "--rollback"]).status.success());
    guarded.wait().unwrap();
    assert_eq!(failed(&proxy), (true, true));
    proxy.configure(&one);
    let same = proxy.verb(&["reload"]);
    let said = "nothing has changed, version 3: the files say what is served again\n";
    assert_eq!((same.status.code(), stdout(&same)), (Some(0), said));
    assert_eq!(failed(&proxy), (false, false));
    assert_eq!(proxy.status()["reloads"]["rolled_back"], 1);
}

/// Message, exit code and count say the same.
#[test]
fn what_a_guard_refuses_counts_as_refused() {
    let origin = Origin::answering(OK);
    let proxy = marked(&[&origin.address], "one").start();
    let counts = || {
        let reloads = proxy.status()["reloads"].clone();
        assert_eq!(reloads["problem"], serde_json::Value::Null);
        [&reloads["applied"], &reloads["unchanged"], &reloads["refused"]].map(|count| count.as_u64().unwrap())
    };
    let nothing = proxy.verb(&["reload", "--guard", "1s"]);
    assert_eq!(nothing.status.code(), Some(1));
    assert!(stdout(&nothing).starts_with("the reload is refused, version 1 is served on:\n"), "{nothing:?}");
    assert_eq!(counts(), [0, 0, 1]);
    proxy.configure(&marked(&[&origin.address], "two").text());
    let mut guarded = proxy.asking(&["reload", "--guard", "24h"]).stdout(Stdio::null()).spawn().unwrap();
    proxy.said("cairn: reloaded, version 2");
    assert_eq!(proxy.verb(&["reload"]).status.code(), Some(1));
    assert_eq!(counts(), [1, 0, 2]);
    assert!(proxy.verb(&["reload", "--accept"]).status.success());
    assert!(guarded.wait().unwrap().success());
}

#[test]
fn hangup_and_changed_files_reload() {
    let origin = Origin::answering(OK);
    let proxy = marked(&[&origin.address], "one").start();
    let mut client = proxy.client();
    proxy.configure(&marked(&[&origin.address], "two").text());
    proxy.signal(Signal::HUP);
    proxy.said("cairn: SIGHUP: reloaded, version 2");
    assert_eq!(mark(&mut client), "two");
    let watched = |mark: &str| marked(&[&origin.address], mark).text().replace("watch = false", "watch = true");
    proxy.reload(&watched("three"));
    // A file that is renamed into place, and one that is written in place.
    proxy.configure(&watched("four"));
    proxy.said("cairn: files have changed: reloaded, version 4");
    assert_eq!(mark(&mut client), "four");
    fs::write(proxy.folder().join("cairn.toml"), "role = 7\n").unwrap();
    proxy.said("cairn: files have changed: the reload is refused, version 4 is served on:");
    assert_eq!(mark(&mut client), "four");
}

/// As certbot leaves them: links to files elsewhere, replaced one after the other.
#[test]
fn renewed_certificates_reload() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    ["archive", "live"].iter().for_each(|name| fs::create_dir(path(name)).unwrap());
    let issue = |number: usize| {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate =
            rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap().self_signed(&key).unwrap();
        fs::write(path(&format!("archive/cert{number}.pem")), certificate.pem()).unwrap();
        fs::write(path(&format!("archive/key{number}.pem")), key.serialize_pem()).unwrap();
    };
    let link = |name: &str, number: usize| {
        symlink(format!("../archive/{name}{number}.pem"), path("live/new")).unwrap();
        fs::rename(path("live/new"), path(&format!("live/{name}.pem"))).unwrap();
    };
    issue(1);
    ["cert", "key"].iter().for_each(|name| link(name, 1));
    let origin = Origin::answering(OK);
    let live = path("live").display().to_string();
    let pair = format!("{{ cert = \"{live}/cert.pem\", key = \"{live}/key.pem\" }}");
    let tls = format!("[[listener]]\nname = \"tls\"\nbind = \"127.0.0.1:0\"\ntls = {{ certificates = [{pair}] }}");
    let setup = marked(&[&origin.address], "one").more(&tls);
    let proxy = setup.start();
    let mut client = proxy.client();
    proxy.reload(&setup.text().replace("watch = false", "watch = true"));
    issue(2);
    link("cert", 2);
    proxy.said("cairn: files have changed: the reload is refused, version 2 is served on:");
    link("key", 2);
    proxy.said("cairn: files have changed: reloaded, version 3: 1 changed");
    assert_eq!(mark(&mut client), "one");
}

#[test]
fn a_plan_changes_nothing() {
    let origin = Origin::answering(OK);
    let proxy = marked(&[&origin.address], "one").start();
    let route = "[[route]]\nname = \"new\"\npath = \"/new\"\nrespond = { body = \"new\" }";
    proxy.configure(&marked(&[&origin.address], "one").more(route).text());
    let plan = proxy.verb(&["plan"]);
    let expected = "+ route new: any host = /new: respond 200; such requests go to route route-1 today\n1 added\n";
    assert_eq!((plan.status.code(), stdout(&plan)), (Some(0), expected));
    let json: serde_json::Value = serde_json::from_slice(&proxy.verb(&["plan", "--json"]).stdout).unwrap();
    assert_eq!(json["changes"][0]["sign"], "added");
    assert_eq!(proxy.status()["version"], 1);
    proxy.configure("nonsense");
    let refused = proxy.verb(&["plan", "--socket", proxy.folder().join("admin.sock").to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("cairn.toml:1:"), "{refused:?}");
}

#[test]
fn a_guard_takes_back_what_makes_answers_worse() {
    let origin = Origin::answering(OK);
    let proxy = marked(&[&origin.address], "one").start();
    let ask_on = |address: String, stop: Arc<AtomicBool>| {
        thread::spawn(move || {
            let mut client = Wire::connect(&address);
            while !stop.load(Ordering::SeqCst) {
                client.send(GET);
                client.message().unwrap();
            }
        })
    };
    let stop = Arc::new(AtomicBool::new(false));
    let load = ask_on(proxy.address("public").to_owned(), Arc::clone(&stop));
    let bad = marked(&[&origin.address], "two").text().replace("cluster = \"app\"\n", "respond = { status = 500 }\n");
    proxy.configure(&bad);
    let output = proxy.verb(&["reload", "--guard", "60s"]);
    assert_eq!(output.status.code(), Some(1));
    let text =
        "the reload is rolled back, version 3 serves as before: 5xx answers rose from 0.0 % to 100.0 % of answers";
    assert!(stdout(&output).contains(text), "{}", stdout(&output));
    assert_eq!(mark(&mut proxy.client()), "one");
    assert_eq!(proxy.status()["reloads"]["rolled_back"], 1);
    // What is as good as before is kept.
    proxy.configure(&marked(&[&origin.address], "three").text());
    let output = proxy.verb(&["reload", "--guard", "1s", "--threshold", "50%"]);
    assert_eq!((output.status.code(), stdout(&output)), (Some(0), "reloaded, version 4: 1 changed\n"));
    // Who wants a guard must not believe that there is one.
    let output = proxy.verb(&["reload", "--guard", "1s"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("there is nothing to guard"), "{}", stdout(&output));
    stop.store(true, Ordering::SeqCst);
    load.join().unwrap();
    assert_eq!(mark(&mut proxy.client()), "three");
}

#[test]
fn an_operator_ends_a_guard() {
    let origin = Origin::answering(OK);
    let proxy = marked(&[&origin.address], "one").start();
    let guarded = |version: usize, mark: &str| {
        proxy.configure(&marked(&[&origin.address], mark).text());
        let reload = proxy.asking(&["reload", "--guard", "24h"]).stdout(Stdio::piped()).spawn().unwrap();
        proxy.said(&format!("cairn: reloaded, version {version}"));
        // Until it ends, other reloads are told how to end it.
        let refused = proxy.verb(&["reload"]);
        assert_eq!(refused.status.code(), Some(1));
        assert!(stdout(&refused).contains("`cairn reload --accept`"), "{}", stdout(&refused));
        reload
    };
    let mut reload = guarded(2, "two");
    let accepted = proxy.verb(&["reload", "--accept"]);
    assert_eq!((accepted.status.code(), stdout(&accepted)), (Some(0), "reloaded, version 2: 1 changed\n"));
    assert!(reload.wait().unwrap().success());
    let reload = guarded(3, "three");
    let taken_back = proxy.verb(&["reload", "--rollback"]);
    let text = "the reload is rolled back, version 4 serves as before: an operator asked for it\n";
    assert_eq!((taken_back.status.code(), stdout(&taken_back)), (Some(0), text));
    let output = reload.wait_with_output().unwrap();
    assert_eq!((output.status.code(), stdout(&output)), (Some(1), text));
    assert_eq!(mark(&mut proxy.client()), "two");
    for end in ["--accept", "--rollback"] {
        let none = proxy.verb(&["reload", end]);
        assert_eq!(none.status.code(), Some(1));
        assert_eq!(String::from_utf8_lossy(&none.stderr), "no reload is under guard\n");
    }
}

/// A file that is touched under guard is read when that ends, and says what was just taken back.
#[test]
fn what_was_taken_back_comes_again_only_if_somebody_asks() {
    let origin = Origin::answering(OK);
    for watch in ["watch = true", "watch = \"poll\""] {
        let proxy = marked(&[&origin.address], "zero").start();
        let watched = |mark: &str| marked(&[&origin.address], mark).text().replace("watch = false", watch);
        proxy.reload(&watched("good"));
        // Whoever watches may be quicker than the verb: then there is nothing to guard.
        let (bad, mut guarded) = (0..)
            .find_map(|number| {
                let bad = watched(&format!("bad {number}"));
                proxy.reload(&watched("good"));
                proxy.configure(&bad);
                let mut reload = proxy.asking(&["reload", "--guard", "1h"]).stdout(Stdio::null()).spawn().unwrap();
                let is_guarded = poll(|| match reload.try_wait().unwrap() {
                    Some(_) => Some(false),
                    None => proxy.status()["guard_seconds"].as_u64().map(|_| true),
                });
                is_guarded.then_some((bad, reload))
            })
            .unwrap();
        proxy.configure(&bad);
        assert!(proxy.verb(&["reload", "--rollback"]).status.success());
        guarded.wait().unwrap();
        let status = proxy.status();
        let (unchanged, version) = (status["reloads"]["unchanged"].as_u64().unwrap(), status["version"].clone());
        poll(|| (proxy.status()["reloads"]["unchanged"].as_u64().unwrap() > unchanged).then_some(()));
        assert_eq!(proxy.status()["version"], version, "{watch}");
        assert_eq!(mark(&mut proxy.client()), "good");
        assert!(proxy.verb(&["reload"]).status.success());
        assert!(mark(&mut proxy.client()).starts_with("bad"));
    }
}

#[test]
fn guards_that_nobody_can_mean_are_refused() {
    let origin = Origin::answering(OK);
    let proxy = marked(&[&origin.address], "one").start();
    for (query, expected) in [
        ("guard_ms=0", "from 1 ms to 24 h"),
        ("guard_ms=86400001", "from 1 ms to 24 h"),
        ("guard_ms=18446744073709551615", "from 1 ms to 24 h"),
        ("guard_ms=99999999999999999999", "from 1 ms to 24 h"),
        ("guard_ms=-1", "from 1 ms to 24 h"),
        ("guard_ms=1000&threshold=2", "from 0 to 1"),
        ("guard_ms=1000&threshold=NaN", "from 0 to 1"),
    ] {
        let answer = post(&proxy, &format!("/reload?{query}")).message().unwrap();
        assert_eq!(answer.status(), 400, "{query}");
        assert!(answer.text().contains(expected), "{query}: {answer:?}");
    }
    assert_eq!(proxy.verb(&["reload", "--guard", "25h"]).status.code(), Some(2));
    assert_eq!(proxy.status()["version"], 1);
}

/// Each of these waited for somebody who writes, for good.
#[test]
fn pipes_in_the_place_of_files_keep_nobody_waiting() {
    let origin = Origin::answering(OK);
    let setup = || marked(&[&origin.address], "one");
    let proxy = setup().start();
    let pipe = proxy.folder().join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
    let certificates = "[[listener]]\nname = \"tls\"\nbind = \"127.0.0.1:0\"\n\
                        tls = { certificates = [{ cert = \"FOLDER/pipe\", key = \"FOLDER/pipe\" }] }";
    let value = "request_headers = { set = { x = \"@FOLDER/pipe\" } }";
    for text in [setup().route(value).text(), setup().more(certificates).text()] {
        proxy.configure(&text);
        let reload = post(&proxy, "/reload").message().unwrap();
        assert!(reload.status() == 422 && reload.text().contains("not a plain file"), "{reload:?}");
    }
    let plan = post(&proxy, &format!("/plan?path={}", pipe.display())).message().unwrap();
    assert!(plan.status() == 422 && plan.text().contains("not a plain file"), "{plan:?}");
    fs::rename(&pipe, proxy.folder().join("cairn.toml")).unwrap();
    let reload = post(&proxy, "/reload").message().unwrap();
    assert!(reload.status() == 422 && reload.text().contains("not a plain file"), "{reload:?}");
    let check = proxy.verb(&["check"]);
    assert_eq!(check.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&check.stderr).contains("not a plain file"), "{check:?}");
    // The verbs look for the socket in it.
    assert_eq!(proxy.verb(&["status"]).status.code(), Some(1));
}

#[test]
fn files_that_change_under_guard_are_read_when_it_ends() {
    let origin = Origin::answering(OK);
    let watched = |mark: &str| marked(&[&origin.address], mark).text().replace("watch = false", "watch = true");
    let proxy = marked(&[&origin.address], "one").start();
    proxy.configure(&watched("two"));
    let mut guarded = proxy.asking(&["reload", "--guard", "2s"]).stdout(Stdio::null()).spawn().unwrap();
    proxy.said("cairn: reloaded, version 2");
    proxy.configure(&watched("three"));
    proxy.said("cairn: version 2 is kept");
    assert!(guarded.wait().unwrap().success());
    proxy.said("cairn: files have changed: reloaded, version 3");
    assert_eq!(mark(&mut proxy.client()), "three");
}

#[test]
fn the_admin_interface_tells_all_and_obeys_only_its_owner() {
    let origin = Origin::answering(OK);
    let mut proxy = marked(&[&origin.address], "one").start();
    let mode = fs::metadata(proxy.folder().join("admin.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let address = proxy.admin().to_owned();
    let ask = |method: &str, path: &str| {
        let mut client = Wire::connect(&address);
        client.send(format!("{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let answer = client.message().unwrap();
        (answer.status(), answer.text().to_owned())
    };
    for path in ["/reload", "/reload/accept", "/reload/rollback", "/plan", "/drain"] {
        assert_eq!(ask("POST", path), (403, "only on the admin socket\n".to_owned()));
    }
    assert_eq!(ask("GET", "/ready"), (200, "ready\n".to_owned()));
    assert_eq!(ask("GET", "/live").0, 200);
    assert_eq!(mark(&mut proxy.client()), "one");
    let (_, metrics) = ask("GET", "/metrics");
    for line in ["cairn_config_version 1", "cairn_config_snapshots 1", "cairn_responses_total{class=\"2xx\"} 1"] {
        assert!(metrics.lines().any(|found| found == line), "{line} in {metrics}");
    }
    let (_, config) = ask("GET", "/config");
    assert!(config.contains("bind = \"127.0.0.1:0\"") && config.contains("# default"), "{config}");
    let routes = proxy.verb(&["routes"]);
    assert!(stdout(&routes).contains("cluster app  [route-1, "), "{}", stdout(&routes));
    assert_eq!(proxy.verb(&["drain"]).status.code(), Some(0));
    assert!(proxy.wait().success());
    let gone = proxy.verb(&["status"]);
    assert_eq!(gone.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&gone.stderr).starts_with("no answer on "), "{gone:?}");
}

/// An origin that echoes WebSocket messages, and otherwise answers with its name and the path that it was asked for.
fn named(name: &'static str) -> Origin {
    Origin::start(move |mut wire, _| {
        while let Some(request) = wire.message() {
            if request.field("upgrade").is_some() {
                let key = request.field("sec-websocket-key").unwrap();
                let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
                wire.send(format!(
                    "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Accept: {accept}\r\n\r\n"
                ));
                // It may be silent for long.
                wire.stream.set_read_timeout(None).unwrap();
                let mut socket = WebSocket::from_raw_socket(wire.stream, tungstenite::protocol::Role::Server, None);
                while let Ok(message @ (Message::Text(_) | Message::Binary(_))) = socket.read() {
                    socket.send(message).unwrap();
                }
                return;
            }
            let body = format!("{name} {}", request.line());
            wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
        }
    })
}

/// One configuration of a storm: other routes, endpoints, listeners, and every tenth time nonsense.
fn gust(number: usize, left: &[&Origin], right: &Origin) -> String {
    let some: Vec<_> =
        left.iter().cycle().skip(number).take(1 + number % left.len()).map(|it| it.address.as_str()).collect();
    let mut more = format!(
        "[[cluster]]\nname = \"right\"\nendpoints = [\"{}\"]\n\
         [[route]]\nname = \"right\"\npath_prefix = \"/right\"\ncluster = \"right\"\n",
        right.address
    );
    for route in 0..number % 7 {
        more += &format!("[[route]]\nname = \"r{route}\"\npath = \"/other/{number}/{route}\"\nrespond = {{}}\n");
    }
    if number.is_multiple_of(3) {
        more += "[[listener]]\nname = \"extra\"\nbind = \"127.0.0.1:0\"\n";
    }
    if number % 10 == 9 {
        more += "[[route]]\nname = \"broken\"\n";
    }
    Setup::to(&some).managed().more(&more).text()
}

/// Size by `CAIRN_STORM`: reloads, 60 without.
#[test]
fn a_storm_of_reloads_loses_nothing() {
    let reloads: usize = std::env::var("CAIRN_STORM").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    let (left, right) = ([named("left"), named("left"), named("left")], named("right"));
    let left: Vec<_> = left.iter().collect();
    let proxy = Proxy::start(&gust(0, &left, &right), &[]);
    let open = |path: &str| {
        let url = format!("ws://{}{path}", proxy.address("public"));
        tungstenite::client(url, proxy.client().stream).unwrap().0
    };
    let mut sockets: Vec<_> = (0..reloads.min(200)).map(|at| open(if at % 2 == 0 { "/" } else { "/right" })).collect();
    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..4)
        .map(|client| {
            let (address, stop, asked) = (proxy.address("public").to_owned(), Arc::clone(&stop), Arc::clone(&asked));
            thread::spawn(move || {
                let mut wire = Wire::connect(&address);
                let (name, path) = if client % 2 == 0 { ("left", "/some") } else { ("right", "/right/some") };
                while !stop.load(Ordering::SeqCst) {
                    wire.send(format!("GET {path}/{client} HTTP/1.1\r\nHost: a\r\n\r\n"));
                    let answer = wire.message().expect("a connection that is never closed");
                    assert_eq!(
                        (answer.status(), answer.text()),
                        (200, &*format!("{name} GET {path}/{client} HTTP/1.1"))
                    );
                    asked.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    let mut early = 0;
    for number in 1..=reloads {
        let before = asked.load(Ordering::SeqCst);
        proxy.configure(&gust(number, &left, &right));
        let output = proxy.verb(&["reload"]);
        assert_eq!(output.status.success(), number % 10 != 9, "{number}: {}", stdout(&output));
        poll(|| (asked.load(Ordering::SeqCst) > before).then_some(()));
        if number == reloads / 2 {
            early = proxy.memory();
        }
    }
    let late = proxy.memory();
    stop.store(true, Ordering::SeqCst);
    clients.into_iter().for_each(|client| client.join().unwrap());
    for (at, socket) in sockets.iter_mut().enumerate() {
        socket.send(Message::text(format!("still {at}"))).unwrap();
        assert_eq!(socket.read().unwrap(), Message::text(format!("still {at}")));
    }
    poll(|| (proxy.status()["snapshots"] == 1).then_some(()));
    eprintln!("{reloads} reloads, {} exchanges, RSS {early} then {late} KiB", asked.load(Ordering::SeqCst));
    assert!(late < early + early / 4 + 1024, "memory grew from {early} to {late} KiB");
}
