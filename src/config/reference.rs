//! References in values: `${NAME}` or `${env.NAME}` stands for a variable of the environment, and a value that begins with `@` for the
//! content of a file. `$${` and `@@` are escapes for `${` and `@`. A variable of the request, such as `${client.ip}`, is only marked:
//! its value is known when there is a request. Not here: reading files (`external`), where such variables may stand (`check`).

use std::borrow::Cow;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::budget::Budget;
use super::external::{External, VariableError};
use super::report::{Problems, SourceSpan};
use crate::route::template::{Variable, mark};

/// A value that was written as a reference.
#[derive(Clone, Debug)]
pub(super) struct Reference {
    /// Offset in its file.
    pub(super) start: usize,
    pub(super) written: String,
    pub(super) value: String,
}

/// Replaces every reference in the values of `table`; returns them in file order. Files are relative to `directory`.
/// Replaces no more when `budget` is used up.
pub(super) fn replace(
    file: usize,
    table: &mut DeTable<'_>,
    directory: &Path,
    (external, budget): (&mut External, Option<&Budget>),
    problems: &mut Problems,
) -> Vec<Reference> {
    let mut replacer = Replacer { file, directory, external, budget, problems, found: Vec::new() };
    replacer.table(table);
    let mut found = replacer.found;
    found.sort_unstable_by_key(|reference| reference.start);
    found
}

/// `text` with its references replaced; None if one of them has no value.
pub(super) fn value(text: &str, directory: &Path) -> Option<String> {
    resolve(text, directory, &mut External::default()).ok()
}

struct Replacer<'a> {
    file: usize,
    directory: &'a Path,
    external: &'a mut External,
    budget: Option<&'a Budget>,
    problems: &'a mut Problems,
    found: Vec<Reference>,
}

impl Replacer<'_> {
    fn table(&mut self, table: &mut DeTable<'_>) {
        for (_, value) in table.iter_mut() {
            self.value(value);
        }
    }

    fn value(&mut self, node: &mut Spanned<DeValue<'_>>) {
        let at = SourceSpan::of(self.file, node);
        match node.get_mut() {
            DeValue::Table(table) => self.table(table),
            DeValue::Array(items) => items.iter_mut().for_each(|item| self.value(item)),
            // Most values hold no `$`, and searching for one byte is faster than for two.
            DeValue::String(text) if text.starts_with('@') || text.contains('$') && text.contains("${") => {
                let (directory, external) = (self.directory, &mut *self.external);
                let found = match self.budget {
                    Some(budget) if names_file(text) => {
                        budget.file(at, self.problems, || resolve(text, directory, external))
                    }
                    _ => Some(resolve(text, directory, external)),
                };
                match found {
                    // The budget is used up, which has been reported.
                    None => {}
                    Some(Ok(value)) => {
                        let written = std::mem::replace(text, Cow::Owned(value.clone())).into_owned();
                        self.found.push(Reference { start: at.start, written, value });
                    }
                    Some(Err(ReferenceError { what, help })) => {
                        self.problems.add(at, what).help(help).alone();
                    }
                }
            }
            _ => {}
        }
    }
}

/// Whether a value is a reference to a file.
fn names_file(text: &str) -> bool {
    text.starts_with('@') && !text.starts_with("@@")
}

/// A reference without a value: the problem and the remedy.
struct ReferenceError {
    what: String,
    help: Cow<'static, str>,
}

fn resolve(text: &str, directory: &Path, external: &mut External) -> Result<String, ReferenceError> {
    let Some(name) = text.strip_prefix('@') else { return variables(text, external) };
    if !names_file(text) {
        return variables(name, external);
    }
    let name = variables(name, external)?;
    external.file(directory, Path::new(&name)).map_err(|why| ReferenceError {
        what: format!("the file of \"{}\" cannot be read: {why}", text.escape_debug()),
        help: "`@` names a file, relative to the one that names it; a value that begins with @ is written \"@@…\""
            .into(),
    })
}

/// `text` with every `${NAME}` replaced by the variable's value, and every variable of the request marked.
fn variables(text: &str, external: &External) -> Result<String, ReferenceError> {
    let mut value = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find("${") {
        let (before, reference) = rest.split_at(dollar);
        if let Some(before) = before.strip_suffix('$') {
            value += before;
            value += "${";
            rest = &reference[2..];
            continue;
        }
        let name = reference[2..].split_once('}').map_or("", |(name, _)| name);
        value += before;
        value += &variable(name, external)?;
        rest = &reference[name.len() + 3..];
    }
    Ok(value + rest)
}

/// What stands for `${name}`.
fn variable(name: &str, external: &External) -> Result<String, ReferenceError> {
    let own = name.strip_prefix("env.").unwrap_or(name);
    if is_name(own) {
        return external.variable(own).map_err(|VariableError { why, help }| ReferenceError {
            what: format!("there is no variable {own}: {why}"),
            help: help.into(),
        });
    }
    // Where it stands says which ones there are (`check`).
    if Variable::parse(name).is_some() || looks_like_variable(name) {
        return Ok(mark(name));
    }
    Err(ReferenceError {
        what: "`${` does not begin a reference".to_owned(),
        help: "write ${NAME} with the name of a variable, or $${ for a literal ${".into(),
    })
}

/// Whether a name is one that a variable of the request could have.
fn looks_like_variable(name: &str) -> bool {
    let known = |c: u8| c.is_ascii_alphanumeric() || b".-_".contains(&c);
    name.contains('.') && !name.starts_with("env.") && name.bytes().all(known)
}

/// Whether `name` is a valid name of a shell variable.
fn is_name(name: &str) -> bool {
    let known = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    name.bytes().all(known) && name.bytes().next().is_some_and(|c| !c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_replaced_and_escapes_undone() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("token"), "s3cret ${HOME}\n").unwrap();
        // Cargo sets it for every test.
        let name = std::env::var("CARGO_PKG_NAME").unwrap();
        let cases = [
            ("Bearer ${CARGO_PKG_NAME}!", Some(format!("Bearer {name}!"))),
            ("${CARGO_PKG_NAME}${CARGO_PKG_NAME}", Some(format!("{name}{name}"))),
            ("$${CARGO_PKG_NAME}", Some("${CARGO_PKG_NAME}".to_owned())),
            ("$${${CARGO_PKG_NAME}", Some(format!("${{{name}"))),
            ("a$ $b }", Some("a$ $b }".to_owned())),
            ("@token", Some("s3cret ${HOME}".to_owned())),
            ("@@token", Some("@token".to_owned())),
            ("@@${CARGO_PKG_NAME}", Some(format!("@{name}"))),
            ("a@token", Some("a@token".to_owned())),
            ("@${CARGO_PKG_NAME}-is-not-there", None),
            ("@nowhere", None),
            ("${CAIRN_TEST_IS_NOT_SET}", None),
            ("${", None),
            ("${}", None),
            ("${A B}", None),
            ("${1A}", None),
            ("${env.CARGO_PKG_NAME}!", Some(format!("{name}!"))),
            ("${env.}", None),
            ("for=${client.ip}", Some(format!("for={}", mark("client.ip")))),
            ("$${client.ip}", Some("${client.ip}".to_owned())),
            ("${client.addr}", Some(mark("client.addr"))),
            ("${client.i p}", None),
        ];
        for (text, expected) in cases {
            assert_eq!(value(text, directory.path()), expected, "{text}");
        }
    }
}
