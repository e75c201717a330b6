//! Endpoints that fail: retries, ejection, health checks, and what operators say of endpoints. Not here: failures of a cluster's only
//! endpoint (`failures`).

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::harness::{Message, Origin, Proxy, Setup, closed, poll};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood";
const UNAVAILABLE: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 3\r\n\r\nbad";

/// An origin that can be sick, and counts the requests that it reads.
struct Sick {
    origin: Origin,
    sick: Arc<AtomicBool>,
    requests: Arc<AtomicUsize>,
    checks: Arc<AtomicUsize>,
}

/// What a sick origin does with a request.
#[derive(Clone, Copy)]
enum Symptom {
    Unavailable,
    HangsUp,
    Silent,
}

impl Sick {
    fn new(symptom: Symptom) -> Self {
        let (sick, requests) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
        let checks = Arc::new(AtomicUsize::new(0));
        let (ill, read, checked) = (Arc::clone(&sick), Arc::clone(&requests), Arc::clone(&checks));
        let origin = Origin::start(move |mut wire, _| {
            while let Some(request) = wire.message() {
                let check = request.line().starts_with("GET /health ");
                read.fetch_add(usize::from(!check), Ordering::SeqCst);
                checked.fetch_add(usize::from(check), Ordering::SeqCst);
                match symptom {
                    _ if !ill.load(Ordering::SeqCst) => wire.send(OK),
                    Symptom::Unavailable => wire.send(UNAVAILABLE),
                    Symptom::HangsUp => return,
                    // Until the proxy hangs up.
                    Symptom::Silent => drop(wire.message()),
                }
            }
        });
        Self { origin, sick, requests, checks }
    }

    /// Requests to `/health`, which are not among the others.
    fn checks(&self) -> usize {
        self.checks.load(Ordering::SeqCst)
    }

