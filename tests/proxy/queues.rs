//! Limits of clusters: how many requests are under way, which wait, and which are refused. Not here: limits of tenants and listeners.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver};

use crate::harness::{Message, Origin, Proxy, Setup, Wire, closed, poll};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// An origin that answers as many requests as it is told to, and counts those that it has.
struct Held {
    origin: Origin,
    counts: Arc<Counts>,
    /// Of the requests, as they are read.
    paths: Receiver<String>,
}

#[derive(Default)]
struct Counts {
    read: AtomicUsize,
    under_way: AtomicUsize,
    most: AtomicUsize,
    allowed: AtomicUsize,
}

impl Held {
    fn new() -> Self {
        let counts = Arc::<Counts>::default();
        let its = Arc::clone(&counts);
        let (sender, paths) = mpsc::channel();
        let origin = Origin::start(move |mut wire, _| {
            while let Some(request) = wire.message() {
                let number = its.read.fetch_add(1, Ordering::SeqCst);
                let now = its.under_way.fetch_add(1, Ordering::SeqCst) + 1;
                its.most.fetch_max(now, Ordering::SeqCst);
                let path = request.line().split(' ').nth(1).unwrap().to_owned();
                // The test may be over.
                let _ = sender.send(path.clone());
                poll(|| (its.allowed.load(Ordering::SeqCst) > number).then_some(()));
                its.under_way.fetch_sub(1, Ordering::SeqCst);
                wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}", path.len()));
            }
        });
        Self { origin, counts, paths }
    }

    fn address(&self) -> &str {
        &self.origin.address
    }

    /// Lets it answer all requests up to this number.
    fn allow(&self, count: usize) {
        self.counts.allowed.store(count, Ordering::SeqCst);
    }

    fn read(&self, count: usize) {
        poll(|| (self.counts.read.load(Ordering::SeqCst) >= count).then_some(()));
    }

    fn most(&self) -> usize {
        self.counts.most.load(Ordering::SeqCst)
    }
}

fn ask(proxy: &Proxy, path: &str) -> Wire {
    let mut client = proxy.client();
    client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
    client
}

fn answers(clients: Vec<Wire>) -> Vec<Message> {
    clients.into_iter().map(|mut client| client.message().unwrap()).collect()
}

/// What `cairn status` says of the limits of the cluster.
fn limit(proxy: &Proxy, what: &str) -> u64 {
    proxy.status()["clusters"][0]["limits"][what].as_u64().unwrap()
}

fn waits(proxy: &Proxy, count: u64) {
    poll(|| (limit(proxy, "waiting") == count).then_some(()));
}

#[test]
fn no_more_than_the_limit_reach_the_origin_whatever_the_number_of_workers() {
    for workers in ["count = 1", "count = 2"] {
        let held = Held::new();
        let setup =
            Setup::to(&[held.address()]).cluster("limits = { requests = 3, queue = 100, queue_timeout = \"10s\" }");
        let proxy = Proxy::start(&setup.managed().text().replace("count = 1", workers), &[]);
        let clients: Vec<_> = (0..24).map(|number| ask(&proxy, &format!("/{number}"))).collect();
        held.read(3);
        waits(&proxy, 21);
        assert_eq!((limit(&proxy, "requests"), limit(&proxy, "taken")), (3, 3));
        held.allow(1000);
        for (number, answer) in answers(clients).iter().enumerate() {
            assert_eq!((answer.status(), answer.text()), (200, &*format!("/{number}")));
        }
        assert_eq!(held.most(), 3, "{workers}");
        poll(|| (limit(&proxy, "taken") == 0 && limit(&proxy, "waiting") == 0).then_some(()));
    }
}

#[test]
fn each_endpoint_has_a_limit_of_its_own() {
    for workers in ["count = 1", "count = 2"] {
        let (one, other) = (Held::new(), Held::new());
        let limits = "limits = { per_endpoint = { requests = 2 }, queue = 100, queue_timeout = \"10s\" }";
        let setup = Setup::to(&[one.address(), other.address()]).cluster(limits).cluster("balance = \"random\"");
        let proxy = Proxy::start(&setup.managed().text().replace("count = 1", workers), &[]);
        let clients: Vec<_> = (0..12).map(|_| ask(&proxy, "/")).collect();
        one.read(2);
        other.read(2);
        waits(&proxy, 8);
        // A place at the other endpoint is as good.
        one.allow(1000);
        poll(|| (limit(&proxy, "waiting") == 0).then_some(()));
        other.allow(1000);
        assert!(answers(clients).iter().all(|answer| answer.status() == 200));
        assert_eq!((one.most(), other.most()), (2, 2), "{workers}");
    }
}

