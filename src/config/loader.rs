//! Loads a configuration repeatedly. If a tenant's file has become invalid, its last good version is used.
//! Not here: when to load (`control`).

use std::mem;
use std::path::{Path, PathBuf};

use ahash::{HashMap, HashMapExt};

use super::external::External;
use super::file_stamps::FileStamps;
use super::report::{Problems, Source};
use super::root;
use super::tcp::Listeners;
use super::tenant::{Tenant, TenantConfig, TenantContext, TenantReport, TenantState, TenantVersion};
use super::{Config, Report, files};

/// A configuration on disk, with what is kept from one load to the next.
#[derive(Clone, Debug)]
pub struct Loader {
    path: PathBuf,
    file_stamps: FileStamps,
    /// The last good version of each tenant's file, by the tenant's name.
    good: HashMap<String, TenantVersion>,
}

impl Loader {
    /// A loader of a file, or of a directory with `cairn.toml` and `conf.d/*.toml`.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, file_stamps: FileStamps::default(), good: HashMap::new() }
    }

    /// Loads the files as they are now. Problems in a tenant's file are no errors: see [`Config::tenants`].
    ///
    /// # Errors
    /// All problems of the operator's own files.
    pub fn load(&mut self) -> Result<Config, Report> {
        self.file_stamps = FileStamps::default();
        let sources = files::read(&self.path, &mut self.file_stamps)?;
        let mut problems = Problems::default();
        let builder = read(&sources, &mut self.file_stamps, &mut problems).filter(|_| problems.is_empty());
        let Some(mut builder) = builder else { return Err(Report::new(&sources, problems)) };
        let mut good = mem::take(&mut self.good);
        for tenant in mem::take(&mut builder.tenants) {
            let before = good.remove(&tenant.name);
            if let Some(version) = builder.add_tenant(&tenant, before, &mut self.file_stamps) {
                self.good.insert(tenant.name, version);
            }
        }
        builder.config.files = self.file_stamps.paths().map(Path::to_owned).collect();
        Ok(builder.config)
    }

    /// Path of the configuration.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Every file and directory that the last load read or looked for, even if the load failed.
    #[must_use]
    pub fn file_stamps(&self) -> &FileStamps {
        &self.file_stamps
    }
}

/// Loads the files as they are now. Problems in a tenant's file are errors, too.
pub(super) fn strict(sources: Vec<Source>, mut file_stamps: FileStamps) -> Result<Config, Report> {
    let mut problems = Problems::default();
    let Some(mut builder) = read(&sources, &mut file_stamps, &mut problems) else {
        return Err(Report::new(&sources, problems));
    };
    for tenant in mem::take(&mut builder.tenants) {
        let mut own = Problems::default();
        if let Some((version, part)) = builder.read(&tenant, &mut file_stamps, &mut own) {
            builder.push_tenant(&tenant, TenantState::Live, version.source, part, None);
        }
        problems.append(own);
    }
    builder.config.files = file_stamps.paths().map(Path::to_owned).collect();
    if problems.is_empty() { Ok(builder.config) } else { Err(Report::new(&builder.config.sources, problems)) }
}

/// Reads `file` as the file of the tenant `name`, without other tenants' files. None: there is no such tenant.
pub(super) fn one_tenant(sources: Vec<Source>, name: &str, file: &Path) -> Result<Option<TenantReport>, Report> {
    let mut problems = Problems::default();
    let builder = read(&sources, &mut FileStamps::default(), &mut problems).filter(|_| problems.is_empty());
    let Some(mut builder) = builder else { return Err(Report::new(&sources, problems)) };
    let Some(mut tenant) = mem::take(&mut builder.tenants).into_iter().find(|tenant| tenant.name == name) else {
        return Ok(None);
    };
    file.clone_into(&mut tenant.file);
    builder.add_tenant(&tenant, None, &mut FileStamps::default());
    Ok(builder.config.tenants.pop())
}

/// Reads the operator's own files. None: they are not TOML.
fn read(sources: &[Source], file_stamps: &mut FileStamps, problems: &mut Problems) -> Option<ConfigBuilder> {
    let mut external = External::default();
    let root = root::read(sources, &mut external, problems);
    file_stamps.extend(external.files());
    root.map(|root| ConfigBuilder {
        root_routes: root.config.snapshot.routes.len(),
        config: root.config,
        tenants: root.tenants,
        listeners: root.listeners,
    })
}

/// A configuration to which tenants are added one by one.
struct ConfigBuilder {
    config: Config,
    tenants: Vec<Tenant>,
    listeners: Listeners,
    root_routes: usize,
}

impl ConfigBuilder {
    fn tenant_context(&self) -> TenantContext<'_> {
        TenantContext {
            snapshot: &self.config.snapshot,
            source_map: &self.config.source_map,
            root_routes: self.root_routes,
            listeners: &self.listeners,
            role: self.config.role,
            file: self.config.sources.len(),
        }
    }

    /// Adds the tenant's file as it stands. If that has problems, adds the version `before`, or else routes that answer 503.
    /// Returns the last good version, even if it does not fit the present root.
    fn add_tenant(
        &mut self,
        tenant: &Tenant,
        before: Option<TenantVersion>,
        file_stamps: &mut FileStamps,
    ) -> Option<TenantVersion> {
        let mut problems = Problems::default();
        let fresh = self.read(tenant, file_stamps, &mut problems);
        let report = match fresh {
            Some((version, part)) if problems.is_empty() => {
                self.push_tenant(tenant, TenantState::Live, version.source.clone(), part, None);
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
            let part = tenant.read(&mut version, self.tenant_context(), &mut problems);
            if problems.is_empty() {
                self.push_tenant(tenant, TenantState::Stale, version.source.clone(), part, Some(report));
                return Some(version);
            }
        }
        let part = tenant.unavailable(self.tenant_context());
        self.push_tenant(tenant, TenantState::Absent, Source::new("", ""), part, Some(report));
        before
    }

    /// Reads the tenant's file as it stands. None: it cannot be opened.
    fn read(
        &self,
        tenant: &Tenant,
        file_stamps: &mut FileStamps,
        problems: &mut Problems,
    ) -> Option<(TenantVersion, TenantConfig)> {
        if let Some(lookup) = tenant.lookup() {
            file_stamps.note(lookup);
        }
        let mut version = tenant.open(problems)?;
        let part = tenant.read(&mut version, self.tenant_context(), problems);
        file_stamps.extend(version.external.files());
        Some((version, part))
    }

    fn push_tenant(
        &mut self,
        tenant: &Tenant,
        state: TenantState,
        source: Source,
        mut part: TenantConfig,
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
        self.config.source_map.append(part.source_map);
        self.config.sources.push(source);
    }
}