    fn sicken(&self) {
        self.sick.store(true, Ordering::SeqCst);
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    fn cure(&self) {
        self.sick.store(false, Ordering::SeqCst);
    }
}

/// Both endpoints in turn, so that every other request begins at the sick one.
fn setup(sick: &Sick, well: &Origin) -> Setup {
    Setup::to(&[&sick.origin.address, &well.address]).cluster("balance = \"round_robin\"").managed()
}

fn answers(proxy: &Proxy, request: &str, count: usize) -> Vec<Message> {
    (0..count).map(|_| proxy.ask(request)).collect()
}

fn statuses(proxy: &Proxy, request: &str, count: usize) -> Vec<u16> {
    answers(proxy, request, count).iter().map(Message::status).collect()
}

/// The endpoint of the cluster `app` at a position, as `cairn status` has it.
fn endpoint(proxy: &Proxy, at: usize) -> serde_json::Value {
    proxy.status()["clusters"][0]["endpoints"][at].clone()
}

fn held(proxy: &Proxy, at: usize) -> Vec<String> {
    serde_json::from_value(endpoint(proxy, at)["held"].clone()).unwrap()
}

const NO_EJECTION: &str = "outlier = { consecutive_failures = 0 }";

#[test]
fn a_request_that_may_be_repeated_goes_to_another_endpoint() {
    for symptom in [Symptom::Unavailable, Symptom::HangsUp, Symptom::Silent] {
        let (sick, well) = (Sick::new(symptom), Origin::answering(OK));
        let retry = "retry = { on = [\"reset\", \"503\", \"timeout\"], per_try_timeout = \"300ms\", budget = 1.0 }";
        let proxy = setup(&sick, &well).cluster(NO_EJECTION).route(retry).start();
        assert_eq!(statuses(&proxy, GET, 6), [200; 6]);
        assert_eq!(sick.requests(), 3);
        let told = &proxy.status()["retries"];
        let sum: u64 = told.as_array().unwrap().iter().map(|count| count.as_u64().unwrap()).sum();
        assert_eq!(sum, 3, "{told}");
    }
}

#[test]
fn what_the_origin_may_have_carried_out_is_never_sent_twice() {
    for (symptom, status) in [(Symptom::Unavailable, 503), (Symptom::HangsUp, 502), (Symptom::Silent, 504)] {
        let (sick, (well, received)) = (Sick::new(symptom), Origin::recording(OK));
        let retry = "retry = { on = [\"reset\", \"503\", \"timeout\"], per_try_timeout = \"300ms\", budget = 1.0 }";
        let proxy = setup(&sick, &well).cluster(NO_EJECTION).route(retry).start();
        let mut found = statuses(&proxy, POST, 4);
        found.sort_unstable();
        assert_eq!(found, [200, 200, status, status]);
        assert_eq!((sick.requests(), received.try_iter().count()), (2, 2));
    }
}

#[test]
fn a_post_that_cannot_have_been_seen_goes_to_another_endpoint() {
    let ((_socket, nobody), well) = (closed(), Origin::answering(OK));
    let proxy = Setup::to(&[&nobody, &well.address]).cluster("balance = \"round_robin\"").start();
    assert_eq!(statuses(&proxy, POST, 4), [200; 4]);
}

/// That an idle connection has ended says nothing against its endpoint, if the others cannot be reached.
#[test]
fn an_endpoint_whose_idle_connection_has_ended_is_the_last_resort() {
    let well = Origin::start(|mut wire, number| {
        while wire.message().is_some() {
            wire.send(OK);
            if number == 0 {
                // It reads the next request and hangs up on it.
                return drop(wire.message());
            }
        }
    });
    let (_socket, nobody) = closed();
    let proxy = Setup::to(&[&well.address, &nobody]).cluster(NO_EJECTION).managed().start();
    let mut client = proxy.client();
    client.send(GET);
    assert_eq!(client.message().unwrap().status(), 200);
    client.send(GET);
    assert_eq!(client.message().unwrap().status(), 200);
    assert_eq!(well.connections(), 2);
}

#[test]
fn an_operator_may_have_any_method_repeated() {
    let (sick, well) = (Sick::new(Symptom::Unavailable), Origin::answering(OK));
    let retry = "retry = { methods = [\"POST\"], budget = 1.0 }";
    let proxy = setup(&sick, &well).cluster(NO_EJECTION).route(retry).start();
    assert_eq!(statuses(&proxy, POST, 4), [200; 4]);
    let mut found = statuses(&proxy, GET, 2);
    found.sort_unstable();
    assert_eq!(found, [200, 503]);
}

/// The body is sent again whole; above what is kept, the answer is the origin's.
#[test]
fn a_body_is_sent_again_as_it_was() {
    let (sick, (well, received)) = (Sick::new(Symptom::Unavailable), Origin::recording(OK));
    for (buffer, size, held) in [
        ("64KiB", 10, true),
        ("64KiB", 40_000, true),
        ("64KiB", 1 << 20, false),
        ("256KiB", 100_000, true),
        ("1KiB", 10, true),
        ("1KiB", 1024, false),
    ] {
        let retry = format!("retry = {{ budget = 1.0, buffer = \"{buffer}\" }}");
        let proxy = setup(&sick, &well).cluster(NO_EJECTION).route(&retry).start();
        let expected = [200, if held { 200 } else { 503 }];
        let body: String = ('a'..='z').cycle().take(size).collect();
        let put = format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n{body}");
        let mut found = statuses(&proxy, &put, 2);
        found.sort_unstable();
        assert_eq!(found, expected, "{buffer} {size}");
        let whole = received.try_iter().map(|message| assert_eq!(message.text(), body)).count();
        assert_eq!(whole, expected.iter().filter(|status| **status == 200).count(), "{size}");
        assert_eq!(proxy.status()["refused_retries"][1], u64::from(!held), "{buffer} {size}");
    }
}

#[test]
fn without_another_endpoint_the_same_one_is_tried_again_where_asked() {
    let origin = Origin::start(|mut wire, number| {
        wire.message();
        if number % 3 == 2 {
            wire.send(OK);
        }
    });
    let retry = "retry = { attempts = 2, same_endpoint = true, backoff = \"1ms\", budget = 1.0 }";
    let proxy = Setup::to(&[&origin.address]).cluster(NO_EJECTION).route(retry).start();
    assert_eq!(statuses(&proxy, GET, 2), [200; 2]);
    assert_eq!(origin.connections(), 6);
    let proxy = Setup::to(&[&origin.address]).cluster(NO_EJECTION).route("retry = { attempts = 2 }").start();
    assert_eq!(proxy.ask(GET).status(), 502);
    assert_eq!(origin.connections(), 7);
}

#[test]
fn a_wait_between_two_attempts_ends_with_the_client_or_with_its_time() {
    let origin = Origin::start(|mut wire, _| drop(wire.message()));
    let retry = "retry = { same_endpoint = true, backoff = \"1h\", budget = 1.0 }";
    let setup = Setup::to(&[&origin.address]).cluster(NO_EJECTION).route(retry).managed();
    let proxy = setup.clone().route("timeout = \"200ms\"").start();
    let answer = proxy.ask(GET);
    assert_eq!((answer.status(), &*answer.reason()), (504, "response_timeout"));
    let proxy = setup.cluster("abort_on_close = true").start();
    let mut client = proxy.client();
    client.send(POST.replace("POST", "PUT").trim_end_matches("hi"));
    poll(|| (proxy.status()["exchanges"] == 1).then_some(()));
    client.send("hi");
    poll(|| (proxy.status()["retries"][2] == 1).then_some(()));
    drop(client);
    poll(|| (proxy.status()["exchanges"] == 0).then_some(()));
}

/// Of 100 requests that all fail, a fifth is tried again, and a few besides.
#[test]
fn retries_stay_within_their_budget() {
    let (one, other) = (Sick::new(Symptom::Unavailable), Sick::new(Symptom::Unavailable));
    let proxy = setup(&one, &other.origin).cluster(NO_EJECTION).start();
    assert_eq!(statuses(&proxy, GET, 100), [503; 100]);
    let sent = one.requests() + other.requests();
    // Three a second besides, however long the requests have taken.
    let status = proxy.status();
    let besides = 3 * (1 + status["uptime_seconds"].as_u64().unwrap() as usize);
    assert!((101..=121 + besides).contains(&sent), "{sent}");
    assert_eq!(status["refused_retries"][0].as_u64().unwrap() as usize, 200 - sent);
}

#[test]
fn an_endpoint_that_fails_again_and_again_is_ejected_and_tried_by_one_request() {
    let (sick, well) = (Sick::new(Symptom::Unavailable), Origin::answering(OK));
    let proxy = setup(&sick, &well)
        .cluster("outlier = { consecutive_failures = 3, ejection = \"1s\" }")
        .route("retry = { budget = 1.0 }")
        .start();
    assert_eq!(statuses(&proxy, GET, 6), [200; 6]);
    proxy.said(&format!("cairn: cluster app, endpoint {} is ejected for 1s: 3 failures in a row", sick.origin.address));
    assert_eq!(sick.requests(), 3);
    // It gets nothing now but one request when the time is over, which fails, too.
    poll(|| {
        assert_eq!(proxy.ask(GET).status(), 200);
        (sick.requests() > 3).then_some(())
    });
    sick.cure();
    let before = sick.requests();
    poll(|| {
        assert_eq!(proxy.ask(GET).status(), 200);
        held(&proxy, 0).is_empty().then_some(())
    });
    assert!(sick.requests() > before);
}

/// An endpoint that leaves the request that tries it without an answer has not shown that it is well.
#[test]
fn an_endpoint_is_not_used_again_while_it_owes_the_answer_that_would_show_it_well() {
    let (sick, well) = (Sick::new(Symptom::Silent), Origin::answering(OK));
    let proxy = setup(&sick, &well)
        .cluster("outlier = { consecutive_failures = 1, ejection = \"500ms\" }")
        .cluster("timeouts = { response = \"3s\" }")
        .route("retry = { on = [\"timeout\"], budget = 1.0 }")
        .start();
    assert_eq!(statuses(&proxy, GET, 2), [200; 2]);
    proxy.said(&format!("cairn: cluster app, endpoint {} is ejected for 500ms: ", sick.origin.address));
    // One of these tries it, and is kept waiting for longer than an ejection lasts.
    let mut clients = Vec::new();
    poll(|| {
        let mut client = proxy.client();
        client.send(GET);
        clients.push(client);
        (sick.requests() == 2).then_some(())
    });
    poll(|| {
        let held = held(&proxy, 0);
        assert!(!held.is_empty());
        (held == ["ejected"]).then_some(())
    });
    assert_eq!(sick.requests(), 2);
    for mut client in clients {
        assert_eq!(client.message().unwrap().status(), 200);
    }
}

#[test]
fn the_last_usable_endpoint_is_never_ejected() {
    let (one, other) = (Sick::new(Symptom::Unavailable), Sick::new(Symptom::Unavailable));
    let proxy = setup(&one, &other.origin)
        .cluster("outlier = { consecutive_failures = 2, ejection = \"1h\", max_ejected = 1.0 }")
        .route("retry = { attempts = 0 }")
        .start();
    assert_eq!(statuses(&proxy, GET, 20), [503; 20]);
    let usable = poll(|| {
        let usable = [0, 1].map(|at| held(&proxy, at).is_empty());
        (usable != [true; 2]).then_some(usable)
    });
    assert_ne!(usable, [false; 2]);
}

/// An endpoint that answers well, but far later than the others, is ejected where that is asked for, and only there.
#[test]
fn an_endpoint_that_is_far_slower_than_the_others_is_ejected_where_asked() {
    for factor in [0, 2] {
        let late = Origin::start(|mut wire, _| {
            while wire.message().is_some() {
                std::thread::park_timeout(std::time::Duration::from_secs(1));
                wire.send(OK);
            }
        });
        let well = Origin::answering(OK);
        let outlier = format!("outlier = {{ latency_factor = {factor}, min_volume = 4, ejection = \"1h\" }}");
        let setup = Setup::to(&[&late.address, &well.address]).cluster("balance = \"round_robin\"").cluster(&outlier);
        let proxy = setup.managed().start();
        let mut clients: Vec<_> = (0..8).map(|_| proxy.client()).collect();
        let mut round = || {
            clients.iter_mut().for_each(|client| client.send(GET));
            clients.iter_mut().for_each(|client| assert_eq!(client.message().unwrap().status(), 200));
            held(&proxy, 0)
        };
        if factor == 0 {
            assert_eq!([round(), round()], [vec![], Vec::<String>::new()]);
        } else {
            poll(|| (round() == ["ejected"]).then_some(()));
            assert_eq!(round(), ["ejected"]);
        }
        assert!(held(&proxy, 1).is_empty());
    }
}

#[test]
fn checks_take_an_endpoint_out_and_bring_it_back() {
    let (sick, well) = (Sick::new(Symptom::Unavailable), Origin::answering(OK));
    let health = "health = { path = \"/health\", interval = \"400ms\", rise = 1, fall = 1 }";
    let proxy = setup(&sick, &well).cluster(NO_EJECTION).cluster(health).start();
    let address = &sick.origin.address;
    proxy.said(&format!("cairn: cluster app, endpoint {address} is down: it has answered 503"));
    assert_eq!(statuses(&proxy, POST, 6), [200; 6]);
    assert_eq!((sick.requests(), held(&proxy, 0)), (0, vec!["down".to_owned()]));
    sick.cure();
    poll(|| held(&proxy, 0).is_empty().then_some(()));
    assert_eq!(statuses(&proxy, POST, 6), [200; 6]);
    assert_eq!(sick.requests(), 3);
}

#[test]
fn checks_fail_for_what_is_silent_odd_or_not_there() {
    let (_socket, nobody) = closed();
    let silent = Origin::start(|mut wire, _| while wire.message().is_some() {});
    let odd = Origin::start(|mut wire, _| wire.send("SSH-2.0-x\r\n"));
    let moved = Origin::answering("HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n");
    let endless = Origin::start(|mut wire, _| {
        wire.message();
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n");
        (0..1 << 20).for_each(|_| wire.send("x".repeat(1024)));
    });
    let interim = Origin::start(|mut wire, _| {
        wire.message();
        (0..1 << 20).for_each(|_| wire.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(100)));
    });
    for (address, why) in [
        (&nobody, "no connection"),
        (&interim.address, "no answer in the first 65536 bytes"),
        (&silent.address, "no good answer within 400ms"),
        (&odd.address, "no answer"),
        (&moved.address, "it has answered 302"),
        (&endless.address, "its answer does not hold what it should"),
    ] {
        let well = Origin::answering(OK);
        let proxy = Setup::to(&[address, &well.address])
            .cluster("health = { timeout = \"400ms\", body = \"good\", initial = \"down\" }")
            .managed()
            .start();
        let line = proxy.said(&format!("cairn: cluster app, endpoint {address} is down: "));
        assert!(line.contains(why), "{line}");
    }
}

