//! Conditions of HAProxy: `if`, `unless`, `acl` and anonymous ones. Not here: what happens if they hold.

use cairn::config::is_token;
use std::collections::BTreeMap;

use super::super::expression;
use super::super::haproxy::Word;
use super::super::matching::{Host, Match, Overlap, Path, Value, canonical};
use super::super::valid::{conditional, is_host, is_path, is_value};
use super::Facts;

/// Most alternatives of one condition.
const ALTERNATIVES_MAX: usize = 256;

/// Named conditions of a section: the words behind each name, one list for each `acl` of that name.
pub(super) type Acls = BTreeMap<String, Vec<Vec<Word>>>;

/// One alternative of a condition: what holds, and what must not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Clause {
    pub(super) when: Vec<Match>,
    pub(super) unless: Vec<Match>,
}

/// What a condition means for the routes of a listener, and how it differs from what HAProxy does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Condition {
    /// Alternatives; none: it never holds.
    pub(super) clauses: Vec<Clause>,
    pub(super) differs: Vec<String>,
    /// Why tests were left out: it holds more often than it should.
    pub(super) widened: Vec<String>,
}

/// A test, perhaps negated.
struct Literal {
    negated: bool,
    /// Alternatives, as they are written.
    tests: Vec<Vec<Word>>,
}

/// What a test means.
enum Tested {
    Known(bool),
    Alternatives(Vec<Match>),
}

impl Condition {
    /// That of every request.
    pub(super) fn always() -> Self {
        let clauses = vec![Clause { when: vec![Match::default()], unless: Vec::new() }];
        Self { clauses, ..Self::default() }
    }

    pub(super) fn is_always(&self) -> bool {
        *self == Self::always()
    }

    /// Reads `if …` or `unless …`; no words: always. `widens`: tests that no route can make are left out where others stand beside
    /// them, so that a rule that denies denies more.
    ///
    /// # Errors
    /// Why no route can have it.
    pub(super) fn of(words: &[Word], acls: &Acls, facts: &Facts, widens: bool) -> Result<Self, String> {
        let Some((first, rest)) = words.split_first() else { return Ok(Self::always()) };
        let mut terms = terms(rest, acls)?;
        if first.text == "unless" {
            terms = negated(terms)?;
        }
        let mut found = Self::default();
        for term in terms {
            let read = match clause(&term, facts, widens, &mut found.differs) {
                Err(why) if widens => {
                    let known =
                        |it: &Literal| it.tests.iter().all(|test| tested(test, facts, false, &mut Vec::new()).is_ok());
                    let known: Vec<_> = term.into_iter().filter(known).collect();
                    let wider = clause(&known, facts, widens, &mut found.differs)?;
                    if wider.as_ref().is_some_and(Clause::is_always) {
                        return Err(why);
                    }
                    found.widened.push(why);
                    wider
                }
                read => read?,
            };
            found.clauses.extend(read);
        }
        found.differs.sort();
        found.differs.dedup();
        Ok(found)
    }
}

impl Clause {
    fn is_always(&self) -> bool {
        self.when.contains(&Match::default()) && self.unless.is_empty()
    }

    /// Both.
    pub(super) fn and(&self, other: &Self) -> Result<Option<Self>, ()> {
        let when = product(&self.when, &other.when)?;
        let unless = self.unless.iter().chain(&other.unless).cloned().collect();
        Ok((!when.is_empty()).then_some(Self { when, unless }))
    }
}

/// What alternatives of both lists have in common.
fn product(a: &[Match], b: &[Match]) -> Result<Vec<Match>, ()> {
    let mut all = Vec::new();
    for a in a {
        for b in b {
            match a.and(b) {
                Overlap::Match(overlap) => all.push(overlap),
                Overlap::Nothing => {}
                Overlap::Unsayable => return Err(()),
            }
        }
    }
    if all.len() > ALTERNATIVES_MAX { Err(()) } else { Ok(all) }
}

