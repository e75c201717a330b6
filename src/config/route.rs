//! `[[route]]` to [`RouteSpec`]. Not here: compiling matches, or finding the route of a request.

use super::bounds::Bounds;
use super::names::Names;
use super::report::Problems;
use super::section::{Found, Section, Text, texts};
use super::tables::ROUTE;
use super::tcp::{self, Listeners};
use super::{condition, field, hedge, host, listener, page, path, retry, target};
use crate::cluster::Priority;
use crate::id::{ClusterId, ListenerId};
use crate::limits::ROUTE_VARIABLES;
use crate::route::template::{Template, Variable};
use crate::route::{
    ActionSpec, ConditionsSpec, HeaderEdits, Importance, PathEdit, PathPattern, Protocol, RouteLimits, RouteSpec,
    ValuePattern, count_groups,
};

/// Names to which routes refer, and bounds of their values.
#[derive(Clone, Copy, Debug)]
pub(super) struct RouteContext<'a> {
    pub(super) listeners: &'a Listeners,
    pub(super) clusters: &'a Names,
    pub(super) bounds: &'a Bounds,
}

/// Reads one route. None: its action has a problem, which has been reported.
pub(super) fn route(
    section: Section<'_>,
    name: String,
    context: RouteContext<'_>,
    problems: &mut Problems,
) -> Option<RouteSpec> {
    Reader { section, context, problems }.route(name)
}

/// Keys that have an effect on forwarded requests only.
const FORWARDED: [&str; 11] = [
    "timeout",
    "deadline",
    "timeouts",
    "retry",
    "hedge",
    "priority",
    "tunnel_idle",
    "rewrite",
    "rewrite_location",
    "cookie_path",
    "request_headers",
];

/// The route as far as `FORWARDED` is concerned: one that answers by itself inherits none of it.
fn forwarded(section: Section<'_>) -> Section<'_> {
    if section.has("redirect") || section.has("respond") { section.alone() } else { section }
}

/// The route as far as `key` is concerned: what would do nothing is not inherited.
pub(super) fn in_effect<'a>(section: Section<'a>, key: &str) -> Section<'a> {
    let forwarded = if FORWARDED.contains(&key) { forwarded(section) } else { section };
    let rewrite = forwarded.one("rewrite");
    let maps = rewrite.has("path_prefix") || rewrite.has("add_prefix");
    if key == "cookie_path" && !maps { section.alone() } else { forwarded }
}

/// Whether a table of the route has no effect, defaults included: the route answers by itself.
pub(super) fn is_idle(section: Section<'_>, key: &str) -> bool {
    FORWARDED.contains(&key) && (section.has("redirect") || section.has("respond"))
}

struct Reader<'a> {
    section: Section<'a>,
    context: RouteContext<'a>,
    problems: &'a mut Problems,
}

