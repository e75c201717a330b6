//! Locations, in the order in which nginx tries them, and what stands in them. Not here: forwarding (`forward`).

use super::super::expression;
use super::super::files::{Files, clipped};
use super::super::matching::{Match, Overlap, Path, canonical};
use super::super::nginx::Directive;
use super::super::output::Range;
use super::super::routes::{Action, Body, NewPath, Redirect};
use super::super::rules::Case;
use super::super::valid::encoded;
use super::condition::Test;
use super::scope::{Scope, at};
use super::{Translator, plain};

/// Deepest nesting of locations and conditions.
const DEPTH_MAX: usize = 20;

/// How a location matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Exact,
    /// `^~`: no expression is tried.
    Final,
    Prefix,
    Expression,
    /// `@name`, and the server itself.
    None,
}

/// Where directives stand, and what is made of them.
#[derive(Clone, Debug)]
pub(super) struct Place<'a> {
    pub(super) scope: Scope<'a>,
    /// What stands in the location itself, also where the scope is that of an `if` inside of it.
    pub(super) location: &'a [Directive],
    pub(super) range: Range,
    pub(super) heading: String,
    pub(super) name: String,
    pub(super) kind: Kind,
    /// As nginx has it.
    pub(super) pattern: String,
}

impl Place<'_> {
    /// What requests meet here.
    pub(super) fn body(&self, action: Action) -> Body {
        plain(self.range, &self.heading, &self.name, action)
    }

    /// The place of one directive in this one.
    pub(super) fn at_directive(&self, directive: &Directive, files: &Files) -> Self {
        let heading = format!("{}: {}", files.place(directive.span), clipped(&files.quote(directive.span), 100));
        Self { range: (directive.id, directive.last), heading, ..self.clone() }
    }
}

/// A location with its condition.
struct Location<'a> {
    place: Place<'a>,
    path: Path,
    /// Of a prefix whose requests are not all served: the paths that go on without a slash, which nginx takes, too.
    longer: Option<Path>,
    /// Position among expressions, or length.
    rank: (u8, usize),
}

impl<'a> Translator<'a> {
    /// The cases of a server: what stands before its locations, then those in nginx's order, then the rest.
    pub(super) fn server_cases(&mut self, scope: &Scope<'a>, server: &'a Directive, label: &str) -> Vec<Case> {
        let heading = format!("{}: server", self.notes.files.place(server.span));
        let range = (server.id, server.last);
        let place = Place {
            scope: scope.clone(),
            location: scope.innermost(),
            range,
            heading,
            name: label.to_owned(),
            kind: Kind::None,
            pattern: String::new(),
        };
        let mut cases = Vec::new();
        if self.rewrites(&place, &mut cases, 0) {
            return cases;
        }
        let mut locations = Vec::new();
        self.locations(&place, label, &mut locations, 0);
        locations.sort_by_key(|it| it.rank);
        self.apart_from_expressions(&mut locations);
        let has_root = locations.iter().any(|it| it.path == Path::Any);
        let exact: Vec<_> =
            locations.iter().filter(|it| it.place.kind == Kind::Exact).map(|it| it.path.clone()).collect();
        for Location { place, path, longer, .. } in locations {
            let slash = self.slash_redirect(&place, &path, &exact);
            let inner = self.location_cases(&place, 0);
            cases.extend(slash);
            let paths: Vec<&Path> = std::iter::once(&path).chain(&longer).collect();
            let with =
                |matches: &Match, path: &Path| match matches.and(&Match { path: path.clone(), ..Match::default() }) {
                    Overlap::Match(matches) => Some(matches),
                    Overlap::Nothing | Overlap::Unsayable => None,
                };
            let with_path = |matches: &Match| paths.iter().filter_map(|path| with(matches, path)).collect::<Vec<_>>();
            for case in inner {
                let all = case.when.len() + case.unless.len();
                let when: Vec<_> = case.when.iter().flat_map(with_path).collect();
                let unless: Vec<_> = case.unless.iter().flat_map(with_path).collect();
                if when.len() + unless.len() < all && matches!(path, Path::Regex(_)) {
                    self.plan.conflicts.insert((case.body, case.body));
                }
                cases.push(Case { when, unless, body: case.body });
            }
        }
        if !has_root {
            let heading = format!("{}: no location takes the rest", self.notes.files.place(server.span));
            let body = self.answer((server.id, server.id), &heading, &format!("{label}-rest"), 404);
            cases.push(Case { when: vec![Match::default()], unless: Vec::new(), body });
        }
        cases
    }

