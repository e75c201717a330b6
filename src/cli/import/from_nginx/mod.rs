//! nginx to cairn: servers and their names. Not here: the grammar (`nginx`), locations (`location`), or listeners (`listen`).

mod affinity;
mod condition;
mod forward;
mod listen;
mod location;
mod redirect;
mod scope;
mod tls;
mod upstream;
mod words;

use std::collections::{BTreeMap, BTreeSet};

use super::files::Files;
use super::matching::{Host, Match, Overlap};
use super::nginx::Directive;
use super::output::{self, Notes};
use super::routes::{Action, Body, Edits, Limits, Plan};
use super::rules::{Rule, without_exceptions};
use super::valid::is_host;
use condition::Map;
use listen::Socket;
use scope::{Scope, at};

/// Most routes before they are ordered.
const ROUTES_MAX: usize = 20_000;

/// What is made while servers are read.
struct Translator<'a> {
    notes: Notes<'a>,
    plan: Plan,
    maps: Vec<Map<'a>>,
    /// `split_clients` blocks.
    splits: Vec<&'a Directive>,
    /// `upstream` blocks.
    upstreams: Vec<&'a Directive>,
    /// Names of clusters.
    names: BTreeSet<String>,
    /// Greatest times to connect and to respond, milliseconds, by cluster.
    times: BTreeMap<String, (u64, u64)>,
    /// Time to respond of bodies that forward: body, cluster, milliseconds.
    waits: Vec<(usize, String, u64)>,
    /// Directives that were read.
    total: usize,
    routes: usize,
}

/// A `server` block.
struct Server<'a> {
    directive: &'a Directive,
    scope: Scope<'a>,
    names: Vec<Name>,
    /// Positions among the sockets, and whether it is the default there.
    sockets: Vec<(usize, bool)>,
}

/// One name of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Name {
    Host(Host),
    /// A condition on the field.
    Expression(Match),
}

/// Translates all directives. Returns what they become, the notes, and how many directives there are.
pub(super) fn translate<'a>(files: &'a Files, directives: &'a [Directive]) -> (Plan, Notes<'a>, usize) {
    let http = directives.iter().find(|it| it.name == "http").map_or(directives, Directive::children);
    let root = Scope::new(directives);
    let scope = if std::ptr::eq(http, directives) { root } else { root.inside(http) };
    let of = |name: &str| http.iter().filter(|it| it.name == name && it.block.is_some()).collect::<Vec<_>>();
    let mut translator = Translator {
        notes: Notes::new(files),
        plan: Plan::default(),
        maps: of("map").into_iter().map(Map::of).chain(of("geo").into_iter().map(Map::of_networks)).collect(),
        splits: of("split_clients"),
        upstreams: of("upstream"),
        names: BTreeSet::new(),
        times: BTreeMap::new(),
        waits: Vec::new(),
        total: 0,
        routes: 0,
    };
    translator.account(directives);
    translator.workers(directives);
    translator.servers(&scope, &of("server"));
    translator.plan.resolve();
    translator.conflicts();
    translator.clusters();
    let Translator { mut plan, notes, total, .. } = translator;
    plan.heading = vec![
        "Imported from nginx by `cairn import`; read it before it serves. What nginx does and cairn does not is said where it stood.".to_owned(),
        "cairn sends x-forwarded-for, -proto, -host, forwarded, via and x-request-id to origins by itself, and passes their Server on."
            .to_owned(),
        "Time-outs that nginx was not told are cairn's own but for those of clusters: `cairn config show -c FILE` lists all.".to_owned(),
        String::new(),
    ];
    (plan, notes, total)
}

impl<'a> Translator<'a> {
    /// Counts directives, and says which have no translation. Entries of maps and the like are no directives.
    fn account(&mut self, directives: &'a [Directive]) {
        for directive in directives {
            self.total += 1;
            if directive.argument(0).ends_with("mime.types") {
                // Types of files that are not served.
            } else if let Some(why) = &directive.missing {
                self.notes.left(at(directive), &format!("a file cannot be read: {why}"));
            } else if directive.name == "include" && self.missing_file(directive) {
                self.notes.left(at(directive), "there is no such file here");
            }
            match words::reason(&directive.name) {
                Some(why) if words::restricts(&directive.name) => self.notes.open(at(directive), why),
                Some(why) => self.notes.left(at(directive), why),
                None if ["http", "server", "location", "upstream", "events", "if", "limit_except"]
                    .contains(&directive.name.as_str()) =>
                {
                    self.account(directive.children());
                }
                None => {}
            }
        }
    }

