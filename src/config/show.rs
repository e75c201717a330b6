//! The configuration in effect, as TOML: every key with its value and the origin of the value.
//! Not here: the default file (`default_file`).

use std::fmt::Write;
use std::path::Path;

use toml::Spanned;
use toml::de::DeValue;

use super::check::unsigned;
use super::cluster_tables::SYSTEM;
use super::external::External;
use super::files::{self, Document};
use super::layer_tables::GROUP;
use super::layers::{Group, Grouped, Layers, Origin};
use super::listener_tables::LISTENER;
use super::report::{self, Problems, Source};
use super::schema::{Key, Kind, Preset, Table};
use super::section::{Edits, Found, Section, Text};
use super::tables::{ROOT, ROUTE};
use super::tcp::{self, Listeners};
use super::{Config, Loader, Report, route, socket};
use crate::route::Protocol;

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
        let roots: Vec<_> = documents.iter().map(|document| document.section(&ROOT)).collect();
        let layers = Layers::of(&roots);
        let listeners = Listeners::read(&layers.listeners(&roots), false, &mut problems);
        let mut show =
            Show { sources, documents: &documents, listeners, out: String::new(), grouped: false, tcp: false };
        show.root(&roots, &layers);
        Ok(show.out)
    }
}

struct Show<'a> {
    sources: &'a [Source],
    documents: &'a [Document<'a>],
    listeners: Listeners,
    out: String,
    /// The routes that are written stand in a group.
    grouped: bool,
    /// The listener or route that is written is one of TCP.
    tcp: bool,
}

