//! Regular expressions compiled to automata. Not here: the values that they are matched against (`condition`).

use std::ops::Range;

use regex_automata::dfa::dense::{self, DFA};
use regex_automata::dfa::{Automaton, StartKind};
use regex_automata::nfa::thompson::{self, pikevm};
use regex_automata::util::primitives::NonMaxUsize;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input};

use super::template::CAPTURES_MAX;
use crate::limits::GROUP_STATES;

/// Largest automaton, bytes.
const AUTOMATON_BYTES_MAX: usize = 1024 * 1024;
/// Most memory to build one, bytes; bounds the time, too.
const BUILD_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A regular expression over the whole of a value, as bytes: classes are ASCII and `.` is any byte but a line feed.
///
/// Matching reads each byte once, allocates nothing and takes no lock, which a `regex::Regex` shared by threads would.
#[derive(Debug)]
pub(super) struct Pattern(Box<DFA<Vec<u32>>>);

impl Pattern {
    pub(super) fn compile(text: &str) -> Result<Self, String> {
        let syntax = syntax::Config::new().unicode(false).utf8(false);
        // Parsed by itself first: an unbalanced `)` must not close the group that anchors the expression.
        syntax::parse_with(text, &syntax).map_err(|error| brief(&error.to_string()))?;
        let config = dense::Config::new()
            .start_kind(StartKind::Anchored)
            .dfa_size_limit(Some(AUTOMATON_BYTES_MAX))
            .determinize_size_limit(Some(BUILD_BYTES_MAX));
        let states = thompson::Config::new().utf8(false).nfa_size_limit(Some(AUTOMATON_BYTES_MAX));
        let mut builder = dense::Builder::new();
        let built = builder.configure(config).syntax(syntax).thompson(states).build(&format!(r"(?:{text})\z"));
        built.map(|automaton| Self(Box::new(automaton))).map_err(|error| match error.is_size_limit_exceeded() {
            true => format!("it needs an automaton of more than {AUTOMATON_BYTES_MAX} bytes; make it simpler"),
            false => brief(&error.to_string()),
        })
    }

    /// Bytes of the automaton.
    pub(super) fn bytes(&self) -> usize {
        self.0.memory_usage()
    }

    pub(super) fn matches(&self, value: &[u8]) -> bool {
        let input = Input::new(value).anchored(Anchored::Yes).earliest(true);
        self.0.try_search_fwd(&input).is_ok_and(|end| end.is_some())
    }
}

/// The groups of an expression, for routes that use what they have matched.
#[derive(Debug)]
pub struct Groups(Box<pikevm::PikeVM>);

/// Where the groups of an expression have matched, with the memory for finding that out, which is reused.
pub struct Captures {
    cache: Option<pikevm::Cache>,
    /// Start and end of each group.
    slots: [Option<NonMaxUsize>; 2 * (CAPTURES_MAX + 1)],
}

impl Groups {
    pub(super) fn compile(text: &str) -> Result<Self, String> {
        let states = thompson::Config::new().utf8(false).nfa_size_limit(Some(AUTOMATON_BYTES_MAX));
        let mut builder = pikevm::Builder::new();
        let built = builder.syntax(syntax::Config::new().unicode(false).utf8(false)).thompson(states);
        let groups = built.build(&format!(r"(?:{text})\z")).map_err(|error| brief(&error.to_string()))?;
        match groups.get_nfa().states().len() {
            count if count > GROUP_STATES => {
                Err(format!("its groups need {count} states, and may have {GROUP_STATES}; make it simpler"))
            }
            _ => Ok(Self(Box::new(groups))),
        }
    }

    /// Number of groups, without the whole.
    fn count(&self) -> usize {
        self.0.get_nfa().group_info().group_len(regex_automata::PatternID::ZERO).saturating_sub(1)
    }
}