/// Alternatives, each a list of tests that all must hold.
fn terms(words: &[Word], acls: &Acls) -> Result<Vec<Vec<Literal>>, String> {
    let mut terms = vec![Vec::new()];
    let mut negated = false;
    let mut at = 0;
    while let Some(word) = words.get(at) {
        at += 1;
        let mut text = word.text.as_str();
        if !word.quoted {
            while let Some(rest) = text.strip_prefix('!') {
                (negated, text) = (!negated, rest);
            }
        }
        let tests = match text {
            "" => continue,
            "or" | "||" if !word.quoted => {
                terms.push(Vec::new());
                continue;
            }
            "{" => {
                let length = words[at..].iter().position(|word| word.text == "}" && !word.quoted);
                let Some(length) = length else { return Err("its `{` is not closed".to_owned()) };
                let test = words[at..at + length].to_vec();
                at += length + 1;
                vec![test]
            }
            name => match acls.get(name) {
                Some(tests) => tests.clone(),
                None => predefined(name).ok_or_else(|| format!("there is no acl {name}"))?,
            },
        };
        if let Some(term) = terms.last_mut() {
            term.push(Literal { negated, tests });
        }
        negated = false;
    }
    terms.retain(|term| !term.is_empty());
    Ok(terms)
}

/// The opposite: of each alternative one test must fail.
fn negated(terms: Vec<Vec<Literal>>) -> Result<Vec<Vec<Literal>>, String> {
    let mut all: Vec<Vec<Literal>> = vec![Vec::new()];
    for term in terms {
        let mut next = Vec::new();
        for chosen in &all {
            for literal in &term {
                let copy = |it: &Literal| Literal { negated: it.negated, tests: it.tests.clone() };
                let mut chosen: Vec<_> = chosen.iter().map(copy).collect();
                chosen.push(Literal { negated: !literal.negated, tests: literal.tests.clone() });
                next.push(chosen);
            }
        }
        if next.len() > ALTERNATIVES_MAX {
            return Err("the condition has too many alternatives".to_owned());
        }
        all = next;
    }
    Ok(all)
}

/// Acls that need no declaration.
fn predefined(name: &str) -> Option<Vec<Vec<Word>>> {
    let words =
        |text: &str| text.split(' ').map(|word| Word { text: word.to_owned(), quoted: false }).collect::<Vec<_>>();
    let text = match name {
        "TRUE" | "HTTP" | "WAIT_END" | "HTTP_1.1" => "always_true",
        "FALSE" => "always_false",
        "METH_GET" => "method GET HEAD",
        "METH_CONNECT" | "METH_DELETE" | "METH_HEAD" | "METH_OPTIONS" | "METH_POST" | "METH_PUT" | "METH_TRACE" => {
            return Some(vec![words(&format!("method {}", &name[5..]))]);
        }
        "LOCALHOST" => "src 127.0.0.1/8",
        _ => return None,
    };
    Some(vec![words(text)])
}

/// One alternative; None: it never holds.
fn clause(term: &[Literal], facts: &Facts, widens: bool, differs: &mut Vec<String>) -> Result<Option<Clause>, String> {
    let mut found = Clause { when: vec![Match::default()], unless: Vec::new() };
    for literal in term {
        let mut alternatives = Vec::new();
        let mut known = false;
        for test in &literal.tests {
            match tested(test, facts, widens && !literal.negated, differs)? {
                Tested::Known(holds) => known |= holds,
                Tested::Alternatives(more) => alternatives.extend(more),
            }
        }
        match (literal.negated, known) {
            (false, true) => {}
            (true, true) => return Ok(None),
            (false, false) => {
                found.when = product(&found.when, &alternatives)
                    .map_err(|()| "its tests do not fit into one route together".to_owned())?;
            }
            (true, false) => found.unless.extend(alternatives),
        }
    }
    Ok((!found.when.is_empty()).then_some(found))
}

/// A sample, how it is compared, and with what.
struct Test<'w> {
    /// `path`, `hdr`, …
    sample: String,
    argument: String,
    /// `str`, `beg`, `end`, `sub`, `reg`, `dir`, `found`, …
    matching: String,
    insensitive: bool,
    patterns: Vec<&'w str>,
}

