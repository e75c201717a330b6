//! `[[error_pages]]` of the configuration and of routes. Not here: choosing a page (`route`).

use super::report::Problems;
use super::section::{Section, Text};
use super::status;
use crate::limits::ERROR_PAGE_BYTES;
use crate::route::template::{Template, Variable, fill, mark_known};
use crate::route::{ErrorPageSpec, StatusPattern};

/// The pages of the tables.
pub(super) fn pages(sections: &[Section<'_>], problems: &mut Problems) -> Vec<ErrorPageSpec> {
    sections.iter().map(|section| page(*section, problems)).collect()
}

fn page(section: Section<'_>, problems: &mut Problems) -> ErrorPageSpec {
    let statuses = section.texts("statuses").into_iter().filter_map(|text| pattern(text, problems)).collect();
    let mut body = |name| section.text(name).map(|text| body(text, problems));
    let [html, json, text] = ["html", "json", "text"].map(&mut body);
    if let (Some(json), Some(at)) = (&json, section.text("json").map(|text| text.at))
        && let Err(error) =
            serde_json::from_str::<serde::de::IgnoredAny>(&fill(
                json,
                |name| if name == "error.status" { "404" } else { "x" },
            ))
    {
        problems
            .add(at, format!("the page is not JSON: {error}"))
            .help("variables stand within strings: \"${error.reason}\"");
    }
    if !["html", "json", "text"].iter().any(|name| section.has(name)) {
        problems
            .add(section.at, "the page has no body")
            .help("add html, json or text; `html = \"@404.html\"` is a file's content");
    }
    ErrorPageSpec { statuses, html, json, text }
}

/// `404` or `5xx`
fn pattern(text: Text<'_>, problems: &mut Problems) -> Option<StatusPattern> {
    let range = status::range(text.value).filter(|range| *range.start() >= 400);
    let known = range.map(|range| match range.into_inner() {
        (first, last) if first == last => StatusPattern::Exact(first),
        (first, _) => StatusPattern::Class(first / 100),
    });
    if known.is_none() {
        problems
            .add(text.at, format!("\"{}\" is not a status of an error", text.shown.escape_debug()))
            .help("write \"404\", \"4xx\" or \"5xx\"; without `statuses` the page is for all");
    }
    known
}

/// The body, with its variables marked.
fn body(text: Text<'_>, problems: &mut Problems) -> String {
    // The content of a file is a text, in which what looks like another variable stands for itself.
    let from_file = text.shown.starts_with('@') && !text.shown.starts_with("@@");
    let marked = if from_file { mark_known(text.value, Variable::is_of_error) } else { text.value.to_owned() };
    for variable in Template::compile(&marked).variables().filter(|variable| !variable.is_of_error()) {
        problems
            .add(text.at, format!("`${{{variable}}}` has no value in a page"))
            .help("pages take ${error.status}, ${error.title}, ${error.reason} and ${request.id}");
    }
    if marked.len() > ERROR_PAGE_BYTES {
        problems
            .add(text.at, format!("the page has more than {ERROR_PAGE_BYTES} bytes"))
            .help("it is sent with each such answer: let it refer to images and styles elsewhere");
    }
    marked
}
