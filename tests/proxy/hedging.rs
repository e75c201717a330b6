//! Second attempts beside slow ones. Not here: attempts after failed ones (`resilience`).

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use crate::harness::{End, Message, Origin, Proxy, Setup, Wire, full, next, poll};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const HEDGE: &str = "hedge = { after = \"20ms\" }";

/// A request at an origin that waits to be told what to answer.
struct Asked {
    at: Instant,
    request: Message,
    answer: Sender<String>,
    /// How the connection has ended, if the answer was empty.
    end: Receiver<End>,
}

impl Asked {
    fn answer(&self, status: &str, body: &str) {
        self.say(&format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    }

    /// An empty text: it waits for the end of the connection.
    fn say(&self, text: &str) {
        self.answer.send(text.to_owned()).unwrap();
    }

    fn is_reset(&self) -> bool {
        self.say("");
        matches!(next(&self.end), End::Reset(_))
    }
}

/// An origin that answers what it is told to. "hang up" ends the connection.
fn told() -> (Origin, Receiver<Asked>) {
    let (sender, requests) = mpsc::channel();
    let origin = Origin::start(move |mut wire, _| {
        while let Some(request) = wire.message() {
            let ((answer, answers), (ended, end)) = (mpsc::channel::<String>(), mpsc::channel());
            if sender.send(Asked { at: Instant::now(), request, answer, end }).is_err() {
                return;
            }
            loop {
                match answers.recv().as_deref() {
                    Ok("hang up") => return,
                    Ok("") => drop(ended.send(wire.end())),
                    Ok(text) if text.starts_with("HTTP/1.1 1") => wire.send(text),
                    Ok(text) => {
                        wire.send(text);
                        break;
                    }
                    Err(_) => return,
                }
            }
        }
    });
    (origin, requests)
}

/// Won, lost and refused ones.
fn hedges(proxy: &Proxy) -> [u64; 3] {
    serde_json::from_value(proxy.status()["hedges"].clone()).unwrap()
}

/// A request that waits at both endpoints, in the order in which they were asked.
struct Race {
    proxy: Proxy,
    client: Wire,
    asked: Vec<Asked>,
    _origins: [Origin; 2],
}

impl Race {
    fn new(request: &str, route: &str) -> Self {
        let ((one, ones), (other, others)) = (told(), told());
        let proxy = Setup::to(&[&one.address, &other.address])
            .cluster("balance = \"round_robin\"\noutlier = { consecutive_failures = 0 }")
            .route(&format!("{HEDGE}\n{route}"))
            .managed()
            .start();
        let mut client = proxy.client();
        client.send(request);
        let mut asked = Vec::new();
        let mut look = || {
            asked.extend(ones.try_iter().chain(others.try_iter()));
            (asked.len() == 2).then_some(())
        };
        poll(&mut look);
        asked.sort_by_key(|asked| asked.at);
        Self { proxy, client, asked, _origins: [one, other] }
    }

