//! Names that one section of a configuration defines and another refers to. Not here: names of header fields (`field`).

use ahash::{HashMap, HashMapExt};

use super::nearest::nearest;
use super::report::{Problems, SourceSpan};
use super::section::{Section, Text};

/// The names of all listeners, routes or clusters, by position.
#[derive(Debug)]
pub(super) struct Names {
    /// What is named: `listener`, `route`, `cluster` or `tenant`.
    what: &'static str,
    scope: Scope,
    /// By position; empty if a section has no name.
    names: Vec<String>,
    /// Whether a section has no name, which has been reported: it may be the one that a reference means.
    incomplete: bool,
    /// Position and place of the first section with each name.
    first: HashMap<String, (usize, SourceSpan)>,
}

/// The owner of names. Names of other owners cannot be referred to.
#[derive(Clone, Debug, Default)]
pub(super) struct Scope {
    /// Name of the tenant; empty: the root.
    pub(super) tenant: String,
    /// Position of the scope's first item among the items of all scopes.
    pub(super) first: usize,
}

/// Longest name, bytes: names are metric labels.
const NAME_BYTES_MAX: usize = 64;

impl Names {
    /// Reads the names of `sections`. Reports names that are malformed or not unique.
    pub(super) fn read(what: &'static str, sections: &[Section<'_>], scope: Scope, problems: &mut Problems) -> Self {
        let mut names = Vec::with_capacity(sections.len());
        let mut first: HashMap<String, (usize, SourceSpan)> = HashMap::with_capacity(sections.len());
        for (position, section) in sections.iter().enumerate() {
            let text = section.text("name");
            if let Some(text) = text {
                well_formed(what, text, problems);
            }
            let at = text.map_or(section.at, |text| text.at);
            let name = match text {
                Some(text) => text.value.to_owned(),
                None if what == "route" => format!("route-{}", position + 1),
                None => String::new(),
            };
            match first.get(&name) {
                Some((_, first)) => {
                    problems
                        .add(at, format!("two {what}s are named \"{}\"", text.map_or(&*name, |text| text.shown)))
                        .note(*first, "the first one is here")
                        .help("give each a name of its own");
                }
                None if name.is_empty() => {}
                None => {
                    first.insert(name.clone(), (position, at));
                }
            }
            names.push(name);
        }
        Self { what, scope, incomplete: names.iter().any(String::is_empty), names, first }
    }

    /// The same names, of which some may be missing if `incomplete`: a reference without a name is no problem then.
    pub(super) fn incomplete_if(self, incomplete: bool) -> Self {
        Self { incomplete: self.incomplete || incomplete, ..self }
    }

    /// The name that is unique over all scopes: `TENANT/NAME`, or `NAME` in the root.
    pub(super) fn full(&self, position: usize) -> String {
        let name = self.names.get(position).map_or("", String::as_str);
        if self.scope.tenant.is_empty() { name.to_owned() } else { format!("{}/{name}", self.scope.tenant) }
    }

    /// The position of a name among those of this scope.
    pub(super) fn position(&self, name: &str) -> Option<usize> {
        self.first.get(name).map(|(position, _)| *position)
    }

    /// The position, among the items of all scopes, to which `name` refers. Reports a name that does not exist.
    pub(super) fn find(&self, name: Text<'_>, problems: &mut Problems) -> Option<usize> {
        let position = self.position(name.value);
        if position.is_none() {
            let some = if problems.is_full() { &[] } else { &*self.names };
            let known = some.iter().map(String::as_str).filter(|known| !known.is_empty());
            let help = match nearest(name.value, known) {
                Some(known) => format!("did you mean \"{known}\"?"),
                None if self.incomplete => return None,
                None if !self.scope.tenant.is_empty() => {
                    format!("add a [[{}]] with this name to this file: a tenant uses its own alone", self.what)
                }
                None => format!("add a [[{}]] with this name, or use the name of one that exists", self.what),
            };
            problems.add(name.at, format!("there is no {} named \"{}\"", self.what, name.shown)).help(help);
        }
        position.map(|position| self.scope.first + position)
    }
}

fn well_formed(what: &str, name: Text<'_>, problems: &mut Problems) {
    let known = |c: u8| c.is_ascii_alphanumeric() || b"-_.".contains(&c);
    if name.value.is_empty() || name.value.len() > NAME_BYTES_MAX || !name.value.bytes().all(known) {
        problems
            .add(name.at, format!("this is not a name for a {what}"))
            .help(format!("use 1 to {NAME_BYTES_MAX} of letters, digits, `-`, `_` and `.`"));
    }
}
