//! What `cairn top` shows as tables: names and numbers of what a look has found. Not here: what of it is on the screen (`screen`).

use std::cmp::Ordering;

use cairn::control::{ClusterTop, EndpointTop, Quantiles, RouteTop, Top};
use cairn::observer::Story;
use cairn::printable::printable;

/// What a table is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum View {
    #[default]
    Routes,
    Clusters,
    Endpoints,
    Workers,
    Reasons,
    Requests,
}

impl View {
    pub(super) const ALL: [Self; 6] =
        [Self::Routes, Self::Clusters, Self::Endpoints, Self::Workers, Self::Reasons, Self::Requests];

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Routes => "Routes",
            Self::Clusters => "Clusters",
            Self::Endpoints => "Endpoints",
            Self::Workers => "Workers",
            Self::Reasons => "Reasons",
            Self::Requests => "Slow and failed",
        }
    }

    pub(super) fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Routes => &[
                "ROUTE", "REQ/S", "2XX/S", "3XX/S", "4XX/S", "5XX/S", "ERR %", "P50 MS", "P90 MS", "P99 MS", "P999 MS",
                "OWN P99", "REQUESTS",
            ],
            Self::Clusters => {
                &["CLUSTER", "USES", "ENDPOINTS", "USABLE", "WAITING", "IN FLIGHT", "ANSW/S", "FAIL/S", "FIRST MS"]
            }
            Self::Endpoints => {
                &["ENDPOINT", "CLUSTER", "STATE", "WEIGHT", "IN FLIGHT", "OPEN", "IDLE", "ANSW/S", "FAIL/S", "FIRST MS"]
            }
            Self::Workers => {
                &["WORKER", "BUSY %", "DELAY MS", "TURNS/S", "CONNS", "SHAKES", "EXCHANGES", "BUFFERS", "OVERFLOWS"]
            }
            Self::Reasons => &["REASON", "KIND", "PER S", "COUNT"],
            Self::Requests => {
                &["TIME", "STATUS", "REASON", "MS", "TRIES", "ROUTE", "ENDPOINT", "REQUEST", "REQUEST ID"]
            }
        }
    }

    /// By which column it is sorted at first, and whether the greatest comes first.
    pub(super) fn order(self) -> (usize, bool) {
        match self {
            Self::Routes => (1, true),
            Self::Clusters => (6, true),
            Self::Endpoints => (7, true),
            Self::Workers => (0, false),
            Self::Reasons => (2, true),
            Self::Requests => (0, true),
        }
    }

    /// By its position.
    pub(super) fn at(position: usize) -> Self {
        Self::ALL[position % Self::ALL.len()]
    }
}

/// A cell: what is shown, and the number that it is sorted by, if it is one.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cell {
    pub(super) text: String,
    pub(super) number: Option<f64>,
}

impl Cell {
    fn text(text: &str) -> Self {
        let text = if text.is_empty() { "-" } else { text };
        Self { text: printable(text).into_owned(), number: None }
    }

    fn count(count: u64) -> Self {
        Self { text: grouped(&count.to_string()), number: Some(count as f64) }
    }

    /// With so many digits behind the point.
    fn decimal(number: f64, digits: usize) -> Self {
        Self { text: grouped(&format!("{number:.digits$}")), number: Some(number) }
    }

    /// A time or a rate that may not be known.
    fn optional(number: Option<f64>, digits: usize) -> Self {
        number.map_or_else(|| Self { text: "-".to_owned(), number: Some(-1.0) }, |number| Self::decimal(number, digits))
    }

    fn compare(&self, other: &Self) -> Ordering {
        match (self.number, other.number) {
            (Some(one), Some(other)) => one.total_cmp(&other),
            _ => self.text.cmp(&other.text),
        }
    }
}

/// Digits in groups of three: `12,345.6`.
fn grouped(number: &str) -> String {
    let (whole, rest) = number.split_at(number.find('.').unwrap_or(number.len()));
    let mut text = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at) % 3 == 0 && !text.ends_with('-') {
            text.push(',');
        }
        text.push(digit);
    }
    text + rest
}

/// A row.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    /// What it is found by again, after another look.
    pub(super) key: String,
    pub(super) cells: Vec<Cell>,
    /// Whether something is wrong with it.
    pub(super) alarm: bool,
    /// What is shown of it alone.
    pub(super) details: Vec<String>,
}

/// A table.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Table {
    pub(super) columns: &'static [&'static str],
    pub(super) rows: Vec<Row>,
}

