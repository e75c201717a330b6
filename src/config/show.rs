//! The configuration in effect, as TOML: every key with its value and the origin of the value.
//! Not here: the default file (`default_file`).

use std::fmt::Write;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::check::unsigned;
use super::external::External;
use super::files::{self, Document};
use super::report::{self, Problems, Source};
use super::schema::{Kind, Preset, Table};
use super::section::Section;
use super::tables::ROOT;
use super::{Config, Loader, Report};

/// Least column of the origins.
const ORIGIN_COLUMN: usize = 42;

/// The operator's files as one: each value with `default`, `default of the role` or `FILE:LINE`. References stay references, paths
/// are relative to where `cairn.toml` stands. Files of tenants are named, not shown.
///
/// # Errors
/// All problems of the operator's own files.
pub fn show(path: &Path) -> Result<String, Report> {
    Loader::new(path.to_owned()).load()?.show()
}

impl Config {
    /// [`show`] of a loaded configuration, with its files as they were then.
    ///
    /// # Errors
    /// A file or variable to which it refers is gone.
    pub fn show(&self) -> Result<String, Report> {
        let sources = &self.sources[..self.root_sources];
        let mut problems = Problems::default();
        let mut documents = files::parse(sources, &mut problems);
        let mut external = External::default();
        for document in &mut documents {
            document.role = self.role;
            document.replace_references(&mut external, None, &mut problems);
        }
        // Files and variables may have changed since the load.
        if !problems.is_empty() {
            return Err(Report::new(sources, problems));
        }
        let mut show = Show { sources, documents: &documents, out: String::new() };
        let roots: Vec<_> = documents.iter().map(|document| document.section(&ROOT)).collect();
        show.body(&roots, &ROOT);
        Ok(show.out)
    }
}

struct Show<'a> {
    sources: &'a [Source],
    documents: &'a [Document<'a>],
    out: String,
}

impl<'a> Show<'a> {
    /// Writes a table: its keys, then the tables below it. The root is one table in several files.
    fn body(&mut self, parts: &[Section<'a>], schema: &'static Table) {
        let Some(first) = parts.first() else { return };
        let (tables, keys): (Vec<_>, Vec<_>) = schema
            .keys
            .iter()
            .partition(|key| matches!(&key.kind, Kind::One(inner) | Kind::Many(inner) if inner.title.starts_with('[')));
        for key in keys {
            self.key(*first, key.name, &key.kind);
        }
        for key in tables {
            match &key.kind {
                Kind::One(inner) => self.titled(first.one(key.name), inner),
                Kind::Many(inner) => {
                    for section in parts.iter().flat_map(|part| part.many(key.name)) {
                        self.titled(section, inner);
                    }
                }
                _ => {}
            }
        }
    }

    /// Writes a table with its header, unless it would be empty.
    fn titled(&mut self, section: Section<'a>, schema: &'static Table) {
        let start = self.out.len();
        let _ = writeln!(self.out, "\n{}", schema.title);
        let empty = self.out.len();
        self.body(&[section], schema);
        if self.out.len() == empty {
            self.out.truncate(start);
        }
    }

    fn key(&mut self, section: Section<'a>, name: &'static str, kind: &'static Kind) {
        let (value, origin) = match section.node(name) {
            Some(node) => {
                let span = section.span(name);
                (self.value(node, kind, section), report::line(self.sources, span))
            }
            None => {
                let Some((value, origin)) = default(section, name) else { return };
                (value, origin.to_owned())
            }
        };
        let line = format!("{name} = {value}");
        let _ = writeln!(self.out, "{line:ORIGIN_COLUMN$}  # {origin}");
    }

    /// A value on one line, with the defaults of inline tables.
    fn value(&self, node: &'a Spanned<DeValue<'a>>, kind: &'static Kind, owner: Section<'a>) -> String {
        match (node.get_ref(), kind) {
            (DeValue::String(text), kind) => self.text(node, text, kind, owner),
            (DeValue::Integer(number), _) => unsigned(number).unwrap_or_default().to_string(),
            (DeValue::Boolean(flag), _) => flag.to_string(),
            (DeValue::Array(items), kind) => {
                let items = items.iter().map(|item| self.value(item, kind, owner)).collect::<Vec<_>>();
                format!("[{}]", items.join(", "))
            }
            (DeValue::Table(table), Kind::One(inner) | Kind::Many(inner) | Kind::TextsOr(inner)) => {
                self.inline(owner.below(node, table, inner), table, inner)
            }
            (DeValue::Table(table), kind) => {
                let entries = table.iter().map(|(name, item)| {
                    let value = self.value(item, kind, owner);
                    format!("{} = {value}", bare(name.get_ref()))
                });
                braced(entries.collect())
            }
            (DeValue::Float(_) | DeValue::Datetime(_), _) => String::new(),
        }
    }

    fn inline(&self, section: Section<'a>, table: &'a DeTable<'a>, schema: &'static Table) -> String {
        let entries = schema.keys.iter().filter_map(|key| {
            let value = match table.get(key.name) {
                Some(node) => self.value(node, &key.kind, section),
                None => default(section, key.name)?.0,
            };
            Some(format!("{} = {value}", key.name))
        });
        braced(entries.collect())
    }

    /// A string as it is written; paths become relative to the first file.
    fn text(&self, node: &Spanned<DeValue<'_>>, text: &str, kind: &Kind, owner: Section<'_>) -> String {
        let written = owner.written(node).unwrap_or(text);
        let named = match (written.strip_prefix('@'), kind) {
            (Some(named), _) if !named.starts_with('@') => Some(("@", named)),
            (_, Kind::Path) => Some(("", written)),
            _ => None,
        };
        let base = self.documents.first().map_or(Path::new(""), |first| first.directory);
        match (named, owner.directory().strip_prefix(base)) {
            (Some((mark, named)), Ok(below)) if !named.starts_with("${") => {
                quoted(&format!("{mark}{}", below.join(named).display()))
            }
            _ => quoted(written),
        }
    }
}

/// The default of an absent key, and its origin.
fn default(section: Section<'_>, name: &str) -> Option<(String, &'static str)> {
    let (own, holds) = section.presets(name);
    let origin = if matches!(own, Preset::ByRole(_)) { "default of the role" } else { "default" };
    holds.is_default().then(|| (holds.example(), origin))
}

fn braced(entries: Vec<String>) -> String {
    if entries.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", entries.join(", ")) }
}

/// A key of TOML, bare if possible.
fn bare(name: &str) -> String {
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"-_".contains(&c);
    if !name.is_empty() && name.bytes().all(plain) { name.to_owned() } else { quoted(name) }
}

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
