//! One measurement of one proxy: load on some CPUs, and the resources that the proxy used meanwhile. Not here: repetitions.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use clap::Parser;

use super::proc::{Reading, peak_kib};
use super::scenario::Scenario;
use crate::args::{Arguments, RunArguments, Verb};
use crate::report;
use crate::run::{self, Outcome, Plan, RunCounts, RunError};

/// Length of the load before each measurement that is not counted, unless the measurement is shorter.
const WARM_UP: Duration = Duration::from_millis(500);

/// Why there is no measurement.
#[derive(Debug, thiserror::Error)]
pub(super) enum MeasureError {
    #[error(transparent)]
    Run(#[from] RunError),
    #[error("cannot hold idle connections: {0}")]
    Idle(io::Error),
    #[error("cannot run a load beside: {0}")]
    Beside(io::Error),
    #[error("it answers wrong: {0}")]
    Wrong(String),
    #[error("it does not do what the scenario says: {0}")]
    Other(String),
    #[error("interrupted")]
    Interrupted,
}

/// A proxy that listens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    pub(super) pid: u32,
    pub(super) address: SocketAddr,
    /// Folder of its files.
    pub(super) folder: &'a Path,
}

/// Results of one measurement. Times in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Measure {
    /// Complete, correct answers per second.
    pub(super) rate: f64,
    /// CPU time of the proxy for each exchange.
    pub(super) user_us: f64,
    pub(super) system_us: f64,
    /// Share of time in which the proxy's CPUs worked for the proxy, and the load's CPUs for the load (without the origin).
    pub(super) busy: f64,
    pub(super) load_busy: f64,
    /// Context switches of the proxy for each exchange.
    pub(super) switches: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    pub(super) p999_us: f64,
    pub(super) errors: u64,
    /// Requests of an open loop that were due but found no free connection.
    pub(super) unsent: u64,
    /// TLS handshakes, and how many of them resumed a session.
    pub(super) handshakes: u64,
    pub(super) resumed: u64,
    pub(super) peak_kib: u64,
}

/// How measurements are made.
#[derive(Debug)]
pub(super) struct Method {
    pub(super) load_cpus: Vec<usize>,
    /// Number of the proxies' CPUs.
    pub(super) proxies: usize,
    pub(super) duration: Duration,
}

impl Method {
    /// Checks that every byte of the proxy's answers is correct. Returns the TLS agreement, if there is one.
    pub(super) fn check(&self, scenario: &Scenario, target: Target<'_>) -> Result<Option<String>, MeasureError> {
        let Outcome { plan, counts, .. } = self.run(scenario.check(&target.address.to_string(), target.folder))?;
        if counts.all_errors() > 0 {
            return Err(MeasureError::Wrong(report::errors(&counts)));
        }
        check(scenario, &plan, &counts)?;
        Ok(plan.agreements().first().map(|agreement| (*agreement).to_owned()))
    }

    /// Warms up, then measures; `rate` for an open loop.
    pub(super) fn measure(
        &self,
        scenario: &Scenario,
        target: Target<'_>,
        rate: Option<f64>,
    ) -> Result<Measure, MeasureError> {
        let _idle = idle(target.address, scenario.idle).map_err(MeasureError::Idle)?;
        let load = |duration: Duration| {
            let mut arguments = scenario.arguments(&target.address.to_string(), target.folder);
            arguments.extend(["-d".into(), format!("{}us", duration.as_micros())]);
            arguments.extend(rate.into_iter().flat_map(|rate| ["--rate".into(), format!("{rate:.3}")]));
            self.run(arguments)
        };
        // A run of its own, so that nothing is under way when the measurement begins or ends; what it cannot hand over is its
        // connections, so those over TLS begin with a full handshake each.
        let beside = Beside::begin(scenario.beside(&target.address.to_string(), target.folder), &self.load_cpus)?;
        load(WARM_UP.min(self.duration))?;
        let before = Reading::of(target.pid);
        let Outcome { plan, counts, .. } = load(self.duration)?;
        let used = Reading::of(target.pid).since(before);
        check(scenario, &plan, &counts)?;
        beside.map_or(Ok(()), Beside::end)?;
        let us = |time: Duration| time.as_secs_f64() * 1e6;
        let (seconds, exchanges) = (counts.elapsed.as_secs_f64(), counts.latency.count().max(1) as f64);
        Ok(Measure {
            rate: counts.latency.count() as f64 / seconds,
            user_us: us(used.user) / exchanges,
            system_us: us(used.system) / exchanges,
            busy: (used.user + used.system).as_secs_f64() / seconds / self.proxies as f64,
            load_busy: counts.cpu.as_secs_f64() / seconds / self.load_cpus.len() as f64,
            switches: used.switches as f64 / exchanges,
            p50_us: us(counts.latency.quantile(0.5)),
            p99_us: us(counts.latency.quantile(0.99)),
            p999_us: us(counts.latency.quantile(0.999)),
            errors: counts.all_errors(),
            unsent: counts.unsent,
            handshakes: counts.handshakes,
            resumed: counts.resumed,
            peak_kib: peak_kib(target.pid),
        })
    }