#[test]
fn until_its_first_check_an_endpoint_is_what_the_operator_says() {
    let well = Origin::answering(OK);
    let proxy = Setup::to(&[&well.address]).cluster("health = { initial = \"down\" }").managed().start();
    proxy.said(&format!("cairn: cluster app, endpoint {} is up: its checks are good", well.address));
    assert_eq!(proxy.ask(GET).status(), 200);
}

/// With `initial = "wait"`, `/ready` is red until each endpoint was checked, whatever the checks find.
#[test]
fn readiness_waits_for_the_first_checks() {
    let answers = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&answers);
    let late = Origin::start(move |mut wire, _| {
        while wire.message().is_some() {
            poll(|| told.load(Ordering::SeqCst).then_some(()));
            wire.send(OK);
        }
    });
    let (_socket, nobody) = closed();
    let proxy = Setup::to(&[&late.address, &nobody])
        .cluster("health = { initial = \"wait\", timeout = \"10s\", interval = \"10s\" }")
        .managed()
        .start();
    let ready = || {
        let mut client = crate::harness::Wire::connect(proxy.admin());
        client.send("GET /ready HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = client.message().unwrap();
        (answer.status(), answer.text().to_owned())
    };
    proxy.said(&format!("cairn: cluster app, endpoint {nobody} is down: "));
    assert_eq!(ready(), (503, "endpoints are being checked\n".to_owned()));
    answers.store(true, Ordering::SeqCst);
    poll(|| (ready().0 == 200).then_some(()));
    assert_eq!(ready(), (200, "ready\n".to_owned()));
}

