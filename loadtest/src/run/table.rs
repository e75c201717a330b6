//! Typed reading of a TOML table, which collects problems with their places instead of ending at the first. Not here: what the keys
//! mean (`file`).

use std::time::Duration;

use cairn::config::{Problem, Problems, SourceSpan, nearest};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::args::{self, Sha256};

/// A value and its place.
pub(super) type Node<'a> = Spanned<DeValue<'a>>;

/// One table of a scenario.
pub(super) struct Table<'a> {
    /// Its header, for messages.
    title: &'static str,
    pub(super) at: SourceSpan,
    table: &'a DeTable<'a>,
}

/// Place of a node.
pub(super) fn span<T>(node: &Spanned<T>) -> SourceSpan {
    SourceSpan::of(0, node)
}

impl<'a> Table<'a> {
    /// A table that has some of `known` as its keys, and reports all others.
    pub(super) fn new(
        title: &'static str,
        at: SourceSpan,
        table: &'a DeTable<'a>,
        known: &[&str],
        problems: &mut Problems,
    ) -> Self {
        for name in table.keys().filter(|name| !known.contains(&name.get_ref().as_ref())) {
            let help = match nearest(name.get_ref(), known.iter().copied()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("it knows `{}`", known.join("`, `")),
            };
            problems.add(span(name), format!("unknown key `{}` in {title}", name.get_ref())).help(help);
        }
        Self { title, at, table }
    }

    /// The value of `name`.
    pub(super) fn node(&self, name: &str) -> Option<&'a Node<'a>> {
        self.table.get(name)
    }

    /// Reports that the table has no `name`.
    pub(super) fn needs(&self, name: &str, example: &str, problems: &mut Problems) {
        if !self.table.contains_key(name) && !self.table.keys().any(|key| nearest(key.get_ref(), [name]).is_some()) {
            problems.add(self.at, format!("{} has no `{name}`", self.title)).help(format!("add `{name} = {example}`"));
        }
    }

    pub(super) fn text(&self, name: &str, problems: &mut Problems) -> Option<&'a str> {
        self.read(name, "write a string", problems, |value| value.as_str())
    }

    pub(super) fn flag(&self, name: &str, problems: &mut Problems) -> bool {
        let read = |value: &DeValue<'_>| if let DeValue::Boolean(flag) = value { Some(*flag) } else { None };
        self.read(name, "write true or false", problems, read).unwrap_or_default()
    }

    pub(super) fn number(&self, name: &str, range: [u32; 2], problems: &mut Problems) -> Option<u32> {
        let [least, most] = range;
        let read =
            |value: &DeValue<'_>| u32::try_from(whole(value)?).ok().filter(|number| (least..=most).contains(number));
        self.read(name, &format!("write a whole number from {least} to {most}"), problems, read)
    }

    pub(super) fn time(&self, name: &str, problems: &mut Problems) -> Option<Duration> {
        let read = |value: &DeValue<'_>| args::duration(value.as_str()?).ok();
        self.read(name, "write a number and its unit: \"20us\", \"500ms\", \"10s\", \"2m\" or \"1h\"", problems, read)
    }

    pub(super) fn size(&self, name: &str, most: u64, problems: &mut Problems) -> Option<u64> {
        let read = |value: &DeValue<'_>| {
            whole(value).or_else(|| args::size(value.as_str()?).ok()).filter(|size| *size <= most)
        };
        let help = if most < u64::MAX {
            "write bytes as 4096 or \"64KiB\", at most 1 GiB"
        } else {
            "write bytes as 4096 or \"64KiB\""
        };
        self.read(name, help, problems, read)
    }

    pub(super) fn digest(&self, name: &str, problems: &mut Problems) -> Option<Sha256> {
        let read = |value: &DeValue<'_>| args::digest(value.as_str()?).ok();
        self.read(name, "write the 64 hexadecimal digits that sha256sum prints", problems, read)
    }

    /// A rate, or two for a ramp.
    pub(super) fn rates(&self, name: &str, problems: &mut Problems) -> Option<[f64; 2]> {
        let read = |value: &DeValue<'_>| match value {
            DeValue::Array(both) => match &both[..] {
                [from, to] => Some([rate(from.get_ref())?, rate(to.get_ref())?]),
                _ => None,
            },
            value => rate(value).map(|rate| [rate, rate]),
        };
        let help = "write requests a second, from 0 to 1000000000, or two of them for a ramp: [1000, 5000]";
        self.read(name, help, problems, read)
    }

    /// Names and values of the table under `name`, in the order of the file.
    pub(super) fn fields(&self, name: &str, problems: &mut Problems) -> Vec<(String, SourceSpan)> {
        let help = "write a table of strings: { accept = \"image/webp\" }";
        let Some(table) = self.read(name, help, problems, |value| value.as_table()) else { return Vec::new() };
        let mut fields = Vec::new();
        for (name, value) in table {
            match value.get_ref().as_str() {
                Some(text) => fields.push((format!("{}: {text}", name.get_ref()), span(value))),
                None => _ = wrong(problems, span(value), name.get_ref(), help),
            }
        }
        fields.sort_by_key(|(_, at)| *at);
        fields
    }

    /// The tables of the array under `name`, with their places.
    pub(super) fn tables(&self, name: &str, problems: &mut Problems) -> Vec<(SourceSpan, &'a DeTable<'a>)> {
        let help = format!("write [[{name}]] above each");
        let Some(items) = self.read(name, &help, problems, |value| value.as_array()) else { return Vec::new() };
        let mut tables = Vec::new();
        for item in items.iter() {
            match item.get_ref().as_table() {
                Some(table) => tables.push((span(item), table)),
                None => _ = wrong(problems, span(item), name, &help),
            }
        }
        tables
    }

    /// The value of `name` by `read`, which returns None if it has another form.
    fn read<T>(
        &self,
        name: &str,
        help: &str,
        problems: &mut Problems,
        read: impl FnOnce(&'a DeValue<'a>) -> Option<T>,
    ) -> Option<T> {
        let node = self.node(name)?;
        let value = read(node.get_ref());
        if value.is_none() {
            wrong(problems, span(node), name, help);
        }
        value
    }
}

fn wrong<'a>(problems: &'a mut Problems, at: SourceSpan, name: &str, help: &str) -> &'a mut Problem {
    problems.add(at, format!("this is no value of `{name}`")).help(help)
}

fn whole(value: &DeValue<'_>) -> Option<u64> {
    let DeValue::Integer(number) = value else { return None };
    u64::from_str_radix(number.as_str(), number.radix()).ok()
}

fn rate(value: &DeValue<'_>) -> Option<f64> {
    let rate = match value {
        DeValue::Float(rate) => rate.as_str().parse().ok(),
        value => whole(value).map(|rate| rate as f64),
    };
    rate.filter(|rate| (0.0..=1e9).contains(rate))
}
