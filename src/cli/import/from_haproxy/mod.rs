//! HAProxy to cairn: frontends, and the sections that they inherit from. Not here: the grammar (`haproxy`), conditions (`acl`), rules
//! (`actions`), or servers (`servers`).

mod acl;
mod actions;
mod affinity;
mod formats;
mod listeners;
mod servers;
mod words;

use std::collections::{BTreeMap, BTreeSet};

use cairn::config::SourceSpan;
use cairn::printable::printable;

use super::files::{Files, clipped};
use super::haproxy::{Line, Section};
use super::matching::Match;
use super::output::{Notes, Range};
use super::routes::{Action, Body, Edits, Limits, Plan};
use super::rules::{Case, Rule, without_exceptions};
use acl::{Acls, Condition};
use listeners::Bind;

/// Most routes before they are ordered.
const ROUTES_MAX: usize = 20_000;

/// What is known of the requests of a listener before they come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Facts {
    tls: bool,
    port: u16,
}

/// What is made while sections are read.
struct Translator<'a> {
    notes: Notes<'a>,
    plan: Plan,
    /// `global`, `defaults`, …
    sections: &'a [Section],
    /// Names of listeners, and of clusters.
    listener_names: BTreeSet<String>,
    cluster_names: BTreeSet<String>,
    /// Clusters by the position of their section's first line.
    clusters: BTreeMap<usize, Option<String>>,
    routes: usize,
}

/// Where rules stand, and what is known there.
#[derive(Clone)]
struct Place<'a> {
    section: &'a Section,
    acls: Acls,
    facts: Facts,
    /// Begins the names of routes.
    label: String,
}

/// A line's position and place, for notes.
fn at(line: &Line) -> (usize, SourceSpan) {
    (line.id, line.span)
}

/// Translates all sections. Returns what they become, the notes, and how many lines there are.
pub(super) fn translate<'a>(files: &'a Files, sections: &'a [Section]) -> (Plan, Notes<'a>, usize) {
    let mut translator = Translator {
        notes: Notes::new(files),
        plan: Plan::default(),
        sections,
        listener_names: BTreeSet::new(),
        cluster_names: BTreeSet::new(),
        clusters: BTreeMap::new(),
        routes: 0,
    };
    let total = translator.account();
    translator.workers();
    for section in sections.iter().filter(|it| matches!(it.kind(), "frontend" | "listen")) {
        if translator.speaks_http(section) {
            translator.frontend(section);
        }
    }
    translator.plan.resolve();
    translator.conflicts();
    translator.unused();
    let Translator { mut plan, notes, .. } = translator;
    plan.heading = vec![
        "Imported from HAProxy by `cairn import`; read it before it serves. What HAProxy does and cairn does not is said where it stood."
            .to_owned(),
        "cairn sends x-forwarded-for, -proto, -host, forwarded, via and x-request-id to origins by itself.".to_owned(),
        "Time-outs that HAProxy was not told are cairn's own: `cairn config show -c FILE` lists all.".to_owned(),
        String::new(),
    ];
    (plan, notes, total)
}

impl<'a> Translator<'a> {
    /// Counts lines, and says which have no translation.
    fn account(&mut self) -> usize {
        let mut total = 0;
        for section in self.sections {
            total += 1 + section.lines.len();
            let known = ["global", "defaults", "frontend", "backend", "listen"].contains(&section.kind());
            if !known {
                self.notes.left(at(&section.head), "cairn has nothing like this section");
                section.lines.iter().for_each(|line| self.notes.left_quietly(line.id));
                continue;
            }
            if matches!(section.kind(), "frontend" | "backend" | "listen") && !self.speaks_http(section) {
                self.notes.left(at(&section.head), "this section is not in `mode http`: write a listener with `protocol = \"tcp\"`, and routes with `sni`, by hand");
                section.lines.iter().for_each(|line| self.notes.left_quietly(line.id));
                continue;
            }
            for line in &section.lines {
                let words: Vec<_> = line.words.iter().map(|word| word.text.as_str()).collect();
                let text = words.join(" ");
                if text.starts_with("option forwardfor") {
                    let how = "x-forwarded-for of a client goes on only if the listener's trusted_proxies name it";
                    self.notes.differs(at(line), how);
                }
                match words::reason(&text) {
                    Some(why) if words::restricts(&text) => self.notes.open(at(line), why),
                    Some(why) => self.notes.left(at(line), why),
                    None => {}
                }
            }
        }
        total
    }

