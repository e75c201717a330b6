//! The dashboard: one page that shows live what `/top/events` sends. It holds nothing of the process, so that a browser gets it without the
//! token of the interface; what it then asks for needs the token. Not here: what it shows (`top`), and who may ask (`serving`).

use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};

/// The page, with its style and its script.
const PAGE: &str = include_str!("dashboard.html");

/// What the page may do: run its own script, use its own style, and ask this interface. The hashes are those of the texts between
/// `<style>` and `<script>` and their ends (CSP level 3, section 2.3.1); a test says them anew when these change. That the script
/// makes no markup of texts is the browser's to see to, where it knows trusted types.
const POLICY: &str = "default-src 'none'; connect-src 'self'; img-src data:; \
                      style-src 'sha256-O+G3yKS/XEyf8aDL0dNJPoT8t2Q2D6EQjQWD0LfBZmE='; \
                      script-src 'sha256-Bdomw8LtUYud1LktQhp5UTrIn3NdaXitxjeXWvrZ2XI='; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

/// Whether who asks is a browser that shows a page.
pub(super) fn is_wanted(fields: &HeaderMap) -> bool {
    fields.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).any(|text| text.contains("text/html"))
}

/// The answer with the page.
pub(super) fn page() -> Response {
    let fields = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-cache"),
        (header::VARY, "Accept"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (fields, PAGE).into_response()
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::digest::{SHA256, digest};
    use axum::http::HeaderValue;

    use super::*;
    use crate::printable::base64;

    /// The text of an element that the page has once.
    fn text_of(element: &str) -> &'static str {
        let (open, close) = (format!("<{element}>"), format!("</{element}>"));
        assert_eq!((PAGE.matches(&open).count(), PAGE.matches(&close).count()), (1, 1), "{element}");
        PAGE.split_once(&open).unwrap().1.split_once(&close).unwrap().0
    }

    #[test]
    fn the_policy_lets_run_what_the_page_has_and_nothing_else() {
        for element in ["style", "script"] {
            let hash = digest(&SHA256, text_of(element).as_bytes());
            let source =
                format!("{element}-src 'sha256-{}';", base64(hash.as_ref()).map(char::from).collect::<String>());
            assert!(POLICY.contains(&source), "the policy of the page lacks {source}");
        }
        // What the policy would refuse: handlers and styles in attributes.
        let markup = PAGE.replace(text_of("style"), "").replace(text_of("script"), "");
        for tag in markup.split('<').filter_map(|part| part.rsplit_once('>')).map(|(tag, _)| tag) {
            assert!(!tag.contains(" style=") && !tag.contains(" on"), "an attribute has a style or a script: {tag}");
        }
    }

    #[test]
    fn the_page_is_small_stands_alone_and_makes_no_markup() {
        assert!(PAGE.len() < 150 * 1024, "{} bytes", PAGE.len());
        let addresses = PAGE.split("://").count() - 1;
        let namespaces = PAGE.matches("xmlns='http://www.w3.org/2000/svg'").count();
        assert_eq!(addresses, namespaces, "the page names another place");
        for word in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "DOMParser", "eval(", "import "]
        {
            assert!(!PAGE.contains(word), "{word}");
        }
    }

    #[test]
    fn only_browsers_get_it() {
        for (accept, expected) in [
            (None, false),
            (Some("*/*"), false),
            (Some("application/json"), false),
            (Some("text/html,*/*;q=0.8"), true),
        ] {
            let fields = accept.map(|text| (header::ACCEPT, HeaderValue::from_static(text)));
            assert_eq!(is_wanted(&fields.into_iter().collect()), expected, "{accept:?}");
        }
    }
}