    /// Whether an `include` names one file, and it is not there. Directives that it brought would stand behind it.
    fn missing_file(&self, directive: &Directive) -> bool {
        let name = directive.argument(0);
        !super::files::is_pattern(name) && !self.notes.files.sources_named(name)
    }

    fn workers(&mut self, directives: &'a [Directive]) {
        let Some(directive) = directives.iter().find(|it| it.name == "worker_processes") else { return };
        match directive.argument(0).parse::<u32>() {
            Ok(count @ 1..=1024) => self.plan.workers = Some(count),
            Ok(_) => self.notes.left(at(directive), "there are 1 to 1024 workers"),
            // `auto` is the default.
            Err(_) => {}
        }
    }

    fn servers(&mut self, scope: &Scope<'a>, servers: &[&'a Directive]) {
        let mut sockets: Vec<Socket> = Vec::new();
        let mut all: Vec<Server<'a>> = Vec::new();
        for (position, directive) in servers.iter().enumerate() {
            let found = self.sockets(directive, position, &mut sockets);
            let inner = scope.inside(directive.children());
            let names = self.server_names(directive);
            all.push(Server { directive, scope: inner, names, sockets: found });
        }
        for (position, socket) in sockets.iter().enumerate() {
            for (server, it) in all.iter_mut().enumerate() {
                for own in it.sockets.iter_mut().filter(|own| own.0 == position) {
                    own.1 = socket.default == server;
                }
            }
        }
        self.listeners(&sockets, &all);
        self.plan.rules = vec![Vec::new(); sockets.len()];
        for position in 0..all.len() {
            self.server(position, &all, &sockets);
        }
    }

    fn server_names(&mut self, server: &'a Directive) -> Vec<Name> {
        let mut names = Vec::new();
        for directive in server.children().iter().filter(|it| it.name == "server_name") {
            for text in &directive.arguments {
                match name(text) {
                    Ok(found) => names.extend(found),
                    Err(why) => self.notes.left(at(directive), &why),
                }
            }
        }
        names.dedup();
        names
    }

    /// Routes of one server: once for each kind of its sockets that it tells apart.
    fn server(&mut self, position: usize, all: &[Server<'a>], sockets: &[Socket]) {
        let server = &all[position];
        let directive = server.directive;
        let first = server.names.iter().find_map(|name| match name {
            Name::Host(Host::Exact(name)) => Some(name.clone()),
            Name::Host(Host::Wildcard(suffix)) => Some(suffix.clone()),
            _ => None,
        });
        let listed = directive.children().iter().find(|it| it.name == "server_name");
        let listed = listed.map_or(String::new(), |it| format!(" {}", it.arguments.join(" ").trim()));
        let place = self.notes.files.place(directive.span);
        let heading = super::files::clipped(&format!("{place}: server{listed}"), 200);
        self.plan.groups.push(((directive.id, directive.last), cairn::printable::printable(&heading).into_owned()));
        let apart = tells_apart(directive);
        let mut groups: BTreeMap<(bool, u16), Vec<(usize, bool)>> = BTreeMap::new();
        for &(socket, default) in &server.sockets {
            let kind = if apart { (sockets[socket].tls, sockets[socket].port) } else { (false, 0) };
            groups.entry(kind).or_default().push((socket, default));
        }
        for members in groups.values() {
            let mut scope = server.scope.clone();
            let one = |mut values: Vec<_>| {
                values.dedup();
                if let [value] = values[..] { Some(value) } else { None }
            };
            let tls = one(members.iter().map(|(socket, _)| u16::from(sockets[*socket].tls)).collect());
            scope.facts.tls = tls.map(|tls| tls == 1);
            scope.facts.port = one(members.iter().map(|(socket, _)| sockets[*socket].port).collect());
            scope.facts.name = first.clone().unwrap_or_default();
            let label =
                first.clone().unwrap_or_else(|| format!("port-{}", members.first().map_or(0, |it| sockets[it.0].port)));
            let cases = self.server_cases(&scope, directive, &label);
            let rules = without_exceptions(&cases, &mut self.plan.conflicts);
            for &(socket, default) in members {
                let hosts = hosts(position, all, socket, default);
                if hosts.is_empty() {
                    self.notes
                        .left(at(directive), "it is the default of no address and has no name that a request can have");
                }
                for (rank, host) in hosts {
                    self.rules(socket, (rank, position), &host, &rules, directive);
                }
            }
        }
    }

    fn rules(
        &mut self,
        socket: usize,
        (rank, server): (usize, usize),
        host: &Match,
        rules: &[(Match, usize)],
        directive: &Directive,
    ) {
        for (at, (matches, body)) in rules.iter().enumerate() {
            self.routes += 1;
            if self.routes > ROUTES_MAX {
                self.notes.left(scope::at(directive), "these are too many routes: import servers one by one");
                return;
            }
            match matches.and(host) {
                Overlap::Match(matches) => {
                    self.plan.rules[socket].push(Rule { matches, order: (rank, server, at), body: *body });
                }
                Overlap::Nothing => {}
                Overlap::Unsayable => drop(self.plan.conflicts.insert((*body, *body))),
            }
        }
    }

    /// Says at both places where cairn takes another one of two locations.
    fn conflicts(&mut self) {
        for (first, second) in self.plan.conflicts.clone() {
            let (body, other) = (&self.plan.bodies[first], &self.plan.bodies[second]);
            let how = match first == second {
                true => "its conditions do not all fit into routes".to_owned(),
                false => format!("where both match, nginx takes this one and cairn takes {}", other.heading),
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

    /// An answer with this status and nothing else.
    fn answer(&mut self, range: output::Range, heading: &str, name: &str, status: u16) -> usize {
        let action = Action::Respond { status, body: String::new(), content_type: None };
        self.body(plain(range, heading, name, action))
    }
}

/// A body without edits.
fn plain(range: output::Range, heading: &str, name: &str, action: Action) -> Body {
    Body {
        range,
        heading: heading.to_owned(),
        name: name.to_owned(),
        action,
        path: None,
        host: None,
        request: Edits::default(),
        response: Edits::default(),
        limits: Limits::default(),
        error_pages: Vec::new(),
    }
}

/// Whether a server does different things for HTTP and HTTPS, or by port.
fn tells_apart(directive: &Directive) -> bool {
    directive.children().iter().any(|it| {
        let tested = it.name == "if"
            && it
                .arguments
                .iter()
                .any(|word| ["$scheme", "$https", "$server_port"].iter().any(|name| word.contains(name)));
        tested || tells_apart(it)
    })
}

/// Hosts of a server on a socket, each with the rank in which nginx tries it.
fn hosts(position: usize, all: &[Server<'_>], socket: usize, default: bool) -> Vec<(usize, Match)> {
    let server = &all[position];
    let others = || {
        let on_socket = |it: &&Server<'_>| it.sockets.iter().any(|own| own.0 == socket);
        all.iter()
            .enumerate()
            .filter(|(at, _)| *at != position)
            .map(|(_, it)| it)
            .filter(on_socket)
            .flat_map(|it| &it.names)
    };
    // Names of the default server matter only where another one would take them.
    let needed = |host: &Host| {
        others().any(|other| match (other, host) {
            (Name::Expression(_), _) => true,
            (Name::Host(Host::Wildcard(suffix)), Host::Exact(name) | Host::Wildcard(name)) => {
                name.ends_with(&format!(".{suffix}"))
            }
            _ => false,
        })
    };
    let mut found = Vec::new();
    for name in &server.names {
        match name {
            Name::Host(host) if !default || needed(host) => {
                let rank = match host {
                    Host::Exact(_) => 0,
                    Host::Wildcard(suffix) => 1000 - suffix.len().min(900),
                    Host::Any => 2000,
                };
                found.push((rank, Match { host: host.clone(), ..Match::default() }));
            }
            Name::Expression(matches) if !default => found.push((1500, matches.clone())),
            _ => {}
        }
    }
    if default {
        found.push((2000, Match::default()));
    }
    found
}

/// Names that one argument of `server_name` means; none: one that no request has.
fn name(text: &str) -> Result<Vec<Name>, String> {
    let host = |host| Name::Host(host);
    let lower = text.to_ascii_lowercase();
    if let Some(expression) = text.strip_prefix('~') {
        let matches = condition::host_expression(expression);
        return matches.map(|it| vec![Name::Expression(it)]).map_err(|why| format!("{text}: {why}"));
    }
    if let Some(suffix) = lower.strip_prefix("*.") {
        return Ok(if is_host(suffix) { vec![host(Host::Wildcard(suffix.to_owned()))] } else { Vec::new() });
    }
    if let Some(suffix) = lower.strip_prefix('.') {
        let both = vec![host(Host::Exact(suffix.to_owned())), host(Host::Wildcard(suffix.to_owned()))];
        return Ok(if is_host(suffix) { both } else { Vec::new() });
    }
    if lower.ends_with(".*") {
        return Err(format!("{text}: `*` stands for labels at the front only"));
    }
    // `_` and "" are idioms for no name.
    Ok(if is_host(&lower) && lower != "_" { vec![host(Host::Exact(lower))] } else { Vec::new() })
}