impl Captures {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self { cache: None, slots: [None; 2 * (CAPTURES_MAX + 1)] }
    }

    /// Finds the groups in `value`, the whole of which the expression matches. Allocates where the expression is larger than those
    /// before.
    pub fn read(&mut self, groups: &Groups, value: &[u8]) {
        let cache = self.cache.get_or_insert_with(|| groups.0.create_cache());
        cache.reset(&groups.0);
        self.slots.fill(None);
        let input = Input::new(value).anchored(Anchored::Yes);
        groups.0.search_slots(cache, &input, &mut self.slots);
    }

    /// Forgets what was found.
    pub fn clear(&mut self) {
        self.slots.fill(None);
    }

    /// Where in the value a group has matched; None: it has not.
    #[must_use]
    pub fn get(&self, group: usize) -> Option<Range<usize>> {
        let slot = |at: usize| self.slots.get(at).copied().flatten().map(NonMaxUsize::get);
        Some(slot(2 * group)?..slot(2 * group + 1)?)
    }
}

impl Default for Captures {
    fn default() -> Self {
        Self::new()
    }
}

/// The number of groups of a valid expression, without the whole.
///
/// # Errors
/// The problem, in one line.
pub fn count_groups(text: &str) -> Result<usize, String> {
    Groups::compile(text).map(|groups| groups.count())
}

/// Compiles an expression as the router does. Returns the size of its automaton, bytes.
///
/// # Errors
/// The problem, in one line.
pub fn try_expression(text: &str) -> Result<usize, String> {
    Pattern::compile(text).map(|pattern| pattern.bytes())
}

/// Whether an expression, compiled as the router does, matches the whole of a value.
///
/// # Errors
/// The problem, in one line.
pub fn expression_matches(text: &str, value: &[u8]) -> Result<bool, String> {
    Pattern::compile(text).map(|pattern| pattern.matches(value))
}

/// The message of a report: its last line. The lines before show the expression.
fn brief(report: &str) -> String {
    let why = report.lines().last().unwrap_or_default().trim();
    why.trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_value_must_match() {
        for (text, value, matches) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("a", "ba", false),
            ("a|ab", "ab", true),
            ("a*?", "aaa", true),
            ("(?m)^a$", "a", true),
            ("(?m)^a$", "a\nb", false),
            ("(?i)A", "a", true),
            (".*", "\u{e9}", true),
            (".", "\n", false),
            ("", "", true),
            ("", "a", false),
            (r"\bx\b.*", "x y", true),
            ("(?i).*(bot|crawler|spider|slurp|archiver).*", "Mozilla/5.0 (compatible; SomeBot/2.1)", true),
            (r".*\.(jpe?g|png|gif|webp|css|js|svg|woff2?)", "/static/a.b/x.woff2", true),
            (
                "/api/v[0-9]+/(users|orders)/[0-9a-f-]{36}(/.*)?",
                "/api/v2/users/0b5e2f3c-1111-2222-3333-444455556666/x",
                true,
            ),
            (r"[\w.+-]{1,64}@[\w-]{1,63}(\.[\w-]{1,63}){1,8}", "a.b@example.com", true),
            (r"[0-9]{1,3}(\.[0-9]{1,3}){3}", "192.168.0.1", true),
        ] {
            assert_eq!(Pattern::compile(text).unwrap().matches(value.as_bytes()), matches, "{text} {value:?}");
        }
        assert!(Pattern::compile(".").unwrap().matches(b"\xff"));
    }

    #[test]
    fn groups_are_found_where_they_match() {
        let mut captures = Captures::new();
        for (text, value, found) in [
            ("/a/([0-9]+)/(.*)", "/a/42/x/y", ["/a/42/x/y", "42", "x/y", ""]),
            ("/a(/b)?", "/a", ["/a", "", "", ""]),
            ("/(a|ab)(c|bcd)?", "/abcd", ["/abcd", "a", "bcd", ""]),
            ("/(?<id>x)", "/x", ["/x", "x", "", ""]),
        ] {
            captures.read(&Groups::compile(text).unwrap(), value.as_bytes());
            let all = [0, 1, 2, 9].map(|group| captures.get(group).map_or("", |range| &value[range]));
            assert_eq!(all, found, "{text}");
        }
        assert_eq!(count_groups("/(a)(?:b)(?<c>d)"), Ok(2));
        let error = count_groups("/([a-z]{100}){10}").unwrap_err();
        assert!(error.starts_with("its groups need "), "{error}");
    }

    #[test]
    fn what_cannot_be_built_is_refused() {
        for text in ["(", "a)(b", r"\1", "(?=a)", "(a|b)*a(a|b){30}", "(((a{100}){100}){100}){100}"] {
            assert!(Pattern::compile(text).is_err(), "{text}");
        }
    }
}