/// `plan` tells what operators have said, which no file holds.
#[test]
fn a_plan_tells_what_operators_have_said() {
    let (one, other) = (Origin::answering(OK), Origin::answering(OK));
    let setup = Setup::to(&[&one.address, &other.address]).managed();
    let proxy = setup.start();
    let plan = || String::from_utf8(proxy.verb(&["plan"]).stdout).unwrap();
    assert!(!plan().contains("cairn endpoint"), "{}", plan());
    assert!(proxy.verb(&["endpoint", "drain", "app", &one.address]).status.success());
    assert!(proxy.verb(&["endpoint", "weight", "app", &other.address, "7"]).status.success());
    let drained = format!("! endpoint app {}: is drained by `cairn endpoint`, and stays so\n", one.address);
    let weighed =
        format!("! endpoint app {}: has weight 7 instead of 1 by `cairn endpoint`, and stays so\n", other.address);
    assert!(plan().contains(&drained) && plan().contains(&weighed), "{}", plan());
    proxy.configure(&Setup::to(&[&other.address]).managed().text());
    let goes = drained.replace("stays so", "goes");
    assert!(plan().contains(&goes) && plan().contains(&weighed), "{}", plan());
    assert!(proxy.verb(&["endpoint", "ready", "app", &one.address]).status.success());
    assert!(!plan().contains(&one.address) || !plan().contains("is drained"), "{}", plan());
}

