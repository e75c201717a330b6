//! Bodies of the operator's for answers that cairn makes itself. Not here: the answers (`respond`), and choosing between the pages of a
//! route and those of all (`exchange`).

use super::spec::{ErrorPageSpec, StatusPattern};
use super::template::Template;
use crate::respond::Format;

/// Pages of a route, or of the whole configuration.
#[derive(Debug, Default)]
pub struct ErrorPages(Box<[Page]>);

/// The body of answers with some statuses, in up to three forms.
#[derive(Debug)]
struct Page {
    statuses: Box<[StatusPattern]>,
    html: Option<Template>,
    json: Option<Template>,
    text: Option<Template>,
}

impl ErrorPages {
    /// Compiles pages.
    #[must_use]
    pub fn compile(specs: &[ErrorPageSpec]) -> Self {
        let template = |text: &Option<String>| text.as_deref().map(Template::compile);
        let page = |spec: &ErrorPageSpec| Page {
            statuses: spec.statuses.as_slice().into(),
            html: template(&spec.html),
            json: template(&spec.json),
            text: template(&spec.text),
        };
        Self(specs.iter().map(page).collect())
    }

    /// The body for a status, and its media type: of the page that names the status, else of one that names its class, else of one for
    /// all; of several that do so, the first. Who prefers JSON gets nothing else; who does not may get HTML for text and text for HTML.
    #[must_use]
    pub fn find(&self, status: u16, format: Format) -> Option<(&'static str, &Template)> {
        const JSON: &str = "application/json";
        const HTML: &str = "text/html; charset=utf-8";
        const TEXT: &str = "text/plain; charset=utf-8";
        let best = |form: fn(&Page) -> Option<&Template>| {
            let ranked = self.0.iter().filter_map(|page| Some((page.rank(status)?, form(page)?)));
            ranked.min_by_key(|(rank, _)| *rank).map(|(_, template)| template)
        };
        let html = || best(|page| page.html.as_ref()).map(|body| (HTML, body));
        let text = || best(|page| page.text.as_ref()).map(|body| (TEXT, body));
        match format {
            Format::Json => best(|page| page.json.as_ref()).map(|body| (JSON, body)),
            Format::Html => html().or_else(text),
            Format::Text => text().or_else(html),
            Format::Grpc => None,
        }
    }
}

impl Page {
    /// How closely the page names a status; less is closer. None: it is for others.
    fn rank(&self, status: u16) -> Option<u8> {
        if self.statuses.is_empty() {
            return Some(2);
        }
        let rank = |pattern: &StatusPattern| match pattern {
            StatusPattern::Exact(code) => (*code == status).then_some(0),
            StatusPattern::Class(class) => (*class == status / 100).then_some(1),
        };
        self.statuses.iter().filter_map(rank).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_page_in_a_form_that_the_client_takes_is_found() {
        let page = |statuses: &[StatusPattern], forms: &str, name: &str| {
            let form = |form: char| forms.contains(form).then(|| format!("{name} {form}"));
            ErrorPageSpec { statuses: statuses.to_vec(), html: form('h'), json: form('j'), text: form('t') }
        };
        let pages = ErrorPages::compile(&[
            page(&[], "hjt", "all"),
            page(&[StatusPattern::Class(5)], "h", "5xx"),
            page(&[StatusPattern::Exact(502), StatusPattern::Exact(404)], "ht", "some"),
            page(&[StatusPattern::Exact(404)], "j", "404"),
        ]);
        for (status, [html, json, text]) in [
            (400, ["all h", "all j", "all t"]),
            (404, ["some h", "404 j", "some t"]),
            (502, ["some h", "all j", "some t"]),
            (503, ["5xx h", "all j", "all t"]),
        ] {
            for (format, body) in [(Format::Html, html), (Format::Json, json), (Format::Text, text)] {
                let found = pages.find(status, format).unwrap().1;
                assert_eq!(found.plain(), Some(body.as_bytes()), "{status} {format:?}");
            }
        }
        let html = ErrorPages::compile(&[page(&[], "h", "a")]);
        assert!(html.find(404, Format::Text).unwrap().0.starts_with("text/html"), "rather than cairn's own");
        assert!(html.find(404, Format::Json).is_none());
    }
}
