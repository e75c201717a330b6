//! Loads a configuration again and again; a tenant's file that has become bad is served as it was when it was good.
//! Not here: when to load (`control`).

use std::mem;
use std::path::{Path, PathBuf};

use ahash::{HashMap, HashMapExt};

use super::names::Names;
use super::outside::Outside;
use super::report::{Problems, Source};
use super::root;
use super::seen::Seen;
use super::tenant::{Ground, Part, Tenant, TenantReport, TenantState, Version};
use super::{Config, Report, files};

/// A configuration on disk.
#[derive(Clone, Debug)]
pub struct Loader {
    path: PathBuf,
    seen: Seen,
    /// The last good version of each tenant's file, by the tenant's name.
    good: HashMap<String, Version>,
}

impl Loader {
    /// For a file, or a directory with `cairn.toml` and `conf.d/*.toml`.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, seen: Seen::default(), good: HashMap::new() }
    }

    /// Reads it as it stands now. Problems in the file of a tenant stay that tenant's: see [`Config::tenants`].
    ///
    /// # Errors
    /// Everything that is wrong with the operator's own files.
    pub fn load(&mut self) -> Result<Config, Report> {
        self.seen = Seen::default();
        let sources = files::read(&self.path, &mut self.seen)?;
        let mut problems = Problems::default();
        let assembly = read(&sources, &mut self.seen, &mut problems).filter(|_| problems.is_empty());
        let Some(mut assembly) = assembly else { return Err(Report::new(&sources, problems)) };
        let mut good = mem::take(&mut self.good);
        for tenant in mem::take(&mut assembly.tenants) {
            let before = good.remove(&tenant.name);
            if let Some(version) = assembly.add(&tenant, before, &mut self.seen) {
                self.good.insert(tenant.name, version);
            }
        }
        assembly.config.files = self.seen.paths().map(Path::to_owned).collect();
        Ok(assembly.config)
    }

    /// Where the configuration stands.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Every file and directory that the last load read or looked for, whether it succeeded or not.
    #[must_use]
    pub fn seen(&self) -> &Seen {
        &self.seen
    }
}

/// Everything as it stands now; what is wrong with the file of a tenant counts as much as the rest.
pub(super) fn strict(sources: Vec<Source>, mut seen: Seen) -> Result<Config, Report> {
    let mut problems = Problems::default();
    let Some(mut assembly) = read(&sources, &mut seen, &mut problems) else {
        return Err(Report::new(&sources, problems));
    };
    for tenant in mem::take(&mut assembly.tenants) {
        let mut own = Problems::default();
        if let Some((version, part)) = assembly.read(&tenant, &mut seen, &mut own) {
            assembly.accept(&tenant, TenantState::Live, version.source, part, None);
        }
        problems.append(own);
    }
    assembly.config.files = seen.paths().map(Path::to_owned).collect();
    if problems.is_empty() { Ok(assembly.config) } else { Err(Report::new(&assembly.config.sources, problems)) }
}

/// Reads `file` as that of the tenant `name`, and no other tenant's. None: there is no such tenant.
pub(super) fn one_tenant(sources: Vec<Source>, name: &str, file: &Path) -> Result<Option<TenantReport>, Report> {
    let mut problems = Problems::default();
    let assembly = read(&sources, &mut Seen::default(), &mut problems).filter(|_| problems.is_empty());
    let Some(mut assembly) = assembly else { return Err(Report::new(&sources, problems)) };
    let Some(mut tenant) = mem::take(&mut assembly.tenants).into_iter().find(|tenant| tenant.name == name) else {
        return Ok(None);
    };
    file.clone_into(&mut tenant.file);
    assembly.add(&tenant, None, &mut Seen::default());
    Ok(assembly.config.tenants.pop())
}

/// Reads the operator's files; None: they are not TOML.
fn read(sources: &[Source], seen: &mut Seen, problems: &mut Problems) -> Option<Assembly> {
    let mut outside = Outside::default();
    let root = root::read(sources, &mut outside, problems);
    seen.extend(outside.files());
    root.map(|root| Assembly {
        root_routes: root.config.snapshot.routes.len(),
        config: root.config,
        tenants: root.tenants,
        listeners: root.listeners,
    })
}

/// A configuration to which tenants are added one by one.
struct Assembly {
    config: Config,
    tenants: Vec<Tenant>,
    listeners: Names,
    root_routes: usize,
}

impl Assembly {
    fn ground(&self) -> Ground<'_> {
        Ground {
            snapshot: &self.config.snapshot,
            places: &self.config.places,
            root_routes: self.root_routes,
            listeners: &self.listeners,
            role: self.config.role,
            file: self.config.sources.len(),
        }
    }

    /// Adds the tenant's file as it stands, or else as it was `before`, or else an answer that says so. Returns the last good
    /// version, even where it does not fit the root of now.
    fn add(&mut self, tenant: &Tenant, before: Option<Version>, seen: &mut Seen) -> Option<Version> {
        let mut problems = Problems::default();
        let fresh = self.read(tenant, seen, &mut problems);
        let report = match fresh {
            Some((version, part)) if problems.is_empty() => {
                self.accept(tenant, TenantState::Live, version.source.clone(), part, None);
                return Some(version);
            }
            fresh => {
                let mut sources = self.config.sources.clone();
                sources.extend(fresh.map(|(version, _)| version.source));
                Report::new(&sources, problems)
            }
        };
        if let Some(mut version) = before.clone() {
            let mut problems = Problems::default();
            let part = tenant.read(&mut version, self.ground(), &mut problems);
            if problems.is_empty() {
                self.accept(tenant, TenantState::Stale, version.source.clone(), part, Some(report));
                return Some(version);
            }
        }
        let part = tenant.unavailable(self.ground());
        self.accept(tenant, TenantState::Absent, Source::new("", ""), part, Some(report));
        before
    }

    /// The tenant's file as it stands; None: it cannot be read.
    fn read(&self, tenant: &Tenant, seen: &mut Seen, problems: &mut Problems) -> Option<(Version, Part)> {
        if let Some(way) = tenant.way() {
            seen.note(way);
        }
        let mut version = tenant.open(problems)?;
        let part = tenant.read(&mut version, self.ground(), problems);
        seen.extend(version.outside.files());
        Some((version, part))
    }

    fn accept(
        &mut self,
        tenant: &Tenant,
        state: TenantState,
        source: Source,
        mut part: Part,
        problems: Option<Report>,
    ) {
        let own = |count: usize| if state == TenantState::Absent { 0 } else { count };
        self.config.tenants.push(TenantReport {
            name: tenant.name.clone(),
            file: tenant.file.clone(),
            state,
            routes: own(part.routes.len()),
            clusters: part.clusters.len(),
            problems,
        });
        let snapshot = &mut self.config.snapshot;
        snapshot.routes.append(&mut part.routes);
        snapshot.clusters.append(&mut part.clusters);
        snapshot.tenants.push(tenant.spec.clone());
        self.config.places.append(part.places);
        self.config.sources.push(source);
    }
}
