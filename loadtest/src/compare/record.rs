//! A comparison as JSON, and its output files. Not here: its figures (`outcome`).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::measure::Measure;
use super::outcome::{Comparison, Outcome, Role, Row};
use super::{html, table};
use crate::args::CompareArguments;

/// A file that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {0}: {1}")]
pub(crate) struct RecordError(PathBuf, io::Error);

/// Writes all requested files.
pub(super) fn write(arguments: &CompareArguments, all: &Comparison) -> Result<(), RecordError> {
    if let Some(file) = &arguments.json {
        put(file, &json(all))?;
    }
    if let Some(file) = &arguments.html {
        put(file, &html::page(all))?;
    }
    if let Some(folder) = &arguments.record {
        let folder = folder.join(&all.machine.name).join(&all.date);
        fs::create_dir_all(&folder).map_err(|error| RecordError(folder.clone(), error))?;
        put(&folder.join("compare.json"), &json(all))?;
        put(&folder.join("compare.html"), &html::page(all))?;
        put(&folder.join("table.txt"), &table::text(all))?;
    }
    Ok(())
}

fn put(file: &Path, text: &str) -> Result<(), RecordError> {
    fs::write(file, text).map_err(|error| RecordError(file.into(), error))
}

/// The results as JSON.
fn json(all: &Comparison) -> String {
    let report = json!({
        "machine": all.machine.json(),
        "date": all.date,
        "commit": all.commit,
        "repeat": all.repeat,
        "seconds": all.seconds,
        "cpus": { "proxy": all.proxy_cpus, "load": all.load_cpus, "origin": all.origin_cpus },
        "proxies": all.proxies.iter().map(|(name, version)| json!({ "name": name, "version": version })).collect::<Vec<_>>(),
        "missing": all.missing.iter().map(|missing| json!({ "name": missing.name, "install": missing.install })).collect::<Vec<_>>(),
        "interrupted": all.interrupted,
        "scenarios": all.outcomes.iter().map(scenario).collect::<Vec<_>>(),
    });
    format!("{report:#}\n")
}

fn scenario(outcome: &Outcome) -> Value {
    json!({
        "name": outcome.scenario.name,
        "title": outcome.scenario.describe(),
        "rate": outcome.rate,
        "proxies": rows(outcome, &[Role::Cairn, Role::Peer]),
        "references": rows(outcome, &[Role::Floor, Role::Direct]),
        "cpu_to_floor": outcome.floor_ratio(),
        "failed": outcome.failed.iter().map(|(name, why)| json!({ "name": name, "why": why })).collect::<Vec<_>>(),
    })
}

/// The rows with these roles.
fn rows(outcome: &Outcome, roles: &[Role]) -> Vec<Value> {
    outcome.rows.iter().filter(|row| roles.contains(&row.role)).map(|row| proxy(outcome, row)).collect()
}

fn proxy(outcome: &Outcome, row: &Row) -> Value {
    let spread = |value: fn(&Measure) -> f64| {
        let spread = row.spread(value);
        let all: Vec<f64> = row.measures.iter().map(value).collect();
        json!({ "median": spread.median, "min": spread.min, "max": spread.max, "all": all })
    };
    json!({
        "name": row.proxy,
        "cpu_us": spread(Measure::cpu_us),
        "user_us": spread(|measure| measure.user_us),
        "system_us": spread(|measure| measure.system_us),
        "requests_per_second": spread(|measure| measure.rate),
        "p50_us": spread(|measure| measure.p50_us),
        "p99_us": spread(|measure| measure.p99_us),
        "p99_9_us": spread(|measure| measure.p999_us),
        "busy": spread(|measure| measure.busy),
        "switches_per_exchange": spread(|measure| measure.switches),
        "load_busy": spread(|measure| measure.load_busy),
        "peak_rss_kib": spread(|measure| measure.peak_kib as f64),
        "errors": row.errors(),
        "unsent": row.unsent(),
        "tls": row.agreement.as_ref().map(|agreement| json!({ "agreed": agreement, "handshakes": row.handshakes().0, "resumed": row.handshakes().1 })),
        "cpu_to_best_peer": outcome.cpu_ratio(row),
        "rate_to_best_peer": outcome.rate_ratio(row),
    })
}
