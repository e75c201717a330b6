//! Reads values of a checked table, with the schema's defaults. Not here: problems of types and ranges (`check` reports them
//! before; a refused value reads as absent, since the configuration is refused anyway).

use std::path::Path;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::check::{size, unsigned};
use super::files::Document;
use super::report::SourceSpan;
use super::schema::{Kind, Preset, Table};
use super::unit;
use crate::route::template::first_variable;

/// One table of a file. An absent table reads as one without keys.
#[derive(Clone, Copy, Debug)]
pub(super) struct Section<'a> {
    document: &'a Document<'a>,
    /// Place of its header, or of an inline table.
    pub(super) at: SourceSpan,
    table: Option<&'a DeTable<'a>>,
    schema: &'static Table,
}

/// A string and its place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text<'a> {
    pub(super) value: &'a str,
    /// The value as it may be printed: if it comes from a reference, the reference.
    pub(super) shown: &'a str,
    pub(super) at: SourceSpan,
}

/// The value of a condition.
#[derive(Clone, Copy, Debug)]
pub(super) enum Condition<'a> {
    Exact(Text<'a>),
    Regex(Text<'a>),
    Present(bool),
}

impl<'a> Section<'a> {
    pub(super) fn new(
        document: &'a Document<'a>,
        at: SourceSpan,
        table: &'a DeTable<'a>,
        schema: &'static Table,
    ) -> Self {
        Self { document, at, table: Some(table), schema }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.node(name).is_some()
    }

    /// Directory to which paths in it are relative.
    pub(super) fn directory(&self) -> &'a Path {
        self.document.directory
    }

    /// Place of the value of `name`; of the table, if it is absent.
    pub(super) fn span(&self, name: &str) -> SourceSpan {
        self.node(name).map_or(self.at, |node| self.document.span(node))
    }

    /// Whether it holds a table under a key that it does not know, which is a problem of its own: anything could stand there.
    pub(super) fn has_unknown_tables(&self) -> bool {
        let tables = |value: &DeValue<'_>| value.is_table() || value.is_array();
        let mut entries = self.table.into_iter().flat_map(|table| table.iter());
        entries.any(|(name, node)| self.schema.key(name.get_ref()).is_none() && tables(node.get_ref()))
    }

    /// Whether it has a key that it does not know, which is a problem of its own.
    pub(super) fn has_unknown_keys(&self) -> bool {
        let mut names = self.table.into_iter().flat_map(|table| table.keys());
        names.any(|name| self.schema.key(name.get_ref()).is_none())
    }

    /// Every known key that is present, with the place of its value.
    pub(super) fn key_spans(&self) -> Vec<(&'static str, SourceSpan)> {
        let entries = self.table.into_iter().flat_map(|table| table.iter());
        let known = |name: &str| self.schema.key(name).map(|key| key.name);
        entries.filter_map(|(name, node)| Some((known(name.get_ref())?, self.document.span(node)))).collect()
    }

    /// The strings of the table, and of tables in it, in which variables of the request stand.
    pub(super) fn templates(&self) -> Vec<Text<'a>> {
        let mut found = Vec::new();
        let mut tables: Vec<_> = self.table.into_iter().collect();
        while let Some(table) = tables.pop() {
            for node in table.values() {
                match node.get_ref() {
                    DeValue::Table(table) => tables.push(table),
                    DeValue::String(text) if first_variable(text).is_some() => found.extend(self.as_text(node)),
                    _ => {}
                }
            }
        }
        found
    }

    /// The value of `name`.
    pub(super) fn node(&self, name: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        debug_assert!(self.schema.key(name).is_some(), "{} has no key {name} in its schema", self.schema.title);
        self.table?.get(name)
    }

    /// The default of `name`: in the schema, and in this role.
    pub(super) fn presets(&self, name: &str) -> (Preset, Preset) {
        let preset = self.schema.key(name).map_or(Preset::Optional(""), |key| key.preset);
        (preset, preset.of(self.document.role))
    }

    /// A table among its values.
    pub(super) fn below(&self, node: &'a Spanned<DeValue<'a>>, table: &'a DeTable<'a>, schema: &'static Table) -> Self {
        Self::new(self.document, self.document.span(node), table, schema)
    }

    /// The reference from which a value comes; None: it is no reference.
    pub(super) fn written(&self, node: &Spanned<DeValue<'_>>) -> Option<&'a str> {
        self.document.written(self.document.span(node))
    }

    pub(super) fn text(&self, name: &str) -> Option<Text<'a>> {
        self.as_text(self.node(name)?)
    }

    pub(super) fn word(&self, name: &str) -> &'a str {
        match (self.text(name), self.preset(name)) {
            (Some(text), _) => text.value,
            (None, Preset::Word(word)) => word,
            _ => "",
        }
    }

    pub(super) fn number(&self, name: &str) -> u64 {
        match (self.node(name).map(Spanned::get_ref), self.preset(name)) {
            (Some(DeValue::Integer(number)), _) => unsigned(number).unwrap_or(0),
            (_, Preset::Number(number)) => number,
            _ => 0,
        }
    }

    /// The number, or its default; None: it has neither, or an invalid value, which is another problem.
    pub(super) fn valid_number(&self, name: &str) -> Option<u64> {
        match (self.node(name).map(Spanned::get_ref), self.preset(name)) {
            (Some(DeValue::Integer(number)), _) => unsigned(number),
            (None, Preset::Number(number)) => Some(number),
            _ => None,
        }
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        match (self.node(name).map(Spanned::get_ref), self.preset(name)) {
            (Some(DeValue::Boolean(flag)), _) => *flag,
            (_, Preset::Flag(flag)) => flag,
            _ => false,
        }
    }

    pub(super) fn size(&self, name: &str) -> u64 {
        match (self.node(name).and_then(|node| size(node.get_ref())), self.preset(name)) {
            (Some(bytes), _) => bytes,
            (None, Preset::Size(bytes)) => bytes,
            _ => 0,
        }
    }

    pub(super) fn time(&self, name: &str) -> Duration {
        match (self.optional_time(name), self.preset(name)) {
            (Some(time), _) => time,
            (None, Preset::Time(time)) => time,
            _ => Duration::ZERO,
        }
    }

    pub(super) fn optional_time(&self, name: &str) -> Option<Duration> {
        unit::duration(self.text(name)?.value)
    }

    pub(super) fn texts(&self, name: &str) -> Vec<Text<'a>> {
        if self.has(name) {
            return self.items(name).iter().filter_map(|item| self.as_text(item)).collect();
        }
        match self.preset(name) {
            Preset::Texts(texts) => texts.iter().map(|text| Text { value: text, shown: text, at: self.at }).collect(),
            _ => Vec::new(),
        }
    }

    /// Names and strings, in the order of the file.
    pub(super) fn fields(&self, name: &str) -> Vec<(Text<'a>, Text<'a>)> {
        let entries = self.entries(name).into_iter();
        entries.filter_map(|(name, value)| Some((name, self.as_text(value)?))).collect()
    }

    /// Names and conditions, in the order of the file.
    pub(super) fn conditions(&self, name: &str) -> Vec<(Text<'a>, Condition<'a>)> {
        let entries = self.entries(name).into_iter();
        entries.filter_map(|(name, value)| Some((name, self.as_condition(value)?))).collect()
    }

    /// The table under `name`; None: there is none, or something else, which is another problem.
    pub(super) fn table(&self, name: &str) -> Option<Section<'a>> {
        Some(self.one(name)).filter(|section| section.table.is_some())
    }

    /// The table under `name`.
    pub(super) fn one(&self, name: &str) -> Section<'a> {
        let found = self.node(name).and_then(|node| Some((self.document.span(node), node.get_ref().as_table()?)));
        let (at, table) = found.map_or((self.at, None), |(at, table)| (at, Some(table)));
        Section { document: self.document, at, table, schema: self.inner(name) }
    }

    /// The tables of the array under `name`. A single table, which is another problem, counts as one: what refers to it is right.
    pub(super) fn many(&self, name: &str) -> Vec<Section<'a>> {
        let schema = self.inner(name);
        let items = match self.node(name) {
            Some(node) if node.get_ref().is_table() => std::slice::from_ref(node),
            _ => self.items(name),
        };
        let sections = items.iter().filter_map(|item| {
            Some(Section {
                document: self.document,
                at: self.document.span(item),
                table: Some(item.get_ref().as_table()?),
                schema,
            })
        });
        sections.collect()
    }

    /// How many items the array under `name` has, of whatever type; None: there is no array, which is another problem.
    pub(super) fn length(&self, name: &str) -> Option<usize> {
        match self.node(name)?.get_ref() {
            DeValue::Array(items) => Some(items.len()),
            _ => None,
        }
    }

    /// The strings and tables of the array under `name`.
    pub(super) fn texts_or_tables(&self, name: &str) -> Vec<Result<Text<'a>, Section<'a>>> {
        let schema = self.inner(name);
        let items = self.items(name).iter().filter_map(|item| match item.get_ref() {
            DeValue::Table(table) => Some(Err(Section::new(self.document, self.document.span(item), table, schema))),
            _ => Some(Ok(self.as_text(item)?)),
        });
        items.collect()
    }

    fn preset(&self, name: &str) -> Preset {
        self.presets(name).1
    }

    fn inner(&self, name: &str) -> &'static Table {
        match self.schema.key(name).map(|key| &key.kind) {
            Some(Kind::One(table) | Kind::Many(table) | Kind::TextsOr(table)) => table,
            _ => self.schema,
        }
    }

    fn items(&self, name: &str) -> &'a [Spanned<DeValue<'a>>] {
        match self.node(name).map(Spanned::get_ref) {
            Some(DeValue::Array(items)) => items,
            _ => &[],
        }
    }

    fn entries(&self, name: &str) -> Vec<(Text<'a>, &'a Spanned<DeValue<'a>>)> {
        let table = self.node(name).and_then(|node| node.get_ref().as_table());
        let entries = table.into_iter().flat_map(|table| table.iter());
        let mut entries: Vec<_> = entries.map(|(name, value)| (self.key(name), value)).collect();
        entries.sort_by_key(|(name, _)| name.at);
        entries
    }

    fn as_text(&self, node: &'a Spanned<DeValue<'a>>) -> Option<Text<'a>> {
        let (value, at) = (node.get_ref().as_str()?, self.document.span(node));
        Some(Text { value, shown: self.document.written(at).unwrap_or(value), at })
    }

    fn key(&self, name: &'a Spanned<DeString<'a>>) -> Text<'a> {
        Text { value: name.get_ref(), shown: name.get_ref(), at: self.document.span(name) }
    }

    fn as_condition(&self, node: &'a Spanned<DeValue<'a>>) -> Option<Condition<'a>> {
        let Some(table) = node.get_ref().as_table() else { return self.as_text(node).map(Condition::Exact) };
        match (table.get("regex"), table.get("present").map(Spanned::get_ref)) {
            (Some(regex), None) => self.as_text(regex).map(Condition::Regex),
            (None, Some(DeValue::Boolean(present))) => Some(Condition::Present(*present)),
            _ => None,
        }
    }
}
