//! Variables in header values, redirects and rewrites, and what the application does not know of its own paths. Not here: texts that are
//! refused (`tests/config`).

use crate::harness::{Message, Origin, Setup, Wire, next};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// What the origin gets of one request, and what the client gets back.
fn exchange(listener: &str, route: &str, request: &str, response: &str) -> (Message, Message) {
    let (origin, requests) = Origin::recording(response);
    let proxy = Setup::to(&[&origin.address]).listener(listener).route(route).start();
    let answer = proxy.ask(request);
    (next(&requests), answer)
}

#[test]
fn both_sides_get_the_values() {
    for (listener, route, value, expected) in [
        ("", "", "${client.ip}", "127.0.0.1"),
        ("", "", "for=\\\"${client.ip}\\\";a=b", "for=\"127.0.0.1\";a=b"),
        ("", "", "${listener.name}/${route.name}", "public/r-1"),
        ("", "", "${request.method} ${request.path}?${request.query}", "GET /a/b?c=d"),
        ("", "", "${request.scheme}://${request.host}", "http://a.example"),
        ("", "", "${header.host}", "a.example:81"),
        ("", "", "<${header.x-many}> <${header.no}>", "<1, 2> <>"),
        // What a stranger claims does not go on, and is not seen here either.
        ("", "", "<${header.x-forwarded-user}>", "<>"),
        ("trusted_proxies = [\"127.0.0.1/32\"]", "", "<${header.x-forwarded-user}>", "<root>"),
        ("trusted_proxies = [\"127.0.0.1/32\"]", "", "${request.id}", "id-7"),
        ("trusted_proxies = [\"127.0.0.1/32\"]", "", "${request.scheme}", "https"),
        ("", "path_regex = \"/(a)/(?<rest>.*)\"", "${regex.2}-${regex.1}-${regex.0}", "b-a-/a/b"),
        ("", "", "<${tls.version}${tls.sni}${tls.client.subject}>", "<>"),
        ("", "", "$${client.ip}", "${client.ip}"),
        ("", "", "${env.CARGO_PKG_NAME} ${CARGO_PKG_NAME}", "cairn cairn"),
    ] {
        let edits = format!("{{ set = {{ x-a = \"{value}\" }}, add = {{ x-b = \"b ${{request.method}}\" }} }}");
        let route = format!("name = \"r-1\"\n{route}\nrequest_headers = {edits}\nresponse_headers = {edits}");
        let request = "GET /a/b?c=d HTTP/1.1\r\nHost: a.example:81\r\nX-Many: 1\r\nX-Many: 2\r\nX-A: forged\r\n\
                       X-Forwarded-User: root\r\nX-Forwarded-Proto: https\r\nX-Request-Id: id-7\r\n\r\n";
        let (got, answer) = exchange(listener, &route, request, OK);
        for message in [&got, &answer] {
            assert_eq!(message.field("x-a").as_deref(), Some(expected), "{value}: {}", message.head);
            assert_eq!(message.field("x-b").as_deref(), Some("b GET"), "{value}: {}", message.head);
        }
    }
}