    fn locations(&mut self, outer: &Place<'a>, label: &str, found: &mut Vec<Location<'a>>, depth: usize) {
        for directive in outer.scope.innermost().iter().filter(|it| it.name == "location" && it.block.is_some()) {
            let (modifier, pattern) = match directive.arguments.as_slice() {
                [modifier, pattern] => (modifier.as_str(), pattern.as_str()),
                [joined] => match ["=", "^~", "~*", "~"].into_iter().find(|it| joined.starts_with(it)) {
                    Some(modifier) => (modifier, joined.trim_start_matches(modifier)),
                    None => ("", joined.as_str()),
                },
                _ => ("?", ""),
            };
            let position = found.len();
            let read = match modifier {
                _ if depth > DEPTH_MAX => Err("locations lie too deep in others".to_owned()),
                "" if pattern.starts_with('@') => continue,
                "=" => encoded(pattern).map(|path| (Kind::Exact, Path::Exact(path), (0, position))),
                "^~" => prefix(pattern).map(|path| (Kind::Final, path, (1, usize::MAX - pattern.len()))),
                "" => prefix(pattern).map(|path| (Kind::Prefix, path, (3, usize::MAX - pattern.len()))),
                "~" | "~*" if outer.kind != Kind::None => {
                    Err("an expression inside of a location: write it beside".to_owned())
                }
                "~" | "~*" => expression::whole(pattern, modifier == "~*")
                    .map(|regex| (Kind::Expression, Path::Regex(regex), (2, position))),
                _ => Err("it is no location".to_owned()),
            };
            let (kind, path, rank) = match read {
                Ok(read) => read,
                Err(why) => {
                    self.left_out(directive, &why);
                    continue;
                }
            };
            let quote = clipped(self.notes.files.quote(directive.span).trim_end_matches([' ', '{']), 100);
            let place = Place {
                scope: outer.scope.inside(directive.children()),
                location: directive.children(),
                range: (directive.id, directive.last),
                heading: format!("{}: {quote}", self.notes.files.place(directive.span)),
                name: format!("{label} {pattern}"),
                kind,
                pattern: pattern.to_owned(),
            };
            let mut place = place;
            if let Path::Regex(_) = &path {
                place.scope.facts.captures = super::redirect::groups(pattern);
            }
            self.locations(&place, label, found, depth + 1);
            found.push(Location { place, path, longer: None, rank });
        }
    }

