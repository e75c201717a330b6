//! What a reload would change, as text for operators. Not here: the reload (`reload`).

mod difference;
mod shadow;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::prepare::{ServingState, absolute_path, is_same_file, loader_for, tenant_changes};
use super::{Control, LastPlan, Reply, beside};
use crate::cluster::Hold;
use crate::config::{Config, Loader};
use crate::printable::printable;
use crate::snapshot::Ledger;
pub(super) use difference::difference;

/// Names that are shown of items that change in the same way.
const NAMES_SHOWN: usize = 8;

/// All changes that a reload would make.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Said first, where the plan is not of the file that the process serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// What operators have said of endpoints by `cairn endpoint`, which no file says, and what becomes of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub orders: Vec<String>,
    /// In the order listeners, routes, clusters, endpoints, the rest.
    pub changes: Vec<Change>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Added, removed or changed.
    pub sign: Sign,
    /// `listener`, `route`, `cluster`, `endpoint`, `tenant`, `process`.
    pub kind: String,
    /// Name of the item; of an endpoint, cluster and address.
    pub name: String,
    /// Details and consequences.
    pub text: String,
}

/// The kind of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sign {
    /// Only in the new configuration.
    Added,
    /// Only in the old configuration.
    Removed,
    /// In both, with different values.
    Changed,
}

impl Plan {
    pub(super) fn add(&mut self, sign: Sign, kind: &str, name: &str, text: String) {
        // The text quotes values of files and must stay one line.
        let text = printable(&text).into_owned();
        self.changes.push(Change { sign, kind: kind.to_owned(), name: name.to_owned(), text });
    }

    /// How many changes of each kind, on one line.
    #[must_use]
    pub fn summary(&self) -> String {
        let count = |sign| self.changes.iter().filter(|change| change.sign == sign).count();
        let counts = [(Sign::Added, "added"), (Sign::Removed, "removed"), (Sign::Changed, "changed")];
        let parts: Vec<_> = counts
            .into_iter()
            .map(|(sign, word)| (count(sign), word))
            .filter(|(count, _)| *count > 0)
            .map(|(count, word)| format!("{count} {word}"))
            .collect();
        if parts.is_empty() { "nothing would change".to_owned() } else { parts.join(", ") }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(note) = &self.note {
            writeln!(f, "{note}")?;
        }
        for order in &self.orders {
            writeln!(f, "! {order}")?;
        }
        // A default that has changed changes many items in the same way, which is said once.
        let mut same: HashMap<(&str, &str), Vec<&str>> = HashMap::new();
        for Change { kind, name, text, .. } in self.changes.iter().filter(|it| it.sign == Sign::Changed) {
            same.entry((kind, text)).or_default().push(name);
        }
        for Change { sign, kind, name, text } in &self.changes {
            match sign {
                Sign::Added => writeln!(f, "+ {kind} {name}: {text}")?,
                Sign::Removed => writeln!(f, "- {kind} {name}: {text}")?,
                Sign::Changed => {
                    let Some(names) = same.remove(&(&**kind, &**text)) else { continue };
                    let shown = &names[..names.len().min(NAMES_SHOWN)];
                    write!(f, "~ {kind} {}", shown.join(", "))?;
                    match names.len() - shown.len() {
                        0 => {}
                        more => write!(f, " and {more} more")?,
                    }
                    writeln!(f, ": {text}")?;
                }
            }
        }
        writeln!(f, "{}", self.summary())
    }
}

impl Control {
    /// What a reload would change, or why it would be refused.
    pub(super) fn plan(&mut self, path: Option<PathBuf>, reply: Reply<Result<Plan, String>>) {
        let Some(serving) = self.serving_state() else { return };
        let plan_loader = self.plan_loader.clone();
        let last = self.last_plan.clone();
        beside(reply, move || {
            let plan = make(plan_loader, path, &serving);
            last.send_replace(Some(LastPlan::of(&plan)));
            plan
        });
    }
}

fn make(plan_loader: Option<Loader>, path: Option<PathBuf>, serving: &ServingState) -> Result<Plan, String> {
    let note = note(plan_loader.as_ref().map(absolute_path).as_deref(), path.as_deref());
    let Some(mut loader) = loader_for(plan_loader, path) else {
        return Err("the demo has no file to plan from".to_owned());
    };
    let config = loader.load().map_err(|report| report.to_string())?;
    // With a ledger of its own, so that no id of the served configuration is used up.
    config.compile(0, &mut Ledger::default()).map_err(|report| report.to_string())?;
    let shadows = shadow::shadows(&serving.config, &config);
    let mut plan = difference(&serving.config, &config, &|name| serving.connections(name));
    shadows.explain(&mut plan);
    for (name, news) in tenant_changes(&serving.config, &config) {
        plan.add(Sign::Changed, "tenant", &name, news.trim_end().to_owned());
    }
    plan.note = note;
    plan.orders = orders(serving, &config);
    Ok(plan)
}

/// What operators have said of endpoints, and whether a reload keeps it.
fn orders(serving: &ServingState, new: &Config) -> Vec<String> {
    let stays = |cluster: &str, endpoint: &str| {
        let found = new.snapshot.clusters.iter().find(|it| it.name == *cluster);
        found.is_some_and(|it| it.endpoints.iter().any(|it| it.name == *endpoint))
    };
    let mut orders = Vec::new();
    for cluster in &serving.snapshot.clusters {
        for endpoint in &cluster.endpoints {
            let drained = endpoint.state.has(Hold::Drained).then(|| "is drained".to_owned());
            let weight = endpoint.state.weight().map(|set| format!("has weight {set} instead of {}", endpoint.weight));
            let said: Vec<_> = drained.into_iter().chain(weight).collect();
            if !said.is_empty() {
                let then = if stays(&cluster.name, &endpoint.name) { "stays so" } else { "goes" };
                orders.push(format!(
                    "endpoint {} {}: {} by `cairn endpoint`, and {then}",
                    cluster.name,
                    endpoint.name,
                    said.join(" and ")
                ));
            }
        }
    }
    orders
}

/// What to know of a plan of `path` in a process that serves `served`.
fn note(served: Option<&Path>, path: Option<&Path>) -> Option<String> {
    let path = path.filter(|path| !served.is_some_and(|served| is_same_file(path, served)))?;
    let (pid, path) = (std::process::id(), path.display());
    let served = served.map_or_else(|| "the demo".to_owned(), |served| served.display().to_string());
    let text =
        format!("process {pid} serves {served}, not {path}: if it said what {path} says, a reload would change this");
    Some(printable(&text).into_owned())
}
