//! Configuration: TOML to a checked [`Config`]. Every problem of every file is reported at once, each with its place and its
//! cure. Only importer of `toml`. Not here: compiling what was checked (`snapshot`), or publishing it (`control`).
//!
//! A file goes through `files` (read, parse), `check` (each value against [`schema`]), and `listener`, `route`, `cluster`
//! (rules between values, and the plain data that a snapshot is built from).

mod admin;
mod check;
mod cluster;
mod field;
mod files;
mod host;
mod listener;
mod loader;
mod names;
mod nearest;
mod outside;
mod places;
mod reference;
mod report;
mod route;
mod schema;
mod section;
mod tenant;
mod unit;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

pub use admin::{AdminSpec, admin_socket};
pub use loader::Loader;
pub use report::Report;
pub use schema::document;
pub use tenant::{TenantReport, TenantState};
pub use unit::duration;

use files::Document;
use names::Names;
use outside::Outside;
use places::Places;
use report::{Problems, Source};
use section::Section;

use crate::snapshot::{Ledger, Snapshot, SnapshotSpec};

/// Where cairn stands; chooses defaults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Faces the world: trusts no peer's forwarding fields, refuses ambiguous paths.
    #[default]
    Edge,
    /// In front of an application boundary: trusts loopback and private ranges.
    Waypoint,
    /// Beside one process: as a waypoint.
    Sidecar,
}

/// A configuration that is valid as far as reading it can tell.
#[derive(Clone, Debug)]
pub struct Config {
    /// How many workers to start, at least 1.
    pub workers: usize,
    /// Its role.
    pub role: Role,
    /// Reload when one of `files` changes.
    pub watch: bool,
    /// Where the admin interface listens.
    pub admin: AdminSpec,
    /// Every file and directory that was read or looked for; empty where the configuration is no file.
    pub files: Vec<PathBuf>,
    /// In the order of `SnapshotSpec::tenants`.
    pub tenants: Vec<TenantReport>,
    /// What to serve.
    pub snapshot: SnapshotSpec,
    places: Places,
}

/// Reads a file, or a directory with `cairn.toml` and `conf.d/*.toml`.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(path: &Path) -> Result<Config, Report> {
    Loader::new(path.to_owned()).load()
}

/// Reads `text`; `name` stands for the file in reports.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(name: &str, text: &str) -> Result<Config, Report> {
    read(vec![Source::new(name, text)], &mut Outside::default())
}

/// The configuration of `cairn run` without `-c`: a route for each way to answer, in front of two demo origins.
///
/// # Errors
/// None while `conf/demo.toml` is valid, which a test sees to.
pub fn demo(origins: [SocketAddr; 2]) -> Result<Config, Report> {
    let [hello, echo] = origins.map(|origin| origin.to_string());
    parse("demo.toml", &DEMO.replace(DEMO_HELLO, &hello).replace(DEMO_ECHO, &echo))
}

const DEMO: &str = include_str!("../../conf/demo.toml");
const DEMO_HELLO: &str = "127.0.0.1:9001";
const DEMO_ECHO: &str = "127.0.0.1:9002";

impl Config {
    /// Whether both say the same. Where it stands does not matter.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        let key = |config: &Self| (config.workers, config.role, config.watch, config.admin.clone());
        key(self) == key(other) && self.snapshot == other.snapshot
    }

    /// `file:line` of a route, by its position; empty if there is none.
    #[must_use]
    pub fn route_place(&self, position: usize) -> String {
        self.places.line(position)
    }

    /// `value` as it may be printed: where it came from a reference (`${NAME}`, `@file`), the reference.
    #[must_use]
    pub fn shown<'a>(&'a self, value: &'a str) -> &'a str {
        self.places.shown(value)
    }

    /// Compiles it into what workers serve from.
    ///
    /// # Errors
    /// What only compiling finds: two routes with the same match, for one.
    pub fn compile(&self, version: u64, ledger: &mut Ledger) -> Result<Snapshot, Report> {
        Snapshot::build(version, self.snapshot.clone(), ledger).map_err(|errors| self.places.report(errors))
    }
}

fn read(sources: Vec<Source>, outside: &mut Outside) -> Result<Config, Report> {
    let sources: Arc<[Source]> = sources.into();
    let mut problems = Problems::default();
    let mut documents = files::parse(&sources, &mut problems);
    if !problems.is_empty() {
        return Err(Report::new(Arc::clone(&sources), problems));
    }
    for document in &mut documents {
        document.replace_references(outside, &mut problems);
    }
    let config = build(&documents, &sources, outside, &mut problems);
    if problems.is_empty() { Ok(config) } else { Err(Report::new(Arc::clone(&sources), problems)) }
}

/// Reads everything, so that every problem is found; the configuration is good only if none was.
fn build(
    documents: &[Document<'_>],
    sources: &Arc<[Source]>,
    outside: &mut Outside,
    problems: &mut Problems,
) -> Config {
    let roots = files::check(documents, problems);
    let root = roots[0];
    let all = |name: &str| roots.iter().flat_map(|root| root.many(name)).collect::<Vec<Section<'_>>>();
    let (listeners, routes, clusters) = (all("listener"), all("route"), all("cluster"));
    if !roots.iter().any(|root| root.has("listener")) {
        problems
            .add(root.at, "the configuration has no listener")
            .help("add [[listener]] with name = \"public\" and bind = \"127.0.0.1:8080\"");
    }
    let listener_names = Names::read("listener", &listeners, problems);
    let route_names = Names::read("route", &routes, problems);
    let cluster_names = Names::read("cluster", &clusters, problems);
    let role = match root.word("role") {
        "waypoint" => Role::Waypoint,
        "sidecar" => Role::Sidecar,
        _ => Role::Edge,
    };
    let snapshot = SnapshotSpec {
        listeners: listener::listeners(&listeners, &listener_names, role, problems),
        routes: route::routes(&routes, &route_names, &listener_names, &cluster_names, problems),
        clusters: cluster::clusters(&clusters, &cluster_names, outside, problems),
        tenants: Vec::new(),
    };
    let places = Places::new(Arc::clone(sources), documents, &routes, &route_names);
    Config {
        workers: workers(root),
        role,
        watch: root.flag("watch"),
        admin: admin::admin(root.one("admin"), role, problems),
        files: Vec::new(),
        tenants: Vec::new(),
        snapshot,
        places,
    }
}

/// `workers.count`, or one per CPU in this process's affinity mask and quota.
fn workers(root: Section<'_>) -> usize {
    match usize::try_from(root.one("workers").number("count")) {
        Ok(count) if count > 0 => count,
        _ => thread::available_parallelism().map_or(1, usize::from),
    }
}

#[cfg(test)]
mod tests;
