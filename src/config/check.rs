//! Compares a parsed file with the schema: unknown keys, wrong types, values out of range, missing keys, rival keys.
//! Not here: rules that need to know what a key means (`listener`, `route`, `cluster`).

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::files::Document;
use super::foreign;
use super::layer_tables;
use super::nearest::nearest;
use super::report::{Problems, SourceSpan};
use super::schema::{self, Key, Kind, Preset, Table};
use super::unit;
use crate::access_log;
use crate::route::template::{Variable, first_variable, variables_of};

/// Reports everything in a file that `schema` does not allow.
pub(super) fn document(document: &Document<'_>, schema: &'static Table, problems: &mut Problems) {
    let mut check = Check { document, root: schema, problems };
    check.table(document.at(), &document.table, schema);
}

struct Check<'a> {
    document: &'a Document<'a>,
    /// Schema of the whole file.
    root: &'static Table,
    problems: &'a mut Problems,
}

impl Check<'_> {
    fn span<T>(&self, node: &Spanned<T>) -> SourceSpan {
        self.document.span(node)
    }

    fn table(&mut self, at: SourceSpan, table: &DeTable<'_>, schema: &'static Table) {
        for (name, value) in table {
            match schema.key(name.get_ref()) {
                Some(key) => self.value(key, value),
                None => self.unknown(self.span(name), name.get_ref(), schema),
            }
        }
        // Problems beyond the cap are only counted, so their suggestions are not computed.
        let understood = !self.problems.is_full();
        let slips = table.keys().filter(|name| understood && schema.key(name.get_ref()).is_none());
        let meant: Vec<_> = slips.filter_map(|name| meant(name.get_ref(), schema)).collect();
        for key in schema.keys {
            if let Preset::Required(example) = key.preset
                && !table.contains_key(key.name)
                && !meant.contains(&key.name)
            {
                self.problems
                    .add(at, format!("{} has no `{}`", schema.title, key.name))
                    .help(format!("add `{} = {example}`: {}", key.name, key.doc));
            }
        }
        self.choices(at, table, schema, &meant);
    }

    /// At most one, or exactly one, of the keys of each choice.
    fn choices(&mut self, at: SourceSpan, table: &DeTable<'_>, schema: &'static Table, meant: &[&str]) {
        for choice in schema.choices {
            let mut there: Vec<_> =
                table.keys().filter(|name| choice.keys.contains(&name.get_ref().as_ref())).collect();
            there.sort_by_key(|name| name.span().start);
            match there.as_slice() {
                [first, second, ..] => {
                    let message = format!("`{}` and `{}` exclude each other", first.get_ref(), second.get_ref());
                    let (first, second) = (self.span(first), self.span(second));
                    self.problems
                        .add(second, message)
                        .note(first, "the other one is here")
                        .help(format!("keep one of {}", list(choice.keys)));
                }
                [] if choice.required && !choice.keys.iter().any(|key| meant.contains(key)) => {
                    self.problems
                        .add(at, format!("{} does nothing", schema.title))
                        .help(format!("add one of {}", list(choice.keys)));
                }
                _ => {}
            }
        }
    }

    fn unknown(&mut self, at: SourceSpan, name: &str, schema: &'static Table) {
        let help = if self.problems.is_full() {
            String::new()
        } else if let Some(foreign) = foreign::key(name, schema.title) {
            match foreign.key {
                Some(key) if foreign.cure.is_empty() => format!("cairn calls it `{key}`{}", written(schema, key)),
                _ => foreign.cure.to_owned(),
            }
        } else if let Some(heir) = layer_tables::heir(schema.title).filter(|heir| heir.key(name).is_some()) {
            format!("each {} has its own: write `{name}` there", heir.title)
        } else if let Some(known) = schema.nearest(name) {
            format!("did you mean `{known}`?")
        } else if let Some(owner) = schema.owner_below(name) {
            format!("`{name}` belongs in {}", owner.title)
        } else if let Some(key) = self.root.key(name) {
            top_level(key)
        } else {
            format!("it knows {}", list(&schema.keys.iter().map(|key| key.name).collect::<Vec<_>>()))
        };
        self.problems.add(at, format!("unknown key `{name}` in {}", schema.title)).help(help);
    }

    fn value(&mut self, key: &'static Key, node: &Spanned<DeValue<'_>>) {
        let at = self.span(node);
        self.variables(key, node);
        match (&key.kind, node.get_ref()) {
            (
                Kind::Text
                | Kind::Template
                | Kind::Page
                | Kind::Line
                | Kind::Path
                | Kind::TextOrTexts
                | Kind::PathOrPaths,
                DeValue::String(_),
            )
            | (Kind::Flag | Kind::FlagOr(_) | Kind::FlagOrOne(_), DeValue::Boolean(_)) => {}
            (Kind::Word(words) | Kind::FlagOr(words), DeValue::String(text)) => self.word(at, key, words, text),
            (Kind::Number(min, max), DeValue::Integer(number)) => self.number(at, key, (*min, *max), number),
            (Kind::Ratio | Kind::RatioOrOne(_), DeValue::Float(_) | DeValue::Integer(_)) => {
                if ratio(node.get_ref()).is_none() {
                    self.problems
                        .add(at, format!("`{}` is out of range", key.name))
                        .help(format!("0.0 to 1.0: {}", key.doc));
                }
            }
            (Kind::Size(min, max), DeValue::String(_) | DeValue::Integer(_)) => {
                self.size(at, key, *min, *max, node.get_ref());
            }
            (Kind::Time, DeValue::String(text)) => self.time(at, key, text),
            (Kind::Texts | Kind::TextOrTexts | Kind::PathOrPaths, DeValue::Array(items)) => {
                for item in items.iter().filter(|item| !matches!(item.get_ref(), DeValue::String(_))) {
                    self.mismatch(self.span(item), key, item.get_ref());
                }
            }
            (Kind::TextsOr(inner), DeValue::Array(items)) => {
                for item in items.iter() {
                    match item.get_ref() {
                        DeValue::String(_) => {}
                        DeValue::Table(table) => self.table(self.span(item), table, inner),
                        other => self.mismatch(self.span(item), key, other),
                    }
                }
            }
            (Kind::Fields, DeValue::Table(fields)) => {
                for item in fields.values().filter(|item| !matches!(item.get_ref(), DeValue::String(_))) {
                    self.mismatch(self.span(item), key, item.get_ref());
                }
            }
            (Kind::Conditions, DeValue::Table(conditions)) => {
                for item in conditions.values() {
                    self.condition(key, item);
                }
            }
            (Kind::One(inner) | Kind::FlagOrOne(inner) | Kind::RatioOrOne(inner), DeValue::Table(table)) => {
                self.table(at, table, inner);
            }
            (Kind::Many(inner), DeValue::Array(items)) => {
                for item in items.iter() {
                    match item.get_ref() {
                        DeValue::Table(table) => self.table(self.span(item), table, inner),
                        other => self.mismatch(self.span(item), key, other),
                    }
                }
            }
            (Kind::Many(inner), DeValue::Table(table)) => {
                self.mismatch(at, key, node.get_ref());
                self.table(at, table, inner);
            }
            (_, other) => self.mismatch(at, key, other),
        }
    }

    fn number(&mut self, at: SourceSpan, key: &Key, (min, max): (u64, u64), number: &DeInteger<'_>) {
        if !unsigned(number).is_some_and(|number| (min..=max).contains(&number)) {
            self.problems
                .add(at, format!("`{}` is out of range", key.name))
                .help(format!("{min} to {max}: {}", key.doc));
        }
    }

    /// Reports variables that have no value under this key.
    fn variables(&mut self, key: &'static Key, node: &Spanned<DeValue<'_>>) {
        match key.kind {
            Kind::Template | Kind::Page | Kind::Fields => self.known_variables(key, node),
            Kind::Line => self.known_log_variables(node),
            _ => self.without_variables(node, matches!(key.kind, Kind::Conditions)),
        }
    }

    /// Reports variables that do not exist. Which there are is said for the place: those of a page, or those of a request.
    fn known_variables(&mut self, key: &Key, node: &Spanned<DeValue<'_>>) {
        match node.get_ref() {
            DeValue::String(text) => {
                let unknown = variables_of(text).find(|name| Variable::parse(name).is_none());
                let Some(name) = unknown else { return };
                let here = |variable: &Variable| match key.kind {
                    Kind::Page => variable.is_of_error(),
                    _ => !variable.is_of_error_alone(),
                };
                let known = |name: &&str| match Variable::parse(name) {
                    Some(variable) => here(&variable),
                    // `header.NAME`
                    None => !matches!(key.kind, Kind::Page),
                };
                let names: Vec<_> = Variable::names().filter(known).collect();
                let help = match nearest(name, names.iter().copied()) {
                    Some(known) => format!("did you mean ${{{known}}}?"),
                    None => format!("there are {}; ${{env.NAME}} is of the environment", names.join(", ")),
                };
                self.problems.add(self.span(node), format!("there is no variable {name}")).help(help).alone();
            }
            DeValue::Table(table) => table.values().for_each(|value| self.known_variables(key, value)),
            _ => {}
        }
    }

    /// Reports variables that no line of the access log can hold.
    fn known_log_variables(&mut self, node: &Spanned<DeValue<'_>>) {
        let DeValue::String(text) = node.get_ref() else { return };
        let unknown = variables_of(text).find(|name| access_log::Variable::parse(name).is_none());
        let Some(name) = unknown else { return };
        let help = match nearest(name, access_log::Variable::names()) {
            Some(known) => format!("did you mean ${{{known}}}?"),
            None => format!("there are {}", access_log::Variable::names().collect::<Vec<_>>().join(", ")),
        };
        self.problems
            .add(self.span(node), format!("no line of the access log has a variable {name}"))
            .help(help)
            .alone();
    }

    /// Reports variables of the request where there is none yet. What stands in tables belongs to their keys, unless it is a condition.
    fn without_variables(&mut self, node: &Spanned<DeValue<'_>>, conditions: bool) {
        match node.get_ref() {
            DeValue::String(text) => {
                let Some(name) = first_variable(text) else { return };
                self.problems
                    .add(self.span(node), format!("`${{{name}}}` has no value here"))
                    .help("values of header fields, `redirect` and `rewrite` take variables of the request")
                    .alone();
            }
            DeValue::Array(items) => items.iter().for_each(|item| self.without_variables(item, conditions)),
            DeValue::Table(table) if conditions => {
                table.values().for_each(|value| self.without_variables(value, conditions));
            }
            _ => {}
        }
    }

    fn word(&mut self, at: SourceSpan, key: &Key, words: &'static [&'static str], text: &str) {
        if words.contains(&text) {
            return;
        }
        let shown = self.document.written(at).unwrap_or(text);
        let help = match foreign::word(text, words).or_else(|| nearest(text, words.iter().copied())) {
            Some(word) => format!("did you mean \"{word}\"?"),
            None if matches!(key.kind, Kind::FlagOr(_)) => format!("it takes true, false or {}", list(words)),
            None => format!("it takes {}", list(words)),
        };
        self.problems.add(at, format!("\"{shown}\" is not a value of `{}`", key.name)).help(help);
    }

    fn size(&mut self, at: SourceSpan, key: &Key, min: u64, max: u64, value: &DeValue<'_>) {
        let problem = match size(value) {
            None => format!("`{}` is not a size", key.name),
            Some(bytes) if !(min..=max).contains(&bytes) => format!("`{}` is out of range", key.name),
            Some(_) => return,
        };
        let help = if let DeValue::String(text) = value
            && let Some(meant) = unit::meant_size(text)
            && unit::size(&meant).is_some_and(|bytes| (min..=max).contains(&bytes))
        {
            format!("write \"{meant}\": {}", key.doc)
        } else if max == u64::MAX {
            format!("write bytes, or \"16KiB\", \"1MiB\", \"1GiB\": {}", key.doc)
        } else {
            format!("{} to {}: {}", unit::size_text(min), unit::size_text(max), key.doc)
        };
        self.problems.add(at, problem).help(help);
    }

    fn time(&mut self, at: SourceSpan, key: &Key, text: &str) {
        let problem = match unit::duration(text) {
            None if !text.is_empty() && text.bytes().all(|c| c == b'0') => format!("`{}` must be above 0", key.name),
            Some(time) if time.is_zero() => format!("`{}` must be above 0", key.name),
            None if text.parse::<u64>().is_ok() => {
                let help = format!("write \"{text}s\" for seconds, or \"{text}ms\": {}", key.doc);
                self.problems.add(at, format!("`{}` has no unit", key.name)).help(help);
                return;
            }
            None => format!("`{}` is not a duration", key.name),
            Some(time) if time > schema::TIME_MAX => format!("`{}` is out of range", key.name),
            Some(_) => return,
        };
        self.problems.add(at, problem).help(format!("write \"250ms\", \"5s\", \"1m\", up to \"24h\": {}", key.doc));
    }

    /// A string, `{ regex = "…" }` or `{ present = true }`.
    fn condition(&mut self, key: &'static Key, node: &Spanned<DeValue<'_>>) {
        let ok = match node.get_ref() {
            DeValue::String(_) => true,
            DeValue::Table(table) => match (table.len(), table.get("regex"), table.get("present")) {
                (1, Some(regex), None) => matches!(regex.get_ref(), DeValue::String(_)),
                (1, None, Some(present)) => matches!(present.get_ref(), DeValue::Boolean(_)),
                _ => false,
            },
            _ => false,
        };
        if !ok {
            self.problems
                .add(self.span(node), format!("this is not a condition of `{}`", key.name))
                .help("write \"exact\", { regex = \"…\" }, { present = true } or { present = false }");
        }
    }

    fn mismatch(&mut self, at: SourceSpan, key: &Key, found: &DeValue<'_>) {
        let expected = match key.kind {
            Kind::Text | Kind::Template | Kind::Page | Kind::Line | Kind::Path | Kind::Word(_) => "a string",
            Kind::Number(..) => "an integer",
            Kind::Ratio => "a fraction from 0.0 to 1.0",
            Kind::RatioOrOne(_) => "a fraction from 0.0 to 1.0, or a table",
            Kind::Size(..) => "a size",
            Kind::Time => "a duration in a string",
            Kind::Flag => "true or false",
            Kind::FlagOr(_) => "true, false or a string",
            Kind::Texts => "an array of strings",
            Kind::TextOrTexts | Kind::PathOrPaths => "a string or an array of strings",
            Kind::Fields | Kind::Conditions => "a table, name = value",
            Kind::TextsOr(_) => "an array of strings or tables",
            Kind::One(_) => "a table",
            Kind::FlagOrOne(_) => "true, false or a table",
            Kind::Many(_) => "an array of tables",
        };
        let kind = match found {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a fraction",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        };
        let help = match &key.kind {
            Kind::FlagOrOne(table) => format!("write `{} = true` or {}", key.name, table.title),
            Kind::One(table) | Kind::Many(table) if table.title.starts_with('[') => format!("write {}", table.title),
            _ => match found {
                DeValue::Integer(number) if matches!(key.kind, Kind::Time) && unsigned(number) != Some(0) => {
                    format!("write `{} = \"{number}s\"`, with the unit", key.name)
                }
                DeValue::String(text)
                    if matches!(key.kind, Kind::Texts | Kind::TextsOr(_)) && self.document.written(at).is_none() =>
                {
                    format!("write `{} = [\"{}\"]`", key.name, text.escape_debug())
                }
                _ => format!("write `{} = {}`", key.name, key.preset.example()),
            },
        };
        self.problems.add(at, format!("`{}` takes {expected}, not {kind}", key.name)).help(help);
    }
}

