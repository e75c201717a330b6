//! What became of each tenant's file. Not here: what stands in it (`route`, `cluster`).

use std::path::PathBuf;

use super::Report;

/// One tenant after a load.
#[derive(Clone, Debug)]
pub struct TenantReport {
    /// Unique name.
    pub name: String,
    /// Where its file stands.
    pub file: PathBuf,
    /// Which version of it is served.
    pub state: TenantState,
    /// Routes that are served.
    pub routes: usize,
    /// Clusters that are served.
    pub clusters: usize,
    /// What is wrong with the file as it stands.
    pub problems: Option<Report>,
}

/// Which version of a tenant's file is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TenantState {
    /// The file as it stands.
    Live,
    /// Its last good version: the file as it stands has problems.
    Stale,
    /// None: the file has problems, and there is no good version.
    Absent,
}