fn read(words: &[Word]) -> Result<Test<'_>, String> {
    let first = words.first().map_or("", |word| &word.text);
    let mut insensitive = false;
    let mut sample = first;
    for (converter, ignores) in [(",lower", true), (",field(1,:)", false), (",host_only", false), (",url_dec", false)] {
        if let Some(rest) = sample.strip_suffix(converter) {
            (sample, insensitive) = (rest, insensitive | ignores);
        }
    }
    let (name, argument) = match sample.split_once('(') {
        Some((name, rest)) => match rest.strip_suffix(')') {
            Some(argument) => (name, argument),
            None => return Err(format!("{first} has converters that routes do not have")),
        },
        None => (sample, ""),
    };
    let name = name.trim_start_matches("req.").trim_start_matches("http_");
    let (name, mut matching) = match name.rsplit_once('_') {
        Some((base, kind @ ("beg" | "end" | "sub" | "reg" | "dir" | "dom" | "len"))) => (base, kind),
        _ => (name, "str"),
    };
    let mut patterns = Vec::new();
    let mut flags = true;
    let mut rest = words.iter().skip(1);
    while let Some(word) = rest.next() {
        match word.text.as_str() {
            "--" if flags => flags = false,
            "-i" if flags => insensitive = true,
            "-n" | "-u" | "-M" if flags => {}
            "-m" if flags => matching = rest.next().map_or("", |word| &word.text),
            "-f" if flags => return Err("its patterns stand in another file".to_owned()),
            pattern => {
                flags = false;
                patterns.push(pattern);
            }
        }
    }
    let argument = argument.split(',').next().unwrap_or_default().to_ascii_lowercase();
    Ok(Test { sample: name.to_owned(), argument, matching: matching.to_owned(), insensitive, patterns })
}

/// `whole`: none of the paths that begin with a text may be left out.
fn tested(words: &[Word], facts: &Facts, whole: bool, differs: &mut Vec<String>) -> Result<Tested, String> {
    let test = read(words)?;
    let one = |matches: Match| Ok(Tested::Alternatives(vec![matches]));
    match (test.sample.as_str(), test.argument.as_str()) {
        ("always_true", _) => Ok(Tested::Known(true)),
        ("always_false", _) => Ok(Tested::Known(false)),
        ("ssl_fc", _) => Ok(Tested::Known(facts.tls == test.patterns.first().is_none_or(|it| *it != "0"))),
        // Nobody logs in here.
        ("auth" | "auth_group", _) => Ok(Tested::Known(false)),
        ("dst_port" | "fc_dst_port", _) => {
            let port = facts.port.to_string();
            Ok(Tested::Known(test.patterns.iter().any(|it| *it == port)))
        }
        ("method", _) => {
            let mut methods: Vec<_> = test.patterns.iter().map(|it| it.to_ascii_uppercase()).collect();
            methods.sort();
            methods.dedup();
            match methods.iter().all(|it| it.bytes().all(|c| c.is_ascii_uppercase())) && test.matching == "str" {
                true => one(Match { methods, ..Match::default() }),
                false => Err("a route has a list of methods".to_owned()),
            }
        }
        ("hdr" | "fhdr", "host") => host(&test, differs).map(Tested::Alternatives),
        ("path" | "url" | "pathq", "") => path(&test, whole, differs).map(Tested::Alternatives),
        ("hdr" | "fhdr", name) if !name.is_empty() => {
            if !conditional(name) {
                return Err("no condition on this field can hold".to_owned());
            }
            let values = values(&test)?;
            let alternatives =
                values.into_iter().map(|value| Match { headers: vec![(name.to_owned(), value)], ..Match::default() });
            Ok(Tested::Alternatives(alternatives.collect()))
        }
        ("url_param" | "urlp", name) if !name.is_empty() => {
            let values = values(&test)?;
            let alternatives =
                values.into_iter().map(|value| Match { query: vec![(name.to_owned(), value)], ..Match::default() });
            Ok(Tested::Alternatives(alternatives.collect()))
        }
        ("cook" | "cookie", _) => cookie(&test, words).map(Tested::Alternatives),
        ("src", _) => {
            let networks: Option<Vec<_>> = test.patterns.iter().map(|it| canonical(it)).collect();
            let mut client_ip =
                networks.filter(|it| !it.is_empty()).ok_or("clients are told apart by their networks alone")?;
            client_ip.sort();
            one(Match { client_ip, ..Match::default() })
        }
        (name, _) => Err(format!("routes have no condition on {name}")),
    }
}

