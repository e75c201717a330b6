//! Metrics against what clients know: how many requests there were, how long they took, and that the text can be read.
//! Not here: the text formats as such (`src/control/exposition.rs`).

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::sync::mpsc;
use std::thread;

use rustls::StreamOwned;

use crate::harness::{Origin, PATIENCE, Proxy, Setup, Wire, poll};
use crate::http2;
use crate::tls::{Client, Site, tcp};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

/// The metrics now, in the format that is asked for.
pub(crate) fn metrics(proxy: &Proxy, accept: &str) -> String {
    let mut admin = Wire::connect(proxy.admin());
    admin.send(format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n"));
    let answer = admin.message().unwrap();
    assert_eq!(answer.status(), 200, "{answer:?}");
    answer.text().to_owned()
}

/// The samples of one name: labels as they are written, and values.
pub(crate) fn samples<'a>(text: &'a str, name: &str) -> BTreeMap<&'a str, f64> {
    let lines = text.lines().filter_map(|line| line.strip_prefix(name)).filter(|rest| rest.starts_with(['{', ' ']));
    lines.map(|rest| rest.rsplit_once(' ').map(|(labels, value)| (labels, value.parse().unwrap())).unwrap()).collect()
}

/// The sum of the samples of a name whose labels hold all of `labels`.
pub(crate) fn sum(text: &str, name: &str, labels: &[&str]) -> f64 {
    let all = samples(text, name);
    all.iter().filter(|(found, _)| labels.iter().all(|label| found.contains(label))).map(|(_, value)| value).sum()
}

fn two_workers(setup: &Setup) -> String {
    setup.text().replace("count = 1", "count = 2")
}

/// Answers `hi`; a request for /held is reported and never answered.
fn origin() -> (Origin, mpsc::Receiver<()>) {
    let (sender, held) = mpsc::channel();
    let origin = Origin::start(move |mut wire, _| {
        while let Some(request) = wire.message() {
            if request.line().contains("/held") {
                sender.send(()).unwrap();
                // Until the proxy has closed it.
                return drop(wire.end());
            }
            wire.send(OK);
        }
    });
    (origin, held)
}

/// So many requests of each of `clients`; CAIRN_EXCHANGES: of all together.
fn requests_of_each(clients: usize) -> usize {
    let all = std::env::var("CAIRN_EXCHANGES").ok().and_then(|text| text.parse().ok()).unwrap_or(400);
    all / clients
}

/// Path and status of a request: every fourth goes to a route that answers by itself.
fn request(turn: usize) -> (&'static str, u16) {
    if turn % 4 == 3 { ("/fixed", 204) } else { ("/", 200) }
}

