//! Places of routes, and values that are secret, for messages about a configuration after it was read.
//! Not here: problems found while reading (`report`).

use ahash::HashMap;

use super::reference::Reference;
use super::report::{Problems, SourceSpan};
use super::section::Section;
use crate::route::BuildError;

/// Places of the routes of a configuration, and its secrets.
#[derive(Clone, Debug, Default)]
pub(super) struct SourceMap {
    /// By position of the route.
    routes: Vec<RouteSpans>,
    /// Headers of clusters, by position.
    clusters: Vec<SourceSpan>,
    /// Headers of listeners, by position.
    listeners: Vec<SourceSpan>,
    /// Values of references, each with the reference as it is written.
    secrets: HashMap<String, String>,
}

/// Places of one route: its header, and its keys with the places of their values.
#[derive(Clone, Debug)]
struct RouteSpans {
    name: String,
    header: SourceSpan,
    keys: Vec<(&'static str, SourceSpan)>,
}

impl SourceMap {
    /// Adds the next route.
    pub(super) fn route(&mut self, name: String, section: Section<'_>) {
        self.routes.push(RouteSpans { name, header: section.at, keys: section.key_spans() });
    }

    /// Adds a route that no file holds, generated from what stands at `at`.
    pub(super) fn generated_route(&mut self, name: String, at: SourceSpan) {
        self.routes.push(RouteSpans { name, header: at, keys: Vec::new() });
    }

    /// Adds the next cluster.
    pub(super) fn cluster(&mut self, section: Section<'_>) {
        self.clusters.push(section.at);
    }

    /// Adds the next listener.
    pub(super) fn listener(&mut self, section: Section<'_>) {
        self.listeners.push(section.at);
    }

    /// Place of the header of the listener at `position`.
    pub(super) fn listener_header(&self, position: usize) -> Option<SourceSpan> {
        self.listeners.get(position).copied()
    }

    /// Place of the header of the cluster at `position`.
    pub(super) fn cluster_header(&self, position: usize) -> Option<SourceSpan> {
        self.clusters.get(position).copied()
    }

    /// Adds values that must not be shown.
    pub(super) fn secrets(&mut self, references: &[Reference]) {
        let secrets = references.iter().map(|reference| (reference.value.clone(), reference.written.clone()));
        self.secrets.extend(secrets);
    }

    pub(super) fn append(&mut self, mut other: Self) {
        self.routes.append(&mut other.routes);
        self.clusters.append(&mut other.clusters);
        self.secrets.extend(other.secrets);
    }

    /// Place of the header of the route at `position`.
    pub(super) fn header(&self, position: usize) -> Option<SourceSpan> {
        self.routes.get(position).map(|route| route.header)
    }

    pub(super) fn shown<'a>(&'a self, value: &'a str) -> &'a str {
        self.secrets.get(value).map_or(value, String::as_str)
    }

    /// Reports errors of compiling. Rivals that are not in this map are looked up in `beside`.
    pub(super) fn report(&self, errors: &[BuildError], beside: &Self, problems: &mut Problems) {
        let (own, others) = (self.by_name(errors), beside.by_name(errors));
        for error in errors {
            let shown = self.secrets.iter().filter(|(value, _)| !value.is_empty());
            let problem = shown.fold(error.problem.clone(), |text, (value, written)| text.replace(value, written));
            let at = find(&own, &error.route, error.key).unwrap_or(SourceSpan::START);
            let problem = problems.add(at, format!("route \"{}\": {problem}", error.route));
            let rival = error.rival.as_deref();
            if let Some(span) = rival.and_then(|name| find(&own, name, error.key).or(find(&others, name, error.key))) {
                problem.note(span, "the other one is here").help(
                    "the second one would never be taken: give it another path, host, method or condition, or leave it out",
                );
            }
        }
    }

    /// The routes by name; empty if there are no errors.
    fn by_name(&self, errors: &[BuildError]) -> ByName<'_> {
        let routes = if errors.is_empty() { &[] } else { &*self.routes };
        // In reverse, so that the first route of a name remains.
        routes.iter().rev().map(|source_map| (source_map.name.as_str(), source_map)).collect()
    }
}

type ByName<'a> = HashMap<&'a str, &'a RouteSpans>;

/// Place of the value at the key path `key` of a route; of the route's header, if it has no such key.
fn find(routes: &ByName<'_>, route: &str, key: &str) -> Option<SourceSpan> {
    let key = key.split('.').next().unwrap_or(key);
    let route = routes.get(route)?;
    Some(route.keys.iter().find(|(known, _)| *known == key).map_or(route.header, |(_, span)| *span))
}
