//! `proxy_pass`, and edits of fields. Not here: which requests meet it (`location`), or where endpoints are (`upstream`).

use super::super::expression;
use super::super::matching::Match;
use super::super::nginx::Directive;
use super::super::routes::{Action, Body, Edits, NewPath};
use super::super::rules::Case;
use super::super::valid::{editable, encoded, is_authority, is_value};
use super::super::words;
use super::location::{Kind, Place};
use super::scope::{Piece, at, milliseconds, pieces};
use super::{Translator, listen, tls, upstream};

/// Fields that cairn writes or passes on by itself, and what nginx's users write into them.
const BY_ITSELF: &[(&str, &[&str])] = &[
    ("upgrade", &["$http_upgrade"]),
    ("connection", &["upgrade", "$connection_upgrade", "", "close", "keep-alive", "Upgrade"]),
    ("x-forwarded-for", &["$remote_addr", "$realip_remote_addr"]),
    ("x-forwarded-proto", &["$scheme", "$http_x_forwarded_proto"]),
    ("x-forwarded-host", &["$host", "$http_host", "$host:$server_port"]),
    ("x-request-id", &["$request_id"]),
    ("proxy", &[""]),
];

impl<'a> Translator<'a> {
    /// The cases of what a location does with what no `return` has taken.
    pub(super) fn content(&mut self, place: &Place<'a>) -> Vec<Case> {
        let always = |body| vec![Case { when: vec![Match::default()], unless: Vec::new(), body }];
        let innermost = place.scope.innermost();
        let find = |name: &str| innermost.iter().find(|it| it.name == name);
        if let Some(directive) = find("proxy_pass") {
            return self.proxied(place, directive);
        }
        let other = ["fastcgi_pass", "uwsgi_pass", "scgi_pass", "grpc_pass", "memcached_pass"];
        if let Some(directive) = innermost.iter().find(|it| other.contains(&it.name.as_str())) {
            let how = match directive.name.as_str() {
                "grpc_pass" => {
                    "write it by hand: a cluster with `protocol = \"http2\"`, and a route to it; here it is 501"
                }
                _ => "cairn speaks HTTP to origins alone; here it is 501",
            };
            self.notes.left(at(directive), how);
            return always(self.answered(place, 501));
        }
        if let Some(directive) = find("try_files") {
            let last = directive.arguments.last().map_or("", String::as_str);
            if let Some(named) = last.starts_with('@').then(|| self.named(place, last)).flatten() {
                self.notes.differs(at(directive), &format!("cairn serves no files: all requests go to {last}"));
                return self.content(&named);
            }
            self.notes.left(at(directive), "cairn serves no files; here it is 404");
        }
        if let Some(directive) = find("stub_status") {
            self.notes.left(at(directive), "the admin interface has /status and /metrics; here it is 404");
        }
        for name in ["root", "alias"] {
            if let Some(directive) = place.scope.one(name) {
                self.notes.left(at(directive), "cairn serves no files; what has no other answer is 404");
            }
        }
        always(self.answered(place, 404))
    }

