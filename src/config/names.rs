//! Names that one part of a configuration gives and another uses. Not here: names of header fields (`field`).

use super::nearest::nearest;
use super::report::{Place, Problems};
use super::section::{Section, Text};

/// The names of all listeners, routes or clusters, by position.
#[derive(Debug)]
pub(super) struct Names {
    /// `listener`, `route`, `cluster`
    what: &'static str,
    /// Empty where a section has no name.
    names: Vec<(String, Place)>,
}

/// Longest name, bytes: names are metric labels.
const NAME_BYTES_MAX: usize = 64;

impl Names {
    /// Reads the names of `sections`; reports those that are badly formed or given twice.
    pub(super) fn read(what: &'static str, sections: &[Section<'_>], problems: &mut Problems) -> Self {
        let mut names: Vec<(String, Place)> = Vec::with_capacity(sections.len());
        for (position, section) in sections.iter().enumerate() {
            let (name, at) = match section.text("name") {
                Some(name) => {
                    well_formed(what, name, problems);
                    (name.value.to_owned(), name.at)
                }
                None if what == "route" => (format!("route-{}", position + 1), section.at),
                None => (String::new(), section.at),
            };
            if let Some((_, first)) = names.iter().find(|(other, _)| !name.is_empty() && *other == name) {
                problems
                    .add(at, format!("two {what}s are named \"{name}\""))
                    .note(*first, "the first one is here")
                    .help("give each a name of its own");
            }
            names.push((name, at));
        }
        Self { what, names }
    }

    pub(super) fn get(&self, position: usize) -> &str {
        self.names.get(position).map_or("", |(name, _)| name)
    }

    /// The position of the one that `name` refers to; reports it if there is none.
    pub(super) fn find(&self, name: Text<'_>, problems: &mut Problems) -> Option<usize> {
        let position = self.names.iter().position(|(known, _)| known == name.value);
        if position.is_none() {
            let known = self.names.iter().map(|(known, _)| known.as_str()).filter(|known| !known.is_empty());
            let help = match nearest(name.value, known) {
                Some(known) => format!("did you mean \"{known}\"?"),
                None => format!("add a [[{}]] with this name, or use the name of one that exists", self.what),
            };
            problems.add(name.at, format!("there is no {} named \"{}\"", self.what, name.value)).help(help);
        }
        position
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
