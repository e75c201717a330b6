//! `hedge` of a route to [`Hedge`]. Not here: what it does (`exchange`).

use super::report::Problems;
use super::section::Section;
use super::unit;
use crate::http::Method;
use crate::route::Hedge;

/// Reads when a second attempt is made. `route` is the table of the route, `forwarded` the same as far as it forwards.
pub(super) fn hedge(route: Section<'_>, forwarded: Section<'_>, problems: &mut Problems) -> Option<Hedge> {
    if !forwarded.has("hedge") {
        return None;
    }
    let section = forwarded.one("hedge");
    let text = section.text("after")?;
    let hedge = match (text.value, unit::duration(text.value)) {
        ("p95", _) => Hedge::P95,
        (_, Some(time)) if !time.is_zero() => Hedge::After(time),
        _ => {
            problems
                .add(
                    text.at,
                    format!("\"{}\" is no time after which another endpoint is asked", text.shown.escape_debug()),
                )
                .help("write a duration: \"30ms\"; or \"p95\": as long as all but five in a hundred requests take");
            return None;
        }
    };
    // What would be carried out twice.
    for method in route.texts("methods") {
        if !Method::lookup(method.value.as_bytes()).is_idempotent() {
            problems
                .add(method.at, format!("two endpoints would carry out one {} request", method.shown.escape_debug()))
                .note(forwarded.span("hedge"), "`hedge` is here")
                .help("give it a route of its own without `hedge`: only GET, HEAD, OPTIONS, PUT, DELETE and TRACE are hedged");
        }
    }
    let bounds = [(forwarded, "timeout", "the route"), (forwarded.one("retry"), "per_try_timeout", "one try")];
    for (table, key, what) in bounds {
        if let (Hedge::After(after), Some(time)) = (hedge, table.optional_time(key))
            && after >= time
        {
            problems
                .add(text.at, format!("there is never a second attempt: {what} ends after {time:?}"))
                .note(table.span(key), format!("`{key}` is here"))
                .help(format!("make `after` shorter than `{key}`"));
        }
    }
    Some(hedge)
}
