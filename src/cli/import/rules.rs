//! Rules of which the first one that holds is taken, as routes of which the most specific one is. Not here: conditions
//! (`matching`), or writing routes (`routes`).

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use super::matching::{Match, Overlap, Path};

/// Most rules of a listener, with those that are made for what two have in common.
const RULES_MAX: usize = 2000;
/// Most rounds in which rules are added; each addition may call for others.
const ROUNDS_MAX: usize = 8;

/// When a rule is tried: earlier ones first.
pub(super) type Order = (usize, usize, usize);

/// A condition, as alternatives of which one must hold and others of which none may, and what to do then.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) when: Vec<Match>,
    pub(super) unless: Vec<Match>,
    /// Position among the bodies.
    pub(super) body: usize,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) matches: Match,
    pub(super) order: Order,
    pub(super) body: usize,
}

/// Pairs of bodies of which cairn takes the second for some requests that meet the first before. The pair of the same body twice:
/// some of its rules are not there.
pub(super) type Conflicts = BTreeSet<(usize, usize)>;

/// Rules without exceptions: where a case has some, what follows it stands before it, too, for those that the exceptions match.
/// The last case has to hold for every request.
pub(super) fn without_exceptions(cases: &[Case], conflicts: &mut Conflicts) -> Vec<(Match, usize)> {
    let mut rest: Vec<(Match, usize)> = Vec::new();
    for case in cases.iter().rev() {
        let mut all = Vec::new();
        for when in &case.when {
            for unless in &case.unless {
                excepted(case.body, when.and(unless), unless, &rest, &mut all, conflicts);
            }
        }
        all.extend(case.when.iter().map(|when| (when.clone(), case.body)));
        all.append(&mut rest);
        if all.len() > RULES_MAX {
            conflicts.insert((case.body, case.body));
            conflicts.extend(all.drain(RULES_MAX..).map(|(_, body)| (body, body)));
        }
        rest = all;
    }
    rest
}

/// Adds what follows for requests that an exception matches, up to what holds for all of them. Where no route can say what the
/// exception and its condition have in common, that is what follows for the exception alone, for which the body is never taken.
fn excepted(
    body: usize,
    exception: Overlap,
    alone: &Match,
    rest: &[(Match, usize)],
    all: &mut Vec<(Match, usize)>,
    conflicts: &mut Conflicts,
) {
    let exception = match exception {
        Overlap::Match(exception) => exception,
        Overlap::Nothing => return,
        Overlap::Unsayable => alone.clone(),
    };
    for (matches, next) in rest {
        match exception.and(matches) {
            Overlap::Match(overlap) => {
                let covered = overlap == exception;
                all.push((overlap, *next));
                if covered {
                    return;
                }
            }
            Overlap::Nothing => {}
            Overlap::Unsayable => {
                conflicts.insert((*next, body));
            }
        }
    }
}

/// Adds rules for what two have in common where the more specific one is not the earlier one, and writes prefixes behind expressions
/// as such. The result has each match once.
pub(super) fn resolved(mut rules: Vec<Rule>, conflicts: &mut Conflicts) -> Vec<Rule> {
    rules.sort_by_key(|rule| rule.order);
    let mut found = Found::default();
    for rule in rules {
        if !found.covers(&rule) {
            found.add(rule);
        }
    }
    for _ in 0..ROUNDS_MAX {
        let changed = found.prefixes_behind_expressions();
        if !found.round(conflicts) && !changed {
            break;
        }
    }
    found.prefixes_behind_expressions();
    found.conflicts(conflicts);
    found.rules.sort_by_key(|rule| rule.order);
    found.rules
}

impl Rule {
    /// Its path, and all other conditions of both.
    fn with_conditions_of(&self, other: &Self) -> Overlap {
        self.matches.and(&Match { path: Path::Any, ..other.matches.clone() })
    }
}

#[derive(Default)]
struct Found {
    rules: Vec<Rule>,
    at: BTreeMap<Match, usize>,
}

impl Found {
    /// Whether an earlier rule holds for every request for which this one does.
    fn covers(&self, rule: &Rule) -> bool {
        let covers = |earlier: &Rule| match earlier.matches.and(&rule.matches) {
            Overlap::Match(overlap) => overlap == rule.matches,
            Overlap::Nothing | Overlap::Unsayable => false,
        };
        self.rules.iter().any(covers)
    }

    /// Whether that has changed anything.
    fn add(&mut self, rule: Rule) -> bool {
        match self.at.get(&rule.matches) {
            Some(&at) if self.rules[at].order <= rule.order => false,
            Some(&at) => {
                self.rules[at] = rule;
                true
            }
            None => {
                self.at.insert(rule.matches.clone(), self.rules.len());
                self.rules.push(rule);
                true
            }
        }
    }