#[test]
fn no_more_connections_than_the_limit_reach_the_origin() {
    for workers in ["count = 1", "count = 2"] {
        for limit in ["connections = 3", "per_endpoint = { connections = 3 }"] {
            let held = Held::new();
            let limits = format!("limits = {{ {limit}, queue = 100, queue_timeout = \"10s\" }}");
            let setup = Setup::to(&[held.address()]).cluster(&limits).managed();
            let proxy = Proxy::start(&setup.text().replace("count = 1", workers), &[]);
            let clients: Vec<_> = (0..24).map(|number| ask(&proxy, &format!("/{number}"))).collect();
            held.read(3);
            waits(&proxy, 21);
            assert_eq!((held.origin.connections(), limit_of(&proxy)), (3, 3));
            held.allow(1000);
            for (number, answer) in answers(clients).iter().enumerate() {
                assert_eq!((answer.status(), answer.text()), (200, &*format!("/{number}")));
            }
            assert_eq!(held.most(), 3, "{workers} {limit}");
            waits(&proxy, 0);
            assert!(limit_of(&proxy) <= 3);
        }
    }
}

fn limit_of(proxy: &Proxy) -> u64 {
    limit(proxy, "connected")
}

/// An idle connection of one worker is given up for a request of another one, and one to an endpoint for a request to the other.
#[test]
fn idle_connections_give_way() {
    let (one, other) = (Origin::answering(OK), Origin::answering(OK));
    let limits = "limits = { connections = 1, queue = 10, queue_timeout = \"10s\" }\nbalance = \"round_robin\"";
    let setup = Setup::to(&[&one.address, &other.address]).cluster(limits).managed();
    let proxy = Proxy::start(&setup.text().replace("count = 1", "count = 2"), &[]);
    for _ in 0..40 {
        let answer = proxy.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(answer.status(), 200);
        assert_eq!(limit_of(&proxy), 1);
    }
    assert!(one.connections() > 5 && other.connections() > 5, "{} {}", one.connections(), other.connections());
    assert_eq!((limit(&proxy, "queue_full"), limit(&proxy, "queue_timeout")), (0, 0));
}

/// A connection that ends gives its place back, and so does one that could not be made.
#[test]
fn ended_connections_do_not_count() {
    let dropping = Origin::start(|mut wire, _| {
        wire.message();
        wire.send(OK);
    });
    let (_socket, nobody) = closed();
    let limits = "limits = { connections = 2, queue = 10, queue_timeout = \"10s\" }\nbalance = \"round_robin\"";
    let proxy = Setup::to(&[&dropping.address, &nobody]).cluster(limits).managed().start();
    for _ in 0..20 {
        assert_eq!(proxy.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status(), 200);
    }
    poll(|| (limit_of(&proxy) == 0).then_some(()));
}

/// Connections from before there was a limit are closed when they are idle.
#[test]
fn a_limit_of_connections_holds_for_those_that_there_are() {
    let held = Held::new();
    let setup = Setup::to(&[held.address()]).managed();
    let proxy = setup.start();
    let clients: Vec<_> = (0..6).map(|_| ask(&proxy, "/")).collect();
    held.read(6);
    let limited = setup.cluster("limits = { connections = 2, queue = 100, queue_timeout = \"10s\" }");
    proxy.reload(&limited.text());
    assert_eq!(limit_of(&proxy), 0);
    held.allow(1000);
    assert!(answers(clients).iter().all(|answer| answer.status() == 200));
    held.allow(6);
    let later: Vec<_> = (0..6).map(|_| ask(&proxy, "/")).collect();
    held.read(8);
    waits(&proxy, 4);
    assert_eq!((limit_of(&proxy), held.origin.connections()), (2, 8));
    held.allow(1000);
    assert!(answers(later).iter().all(|answer| answer.status() == 200));
}

