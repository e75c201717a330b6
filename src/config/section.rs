//! Reads values of a checked table, with the schema's defaults. Not here: problems of types and ranges (`check` reports them
//! before; a refused value reads as absent, since the configuration is refused anyway).

use std::path::Path;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::check::{ratio, size, unsigned};
use super::files::Document;
use super::layers::Layer;
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
    /// Where the keys come from that it does not have, the nearest first.
    layers: &'a [Layer<'a>],
    /// The key under which it stands in the layers; None: it is what they are made for.
    under: Option<&'static str>,
}

/// A value, and what holds it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found<'a> {
    document: &'a Document<'a>,
    pub(super) node: &'a Spanned<DeValue<'a>>,
    /// The layer that it is inherited from; None: it stands in the section itself.
    pub(super) layer: Option<Layer<'a>>,
}

impl<'a> Found<'a> {
    pub(super) fn at(&self) -> SourceSpan {
        self.document.span(self.node)
    }

    /// Directory to which a path is relative.
    pub(super) fn directory(&self) -> &'a Path {
        self.document.directory
    }

    pub(super) fn text(&self) -> Option<Text<'a>> {
        as_text(self.document, self.node)
    }

    pub(super) fn table(&self) -> Option<&'a DeTable<'a>> {
        self.node.get_ref().as_table()
    }

    fn items(&self) -> &'a [Spanned<DeValue<'a>>] {
        match self.node.get_ref() {
            DeValue::Array(items) => items,
            _ => &[],
        }
    }
}

/// Names and values.
type Entries<'a> = Vec<(Text<'a>, Found<'a>)>;