    fn answer(&mut self) -> (u16, String) {
        let answer = self.client.message().unwrap();
        (answer.status(), answer.text().to_owned())
    }
}

const NO_RETRY: &str = "retry = { attempts = 0 }";

#[test]
fn the_first_good_answer_is_taken_and_the_other_attempt_reset() {
    for (winner, counts) in [(0, [0, 1, 0]), (1, [1, 0, 0])] {
        let mut race = Race::new(GET, NO_RETRY);
        race.asked[winner].answer("404 Not Found", "mine");
        assert_eq!(race.answer(), (404, "mine".to_owned()));
        assert!(race.asked[1 - winner].is_reset());
        assert_eq!(hedges(&race.proxy), counts);
        // The winner's connection is kept, and nothing is under way any more.
        let endpoints = race.proxy.status()["clusters"][0]["endpoints"].clone();
        let busy: Vec<_> = endpoints.as_array().unwrap().iter().map(|it| it["in_flight"].as_u64().unwrap()).collect();
        assert_eq!(busy, [0, 0]);
    }
}

#[test]
fn an_error_waits_for_the_other_attempt() {
    for first in [0, 1] {
        for error in ["500 Internal Server Error", "503 Service Unavailable"] {
            // Something better comes.
            let mut race = Race::new(GET, NO_RETRY);
            race.asked[first].answer(error, "bad");
            race.asked[1 - first].answer("200 OK", "good");
            assert_eq!(race.answer(), (200, "good".to_owned()), "{first} {error}");
            // Nothing better comes: the error that is in hand goes to the client, with all of its body.
            let mut race = Race::new(GET, NO_RETRY);
            let body = "x".repeat(200_000);
            race.asked[first].answer(error, &body);
            race.asked[1 - first].say("hang up");
            let (status, text) = race.answer();
            assert_eq!((status, text == body), (error[..3].parse().unwrap(), true), "{first}: {} bytes", text.len());
            // Two errors.
            let mut race = Race::new(GET, NO_RETRY);
            race.asked[first].answer(error, "one");
            race.asked[1 - first].answer("502 Bad Gateway", "two");
            let (status, text) = race.answer();
            assert!((status, &*text) == (502, "two") || (status, &*text) == (error[..3].parse().unwrap(), "one"));
        }
        // One hangs up, without another attempt being made.
        let mut race = Race::new(GET, NO_RETRY);
        race.asked[first].say("hang up");
        race.asked[1 - first].answer("200 OK", "good");
        assert_eq!(race.answer(), (200, "good".to_owned()));
        // What is no HTTP is an error, too.
        let mut race = Race::new(GET, NO_RETRY);
        race.asked[first].say("SSH-2.0-OpenSSH\r\n\r\n");
        race.asked[1 - first].answer("200 OK", "good");
        assert_eq!(race.answer(), (200, "good".to_owned()));
        // Both hang up: the request is not lost without an answer.
        let mut race = Race::new(GET, NO_RETRY);
        race.asked.iter().for_each(|asked| asked.say("hang up"));
        assert_eq!(race.answer().0, 502);
    }
}

#[test]
fn interim_responses_decide_nothing() {
    for first in [0, 1] {
        let mut race = Race::new(GET, NO_RETRY);
        race.asked[first].say("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
        race.asked[1 - first].answer("200 OK", "good");
        let mut answer = race.client.message().unwrap();
        while answer.status() == 103 {
            answer = race.client.message().unwrap();
        }
        assert_eq!((answer.status(), answer.text()), (200, "good"));
    }
}

#[test]
fn the_whole_request_is_copied() {
    let body = "b".repeat(40_000);
    let request =
        format!("PUT /path?a=1 HTTP/1.1\r\nHost: a\r\nX-Own: 1\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let mut race = Race::new(&request, NO_RETRY);
    let [first, second] = [0, 1].map(|at| &race.asked[at].request);
    assert_eq!(first.head, second.head);
    assert!(first.text() == body && second.text() == body);
    race.asked[1].answer("200 OK", "good");
    assert_eq!(race.answer(), (200, "good".to_owned()));
}

/// After one of two attempts has failed, and then the other: what is sent again is the request, once.
#[test]
fn retries_follow_when_both_have_failed() {
    let body = "b".repeat(20_000);
    let request = format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    for first in [0, 1] {
        let (third, received) = Origin::recording("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nthird");
        let ((one, ones), (other, others)) = (told(), told());
        let more = format!("endpoints = [\"{}\", \"{}\"", one.address, other.address);
        let backup = format!("{more}, {{ address = \"{}\", backup = true }}]", third.address);
        let text = Setup::to(&[&one.address, &other.address])
            .cluster("balance = \"round_robin\"\npanic_threshold = 0.9\noutlier = { consecutive_failures = 1, ejection = \"60s\", max_ejected = 1.0 }")
            .route(&format!("{HEDGE}\nretry = {{ attempts = 3, budget = 1.0, on = [\"reset\"] }}"))
            .managed()
            .text();
        let plain = format!("endpoints = [\"{}\", \"{}\"]", one.address, other.address);
        let proxy = Proxy::start(&text.replace(&plain, &backup), &[]);
        let mut client = proxy.client();
        client.send(&request);
        let mut asked = Vec::new();
        poll(|| {
            asked.extend(ones.try_iter().chain(others.try_iter()));
            (asked.len() == 2).then_some(())
        });
        asked[first].say("hang up");
        poll(|| (proxy.status()["clusters"][0]["endpoints"].to_string().contains("ejected")).then_some(()));
        asked[1 - first].say("hang up");
        let answer = client.message().unwrap();
        assert_eq!((answer.status(), answer.text()), (200, "third"), "{first}");
        let sent: Vec<_> = received.try_iter().collect();
        assert_eq!(sent.len(), 1);
        assert!(sent[0].text() == body);
    }
}

#[test]
fn what_is_not_idempotent_is_never_hedged() {
    let ((one, ones), (other, others)) = (told(), told());
    let proxy = Setup::to(&[&one.address, &other.address]).route("hedge = { after = \"1ms\" }").managed().start();
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
    let mut asked = Vec::new();
    poll(|| {
        asked.extend(ones.try_iter().chain(others.try_iter()));
        (!asked.is_empty()).then_some(())
    });
    // A GET that comes later is hedged meanwhile.
    let mut later = proxy.client();
    later.send(GET);
    poll(|| {
        asked.extend(ones.try_iter().chain(others.try_iter()));
        (asked.len() == 3).then_some(())
    });
    assert_eq!(asked.iter().filter(|asked| asked.request.line().starts_with("POST")).count(), 1);
    asked.iter().for_each(|asked| asked.answer("200 OK", ""));
    assert_eq!((client.message().unwrap().status(), later.message().unwrap().status()), (200, 200));
}

#[test]
fn second_attempts_are_a_twentieth_of_the_requests() {
    let (fast, received) = Origin::recording("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let slow = Origin::start(|mut wire, _| {
        let mut late = Vec::new();
        while let Some(request) = wire.message() {
            late.push(request);
        }
    });
    let proxy = Setup::to(&[&slow.address, &fast.address])
        .cluster(
            "balance = \"round_robin\"\noutlier = { consecutive_failures = 0 }\ntimeouts = { response = \"200ms\" }",
        )
        .route("hedge = { after = \"1ms\" }\nretry = { attempts = 0 }")
        .managed()
        .start();
    let statuses: Vec<_> = (0..80).map(|_| proxy.ask(GET).status()).collect();
    let served = statuses.iter().filter(|status| **status == 200).count();
    // Half begin at the fast one; 10 second attempts were saved, and each twenty requests add one.
    let [won, _, refused] = hedges(&proxy);
    assert!((10..=14).contains(&won), "{won} {refused}");
    assert_eq!((served as u64, refused), (40 + won, 40 - won));
    assert_eq!(received.try_iter().count() as u64, 40 + won);
}

#[test]
fn an_endpoint_that_cannot_be_connected_to_in_time_is_hedged() {
    let (well, nobody) = (Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood"), full());
    let proxy = Setup::to(&[nobody.address(), &well.address])
        .cluster("balance = \"round_robin\"\ntimeouts = { connect = \"30s\" }")
        .route(HEDGE)
        .managed()
        .start();
    let began = Instant::now();
    for _ in 0..6 {
        assert_eq!(proxy.ask(GET).text(), "good");
    }
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(hedges(&proxy)[0], 3);
}

#[test]
fn an_endpoint_without_a_place_is_not_asked() {
    let ((one, ones), (other, others)) = (told(), told());
    let proxy = Setup::to(&[&one.address, &other.address])
        .cluster("limits = { requests = 1, queue = 10, queue_timeout = \"10s\" }")
        .route("hedge = { after = \"1ms\" }")
        .managed()
        .start();
    let mut client = proxy.client();
    client.send(GET);
    poll(|| (hedges(&proxy)[2] == 1).then_some(()));
    let asked: Vec<_> = ones.try_iter().chain(others.try_iter()).collect();
    assert_eq!(asked.len(), 1);
    asked[0].answer("200 OK", "good");
    assert_eq!(client.message().unwrap().text(), "good");
    poll(|| (proxy.status()["clusters"][0]["limits"]["taken"] == 0).then_some(()));
}

#[test]
fn the_places_of_both_attempts_are_given_back() {
    for winner in [0, 1] {
        let ((one, ones), (other, others)) = (told(), told());
        let limits = "limits = { requests = 2, per_endpoint = { requests = 1 }, queue = 10, queue_timeout = \"10s\" }";
        let proxy = Setup::to(&[&one.address, &other.address]).cluster(limits).route(HEDGE).managed().start();
        for _ in 0..3 {
            let mut client = proxy.client();
            client.send(GET);
            let mut asked = Vec::new();
            poll(|| {
                asked.extend(ones.try_iter().chain(others.try_iter()));
                (asked.len() == 2).then_some(())
            });
            asked.sort_by_key(|asked| asked.at);
            assert_eq!(proxy.status()["clusters"][0]["limits"]["taken"], 2);
            asked[winner].answer("200 OK", "good");
            assert_eq!(client.message().unwrap().text(), "good");
            poll(|| (proxy.status()["clusters"][0]["limits"]["taken"] == 0).then_some(()));
        }
    }
}

#[test]
fn p95_is_what_the_route_has_taken() {
    let slow = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let origins: [Origin; 2] = [true, false].map(|sick| {
        let slow = Arc::clone(&slow);
        Origin::start(move |mut wire, _| {
            while wire.message().is_some() {
                if sick && slow.load(std::sync::atomic::Ordering::SeqCst) {
                    // Until the proxy hangs up.
                    return drop(wire.end());
                }
                wire.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood");
            }
        })
    });
    let proxy = Setup::to(&[&origins[0].address, &origins[1].address])
        .cluster("balance = \"round_robin\"")
        .route("hedge = { after = \"p95\" }")
        .managed()
        .start();
    // Nothing is known yet, so that nothing is hedged.
    (0..100).for_each(|_| assert_eq!(proxy.ask(GET).text(), "good"));
    slow.store(true, std::sync::atomic::Ordering::SeqCst);
    let began = Instant::now();
    (0..10).for_each(|_| assert_eq!(proxy.ask(GET).text(), "good"));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(hedges(&proxy)[0] >= 5);
}

/// A client that goes away leaves neither attempt behind.
#[test]
fn both_attempts_end_with_their_client() {
    let race = Race::new(GET, NO_RETRY);
    race.client.abort();
    assert!(race.asked.iter().all(|asked| {
        asked.say("");
        matches!(next(&asked.end), End::Reset(_) | End::Clean(_))
    }));
    poll(|| (race.proxy.status()["exchanges"] == 0).then_some(()));
}