    /// Writes each prefix as an expression that meets one before it: cairn takes the prefix first. Returns whether there was one.
    fn prefixes_behind_expressions(&mut self) -> bool {
        self.rules.sort_by_key(|rule| rule.order);
        let mut changed = false;
        for at in 0..self.rules.len() {
            let rule = &self.rules[at];
            let Path::Prefix(prefix) = &rule.matches.path else { continue };
            let hides = |first: &Rule| {
                first.matches.path.is_expression()
                    && first.order < rule.order
                    && first.body != rule.body
                    && first.matches.and(&rule.matches) != Overlap::Nothing
            };
            if self.rules[..at].iter().any(hides) {
                self.rules[at].matches.path = Path::Behind(prefix.clone());
                changed = true;
            }
        }
        // Positions have changed, and of two rules that are the same now the earlier one stays.
        self.at.clear();
        for rule in std::mem::take(&mut self.rules) {
            self.add(rule);
        }
        changed
    }

    /// Two rules of which cairn takes the second where both match.
    fn reversed(&self, a: usize, b: usize) -> Option<(&Rule, &Rule)> {
        let (first, second) = if self.rules[b].order < self.rules[a].order { (b, a) } else { (a, b) };
        let (first, second) = (&self.rules[first], &self.rules[second]);
        let reversed = first.body != second.body && second.matches.rank(&first.matches) == Ordering::Greater;
        reversed.then_some((first, second))
    }

    /// Pairs for whose shared requests there is no rule that cairn takes, nor an earlier one for more than these.
    fn conflicts(&self, conflicts: &mut Conflicts) {
        for a in 0..self.rules.len() {
            for b in 0..a {
                let Some((first, second)) = self.reversed(a, b) else { continue };
                match first.matches.and(&second.matches) {
                    Overlap::Unsayable => {}
                    Overlap::Nothing => continue,
                    Overlap::Match(overlap) => {
                        // Not there if there were not rounds enough. An expression below a prefix is there, and is not taken.
                        let late = self.at.get(&overlap).is_none_or(|at| self.rules[*at].order > first.order);
                        if late || overlap.rank(&second.matches) == Ordering::Less {
                            conflicts.insert((first.body, second.body));
                        }
                        continue;
                    }
                }
                let said = |overlap: &Match| {
                    let says = |rule: &&Rule| {
                        rule.order <= first.order && rule.matches.and(overlap) == Overlap::Match(overlap.clone())
                    };
                    self.rules.iter().filter(says).any(|it| it.matches.rank(&second.matches) != Ordering::Less)
                };
                // One for the path of either, with all other conditions, is as good as one for both.
                let either = [first.with_conditions_of(second), second.with_conditions_of(first)];
                if !either.iter().any(|it| matches!(it, Overlap::Match(overlap) if said(overlap))) {
                    conflicts.insert((first.body, second.body));
                }
            }
        }
    }

