//! `[route.retry]` to [`Retry`]. Not here: what it does (`exchange`).

use super::bounds::Bounds;
use super::report::Problems;
use super::section::{Section, Text};
use crate::http::Method;
use crate::route::{Retry, RetryOn};

/// What `retry.on` takes besides statuses.
const WORDS: [(&str, RetryOn); 7] = [
    ("connect", RetryOn::CONNECT),
    ("reset", RetryOn::RESET),
    ("timeout", RetryOn::TIMEOUT),
    ("grpc-unavailable", RetryOn::GRPC_UNAVAILABLE),
    ("retriable-4xx", RetryOn::RETRIABLE_4XX),
    ("gateway-error", RetryOn::GATEWAY_ERROR),
    ("5xx", RetryOn::SERVER_ERROR),
];

/// Reads the retries of a route.
pub(super) fn retry(route: Section<'_>, bounds: &Bounds, problems: &mut Problems) -> Retry {
    let section = route.one("retry");
    let budget = section.one("budget");
    let per_second = budget.number("min_per_second");
    let per_try_timeout = bounds.timeout(section, "per_try_timeout", problems);
    let whole = bounds.timeout(route, "timeout", problems);
    if per_try_timeout.zip(whole).is_some_and(|(one, whole)| one >= whole) {
        problems
            .add(section.span("per_try_timeout"), "one try may take as long as all of them")
            .note(route.span("timeout"), "the time for all is here")
            .help("make `per_try_timeout` shorter than the route's `timeout`");
    }
    Retry {
        attempts: section.number("attempts") as u8,
        on: section.texts("on").into_iter().fold(RetryOn::NOTHING, |on, text| on.and(event(text, problems))),
        methods: section.texts("methods").into_iter().fold(0, |set, text| set | method(text, problems)),
        per_try_timeout,
        same_endpoint: section.flag("same_endpoint"),
        backoff: bounds.cut(section.time("backoff")),
        ratio: section.ratio("budget").unwrap_or_else(|| budget.ratio("ratio").unwrap_or_default()),
        min_per_second: u32::try_from(per_second).unwrap_or(u32::MAX),
        buffer: section.size("buffer") as usize,
    }
}

/// What one word of `retry.on` stands for.
fn event(text: Text<'_>, problems: &mut Problems) -> RetryOn {
    let word = WORDS.iter().find(|(word, _)| *word == text.value).map(|(_, on)| *on);
    let status = || text.value.parse().ok().and_then(RetryOn::status);
    word.or_else(status).unwrap_or_else(|| {
        problems
            .add(text.at, format!("\"{}\" is nothing after which a request is tried again", text.shown.escape_debug()))
            .help("it takes connect, reset, timeout, grpc-unavailable, retriable-4xx, gateway-error, 5xx, and statuses from \"400\" to \"599\"");
        RetryOn::NOTHING
    })
}

/// The bit of a method.
fn method(text: Text<'_>, problems: &mut Problems) -> u16 {
    let method = Method::lookup(text.value.as_bytes());
    if matches!(method, Method::Connect) || method.bit() == 0 {
        problems
            .add(text.at, format!("requests with the method \"{}\" cannot be sent again", text.shown.escape_debug()))
            .help("it takes GET, HEAD, OPTIONS, PUT, DELETE, TRACE, POST and PATCH, in upper case");
        return 0;
    }
    method.bit()
}
