//! The screen and the tables of made-up looks.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::style::{Color, Modifier};
use serde_json::{Value, json};

use super::screen::Next;
use super::*;

fn times(p50: f64) -> Value {
    json!({ "mean": p50, "p50": p50, "p90": 2.0 * p50, "p99": 10.0 * p50, "p999": null })
}

fn route(name: &str, rate: f64, failed: f64) -> Value {
    json!({
        "name": name, "tenant": null, "requests": 1_234_567, "requests_per_second": rate,
        "per_second": { "none": 0.0, "1xx": 0.0, "2xx": rate - failed, "3xx": 0.0, "4xx": 0.0, "5xx": failed },
        "error_ratio": if rate > 0.0 { failed / rate } else { 0.0 },
        "latency_ms": times(1.5), "overhead_ms": times(0.02), "heat": [0, 40, 10, 0],
    })
}

fn endpoint(address: &str, held: &[&str]) -> Value {
    json!({
        "address": address, "healthy": held.is_empty(), "held": held, "weight": 1, "in_flight": 3, "open": 8, "idle": 5,
        "answered_per_second": 100.0, "failed_per_second": 0.0, "first_byte_ms": 2.25,
    })
}

fn top(rates: [f64; 2]) -> Top {
    let worker = |worker: usize| {
        json!({
            "worker": worker, "busy_ratio": 0.5, "turn_delay_ms": 0.1, "turns_per_second": 1000.0, "connections": 10,
            "handshakes": 0, "exchanges": 3, "used_buffers": 7, "ring_overflows": 0,
        })
    };
    let value = json!({
        "at": 1_796_000_000.0, "seconds": 1.0,
        "process": {
            "cairn": "0.1.0", "pid": 4711, "uptime_seconds": 90_061, "version": 3, "reloading": false, "guard_seconds": null, "draining": null, "cpu": 0.75,
            "resident_bytes": 64 << 20, "open_descriptors": 44, "max_descriptors": 1024, "in_flight": 6,
        },
        "total": route("", rates[0] + rates[1], 2.0), "bounds_ms": [1.0, 2.0, 5.0],
        "routes": [route("orders", rates[0], 0.0), route("users\u{1b}[31m", rates[1], 2.0)],
        "clusters": [{ "name": "app", "uses": "usable", "waiting": null,
            "endpoints": [endpoint("10.0.0.1:80", &[]), endpoint("10.0.0.2:80", &["down", "drained"])] }],
        "workers": [worker(0), worker(1)],
        "reasons": [{ "reason": "upstream_closed", "kind": "answer", "count": 12, "per_second": 2.0 }],
        "tenants": [], "listeners": [], "certificates": [],
        "reloads": { "applied": 2, "unchanged": 0, "refused": 0, "rolled_back": 0, "last_at": null, "problem": null },
        "last_plan": null,
    });
    serde_json::from_value(value).unwrap()
}

fn stories() -> Vec<Story> {
    let story = |route: &str, status, total: f64| Story {
        request_id: format!("id-{route}"),
        time: "2026-11-29T09:12:44.120Z".to_owned(),
        route: route.to_owned(),
        method: "GET".to_owned(),
        path: "/a".to_owned(),
        status,
        reason: if status == 502 { "upstream_closed".to_owned() } else { String::new() },
        milliseconds: vec![("total".to_owned(), total)],
        ..Story::default()
    };
    vec![story("users", 502, 3.5), story("orders", 200, 1500.0)]
}

struct Shown {
    screen: Screen,
    terminal: Terminal<TestBackend>,
}

impl Shown {
    fn new() -> Self {
        let mut screen = Screen::default();
        screen.update(top([200.0, 1500.5]));
        screen.update_requests(stories());
        Self { screen, terminal: Terminal::new(TestBackend::new(120, 24)).unwrap() }
    }

    fn press(&mut self, code: KeyCode) -> Next {
        self.screen.press(KeyEvent::new(code, KeyModifiers::NONE))
    }

    fn types(&mut self, text: &str) {
        text.chars().for_each(|key| assert_eq!(self.press(KeyCode::Char(key)), Next::Go));
    }

    fn lines(&mut self) -> Vec<String> {
        self.terminal.draw(|frame| draw::draw(frame, &mut self.screen)).unwrap();
        let buffer = self.terminal.backend().buffer();
        let width = usize::from(buffer.area.width);
        let lines = buffer.content.chunks(width).map(|line| line.iter().map(|cell| cell.symbol()).collect::<String>());
        lines.map(|line| line.trim_end().to_owned()).collect()
    }

    /// Rows of the table, without its head.
    fn rows(&mut self) -> Vec<String> {
        self.lines()[6..23].iter().filter(|line| !line.is_empty()).cloned().collect()
    }
}