/// The key that was meant by `name`, which `schema` does not have.
fn meant(name: &str, schema: &'static Table) -> Option<&'static str> {
    foreign::key(name, schema.title).and_then(|foreign| foreign.key).or_else(|| schema.nearest(name))
}

/// How the key of a table is written: ` = example`, if it has one.
fn written(schema: &Table, key: &str) -> String {
    let example = schema.key(key).map(|key| key.preset.example()).filter(|example| !example.is_empty());
    example.map(|example| format!(": `{key} = {example}`")).unwrap_or_default()
}

/// How to write a top-level key that was found in a table: in TOML, keys below a header belong to its table.
fn top_level(key: &Key) -> String {
    match key.kind {
        Kind::One(table) | Kind::FlagOrOne(table) | Kind::Many(table) => {
            format!("`{}` is no part of another table: write {}", key.name, table.title)
        }
        _ => format!("`{}` is a key of the whole configuration: write it above the first [table]", key.name),
    }
}

/// The integer, if it is not negative and fits.
pub(super) fn unsigned(number: &DeInteger<'_>) -> Option<u64> {
    u64::from_str_radix(number.as_str(), number.radix()).ok()
}

/// The fraction, if it is one from 0 to 1.
pub(super) fn ratio(value: &DeValue<'_>) -> Option<f64> {
    let number = match value {
        DeValue::Float(number) => number.as_str().replace('_', "").parse().ok()?,
        DeValue::Integer(number) => unsigned(number)? as f64,
        _ => return None,
    };
    (0.0..=1.0).contains(&number).then_some(number)
}

/// The bytes of a size in either form.
pub(super) fn size(value: &DeValue<'_>) -> Option<u64> {
    match value {
        DeValue::String(text) => unit::size(text),
        DeValue::Integer(number) => unsigned(number),
        _ => None,
    }
}

/// `a`, `b`, `c`
pub(super) fn list(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}