    /// `cairn-load run` with these arguments.
    fn run(&self, arguments: Vec<String>) -> Result<Outcome, MeasureError> {
        let cpus: Vec<String> = self.load_cpus.iter().map(usize::to_string).collect();
        let threads = self.load_cpus.len().to_string();
        let line = ["cairn-load".into(), "run".into()].into_iter().chain(arguments);
        let line = line.chain(["--cpus".into(), cpus.join(","), "--threads".into(), threads]);
        let run = run::load(&read(line))?;
        if run.counts.interrupted { Err(MeasureError::Interrupted) } else { Ok(run) }
    }
}

/// A load beside the one that is measured, in a process of its own: it lasts until this is dropped.
struct Beside(Child);

impl Beside {
    /// Begins it; None: the scenario has none.
    fn begin(arguments: Option<Vec<String>>, cpus: &[usize]) -> Result<Option<Self>, MeasureError> {
        let Some(arguments) = arguments else { return Ok(None) };
        let cpus: Vec<String> = cpus.iter().map(usize::to_string).collect();
        let program = std::env::current_exe().map_err(MeasureError::Beside)?;
        let mut command = Command::new(program);
        command.arg("run").args(arguments).args(["-d", "1h", "--threads", "1", "--cpus", &cpus.join(",")]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().map(|child| Some(Self(child))).map_err(MeasureError::Beside)
    }
}

impl Beside {
    /// Ends it, and fails if it has ended by itself: then it was not there all the time.
    fn end(mut self) -> Result<(), MeasureError> {
        match self.0.try_wait().map_err(MeasureError::Beside)? {
            None => Ok(()),
            Some(status) => Err(MeasureError::Beside(io::Error::other(format!("it has ended early: {status}")))),
        }
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // It may have ended meanwhile; then there is nothing to end.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Measure {
    pub(super) fn cpu_us(&self) -> f64 {
        self.user_us + self.system_us
    }
}

/// Whether the handshakes were those of the scenario.
fn check(scenario: &Scenario, plan: &Plan, counts: &RunCounts) -> Result<(), MeasureError> {
    let wrong = scenario.tls.and_then(|handshakes| handshakes.check(counts, plan.connections as u64));
    wrong.map_or(Ok(()), |what| Err(MeasureError::Other(what)))
}

fn read(line: impl Iterator<Item = String>) -> RunArguments {
    match Arguments::try_parse_from(line).map(|arguments| arguments.verb) {
        Ok(Verb::Run(arguments)) => *arguments,
        // The command lines are constants, whose test shows that they are valid.
        other => unreachable!("{other:?}"),
    }
}

/// Connections that have had one answer and stay.
fn idle(address: SocketAddr, count: usize) -> io::Result<Vec<BufReader<TcpStream>>> {
    let open = |_| {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut stream = BufReader::with_capacity(1024, stream);
        stream.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: idle\r\n\r\n")?;
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            if stream.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(stream)
    };
    (0..count).map(open).collect()
}