impl<'a> Reader<'a> {
    fn route(&mut self, name: String) -> Option<RouteSpec> {
        let section = self.section;
        // The action comes last, because the function may return there, and all problems have to be found.
        let listeners = listener::ids(section, self.context.listeners, self.problems);
        let is_tenant = self.context.bounds.is_tenant();
        let protocol = if is_tenant { Protocol::Http } else { tcp::of_route(section, self.context.listeners) };
        tcp::check_route(section, protocol, self.context.listeners, is_tenant, self.problems);
        if protocol == Protocol::Tcp {
            return self.connections(name, listeners);
        }
        let hosts = host::patterns(&section.texts("hosts"), self.problems);
        let path = self.path_pattern();
        let mut conditions = condition::conditions(section, self.context.bounds, self.problems);
        if section.table("grpc").is_some() {
            if conditions.methods.is_empty() {
                conditions.methods.push("POST".to_owned());
            }
            conditions
                .headers
                .push(("content-type".to_owned(), ValuePattern::Regex("(?i)application/grpc([+; ].*)?".to_owned())));
        }
        let not = condition::not(section, self.context.bounds, self.problems);
        let forwarded = forwarded(section);
        let rewrite = forwarded.one("rewrite");
        let rewrite_path = target::path_edit(section, rewrite, self.problems);
        let rewrite_host = rewrite.text("host").map(|text| host::authority(text, self.problems));
        self.restores(rewrite_path.as_ref());
        self.variables();
        let request_headers = self.edits(forwarded, "request_headers");
        let response_headers = self.edits(section, "response_headers");
        let timeout = self.context.bounds.timeout(forwarded, "timeout", self.problems);
        let limits = self.limits(forwarded);
        let retry = retry::retry(forwarded, self.context.bounds, self.problems);
        let hedge = hedge::hedge(section, forwarded, self.problems);
        self.effects();
        Some(RouteSpec {
            name,
            tenant: None,
            protocol,
            listeners,
            hosts,
            path,
            conditions,
            not,
            action: self.action()?,
            timeout,
            deadline: forwarded.flag("deadline"),
            limits,
            retry,
            hedge,
            priority: self.priority(forwarded),
            rewrite_path,
            rewrite_host,
            rewrite_location: forwarded.flag("rewrite_location"),
            cookie_path: in_effect(section, "cookie_path").flag("cookie_path"),
            error_pages: page::pages(&section.many("error_pages"), self.problems),
            request_headers,
            response_headers,
        })
    }

    fn priority(&mut self, forwarded: Section<'_>) -> Importance {
        let Some(text) = forwarded.text("priority") else { return Importance::default() };
        if let Some(priority) = Priority::ALL.into_iter().find(|it| it.name() == text.value) {
            return Importance::Fixed(priority);
        }
        if let Some(name) = text.value.strip_prefix("header:").filter(|name| field::is_token(name)) {
            return Importance::Field(name.to_ascii_lowercase().into());
        }
        self.problems
            .add(text.at, format!("\"{}\" is no priority", text.shown.escape_debug()))
            .help("it is critical, normal or bulk, or \"header:NAME\" for the field in which trusted peers say so");
        Importance::default()
    }

    /// A route of TCP. What else stands in it has been reported.
    fn connections(&mut self, name: String, listeners: Vec<ListenerId>) -> Option<RouteSpec> {
        let section = self.section;
        let hosts = tcp::names(section, self.problems);
        let alpn = tcp::protocols(section, self.problems);
        let client_ip = condition::networks(section, self.context.bounds, self.problems);
        let tunnel_idle = self.context.bounds.timeout(section, "tunnel_idle", self.problems);
        let action = self.action()?;
        Some(RouteSpec {
            protocol: Protocol::Tcp,
            listeners,
            hosts,
            conditions: ConditionsSpec { client_ip, alpn, ..ConditionsSpec::default() },
            limits: RouteLimits { tunnel_idle, ..RouteLimits::NONE },
            ..RouteSpec::new(name, action)
        })
    }

    fn limits(&mut self, forwarded: Section<'_>) -> RouteLimits {
        let (section, bounds) = (self.section, self.context.bounds);
        let timeouts = forwarded.one("timeouts");
        RouteLimits {
            body_bytes: section.has("body_bytes").then(|| section.size("body_bytes")),
            body_timeout: bounds.timeout(timeouts, "body", self.problems),
            within_listener: bounds.is_tenant() && (section.has("body_bytes") || timeouts.has("body")),
            response_idle: bounds.timeout(timeouts, "idle", self.problems),
            tunnel_idle: bounds.timeout(forwarded, "tunnel_idle", self.problems),
        }
    }

    fn path_pattern(&mut self) -> PathPattern {
        let section = self.section;
        if let Some(text) = section.text("path") {
            PathPattern::Exact(self.path(text))
        } else if let Some(text) = section.text("path_prefix") {
            PathPattern::Prefix(self.path(text))
        } else if let Some(grpc) = section.table("grpc") {
            let service = self.grpc_name(grpc, "service").unwrap_or_default();
            match self.grpc_name(grpc, "method") {
                Some(method) => PathPattern::Exact(format!("/{service}/{method}")),
                None => PathPattern::Prefix(format!("/{service}")),
            }
        } else if let Some(text) = section.text("path_regex") {
            PathPattern::Regex(path::expression(&condition::regex(text, self.context.bounds, self.problems)))
        } else {
            PathPattern::Any
        }
    }