fn host(test: &Test<'_>, differs: &mut Vec<String>) -> Result<Vec<Match>, String> {
    let mut found = Vec::new();
    let mut expressions = Vec::new();
    for pattern in &test.patterns {
        let lower = pattern.to_ascii_lowercase();
        let (name, port) = lower.rsplit_once(':').unwrap_or((&lower, ""));
        match test.matching.as_str() {
            "str" if is_host(name) => {
                if !port.is_empty() {
                    differs.push(format!("a host has no port: {name} is taken on any"));
                }
                found.push(Match { host: Host::Exact(name.to_owned()), ..Match::default() });
            }
            "end" if lower.strip_prefix('.').is_some_and(is_host) => {
                found.push(Match { host: Host::Wildcard(lower[1..].to_owned()), ..Match::default() });
            }
            "beg" => expressions.push(format!("{}.*", expression::literal(&lower))),
            "end" => expressions.push(format!(".*{}(?::[0-9]+)?", expression::literal(&lower))),
            "sub" => expressions.push(format!(".*{}.*", expression::literal(&lower))),
            "dom" => expressions.push(format!(r"(?:.*\.)?{}(?:[.:].*)?", expression::literal(&lower))),
            "reg" => {
                let whole = expression::whole(pattern, false)?;
                let port = if whole.ends_with(".*") { "" } else { "(?::[0-9]+)?" };
                expressions.push(format!("{whole}{port}"));
            }
            "found" => found.push(Match::default()),
            _ => return Err(format!("{pattern} is no host of a route")),
        }
    }
    if test.matching == "found" && test.patterns.is_empty() {
        return Ok(vec![Match::default()]);
    }
    if !expressions.is_empty() {
        let regex = format!("(?i){}", joined(expressions));
        found.push(Match { headers: vec![("host".to_owned(), Value::Regex(regex))], ..Match::default() });
    }
    Ok(found)
}

/// One expression for several.
fn joined(expressions: Vec<String>) -> String {
    match <[String; 1]>::try_from(expressions) {
        Ok([expression]) => expression,
        Err(expressions) => format!("(?:{})", expressions.join("|")),
    }
}

/// `whole`: as [`tested`] has it.
fn path(test: &Test<'_>, whole: bool, differs: &mut Vec<String>) -> Result<Vec<Match>, String> {
    let mut found = Vec::new();
    let mut expressions = Vec::new();
    let literal = |text: &str| expression::literal(text);
    let mut push = |path: Path| found.push(Match { path, ..Match::default() });
    for pattern in &test.patterns {
        let is_path = is_path(pattern);
        match test.matching.as_str() {
            "str" if is_path && !test.insensitive => push(Path::Exact((*pattern).to_owned())),
            "str" => expressions.push(literal(pattern)),
            "beg" if *pattern == "/" => push(Path::Any),
            "beg" if is_path && !test.insensitive => {
                match pattern.strip_suffix('/') {
                    Some(bare) => differs.push(format!("cairn takes {bare}, too")),
                    None if whole => expressions.push(format!("{}[^/].*", literal(pattern))),
                    None => {
                        differs.push(format!("HAProxy takes paths that go on without a slash, too, such as {pattern}x"))
                    }
                }
                push(Path::prefix(pattern));
            }
            "beg" => expressions.push(format!("{}.*", literal(pattern))),
            "end" => expressions.push(format!(".*{}", literal(pattern))),
            "sub" => expressions.push(format!(".*{}.*", literal(pattern))),
            "dir" => expressions.push(format!(".*/{}(?:/.*)?", literal(pattern.trim_matches('/')))),
            "reg" => match expression::whole(pattern, test.insensitive)? {
                whole if whole == ".*" || whole == "/.*" => push(Path::Any),
                whole => expressions.push(whole.trim_start_matches("(?i)").to_owned()),
            },
            kind => return Err(format!("routes do not compare paths by {kind}")),
        }
    }
    if !expressions.is_empty() {
        let mode = if test.insensitive { "(?i)" } else { "" };
        push(Path::Regex(format!("{mode}{}", joined(expressions))));
    }
    Ok(found)
}