    /// Lines of a section and of those that it inherits from, the nearest first.
    fn inherited(&self, section: &'a Section) -> Vec<&'a Line> {
        let mut lines: Vec<&Line> = section.lines.iter().rev().collect();
        let mut current = section;
        for _ in 0..=self.sections.len() {
            let from = current.head.words.iter().position(|word| word.text == "from");
            let named = from.map(|at| current.head.word(at + 1));
            let position = self.sections.iter().position(|it| std::ptr::eq(it, current)).unwrap_or(0);
            let before = self.sections[..position].iter().rev();
            let mut defaults = before.filter(|it| it.kind() == "defaults");
            let next = match named {
                Some(name) => defaults.find(|it| it.name() == name),
                // One of `defaults` begins anew.
                None if current.kind() == "defaults" => None,
                None => defaults.next(),
            };
            let Some(next) = next else { break };
            lines.extend(next.lines.iter().rev());
            current = next;
        }
        lines
    }

    /// The line that holds in a section and begins with these words.
    fn setting(&self, section: &'a Section, words: &[&str]) -> Option<&'a Line> {
        let begins = |line: &&&Line| words.iter().enumerate().all(|(at, word)| line.word(at) == *word);
        self.inherited(section).iter().find(begins).copied()
    }

    fn speaks_http(&self, section: &'a Section) -> bool {
        self.setting(section, &["mode"]).is_some_and(|line| line.word(1) == "http")
    }

    fn workers(&mut self) {
        let lines = self.sections.iter().filter(|it| it.kind() == "global").flat_map(|it| &it.lines);
        for line in lines {
            match line.word(0) {
                "nbthread" => match line.word(1).parse::<u32>() {
                    Ok(count @ 1..=1024) => self.plan.workers = Some(count),
                    _ => self.notes.left(at(line), "there are 1 to 1024 workers"),
                },
                "maxconn" => {
                    self.notes.left(
                        at(line),
                        "descriptors bound all connections; listener.limits.connections bounds those of one listener",
                    );
                }
                _ => {}
            }
        }
        let defaults = self.sections.iter().filter(|it| it.kind() == "defaults").flat_map(|it| &it.lines);
        for line in defaults
            .filter(|line| ["http-request", "http-response", "default_backend", "redirect"].contains(&line.word(0)))
        {
            if line.word(0) != "default_backend" {
                self.notes.left(at(line), "rules are read in frontends and backends alone");
            }
        }
    }

    /// Named conditions of a section.
    fn acls(section: &'a Section) -> Acls {
        let mut acls = Acls::new();
        for line in section.lines.iter().filter(|line| line.word(0) == "acl") {
            acls.entry(line.word(1).to_owned()).or_default().push(line.from(2).to_vec());
        }
        acls
    }

    /// Listeners and routes of a frontend: once for each kind of its addresses that it tells apart.
    fn frontend(&mut self, section: &'a Section) {
        if section.lines.iter().any(|line| line.word(0) == "disabled") {
            return self.notes.left(at(&section.head), "it is disabled");
        }
        let binds = self.binds(section);
        let place = self.notes.files.place(section.head.span);
        let shown = clipped(&printable(section.name()), 100);
        let range = (section.head.id, section.last());
        let kind = section.kind().to_owned();
        let group = self.plan.groups.len();
        self.plan.groups.push((range, format!("{place}: {kind} {shown}")));
        let tells_apart = section.lines.iter().any(|line| {
            line.words.iter().any(|word| ["ssl_fc", "dst_port"].iter().any(|name| word.text.contains(name)))
        });
        let mut groups: BTreeMap<(bool, u16), Vec<usize>> = BTreeMap::new();
        for Bind { listener, facts } in &binds {
            let kind = if tells_apart { (facts.tls, facts.port) } else { (false, 0) };
            groups.entry(kind).or_default().push(*listener);
            self.plan.rules.push(Vec::new());
        }
        for listeners in groups.values() {
            let first = binds.iter().find(|bind| Some(&bind.listener) == listeners.first());
            let facts = first.map(|bind| bind.facts).unwrap_or_default();
            let place = Place { section, acls: Self::acls(section), facts, label: section.name().to_owned() };
            let cases = self.cases(&place);
            let rules = without_exceptions(&cases, &mut self.plan.conflicts);
            for listener in listeners {
                for (at, (matches, body)) in rules.iter().enumerate() {
                    self.routes += 1;
                    if self.routes > ROUTES_MAX {
                        return self
                            .notes
                            .left(self::at(&section.head), "these are too many routes: import parts of it");
                    }
                    let rule = Rule { matches: matches.clone(), order: (0, group, at), body: *body };
                    if let Some(rules) = self.plan.rules.get_mut(*listener) {
                        rules.push(rule);
                    }
                }
            }
        }
    }

    /// Says where cairn takes another one of two rules.
    fn conflicts(&mut self) {
        for (first, second) in self.plan.conflicts.clone() {
            let (body, other) = (&self.plan.bodies[first], &self.plan.bodies[second]);
            let how = match first == second {
                true => "its conditions do not all fit into routes".to_owned(),
                false => format!("where both hold, HAProxy takes this one and cairn takes {}", other.heading),
            };
            match body.refuses() && (first == second || !other.refuses()) {
                true => self.notes.weaker(body.range.0, &body.heading, &how),
                false => self.notes.conflict(body.range.0, &body.heading, &how),
            }
        }
    }

    /// Adds what requests meet, and returns its position.
    fn body(&mut self, body: Body) -> usize {
        self.plan.bodies.push(body);
        self.plan.bodies.len() - 1
    }

    /// A body without edits, named after a line.
    fn plain(&self, line: &Line, name: &str, action: Action) -> Body {
        let heading =
            format!("{}: {}", self.notes.files.place(line.span), clipped(&self.notes.files.quote(line.span), 120));
        let range: Range = (line.id, line.id);
        let (request, response) = (Edits::default(), Edits::default());
        Body {
            range,
            heading,
            name: name.to_owned(),
            action,
            path: None,
            host: None,
            request,
            response,
            limits: Limits::default(),
            error_pages: Vec::new(),
        }
    }
}

/// The cases of a condition.
fn cases_of(condition: &Condition, body: usize) -> Vec<Case> {
    let case = |clause: &acl::Clause| Case { when: clause.when.clone(), unless: clause.unless.clone(), body };
    condition.clauses.iter().map(case).collect()
}

/// What holds for every request.
fn always(body: usize) -> Case {
    Case { when: vec![Match::default()], unless: Vec::new(), body }
}

/// A time of HAProxy in milliseconds: `30s`, `1m`, `500ms`, `10us`; without unit: milliseconds.
fn milliseconds(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().ok()?;
    let scale = match &text[digits..] {
        "us" => return Some(number.div_ceil(1000)),
        "" | "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(scale)
}
