//! Rules of frontends and backends, in the order in which HAProxy tries them. Not here: conditions (`acl`), or servers (`servers`).

use super::super::haproxy::{Line, Section, Word};
use super::super::matching::{Match, Path};
use super::super::routes::{Action, Body, Edits, NewPath, Redirect};
use super::super::rules::Case;
use super::super::valid::{editable, encoded, is_authority, is_value};
use super::super::words::has_request_variable;
use super::acl::{Clause, Condition};
use super::formats::{by_itself, location, prefix, replaced, substitution, value};
use super::{Place, Translator, always, at, cases_of};

/// Most changes with conditions of one route: each doubles the routes.
const CONDITIONAL_MAX: usize = 3;

/// A change of what is forwarded.
#[derive(Clone, Debug)]
enum Change {
    Set(String, String),
    Add(String, String),
    Remove(String),
    Host(String),
    Path(NewPath),
    SetResponse(String, String),
    AddResponse(String, String),
    RemoveResponse(String),
}

/// Changes so far, each with its condition.
type Changes = Vec<(Condition, Change)>;

impl<'a> Translator<'a> {
    /// The cases of a frontend: the last one holds for every request.
    pub(super) fn cases(&mut self, place: &Place<'a>) -> Vec<Case> {
        let mut cases = Vec::new();
        let mut changes = Changes::new();
        self.rules(place, &mut cases, &mut changes);
        let section = place.section;
        for line in section.lines.iter().filter(|line| line.word(0) == "use_backend") {
            let Some(condition) = self.condition(place, line, 2) else { continue };
            let forwarded = self.forwarded(place, line, &changes);
            for clause in &condition.clauses {
                self.both(clause, &forwarded, &mut cases);
            }
        }
        let default = self.setting(section, &["default_backend"]);
        let forwarded = match default {
            Some(line) => self.forwarded(place, line, &changes),
            None if section.kind() == "listen" => self.own(place, &changes),
            None => Vec::new(),
        };
        let found = !forwarded.is_empty();
        cases.extend(forwarded);
        if !found {
            let mut body = self.plain(&section.head, &format!("{} rest", place.label), status(503));
            body.heading = format!("{} (what no rule takes)", body.heading);
            cases.push(always(self.body(body)));
        }
        cases
    }

    /// The condition of a line; None: it never holds, or cannot be said, which is noted.
    fn condition(&mut self, place: &Place<'a>, line: &'a Line, from: usize) -> Option<Condition> {
        let words = condition_words(line, from);
        let denies = ["deny", "reject", "tarpit", "silent-drop", "auth"].contains(&line.word(1));
        match Condition::of(words, &place.acls, &place.facts, denies) {
            Ok(condition) if condition.clauses.is_empty() => None,
            Ok(condition) => {
                for why in &condition.widened {
                    self.notes.left(at(line), &format!("{why}: it denies without that test"));
                }
                for how in &condition.differs {
                    self.notes.differs(at(line), how);
                }
                Some(condition)
            }
            Err(why) => {
                match denies {
                    true => self.notes.open(at(line), &why),
                    false => self.notes.left(at(line), &why),
                }
                None
            }
        }
    }

    /// What both a clause and each case say.
    fn both(&mut self, clause: &Clause, inner: &[Case], cases: &mut Vec<Case>) {
        for case in inner {
            let other = Clause { when: case.when.clone(), unless: case.unless.clone() };
            match clause.and(&other) {
                Ok(Some(Clause { when, unless })) => cases.push(Case { when, unless, body: case.body }),
                Ok(None) => {}
                Err(()) => drop(self.plan.conflicts.insert((case.body, case.body))),
            }
        }
    }

