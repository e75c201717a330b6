//! Where routes stand and which values are secret, for what is said about a configuration after it was read.
//! Not here: problems found while reading (`report`).

use std::sync::Arc;

use ahash::HashMap;

use super::Report;
use super::files::Document;
use super::names::Names;
use super::report::{self, Place, Problems, Source};
use super::section::Section;
use crate::route::BuildError;

#[derive(Clone, Debug)]
pub(super) struct Places {
    sources: Arc<[Source]>,
    /// By position.
    routes: Vec<RoutePlaces>,
    /// What references stand for, and how they are written.
    secrets: HashMap<String, String>,
}

/// One route: its name, its header, and its keys with the places of their values.
#[derive(Clone, Debug)]
struct RoutePlaces {
    name: String,
    header: Place,
    keys: Vec<(&'static str, Place)>,
}

impl Places {
    pub(super) fn new(
        sources: Arc<[Source]>,
        documents: &[Document<'_>],
        routes: &[Section<'_>],
        names: &Names,
    ) -> Self {
        let place = |(position, section): (usize, &Section<'_>)| RoutePlaces {
            name: names.get(position).to_owned(),
            header: section.at,
            keys: section.places(),
        };
        let references = documents.iter().flat_map(|document| &document.references);
        let secrets = references.map(|reference| (reference.value.clone(), reference.written.clone()));
        Self { sources, routes: routes.iter().enumerate().map(place).collect(), secrets: secrets.collect() }
    }

    /// `file:line` of a route; empty if there is none.
    pub(super) fn line(&self, position: usize) -> String {
        let route = self.routes.get(position);
        route.map(|route| report::line(&self.sources, route.header)).unwrap_or_default()
    }

    pub(super) fn shown<'a>(&'a self, value: &'a str) -> &'a str {
        self.secrets.get(value).map_or(value, String::as_str)
    }

    /// What compiling found.
    pub(super) fn report(&self, errors: Vec<BuildError>) -> Report {
        let mut problems = Problems::default();
        for error in errors {
            let problem = self.secrets.iter().fold(error.problem, |text, (value, written)| match value.as_str() {
                "" => text,
                value => text.replace(value, written),
            });
            problems.add(self.find(&error.route, error.key), format!("route \"{}\": {problem}", error.route));
        }
        Report::new(Arc::clone(&self.sources), problems)
    }

    /// The value of a route's key, given as a path below the route; else the route's header.
    fn find(&self, route: &str, key: &str) -> Place {
        let key = key.split('.').next().unwrap_or(key);
        let Some(route) = self.routes.iter().find(|places| places.name == route) else { return Place::START };
        route.keys.iter().find(|(known, _)| *known == key).map_or(route.header, |(_, place)| *place)
    }
}
