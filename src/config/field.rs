//! Names and values of header fields that an operator writes. Not here: fields on the wire (`http`).

use super::foreign;
use super::report::Problems;
use super::section::Text;
use crate::http::{FieldName, ends_here, hop_by_hop, proves_client};
use crate::route::template::fill;

/// Names and values of fields to send. Reports invalid fields, fields that cairn writes itself, and duplicates.
pub(super) fn fields(entries: &[(Text<'_>, Text<'_>)], problems: &mut Problems) -> Vec<(String, String)> {
    let mut fields: Vec<(String, String)> = Vec::with_capacity(entries.len());
    for (name, value) in entries {
        let editable = editable(*name, problems);
        self::value(*value, problems);
        // A price is no capture.
        let variable = foreign::variable(value.value).filter(|it| !it[1..].starts_with(|c: char| c.is_ascii_digit()));
        if let Some(variable) = variable.filter(|variable| editable && value.shown.contains(variable)) {
            problems
                .add(
                    value.at,
                    format!("`{}` is a variable of another proxy, and only text here", variable.escape_debug()),
                )
                .help(foreign::field_cure(variable));
        }
        if fields.iter().any(|(known, _)| known.eq_ignore_ascii_case(name.value)) {
            problems
                .add(name.at, format!("`{}` is here twice", name.shown))
                .help("field names are the same in any letter case");
        }
        fields.push((name.value.to_owned(), value.value.to_owned()));
    }
    fields
}

/// Reports a field that an operator may not edit: one that frames a message or belongs to one connection (RFC 9110 section 7.6.1).
/// Whether it may.
pub(super) fn editable(field: Text<'_>, problems: &mut Problems) -> bool {
    if !name(field, problems) {
        return false;
    }
    let id = FieldName::lookup(field.value.as_bytes());
    let help = match id {
        FieldName::Host => "use rewrite = { host = \"…\" }",
        FieldName::ContentLength | FieldName::Trailer => "it frames the message; cairn writes it where it is due",
        id if hop_by_hop(id) => "it belongs to one connection; cairn writes it where it is due and passes none on",
        _ => return true,
    };
    problems.add(field.at, format!("`{}` cannot be edited", field.shown)).help(help);
    false
}

/// Reports a field on which no condition can hold: conditions see only fields that are forwarded.
pub(super) fn conditional(field: Text<'_>, problems: &mut Problems) {
    if !name(field, problems) {
        return;
    }
    let help = match FieldName::lookup(field.value.as_bytes()) {
        id if proves_client(id) => {
            "nobody is believed who sends it; a condition on the certificate itself is `client = \"spiffe://corp/ns/shop/*\"`"
        }
        id if ends_here(id) => {
            "it belongs to one connection and is not passed on; routes see what is, for instance `upgrade`"
        }
        _ => return,
    };
    problems.add(field.at, format!("no condition on `{}` can hold", field.shown)).help(help);
}

/// Whether `field` is a field name (RFC 9110 section 5.1); reports it if not.
pub(super) fn name(field: Text<'_>, problems: &mut Problems) -> bool {
    let valid = is_token(field.value);
    if !valid {
        problems
            .add(field.at, format!("\"{}\" is not a field name", field.shown.escape_debug()))
            .help("use letters, digits and !#$%&'*+-.^_`|~ (RFC 9110 section 5.6.2)");
    }
    valid
}

/// Reports an invalid field value (RFC 9110 section 5.5).
pub(super) fn value(text: Text<'_>, problems: &mut Problems) {
    let filled = fill(text.value, |_| "x");
    if filled.chars().any(|c| c.is_control() && c != '\t') {
        problems.add(text.at, "the value holds a control character").help("only tabs may stand in a field value");
    } else if filled.trim_matches([' ', '\t']) != filled {
        problems
            .add(text.at, "the value begins or ends with white space")
            .help("a receiver would drop it; leave it out");
    }
}

/// Whether `text` is a token (RFC 9110 section 5.6.2): the name of a field or a cookie, or a method.
#[must_use]
pub fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|c| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c))
}
