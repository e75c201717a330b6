//! The documented default file, written out of the tables. Not here: the tables.

use std::fmt::Write;

use super::schema::{Key, Kind, Preset, Table};
use super::tables::ROOT;

/// The documented default file: every key with its default, or commented out with an example where it has none.
/// The text of `conf/cairn.toml`.
#[must_use]
pub fn document() -> String {
    let mut text = String::from(HEADER);
    render(&ROOT, &mut text);
    text
}

const HEADER: &str = "\
# Every key of cairn with its default. A key that is commented out has none, or one for each role: it shows an example.
# In values ${NAME} stands for a variable of the environment, and @file for the content of a file, relative to this one.
# Durations: \"250ms\", \"5s\", \"1m\", \"1h\". Sizes: \"16KiB\", \"1MiB\", or bytes. Unknown keys are errors.
# `cairn check -c FILE` validates; `cairn explain -c FILE GET http://host/path` says what a request would meet.

";

/// Column of the comments.
const COMMENT_COLUMN: usize = 44;

fn render(table: &Table, out: &mut String) {
    for key in table.keys {
        match &key.kind {
            Kind::One(inner) | Kind::FlagOrOne(inner) | Kind::Many(inner) if inner.title.starts_with('[') => {
                out.push('\n');
                if let Preset::Example(text) = key.preset {
                    let _ = write!(out, "# {}\n{}", inner.doc, commented(text));
                    continue;
                }
                if !inner.doc.is_empty() {
                    let _ = writeln!(out, "# {}", inner.doc);
                }
                let mut section = format!("{}\n", inner.title);
                render(inner, &mut section);
                if matches!(key.preset, Preset::Absent) {
                    section = commented(&section);
                }
                out.push_str(&section);
            }
            _ => render_key(table, key, out),
        }
    }
}

/// `section` with every line as a comment. Lines that are comments stay as they are.
fn commented(section: &str) -> String {
    let mark =
        |line: &str| if line.is_empty() || line.starts_with('#') { line.to_owned() } else { format!("# {line}") };
    section.lines().map(|line| mark(line) + "\n").collect()
}

fn render_key(table: &Table, key: &Key, out: &mut String) {
    // The first key of a required choice is not a comment, so that the file is valid.
    let chosen = table.choices.iter().any(|choice| choice.required && choice.keys.first() == Some(&key.name));
    let mark = if matches!(key.preset, Preset::Optional(_) | Preset::ByRole(_)) && !chosen { "# " } else { "" };
    let value = key.preset.example();
    let line = format!("{mark}{} = {value}", key.name);
    let _ = if line.len() < COMMENT_COLUMN {
        writeln!(out, "{line:COMMENT_COLUMN$}# {}", key.doc)
    } else {
        writeln!(out, "# {}: {}\n{line}", key.name, key.doc)
    };
    if let Kind::One(inner) | Kind::RatioOrOne(inner) | Kind::Many(inner) | Kind::TextsOr(inner) = &key.kind {
        for key in inner.keys {
            let preset = key.preset;
            let default = if preset.is_default() { format!("; default {}", preset.example()) } else { String::new() };
            let _ = writeln!(out, "#   {:13} {}{default}", key.name, key.doc);
        }
    }
}

/// Every key that is commented out in [`document`], for the test that each example is accepted; not those of tables that are
/// comments as a whole.
#[cfg(test)]
pub(super) fn examples() -> Vec<String> {
    let document = document();
    let mut absent = false;
    let mut examples = Vec::new();
    for line in document.lines() {
        let comment = line.strip_prefix("# ");
        if comment.unwrap_or(line).starts_with('[') {
            absent = comment.is_some();
        }
        examples.extend(comment.filter(|text| !absent && text.contains(" = ")).map(str::to_owned));
    }
    examples
}
