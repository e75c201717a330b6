//! Requests that go to the endpoint where others like them went: by key, by cookie, by zone. Not here: how evenly (`src/cluster`).

use std::collections::BTreeSet;

use crate::harness::{Message, Origin, Proxy, Setup, closed};

/// Three origins, each of which answers with its number and sets a cookie of its own.
fn origins() -> [Origin; 3] {
    ["0", "1", "2"].map(|number| {
        Origin::start(move |mut wire, _| {
            while wire.message().is_some() {
                wire.send(format!(
                    "HTTP/1.1 200 OK\r\nSet-Cookie: own=1; Path=/app\r\nContent-Length: 1\r\n\r\n{number}"
                ));
            }
        })
    })
}

fn addresses(origins: &[Origin]) -> Vec<&str> {
    origins.iter().map(|origin| &*origin.address).collect()
}

fn get(proxy: &Proxy, target: &str, fields: &str) -> Message {
    let answer = proxy.ask(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
    assert_eq!(answer.status(), 200, "{}", answer.head);
    answer
}

/// The numbers of the origins that answer ten of the same request.
fn answering(proxy: &Proxy, target: &str, fields: &str) -> BTreeSet<String> {
    (0..10).map(|_| get(proxy, target, fields).text().to_owned()).collect()
}

/// The line of Set-Cookie that names the endpoint.
fn cookie(answer: &Message) -> Option<String> {
    let mut lines = answer.head.lines().filter_map(|line| line.split_once(": "));
    let named = lines.find(|(name, value)| name.eq_ignore_ascii_case("set-cookie") && value.starts_with("lb="));
    named.map(|(_, value)| value.to_owned())
}

#[test]
fn equal_keys_go_to_one_endpoint_and_others_elsewhere() {
    let origins = origins();
    let addresses = addresses(&origins);
    for balance in ["ring_hash", "maglev"] {
        for (on, target, fields) in [
            ("header:X-User", "/", "x-uSER: {}\r\n"),
            ("cookie:session", "/", "Cookie: a=b; session={}; c=d\r\n"),
            ("query:user", "/?a=b&user={}", ""),
        ] {
            let setup = Setup::to(&addresses).cluster(&format!("balance = \"{balance}\"\nhash_on = \"{on}\""));
            let proxy = setup.start();
            let mut used = BTreeSet::new();
            let mut places = Vec::new();
            for key in 0..20 {
                let filled = |text: &str| text.replace("{}", &format!("k{key}"));
                let answering = answering(&proxy, &filled(target), &filled(fields));
                assert_eq!(answering.len(), 1, "{balance} {on} {key}: {answering:?}");
                places.extend(answering.iter().cloned());
                used.extend(answering);
            }
            // That 20 keys leave out one of three endpoints happens once in a thousand draws, and the draw is the same each time but
            // for the ports.
            assert!(used.len() >= 2, "{balance} {on}: {used:?}");
            // Without a key, each request goes anywhere: that 40 go to one happens once in 3^39 draws.
            let lost: BTreeSet<_> = (0..4).flat_map(|_| answering(&proxy, "/", "Cookie: session=\r\n")).collect();
            assert!(lost.len() > 1, "{balance} {on}: {lost:?}");
            // Another process, and another order of the endpoints.
            let backwards: Vec<_> = addresses.iter().rev().copied().collect();
            let again = Setup::to(&backwards).cluster(&format!("balance = \"ring_hash\"\nhash_on = \"{on}\"")).start();
            for (key, place) in places.iter().enumerate().filter(|_| balance == "ring_hash") {
                let filled = |text: &str| text.replace("{}", &format!("k{key}"));
                assert_eq!(get(&again, &filled(target), &filled(fields)).text(), place, "{on} {key}");
            }
        }
    }
}

#[test]
fn a_key_of_the_source_is_the_client_that_a_trusted_proxy_names() {
    let origins = origins();
    let setup = Setup::to(&addresses(&origins)).cluster("balance = \"maglev\"\nhash_on = \"source\"");
    let proxy = setup.start();
    let spread = |proxy: &Proxy| -> BTreeSet<String> {
        (0..40).map(|n| get(proxy, "/", &format!("X-Forwarded-For: 192.0.2.{n}\r\n")).text().to_owned()).collect()
    };
    assert_eq!(spread(&proxy).len(), 1);
    let trusting = setup.listener("trusted_proxies = [\"127.0.0.1\"]").start();
    assert!(spread(&trusting).len() > 1);
    assert_eq!(answering(&trusting, "/", "X-Forwarded-For: 192.0.2.1\r\n").len(), 1);
}

#[test]
fn a_key_of_an_endpoint_that_is_gone_goes_to_another_one() {
    let origins = origins();
    let (_socket, gone) = closed();
    for balance in ["ring_hash", "maglev"] {
        let keys = format!("balance = \"{balance}\"\nhash_on = \"header:x\"");
        let proxy = Setup::to(&[&origins[0].address, &gone]).cluster(&keys).start();
        for key in 0..20 {
            assert_eq!(get(&proxy, "/", &format!("X: {key}\r\n")).text(), "0", "{balance}");
        }
    }
}

#[test]
fn a_cookie_keeps_a_client_at_its_endpoint() {
    let origins = origins();
    let addresses = addresses(&origins);
    let affinity = "affinity = { cookie = \"lb\", ttl = \"1h\" }";
    let setup = Setup::to(&addresses).cluster(affinity).managed();
    let proxy = setup.start();
    let first = get(&proxy, "/", "");
    let line = cookie(&first).unwrap();
    assert!(first.field("set-cookie").unwrap().contains("own=1; Path=/app"), "{}", first.head);
    let (pair, attributes) = line.split_once("; ").unwrap();
    assert_eq!(attributes, "Path=/; Max-Age=3600; HttpOnly; SameSite=Lax");
    let own = first.text().to_owned();
    let stays = |proxy: &Proxy, cookies: &str| {
        for _ in 0..10 {
            let answer = get(proxy, "/", &format!("Cookie: {cookies}\r\n"));
            assert_eq!((answer.text(), cookie(&answer)), (&*own, None));
        }
    };
    stays(&proxy, pair);
    // Among others, and behind one that names nothing.
    stays(&proxy, &format!("a=b; lb=old; {pair}"));
    // A reload that changes the endpoints around it, and another process.
    let others: Vec<_> =
        addresses.iter().rev().filter(|address| **address != addresses[1] || own == "1").copied().collect();
    let changed = Setup::to(&others).cluster(affinity).managed();
    proxy.reload(&changed.text());
    stays(&proxy, pair);
    stays(&changed.start(), pair);
    // The endpoint leaves: another one is chosen, once.
    let left: Vec<_> =
        addresses.iter().enumerate().filter(|(at, _)| at.to_string() != own).map(|(_, it)| *it).collect();
    proxy.reload(&Setup::to(&left).cluster(affinity).managed().text());
    let answer = get(&proxy, "/", &format!("Cookie: {pair}\r\n"));
    let next = cookie(&answer).unwrap();
    assert!(answer.text() != own && !next.starts_with(pair), "{next}");
    let pair = next.split(';').next().unwrap();
    assert_eq!(answering(&proxy, "/", &format!("Cookie: {pair}\r\n")), BTreeSet::from([answer.text().to_owned()]));
    // An operator drains it.
    let place = left
        .iter()
        .find(|address| addresses.iter().position(|it| it == *address).unwrap().to_string() == answer.text());
    assert!(proxy.verb(&["endpoint", "drain", "app", place.unwrap()]).status.success());
    let moved = get(&proxy, "/", &format!("Cookie: {pair}\r\n"));
    assert!(moved.text() != answer.text() && cookie(&moved).is_some(), "{}", moved.head);
}

#[test]
fn a_cookie_leads_to_no_endpoint_of_another_cluster() {
    let origins = origins();
    let more = format!(
        "[[route]]\npath_prefix = \"/b\"\ncluster = \"b\"\n[[cluster]]\nname = \"b\"\nendpoints = [{:?}, {:?}]\naffinity = {{ cookie = \"lb\" }}\n",
        origins[1].address, origins[2].address
    );
    let setup =
        Setup::to(&[&origins[0].address, &origins[1].address]).cluster("affinity = { cookie = \"lb\" }").more(&more);
    let proxy = setup.start();
    let line = cookie(&get(&proxy, "/b", "")).unwrap();
    assert!(line.ends_with("; Path=/; HttpOnly; SameSite=Lax"), "{line}");
    for value in [line.split(';').next().unwrap(), "lb=", "lb=127.0.0.1:1", "lb=0000000000000000", "lb=1"] {
        let answer = get(&proxy, "/", &format!("Cookie: {value}\r\n"));
        assert!(cookie(&answer).is_some() && answer.text() != "2", "{}", answer.head);
    }
}

#[test]
fn a_client_whose_endpoint_fails_is_served_and_moves() {
    let origins = origins();
    let affinity = "affinity = { cookie = \"lb\" }";
    let (socket, failing) = closed();
    let whole = Setup::to(&[&origins[0].address, &failing]).cluster(affinity);
    // The value of an endpoint is the same while it answers: the socket is given back for that, and taken again.
    drop(socket);
    let reborn = Origin::on(&failing, |mut wire, _| {
        while wire.message().is_some() {
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n9");
        }
    });
    let only = Setup::to(&[&reborn.address]).cluster(affinity).start();
    let line = cookie(&get(&only, "/", "")).unwrap();
    let pair = line.split(';').next().unwrap();
    let (_socket, other) = closed();
    let proxy = whole.start();
    assert_eq!(answering(&proxy, "/", &format!("Cookie: {pair}\r\n")), BTreeSet::from(["9".to_owned()]));
    drop(proxy);
    // Under its name there is nobody now.
    let broken = Setup::to(&[&origins[0].address, &other]).cluster(affinity).start();
    for _ in 0..10 {
        let answer = get(&broken, "/", "");
        assert_eq!(answer.text(), "0");
        assert!(cookie(&answer).is_some());
    }
}

#[test]
fn a_cookie_of_https_is_for_https() {
    let origins = origins();
    let listener = "trusted_proxies = [\"127.0.0.1\"]";
    let setup = Setup::to(&addresses(&origins)).cluster("affinity = { cookie = \"lb\" }").listener(listener);
    let line = cookie(&get(&setup.start(), "/", "X-Forwarded-Proto: https\r\n")).unwrap();
    assert!(line.ends_with("; Path=/; HttpOnly; SameSite=Lax; Secure"), "{line}");
}

#[test]
fn a_zone_keeps_its_requests_and_gives_them_away_when_it_has_too_few_endpoints() {
    let origins = origins();
    let endpoints: String = origins
        .iter()
        .zip(["b", "a", "b"])
        .map(|(origin, zone)| format!("{{ address = {:?}, zone = \"{zone}\" }}, ", origin.address))
        .collect();
    let text = |zone: &str| {
        let cluster = format!("balance = \"round_robin\"\nzone = \"{zone}\"");
        Setup::to(&[])
            .cluster(&cluster)
            .managed()
            .text()
            .replace("endpoints = []", &format!("endpoints = [{endpoints}]"))
    };
    let proxy = Proxy::start(&text("b"), &[]);
    assert_eq!(answering(&proxy, "/", ""), BTreeSet::from(["0".to_owned(), "2".to_owned()]));
    // One of two usable endpoints is here, and one of two zones.
    assert!(proxy.verb(&["endpoint", "drain", "app", &origins[0].address]).status.success());
    assert_eq!(answering(&proxy, "/", ""), BTreeSet::from(["2".to_owned()]));
    assert!(proxy.verb(&["endpoint", "drain", "app", &origins[2].address]).status.success());
    assert_eq!(answering(&proxy, "/", ""), BTreeSet::from(["1".to_owned()]));
    // In zone a there is one of three: two thirds of the traffic stay.
    let proxy = Proxy::start(&text("a"), &[]);
    let counts = (0..60).filter(|_| get(&proxy, "/", "").text() == "1").count();
    // The strides of a round leave each endpoint within two of its share.
    assert!((38..=42).contains(&counts), "{counts}");
    let status = proxy.status();
    assert_eq!(status["clusters"][0]["zone"]["local_percent"], 67, "{status}");
}
