//! `[[tenant]]` and the file that it names: routes and clusters within the tenant's claims and bounds.
//! Not here: which version of the file is served (`loader`).

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::bounds::Bounds;
use super::budget::Budget;
use super::claim::{self, Claim};
use super::confined;
use super::external::{self, External};
use super::file_stamps::LookupPath;
use super::files::{Document, FILE_BYTES_MAX};
use super::layers::Layers;
use super::names::{Names, Scope};
use super::report::{Problems, Source, SourceSpan};
use super::route::RouteContext;
use super::section::Section;
use super::source_map::SourceMap;
use super::tables::{TENANT_FILE, TENANTS_MAX};
use super::tcp::Listeners;
use super::{AdminSpec, Report, Role, check, cluster, route};
use crate::cluster::ClusterSpec;
use crate::id::TenantId;
use crate::route::{ActionSpec, RouteSpec, Router};
use crate::snapshot::{SnapshotSpec, TenantSpec};

/// The result of loading one tenant.
#[derive(Clone, Debug)]
pub struct TenantReport {
    /// Unique name.
    pub name: String,
    /// Path of its file.
    pub file: PathBuf,
    /// Which version of it is served.
    pub state: TenantState,
    /// Number of its routes that are served.
    pub routes: usize,
    /// Number of its clusters that are served.
    pub clusters: usize,
    /// Problems of the file as it stands.
    pub problems: Option<Report>,
}

/// Which version of a tenant's file is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TenantState {
    /// The file as it stands.
    Live,
    /// Its last good version: the file as it stands has problems.
    Stale,
    /// None: the file has problems, and there is no good version. Requests within its claims are answered 503.
    Absent,
}

/// Writes it as in JSON.
impl fmt::Display for TenantState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// One `[[tenant]]`.
#[derive(Clone, Debug)]
pub(super) struct Tenant {
    id: TenantId,
    pub(super) name: String,
    pub(super) file: PathBuf,
    /// Place of `file` in the operator's files.
    file_at: SourceSpan,
    claims: Vec<Claim>,
    bounds: Bounds,
    default_timeout: Option<Duration>,
    pub(super) spec: TenantSpec,
}

/// A version of a tenant's file, with all its external inputs: enough to read it again with the same result.
#[derive(Clone, Debug)]
pub(super) struct TenantVersion {
    pub(super) source: Source,
    pub(super) external: External,
}

/// Routes and clusters of a tenant, read from one version of its file.
#[derive(Debug, Default)]
pub(super) struct TenantConfig {
    pub(super) routes: Vec<RouteSpec>,
    pub(super) clusters: Vec<ClusterSpec>,
    pub(super) source_map: SourceMap,
}

/// The configuration to which a tenant is added.
#[derive(Clone, Copy, Debug)]
pub(super) struct TenantContext<'a> {
    pub(super) snapshot: &'a SnapshotSpec,
    pub(super) source_map: &'a SourceMap,
    /// How many routes of the snapshot are the operator's own. They come first.
    pub(super) root_routes: usize,
    pub(super) listeners: &'a Listeners,
    pub(super) role: Role,
    /// Index of the tenant's source.
    pub(super) file: usize,
}

