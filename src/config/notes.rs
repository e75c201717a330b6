//! Hints about a valid configuration. Not here: problems (`report`).

use super::Config;
use crate::http::path::EncodedSlash;
use crate::route::{ActionSpec, PathPattern, RouteSpec};

impl Config {
    /// All hints, one line each.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let routes = self.snapshot.routes.iter().enumerate();
        routes.filter_map(|(position, route)| self.unseen(position, route)).collect()
    }

    /// The hint on a route that denies a path on listeners that keep `%2f`: it does not match spellings with `%2f` for a slash.
    fn unseen(&self, position: usize, route: &RouteSpec) -> Option<String> {
        let ActionSpec::Respond { status: status @ (401 | 403), .. } = route.action else { return None };
        let (PathPattern::Exact(path) | PathPattern::Prefix(path) | PathPattern::Regex(path)) = &route.path else {
            return None;
        };
        if matches!(&route.path, PathPattern::Prefix(path) if path == "/") {
            return None;
        }
        let numbered = self.snapshot.listeners.iter().enumerate();
        let serves = |position| route.listeners.is_empty() || route.listeners.iter().any(|id| id.index() == position);
        let keeps = numbered.filter(|(position, it)| serves(*position) && it.encoded_slash == EncodedSlash::Keep);
        let names: Vec<_> = keeps.map(|(_, it)| it.name.as_str()).collect();
        if names.is_empty() {
            return None;
        }
        Some(format!(
            "{}: note: route {} answers {status} for {} and does not see %2f for a slash in it, which an origin may: \
             set encoded_slash = \"refuse\" or \"decode\" in listener {}",
            self.route_place(position),
            route.name,
            self.shown(path),
            names.join(", ")
        ))
    }
}