    fn path(&mut self, text: Text<'_>) -> String {
        path::condition(text, self.problems)
    }

    /// The name of a service or a method of gRPC.
    fn grpc_name(&mut self, grpc: Section<'_>, key: &str) -> Option<String> {
        let text = grpc.text(key)?;
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || (byte == b'.' && key == "service");
        if text.value.is_empty() || !text.value.bytes().all(is_part) {
            self.problems
                .add(text.at, format!("\"{}\" is not the name of a {key} of gRPC", text.shown.escape_debug()))
                .help("write it as in the .proto file: service = \"shop.Orders\", method = \"Place\"");
        }
        Some(text.value.to_owned())
    }

    /// Reports keys that map paths of the origin back to the client's where none are mapped.
    fn restores(&mut self, rewrite: Option<&PathEdit>) {
        let own = self.section.alone();
        if own.flag("cookie_path") && !matches!(rewrite, Some(PathEdit::Prefix(_) | PathEdit::Add(_))) {
            self.problems
                .add(self.section.span("cookie_path"), "`cookie_path` does nothing where no prefix is replaced")
                .help("leave it out, or add `rewrite = { path_prefix = \"/\" }`");
        }
    }

    /// Reports variables that have no value: those of groups that the route's expression does not have, and those of error pages.
    fn variables(&mut self) {
        let section = self.section;
        let groups = section.text("path_regex").map(|text| count_groups(text.value));
        let texts = ROUTE.keys.iter().flat_map(|key| in_effect(section, key.name).templates(key.name));
        let mut count = 0;
        for text in texts {
            let template = Template::compile(text.value);
            let before = count;
            count += template.variables().count();
            if before <= ROUTE_VARIABLES && count > ROUTE_VARIABLES {
                self.problems
                    .add(text.at, format!("the route has more than {ROUTE_VARIABLES} variables"))
                    .help("each may be replaced by all that a client has sent: use less of them");
            }
            if let Some(variable) = template.variables().find(|variable| variable.is_of_error_alone()) {
                self.problems
                    .add(text.at, format!("`${{{variable}}}` has no value here"))
                    .help("it stands in the bodies of `error_pages`");
            }
            let used = template.variables().filter_map(|variable| match variable {
                Variable::Capture(group) => Some(*group),
                _ => None,
            });
            let Some(group) = used.max() else { continue };
            let (problem, help) = match &groups {
                None => {
                    ("the route has no `path_regex`", "add one, with a group: `path_regex = \"/old/(.*)\"`".to_owned())
                }
                Some(Ok(count)) if group > *count => {
                    ("`path_regex` has no such group", format!("it has {count}; a group stands in parentheses"))
                }
                Some(Err(why)) => {
                    self.problems.add(text.at, format!("`${{regex.{group}}}` has no value: {why}"));
                    continue;
                }
                Some(Ok(_)) => continue,
            };
            self.problems.add(text.at, format!("`${{regex.{group}}}` has no value: {problem}")).help(help);
        }
    }

    fn edits(&mut self, section: Section<'_>, name: &str) -> HeaderEdits {
        let edits = section.edits(name);
        let mut remove = Vec::new();
        for text in edits.remove.iter().filter_map(Found::text) {
            field::editable(text, self.problems);
            remove.push(text.value.to_ascii_lowercase());
        }
        HeaderEdits {
            set: field::fields(&texts(&edits.set), self.problems),
            add: field::fields(&texts(&edits.add), self.problems),
            remove,
        }
    }