    /// Looks at all pairs once.
    fn round(&mut self, conflicts: &mut Conflicts) -> bool {
        let mut changed = false;
        for a in 0..self.rules.len() {
            for b in 0..a {
                let Some((first, second)) = self.reversed(a, b) else { continue };
                let overlap = match first.matches.and(&second.matches) {
                    Overlap::Unsayable => first.with_conditions_of(second),
                    overlap => overlap,
                };
                if let Overlap::Match(overlap) = overlap {
                    let rule = Rule { matches: overlap, order: first.order, body: first.body };
                    changed |= self.add(rule);
                }
            }
            if self.rules.len() > RULES_MAX {
                let body = self.rules[a].body;
                conflicts.insert((body, body));
                return false;
            }
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::super::matching::{Host, Value};
    use super::*;

    fn host(name: &str) -> Match {
        Match { host: Host::Exact(name.to_owned()), ..Match::default() }
    }

    fn path(text: &str) -> Match {
        Match { path: Path::prefix(text), ..Match::default() }
    }

    fn header(name: &str) -> Match {
        Match { headers: vec![(name.to_owned(), Value::Present(true))], ..Match::default() }
    }

    fn all(matches: &[&Match]) -> Match {
        matches.iter().fold(Match::default(), |all, it| match all.and(it) {
            Overlap::Match(overlap) => overlap,
            _ => all,
        })
    }

    fn rules(matches: &[Match]) -> Vec<Rule> {
        let rule = |(at, matches): (usize, &Match)| Rule { matches: matches.clone(), order: (0, 0, at), body: at };
        matches.iter().enumerate().map(rule).collect()
    }

    /// The body that cairn would take: that of the most specific rule.
    fn taken(rules: &[Rule], request: &Match) -> usize {
        let holds = |rule: &&Rule| rule.matches.and(request) == Overlap::Match(request.clone());
        let best = rules.iter().filter(holds).reduce(|best, rule| match rule.matches.rank(&best.matches) {
            Ordering::Greater => rule,
            _ => best,
        });
        best.unwrap().body
    }

    /// All requests that conditions of these kinds can tell apart, against the first rule that holds.
    #[test]
    fn the_first_rule_is_the_most_specific_one() {
        let parts = [host("a"), host("b"), path("/x"), path("/x/y"), header("h"), header("i"), Match::default()];
        let pairs: Vec<_> = parts.iter().flat_map(|a| parts.iter().map(move |b| (a, b))).collect();
        let requests: Vec<_> = ["a", "b", "c"]
            .iter()
            .flat_map(|name| ["/x", "/x/y", "/z"].map(|it| all(&[&host(name), &path(it)])))
            .flat_map(|it| [it.clone(), all(&[&it, &header("h")]), all(&[&it, &header("h"), &header("i")])])
            .collect();
        for (a, b) in &pairs {
            for (c, d) in pairs.iter().step_by(3) {
                let list = rules(&[all(&[a, b]), all(&[c, d]), (*a).clone(), (*d).clone(), Match::default()]);
                let mut conflicts = Conflicts::new();
                let routes = resolved(list.clone(), &mut conflicts);
                assert!(conflicts.is_empty());
                for request in &requests {
                    let holds = |rule: &&Rule| rule.matches.and(request) == Overlap::Match(request.clone());
                    let first = list.iter().find(holds).unwrap().body;
                    let same = |body: usize| list[body].matches == list[first].matches;
                    let found = taken(&routes, request);
                    assert!(found == first || same(found), "{list:?}\n{routes:?}\n{request:?}");
                }
            }
        }
    }

    fn expression(text: &str) -> Match {
        Match { path: Path::Regex(text.to_owned()), ..Match::default() }
    }

    #[test]
    fn a_prefix_behind_an_expression_is_written_as_one() {
        let behind = Match { path: Path::Behind("/x".to_owned()), ..Match::default() };
        for regex in ["/x/y.*", ".*y"] {
            let mut conflicts = Conflicts::new();
            let list = [path("/x/a/b"), expression(regex), path("/x"), path("/z/a"), Match::default()];
            let found = resolved(rules(&list), &mut conflicts);
            assert!(conflicts.is_empty(), "{conflicts:?}");
            let paths: Vec<_> = found.iter().map(|rule| &rule.matches).collect();
            let other = if regex == ".*y" { Path::Behind("/z/a".to_owned()) } else { Path::prefix("/z/a") };
            let other = Match { path: other, ..Match::default() };
            assert_eq!(paths, [&list[0], &list[1], &behind, &other, &list[4]]);
        }
    }

    /// A host comes before a path: what is denied on any host is denied there, too, although no route can say what both paths share.
    #[test]
    fn an_expression_stands_before_more_special_rules() {
        let special = all(&[&path("/x"), &host("a"), &header("h")]);
        let list = [expression(".*y"), special.clone(), all(&[&expression("/x.*"), &host("b")]), Match::default()];
        let mut conflicts = Conflicts::new();
        let found = resolved(rules(&list), &mut conflicts);
        assert!(conflicts.is_empty(), "{conflicts:?}");
        for (conditions, other) in [(all(&[&host("a"), &header("h")]), 1), (host("b"), 2)] {
            let denied = all(&[&expression(".*y"), &conditions]);
            let at = |wanted: &dyn Fn(&Rule) -> bool| found.iter().position(wanted).unwrap();
            let first = at(&|rule| rule.matches == denied && rule.body == 0);
            let second = at(&|rule| rule.body == other);
            assert!(first < second && denied.rank(&found[second].matches) == Ordering::Equal);
        }
    }

    #[test]
    fn expressions_of_which_both_must_hold_are_told() {
        let cases = [
            Case { when: vec![expression("/x.*")], unless: vec![expression(".*y")], body: 0 },
            Case { when: vec![expression(".*z")], unless: vec![], body: 1 },
            Case { when: vec![Match::default()], unless: vec![], body: 2 },
        ];
        let mut conflicts = Conflicts::new();
        let list = without_exceptions(&cases, &mut conflicts);
        assert_eq!(conflicts, Conflicts::from([(1, 0)]));
        let expected = [(expression(".*y"), 2), (expression("/x.*"), 0), (expression(".*z"), 1), (Match::default(), 2)];
        assert_eq!(list, expected);
    }

    #[test]
    fn exceptions_are_rules_before() {
        let cases = [
            Case { when: vec![path("/x")], unless: vec![header("h")], body: 0 },
            Case { when: vec![host("a")], unless: vec![], body: 1 },
            Case { when: vec![Match::default()], unless: vec![], body: 2 },
        ];
        let list = without_exceptions(&cases, &mut Conflicts::new());
        let expected = [
            (all(&[&path("/x"), &header("h"), &host("a")]), 1),
            (all(&[&path("/x"), &header("h")]), 2),
            (path("/x"), 0),
            (host("a"), 1),
            (Match::default(), 2),
        ];
        assert_eq!(list, expected);
    }

    #[test]
    fn rules_that_are_never_reached_make_no_route() {
        let routes = resolved(rules(&[Match::default(), host("a"), path("/x")]), &mut Conflicts::new());
        assert_eq!(routes, rules(&[Match::default()]));
    }
}