/// Sends so many requests on a connection.
fn exchange(wire: &mut Wire<impl Read + Write>, count: usize) {
    for turn in 0..count {
        let (path, status) = request(turn);
        wire.send(format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n"));
        assert_eq!(wire.message().unwrap().status(), status);
    }
}

/// Sends so many requests in the way of one of three: in the clear, over TLS, over HTTP/2.
fn send([public, secure]: &[String; 2], client: &Client, number: usize, mut left: usize) {
    while left > 0 {
        // Connections end, so that both workers get some.
        let count = left.min(50);
        left -= count;
        match number % 3 {
            0 => exchange(&mut Wire::connect(public), count),
            1 => exchange(&mut Wire::over(StreamOwned::new(client.connection("a.test"), tcp(secure))), count),
            _ => http2::exchange(public, count, request),
        }
    }
}

/// The access log has a line for each exchange, but for those that it has counted as dropped.
fn log_agrees(proxy: &Proxy, exchanges: u64) {
    poll(|| {
        let lines = fs::read_to_string(proxy.folder().join("access.log")).unwrap().lines().count() as u64;
        let log = &proxy.status()["access_log"];
        let [dropped, lost] = ["dropped", "lost"].map(|name| log[name].as_u64().unwrap());
        assert!(lines + dropped + lost <= exchanges, "{lines} lines of {exchanges} exchanges, {log}");
        (lines + dropped + lost == exchanges).then_some(())
    });
}

/// No request is lost or counted twice: with two workers, plain, over TLS and over HTTP/2, while configurations change and clients go
/// away. The access log has as many lines.
#[test]
fn requests_are_counted_exactly() {
    const CLIENTS: usize = 6;
    let site = Site::new();
    let (origin, held) = origin();
    let log = "[log]\naccess = \"FOLDER/access.log\"\n";
    let more = format!("{log}[[listener]]\nname = \"secure\"\nbind = \"127.0.0.1:0\"\n{}", site.keys(&["a"]));
    let setup = |mark: &str| {
        let keys = format!("name = \"main\"\nresponse_headers = {{ set = {{ x-mark = \"{mark}\" }} }}");
        let other = "[[route]]\nname = \"fixed\"\npath_prefix = \"/fixed\"\nrespond = { status = 204 }\n";
        let gone = match mark {
            "0" => "[[route]]\nname = \"gone\"\npath_prefix = \"/gone\"\nrespond = { status = 203 }\n",
            _ => "",
        };
        two_workers(&Setup::to(&[&origin.address]).route(&keys).more(&format!("{other}{gone}{more}")).managed())
    };
    let proxy = Proxy::start(&setup("0"), &[]);
    assert_eq!(proxy.ask("GET /gone HTTP/1.1\r\nHost: a.test\r\n\r\n").status(), 203);
    let (each, client) = (requests_of_each(CLIENTS), site.client());
    let addresses = ["public", "secure"].map(|listener| proxy.address(listener).to_owned());
    thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (addresses, client) = (&addresses, &client);
            scope.spawn(move || send(addresses, client, number, each));
        }
        for mark in 1..4 {
            proxy.reload(&setup(&mark.to_string()));
            let mut wire = proxy.client();
            wire.send("POST /held HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n");
            held.recv_timeout(PATIENCE).unwrap();
            wire.abort();
        }
    });
    let name = "cairn_requests_total";
    let text = poll(|| {
        let text = metrics(&proxy, "");
        (sum(&text, name, &["method=\"POST\""]) >= 3.0).then_some(text)
    });
    let all = (each * CLIENTS) as f64;
    assert_eq!(sum(&text, name, &[]), all + 1.0 + 3.0, "{text}");
    let on_connections = |count: usize| count / 50 * 12 + count % 50 / 4;
    let fixed = (on_connections(each) * CLIENTS) as f64;
    assert_eq!(sum(&text, name, &["route=\"fixed\"", "status=\"204\"", "cluster=\"\""]), fixed, "{text}");
    assert_eq!(sum(&text, name, &["listener=\"public\""]) - 4.0, all / 1.5, "{text}");
    assert_eq!(sum(&text, name, &["listener=\"secure\""]), all / 3.0, "{text}");
    let cut = "{listener=\"public\",route=\"main\",cluster=\"app\",method=\"POST\",status=\"0\"}";
    assert_eq!(samples(&text, name).get(cut), Some(&3.0), "{text}");
    // What a configuration does not have any more stays counted.
    assert_eq!(sum(&text, name, &["route=\"gone\""]), 1.0, "{text}");
    assert_eq!(sum(&text, "cairn_responses_cut_total", &["reason=\"client_gone\""]), 3.0, "{text}");
    assert_eq!(sum(&text, "cairn_local_responses_total", &["reason=\"respond\""]), fixed + 1.0, "{text}");
    for name in ["cairn_request_duration_seconds", "cairn_proxy_overhead_seconds"] {
        assert_eq!(sum(&text, &format!("{name}_count"), &[]), all + 4.0, "{text}");
        assert_eq!(sum(&text, &format!("{name}_bucket"), &["le=\"+Inf\""]), all + 4.0, "{text}");
    }
    endpoints_agree(&text, &origin);
    log_agrees(&proxy, all as u64 + 4);
}