#[test]
fn the_busiest_routes_come_first_and_failing_ones_are_red() {
    let mut shown = Shown::new();
    let lines = shown.lines();
    assert_eq!(lines[0], "cairn 0.1.0 · pid 4711 · up 1d 1h · configuration 3");
    assert!(
        lines[1].starts_with("1,700 requests/s · errors 0.12 % · p50 1.50 ms · p99 15.00 ms · in flight 6"),
        "{}",
        lines[1]
    );
    assert!(lines[5].starts_with("ROUTE") && lines[5].contains("REQ/S▼"), "{}", lines[5]);
    let rows = shown.rows();
    // What a name holds is no command to the terminal.
    assert!(rows[0].starts_with("users\\u{1b}[31m") && rows[0].contains("1,500.5"), "{rows:?}");
    assert!(rows[1].starts_with("orders") && rows[1].ends_with("1,234,567"), "{rows:?}");
    let buffer = shown.terminal.backend().buffer();
    let cell = |line: u16| &buffer[(0, line)];
    assert!(cell(6).fg == Color::Red && cell(6).modifier.contains(Modifier::REVERSED));
    assert!(cell(7).fg != Color::Red && !cell(7).modifier.contains(Modifier::REVERSED));
}

#[test]
fn every_table_is_reached_and_has_its_rows() {
    let mut shown = Shown::new();
    let expected = [
        (View::Routes, 2, "users"),
        (View::Clusters, 1, "app"),
        (View::Endpoints, 2, "10.0.0.1:80"),
        (View::Workers, 2, "      0"),
        (View::Reasons, 1, "upstream_closed"),
        (View::Requests, 2, "2026-11-29T09:12:44.120Z"),
    ];
    for (view, count, start) in expected {
        assert_eq!(shown.screen.view, view);
        let rows = shown.rows();
        assert!(rows.len() == count && rows[0].starts_with(start), "{view:?}: {rows:?}");
        shown.press(KeyCode::Tab);
    }
    assert_eq!(shown.screen.view, View::Routes);
    shown.types("3");
    assert_eq!(shown.screen.view, View::Endpoints);
    assert!(shown.rows()[1].contains("down, drained"));
    shown.press(KeyCode::BackTab);
    assert_eq!(shown.screen.view, View::Clusters);
}

#[test]
fn order_filter_and_pause_change_what_is_shown() {
    let mut shown = Shown::new();
    shown.types("r");
    assert!(shown.rows()[0].starts_with("orders"));
    shown.press(KeyCode::Left);
    let head = &shown.lines()[5];
    assert!(head.starts_with("ROUTE▲"), "{head}");
    shown.types("/us\u{1b}");
    shown.press(KeyCode::Backspace);
    shown.press(KeyCode::Backspace);
    shown.types("sers");
    assert_eq!(shown.rows().len(), 1);
    // Keys are text until Enter.
    shown.types("q");
    assert!(shown.rows().is_empty());
    shown.press(KeyCode::Esc);
    assert_eq!(shown.rows().len(), 2);
    shown.types("p");
    shown.screen.update(top([99_999.0, 0.0]));
    assert!(shown.lines()[0].ends_with("· paused") && !shown.lines().join("\n").contains("99,999"));
    shown.types("p");
    shown.screen.update(top([99_999.0, 0.0]));
    assert!(shown.lines().join("\n").contains("99,999"));
    shown.screen.fail("the process has ended".to_owned());
    assert_eq!(shown.lines()[1], "no answer: the process has ended");
    assert_eq!(shown.press(KeyCode::Char('q')), Next::End);
}

#[test]
fn a_row_stays_selected_when_others_pass_it_and_says_more_of_itself() {
    let mut shown = Shown::new();
    shown.lines();
    shown.press(KeyCode::Down);
    shown.screen.update(top([5000.0, 1.0]));
    shown.press(KeyCode::Enter);
    let text = shown.lines().join("\n");
    for part in ["route      orders", "5000.0 a second", "≤ 2 ms", "p99.9 -", "GET /a 1500.0 ms id-orders"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("id-users"), "{text}");
    shown.press(KeyCode::Esc);
    shown.types("6");
    shown.lines();
    shown.press(KeyCode::Enter);
    let text = shown.lines().join("\n");
    assert!(text.contains("status 502, upstream_closed"), "{text}");
    shown.types("?");
    assert!(shown.lines().join("\n").contains("sort by another column"));
}

#[test]
fn plain_tables_have_the_same_rows() {
    let text = plain(&top([200.0, 1500.5]), &stories());
    let line =
        |start: &str| text.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start}: {text}"));
    assert_eq!(line("app "), "app      usable          2       1        -          6   200.0     0.0      2.25");
    assert!(line("10.0.0.2:80").contains("down, drained"));
    assert!(line("upstream_closed").ends_with("12") && line("2026-11-29").contains("GET /a"));
    assert!(text.contains("\nSlow and failed\n"));
    let empty = Table { columns: View::Routes.columns(), rows: Vec::new() };
    assert_eq!(empty.lines().len(), 1);
}
