//! `cairn-load run`: from arguments to a report. Not here: sending, or how the report looks.

mod template;
mod file;
mod generator;
mod http2;
mod log;
mod meter;
mod mix;
mod pace;
mod plan;
mod progress;
mod ramp;
mod response;
mod series;
mod slot;
mod table;
mod counts;
mod target;
mod tls;

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

pub(crate) use counts::{Failure, RunCounts};
pub(crate) use mix::filler;
pub(crate) use plan::{Plan, PlanError};
pub(crate) use ramp::Step;
pub(crate) use series::{Second, Series};
pub(crate) use target::{grpc_message, grpc_message_bytes};

use crate::args::RunArguments;
use crate::crew::{self, CrewError, Stop};
use crate::report;
use file::FileError;
use generator::Generator;
use log::Log;
use meter::{Meter, meter};
use plan::ThreadLoad;
use progress::Progress;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Crew(#[from] CrewError),
    #[error("no request was answered: {0}")]
    Unanswered(String),
    #[error(
        "no local port is left to connect from; use fewer connections, keep them, or widen net.ipv4.ip_local_port_range"
    )]
    Ports,
    #[error("cannot write {0}: {1}")]
    Write(PathBuf, io::Error),
}

impl RunError {
    /// The problems of a scenario, each with its place.
    pub(crate) fn details(&self) -> Option<Arc<str>> {
        match self {
            Self::Plan(PlanError::File(FileError::Invalid(_, _, report))) => Some(report.text()),
            _ => None,
        }
    }
}

/// A report, and what was wrong with the answers.
#[derive(Debug)]
pub(crate) struct Judged {
    pub(crate) report: String,
    pub(crate) complaint: Option<String>,
}

/// What a run has shown.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) plan: Arc<Plan>,
    pub(crate) counts: RunCounts,
    pub(crate) series: Series,
}

impl Outcome {
    /// Requests a second that were due and that were sent, while requests were due. In a closed loop, requests are due when they are
    /// sent.
    pub(crate) fn rates(&self) -> (f64, f64) {
        let planned = self.plan.duration.filter(|_| !self.counts.interrupted);
        let seconds = planned.unwrap_or(self.counts.elapsed).as_secs_f64();
        let rate = |requests: u64| if seconds > 0.0 { requests as f64 / seconds } else { 0.0 };
        (rate(self.counts.sent + self.counts.unsent), rate(self.counts.sent))
    }
}

/// Runs the load, writes the files that were asked for, and returns the report.
pub(crate) fn run(arguments: &RunArguments) -> Result<Judged, RunError> {
    let outcome = carry_out(arguments, io::stderr().is_terminal())?;
    let write =
        |path: &PathBuf, text: &[u8]| std::fs::write(path, text).map_err(|error| RunError::Write(path.clone(), error));
    if let (Some(path), Some(log)) = (&arguments.hdr, outcome.series.log()) {
        write(path, log.text())?;
    }
    if let Some(path) = &arguments.html {
        write(path, report::page(&outcome).as_bytes())?;
    }
    let report = if arguments.json { report::json(&outcome) } else { report::text(&outcome) };
    Ok(Judged { report, complaint: outcome.counts.complaint(arguments.fail_below) })
}

/// Runs the load and returns what it has shown.
pub(crate) fn load(arguments: &RunArguments) -> Result<Outcome, RunError> {
    carry_out(arguments, false)
}

fn carry_out(arguments: &RunArguments, live: bool) -> Result<Outcome, RunError> {
    let plan = Arc::new(Plan::new(arguments)?);
    let (mut parts, mut readers) = (Vec::new(), Vec::new());
    for part in plan.parts() {
        let (meter, reader) = meter();
        parts.push((part, meter));
        readers.push(reader);
    }
    let shared = Arc::clone(&plan);
    let job = move |(part, meter): (ThreadLoad, Meter), ring, stop: &Stop| {
        Generator::new(&shared, &part, ring, meter).run(stop)
    };
    let log = arguments.hdr.is_some().then(|| Log::new(SystemTime::now() + plan.warmup));
    let mut series = Series::new(log);
    let mut progress = Progress::new(live.then(io::stderr));
    let watch = || {
        series.read(&readers);
        progress.show(&series);
    };
    let worked = crew::work(parts, &plan.cpus, job, || {}, watch);
    progress.end();
    series.close();
    let mut counts = RunCounts::new();
    worked?.iter().for_each(|part| counts.merge(part));
    fault(&counts).map_or(Ok(Outcome { plan, counts, series }), Err)
}

/// Why what was counted is not worth a report.
fn fault(counts: &RunCounts) -> Option<RunError> {
    if counts.out_of_ports {
        return Some(RunError::Ports);
    }
    let silent = counts.sent > 0 && !counts.is_answered() && !counts.interrupted;
    silent.then(|| RunError::Unanswered(report::errors(counts)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn::uring::Errno;

    #[test]
    fn a_run_without_a_local_port_or_an_answer_has_no_report() {
        let tally_of = |errno: rustix::io::Errno, answered: bool| {
            let mut counts = RunCounts::new();
            counts.sent = 2;
            counts.fail(Failure::Connect);
            counts.note_connect(Errno(errno.raw_os_error()));
            if answered {
                counts.latency.record(std::time::Duration::from_millis(1));
            }
            counts
        };
        let complaint = |errno, answered| fault(&tally_of(errno, answered)).map(|error| error.to_string());
        for answered in [false, true] {
            let ports = complaint(rustix::io::Errno::ADDRNOTAVAIL, answered).expect("no port is left");
            assert!(ports.starts_with("no local port is left") && ports.lines().count() == 1, "{ports}");
        }
        let silent = complaint(rustix::io::Errno::CONNREFUSED, false);
        assert_eq!(silent.as_deref(), Some("no request was answered: 1 (connect 1)"));
        assert_eq!(complaint(rustix::io::Errno::CONNREFUSED, true), None);
    }
}
