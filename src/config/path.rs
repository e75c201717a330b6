//! Paths as an operator writes them. Not here: paths on the wire (`http`).

use super::report::Problems;
use super::section::Text;
use crate::http::path::{self, PathForm};

/// A path as requests have it when they are routed; reports any other.
pub(super) fn normal(text: Text<'_>, problems: &mut Problems) -> String {
    let help = if !text.value.starts_with('/') {
        "a path starts with \"/\"".to_owned()
    } else if text.value.contains(['?', '#']) {
        "write the path alone; conditions on the query stand in `query`".to_owned()
    } else if !text.value.bytes().all(|c| c.is_ascii_graphic()) {
        "write the form that is on the wire: other characters are percent-encoded".to_owned()
    } else {
        match path::inspect(text.value.as_bytes()) {
            PathForm::Clean => return text.value.to_owned(),
            PathForm::Normalise if text.shown != text.value => "requests have it in its normal form".to_owned(),
            PathForm::Normalise => format!("requests have it in its normal form: \"{}\"", normalised(text.value)),
            PathForm::Refused(error) => format!("readers disagree about its meaning ({})", error.reason()),
        }
    };
    problems.add(text.at, format!("\"{}\" is not a path", text.shown.escape_debug())).help(help);
    text.value.to_owned()
}

fn normalised(path: &str) -> String {
    let mut out = vec![0; path.len()];
    let length = path::normalise(path.as_bytes(), &mut out).unwrap_or(0);
    String::from_utf8_lossy(&out[..length]).into_owned()
}