/// Edits of header fields, those of the layers first.
#[derive(Clone, Debug, Default)]
pub(super) struct Edits<'a> {
    pub(super) set: Entries<'a>,
    pub(super) add: Entries<'a>,
    pub(super) remove: Vec<Found<'a>>,
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
        Self { document, at, table: Some(table), schema, layers: &[], under: None }
    }

    /// The same section, which has what it lacks from `layers`.
    pub(super) fn over(self, layers: &'a [Layer<'a>]) -> Self {
        Self { layers, ..self }
    }

    /// The same section without what it inherits.
    pub(super) fn alone(self) -> Self {
        self.over(&[])
    }

    /// Bytes of all that it may inherit, as if it were written in the section.
    pub(super) fn inheritable_bytes(&self) -> u64 {
        let of_layer = |layer: &Layer<'a>| {
            let entries = layer.section.table.into_iter().flat_map(|table| table.iter());
            let given =
                entries.filter(|(name, _)| self.schema.key(name.get_ref()).is_some() && layer.gives(name.get_ref()));
            given.map(|(name, node)| name.get_ref().len() as u64 + bytes(node)).sum::<u64>()
        };
        self.layers.iter().map(of_layer).sum()
    }

    /// The value of `name`, its own or inherited.
    pub(super) fn find(&self, name: &str) -> Option<Found<'a>> {
        self.all(name).next()
    }

    /// The values of `name` in the section itself and in all layers, the nearest first.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = Found<'a>> {
        debug_assert!(self.schema.key(name).is_some(), "{} has no key {name} in its schema", self.schema.title);
        let own = self.table.map(|table| (self.document, table, None));
        let inherited = self.layers.iter().filter_map(|layer| {
            let holder = if layer.gives(self.under.unwrap_or(name)) { layer.section } else { return None };
            let table = match self.under {
                Some(key) => holder.table?.get(key)?.get_ref().as_table()?,
                None => holder.table?,
            };
            Some((holder.document, table, Some(*layer)))
        });
        // Of keys that exclude each other, a nearer one hides the farther ones.
        let rivals =
            self.schema.choices.iter().find(|choice| choice.keys.contains(&name)).map_or(&[][..], |it| it.keys);
        let mut found = Vec::new();
        for (document, table, layer) in own.into_iter().chain(inherited) {
            found.extend(table.get(name).map(|node| Found { document, node, layer }));
            if rivals.iter().any(|rival| table.contains_key(*rival)) {
                break;
            }
        }
        found.into_iter()
    }

    /// The table that it is of.
    pub(super) fn schema(&self) -> &'static Table {
        self.schema
    }

    /// Whether its schema has a key `name`.
    pub(super) fn knows(&self, name: &str) -> bool {
        self.schema.key(name).is_some()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// Directory to which paths in it are relative.
    pub(super) fn directory(&self) -> &'a Path {
        self.document.directory
    }

    /// Place of the value of `name`; of the table, if it is absent.
    pub(super) fn span(&self, name: &str) -> SourceSpan {
        self.find(name).map_or(self.at, |found| found.at())
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
        self.schema.keys.iter().filter_map(|key| Some((key.name, self.find(key.name)?.at()))).collect()
    }

    /// The strings under `name`, and in tables below it, in which variables of the request stand.
    pub(super) fn templates(&self, name: &str) -> Vec<Text<'a>> {
        let mut texts = Vec::new();
        let mut left: Vec<_> = self.all(name).collect();
        while let Some(found) = left.pop() {
            match found.node.get_ref() {
                DeValue::Table(table) => left.extend(table.values().map(|node| Found { node, ..found })),
                DeValue::String(text) if first_variable(text).is_some() => texts.extend(found.text()),
                _ => {}
            }
        }
        texts
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

    /// The section as if it stood where the value was found.
    pub(super) fn holder(&self, found: Found<'a>) -> Self {
        Self { document: found.document, ..self.alone() }
    }

    /// The reference from which a value comes; None: it is no reference.
    pub(super) fn written(&self, node: &Spanned<DeValue<'_>>) -> Option<&'a str> {
        self.document.written(self.document.span(node))
    }

    pub(super) fn text(&self, name: &str) -> Option<Text<'a>> {
        let found = self.find(name)?;
        as_text(found.document, found.node)
    }

    pub(super) fn word(&self, name: &str) -> &'a str {
        match (self.text(name), self.preset(name)) {
            (Some(text), _) => text.value,
            (None, Preset::Word(word)) => word,
            _ => "",
        }
    }

    pub(super) fn number(&self, name: &str) -> u64 {
        match (self.value(name), self.preset(name)) {
            (Some(DeValue::Integer(number)), _) => unsigned(number).unwrap_or(0),
            (_, Preset::Number(number)) => number,
            _ => 0,
        }
    }

    /// The number, or its default; None: it has neither, or an invalid value, which is another problem.
    pub(super) fn valid_number(&self, name: &str) -> Option<u64> {
        match (self.value(name), self.preset(name)) {
            (Some(DeValue::Integer(number)), _) => unsigned(number),
            (None, Preset::Number(number)) => Some(number),
            _ => None,
        }
    }

    /// The fraction, or its default; None: it has neither, or a table, or an invalid value.
    pub(super) fn ratio(&self, name: &str) -> Option<f64> {
        match (self.value(name), self.preset(name)) {
            (Some(value), _) => ratio(value),
            (None, Preset::Ratio(number)) => Some(number),
            _ => None,
        }
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        match (self.value(name), self.preset(name)) {
            (Some(DeValue::Boolean(flag)), _) => *flag,
            (_, Preset::Flag(flag)) => flag,
            _ => false,
        }
    }

    pub(super) fn size(&self, name: &str) -> u64 {
        match (self.value(name).and_then(size), self.preset(name)) {
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
        if let Some(found) = self.find(name) {
            let one = found.text().into_iter();
            return one.chain(found.items().iter().filter_map(|item| as_text(found.document, item))).collect();
        }
        match self.preset(name) {
            Preset::Texts(texts) => texts.iter().map(|text| Text { value: text, shown: text, at: self.at }).collect(),
            _ => Vec::new(),
        }
    }

    /// Names and strings, in the order of the file.
    pub(super) fn fields(&self, name: &str) -> Vec<(Text<'a>, Text<'a>)> {
        texts(&self.entries(name))
    }

    /// Names and conditions, in the order of the file.
    pub(super) fn conditions(&self, name: &str) -> Vec<(Text<'a>, Condition<'a>)> {
        let entries = self.entries(name).into_iter();
        entries.filter_map(|(name, value)| Some((name, as_condition(value)?))).collect()
    }

    /// Names and values of the table under `name`, in the order of the file. Each name is that of the nearest layer which has it; those
    /// of header fields are the same in any letter case.
    pub(super) fn entries(&self, name: &str) -> Entries<'a> {
        let mut entries: Entries<'a> = Vec::new();
        let fields = name == "headers";
        let same = |one: &str, other: &str| one == other || fields && one.eq_ignore_ascii_case(other);
        for found in self.all(name) {
            let nearer = entries.len();
            for (name, node) in found.table().into_iter().flat_map(|table| table.iter()) {
                let name = key_text(found.document, name);
                if !entries[..nearer].iter().any(|(nearer, _)| same(nearer.value, name.value)) {
                    entries.push((name, Found { node, ..found }));
                }
            }
        }
        entries.sort_by_key(|(name, _)| name.at);
        entries
    }

    /// The edits of header fields under `name`. Those of all layers add up: what is set or added in one place takes the place of what
    /// farther ones do with the same field, and so does what is removed.
    pub(super) fn edits(&self, name: &str) -> Edits<'a> {
        let schema = self.inner(name);
        let mut edits = Edits::default();
        let all: Vec<_> = self.all(name).collect();
        for found in all.into_iter().rev() {
            let Some(table) = found.table() else { continue };
            let layer = Self::new(found.document, found.at(), table, schema);
            let (set, add) = (layer.entries("set"), layer.entries("add"));
            let remove = layer.find("remove").map_or(&[][..], |found| found.items());
            let remove: Vec<_> = remove.iter().map(|node| Found { node, ..found }).collect();
            let same = |one: &str, other: &str| one.eq_ignore_ascii_case(other);
            let named = |fields: &Entries<'a>, name: &str| fields.iter().any(|(own, _)| same(own.value, name));
            let removed = |name: &str| remove.iter().filter_map(Found::text).any(|text| same(text.value, name));
            edits.set.retain(|(name, _)| !named(&set, name.value) && !removed(name.value));
            edits.add.retain(|(name, _)| !named(&set, name.value) && !named(&add, name.value) && !removed(name.value));
            edits.remove.retain(|found| !found.text().is_some_and(|text| removed(text.value)));
            edits.set.extend(set);
            edits.add.extend(add);
            edits.remove.extend(remove);
        }
        edits
    }

    /// The table under `name`; None: there is none, or something else, which is another problem.
    pub(super) fn table(&self, name: &str) -> Option<Section<'a>> {
        let nearest = self.find(name)?;
        nearest.table().map(|_| self.one(name))
    }

    /// The table under `name`, with what the layers have there. Tables in tables are not inherited key by key.
    pub(super) fn one(&self, name: &str) -> Section<'a> {
        let (schema, nearest) = (self.inner(name), self.find(name));
        let (document, at) = nearest.map_or((self.document, self.at), |found| (found.document, found.at()));
        let inherits = self.under.is_none();
        // What a layer holds is looked up in the layer.
        let table = nearest.filter(|found| found.layer.is_none() || !inherits).and_then(|found| found.table());
        let layers = if inherits { self.layers } else { &[] };
        Section { document, at, table, schema, layers, under: self.schema.key(name).map(|key| key.name) }
    }

    /// The tables of the array under `name`. A single table, which is another problem, counts as one: what refers to it is right.
    pub(super) fn many(&self, name: &str) -> Vec<Section<'a>> {
        let schema = self.inner(name);
        let Some(found) = self.find(name) else { return Vec::new() };
        let items = if found.table().is_some() { std::slice::from_ref(found.node) } else { found.items() };
        let section = |item: &'a Spanned<DeValue<'a>>| {
            Some(Self::new(found.document, found.document.span(item), item.get_ref().as_table()?, schema))
        };
        items.iter().filter_map(section).collect()
    }

    /// How many items the array under `name` has, of whatever type; None: there is no array, which is another problem.
    pub(super) fn length(&self, name: &str) -> Option<usize> {
        match self.value(name)? {
            DeValue::Array(items) => Some(items.len()),
            _ => None,
        }
    }

    /// The strings and tables of the array under `name`.
    pub(super) fn texts_or_tables(&self, name: &str) -> Vec<Result<Text<'a>, Section<'a>>> {
        let schema = self.inner(name);
        let Some(found) = self.find(name) else { return Vec::new() };
        let items = found.items().iter().filter_map(|item| match item.get_ref() {
            DeValue::Table(table) => Some(Err(Self::new(found.document, found.document.span(item), table, schema))),
            _ => Some(Ok(as_text(found.document, item)?)),
        });
        items.collect()
    }

    fn value(&self, name: &str) -> Option<&'a DeValue<'a>> {
        self.find(name).map(|found| found.node.get_ref())
    }

    fn preset(&self, name: &str) -> Preset {
        self.presets(name).1
    }

    fn inner(&self, name: &str) -> &'static Table {
        match self.schema.key(name).map(|key| &key.kind) {
            Some(
                Kind::One(table)
                | Kind::FlagOrOne(table)
                | Kind::RatioOrOne(table)
                | Kind::Many(table)
                | Kind::TextsOr(table),
            ) => table,
            _ => self.schema,
        }
    }
}