    /// The location `@name` beside this one.
    fn named(&self, place: &Place<'a>, name: &str) -> Option<Place<'a>> {
        let all = place.scope.all("location");
        let directive = all.into_iter().find(|it| it.argument(0) == name && it.block.is_some())?;
        let scope = place.scope.beside(directive.children());
        Some(Place { scope, ..place.clone() })
    }

    fn proxied(&mut self, place: &Place<'a>, directive: &'a Directive) -> Vec<Case> {
        let text = place.scope.substituted(directive.argument(0));
        let variable = pieces(&text).into_iter().find_map(|piece| match piece {
            Piece::Variable(name) => Some(name.to_owned()),
            Piece::Text(_) => None,
        });
        let Some(variable) = variable else {
            let body = self.forwarded(place, directive, &text);
            return vec![Case { when: vec![Match::default()], unless: Vec::new(), body }];
        };
        if let Some(body) = self.computed(place, directive, &text) {
            return vec![Case { when: vec![Match::default()], unless: Vec::new(), body }];
        }
        if let Some(split) = self.splits.iter().copied().find(|it| it.argument(1).trim_start_matches('$') == variable) {
            return vec![self.split(place, directive, split)];
        }
        let Some(map) = self.maps.iter().find(|map| map.name == variable) else {
            self.notes
                .left(at(directive), &format!("a cluster's name has no variable, such as ${variable}; here it is 501"));
            let body = self.answered(place, 501);
            return vec![Case { when: vec![Match::default()], unless: Vec::new(), body }];
        };
        let values = map.values(&place.scope);
        let values = match values {
            Ok(values) => values,
            Err(why) => {
                let map = map.directive;
                self.notes.left(at(map), &why);
                let body = self.answered(place, 501);
                return vec![Case { when: vec![Match::default()], unless: Vec::new(), body }];
            }
        };
        let mut cases = Vec::new();
        for (condition, value) in values {
            let mut inner = place.clone();
            inner.scope.bind(&variable, &value);
            let text = inner.scope.substituted(directive.argument(0));
            let body = self.forwarded(&inner, directive, &text);
            let unless = if condition.when == [Match::default()] { Vec::new() } else { condition.unless };
            cases.push(Case { when: condition.when, unless, body });
        }
        cases
    }

    /// What is forwarded to a host that is known, with a path that is made of variables.
    fn computed(&mut self, place: &Place<'a>, directive: &'a Directive, text: &str) -> Option<usize> {
        let rest = text.strip_prefix("http://")?;
        let end = rest.find(['/', '$'])?;
        let (host, path) = rest.split_at(end);
        if host.is_empty() {
            return None;
        }
        let ends = ["$is_args$args", "?$args", "$is_args$query_string", "?$query_string"];
        let (path, query) = match ends.iter().find_map(|end| path.strip_suffix(end)) {
            Some(path) => (path, true),
            None => (path, path == "$request_uri"),
        };
        // These are what goes on anyway.
        let kept = ["$request_uri", "$uri", "$document_uri"].contains(&path);
        let new = if kept { None } else { Some(encoded(&place.scope.value(path).ok()?).ok()?) };
        if !query {
            self.notes.differs(at(directive), "the query of the request goes on, too");
        }
        let body = self.forwarded(place, directive, &format!("http://{host}"));
        if let (Some(new), Action::Cluster(_)) = (new, &self.plan.bodies[body].action) {
            self.plan.bodies[body].path = Some(NewPath::Whole(new));
        }
        Some(body)
    }

    fn split(&mut self, place: &Place<'a>, directive: &'a Directive, split: &'a Directive) -> Case {
        let name = split.argument(1).trim_start_matches('$').to_owned();
        let mut sides: Vec<(String, u32)> = Vec::new();
        let mut left = 10_000;
        let mut first = None;
        for entry in split.children() {
            let weight = match entry.name.strip_suffix('%').and_then(|number| number.parse::<f64>().ok()) {
                Some(percent) if (0.0..=100.0).contains(&percent) => (percent * 100.0).round() as u32,
                _ => left,
            };
            left = left.saturating_sub(weight);
            let mut inner = place.clone();
            inner.scope.bind(&name, entry.argument(0));
            let text = inner.scope.substituted(directive.argument(0));
            let body = self.forwarded(&inner, directive, &text);
            match &self.plan.bodies[body].action {
                Action::Cluster(cluster) => match sides.iter_mut().find(|(known, _)| known == cluster) {
                    Some(side) => side.1 += weight,
                    None => sides.push((cluster.clone(), weight)),
                },
                _ => self.notes.left(at(entry), "no endpoint is behind it"),
            }
            first = first.or(Some(body));
        }
        let shared =
            (1..=10_000).rev().find(|by| sides.iter().all(|(_, weight)| weight.is_multiple_of(*by))).unwrap_or(1);
        sides.iter_mut().for_each(|(_, weight)| *weight /= shared);
        self.notes.differs(at(split), "each request is split by chance: a client does not stay on its side");
        let mut body = first
            .and_then(|body| self.plan.bodies.get(body))
            .cloned()
            .unwrap_or_else(|| place.body(Action::Split(Vec::new())));
        if sides.iter().any(|(_, weight)| *weight > 0) {
            body.action = Action::Split(sides);
            body.host = None;
        } else {
            body = place.body(Action::Respond { status: 501, body: String::new(), content_type: None });
        }
        Case { when: vec![Match::default()], unless: Vec::new(), body: self.body(body) }
    }

    /// What is forwarded to `http://HOST[/PATH]`, or https.
    fn forwarded(&mut self, place: &Place<'a>, directive: &'a Directive, text: &str) -> usize {
        let target = tls::scheme(text).map(|(port, rest)| match rest.strip_prefix("unix:") {
            Some(unix) => match unix.split_once(':') {
                Some((path, uri)) => (port, format!("unix:{path}"), uri.to_owned()),
                None => (port, rest.to_owned(), String::new()),
            },
            None => {
                let end = rest.find('/').unwrap_or(rest.len());
                (port, rest[..end].to_owned(), rest[end..].to_owned())
            }
        });
        let cluster = target.as_ref().and_then(|(port, host, _)| {
            let encrypted = *port == upstream::HTTPS;
            let keys = if encrypted { self.endpoint_tls(&place.scope, host, directive) } else { tls::Keys::new() };
            self.cluster(host, *port, keys, directive)
        });
        let (Some((port, host, uri)), Some(cluster)) = (target, cluster) else {
            self.notes.left(at(directive), "it is no address that cairn can reach; here it is 501");
            return self.answered(place, 501);
        };
        let mut body = place.body(Action::Cluster(cluster.clone()));
        body.path = self.replaced(place, directive, &uri);
        body.host = self.host(place, &host, port);
        let mut body = self.with_edits(place, body, true);
        let upgrades = |it: &&Directive| it.argument(0).eq_ignore_ascii_case("upgrade");
        let upgrades = place.scope.all("proxy_set_header").iter().any(upgrades);
        let wait = place.scope.one("proxy_read_timeout").and_then(|it| milliseconds(it.argument(0)));
        body.limits.tunnel = wait.filter(|wait| upgrades && *wait > 0);
        let own = place.scope.innermost().iter().find(|it| it.name == "client_body_timeout");
        body.limits.body = own.and_then(|it| milliseconds(it.argument(0))).filter(|time| *time > 0);
        body.limits.bytes = Some(listen::body_bytes(&place.scope));
        // Only then does an origin call itself what nginx replaces.
        let host =
            place.scope.all("proxy_set_header").into_iter().find(|it| it.argument(0).eq_ignore_ascii_case("host"));
        let changed = host.is_none_or(|it| it.argument(1) == "$proxy_host");
        let plain = place.scope.one("proxy_redirect").is_none_or(|it| it.argument(0) == "default");
        body.limits.rewrite_location = changed && plain;
        if changed && plain && uri.is_empty() && body.path.is_some() {
            self.notes.differs(
                at(directive),
                "Location of an origin gets the prefix back, which nginx does not do behind `rewrite`",
            );
        }
        let body = self.body(body);
        let time =
            |name: &str| place.scope.one(name).and_then(|it| milliseconds(it.argument(0)).filter(|time| *time > 0));
        let (connect, response) =
            (time("proxy_connect_timeout").unwrap_or(60_000), time("proxy_read_timeout").unwrap_or(60_000));
        let times = self.times.entry(cluster.clone()).or_default();
        *times = (times.0.max(connect), times.1.max(response));
        self.waits.push((body, cluster, response));
        body
    }

    /// What the origin gets instead of the path.
    fn replaced(&mut self, place: &Place<'a>, directive: &'a Directive, uri: &str) -> Option<NewPath> {
        if uri.is_empty() {
            return place.scope.innermost().iter().filter(|it| it.name == "rewrite").find_map(prefix_rewrite);
        }
        let pattern = place.pattern.as_str();
        if !matches!(place.kind, Kind::Exact | Kind::Final | Kind::Prefix) {
            if uri != "/" {
                self.notes.differs(at(directive), "the path goes on as it is: there is no prefix to replace");
            }
            return None;
        }
        if pattern == uri {
            return None;
        }
        let to = uri.split(['?', '#']).next().unwrap_or_default();
        let Ok(verbatim) = encoded(to) else {
            self.notes.differs(at(directive), "its path is none in its normal form: the path goes on as it is");
            return None;
        };
        if place.kind == Kind::Exact {
            return Some(NewPath::Whole(verbatim));
        }
        let to = if verbatim.len() > 1 { verbatim.trim_end_matches('/').to_owned() } else { verbatim.clone() };
        if pattern == "/" {
            return Some(NewPath::Added(to));
        }
        if pattern.ends_with('/') != uri.ends_with('/') {
            let how = format!(
                "nginx makes {uri}x of {pattern}x; where cairn replaces the prefix, it joins both with one slash"
            );
            self.notes.differs(at(directive), &how);
        }
        Some(NewPath::Prefix { from: encoded(pattern).ok()?, to, verbatim })
    }

    /// A `rewrite` that does not redirect.
    pub(super) fn inner_rewrite(&mut self, place: &Place<'a>, directive: &'a Directive) {
        let flag = directive.argument(2);
        if ["permanent", "redirect"].contains(&flag) {
            return;
        }
        let forwards = place.scope.innermost().iter().any(|it| it.name == "proxy_pass");
        let own = place.pattern.trim_end_matches('/');
        let fits = prefix_rewrite(directive)
            .is_some_and(|it| matches!(it, NewPath::Prefix { from, .. } if from.trim_end_matches('/') == own));
        if !(fits && forwards && matches!(place.kind, Kind::Prefix | Kind::Final)) {
            self.notes
                .left(at(directive), "a route replaces the prefix that it matches, and is not chosen again after that");
        }
    }

    /// What replaces Host; None: it is kept. `port`: of the scheme of `target`.
    fn host(&mut self, place: &Place<'a>, target: &str, port: u16) -> Option<String> {
        let set =
            place.scope.all("proxy_set_header").into_iter().find(|it| it.argument(0).eq_ignore_ascii_case("host"));
        let Some(directive) = set else {
            // $proxy_host: the name of the upstream, or the host of an address.
            let known = self.upstreams.iter().any(|it| it.argument(0) == target);
            let host =
                if known { Some(target.to_owned()) } else { upstream::endpoint(target, port).map(|(_, host)| host) };
            return host.filter(|host| is_authority(host));
        };
        let text = place.scope.substituted(directive.argument(1));
        match text.as_str() {
            "$http_host" | "$host:$server_port" => None,
            "$host" => {
                let usual = place.scope.facts.port.is_none_or(|port| [80, 443, 0].contains(&port));
                if !usual {
                    self.notes.differs(at(directive), "Host keeps its port");
                }
                None
            }
            "$proxy_host" => upstream::endpoint(target, port).map(|(_, host)| host),
            text => match place.scope.value(text) {
                Ok(host) if is_authority(&host) => Some(host),
                _ => {
                    self.notes.left(at(directive), "Host is kept: it can be replaced by a text alone");
                    None
                }
            },
        }
    }

    /// Adds the edits of fields.
    pub(super) fn with_edits(&mut self, place: &Place<'a>, mut body: Body, forwards: bool) -> Body {
        if forwards {
            for directive in place.scope.all("proxy_set_header") {
                self.request_edit(place, directive, &mut body.request);
            }
        }
        let errors = match body.action {
            Action::Respond { status, .. } => status >= 400,
            Action::Redirect(_) => false,
            Action::Cluster(_) | Action::Split(_) => true,
        };
        if errors {
            self.error_pages(place, &mut body);
        }
        let hidden: Vec<_> = if forwards { place.scope.all("proxy_hide_header") } else { Vec::new() };
        for directive in hidden {
            push_once(&mut body.response.remove, directive.argument(0).to_ascii_lowercase());
        }
        for directive in place.scope.all("add_header") {
            self.response_edit(place, directive, &mut body);
        }
        let fails = matches!(body.action, Action::Respond { status: 400.., .. });
        if let Some(directive) = place.scope.one("expires").filter(|_| !fails) {
            self.expires(directive, &mut body.response);
        }
        if let Some(directive) =
            place.scope.one("proxy_redirect").filter(|it| it.argument(0) != "off" && it.argument(0) != "default")
        {
            self.notes.left(at(directive), "Location of an origin goes on as it is");
        }
        body
    }

    /// An answer with this status, and what is added to every one.
    pub(super) fn answered(&mut self, place: &Place<'a>, status: u16) -> usize {
        let action = Action::Respond { status, body: String::new(), content_type: None };
        let body = self.with_edits(place, place.body(action), false);
        self.body(body)
    }

    /// Pages in the place of what nginx and cairn say themselves.
    fn error_pages(&mut self, place: &Place<'a>, body: &mut Body) {
        for directive in place.scope.all("error_page") {
            let Some((page, statuses)) = directive.arguments.split_last() else { continue };
            let plain = page.starts_with('/') && !page.contains(['$', '?']);
            let valid = |status: &String| status.parse::<u16>().is_ok_and(|status| (400..600).contains(&status));
            let locations = place.scope.all_of("location");
            let own =
                locations.iter().find(|it| it.arguments == ["=", page.as_str()] || it.arguments == [page.as_str()]);
            let root = own
                .and_then(|it| it.children().iter().find(|it| it.name == "root"))
                .or_else(|| place.scope.one("root"));
            match root.filter(|_| plain && statuses.iter().all(valid)) {
                Some(root) => {
                    let file = format!("{}{page}", root.argument(0).trim_end_matches('/'));
                    match &mut body.action {
                        // What a route answers is no error of cairn's own.
                        Action::Respond { status, body, content_type } => {
                            if body.is_empty() && statuses.contains(&status.to_string()) {
                                *body = format!("{}{file}", words::FILE);
                                *content_type = Some("text/html".to_owned());
                            }
                        }
                        _ => body.error_pages.push((statuses.to_vec(), file)),
                    }
                }
                None => self.notes.left(at(directive), "an error has a page of a file, and keeps its status"),
            }
        }
    }

    fn request_edit(&mut self, place: &Place<'a>, directive: &'a Directive, edits: &mut Edits) {
        let name = directive.argument(0).to_ascii_lowercase();
        let text = place.scope.substituted(directive.argument(1));
        if name == "host" {
            return;
        }
        if BY_ITSELF.iter().any(|(known, texts)| *known == name && texts.contains(&text.as_str())) {
            return;
        }
        if name == "x-forwarded-for" && text == "$proxy_add_x_forwarded_for" {
            let how = "x-forwarded-for of a client goes on only if the listener's trusted_proxies name it";
            return self.notes.differs(at(directive), how);
        }
        match place.scope.value(&text) {
            _ if !editable(&name) => self.notes.left(at(directive), "cairn writes this field where it is due"),
            Ok(value) if !is_value(value.trim()) => self.notes.left(at(directive), "no field has this value"),
            Ok(value) if value.is_empty() => push_once(&mut edits.remove, name),
            Ok(value) => {
                if words::may_be_empty(&value) {
                    self.notes.differs(
                        at(directive),
                        "where the variable is empty, nginx sends no such field, and cairn an empty one",
                    );
                }
                set(&mut edits.set, name, value.trim().to_owned());
            }
            Err(variable) => self.notes.left(at(directive), &format!("there is no {variable} in values of fields")),
        }
    }

    fn response_edit(&mut self, place: &Place<'a>, directive: &'a Directive, body: &mut Body) {
        let name = directive.argument(0).to_ascii_lowercase();
        let responds = matches!(body.action, Action::Respond { .. });
        let fails = matches!(body.action, Action::Respond { status: 400.., .. });
        if name == "content-type" && responds || fails && directive.argument(2) != "always" {
            return;
        }
        match place.scope.value(directive.argument(1)) {
            _ if !editable(&name) => self.notes.left(at(directive), "cairn writes this field where it is due"),
            Ok(value) if value.is_empty() => {}
            Ok(value) if !is_value(value.trim()) => self.notes.left(at(directive), "no field has this value"),
            Ok(value) => {
                if directive.argument(2) != "always" {
                    let how = "without `always` nginx leaves it out of most errors; cairn does not";
                    self.notes.differs(at(directive), how);
                }
                let value = value.trim().to_owned();
                // A field that the origin's is hidden for is replaced.
                let hidden = body.response.remove.iter().position(|it| *it == name);
                match (hidden, body.response.add.iter_mut().find(|(known, _)| *known == name)) {
                    (Some(at), _) => {
                        body.response.remove.remove(at);
                        set(&mut body.response.set, name, value);
                    }
                    (None, Some(entry)) => entry.1 = format!("{}, {value}", entry.1),
                    (None, None) => body.response.add.push((name, value)),
                }
            }
            Err(variable) => self.notes.left(at(directive), &format!("there is no {variable} in values of fields")),
        }
    }

    fn expires(&mut self, directive: &'a Directive, edits: &mut Edits) {
        let text = directive.argument(0);
        let value = match text {
            "off" => return,
            "epoch" | "-1" => Some("no-cache".to_owned()),
            "max" => Some("max-age=315360000".to_owned()),
            _ => milliseconds(text).map(|time| format!("max-age={}", time / 1000)),
        };
        match value {
            Some(value) => {
                set(&mut edits.set, "cache-control".to_owned(), value);
                self.notes.differs(at(directive), "there is cache-control, and no Expires");
            }
            None => self.notes.left(at(directive), "a time that depends on the response cannot be said"),
        }
    }
}

/// The prefix that a `rewrite … break` replaces, and by what.
fn prefix_rewrite(directive: &Directive) -> Option<NewPath> {
    let (pattern, to) = (directive.argument(0), directive.argument(1));
    if !["break", ""].contains(&directive.argument(2)) {
        return None;
    }
    let inner = pattern.strip_prefix('^')?;
    let inner = inner.strip_suffix('$').unwrap_or(inner).strip_suffix("(.*)")?;
    let to = to.strip_suffix("$1")?;
    let literal = expression::prefix(inner);
    let plain = expression::literal(&literal) == inner && !to.contains(['$', '?']);
    let whole = literal.ends_with('/') && to.ends_with('/') || !literal.ends_with('/') && !to.ends_with('/');
    let verbatim = to.to_owned();
    let to = if to.len() > 1 { to.trim_end_matches('/') } else { to };
    let found = NewPath::Prefix { from: literal.clone(), to: to.to_owned(), verbatim };
    (plain && whole && literal.len() > 1 && encoded(to).is_ok()).then_some(found)
}

fn push_once(list: &mut Vec<String>, name: String) {
    if editable(&name) && !list.contains(&name) {
        list.push(name);
    }
}

fn set(list: &mut Vec<(String, String)>, name: String, value: String) {
    match list.iter_mut().find(|(known, _)| *known == name) {
        Some(entry) => entry.1 = value,
        None => list.push((name, value)),
    }
}