/// What is counted of endpoints is what is counted of routes, and what the origin knows.
fn endpoints_agree(text: &str, origin: &Origin) {
    let name = "cairn_requests_total";
    let forwarded = sum(text, name, &["cluster=\"app\"", "status=\"200\""]);
    assert_eq!(sum(text, "cairn_upstream_first_byte_seconds_count", &["route=\"main\""]), forwarded, "{text}");
    assert_eq!(sum(text, "cairn_endpoint_first_byte_seconds_count", &["cluster=\"app\""]), forwarded, "{text}");
    let begun = sum(text, "cairn_upstream_connections_opened_total", &["cluster=\"app\""]);
    assert_eq!(begun, origin.connections() as f64, "{text}");
    assert_eq!(sum(text, "cairn_upstream_connections", &["state=\"active\""]), 0.0, "{text}");
    let opened = sum(text, "cairn_upstream_connect_seconds_count", &[]);
    assert!(opened <= begun && opened > 0.0, "{text}");
}

/// Each exchange has a reason where cairn has answered or cut it.
#[test]
fn what_cairn_answers_itself_is_counted_by_its_reason() {
    let (_refusing, address) = crate::harness::closed();
    let proxy = Setup::to(&[&address]).route("hosts = [\"a.test\"]").managed().start();
    let request = |host: &str| format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let asked = [request("a.test"), request("b.test"), request("b.test"), "GET / HTTP/1.1\r\n\r\n".to_owned()];
    assert_eq!(asked.map(|text| proxy.ask(&text).status()), [502, 404, 404, 400]);
    let text = metrics(&proxy, "");
    let reasons = samples(&text, "cairn_local_responses_total");
    let expected = [("connect_failed", 1.0), ("missing_host", 1.0), ("no_route", 2.0)];
    let expected = expected.map(|(reason, count)| (format!("{{reason=\"{reason}\"}}"), count));
    assert_eq!(reasons, expected.iter().map(|(labels, count)| (&**labels, *count)).collect());
    let counted = samples(&text, "cairn_requests_total");
    let labels = |route: &str, cluster: &str, method: &str, status: u16| {
        format!(
            "{{listener=\"public\",route=\"{route}\",cluster=\"{cluster}\",method=\"{method}\",status=\"{status}\"}}"
        )
    };
    assert_eq!(counted.get(&*labels("route-1", "app", "GET", 502)), Some(&1.0), "{text}");
    assert_eq!(counted.get(&*labels("", "", "GET", 404)), Some(&2.0), "{text}");
    assert_eq!(counted.get(&*labels("", "", "", 400)), Some(&1.0), "{text}");
}

/// A line that holds what a name brings along must neither end early nor begin another.
#[test]
fn names_are_escaped_in_labels() {
    let proxy = Setup::to(&["unix:FOLDER/say \\\"Grüße\\\".sock"]).managed();
    let text = proxy.text().replace("\\\\\\\"", "\\\"");
    let proxy = Proxy::start(&text, &[]);
    let text = metrics(&proxy, "");
    let expected = format!("endpoint=\"unix:{}/say \\\"Grüße\\\".sock\"}} 1\n", proxy.folder().display());
    assert!(text.contains(&expected), "{expected} is not in\n{text}");
}

#[test]
fn the_format_is_what_the_request_accepts() {
    let origin = Origin::answering(OK);
    let proxy = Setup::to(&[&origin.address]).managed().start();
    assert_eq!(proxy.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status(), 200);
    let text = metrics(&proxy, "text/plain");
    assert!(text.contains("\n# TYPE cairn_requests_total counter\n") && !text.contains("# EOF"), "{text}");
    let text = metrics(&proxy, "application/openmetrics-text; version=1.0.0");
    assert!(
        text.contains("\n# TYPE cairn_requests counter\ncairn_requests_total{") && text.ends_with("\n# EOF\n"),
        "{text}"
    );
}