/// However many requests of one tenant wait, those of another one have every other turn, and find room in a full queue.
#[test]
fn tenants_take_turns() {
    let tenant = |name: &str| {
        format!(
            "[[tenant]]\nname = \"{name}\"\nfile = \"FOLDER/{name}.toml\"\nclaims = [{{ host = \"{name}.test\" }}]\n\
             [[group]]\nname = \"{name}\"\ntenant = \"{name}\"\n[[group.route]]\npath_prefix = \"/{name}\"\ncluster = \"app\"\n"
        )
    };
    for workers in ["count = 1", "count = 2"] {
        let held = Held::new();
        let limits = "limits = { requests = 1, queue = 10, queue_timeout = \"10s\" }";
        let more = format!("{}{}", tenant("noisy"), tenant("quiet"));
        let setup = Setup::to(&[held.address()]).cluster(limits).managed().more(&more);
        let proxy = Proxy::start(&setup.text().replace("count = 1", workers), &[]);
        let mut noisy = vec![ask(&proxy, "/noisy")];
        held.read(1);
        noisy.extend((0..10).map(|_| ask(&proxy, "/noisy")));
        waits(&proxy, 10);
        let mut quiet = Vec::new();
        for count in 1..=3 {
            quiet.push(ask(&proxy, "/quiet"));
            poll(|| (limit(&proxy, "queue_full") == count && limit(&proxy, "waiting") == 10).then_some(()));
        }
        // Who has more waiting than others finds no room.
        assert_eq!(ask(&proxy, "/noisy").message().unwrap().reason(), "queue_full");
        held.allow(1000);
        assert!(answers(quiet).iter().all(|answer| (answer.status(), answer.text()) == (200, "/quiet")));
        let mut statuses: Vec<_> = answers(noisy).iter().map(Message::status).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 200, 200, 200, 200, 200, 200, 200, 503, 503, 503]);
        let order: Vec<_> = held.paths.try_iter().collect();
        let first = order[1..7].iter().filter(|path| *path == "/quiet").count();
        assert_eq!(first, 3, "{workers}: {order:?}");
    }
}