impl<'a> Show<'a> {
    /// Writes a table: its keys, then the tables below it. The root is one table in several files.
    fn body(&mut self, parts: &[Section<'a>], schema: &'static Table) {
        let Some(first) = parts.first() else { return };
        let said = schema.keys.iter().filter(|key| !self.tcp || tcp::applies(schema, key.name));
        let (tables, keys): (Vec<&Key>, Vec<&Key>) = said.partition(|key| match &key.kind {
            Kind::One(inner) | Kind::Many(inner) => inner.title.starts_with('['),
            Kind::FlagOrOne(_) => first.flag(key.name) || first.table(key.name).is_some(),
            _ => false,
        });
        for key in keys {
            self.key(in_effect(*first, key, schema), key);
        }
        for key in tables {
            if std::ptr::eq(schema, &ROUTE) && route::is_idle(*first, key.name) {
                continue;
            }
            match &key.kind {
                Kind::One(inner) | Kind::FlagOrOne(inner) => {
                    self.titled(in_effect(*first, key, schema).one(key.name), inner)
                }
                Kind::Many(inner) => {
                    for section in parts.iter().flat_map(|part| part.many(key.name)) {
                        self.titled(section, inner);
                    }
                }
                _ => {}
            }
        }
    }

    /// Writes the whole: the root, in which every item has what it inherits.
    fn root(&mut self, roots: &[Section<'a>], layers: &'a Layers<'a>) {
        for key in ROOT.keys {
            match (key.name, &key.kind) {
                // Each of its values stands where it is in effect.
                ("defaults" | "group", _) => {}
                ("listener", Kind::Many(inner)) => {
                    for listener in layers.listeners(roots) {
                        self.tcp = tcp::of_listener(listener) == Protocol::Tcp;
                        self.titled(listener, inner);
                    }
                    self.tcp = false;
                }
                ("cluster", Kind::Many(inner)) => {
                    layers.clusters(roots).into_iter().for_each(|cluster| self.titled(cluster, inner));
                }
                ("route", Kind::Many(inner)) => self.routes(&layers.routes(roots), inner),
                (_, Kind::Many(inner)) => {
                    let sections: Vec<_> = roots.iter().flat_map(|part| part.many(key.name)).collect();
                    sections.into_iter().for_each(|section| self.titled(section, inner));
                }
                (_, Kind::One(inner)) => {
                    let Some(first) = roots.first() else { continue };
                    if matches!(key.preset, Preset::Absent) && !first.has(key.name) {
                        continue;
                    }
                    self.titled(first.one(key.name), inner);
                }
                _ => {
                    let Some(first) = roots.first() else { continue };
                    self.key(*first, key);
                }
            }
        }
    }

    /// Writes routes. Those of a group stand below its name and its tenant.
    fn routes(&mut self, routes: &[Grouped<'a>], schema: &'static Table) {
        let mut current: Option<&Group<'_>> = None;
        for Grouped { route, group } in routes {
            if let Some(group) = group.filter(|group| current.is_none_or(|current| !std::ptr::eq(current, *group))) {
                let _ = writeln!(self.out, "\n[[group]]");
                for key in GROUP.keys.iter().filter(|key| ["name", "tenant"].contains(&key.name)) {
                    self.key(group.section, key);
                }
            }
            current = *group;
            self.grouped = group.is_some();
            self.tcp = tcp::of_route(*route, &self.listeners) == Protocol::Tcp;
            self.titled(*route, schema);
        }
        (self.grouped, self.tcp) = (false, false);
    }

    /// Writes a table with its header, unless it would be empty.
    fn titled(&mut self, section: Section<'a>, schema: &'static Table) {
        let start = self.out.len();
        let title =
            if self.grouped { schema.title.replacen("[route", "[group.route", 1) } else { schema.title.to_owned() };
        let _ = writeln!(self.out, "\n{title}");
        let empty = self.out.len();
        self.body(&[section], schema);
        if self.out.len() == empty {
            self.out.truncate(start);
        }
    }

    fn key(&mut self, section: Section<'a>, key: &'static Key) {
        let Some((value, origin)) = self.found(section, key).or_else(|| default(section, key.name)) else { return };
        let line = format!("{} = {value}", key.name);
        let _ = writeln!(self.out, "{line:ORIGIN_COLUMN$}  # {origin}");
    }

    /// The value of a key, and where it comes from; None: it is absent.
    fn found(&self, section: Section<'a>, key: &'static Key) -> Option<(String, String)> {
        let all: Vec<_> = section.all(key.name).collect();
        let nearest = *all.first()?;
        let edits = |table: &Table| ["request_headers", "response_headers"].iter().any(|it| table.title.ends_with(it));
        let (value, merged) = match &key.kind {
            Kind::One(inner) if edits(inner) => (self.edits(&section.edits(key.name), section), true),
            Kind::One(inner) => (self.inline(section.one(key.name), inner), true),
            Kind::RatioOrOne(inner) if nearest.table().is_some() => (self.inline(section.one(key.name), inner), true),
            Kind::Fields | Kind::Conditions => (self.fields(&section.entries(key.name), &key.kind, section), true),
            kind => (self.value(nearest.node, kind, section.holder(nearest)), false),
        };
        let origins = all.iter().take(if merged { all.len() } else { 1 }).map(|found| {
            let place = report::line(self.sources, found.at());
            match found.layer.map(|layer| layer.origin) {
                None => place,
                Some(Origin::Defaults(title)) => format!("{title}, {place}"),
                Some(Origin::Group(name)) => format!("group {name}, {place}"),
            }
        });
        Some((value, origins.collect::<Vec<_>>().join("; ")))
    }

    fn fields(&self, entries: &[(Text<'a>, Found<'a>)], kind: &'static Kind, owner: Section<'a>) -> String {
        let entry = |(name, found): &(Text<'a>, Found<'a>)| {
            format!("{} = {}", bare(name.value), self.value(found.node, kind, owner.holder(*found)))
        };
        braced(entries.iter().map(entry).collect())
    }

    fn edits(&self, edits: &Edits<'a>, owner: Section<'a>) -> String {
        let mut parts = Vec::new();
        for (name, entries) in [("set", &edits.set), ("add", &edits.add)] {
            if !entries.is_empty() {
                parts.push(format!("{name} = {}", self.fields(entries, &Kind::Fields, owner)));
            }
        }
        if !edits.remove.is_empty() {
            let names = edits.remove.iter().map(|found| self.value(found.node, &Kind::Text, owner.holder(*found)));
            parts.push(format!("remove = [{}]", names.collect::<Vec<_>>().join(", ")));
        }
        braced(parts)
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
            (
                DeValue::Table(table),
                Kind::One(inner)
                | Kind::FlagOrOne(inner)
                | Kind::RatioOrOne(inner)
                | Kind::Many(inner)
                | Kind::TextsOr(inner),
            ) => self.inline(owner.below(node, table, inner), inner),
            (DeValue::Table(table), kind) => {
                let entries = table.iter().map(|(name, item)| {
                    let value = self.value(item, kind, owner);
                    format!("{} = {value}", bare(name.get_ref()))
                });
                braced(entries.collect())
            }
            (DeValue::Float(number), _) => number.as_str().to_owned(),
            (DeValue::Datetime(_), _) => String::new(),
        }
    }

    fn inline(&self, section: Section<'a>, schema: &'static Table) -> String {
        let entries = schema.keys.iter().filter_map(|key| {
            let (value, _) = self.found(section, key).or_else(|| default(section, key.name))?;
            Some(format!("{} = {value}", key.name))
        });
        braced(entries.collect())
    }

    /// A string as it is written; paths become relative to the first file.
    fn text(&self, node: &Spanned<DeValue<'_>>, text: &str, kind: &Kind, owner: Section<'_>) -> String {
        let written = owner.written(node).unwrap_or(text);
        let named = match (written.strip_prefix('@'), kind) {
            (Some(named), _) if !named.starts_with('@') => Some(("@", named)),
            (_, Kind::Path | Kind::PathOrPaths) if written != SYSTEM => Some(("", written)),
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
fn default(section: Section<'_>, name: &str) -> Option<(String, String)> {
    let (own, holds) = section.presets(name);
    let origin = if matches!(own, Preset::ByRole(_)) { "default of the role" } else { "default" };
    holds.is_default().then(|| (holds.example(), origin.to_owned()))
}

/// The section in which a key is looked up: what would do nothing is not inherited.
fn in_effect<'a>(section: Section<'a>, key: &Key, schema: &'static Table) -> Section<'a> {
    if std::ptr::eq(schema, &ROUTE) {
        return route::in_effect(section, key.name);
    }
    let is_listener = std::ptr::eq(schema, &LISTENER);
    let bind = section.knows("bind").then(|| section.text("bind")?.value.parse().ok()).flatten();
    bind.filter(|_| is_listener).map_or(section, |bind| socket::in_effect(section, key.name, &bind))
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