#[test]
fn dashboards_for_envoy_find_their_series() {
    let origin = Origin::answering(OK);
    let setup =
        |profile: &str| Setup::to(&[&origin.address]).more(&format!("[metrics]\nprofile = \"{profile}\"")).managed();
    let proxy = setup("both").start();
    for _ in 0..3 {
        assert_eq!(proxy.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status(), 200);
    }
    let text = metrics(&proxy, "");
    for (line, count) in [
        ("envoy_cluster_upstream_rq_total{envoy_cluster_name=\"app\"}", 3),
        ("envoy_cluster_upstream_rq_xx{envoy_cluster_name=\"app\",envoy_response_code_class=\"2\"}", 3),
        ("envoy_cluster_upstream_rq_xx{envoy_cluster_name=\"app\",envoy_response_code_class=\"5\"}", 0),
        ("envoy_cluster_upstream_rq{envoy_cluster_name=\"app\",envoy_response_code=\"200\"}", 3),
        ("envoy_cluster_membership_healthy{envoy_cluster_name=\"app\"}", 1),
        ("envoy_http_downstream_rq_total{envoy_http_conn_manager_prefix=\"public\"}", 3),
        ("envoy_http_downstream_rq_xx{envoy_http_conn_manager_prefix=\"public\",envoy_response_code_class=\"2\"}", 3),
        ("envoy_server_live", 1),
    ] {
        assert!(text.contains(&format!("\n{line} {count}\n")), "{line} is not in\n{text}");
    }
    assert!(text.contains("\ncairn_requests_total{"));
    proxy.reload(&setup("envoy").text());
    let text = metrics(&proxy, "");
    assert!(text.contains("\nenvoy_server_live 1\n") && !text.contains("\ncairn_"), "{text}");
    proxy.reload(&setup("native").text());
    let text = metrics(&proxy, "");
    assert!(text.contains("\ncairn_requests_total{") && !text.contains("envoy_"), "{text}");
}

/// However many routes there are, the number of series has a bound, and no request goes uncounted.
#[test]
fn what_is_too_many_is_counted_together() {
    let origin = Origin::answering(OK);
    let routes: String = (0..5)
        .map(|number| format!("[[route]]\nname = \"r{number}\"\npath = \"/{number}\"\nrespond = {{ status = 204 }}\n"))
        .collect();
    let caps = "[metrics]\nroutes = 2\nendpoints = 1\n";
    let proxy = Setup::to(&[&origin.address, "127.0.0.1:1", "127.0.0.1:2"]).more(&format!("{routes}{caps}")).managed();
    let proxy = proxy.start();
    for number in 0..5 {
        assert_eq!(proxy.ask(&format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n")).status(), 204);
    }
    let text = metrics(&proxy, "");
    assert_eq!(sum(&text, "cairn_requests_total", &[]), 5.0, "{text}");
    assert_eq!(sum(&text, "cairn_requests_total", &["route=\"r0\""]), 1.0, "{text}");
    assert_eq!(sum(&text, "cairn_requests_total", &["route=\"overflow\""]), 4.0, "{text}");
    assert_eq!(sum(&text, "cairn_metrics_overflow_total", &[]), 4.0, "{text}");
    assert_eq!(sum(&text, "cairn_metrics_overflowing_routes", &[]), 4.0, "{text}");
    assert_eq!(samples(&text, "cairn_endpoint_healthy").len(), 2, "{text}");
    assert!(text.contains("cairn_endpoint_healthy{cluster=\"app\",endpoint=\"overflow\"} 1\n"), "{text}");
}

/// What the kernel and workers know of themselves.
#[test]
fn the_process_and_its_workers_are_measured() {
    let origin = Origin::answering(OK);
    let proxy = Proxy::start(&two_workers(&Setup::to(&[&origin.address]).managed()), &[]);
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.message().unwrap().status(), 200);
    let text = poll(|| {
        let text = metrics(&proxy, "");
        let seen = samples(&text, "cairn_worker_cpu_seconds_total").values().all(|seconds| *seconds > 0.0);
        (seen && sum(&text, "cairn_worker_turns_total", &[]) > 0.0).then_some(text)
    });
    for name in ["process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds", "process_threads"] {
        assert!(sum(&text, name, &[]) > 0.0, "{name}\n{text}");
    }
    for name in
        ["busy_ratio", "cpu_seconds_total", "turn_delay_seconds", "turns_total", "ring_overflows_total", "used_buffers"]
    {
        let of = samples(&text, &format!("cairn_worker_{name}"));
        assert!(of.len() == 2 && of.contains_key("{worker=\"1\"}"), "{name}\n{text}");
    }
    let idle = sum(&text, "cairn_worker_connections", &["state=\"idle\""]);
    assert_eq!((idle, sum(&text, "cairn_worker_connections", &["state=\"active\""])), (1.0, 0.0), "{text}");
    assert_eq!(sum(&text, "cairn_upstream_connections", &["state=\"idle\""]), 1.0, "{text}");
}