#[test]
fn the_identifier_of_a_request_is_one_on_all_sides() {
    let route = "request_headers = { set = { x-a = \"${request.id}\" } }\nresponse_headers = { set = { x-request-id = \"${request.id}\" } }";
    let (got, answer) = exchange("", route, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", OK);
    let id = got.field("x-request-id").unwrap();
    assert_eq!((got.field("x-a"), answer.field("x-request-id"), id.len()), (Some(id.clone()), Some(id), 32));
}

#[test]
fn a_port_is_that_of_the_connection() {
    let (origin, requests) = Origin::recording(OK);
    let edits = "request_headers = { set = { x-port = \"${client.port}\" } }";
    let proxy = Setup::to(&[&origin.address]).route(edits).start();
    let mut wire = proxy.client();
    wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(wire.message().unwrap().status(), 200);
    let port = wire.stream.local_addr().unwrap().port().to_string();
    assert_eq!(next(&requests).field("x-port"), Some(port));
}

/// Answers that are made here have them, too: refusals before and after an origin was chosen, and those of routes.
#[test]
fn answers_made_here_get_the_values() {
    let edits = "response_headers = { set = { x-a = \"${request.path} ${header.x}\" } }";
    let more = format!(
        "[[route]]\npath = \"/fixed\"\nrespond = {{ headers = {{ x-b = \"${{request.method}}\" }} }}\n{edits}\n\
         [[route]]\npath = \"/moved\"\nredirect = {{ path = \"/to\" }}\n{edits}\n\
         [[route]]\npath = \"/small\"\ncluster = \"app\"\n{edits}\n[[route]]\npath = \"/gone\"\ncluster = \"gone\"\n{edits}\n\
         [[cluster]]\nname = \"gone\"\nendpoints = [\"127.0.0.1:1\"]"
    );
    let origin = Origin::answering("HTTP/1.1 nonsense\r\n\r\n");
    let proxy =
        Setup::to(&[&origin.address]).route("path = \"/\"").listener("limits.body_bytes = 1").more(&more).start();
    for (path, status) in [("/fixed", 200), ("/moved", 308), ("/small", 502), ("/gone", 502)] {
        let answer = proxy.ask(&format!("GET {path} HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n"));
        assert_eq!((answer.status(), answer.field("x-a")), (status, Some(format!("{path} 1"))), "{}", answer.head);
    }
    let answer = proxy.ask("POST /small HTTP/1.1\r\nHost: a\r\nX: 2\r\nContent-Length: 9\r\n\r\n");
    assert_eq!((answer.status(), answer.field("x-a").as_deref()), (413, Some("/small 2")), "{}", answer.head);
    let answer = proxy.ask("HEAD /fixed HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(answer.field("x-b").as_deref(), Some("HEAD"), "{}", answer.head);
}

/// What is kept for the response has a bound, because there may be as many exchanges as connections.
#[test]
fn responses_repeat_no_more_of_a_request_than_may_be_kept() {
    let (origin, requests) = Origin::recording(OK);
    let route = "response_headers = { set = { x-a = \"${header.x}\" } }";
    let proxy = Setup::to(&[&origin.address]).route(route).start();
    for (length, status) in [(4000, 200), (5000, 431), (4000, 200)] {
        let long = "x".repeat(length);
        let answer = proxy.ask(&format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n"));
        assert_eq!((answer.status(), answer.field("x-a")), (status, (status == 200).then_some(long)));
    }
    assert_eq!(requests.try_iter().count(), 2);
}

/// As nginx has it, a field whose value is empty is not sent; nor is one with the same name that the client sent.
#[test]
fn a_field_without_a_value_is_not_sent() {
    let edits = "{ set = { x-a = \"${header.x-user}\", x-b = \"b\" }, add = { x-c = \"${request.query}${tls.sni}\" } }";
    let route = format!("request_headers = {edits}\nresponse_headers = {edits}");
    let request = "GET /a HTTP/1.1\r\nHost: a\r\nX-A: forged\r\n\r\n";
    let (got, answer) = exchange("", &route, request, OK);
    for message in [&got, &answer] {
        let fields = ["x-a", "x-b", "x-c"].map(|name| message.field(name));
        assert_eq!(fields, [None, Some("b".to_owned()), None], "{}", message.head);
    }
    let edits = "response_headers = { set = { x-a = \"${header.x-user}\", x-b = \"b\" } }";
    let route = format!("[[route]]\npath = \"/a\"\nredirect = {{ path = \"/b\" }}\n{edits}");
    let answer = Setup::to(&["127.0.0.1:1"]).route(&route).start().ask(request);
    assert_eq!((answer.status(), answer.field("x-a"), answer.field("x-b").as_deref()), (308, None, Some("b")));
}

/// A head that is too large because of what stands for its variables is the client's fault, and takes no buffer from others.
#[test]
fn a_head_that_grows_too_large_is_refused() {
    let (origin, requests) = Origin::recording(OK);
    let fields: Vec<_> = (0..60).map(|at| format!("x-{at} = \"${{header.x}}\"")).collect();
    let route = format!("request_headers.set = {{ {} }}", fields.join(", "));
    let proxy = Setup::to(&[&origin.address]).route(&route).start();
    for (length, status) in [(1000, 200), (3000, 431), (15_000, 431), (1000, 200)] {
        let answer = proxy.ask(&format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(length)));
        assert_eq!(answer.status(), status, "{length}: {}", answer.head);
    }
    assert_eq!(requests.try_iter().count(), 2);
}

/// The head of a response may come after another request on the same connection was read into the same buffers, and after interim ones.
#[test]
fn values_are_those_of_the_request_that_is_answered() {
    let origin = Origin::start(|mut wire: Wire, _| {
        while let Some(request) = wire.message() {
            wire.send("HTTP/1.1 103 Early Hints\r\nX: 1\r\n\r\n");
            let path = request.line().split(' ').nth(1).unwrap().to_owned();
            wire.send(format!("HTTP/1.1 200 OK\r\nX-Path: {path}\r\nContent-Length: 0\r\n\r\n"));
        }
    });
    let edits = "response_headers = { set = { x-a = \"${request.path}\" } }";
    let proxy = Setup::to(&[&origin.address]).route(edits).start();
    let mut wire = proxy.client();
    let paths: Vec<_> = (0..20).map(|number| format!("/{}", "x".repeat(number * 20))).collect();
    let requests: String = paths.iter().map(|path| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
    wire.send(requests);
    for path in paths {
        let mut answer = wire.message().unwrap();
        if answer.status() == 103 {
            assert_eq!(answer.field("x-a"), None);
            answer = wire.message().unwrap();
        }
        assert_eq!((answer.field("x-path"), answer.field("x-a")), (Some(path.clone()), Some(path)));
    }
}

/// (route keys, target and host sent, target and host that the origin gets, x-forwarded-prefix)
#[test]
fn paths_and_hosts_are_made_of_values() {
    for (route, sent, received, prefix) in [
        (
            "path_regex = \"/old/([0-9]+)/(.*)\"\nrewrite.path = \"/${regex.2}/${regex.1}\"",
            ("/old/7/a%2Fb?q", "a"),
            ("/a%2Fb/7?q", "a"),
            None,
        ),
        ("rewrite.add_prefix = \"/v1\"", ("/a//b?q", "a"), ("/v1/a//b?q", "a"), None),
        ("path_prefix = \"/x\"\nrewrite.add_prefix = \"/v1/\"", ("/x/%7e", "a"), ("/v1/x/%7e", "a"), None),
        (
            "path_prefix = \"/t\"\nrewrite.path_prefix = \"/${header.x-tenant}\"",
            ("/t/a", "a"),
            ("/a%20%C3%A4/a", "a"),
            None,
        ),
        ("path_prefix = \"/t\"\nrewrite.path = \"/fixed\"", ("/t/a?q", "a"), ("/fixed?q", "a"), None),
        ("rewrite.host = \"${request.host}.internal:81\"", ("/", "a.example:9"), ("/", "a.example.internal:81"), None),
        ("rewrite.host = \"${header.x-tenant}\"", ("/", "a"), ("/", "a---"), None),
        ("path_prefix = \"/api\"\nrewrite.path_prefix = \"/\"", ("/api/x", "a"), ("/x", "a"), Some("/api")),
        ("path_prefix = \"/api/v1\"\nrewrite.path_prefix = \"/v1\"", ("/api/v1/x", "a"), ("/v1/x", "a"), Some("/api")),
        ("path_prefix = \"/api\"\nrewrite.path_prefix = \"/v1\"", ("/api/x", "a"), ("/v1/x", "a"), None),
        (
            "path_prefix = \"/api\"\nrewrite.path_prefix = \"/\"\nrequest_headers.remove = [\"x-forwarded-prefix\"]",
            ("/api/x", "a"),
            ("/x", "a"),
            None,
        ),
    ] {
        let (target, host) = sent;
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: {host}\r\nX-Tenant: a \u{e4}\r\nX-Forwarded-Prefix: /forged\r\n\r\n"
        );
        let (got, _) = exchange("", route, &request, OK);
        let target = got.line().split(' ').nth(1).unwrap().to_owned();
        assert_eq!((target.as_str(), got.field("host").as_deref().unwrap()), received, "{route}");
        assert_eq!(got.field("x-forwarded-prefix").as_deref(), prefix, "{route}");
    }
    let route = "path_prefix = \"/api\"\nrewrite.path_prefix = \"/\"";
    let request = "GET /api/x HTTP/1.1\r\nHost: a\r\nX-Forwarded-Prefix: /outer/\r\n\r\n";
    let (got, _) = exchange("trusted_proxies = [\"127.0.0.1/32\"]", route, request, OK);
    assert_eq!(got.field("x-forwarded-prefix").as_deref(), Some("/outer/api"), "a trusted proxy has taken away more");
}

/// (route keys, target, value of X-Tenant, target that the origin gets; empty: 400)
#[test]
fn values_do_not_lead_out_of_the_path_in_which_they_stand() {
    let (origin, requests) = Origin::recording(OK);
    for (route, target, tenant, received) in [
        ("path_regex = \"/v(.*)\"\nrewrite.path = \"/api/${regex.1}\"", "/v../admin", "", ""),
        ("path_regex = \"/v(.*)\"\nrewrite.path = \"/api/${regex.1}\"", "/v..;a/admin", "", ""),
        ("path_regex = \"/v(.*)\"\nrewrite.path = \"/api/${regex.1}\"", "/v.", "", ""),
        ("path_regex = \"/v(.*)\"\nrewrite.path = \"/api/${regex.1}\"", "/v..a/b", "", "/api/..a/b"),
        ("rewrite.path = \"/t/${header.x-tenant}/home\"", "/", "../admin?", ""),
        ("rewrite.path = \"/t/${header.x-tenant}/home\"", "/", "%2e%2e/admin", ""),
        ("rewrite.path = \"/t/${header.x-tenant}/home\"", "/", "a%00", ""),
        ("rewrite.path = \"/t/${header.x-tenant}/home\"", "/", "%zz", ""),
        ("rewrite.path = \"/t/${header.x-tenant}/home\"", "/?a=../b", "a/b", "/t/a/b/home?a=../b"),
        ("rewrite.add_prefix = \"/t/${header.x-tenant}\"", "/x", "a/..", ""),
        ("rewrite.add_prefix = \"/t/${header.x-tenant}\"", "/x//y", "a", "/t/a/x//y"),
    ] {
        let proxy = Setup::to(&[&origin.address]).route(route).start();
        let answer = proxy.ask(&format!("GET {target} HTTP/1.1\r\nHost: a\r\nX-Tenant: {tenant}\r\n\r\n"));
        if received.is_empty() {
            assert_eq!(answer.status(), 400, "{route} {target} {tenant}");
            assert!(requests.try_recv().is_err(), "{route} {target} {tenant}");
        } else {
            let got = next(&requests);
            assert_eq!(got.line().split(' ').nth(1), Some(received), "{route}");
        }
    }
}

/// (route keys, target, Location)
#[test]
fn redirects_keep_what_they_are_told_to() {
    let origin = Origin::answering(OK);
    for (route, target, location) in [
        ("path_prefix = \"/old\"\nredirect = { path_prefix = \"/new\" }", "/old/x?q", "http://a.example:81/new/x?q"),
        ("path_prefix = \"/old\"\nredirect = { path_prefix = \"/\" }", "/old", "http://a.example:81/"),
        (
            "path_prefix = \"/old\"\nredirect = { path_prefix = \"/\" }",
            "/old//b.example",
            "http://a.example:81/b.example",
        ),
        ("redirect = { host = \"www.${request.host}\" }", "/x?q", "http://www.a.example/x?q"),
        ("redirect = { scheme = \"https\", host = \"${request.host}:8443\" }", "/x", "https://a.example:8443/x"),
        (
            "path_regex = \"/u/([^/]+)(/.*)?\"\nredirect = { path = \"/users/${regex.1}${regex.2}\" }",
            "/u/7/a?q",
            "http://a.example:81/users/7/a?q",
        ),
        (
            "path_regex = \"/u/([^/]+)(/.*)?\"\nredirect = { path = \"/users/${regex.1}${regex.2}\" }",
            "/u/7",
            "http://a.example:81/users/7",
        ),
        ("path = \"/a\"\nredirect = { path = \"/b\", query = \"\" }", "/a?q=1", "http://a.example:81/b"),
        (
            "path = \"/a\"\nredirect = { path = \"/b\", query = \"from=${request.host}\" }",
            "/a?q=1",
            "http://a.example:81/b?from=a.example",
        ),
        (
            "path = \"/a\"\nredirect = { host = \"login.example\", path = \"/\", query = \"to=${request.path}&${request.query}\" }",
            "/a?q=1",
            "http://login.example/?to=/a&q=1",
        ),
        (
            "path = \"/a\"\nredirect = { path = \"/b\", query = \"u=${header.x-u}&role=user\" }",
            "/a",
            "http://a.example:81/b?u=a%26role%3Dadmin%23x&role=user",
        ),
        ("path_prefix = \"/a\"\nredirect = { add_prefix = \"/de\" }", "/a/b", "http://a.example:81/de/a/b"),
    ] {
        let text = Setup::to(&[&origin.address])
            .text()
            .replace("[[route]]\ncluster = \"app\"", &format!("[[route]]\n{route}"));
        let proxy = crate::harness::Proxy::start(&text, &[]);
        let answer = proxy.ask(&format!("GET {target} HTTP/1.1\r\nHost: a.example:81\r\nX-U: a&role=admin#x\r\n\r\n"));
        assert_eq!((answer.status(), answer.field("location").as_deref()), (308, Some(location)), "{route}");
    }
}

/// (what the origin says, what the client gets)
#[test]
fn an_origin_that_does_not_know_its_prefix_is_corrected() {
    let route = "path_prefix = \"/shop\"\nrewrite = { path_prefix = \"/\", host = \"internal:9000\" }\nrewrite_location = true\ncookie_path = true";
    for (sent, received) in [
        ("Location: /login?to=/x", "/shop/login?to=/x"),
        ("Location: http://internal:9000/login", "/shop/login"),
        ("location: HTTPS://INTERNAL:9000", "/shop/"),
        ("Location: //a.example/x", "/shop/x"),
        ("Location: http://a.example/x", "/shop/x"),
        // The client, which speaks http, is to come again with https.
        ("Location: https://a.example/x", "https://a.example/x"),
        ("Location: http://other.example/login", "http://other.example/login"),
        ("Location: login", "login"),
        ("Location: http://internal:9000//b.example/", "http://internal:9000//b.example/"),
        ("Location: http://internal:9000/\\b.example/", "http://internal:9000/\\b.example/"),
        ("Location: http://internal:9000/\t/b.example/", "http://internal:9000/\t/b.example/"),
        ("Content-Location: /a.json", "/shop/a.json"),
        ("Set-Cookie: a=1; Path=/; Secure", "a=1; Path=/shop; Secure"),
        ("Set-Cookie: a=\"x; path=/y\"; HttpOnly;path=/cart", "a=\"x; Path=/shop/y\"; HttpOnly; Path=/shop/cart"),
        ("Set-Cookie: Path=/", "Path=/"),
        ("Set-Cookie: a=1; Secure", "a=1; Secure"),
        ("X-Other: /login", "/login"),
    ] {
        let response = format!("HTTP/1.1 302 Found\r\nA: 1\r\n{sent}\r\nB: 2\r\nContent-Length: 0\r\n\r\n");
        let (_, answer) = exchange("", route, "GET /shop/x HTTP/1.1\r\nHost: a.example\r\n\r\n", &response);
        let name = sent.split_once(':').unwrap().0;
        assert_eq!(answer.field(name).as_deref(), Some(received), "{sent}");
        assert_eq!((answer.field("a").as_deref(), answer.field("b").as_deref()), (Some("1"), Some("2")), "{sent}");
    }
    // Without a prefix it is the origin's authority that goes.
    let route = "rewrite.host = \"internal\"\nrewrite_location = true";
    let response = "HTTP/1.1 302 Found\r\nLocation: http://internal/x\r\nContent-Length: 0\r\n\r\n";
    let (_, answer) = exchange("", route, "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n", response);
    assert_eq!(answer.field("location").as_deref(), Some("/x"));
}
