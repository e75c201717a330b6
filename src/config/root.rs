//! The operator's own files, read into a [`Config`] to which tenants are added later. Not here: the tenants' files (`tenant`).

use std::thread;
use std::time::Duration;

use super::bounds::Bounds;
use super::external::External;
use super::files;
use super::layers::{Grouped, Layers};
use super::names::{Names, Scope};
use super::report::{Problems, Source};
use super::route::RouteContext;
use super::section::Section;
use super::source_map::SourceMap;
use super::tcp::Listeners;
use super::tenant::{self, Tenant};
use super::{Config, Watch, admin, cluster, listener, log, loops, metrics, page, route, tcp, trace};
use crate::id::TenantId;
use crate::route::RouteSpec;
use crate::snapshot::SnapshotSpec;

/// The content of the operator's files.
#[derive(Debug)]
pub(super) struct Root {
    /// Without the content of tenants' files.
    pub(super) config: Config,
    pub(super) tenants: Vec<Tenant>,
    pub(super) listeners: Listeners,
}

/// Reads all files, so that all problems are found. The result is valid only if `problems` stays empty. None: a file is not TOML.
pub(super) fn read(sources: &[Source], external: &mut External, problems: &mut Problems) -> Option<Root> {
    let mut documents = files::parse(sources, problems);
    if !problems.is_empty() {
        return None;
    }
    let mut source_map = SourceMap::default();
    for document in &mut documents {
        document.replace_references(external, None, problems);
        source_map.secrets(&document.references);
    }
    let role = files::role(&documents);
    documents.iter_mut().for_each(|document| document.role = role);
    let roots = files::check(&documents, problems);
    let root = roots[0];
    let all = |name: &str| roots.iter().flat_map(|root| root.many(name)).collect::<Vec<Section<'_>>>();
    let layers = Layers::of(&roots);
    layers.check(problems);
    let listeners = layers.listeners(&roots);
    let grouped = layers.routes(&roots);
    let routes: Vec<_> = grouped.iter().map(|grouped| grouped.route).collect();
    let clusters = layers.clusters(&roots);
    let tenants = all("tenant");
    // What is missing may stand there.
    let unknown = roots.iter().any(Section::has_unknown_tables);
    require_listener(&roots, unknown, problems);
    let listener_names = Listeners::read(&listeners, unknown, problems);
    let mut names =
        |what, sections: &[Section<'_>]| Names::read(what, sections, Scope::default(), problems).incomplete_if(unknown);
    let route_names = names("route", &routes);
    let cluster_names = names("cluster", &clusters);
    let tenant_names = names("tenant", &tenants);
    let (admin, bounds) = (admin::admin(root.one("admin"), external, problems), Bounds::default());
    let context = RouteContext { listeners: &listener_names, clusters: &cluster_names, bounds: &bounds };
    let snapshot = SnapshotSpec {
        listeners: listener::listeners(&listeners, &listener_names, external, problems),
        routes: self::routes(&grouped, &route_names, &tenant_names, context, &mut source_map, problems),
        clusters: cluster::clusters(&clusters, &cluster_names, &bounds, external, problems),
        tenants: Vec::new(),
        error_pages: page::pages(&all("error_pages"), problems),
        overload_delay: root.one("workers").time("overload_delay"),
        batch_wait: batch_wait(root.one("workers").word("batch_wait")),
        access_log: root.table("log").and_then(|log| log::access(log, problems)),
        slow: root.table("log").and_then(|log| log.optional_time("slow")),
        trace: trace::trace(root.one("trace"), root.table("otlp")),
        export: root.table("otlp").and_then(|otlp| trace::export(otlp, external, problems)),
        metrics_routes: root.one("metrics").number("routes") as usize,
    };
    clusters.iter().for_each(|cluster| source_map.cluster(*cluster));
    listeners.iter().for_each(|listener| source_map.listener(*listener));
    if problems.is_empty() {
        check_ways(&snapshot, &clusters, problems);
    }
    admin::clash(root.one("admin"), &admin, &snapshot.listeners, problems);
    let tenants = tenant::tenants(&tenants, &tenant_names, &listener_names, &admin, problems);
    let config = Config {
        workers: workers(root),
        role,
        watch: watch(root),
        events: log::events(root.one("log")),
        admin,
        metrics: metrics::metrics(root.one("metrics")),
        drain_timeout: root.one("drain").time("timeout"),
        drain_grace: root.one("drain").optional_time("grace").unwrap_or_default(),
        files: Vec::new(),
        tenants: Vec::new(),
        snapshot,
        sources: sources.to_vec(),
        root_sources: sources.len(),
        source_map,
    };
    Some(Root { config, tenants, listeners: listener_names })
}

/// Reports that no file has a listener, unless some have tables that are `unknown`.
fn require_listener(roots: &[Section<'_>], unknown: bool, problems: &mut Problems) {
    let is_missing = !unknown && !roots.iter().any(|root| root.has("listener"));
    if let Some(root) = roots.first().filter(|_| is_missing) {
        problems
            .add(root.at, "the configuration has no listener")
            .help("add [[listener]] with name = \"public\" and bind = \"127.0.0.1:8080\"");
    }
}

fn routes(
    sections: &[Grouped<'_>],
    names: &Names,
    tenants: &Names,
    context: RouteContext<'_>,
    source_map: &mut SourceMap,
    problems: &mut Problems,
) -> Vec<RouteSpec> {
    let mut routes = Vec::with_capacity(sections.len());
    for (position, grouped) in sections.iter().enumerate() {
        let name = names.full(position);
        source_map.route(name.clone(), grouped.route);
        let tenant = grouped.tenant().and_then(|tenant| tenants.find(tenant, problems));
        let tenant = tenant.and_then(|position| u16::try_from(position).ok()).map(TenantId);
        routes.extend(route::route(grouped.route, name, context, problems).map(|route| RouteSpec { tenant, ..route }));
    }
    routes
}

/// Reports what is wrong with where requests and connections lead, of a configuration that is right otherwise.
fn check_ways(snapshot: &SnapshotSpec, clusters: &[Section<'_>], problems: &mut Problems) {
    loops::report(snapshot, clusters, problems);
    tcp::check_clusters(snapshot, clusters, problems);
}

/// `watch`
fn watch(root: Section<'_>) -> Watch {
    match (root.text("watch").is_some(), root.flag("watch")) {
        (true, _) => Watch::Poll,
        (false, true) => Watch::Notified,
        (false, false) => Watch::Off,
    }
}

/// `workers.batch_wait`: zero or microseconds.
fn batch_wait(word: &str) -> Duration {
    Duration::from_micros(word.trim_end_matches("us").parse().unwrap_or(0))
}

/// `workers.count`, or one per CPU in this process's affinity mask and quota.
fn workers(root: Section<'_>) -> usize {
    match usize::try_from(root.one("workers").number("count")) {
        Ok(count) if count > 0 => count,
        _ => thread::available_parallelism().map_or(1, usize::from),
    }
}
