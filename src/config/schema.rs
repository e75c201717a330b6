//! Types that describe the keys of the configuration: type, range, default and meaning. They drive checking (`check`), reading
//! (`section`) and the documented default file (`default_file`). Not here: the keys (`tables`), rules between them (`listener`,
//! `route`, `cluster`).

use std::time::Duration;

use super::Role;
use super::nearest::nearest;
use super::unit;

/// A table of the file.
#[derive(Debug)]
pub(super) struct Table {
    /// Its header, `[[listener]]` or `[listener.limits]`; a description, for an inline table.
    pub(super) title: &'static str,
    pub(super) doc: &'static str,
    pub(super) keys: &'static [Key],
    /// Sets of keys that exclude each other.
    pub(super) choices: &'static [Choice],
}

/// Keys of which a table takes at most one.
#[derive(Debug)]
pub(super) struct Choice {
    pub(super) keys: &'static [&'static str],
    /// Whether the table needs one of them.
    pub(super) required: bool,
}

/// A key of a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) preset: Preset,
    /// Meaning and unit, on one line.
    pub(super) doc: &'static str,
}

/// Type of a key's value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// A string.
    Text,
    /// A string in which variables of the request may stand.
    Template,
    /// A string in which variables of an error may stand.
    Page,
    /// A string in which variables of an exchange that is over may stand.
    Line,
    /// A path, relative to the file that holds it.
    Path,
    /// One of these strings.
    Word(&'static [&'static str]),
    /// An integer from the first to the second.
    Number(u64, u64),
    /// A fraction from 0 to 1.
    Ratio,
    /// A fraction from 0 to 1, or a table.
    RatioOrOne(&'static Table),
    /// Bytes: `"16KiB"` or an integer, from the first to the second.
    Size(u64, u64),
    /// A duration from 1 ms to [`TIME_MAX`].
    Time,
    /// `true` or `false`.
    Flag,
    /// `true`, `false` or one of these strings.
    FlagOr(&'static [&'static str]),
    /// An array of strings.
    Texts,
    /// A string, or an array of strings.
    TextOrTexts,
    /// A path as [`Kind::Path`], or an array of such.
    PathOrPaths,
    /// A table with any keys, of strings in which variables of the request may stand.
    Fields,
    /// A table of conditions with any keys. A condition is a string, `{ regex = … }` or `{ present = … }`.
    Conditions,
    /// An array of strings or of such tables.
    TextsOr(&'static Table),
    /// A table.
    One(&'static Table),
    /// `true`, which stands for the table with its defaults, `false`, or the table.
    FlagOrOne(&'static Table),
    /// An array of tables.
    Many(&'static Table),
}

/// Default of a key.
#[derive(Clone, Copy, Debug)]
pub(super) enum Preset {
    /// None: the key is required. With an example in TOML.
    Required(&'static str),
    /// None: the key is optional. With an example in TOML.
    Optional(&'static str),
    /// None: the table is optional, and a comment in the default file.
    Absent,
    /// None: the table is optional, and the default file shows this text, in TOML, in its place.
    Example(&'static str),
    Word(&'static str),
    Number(u64),
    Ratio(f64),
    Size(u64),
    Time(Duration),
    Flag(bool),
    Texts(&'static [&'static str]),
    /// One for each role, in the order of [`Role`].
    ByRole(&'static [Preset; 3]),
}

/// Longest duration that a key takes.
pub(super) const TIME_MAX: Duration = Duration::from_secs(24 * 3600);

impl Preset {
    /// The default in `role`.
    pub(super) fn of(self, role: Role) -> Self {
        match self {
            Self::ByRole(presets) => presets[role as usize],
            preset => preset,
        }
    }

    /// Whether there is a default value.
    pub(super) fn is_default(self) -> bool {
        !matches!(self, Self::Required(_) | Self::Optional(_) | Self::Absent | Self::Example(_))
    }

    /// The default in TOML; an example, if there is none. Of defaults by role, the sidecar's.
    pub(super) fn example(self) -> String {
        match self {
            Self::ByRole(_) => self.of(Role::Sidecar).example(),
            Self::Texts(texts) => format!("{texts:?}"),
            Self::Required(example) | Self::Optional(example) => example.to_owned(),
            Self::Absent | Self::Example(_) => String::new(),
            Self::Word(word) => format!("\"{word}\""),
            Self::Number(number) => number.to_string(),
            Self::Ratio(ratio) => format!("{ratio:?}"),
            Self::Size(bytes) => format!("\"{}\"", unit::size_text(bytes)),
            Self::Time(time) => format!("\"{}\"", unit::duration_text(time)),
            Self::Flag(flag) => flag.to_string(),
        }
    }
}

impl Table {
    pub(super) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// The key with the name most similar to `name`.
    pub(super) fn nearest(&self, name: &str) -> Option<&'static str> {
        nearest(name, self.keys.iter().map(|key| key.name))
    }

    /// The table directly below this one that has the key `name`.
    pub(super) fn owner_below(&self, name: &str) -> Option<&'static Table> {
        self.keys.iter().find_map(|key| match key.kind {
            Kind::One(table) | Kind::FlagOrOne(table) | Kind::RatioOrOne(table) if table.key(name).is_some() => {
                Some(table)
            }
            _ => None,
        })
    }
}