#[test]
fn what_finds_the_queue_full_or_waits_too_long_is_refused() {
    let held = Held::new();
    let limits = "limits = { requests = 1, queue = 1, queue_timeout = \"200ms\" }";
    let proxy = Setup::to(&[held.address()]).cluster(limits).managed().start();
    let first = ask(&proxy, "/first");
    held.read(1);
    let mut second = ask(&proxy, "/second");
    waits(&proxy, 1);
    let full = ask(&proxy, "/third").message().unwrap();
    assert_eq!((full.status(), full.reason()), (503, "queue_full".to_owned()));
    assert_eq!(full.field("retry-after").as_deref(), Some("1"));
    let late = second.message().unwrap();
    assert_eq!((late.status(), late.reason()), (503, "queue_timeout".to_owned()));
    assert_eq!((limit(&proxy, "queue_full"), limit(&proxy, "queue_timeout")), (1, 1));
    // The connection of the one that was refused is as good as before.
    held.allow(10);
    assert_eq!(answers(vec![first])[0].status(), 200);
    second.send("GET /again HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(second.message().unwrap().status(), 200);
}

#[test]
fn the_most_important_are_served_first_and_refused_last() {
    let held = Held::new();
    let limits = "limits = { requests = 1, queue = 3, queue_timeout = \"10s\" }";
    let more = "[[route]]\npath_prefix = \"/critical\"\npriority = \"critical\"\ncluster = \"app\"\n\
                [[route]]\npath_prefix = \"/bulk\"\npriority = \"bulk\"\ncluster = \"app\"\n";
    let proxy = Setup::to(&[held.address()]).cluster(limits).managed().more(more).start();
    let mut clients = vec![ask(&proxy, "/first")];
    held.read(1);
    for (path, count) in [("/bulk/1", 1), ("/bulk/2", 2), ("/normal", 3)] {
        clients.push(ask(&proxy, path));
        waits(&proxy, count);
    }
    let mut evicted = clients.remove(2);
    clients.push(ask(&proxy, "/critical"));
    let answer = evicted.message().unwrap();
    assert_eq!((answer.status(), answer.reason()), (503, "queue_full".to_owned()));
    // One that is not more important than all that wait is refused itself.
    let refused = ask(&proxy, "/bulk/3").message().unwrap();
    assert_eq!((refused.status(), refused.reason()), (503, "queue_full".to_owned()));
    waits(&proxy, 3);
    for served in 1..=4 {
        held.read(served);
        held.allow(served);
    }
    let [first, bulk, normal, critical] = <[Wire; 4]>::try_from(clients).ok().unwrap();
    for (mut client, path) in [(first, "/first"), (critical, "/critical"), (normal, "/normal"), (bulk, "/bulk/1")] {
        assert_eq!(client.message().unwrap().text(), path);
    }
}

#[test]
fn a_client_that_leaves_while_it_waits_leaves_nothing_behind() {
    let held = Held::new();
    let limits = "limits = { requests = 1, queue = 10, queue_timeout = \"10s\" }";
    let proxy = Setup::to(&[held.address()]).cluster(limits).managed().start();
    let first = ask(&proxy, "/first");
    held.read(1);
    let gone: Vec<_> = (0..3).map(|_| ask(&proxy, "/gone")).collect();
    waits(&proxy, 3);
    let last = ask(&proxy, "/last");
    waits(&proxy, 4);
    gone.into_iter().for_each(Wire::abort);
    waits(&proxy, 1);
    held.allow(10);
    assert_eq!(answers(vec![first, last]).iter().map(Message::text).collect::<Vec<_>>(), ["/first", "/last"]);
    assert_eq!(held.counts.read.load(Ordering::SeqCst), 2, "no request of those that have left was sent");
}

/// A request that is larger than what is received at once waits with a part of its body.
#[test]
fn a_body_waits_with_its_request() {
    let held = Held::new();
    let limits = "limits = { requests = 1, queue = 10, queue_timeout = \"10s\" }";
    let proxy = Setup::to(&[held.address()]).cluster(limits).managed().start();
    let first = ask(&proxy, "/first");
    held.read(1);
    let mut second = proxy.client();
    let length = 1 << 20;
    second.send(format!("POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"));
    waits(&proxy, 1);
    held.allow(10);
    second.send(vec![b'x'; length]);
    assert_eq!(answers(vec![first, second]).iter().map(Message::text).collect::<Vec<_>>(), ["/first", "/upload"]);
}

#[test]
fn a_reload_changes_the_limit_for_those_that_wait() {
    let held = Held::new();
    let setup = Setup::to(&[held.address()]).managed();
    let limited = |requests: u32| {
        setup
            .clone()
            .cluster(&format!("limits = {{ requests = {requests}, queue = 10, queue_timeout = \"10s\" }}"))
            .text()
    };
    let proxy = Proxy::start(&limited(1), &[]);
    let clients: Vec<_> = (0..6).map(|number| ask(&proxy, &format!("/{number}"))).collect();
    held.read(1);
    waits(&proxy, 5);
    proxy.reload(&limited(3));
    held.read(3);
    waits(&proxy, 3);
    proxy.reload(&setup.text());
    held.read(6);
    held.allow(10);
    assert!(answers(clients).iter().all(|answer| answer.status() == 200));
}

#[test]
fn trusted_peers_may_say_how_important_a_request_is() {
    for (trusted, first) in [("trusted_proxies = [\"127.0.0.1\"]", "/important"), ("", "/other")] {
        let held = Held::new();
        let limits = "limits = { requests = 1, queue = 3, queue_timeout = \"10s\" }";
        let setup = Setup::to(&[held.address()]).cluster(limits).route("priority = \"header:x-priority\"");
        let proxy = setup.listener(trusted).managed().start();
        let mut under_way = ask(&proxy, "/under-way");
        held.read(1);
        let mut other = ask(&proxy, "/other");
        waits(&proxy, 1);
        let mut important = proxy.client();
        important.send("GET /important HTTP/1.1\r\nHost: a\r\nX-Priority: critical\r\n\r\n");
        waits(&proxy, 2);
        held.allow(2);
        assert_eq!(under_way.message().unwrap().status(), 200);
        let (winner, loser) =
            if first == "/other" { (&mut other, &mut important) } else { (&mut important, &mut other) };
        assert_eq!(winner.message().unwrap().text(), first);
        held.allow(3);
        assert_eq!(loser.message().unwrap().status(), 200);
    }
}
