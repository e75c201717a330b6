//! Description of the machine for reports and records: CPUs, memory and kernel, without host names. Not here: measuring.

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use time::OffsetDateTime;

/// One machine.
#[derive(Debug)]
pub(crate) struct Machine {
    /// Name of its folder of records.
    pub(crate) name: String,
    pub(crate) model: String,
    pub(crate) cpus: usize,
    pub(crate) memory_gib: f64,
    pub(crate) kernel: String,
}

impl Machine {
    pub(crate) fn here(name: Option<&str>) -> Self {
        let cpus = field("/proc/cpuinfo", "processor").count();
        let model = field("/proc/cpuinfo", "model name").next().unwrap_or_else(|| std::env::consts::ARCH.into());
        let memory_kib =
            field("/proc/meminfo", "MemTotal").next().and_then(|text| text.strip_suffix(" kB")?.parse().ok());
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        // The suffix of the version may hold the name of a distributor or owner.
        let kernel = kernel.trim().split(['-', '+']).next().unwrap_or_default().to_owned();
        Self {
            name: folder_name(name.unwrap_or(&format!("{model} {cpus}"))),
            model,
            cpus,
            memory_gib: memory_kib.unwrap_or(0.0) / (1 << 20) as f64,
            kernel,
        }
    }
}

impl Machine {
    /// The machine for programs.
    pub(crate) fn json(&self) -> Value {
        json!({
            "name": self.name,
            "model": self.model,
            "cpus": self.cpus,
            "memory_gib": self.memory_gib,
            "kernel": self.kernel,
        })
    }
}

/// Writes what the machine is, without its name.
impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { model, cpus, memory_gib, kernel, .. } = self;
        write!(f, "{model}, {cpus} CPUs, {memory_gib:.0} GiB, Linux {kernel}")
    }
}

/// Date and time of day (UTC), to the minute.
pub(crate) fn time_of_day() -> String {
    let now = OffsetDateTime::now_utc();
    format!("{} {:02}:{:02} UTC", now.date(), now.hour(), now.minute())
}

/// The commit of the tree that is the working directory, if git knows one.
pub(crate) fn commit() -> Option<String> {
    let output = Command::new("git").args(["describe", "--always", "--dirty", "--exclude", "*"]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && Path::new("loadtest").is_dir()).then(|| text.trim().to_owned())
}

/// The values of the lines `name : value`.
fn field(file: &str, name: &'static str) -> impl Iterator<Item = String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let values = text.lines().filter_map(|line| line.split_once(':')).filter(|(key, _)| key.trim() == name);
    values.map(|(_, value)| value.trim().to_owned()).collect::<Vec<_>>().into_iter()
}

/// Lower case, digits and single hyphens.
fn folder_name(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { ' ' };
    text.chars().map(plain).collect::<String>().split_whitespace().collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_make_folders() {
        assert_eq!(folder_name("AMD EPYC 9B14 (R) 2"), "amd-epyc-9b14-r-2");
        assert_eq!(folder_name("../Intel(R) Xeon(R)"), "intel-r-xeon-r");
        let machine = Machine::here(Some("my box"));
        assert_eq!(machine.name, "my-box");
        assert!(machine.cpus > 0 && machine.memory_gib > 0.0 && machine.kernel.contains('.'));
    }
}