fn values(test: &Test<'_>) -> Result<Vec<Value>, String> {
    if test.matching == "found" {
        return Ok(vec![Value::Present(true)]);
    }
    let mut found = Vec::new();
    let mut expressions = Vec::new();
    for pattern in &test.patterns {
        let literal = expression::literal(pattern);
        match test.matching.as_str() {
            "str" if !is_value(pattern) => return Err("no field has this value".to_owned()),
            "str" if !test.insensitive => found.push(Value::Exact((*pattern).to_owned())),
            "str" => expressions.push(literal),
            "beg" => expressions.push(format!("{literal}.*")),
            "end" => expressions.push(format!(".*{literal}")),
            "sub" => expressions.push(format!(".*{literal}.*")),
            "reg" => expressions.push(expression::whole(pattern, false)?),
            kind => return Err(format!("routes do not compare values by {kind}")),
        }
    }
    if !expressions.is_empty() {
        let mode = if test.insensitive { "(?i)" } else { "" };
        found.push(Value::Regex(format!("{mode}{}", joined(expressions))));
    }
    Ok(found)
}

fn cookie(test: &Test<'_>, words: &[Word]) -> Result<Vec<Match>, String> {
    // The name keeps its letter case.
    let first = words.first().map_or("", |word| &word.text);
    let name = first.split_once('(').and_then(|(_, rest)| rest.split([')', ',']).next()).unwrap_or_default();
    if !is_token(name) {
        return Err("it is no cookie of one name".to_owned());
    }
    let values = values(test)?;
    Ok(values.into_iter().map(|value| Match { cookies: vec![(name.to_owned(), value)], ..Match::default() }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(text: &str) -> Result<Condition, String> {
        let words = |text: &str| -> Vec<Word> {
            text.split_whitespace().map(|word| Word { text: word.to_owned(), quoted: false }).collect()
        };
        let acls = Acls::from([
            ("a".to_owned(), vec![words("path /a"), words("path /b")]),
            ("h".to_owned(), vec![words("hdr(x) 1")]),
        ]);
        Condition::of(
            &words(text.trim_end_matches(" widens")),
            &acls,
            &Facts { tls: true, port: 443 },
            text.contains("widens"),
        )
    }

    fn shape(text: &str) -> Vec<(usize, usize)> {
        condition(text).unwrap().clauses.iter().map(|it| (it.when.len(), it.unless.len())).collect()
    }

    #[test]
    fn what_denies_denies_more() {
        assert_eq!(shape("if { path_beg /x } !{ nbsrv(a) 1 } widens").len(), 1);
        assert!(condition("if { path_beg /x } !{ nbsrv(a) 1 }").is_err());
        assert!(condition("if { nbsrv(a) 1 } widens").is_err());
    }

    #[test]
    fn conditions_become_clauses() {
        for (text, expected) in [
            ("", &[(1, 0)][..]),
            ("if a", &[(2, 0)]),
            ("if !a", &[(1, 2)]),
            ("unless a", &[(1, 2)]),
            ("unless a h", &[(1, 2), (1, 1)]),
            ("unless a or h", &[(1, 3)]),
            ("unless !h", &[(1, 0)]),
            ("if a h", &[(2, 0)]),
            ("if a or h", &[(2, 0), (1, 0)]),
            ("if a || ! h", &[(2, 0), (1, 1)]),
            ("if { ssl_fc } h", &[(1, 0)]),
            ("if !{ ssl_fc } h", &[]),
            ("if { dst_port 443 } !FALSE", &[(1, 0)]),
            ("if { path /a } { path /b }", &[]),
            ("if { path_beg /a /b } METH_GET", &[(2, 0)]),
        ] {
            assert_eq!(shape(text), expected, "{text}");
        }
        for text in ["if nobody", "if { path", "if { src host.example }", "if { nbsrv(app) lt 1 }", "if { path_reg ( }"]
        {
            assert!(condition(text).is_err(), "{text}");
        }
    }
}
