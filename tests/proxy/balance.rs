//! Which endpoint gets a request, and answers that no endpoint gives. Not here: endpoints that fail (`failures`).

use crate::harness::{Origin, Setup};

const GET: &str = "GET /a?b HTTP/1.1\r\nHost: a.example:81\r\n\r\n";

fn origins() -> [Origin; 3] {
    [
        Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n0"),
        Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1"),
        Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2"),
    ]
}

/// How many of `count` requests each origin answers.
fn spread(setup: &Setup, count: usize) -> [usize; 3] {
    let proxy = setup.start();
    let mut client = proxy.client();
    let mut counts = [0; 3];
    for _ in 0..count {
        client.send(GET);
        counts[client.message().unwrap().text().parse::<usize>().unwrap()] += 1;
    }
    counts
}

#[test]
fn round_robin_is_even_and_follows_weights() {
    let [a, b, c] = origins();
    let even = Setup::to(&[&a.address, &b.address, &c.address]).cluster("balance = \"round_robin\"");
    assert_eq!(spread(&even, 30), [10, 10, 10]);
    let weighted = Setup::to(&[]).cluster("balance = \"round_robin\"").text().replace(
        "endpoints = []",
        &format!(
            "endpoints = [{{ address = {:?}, weight = 2 }}, {{ address = {:?}, weight = 0 }}, {:?}]",
            a.address, b.address, c.address
        ),
    );
    let proxy = crate::harness::Proxy::start(&weighted, &[]);
    let mut counts = [0; 3];
    (0..30).for_each(|_| counts[proxy.ask(GET).text().parse::<usize>().unwrap()] += 1);
    assert_eq!(counts, [20, 0, 10]);
}

#[test]
fn other_policies_use_every_endpoint() {
    let [a, b, c] = origins();
    for policy in ["least_request", "random"] {
        let setup = Setup::to(&[&a.address, &b.address, &c.address]).cluster(&format!("balance = \"{policy}\""));
        let counts = spread(&setup, 300);
        // Six standard deviations of a fair draw.
        assert!(counts.iter().all(|count| (50..150).contains(count)), "{policy}: {counts:?}");
    }
}

#[test]
fn a_split_follows_its_weights() {
    let [a, b, c] = origins();
    let more = format!(
        "[[route]]\nhosts = [\"a.example\"]\nsplit = [{{ cluster = \"b\", weight = 90 }}, {{ cluster = \"c\", weight = 10 }}]\n\
         [[cluster]]\nname = \"b\"\nendpoints = [{:?}]\n[[cluster]]\nname = \"c\"\nendpoints = [{:?}]",
        b.address, c.address
    );
    let counts = spread(&Setup::to(&[&a.address]).more(&more), 1000);
    // Six standard deviations: 6 * sqrt(1000 * 0.9 * 0.1) = 57.
    assert!(counts[0] == 0 && (43..=157).contains(&counts[2]), "{counts:?}");
}

#[test]
fn some_routes_answer_by_themselves() {
    let [a, ..] = origins();
    let more = "[[route]]\npath = \"/moved\"\nredirect = { status = 301, scheme = \"https\", host = \"b.example\", path = \"/x\" }\n\
                [[route]]\npath = \"/secure\"\nredirect = { scheme = \"https\" }\n\
                [[route]]\npath = \"/other\"\nredirect = { status = 302, path = \"/new\" }\n\
                [[route]]\npath = \"/ok\"\nrespond = { status = 201, body = \"made\", headers = { x-a = \"1\" } }\n";
    let proxy = Setup::to(&[&a.address]).more(more).start();
    let mut client = proxy.client();
    for (target, status, location) in [
        ("/moved?q", 301, "https://b.example/x?q"),
        ("/secure?q", 308, "https://a.example/secure?q"),
        ("/other", 302, "http://a.example:81/new"),
    ] {
        client.send(format!("GET {target} HTTP/1.1\r\nHost: a.example:81\r\n\r\n"));
        let answer = client.message().unwrap();
        assert_eq!((answer.status(), answer.field("location").as_deref()), (status, Some(location)));
    }
    client.send("POST /ok HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloHEAD /ok HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = client.message().unwrap();
    assert_eq!((answer.status(), answer.text(), answer.field("x-a").as_deref()), (201, "made", Some("1")));
    assert!(answer.field("date").is_some() && answer.field("content-type").is_some(), "{}", answer.head);
    let head = client.head().unwrap();
    assert!(head.starts_with("HTTP/1.1 201 Created\r\n") && head.contains("content-length: 4\r\n"), "{head}");
    assert_eq!(a.connections(), 0);
}