    /// `http-request`, `http-response` and `redirect` lines of a section.
    fn rules(&mut self, place: &Place<'a>, cases: &mut Vec<Case>, changes: &mut Changes) {
        let section = place.section;
        if let Some(line) = section.lines.iter().find(|line| line.word(0) == "monitor-uri") {
            match encoded(line.word(1)) {
                Ok(path) => {
                    let action = Action::Respond { status: 200, body: String::new(), content_type: None };
                    let body = self.plain(line, &format!("{} monitor", place.label), action);
                    let body = self.body(body);
                    let when = vec![Match { path: Path::Exact(path), ..Match::default() }];
                    cases.push(Case { when, unless: Vec::new(), body });
                }
                Err(why) => self.notes.left(at(line), &why),
            }
        }
        for line in section.lines.iter().filter(|line| line.word(0) == "http-request") {
            self.request_rule(place, line, cases, changes);
        }
        for line in section.lines.iter().filter(|line| line.word(0) == "redirect") {
            if let Some(condition) = self.condition(place, line, 1) {
                let body = self.redirect(place, line, 1);
                cases.extend(body.into_iter().flat_map(|body| cases_of(&condition, body)));
            }
        }
        for line in section.lines.iter().filter(|line| line.word(0) == "http-response") {
            self.response_rule(place, line, changes);
        }
    }

    fn request_rule(&mut self, place: &Place<'a>, line: &'a Line, cases: &mut Vec<Case>, changes: &mut Changes) {
        if let Some(why) = left(line.word(1)) {
            return self.notes.left(at(line), why);
        }
        let Some(condition) = self.condition(place, line, 2) else { return };
        let kind = line.word(1);
        let name = format!("{} {kind}", place.label);
        let body = match kind {
            "deny" | "reject" | "silent-drop" | "tarpit" => {
                if kind != "deny" {
                    self.notes.differs(at(line), "it is answered at once");
                }
                let usual = if kind == "tarpit" { 500 } else { 403 };
                let status = argument(line, &["deny_status", "status"]).and_then(|text| text.parse().ok());
                Some(self.plain(
                    line,
                    &name,
                    self::status(status.filter(|it| (200..600).contains(it)).unwrap_or(usual)),
                ))
            }
            "return" => self.returned(line, &name),
            "redirect" => {
                let body = self.redirect(place, line, 2);
                return cases.extend(body.into_iter().flat_map(|body| cases_of(&condition, body)));
            }
            "auth" => {
                self.notes.left(at(line), "cairn does not ask for it: what it guards is answered with 403");
                Some(self.plain(line, &name, status(403)))
            }
            _ => {
                let change = self.change(place, line, kind);
                return changes.extend(change.map(|(extra, change)| (narrowed(condition, extra), change)));
            }
        };
        if let Some(body) = body {
            let body = self.body(body);
            cases.extend(cases_of(&condition, body));
        }
    }

    fn returned(&mut self, line: &'a Line, name: &str) -> Option<Body> {
        let status = argument(line, &["status"]).and_then(|text| text.parse().ok()).unwrap_or(200);
        let text = match (argument(line, &["string", "lf-string"]), argument(line, &["file", "lf-file", "errorfile"])) {
            (Some(text), _) => match value(text) {
                Ok(text) if has_request_variable(&text) => {
                    self.notes.differs(at(line), "the body is left out: a text has no variables");
                    String::new()
                }
                Ok(text) => text,
                Err(sample) => {
                    self.notes.differs(at(line), &format!("the body is left out: there is no {sample} in it"));
                    String::new()
                }
            },
            (None, Some(file)) => {
                self.notes.differs(at(line), &format!("the body is left out: write body = \"@{file}\" for the file"));
                String::new()
            }
            (None, None) => String::new(),
        };
        if !(200..600).contains(&status) {
            self.notes.left(at(line), "it is no status");
            return None;
        }
        let text = if [204, 205, 304].contains(&status) { String::new() } else { text };
        let kind = argument(line, &["content-type"])
            .filter(|kind| !text.is_empty() && kind.is_ascii() && *kind != "text/plain");
        let action = Action::Respond { status, body: text, content_type: kind.map(str::to_owned) };
        let mut body = self.plain(line, name, action);
        let words = line.from(2);
        for (at, _) in words.iter().enumerate().filter(|(_, word)| word.text == "hdr") {
            let (Some(name), Some(text)) = (words.get(at + 1), words.get(at + 2)) else { continue };
            let name = name.text.to_ascii_lowercase();
            match value(&text.text) {
                Ok(value) if editable(&name) && is_value(&value) => body.response.set.push((name, value)),
                _ => self.notes.differs(self::at(line), &format!("{name} is left out")),
            }
        }
        Some(body)
    }