impl Table {
    /// The table of a view.
    pub(super) fn of(view: View, top: &Top, requests: &[Story]) -> Self {
        let rows = match view {
            View::Routes => top.routes.iter().map(|it| route(it, top, requests)).collect(),
            View::Clusters => top.clusters.iter().map(cluster).collect(),
            View::Endpoints => {
                let endpoints = |it| endpoints(it, requests);
                top.clusters.iter().flat_map(endpoints).collect()
            }
            View::Workers => workers(top),
            View::Reasons => reasons(top, requests),
            View::Requests => requests.iter().map(request).collect(),
        };
        Self { columns: view.columns(), rows }
    }

    pub(super) fn sort(&mut self, column: usize, descending: bool) {
        self.rows.sort_by(|one, other| {
            let order = match (one.cells.get(column), other.cells.get(column)) {
                (Some(one), Some(other)) => one.compare(other),
                _ => Ordering::Equal,
            };
            if descending { order.reverse() } else { order }
        });
    }

    /// Keeps the rows one of whose cells has this text.
    pub(super) fn filter(&mut self, text: &str) {
        let text = text.to_lowercase();
        self.rows.retain(|row| row.cells.iter().any(|cell| cell.text.to_lowercase().contains(&text)));
    }

    /// Widths that the columns need.
    pub(super) fn widths(&self) -> Vec<usize> {
        let width = |(at, name): (usize, &&str)| {
            let cells = self.rows.iter().filter_map(|row| row.cells.get(at));
            cells.map(|cell| cell.text.chars().count()).fold(name.len(), usize::max)
        };
        self.columns.iter().enumerate().map(width).collect()
    }

    /// Whether a column has numbers.
    pub(super) fn is_number(&self, column: usize) -> bool {
        self.rows.first().and_then(|row| row.cells.get(column)).is_some_and(|cell| cell.number.is_some())
    }

