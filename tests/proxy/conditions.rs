//! By which fields a route can be chosen. Not here: the order of precedence (`route`).

use std::fmt::Write;

use crate::harness::Proxy;

const EDGE: &str = "";
const TRUSTING: &str = "trusted_proxies = [\"127.0.0.0/8\"]";

/// Listener, condition, what is sent besides Host, and whether the route is taken.
type Case = (&'static str, &'static str, &'static str, bool);

/// A request line and fields of each case, sent to a route with the condition and foretold by `explain`.
fn check(cases: &[Case]) {
    for listener in [EDGE, TRUSTING] {
        let cases: Vec<_> = cases.iter().filter(|case| case.0 == listener).collect();
        let mut text = format!(
            "watch = false\n[admin]\nlisten = \"off\"\nsocket = \"off\"\n[workers]\ncount = 1\n[[listener]]\nname = \"public\"\n\
             bind = \"127.0.0.1:0\"\n{listener}\n[[route]]\nname = \"other\"\nrespond = {{ status = 202 }}\n"
        );
        for (number, (_, condition, ..)) in cases.iter().enumerate() {
            let route = format!("path = \"/{number}\"\nheaders = {{ {condition} }}\nrespond = {{ status = 201 }}");
            write!(text, "[[route]]\nname = \"route-{number}\"\n{route}\n").unwrap();
        }
        let proxy = Proxy::start(&text, &[]);
        for (number, (_, condition, fields, taken)) in cases.into_iter().enumerate() {
            let answer = proxy.ask(&format!("GET /{number} HTTP/1.1\r\nHost: a.example\r\n{fields}\r\n"));
            let want = if *taken { 201 } else { 202 };
            assert_eq!(answer.status(), want, "{listener} {condition}: {fields}\n{}", answer.head);
            let url = format!("http://a.example/{number}");
            let mut arguments = vec!["explain", "GET", &url];
            fields.lines().for_each(|field| arguments.extend(["-H", field]));
            let told = String::from_utf8_lossy(&proxy.verb(&arguments).stdout).into_owned();
            let told =
                told.lines().find_map(|line| line.strip_prefix("answer")?.trim().split(',').next()).unwrap_or(&told);
            assert_eq!(told, want.to_string(), "{listener} {condition}: {fields}");
        }
    }
}

#[test]
fn every_field_of_a_name_counts() {
    check(&[
        (EDGE, "x-a = \"1\"", "X-A: 1\r\nX-A: 2\r\n", true),
        (EDGE, "x-a = \"1\"", "X-A: 2\r\nX-B: 1\r\nx-a: 1\r\n", true),
        (EDGE, "x-a = \"1\"", "X-A: 2\r\nX-A: 3\r\n", false),
        (EDGE, "x-a = \"1\"", "X-A: 2, 1\r\n", false),
        (EDGE, "x-a = { regex = \"[0-9]+\" }", "X-A: a\r\nX-A: b\r\nX-A: 12\r\n", true),
        (EDGE, "x-a = { regex = \"[0-9]+\" }", "X-A: a\r\nX-A: b\r\n", false),
        (EDGE, "x-a = { present = true }", "X-A:\r\nX-A: 1\r\n", true),
        (EDGE, "x-a = { present = false }", "X-A:\r\nX-A: 1\r\n", false),
        (EDGE, "x-a = \"1\", x-b = \"2\"", "X-A: 0\r\nX-B: 0\r\nX-A: 1\r\nX-B: 2\r\n", true),
        (TRUSTING, "x-forwarded-for = \"10.0.0.1\"", "X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 10.0.0.1\r\n", true),
    ]);
}
