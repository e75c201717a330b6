//! Names that one part of a configuration gives and another uses. Not here: names of header fields (`field`).

use ahash::{HashMap, HashMapExt};

use super::nearest::nearest;
use super::report::{Place, Problems};
use super::section::{Section, Text};

/// The names of all listeners, routes or clusters, by position.
#[derive(Debug)]
pub(super) struct Names {
    /// `listener`, `route`, `cluster`
    what: &'static str,
    /// Empty where a section has no name.
    names: Vec<String>,
    /// Where each name stands first.
    first: HashMap<String, (usize, Place)>,
}

/// Longest name, bytes: names are metric labels.
const NAME_BYTES_MAX: usize = 64;

impl Names {
    /// Reads the names of `sections`; reports those that are badly formed or given twice.
    pub(super) fn read(what: &'static str, sections: &[Section<'_>], problems: &mut Problems) -> Self {
        let mut names = Vec::with_capacity(sections.len());
        let mut first: HashMap<String, (usize, Place)> = HashMap::with_capacity(sections.len());
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
        Self { what, names, first }
    }

    pub(super) fn get(&self, position: usize) -> &str {
        self.names.get(position).map_or("", String::as_str)
    }

    /// The position of the one that `name` refers to; reports it if there is none.
    pub(super) fn find(&self, name: Text<'_>, problems: &mut Problems) -> Option<usize> {
        let position = self.first.get(name.value).map(|(position, _)| *position);
        if position.is_none() {
            let known = self.names.iter().map(String::as_str).filter(|known| !known.is_empty());
            let help = match nearest(name.value, known) {
                Some(known) => format!("did you mean \"{known}\"?"),
                None => format!("add a [[{}]] with this name, or use the name of one that exists", self.what),
            };
            problems.add(name.at, format!("there is no {} named \"{}\"", self.what, name.shown)).help(help);
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