    fn redirect(&mut self, place: &Place<'a>, line: &'a Line, from: usize) -> Option<usize> {
        let words = line.from(from);
        let code = argument(line, &["code"]).and_then(|text| text.parse().ok()).unwrap_or(302);
        let (kind, text) = (words.first().map_or("", |it| &it.text), words.get(1).map_or("", |it| &it.text));
        let found = match kind {
            "scheme" if ["http", "https"].contains(&text) => match (text == "https") == place.facts.tls {
                true => Err("it leads back to where it came from".to_owned()),
                false => Ok(Redirect { scheme: Some(text.to_owned()), ..Redirect::default() }),
            },
            "prefix" => location(&format!("{}%[url]", text.trim_end_matches('/'))),
            "location" => location(text),
            _ => Err("it is no redirect of HAProxy".to_owned()),
        };
        let mut redirect = match found {
            Ok(redirect) => redirect,
            Err(why) => {
                self.notes.left(at(line), &why);
                return None;
            }
        };
        let has = |name: &str| words.iter().any(|word| word.text == name);
        if has("drop-query") {
            redirect.query = Some(String::new());
        }
        if has("set-cookie") || has("append-slash") {
            self.notes.differs(at(line), "no slash and no cookie are added");
        }
        if redirect.is_empty() || ![301, 302, 303, 307, 308].contains(&code) {
            self.notes.left(at(line), "it leads back to where it came from, or its code is none of a redirect");
            return None;
        }
        let action = Action::Redirect(Redirect { status: code, ..redirect });
        let body = self.plain(line, &format!("{} redirect", place.label), action);
        Some(self.body(body))
    }

    /// What a line changes of what is forwarded, and on which paths.
    fn change(&mut self, place: &Place<'a>, line: &'a Line, kind: &str) -> Option<(Option<Path>, Change)> {
        let (name, text) = (line.word(2).to_ascii_lowercase(), line.word(3));
        let plain = |change| Some((None, change));
        match kind {
            "set-path" | "replace-path" | "replace-uri" | "replace-pathq" => {
                let found = match kind {
                    "set-path" => substitution(line.word(2)),
                    _ => prefix(line.word(2), text, r"\1"),
                };
                let found = match found {
                    Some(NewPath::Prefix { from, to, verbatim }) => {
                        Some((Path::prefix(&from), NewPath::Prefix { from, to, verbatim }))
                    }
                    _ if kind != "set-path" => {
                        replaced(line.word(2), text).map(|(regex, path)| (Path::Regex(regex), path))
                    }
                    _ => None,
                };
                let Some((path, new)) = found else {
                    self.notes.left(at(line), "a route replaces a prefix of the path, or what an expression captures");
                    return None;
                };
                if place.section.kind() == "frontend" {
                    self.notes.differs(at(line), "conditions behind it see the path as it was");
                }
                Some((Some(path), Change::Path(new)))
            }
            "set-header" if name == "host" => match value(text) {
                Ok(host) if is_authority(&host) => plain(Change::Host(host)),
                Ok(_) | Err(_) => {
                    self.notes.left(at(line), "Host is replaced by a text alone");
                    None
                }
            },
            "del-header" if editable(&name) && !line.from(3).iter().any(|word| word.text == "-m") => {
                plain(Change::Remove(name))
            }
            "set-header" | "add-header" if editable(&name) => {
                if by_itself(&name, text, place) {
                    return None;
                }
                let port = place.facts.port.to_string();
                let text = if ["%[dst_port]", "%fp"].contains(&text) { &port } else { text };
                match value(text) {
                    Ok(value) if !is_value(&value) => {
                        self.notes.left(at(line), "no field has this value");
                        None
                    }
                    Ok(value) if kind == "set-header" => plain(Change::Set(name, value)),
                    Ok(value) => plain(Change::Add(name, value)),
                    Err(sample) => {
                        self.notes.left(at(line), &format!("there is no {sample} in values of fields"));
                        None
                    }
                }
            }
            _ => {
                self.notes.left(at(line), "cairn has nothing like it");
                None
            }
        }
    }

