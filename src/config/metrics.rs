//! `[metrics]`: which series the admin interface shows. Not here: counting (`telemetry`), and showing (`control`).

use super::section::Section;

/// Which families of series are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MetricsProfile {
    /// Those whose names begin with `cairn_`.
    #[default]
    Native,
    /// Those that dashboards for Envoy use.
    Envoy,
    /// Both.
    Both,
}

/// What of metrics does not concern workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MetricsSpec {
    /// `profile`
    pub profile: MetricsProfile,
    /// `routes`: routes with series of their own.
    pub routes: usize,
    /// `endpoints`: endpoints with series of their own.
    pub endpoints: usize,
}

pub(super) fn metrics(section: Section<'_>) -> MetricsSpec {
    let profile = match section.word("profile") {
        "envoy" => MetricsProfile::Envoy,
        "both" => MetricsProfile::Both,
        _ => MetricsProfile::Native,
    };
    let number = |key| section.number(key) as usize;
    MetricsSpec { profile, routes: number("routes"), endpoints: number("endpoints") }
}