/// All tenants, in file order.
pub(super) fn tenants(
    sections: &[Section<'_>],
    names: &Names,
    listeners: &Listeners,
    admin: &AdminSpec,
    problems: &mut Problems,
) -> Vec<Tenant> {
    if let Some(surplus) = sections.get(TENANTS_MAX) {
        problems.add(surplus.at, format!("there are more than {TENANTS_MAX} tenants")).help("leave some out");
    }
    let mut tenants: Vec<Tenant> = Vec::with_capacity(sections.len());
    for (position, section) in sections.iter().enumerate().take(TENANTS_MAX) {
        let Some(file) = section.text("file") else { continue };
        let claims: Vec<_> =
            section.many("claims").iter().filter_map(|claim| Claim::read(*claim, listeners, problems)).collect();
        if section.length("claims") == Some(0) {
            problems
                .add(section.span("claims"), "the tenant claims nothing")
                .help("write at least one: claims = [{ host = \"api.example.com\", path_prefix = \"/payments\" }]");
        }
        let limits = section.one("limits");
        let bounds = Bounds::read(limits, admin, problems);
        let number = |key: &str| u32::try_from(limits.number(key)).unwrap_or(u32::MAX);
        let name = names.full(position);
        tenants.push(Tenant {
            id: TenantId(u16::try_from(tenants.len()).unwrap_or(u16::MAX)),
            file: section.directory().join(file.value),
            file_at: file.at,
            claims,
            default_timeout: bounds.timeout(section.one("defaults"), "timeout", problems),
            bounds,
            spec: TenantSpec {
                name: name.clone(),
                requests: number("requests"),
                requests_per_second: number("requests_per_second"),
            },
            name,
        });
    }
    overlaps(&tenants, problems);
    // The file of a tenant without claims is not read; the missing claims have been reported.
    tenants.retain(|tenant| !tenant.claims.is_empty());
    tenants
}

/// Reports claims of two tenants that overlap.
fn overlaps(tenants: &[Tenant], problems: &mut Problems) {
    let claims: Vec<_> = tenants.iter().flat_map(|tenant| tenant.claims.iter().map(move |it| (tenant, it))).collect();
    for (position, (owner, claim)) in claims.iter().enumerate() {
        for (other, first) in claims.iter().take(position) {
            if owner.id != other.id && claim.overlaps(first) {
                problems
                    .add(claim.at, format!("{} and {} claim the same requests", other.name, owner.name))
                    .note(first.at, format!("{} claims {first} here", other.name))
                    .help("let one of them claim less");
            }
        }
    }
}

impl Tenant {
    /// The file's directory, which the operator has chosen, and its name, which may be a link that the tenant has made.
    fn split_file(&self) -> (&Path, &Path) {
        let name = self.file.file_name().map(Path::new).unwrap_or(Path::new("."));
        (self.file.parent().unwrap_or(Path::new("")), name)
    }

    /// The path of the file, bound to its directory.
    pub(super) fn lookup(&self) -> Option<LookupPath> {
        let (directory, name) = self.split_file();
        LookupPath::beneath(directory, name)
    }

    /// Opens and reads the file as it stands. If it cannot be read, reports that at the key `file`.
    pub(super) fn open(&self, problems: &mut Problems) -> Option<TenantVersion> {
        let (directory, name) = self.split_file();
        let text = confined::open(directory, name).and_then(|file| external::text(file, FILE_BYTES_MAX));
        let found = text.map(|text| TenantVersion {
            source: Source::new(&self.file.display().to_string(), &text),
            external: External::confined(),
        });
        found
            .map_err(|why| {
                problems.add(self.file_at, format!("the file of tenant \"{}\" cannot be read: {why}", self.name)).help(
                    format!(
                        "it is looked for at {}, relative to the file that names it: {}",
                        self.file.display(),
                        match why.kind() {
                            io::ErrorKind::NotFound => "create it there, or correct `file`",
                            io::ErrorKind::PermissionDenied => "let the user of this process read it",
                            _ => "correct `file`, or what stands there",
                        }
                    ),
                );
            })
            .ok()
    }

    /// Reads a version of the file in the tenant's scope. The result is valid only if no problem was reported.
    pub(super) fn read(
        &self,
        version: &mut TenantVersion,
        tenant_context: TenantContext<'_>,
        problems: &mut Problems,
    ) -> TenantConfig {
        let mut document = Document::parse(tenant_context.file, &version.source, problems);
        if !problems.is_empty() {
            return TenantConfig::default();
        }
        document.role = tenant_context.role;
        let bounds = self.bounds.begin();
        let budget = bounds.budget.as_ref();
        document.replace_references(&mut version.external, budget, problems);
        if budget.is_some_and(Budget::is_over) {
            return TenantConfig::default();
        }
        check::document(&document, &TENANT_FILE, problems);
        let root = document.section(&TENANT_FILE);
        let roots = [root];
        let layers = Layers::of(&roots);
        layers.check(problems);
        let routes: Vec<_> = layers.routes(&roots).iter().map(|grouped| grouped.route).collect();
        let clusters = layers.clusters(&roots);
        let affordable = |budget: &Budget, problems: &mut Problems| {
            budget.routes(&routes, problems)
                && budget.inherited(&routes, problems)
                && budget.inherited(&clusters, problems)
        };
        if budget.is_some_and(|budget| !affordable(budget, problems)) {
            return TenantConfig::default();
        }
        let scope = |first| Scope { tenant: self.name.clone(), first };
        let route_names = Names::read("route", &routes, scope(0), problems);
        let cluster_names = Names::read("cluster", &clusters, scope(tenant_context.snapshot.clusters.len()), problems)
            .incomplete_if(root.has_unknown_tables());
        let context = RouteContext { listeners: tenant_context.listeners, clusters: &cluster_names, bounds: &bounds };
        let mut part = TenantConfig {
            routes: Vec::with_capacity(routes.len()),
            clusters: cluster::clusters(&clusters, &cluster_names, &bounds, &mut version.external, problems),
            source_map: SourceMap::default(),
        };
        part.source_map.secrets(&document.references);
        clusters.iter().for_each(|cluster| part.source_map.cluster(*cluster));
        for (position, section) in routes.iter().enumerate() {
            let name = route_names.full(position);
            part.source_map.route(name.clone(), *section);
            let Some(mut route) = route::route(*section, name, context, problems) else { continue };
            claim::hold_to_claims(&mut route, *section, &self.claims, problems);
            route.tenant = Some(self.id);
            if matches!(route.action, ActionSpec::Cluster(_) | ActionSpec::Split(_)) {
                route.timeout = route.timeout.or(self.default_timeout);
            }
            part.routes.push(route);
        }
        let has_time = |problems: &mut Problems| budget.is_none_or(|it| it.has_time(root.at, problems));
        if problems.is_empty() && has_time(problems) {
            self.compile(&mut part, tenant_context, problems);
            has_time(problems);
        }
        part
    }

    /// Compiles the tenant's routes with those of the root that may collide, and reports the errors as problems of this tenant.
    fn compile(&self, part: &mut TenantConfig, tenant_context: TenantContext<'_>, problems: &mut Problems) {
        let mut routes = self.rivals(tenant_context);
        let first = routes.len();
        routes.append(&mut part.routes);
        if let Err(mut errors) = Router::build(&routes, &tenant_context.snapshot.protocols()) {
            let own: HashSet<&str> = routes.iter().skip(first).map(|route| route.name.as_str()).collect();
            errors.retain(|error| own.contains(error.route.as_str()));
            part.source_map.report(&errors, tenant_context.source_map, problems);
        }
        part.routes = routes.split_off(first);
    }

    /// The operator's routes that lie within a claim.
    fn rivals(&self, tenant_context: TenantContext<'_>) -> Vec<RouteSpec> {
        let inside = |route: &&RouteSpec| self.claims.iter().any(|claim| claim.touches(route));
        tenant_context.snapshot.routes.iter().take(tenant_context.root_routes).filter(inside).cloned().collect()
    }

    /// Routes that answer 503 to requests within the claims. Claims for which the root has a route with the same conditions get
    /// none.
    pub(super) fn unavailable(&self, tenant_context: TenantContext<'_>) -> TenantConfig {
        let mut part = TenantConfig::default();
        for (number, claim) in self.claims.iter().enumerate() {
            let name = match number {
                0 => format!("{}/unavailable", self.name),
                _ => format!("{}/unavailable-{}", self.name, number + 1),
            };
            let mut routes = self.rivals(tenant_context);
            routes.extend_from_slice(&part.routes);
            routes.push(self.answer(name.clone(), claim));
            let Ok(_) = Router::build(&routes, &tenant_context.snapshot.protocols()) else { continue };
            part.routes.extend(routes.pop());
            part.source_map.generated_route(name, claim.at);
        }
        part
    }

    fn answer(&self, name: String, claim: &Claim) -> RouteSpec {
        let action = ActionSpec::Respond {
            status: 503,
            body: UNAVAILABLE.to_owned(),
            headers: vec![("cache-control".to_owned(), "no-store".to_owned())],
        };
        RouteSpec {
            tenant: Some(self.id),
            listeners: claim.listeners.clone(),
            hosts: claim.host.iter().cloned().collect(),
            path: claim.path(),
            ..RouteSpec::new(name, action)
        }
    }
}

/// Body of the 503. It does not tell clients whose configuration it is.
const UNAVAILABLE: &str = "This service is not available: its configuration has errors.\n";