    fn response_rule(&mut self, place: &Place<'a>, line: &'a Line, changes: &mut Changes) {
        let Some(condition) = self.condition(place, line, 2) else { return };
        if !condition.is_always() {
            return self.notes.left(at(line), "fields of a response are edited without a condition");
        }
        let name = line.word(2).to_ascii_lowercase();
        let change = match (line.word(1), value(line.word(3))) {
            _ if !editable(&name) => Err("cairn writes this field where it is due".to_owned()),
            (_, Ok(value)) if !is_value(&value) => Err("no field has this value".to_owned()),
            ("set-header", Ok(value)) => Ok(Change::SetResponse(name, value)),
            ("add-header", Ok(value)) => Ok(Change::AddResponse(name, value)),
            ("del-header", _) if line.words.len() <= 3 => Ok(Change::RemoveResponse(name)),
            ("set-header" | "add-header", Err(sample)) => Err(format!("there is no {sample} in values of fields")),
            _ => Err("cairn has nothing like it".to_owned()),
        };
        match change {
            Ok(change) => changes.push((condition, change)),
            Err(why) => self.notes.left(at(line), &why),
        }
    }

    /// The cases of what a line sends to a backend.
    fn forwarded(&mut self, place: &Place<'a>, line: &'a Line, changes: &Changes) -> Vec<Case> {
        let name = line.word(1);
        let Some(section) = self.backend(name) else {
            let why = match name.contains("%[") {
                true => "the name of a backend is a text alone; here it is 503",
                false => "there is no such backend; here it is 503",
            };
            self.notes.left(at(line), why);
            let body = self.plain(line, &format!("{} {name}", place.label), status(503));
            return vec![always(self.body(body))];
        };
        let inner =
            Place { section, acls: Self::acls(section), facts: place.facts, label: format!("{}-{name}", place.label) };
        let (mut cases, mut all) = (Vec::new(), changes.clone());
        if !std::ptr::eq(section, place.section) {
            self.rules(&inner, &mut cases, &mut all);
        }
        cases.extend(self.sent(&inner, line, section, all));
        cases
    }

    /// The cases of a `listen` section that sends to its own servers.
    fn own(&mut self, place: &Place<'a>, changes: &Changes) -> Vec<Case> {
        let section = place.section;
        if !section.lines.iter().any(|line| line.word(0).starts_with("server")) {
            return Vec::new();
        }
        self.sent(place, &section.head, section, changes.clone())
    }

    fn sent(&mut self, place: &Place<'a>, line: &'a Line, section: &'a Section, changes: Changes) -> Vec<Case> {
        let Some(cluster) = self.cluster(section) else {
            self.notes.differs(at(line), "the backend has no server that cairn can reach: it is 503");
            let body = self.plain(line, &place.label, status(503));
            return vec![always(self.body(body))];
        };
        let mut body = self.plain(line, &place.label, Action::Cluster(cluster));
        body.limits.tunnel = self.time(section, "tunnel");
        let mut conditional = Changes::new();
        for (condition, change) in changes {
            if condition.is_always() {
                apply(&mut body, &change);
            } else if conditional.len() < CONDITIONAL_MAX {
                conditional.push((condition, change));
            } else {
                let how = format!("not more than {CONDITIONAL_MAX} changes depend on conditions: others are left out");
                self.notes.differs(at(line), &how);
            }
        }
        self.variants(body, &conditional)
    }

    /// A case for each set of changes whose conditions hold.
    fn variants(&mut self, body: Body, changes: &[(Condition, Change)]) -> Vec<Case> {
        let Some(((condition, change), rest)) = changes.split_first() else { return vec![always(self.body(body))] };
        let mut changed = body.clone();
        apply(&mut changed, change);
        let with = self.variants(changed, rest);
        let mut cases = Vec::new();
        for clause in &condition.clauses {
            self.both(clause, &with, &mut cases);
        }
        cases.extend(self.variants(body, rest));
        cases
    }
}

