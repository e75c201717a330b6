//! Pages of the operator's instead of cairn's own answers. Not here: pages that are refused (`tests/config`).

use std::fs;

use crate::harness::{End, Origin, Proxy, Setup};

const PAGES: &str = r#"
[[error_pages]]
statuses = ["404"]
html = "@404.html"
[[error_pages]]
statuses = ["5xx"]
html = "<h1>${error.status}</h1>"
text = "oh: ${error.title}, ${request.id}"
[[error_pages]]
json = '{"why":"${error.reason}","id":"${request.id}"}'
[[route]]
name = "own"
path_prefix = "/own"
cluster = "gone"
error_pages = [{ text = "${error.reason} of the route" }]
[[route]]
path_prefix = "/gone"
cluster = "gone"
response_headers = { set = { content-type = "text/x" } }
[[cluster]]
name = "gone"
endpoints = ["127.0.0.1:1"]
"#;

/// Route `/there` alone, and `404.html` beside the configuration.
fn start(page: &str, listener: &str) -> (Proxy, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("404.html"), page).unwrap();
    let origin = Origin::answering("HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nmine");
    let pages = PAGES.replace("@404.html", &format!("@{}/404.html", folder.path().display()));
    let proxy = Setup::to(&[&origin.address]).listener(listener).route("path = \"/there\"").more(&pages).start();
    (proxy, folder)
}

/// (target, Accept, status, content type, body; `ID` stands for the identifier)
#[test]
fn pages_are_chosen_by_status_and_by_what_the_client_accepts() {
    let (proxy, _folder) = start("<p>${error.status} ${error.reason} ${x} ${client.ip} é</p>\n", "");
    const HTML: &str = "text/html; charset=utf-8";
    const BROWSER: &str = "text/html,application/xhtml+xml,application/json;q=0.9,*/*;q=0.8";
    for (target, accept, status, media_type, body) in [
        ("/", BROWSER, 404, HTML, "<p>404 no_route ${x} ${client.ip} é</p>"),
        ("/", "*/*", 404, HTML, "<p>404 no_route ${x} ${client.ip} é</p>"),
        ("/", "application/problem+json", 404, "application/json", "{\"why\":\"no_route\",\"id\":\"ID\"}"),
        ("/gone", BROWSER, 502, "text/x", "<h1>502</h1>"),
        ("/own", "*/*", 502, "text/plain; charset=utf-8", "connect_failed of the route"),
        ("/own", BROWSER, 502, "text/plain; charset=utf-8", "connect_failed of the route"),
        ("/own", "application/json", 502, "application/json", "{\"why\":\"connect_failed\",\"id\":\"ID\"}"),
        ("/gone", "text/plain", 502, "text/x", "oh: Bad Gateway, ID"),
        ("*", "*/*", 400, "text/plain", "400 Bad Request: bad_target\n"),
        ("/there", BROWSER, 404, "", "mine"),
    ] {
        let answer = proxy.ask(&format!("GET {target} HTTP/1.1\r\nHost: a\r\nAccept: {accept}\r\n\r\n"));
        assert_eq!(answer.status(), status, "{target} {accept}");
        assert_eq!(answer.field("content-type").unwrap_or_default(), media_type, "{target} {accept}");
        let (before, after) = body.split_once("ID").unwrap_or((body, ""));
        let text = answer.text();
        assert!(text.starts_with(before) && text.ends_with(after), "{target} {accept}: {text}");
        let id = &text[before.len()..text.len() - after.len()];
        let made = id.len() == 32 && id.bytes().all(|c| c.is_ascii_hexdigit());
        assert_eq!(made, body.contains("ID"), "{target} {accept}: {text}");
    }
    let mut wire = proxy.client();
    wire.send("HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let End::Clean(head) = wire.end() else { panic!("a reset") };
    let head = String::from_utf8(head).unwrap();
    assert!(head.contains("\r\ncontent-length: 40\r\n") && head.ends_with("\r\n\r\n"), "{head}");
}

#[test]
fn a_page_of_many_buffers_is_sent_whole_and_the_connection_goes_on() {
    let page = "0123456789abcdef".repeat(4096);
    let (proxy, _folder) = start(&page, "");
    let mut wire = proxy.client();
    for _ in 0..3 {
        wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(wire.message().unwrap().text(), page);
    }
}

#[test]
fn an_identifier_of_others_cannot_become_markup() {
    let (proxy, _folder) = start("", "trusted_proxies = [\"127.0.0.0/8\"]");
    let answer = proxy.ask("GET /gone HTTP/1.1\r\nHost: a\r\nX-Request-Id: <b>\"a-1\"\r\n\r\n");
    assert_eq!(answer.text(), "oh: Bad Gateway, _b__a-1_");
}

/// A request that cannot be read has an identifier of its own, and not that of the one before.
#[test]
fn each_answer_has_an_identifier_of_its_own() {
    let (proxy, _folder) = start("", "");
    let mut wire = proxy.client();
    let mut seen = Vec::new();
    for request in
        ["GET /gone HTTP/1.1\r\nHost: a\r\n\r\n", "GET /gone HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/9.9\r\n\r\n"]
    {
        wire.send(request);
        seen.push(wire.message().unwrap().text().to_owned());
    }
    assert!(seen[2].starts_with("oh: HTTP Version Not Supported, "), "{seen:?}");
    seen.dedup_by_key(|text| text.rsplit(' ').next().unwrap().to_owned());
    assert_eq!(seen.len(), 3, "{seen:?}");
}