    /// The table as lines of text.
    pub(super) fn lines(&self) -> Vec<String> {
        let widths = self.widths();
        let line = |texts: &mut dyn Iterator<Item = &str>| {
            let cells = texts.zip(&widths).enumerate().map(|(at, (text, width))| {
                if self.is_number(at) { format!("{text:>width$}") } else { format!("{text:<width$}") }
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        let head = line(&mut self.columns.iter().copied());
        let rows = self.rows.iter().map(|row| line(&mut row.cells.iter().map(|cell| &*cell.text)));
        std::iter::once(head).chain(rows).collect()
    }
}

/// The process in one line.
pub(super) fn summary(top: &Top) -> String {
    let (process, total) = (&top.process, &top.total);
    let milliseconds = |time: Option<f64>| time.map_or("-".to_owned(), |time| format!("{time:.2}"));
    let draining = process.draining.as_ref().map_or(String::new(), |drain| format!(" · draining: {}", drain.why));
    let problem =
        if top.reloads.problem.is_some() { " · the files are not what is served: see cairn status" } else { "" };
    format!(
        "cairn {} · pid {} · up {} · configuration {}{draining}{problem}\n\
         {} requests/s · errors {:.2} % · p50 {} ms · p99 {} ms · in flight {} · CPU {:.2} · memory {} MiB · descriptors {}",
        process.cairn,
        process.pid,
        duration(process.uptime_seconds),
        process.version,
        grouped(&format!("{:.0}", total.requests_per_second)),
        100.0 * total.error_ratio,
        milliseconds(total.latency_ms.p50),
        milliseconds(total.latency_ms.p99),
        process.in_flight,
        process.cpu,
        process.resident_bytes >> 20,
        process.open_descriptors,
    )
}

/// `3d 4h`, `4h 5m`, `5m 6s` or `6s`.
fn duration(seconds: u64) -> String {
    let units = [("d", 86_400, u64::MAX), ("h", 3600, 24), ("m", 60, 60), ("s", 1, 60)];
    let parts = units.map(|(name, length, modulus)| (name, seconds / length % modulus));
    let first = parts.iter().position(|(_, count)| *count > 0).unwrap_or(3);
    let shown = parts[first..].iter().take(2).map(|(name, count)| format!("{count}{name}"));
    shown.collect::<Vec<_>>().join(" ")
}

fn quantiles(name: &str, times: &Quantiles) -> String {
    let known =
        [("mean", times.mean), ("p50", times.p50), ("p90", times.p90), ("p99", times.p99), ("p99.9", times.p999)];
    let texts = known.map(|(name, time)| time.map_or(format!("{name} -"), |time| format!("{name} {time:.3}")));
    format!("{name:<10} {} ms", texts.join("  "))
}

fn route(route: &RouteTop, top: &Top, requests: &[Story]) -> Row {
    let RouteTop { name, tenant, per_second, error_ratio, latency_ms, overhead_ms, .. } = route;
    let mut details = vec![
        format!(
            "route      {}{}",
            printable(name),
            tenant.as_ref().map_or(String::new(), |it| format!(" of tenant {it}"))
        ),
        format!("requests   {:.1} a second, {} since the start", route.requests_per_second, route.requests),
        quantiles("latency", latency_ms),
        quantiles("own time", overhead_ms),
        String::new(),
        "requests by how long they have taken".to_owned(),
    ];
    details.extend(heat(&route.heat, &top.bounds_ms));
    details.push(String::new());
    details.extend(last_of(requests, |story| story.route == *name));
    Row {
        key: name.clone(),
        cells: vec![
            Cell::text(name),
            Cell::decimal(route.requests_per_second, 1),
            Cell::decimal(per_second.successful, 1),
            Cell::decimal(per_second.redirected, 1),
            Cell::decimal(per_second.refused, 1),
            Cell::decimal(per_second.failed, 1),
            Cell::decimal(100.0 * error_ratio, 2),
            Cell::optional(latency_ms.p50, 2),
            Cell::optional(latency_ms.p90, 2),
            Cell::optional(latency_ms.p99, 2),
            Cell::optional(latency_ms.p999, 2),
            Cell::optional(overhead_ms.p99, 3),
            Cell::count(route.requests),
        ],
        alarm: *error_ratio > 0.0,
        details,
    }
}

/// Bars of a histogram; buckets without any at both ends are left out.
fn heat(counts: &[u64], bounds: &[f64]) -> Vec<String> {
    const WIDTH: usize = 40;
    let most = counts.iter().copied().max().unwrap_or(0).max(1);
    let bound = |at: usize| bounds.get(at).map_or("more".to_owned(), |bound| format!("≤ {bound}"));
    let first = counts.iter().position(|count| *count > 0).unwrap_or(0);
    let last = counts.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1);
    let bar = |at: usize| {
        let count = counts[at];
        let length = (count as f64 / most as f64 * WIDTH as f64).ceil() as usize;
        format!("{:>10} ms {:<WIDTH$} {count}", bound(at), "█".repeat(length))
    };
    (first..last).map(bar).collect()
}

/// The last of some requests, a line each.
fn last_of(requests: &[Story], own: impl Fn(&Story) -> bool) -> Vec<String> {
    let lines: Vec<_> = requests.iter().filter(|story| own(story)).take(20).map(brief).collect();
    if lines.is_empty() {
        return vec!["none of the last ones has failed or was slow".to_owned()];
    }
    std::iter::once("the last ones that have failed or were slow".to_owned()).chain(lines).collect()
}

fn brief(story: &Story) -> String {
    let Story { time, status, reason, method, authority, path, request_id, .. } = story;
    let line = format!("{time} {status} {reason} {method} {authority}{path} {:.1} ms {request_id}", total(story));
    printable(&line).into_owned()
}

fn total(story: &Story) -> f64 {
    story.milliseconds.iter().find(|(name, _)| name == "total").map_or(0.0, |(_, time)| *time)
}

fn cluster(cluster: &ClusterTop) -> Row {
    let ClusterTop { name, uses, waiting, endpoints } = cluster;
    let sum = |of: fn(&EndpointTop) -> f64| endpoints.iter().map(of).sum::<f64>();
    let usable = endpoints.iter().filter(|it| it.healthy).count();
    let answered = sum(|it| it.answered_per_second);
    let timed = sum(|it| it.first_byte_ms.map_or(0.0, |time| time * it.answered_per_second));
    let mut own = Table { columns: View::Endpoints.columns(), rows: self::endpoints(cluster, &[]) };
    own.sort(7, true);
    let mut details = vec![format!("cluster    {}", printable(name)), String::new()];
    details.extend(own.lines());
    Row {
        key: name.clone(),
        cells: vec![
            Cell::text(name),
            Cell::text(&uses.to_string()),
            Cell::count(endpoints.len() as u64),
            Cell::count(usable as u64),
            Cell::optional(waiting.map(f64::from), 0),
            Cell::decimal(sum(|it| f64::from(it.in_flight)), 0),
            Cell::decimal(answered, 1),
            Cell::decimal(sum(|it| it.failed_per_second), 1),
            Cell::optional((answered > 0.0).then(|| timed / answered), 2),
        ],
        alarm: usable < endpoints.len(),
        details,
    }
}

fn endpoints(cluster: &ClusterTop, requests: &[Story]) -> Vec<Row> {
    let row = |endpoint: &EndpointTop| {
        let held = endpoint.held.join(", ");
        let state = if endpoint.healthy { "ok" } else { &held };
        let mut details = vec![
            format!("endpoint   {} of cluster {}", printable(&endpoint.address), printable(&cluster.name)),
            format!("state      {state}, weight {}", endpoint.weight),
            format!(
                "attempts   {} under way, {:.1} answered and {:.1} failed a second",
                endpoint.in_flight, endpoint.answered_per_second, endpoint.failed_per_second
            ),
            format!("sockets    {} open, {} of them idle", endpoint.open, endpoint.idle),
            String::new(),
        ];
        details.extend(last_of(requests, |story| story.attempts.iter().any(|it| it.endpoint == endpoint.address)));
        Row {
            key: format!("{} {}", cluster.name, endpoint.address),
            cells: vec![
                Cell::text(&endpoint.address),
                Cell::text(&cluster.name),
                Cell::text(state),
                Cell::count(endpoint.weight.into()),
                Cell::count(endpoint.in_flight.into()),
                Cell::count(endpoint.open),
                Cell::count(endpoint.idle),
                Cell::decimal(endpoint.answered_per_second, 1),
                Cell::decimal(endpoint.failed_per_second, 1),
                Cell::optional(endpoint.first_byte_ms, 2),
            ],
            alarm: !endpoint.healthy || endpoint.failed_per_second > 0.0,
            details,
        }
    };
    cluster.endpoints.iter().map(row).collect()
}

fn workers(top: &Top) -> Vec<Row> {
    let row = |worker: &cairn::control::WorkerTop| Row {
        key: worker.worker.to_string(),
        cells: vec![
            Cell::count(worker.worker as u64),
            Cell::decimal(100.0 * worker.busy_ratio, 1),
            Cell::decimal(worker.turn_delay_ms, 3),
            Cell::decimal(worker.turns_per_second, 0),
            Cell::count(worker.connections),
            Cell::count(worker.handshakes),
            Cell::count(worker.exchanges),
            Cell::count(worker.used_buffers),
            Cell::count(worker.ring_overflows),
        ],
        alarm: worker.busy_ratio > 0.95,
        details: vec![
            format!("worker     {}", worker.worker),
            format!(
                "busy       {:.1} % of the time, in {:.0} turns a second",
                100.0 * worker.busy_ratio,
                worker.turns_per_second
            ),
            format!("delay      what arrives falls into a turn that takes {:.3} ms on average", worker.turn_delay_ms),
            format!(
                "clients    {} connections, {} of them in a TLS handshake; {} exchanges with origins",
                worker.connections, worker.handshakes, worker.exchanges
            ),
            format!(
                "memory     {} receive buffers in use; {} overflows of the ring",
                worker.used_buffers, worker.ring_overflows
            ),
        ],
    };
    top.workers.iter().map(row).collect()
}

fn reasons(top: &Top, requests: &[Story]) -> Vec<Row> {
    let row = |reason: &cairn::control::ReasonTop| Row {
        key: format!("{} {}", reason.kind, reason.reason),
        cells: vec![
            Cell::text(&reason.reason),
            Cell::text(&reason.kind),
            Cell::decimal(reason.per_second, 1),
            Cell::count(reason.count),
        ],
        alarm: reason.per_second > 0.0,
        details: last_of(requests, |story| story.reason == reason.reason),
    };
    top.reasons.iter().map(row).collect()
}

fn request(story: &Story) -> Row {
    let Story { time, method, authority, path, status, reason, route, request_id, attempts, .. } = story;
    Row {
        key: request_id.clone(),
        cells: vec![
            Cell::text(time),
            Cell { text: status.to_string(), number: Some((*status).into()) },
            Cell::text(reason),
            Cell::decimal(total(story), 1),
            Cell::count(attempts.len() as u64),
            Cell::text(route),
            Cell::text(attempts.last().map_or("", |attempt| &attempt.endpoint)),
            Cell::text(&format!("{method} {authority}{path}")),
            Cell::text(request_id),
        ],
        alarm: *status >= 500 || *status == 0 || !reason.is_empty(),
        details: story.to_string().lines().map(|line| printable(line).into_owned()).collect(),
    }
}
