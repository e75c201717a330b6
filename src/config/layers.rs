//! What items of a configuration have in common: `[defaults.*]` and `[[group]]`. Not here: looking a key up in them (`section`).

use super::layer_tables::{CLUSTER_OWN, LISTENER_OWN, ROUTE_OWN};
use super::names::{Names, Scope};
use super::report::Problems;
use super::section::{Section, Text};

/// A table from which sections have the keys that they lack.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layer<'a> {
    pub(super) section: Section<'a>,
    /// Keys that it does not give on: each section has its own.
    own: &'static [&'static str],
    /// Its name in `config show`: `defaults.route`, or that of a group.
    pub(super) origin: Origin<'a>,
}

/// What a layer is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Origin<'a> {
    Defaults(&'static str),
    Group(&'a str),
}

/// All layers of the files of one owner.
#[derive(Debug)]
pub(super) struct Layers<'a> {
    routes: Vec<Layer<'a>>,
    clusters: Vec<Layer<'a>>,
    listeners: Vec<Layer<'a>>,
    groups: Vec<Group<'a>>,
}

/// A group of routes.
#[derive(Debug)]
pub(super) struct Group<'a> {
    pub(super) section: Section<'a>,
    /// The group itself, then the defaults of routes.
    layers: Vec<Layer<'a>>,
}

/// A route, and the group in which it stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grouped<'a> {
    pub(super) route: Section<'a>,
    pub(super) group: Option<&'a Group<'a>>,
}

impl Layer<'_> {
    /// Whether sections have this key from it.
    pub(super) fn gives(&self, name: &str) -> bool {
        !self.own.contains(&name)
    }
}

impl<'a> Layers<'a> {
    /// The layers in `roots`. Defaults stand in the first of them.
    pub(super) fn of(roots: &[Section<'a>]) -> Self {
        let defaults = |name, title, own| -> Vec<Layer<'a>> {
            let tables = roots.first().and_then(|root| root.table("defaults")).filter(|tables| tables.knows(name));
            let section = tables.and_then(|tables| tables.table(name));
            section.map(|section| Layer { section, own, origin: Origin::Defaults(title) }).into_iter().collect()
        };
        let routes = defaults("route", "defaults.route", ROUTE_OWN);
        let sections = roots.iter().flat_map(|root| root.many("group"));
        let group = |section: Section<'a>| {
            let origin = Origin::Group(section.text("name").map_or("", |name| name.value));
            let own = Layer { section, own: ROUTE_OWN, origin };
            Group { section, layers: std::iter::once(own).chain(routes.iter().copied()).collect() }
        };
        Self {
            clusters: defaults("cluster", "defaults.cluster", CLUSTER_OWN),
            listeners: defaults("listener", "defaults.listener", LISTENER_OWN),
            groups: sections.map(group).collect(),
            routes,
        }
    }

    /// All routes, in the order of the files; those of a group stand where it begins.
    pub(super) fn routes<'s>(&'s self, roots: &[Section<'s>]) -> Vec<Grouped<'s>> {
        let plain = roots.iter().flat_map(|root| root.many("route"));
        let plain = plain.map(|route| Grouped { route: route.over(&self.routes), group: None });
        let mut routes: Vec<_> = plain.map(|route| (route.route.at, route)).collect();
        for group in &self.groups {
            let own = group.section.many("route").into_iter();
            routes.extend(
                own.map(|route| (group.section.at, Grouped { route: route.over(&group.layers), group: Some(group) })),
            );
        }
        // Stable: those of a group stay in order.
        routes.sort_by_key(|(at, _)| (at.file, at.start));
        routes.into_iter().map(|(_, route)| route).collect()
    }

    pub(super) fn clusters<'s>(&'s self, roots: &[Section<'s>]) -> Vec<Section<'s>> {
        let clusters = roots.iter().flat_map(|root| root.many("cluster"));
        clusters.map(|cluster| cluster.over(&self.clusters)).collect()
    }

    pub(super) fn listeners<'s>(&'s self, roots: &[Section<'s>]) -> Vec<Section<'s>> {
        let listeners = roots.iter().flat_map(|root| root.many("listener"));
        listeners.map(|listener| listener.over(&self.listeners)).collect()
    }

    /// Reports what is wrong with the groups as such.
    pub(super) fn check(&self, problems: &mut Problems) {
        let sections: Vec<_> = self.groups.iter().map(|group| group.section).collect();
        Names::read("group", &sections, Scope::default(), problems);
        for group in sections.iter().filter(|group| group.length("route") == Some(0)) {
            problems
                .add(group.span("route"), "the group has no route")
                .help("add [[group.route]] below it, or leave the group out");
        }
    }
}

impl<'a> Grouped<'a> {
    /// The tenant that its group names.
    pub(super) fn tenant(&self) -> Option<Text<'a>> {
        self.group.filter(|group| group.section.knows("tenant")).and_then(|group| group.section.text("tenant"))
    }
}