    /// Where an expression may match below a prefix, nginx tries it first: the prefix becomes an expression behind it. Says what is
    /// different of those that stay.
    fn apart_from_expressions(&mut self, locations: &mut [Location<'a>]) {
        let expressions: Vec<_> =
            locations.iter().filter(|it| it.place.kind == Kind::Expression).map(|it| it.path.clone()).collect();
        for location in locations.iter_mut().filter(|it| matches!(it.place.kind, Kind::Prefix | Kind::Final)) {
            let pattern = location.place.pattern.clone();
            let own = Match { path: location.path.clone(), ..Match::default() };
            let meets = |path: &Path| own.and(&Match { path: path.clone(), ..Match::default() }) != Overlap::Nothing;
            let (id, heading) = (at_location(location), &location.place.heading);
            if location.path == Path::Any {
                continue;
            }
            if location.place.kind == Kind::Prefix && expressions.iter().any(meets) {
                if let Ok(path) = encoded(&pattern) {
                    location.path = Path::Regex(format!("{}(.*)", expression::literal(&path)));
                }
            } else if let Some(longer) = longer(&pattern).filter(|_| restricts(&location.place)) {
                location.longer = Some(longer);
            } else if !pattern.ends_with('/') {
                let how = format!("nginx takes paths that go on without a slash, too, such as {pattern}x");
                self.notes.conflict(id, heading, &how);
            } else if location.place.scope.one("proxy_pass").is_none() {
                self.notes.conflict(id, heading, &format!("cairn takes {}, too", pattern.trim_end_matches('/')));
            }
        }
    }

    /// nginx redirects from `/x` to a location `/x/` that forwards.
    fn slash_redirect(&mut self, place: &Place<'a>, path: &Path, exact: &[Path]) -> Option<Case> {
        let prefix = match path {
            Path::Prefix(_) | Path::Regex(_) if matches!(place.kind, Kind::Prefix | Kind::Final) => {
                place.pattern.trim_end_matches('/')
            }
            _ => return None,
        };
        let prefix = encoded(prefix).ok()?;
        let forwards = place.scope.innermost().iter().any(|it| it.name == "proxy_pass");
        let known = exact.contains(&Path::Exact(prefix.clone()));
        if known || !forwards || !place.pattern.ends_with('/') {
            return None;
        }
        let target = Some(NewPath::Whole(format!("{prefix}/")));
        let action = Action::Redirect(Redirect { status: 301, path: target, ..Redirect::default() });
        let mut body = place.body(action);
        body.name = format!("{} slash", place.name);
        body.heading = format!("{} (without its slash)", place.heading);
        let body = self.body(body);
        Some(Case {
            when: vec![Match { path: Path::Exact(prefix.clone()), ..Match::default() }],
            unless: Vec::new(),
            body,
        })
    }

    /// The cases of a location: the last one holds for every request.
    fn location_cases(&mut self, place: &Place<'a>, depth: usize) -> Vec<Case> {
        let mut cases = Vec::new();
        if self.rewrites(place, &mut cases, depth) {
            return cases;
        }
        cases.extend(self.guarded(place));
        cases
    }

    /// What a location serves, for those who may come in.
    fn guarded(&mut self, place: &Place<'a>) -> Vec<Case> {
        let mut cases = Vec::new();
        if place.location.iter().any(|it| it.name == "internal") {
            let body = self.answered(place, 404);
            cases.push(Case { when: vec![Match::default()], unless: Vec::new(), body });
            return cases;
        }
        if let Some(status) = self.closed(place) {
            let body = self.answered(place, status);
            cases.push(Case { when: vec![Match::default()], unless: Vec::new(), body });
            return cases;
        }
        let content = self.content(place);
        let content = self.allowed(place, content);
        let limit = place.location.iter().find(|it| it.name == "limit_except");
        let Some(limit) = limit else {
            cases.extend(content);
            return cases;
        };
        if !limit.children().iter().any(|it| it.name == "deny" && it.argument(0) == "all") {
            self.notes.open(at(limit), "other methods are denied to all, or to none");
            cases.extend(content);
            return cases;
        }
        let mut methods: Vec<_> = limit.arguments.iter().map(|it| it.to_ascii_uppercase()).collect();
        if methods.iter().any(|method| method == "GET") {
            methods.push("HEAD".to_owned());
        }
        // nginx knows no others.
        methods.retain(|method| method.bytes().all(|c| c.is_ascii_uppercase()));
        methods.sort();
        methods.dedup();
        // Without any, which nginx refuses, all are denied.
        let content = content.into_iter().filter(|_| !methods.is_empty()).collect::<Vec<_>>();
        let allowed = Match { methods, ..Match::default() };
        for case in content {
            let when = case.when.iter().filter_map(|it| match it.and(&allowed) {
                Overlap::Match(matches) => Some(matches),
                _ => None,
            });
            cases.push(Case { when: when.collect(), ..case });
        }
        let inner = place.at_directive(limit, self.notes.files);
        let body = self.answer(inner.range, &inner.heading, &format!("{} denied", place.name), 403);
        cases.push(Case { when: vec![Match::default()], unless: Vec::new(), body });
        cases
    }

    /// `if`, `return` and `rewrite` in their order. Whether one of them holds for every request.
    pub(super) fn rewrites(&mut self, place: &Place<'a>, cases: &mut Vec<Case>, depth: usize) -> bool {
        for directive in place.scope.innermost() {
            match directive.name.as_str() {
                "return" => {
                    let inner = place.at_directive(directive, self.notes.files);
                    let body = self.returned(if place.kind == Kind::None { &inner } else { place }, directive);
                    cases.push(Case { when: vec![Match::default()], unless: Vec::new(), body });
                    return true;
                }
                "rewrite" => match self.rewritten(place, directive) {
                    Some(case) => {
                        let always = case.when == [Match::default()];
                        cases.push(case);
                        if always {
                            return true;
                        }
                    }
                    None => self.inner_rewrite(place, directive),
                },
                "if" if depth > DEPTH_MAX => self.notes.left(at(directive), "conditions lie too deep in others"),
                "if" => self.tested(place, directive, cases, depth),
                _ => {}
            }
        }
        false
    }

    /// A block is not imported. What it would keep out comes in.
    fn left_out(&mut self, directive: &Directive, why: &str) {
        if closes(directive) { self.notes.open(at(directive), why) } else { self.notes.left(at(directive), why) }
    }

    /// The cases of an `if`.
    fn tested(&mut self, place: &Place<'a>, directive: &'a Directive, cases: &mut Vec<Case>, depth: usize) {
        let found = Test::of(directive).and_then(|test| {
            let map = self.maps.iter().find(|map| map.name == test.subject);
            match map {
                Some(map) => {
                    let passing = map.passing(&test, &place.scope)?;
                    Ok(passing.into_iter().map(|(it, value)| (it, Some((map.name.clone(), value)))).collect::<Vec<_>>())
                }
                None => Ok(vec![(test.condition(&place.scope)?, None)]),
            }
        });
        let found = match found {
            Ok(found) => found,
            Err(why) => return self.left_out(directive, &why),
        };
        for (condition, bound) in found {
            let mut inner = place.at_directive(directive, self.notes.files);
            inner.scope = place.scope.inside(directive.children());
            if let Some((name, value)) = bound {
                inner.scope.bind(&name, &value);
            }
            let mut own = Vec::new();
            let ends = self.rewrites(&inner, &mut own, depth + 1);
            if !ends && inner.scope.innermost().iter().any(|it| it.name == "proxy_pass") && place.kind != Kind::None {
                own.extend(self.guarded(&inner));
            }
            if own.is_empty() {
                return self
                    .notes
                    .left(at(directive), "a route can answer or forward under a condition, and nothing else");
            }
            for case in own {
                let mut when = Vec::new();
                for a in &condition.when {
                    for b in &case.when {
                        if let Overlap::Match(matches) = a.and(b) {
                            when.push(matches);
                        }
                    }
                }
                let unless = condition.unless.iter().chain(&case.unless).cloned().collect();
                cases.push(Case { when, unless, body: case.body });
            }
        }
    }

    /// The status of a location that is closed to everybody here, because it is guarded in a way that cairn does not have.
    fn closed(&mut self, place: &Place<'a>) -> Option<u16> {
        for name in ["auth_basic", "auth_request"] {
            if let Some(directive) = place.scope.one(name).filter(|it| it.argument(0) != "off") {
                self.notes.left(at(directive), "cairn does not ask for it: what it guards is answered with 403");
                if let Some(file) = place.scope.one("auth_basic_user_file") {
                    self.notes.left(at(file), "see auth_basic");
                }
                return Some(403);
            }
        }
        None
    }

    /// Who may come in, by `allow` and `deny` in their order: the cases of those who may not, up to those of all others.
    fn allowed(&mut self, place: &Place<'a>, content: Vec<Case>) -> Vec<Case> {
        let mut cases = Vec::new();
        for rule in place.scope.all_among(&["allow", "deny"]) {
            let network = match rule.argument(0) {
                "all" => Some(Match::default()),
                text => canonical(text).map(|network| Match { client_ip: vec![network], ..Match::default() }),
            };
            let Some(network) = network else {
                self.notes.left(at(rule), "clients are told apart by their networks alone");
                continue;
            };
            if rule.name == "deny" {
                let inner = place.at_directive(rule, self.notes.files);
                let body = self.answer(inner.range, &inner.heading, &format!("{} denied", place.name), 403);
                cases.push(Case { when: vec![network.clone()], unless: Vec::new(), body });
            } else {
                for case in &content {
                    let both = |it: &Match| match it.and(&network) {
                        Overlap::Match(matches) => Some(matches),
                        Overlap::Nothing | Overlap::Unsayable => None,
                    };
                    cases.push(Case { when: case.when.iter().filter_map(both).collect(), ..case.clone() });
                }
            }
            if network == Match::default() {
                return cases;
            }
        }
        cases.extend(content);
        cases
    }
}

fn at_location(location: &Location<'_>) -> usize {
    location.place.range.0
}

/// The prefix of a location; the root is any path.
fn prefix(pattern: &str) -> Result<Path, String> {
    encoded(pattern).map(|path| Path::prefix(&path))
}

/// The paths that go on behind a prefix without a slash; None: it has one at its end.
fn longer(pattern: &str) -> Option<Path> {
    let path = encoded(pattern).ok().filter(|_| !pattern.ends_with('/'))?;
    Some(Path::Regex(format!("{}([^/].*)", expression::literal(&path))))
}

/// Whether something in a location may keep requests out.
fn restricts(place: &Place<'_>) -> bool {
    const NAMES: [&str; 9] =
        ["allow", "deny", "return", "if", "internal", "limit_except", "auth_basic", "auth_request", "auth_jwt"];
    place.scope.innermost().iter().any(|it| NAMES.contains(&it.name.as_str()))
}

/// Whether something in a block keeps requests out.
fn closes(directive: &Directive) -> bool {
    directive.children().iter().any(|it| match it.name.as_str() {
        "deny" | "internal" | "auth_basic" | "auth_request" => true,
        "return" => it.argument(0).starts_with('4'),
        _ => closes(it),
    })
}