/// The strings among the values.
pub(super) fn texts<'a>(entries: &Entries<'a>) -> Vec<(Text<'a>, Text<'a>)> {
    entries.iter().filter_map(|(name, value)| Some((*name, value.text()?))).collect()
}

/// Bytes of a value: of its texts, and a few for each other value.
fn bytes(node: &Spanned<DeValue<'_>>) -> u64 {
    const OTHER: u64 = 8;
    OTHER
        + match node.get_ref() {
            DeValue::String(text) => text.len() as u64,
            DeValue::Array(items) => items.iter().map(bytes).sum(),
            DeValue::Table(table) => table.iter().map(|(name, node)| name.get_ref().len() as u64 + bytes(node)).sum(),
            _ => 0,
        }
}

fn as_text<'a>(document: &'a Document<'a>, node: &'a Spanned<DeValue<'a>>) -> Option<Text<'a>> {
    let (value, at) = (node.get_ref().as_str()?, document.span(node));
    Some(Text { value, shown: document.written(at).unwrap_or(value), at })
}

fn key_text<'a>(document: &'a Document<'a>, name: &'a Spanned<DeString<'a>>) -> Text<'a> {
    Text { value: name.get_ref(), shown: name.get_ref(), at: document.span(name) }
}

fn as_condition<'a>(found: Found<'a>) -> Option<Condition<'a>> {
    let Some(table) = found.table() else { return as_text(found.document, found.node).map(Condition::Exact) };
    match (table.get("regex"), table.get("present").map(Spanned::get_ref)) {
        (Some(regex), None) => as_text(found.document, regex).map(Condition::Regex),
        (None, Some(DeValue::Boolean(present))) => Some(Condition::Present(*present)),
        _ => None,
    }
}