/// `fall` holds for checks that begin anew, too.
#[test]
fn after_a_change_of_its_checks_an_endpoint_is_what_it_was() {
    let (sick, well) = (Sick::new(Symptom::Unavailable), Origin::answering(OK));
    sick.cure();
    let each = |interval: &str| format!("health = {{ path = \"/health\", interval = \"{interval}\", fall = 100 }}");
    let base = setup(&sick, &well).cluster(NO_EJECTION);
    let proxy = base.clone().cluster(&each("100ms")).start();
    poll(|| (sick.checks() > 1).then_some(()));
    sick.sicken();
    proxy.reload(&base.cluster(&each("101ms")).text());
    let before = sick.checks();
    poll(|| (sick.checks() > before + 3).then_some(()));
    assert_eq!(held(&proxy, 0), [""; 0]);
}

#[test]
fn each_endpoint_is_asked_for_by_its_own_name() {
    let ((one, asked_one), (two, asked_two)) = (Origin::recording(OK), Origin::recording(OK));
    let _proxy = Setup::to(&[&one.address, &two.address]).cluster("health = true").start();
    for (origin, asked) in [(one, asked_one), (two, asked_two)] {
        assert_eq!(asked.recv().unwrap().field("host"), Some(origin.address.clone()));
    }
}