    /// Reports keys that have an effect on forwarded requests only, in a route that does not forward.
    fn effects(&mut self) {
        let Some(answer) = ["redirect", "respond"].into_iter().find(|name| self.section.has(name)) else { return };
        for name in FORWARDED {
            let own = self.section.alone();
            // A flag that is off is as good as absent, and so is an empty table.
            let off = own.find(name).is_some_and(|found| found.node.get_ref().as_bool() == Some(false));
            let empty = own.table(name).is_some_and(|table| table.key_spans().is_empty());
            if own.has(name) && !off && !empty {
                self.problems
                    .add(own.span(name), format!("`{name}` does nothing beside `{answer}`"))
                    .help("leave it out: the request is not forwarded");
            }
        }
    }

    fn action(&mut self) -> Option<ActionSpec> {
        let section = self.section;
        if let Some(text) = section.text("cluster") {
            self.cluster(text).map(ActionSpec::Cluster)
        } else if section.has("split") {
            Some(ActionSpec::Split(self.split()))
        } else if section.has("redirect") {
            section.table("redirect").map(|redirect| self.redirect(redirect))
        } else if section.has("respond") {
            section.table("respond").map(|respond| self.respond(respond))
        } else {
            None
        }
    }

    fn cluster(&mut self, text: Text<'_>) -> Option<ClusterId> {
        let position = self.context.clusters.find(text, self.problems)?;
        u32::try_from(position).ok().map(ClusterId)
    }

    fn split(&mut self) -> Vec<(ClusterId, u32)> {
        let mut sides: Vec<(ClusterId, u32)> = Vec::new();
        for side in self.section.many("split") {
            let Some(text) = side.text("cluster") else { continue };
            let Some(id) = self.cluster(text) else { continue };
            if sides.iter().any(|(other, _)| *other == id) {
                self.problems
                    .add(text.at, format!("\"{}\" is in the split twice", text.shown))
                    .help("add the weights up");
            }
            // A weight that is missing or invalid has been reported, and is none of 0.
            let weight = side.valid_number("weight").unwrap_or(1);
            sides.push((id, u32::try_from(weight).unwrap_or(u32::MAX)));
        }
        if self.section.length("split") == Some(sides.len()) && sides.iter().all(|(_, weight)| *weight == 0) {
            self.problems
                .add(self.section.span("split"), "the split sends traffic nowhere")
                .help("give at least one cluster a weight of 1 or more");
        }
        sides
    }

    fn redirect(&mut self, redirect: Section<'a>) -> ActionSpec {
        let status = redirect.number("status");
        if (304..=306).contains(&status) {
            self.problems
                .add(redirect.span("status"), format!("{status} is not a redirect"))
                .help("301 or 308: for good; 302 or 307: for now; 303: with GET");
        }
        let changes = ["scheme", "host", "path", "path_prefix", "add_prefix", "query"];
        if !changes.iter().any(|name| redirect.has(name)) {
            self.problems
                .add(redirect.at, "the redirect leads back to where it came from")
                .help("add scheme, host, path, path_prefix, add_prefix or query");
        }
        ActionSpec::Redirect {
            status: u16::try_from(status).unwrap_or(0),
            scheme: redirect.text("scheme").map(|text| text.value.to_owned()),
            host: redirect.text("host").map(|text| host::authority(text, self.problems)),
            path: target::path_edit(self.section, redirect, self.problems),
            query: redirect.text("query").map(|text| target::query(text, self.problems)),
        }
    }

    fn respond(&mut self, respond: Section<'a>) -> ActionSpec {
        let status = respond.number("status");
        let body = respond.text("body").map_or("", |text| text.value);
        // RFC 9110 sections 15.3.5, 15.3.6 and 15.4.5.
        if [204, 205, 304].contains(&status) && !body.is_empty() {
            self.problems
                .add(respond.span("body"), format!("a response with status {status} has no body"))
                .help("leave `body` out, or choose another status");
        }
        ActionSpec::Respond {
            status: u16::try_from(status).unwrap_or(0),
            body: body.to_owned(),
            headers: field::fields(&respond.fields("headers"), self.problems),
        }
    }
}