/// A condition that holds on some paths alone.
fn narrowed(mut condition: Condition, path: Option<Path>) -> Condition {
    let Some(path) = path.filter(|path| *path != Path::Any) else { return condition };
    let only = Clause { when: vec![Match { path, ..Match::default() }], unless: Vec::new() };
    condition.clauses = condition.clauses.iter().filter_map(|clause| clause.and(&only).ok().flatten()).collect();
    condition
}

fn apply(body: &mut Body, change: &Change) {
    let set = |edits: &mut Edits, name: &String, value: &String| {
        edits.set.retain(|(known, _)| known != name);
        edits.add.retain(|(known, _)| known != name);
        edits.remove.retain(|known| known != name);
        edits.set.push((name.clone(), value.clone()));
    };
    let add = |edits: &mut Edits, name: &String, value: &String| match edits
        .add
        .iter_mut()
        .find(|(known, _)| known == name)
    {
        Some(entry) => entry.1 = format!("{}, {value}", entry.1),
        None => edits.add.push((name.clone(), value.clone())),
    };
    let remove = |edits: &mut Edits, name: &String| {
        edits.set.retain(|(known, _)| known != name);
        edits.add.retain(|(known, _)| known != name);
        if !edits.remove.contains(name) {
            edits.remove.push(name.clone());
        }
    };
    match change {
        Change::Set(name, value) => set(&mut body.request, name, value),
        Change::Add(name, value) => add(&mut body.request, name, value),
        Change::Remove(name) => remove(&mut body.request, name),
        Change::Host(host) => body.host = Some(host.clone()),
        Change::Path(path) => body.path = Some(path.clone()),
        Change::SetResponse(name, value) => set(&mut body.response, name, value),
        Change::AddResponse(name, value) => add(&mut body.response, name, value),
        Change::RemoveResponse(name) => remove(&mut body.response, name),
    }
}

/// An answer with this status and nothing else.
fn status(status: u16) -> Action {
    Action::Respond { status, body: String::new(), content_type: None }
}

/// The words from `if` or `unless` on.
fn condition_words(line: &Line, from: usize) -> &[Word] {
    let words = line.from(from);
    let at = words.iter().position(|word| !word.quoted && matches!(word.text.as_str(), "if" | "unless"));
    at.and_then(|at| words.get(at..)).unwrap_or_default()
}

/// The word behind one of these.
fn argument<'l>(line: &'l Line, names: &[&str]) -> Option<&'l str> {
    let at = line.words.iter().position(|word| !word.quoted && names.contains(&word.text.as_str()))?;
    line.words.get(at + 1).map(|word| word.text.as_str())
}

/// Why a kind of rule is not imported, whatever its arguments.
fn left(kind: &str) -> Option<&'static str> {
    let begins = |prefixes: &[&str]| prefixes.iter().any(|it| kind.starts_with(it));
    Some(match kind {
        "use-service" => "admin.listen has /metrics; cairn runs no scripts",
        "set-src" | "set-src-port" => "trusted_proxies of a listener says whose x-forwarded-for is believed",
        "normalize-uri" => "routes see the normal form; normalize_path of a listener lets origins see it, too",
        "allow" => "rules behind it cannot be left out for some requests",
        "replace-header" | "replace-value" => "fields are set, added or removed",
        "set-var" | "unset-var" | "set-var-fmt" => "there are no variables",
        "capture" | "set-log-level" => "[log] has an access log, for all routes: access, format, headers",
        "cache-use" => "cairn is no cache",
        _ if begins(&["track-sc", "sc-", "sc0-", "set-nice", "set-mark", "set-tos"]) => {
            "there are no counters of clients"
        }
        _ if begins(&["lua.", "send-spoe", "set-map", "add-acl", "del-"]) && kind != "del-header" => {
            "cairn runs no scripts"
        }
        _ if begins(&[
            "set-query",
            "set-uri",
            "set-method",
            "wait-for",
            "do-resolve",
            "set-dst",
            "set-timeout",
            "early-hint",
        ]) =>
        {
            "cairn has nothing like it"
        }
        _ => return None,
    })
}