#[test]
fn backups_stand_in_for_what_is_down() {
    let (sick, backup) = (Sick::new(Symptom::Unavailable), Origin::answering(OK));
    let text = Setup::to(&[]).cluster("health = { interval = \"400ms\", rise = 1, fall = 1 }").cluster(NO_EJECTION);
    let both = format!("endpoints = [{:?}, {{ address = {:?}, backup = true }}]", sick.origin.address, backup.address);
    let proxy = Proxy::start(&text.managed().text().replace("endpoints = []", &both), &[]);
    poll(|| (held(&proxy, 0) == ["down"]).then_some(()));
    assert_eq!(statuses(&proxy, POST, 4), [200; 4]);
    assert_eq!(proxy.status()["clusters"][0]["uses"], "backups");
    let before = backup.connections();
    sick.cure();
    poll(|| held(&proxy, 0).is_empty().then_some(()));
    let seen = sick.requests();
    assert_eq!(statuses(&proxy, POST, 4), [200; 4]);
    assert_eq!(sick.requests(), seen + 4);
    assert!(backup.connections() > 0 && before > 0);
}

#[test]
fn operators_drain_weigh_and_have_back() {
    let one = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1");
    let two = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2");
    let setup = Setup::to(&[&one.address, &two.address]).cluster("balance = \"round_robin\"").managed();
    let proxy = setup.start();
    let order = |arguments: &[&str]| {
        let output = proxy.verb(&[&["endpoint"], arguments].concat());
        (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let ones = || answers(&proxy, GET, 12).iter().filter(|answer| answer.text() == "1").count();
    assert_eq!(ones(), 6);
    let drained =
        format!("cluster app, endpoint {} is drained: it gets no new requests; 0 are under way\n", one.address);
    assert_eq!(order(&["drain", "app", &one.address]), (true, drained));
    assert_eq!(ones(), 0);
    let shown = String::from_utf8(proxy.verb(&["status"]).stdout).unwrap();
    assert!(shown.contains("app: 1 of 2 endpoints are usable\n"), "{shown}");
    // It is kept over a reload.
    proxy.reload(&setup.clone().route("timeout = \"9s\"").text());
    assert_eq!(ones(), 0);
    assert!(order(&["ready", "app", &one.address]).0);
    assert_eq!(ones(), 6);
    assert!(order(&["weight", "app", &one.address, "5"]).0);
    assert_eq!(ones(), 10);
    assert!(order(&["ready", "app", &one.address]).0);
    assert_eq!(ones(), 6);
    let (good, said) = order(&["drain", "ap", &one.address]);
    assert!(!good && said.contains("there is no cluster ap; there are app"), "{said}");
    let (good, said) = order(&["drain", "app", "127.0.0.1:1"]);
    assert!(!good && said.contains(&one.address), "{said}");
}

/// Whether something still holds what was known of an endpoint that was taken out, such as a request, makes no difference.
#[test]
fn an_endpoint_that_was_taken_out_comes_back_as_a_new_one() {
    let (one, two) = (Origin::answering(OK), Origin::answering(OK));
    let both = Setup::to(&[&one.address, &two.address]).managed();
    let proxy = both.start();
    for order in [&["drain", "app", &two.address][..], &["weight", "app", &two.address, "7"]] {
        assert!(proxy.verb(&[&["endpoint"], order].concat()).status.success());
    }
    proxy.reload(&both.clone().route("timeout = \"9s\"").text());
    assert_eq!((held(&proxy, 1), endpoint(&proxy, 1)["weight"].as_u64()), (vec!["drained".to_owned()], Some(7)));
    proxy.reload(&Setup::to(&[&one.address]).managed().text());
    proxy.reload(&both.text());
    assert_eq!((held(&proxy, 1), endpoint(&proxy, 1)["weight"].as_u64()), (Vec::new(), Some(1)));
}

#[test]
fn the_state_of_endpoints_is_measured() {
    let (sick, well) = (Sick::new(Symptom::Unavailable), Origin::answering(OK));
    let proxy = setup(&sick, &well)
        .cluster("outlier = { consecutive_failures = 2, ejection = \"1h\" }")
        .route("retry = { budget = 1.0 }")
        .start();
    assert_eq!(statuses(&proxy, GET, 4), [200; 4]);
    let metrics = poll(|| {
        let mut admin = crate::harness::Wire::connect(proxy.admin());
        admin.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let text = admin.message().unwrap().text().to_owned();
        let ejected = format!("cairn_endpoint_healthy{{cluster=\"app\",endpoint=\"{}\"}} 0", sick.origin.address);
        text.contains(&ejected).then_some(text)
    });
    let failed = format!("cairn_endpoint_failed_total{{cluster=\"app\",endpoint=\"{}\"}} ", sick.origin.address);
    for start in [&*failed, "cairn_retries_total{reason=\"status\"} "] {
        let line = metrics.lines().find_map(|line| line.strip_prefix(start));
        assert_eq!(line.and_then(|count| count.parse().ok()), Some(sick.requests()), "{start}");
    }
    for line in [
        format!("cairn_endpoint_answered_total{{cluster=\"app\",endpoint=\"{}\"}} 4", well.address),
        format!("cairn_endpoint_healthy{{cluster=\"app\",endpoint=\"{}\"}} 1", well.address),
        "cairn_cluster_panic{cluster=\"app\"} 0".to_owned(),
    ] {
        assert!(metrics.contains(&format!("{line}\n")), "{line} is not in\n{metrics}");
    }
}

/// An open tunnel, which may be silent for days, keeps requests from its endpoint no more than any other request under way.
#[test]
fn a_tunnel_does_not_keep_requests_away() {
    for balance in ["least_request", "peak_ewma"] {
        let serve = |wire: &mut crate::harness::Wire<std::net::TcpStream>, name: &str| {
            while let Some(head) = wire.head() {
                match head.starts_with("CONNECT ") {
                    true => wire.send("HTTP/1.1 200 OK\r\n\r\nopen"),
                    false => wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{name}")),
                }
            }
        };
        let one = Origin::start(move |mut wire, _| serve(&mut wire, "1"));
        let two = Origin::start(move |mut wire, _| serve(&mut wire, "2"));
        let setup = Setup::to(&[&one.address, &two.address]).cluster(&format!("balance = \"{balance}\""));
        let proxy = setup.managed().more("[[route]]\nmethods = [\"CONNECT\"]\ncluster = \"app\"\n").start();
        // The second one goes to the endpoint that has none.
        let _tunnels = [0, 1].map(|_| {
            let mut client = proxy.client();
            client.send("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n");
            client.until(b"open").unwrap();
            client
        });
        assert_eq!([0, 1].map(|at| endpoint(&proxy, at)["in_flight"].as_u64().unwrap()), [1, 1]);
        let found = answers(&proxy, GET, 60);
        let ones = found.iter().filter(|answer| answer.text() == "1").count();
        // By latency, one of them may be better by far.
        assert!(balance == "peak_ewma" || (10..50).contains(&ones), "{balance}: {ones} of 60");
    }
}

/// Neither the bytes of a head that never ends nor anything else puts off the end of a try, but a response.
#[test]
fn a_head_that_drips_is_too_slow() {
    let origin = Origin::start(|mut wire, _| {
        wire.message();
        let mut part = "HTTP/1.1 200 OK\r\nx: ".chars().chain(std::iter::repeat('x'));
        // Until the proxy hangs up.
        while wire.stream.write_all(part.next().unwrap().to_string().as_bytes()).is_ok() {
            std::thread::park_timeout(std::time::Duration::from_millis(20));
        }
    });
    let proxy = Setup::to(&[&origin.address]).cluster("timeouts = { response = \"200ms\" }").start();
    let answer = proxy.ask(GET);
    assert_eq!((answer.status(), answer.reason()), (504, "response_timeout".to_owned()));
}
