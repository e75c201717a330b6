//! Regular expressions compiled to automata. Not here: the values that they are matched against (`condition`).

use regex_automata::dfa::dense::{self, DFA};
use regex_automata::dfa::{Automaton, StartKind};
use regex_automata::nfa::thompson;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input};

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

/// Compiles an expression as the router does. Returns the size of its automaton, bytes.
///
/// # Errors
/// The problem, in one line.
pub fn try_expression(text: &str) -> Result<usize, String> {
    Pattern::compile(text).map(|pattern| pattern.bytes())
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
    fn what_cannot_be_built_is_refused() {
        for text in ["(", "a)(b", r"\1", "(?=a)", "(a|b)*a(a|b){30}", "(((a{100}){100}){100}){100}"] {
            assert!(Pattern::compile(text).is_err(), "{text}");
        }
    }
}
