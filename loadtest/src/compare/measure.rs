//! One measurement of one proxy: load on some CPUs, and what the proxy used meanwhile. Not here: how often, or of which.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use clap::Parser;

use super::proc::{Reading, peak_kib};
use super::scenario::Scenario;
use crate::args::{Arguments, RunArguments, Verb};
use crate::report;
use crate::run::{self, RunError, Tally};

/// Sent before each measurement without counting.
const WARM_UP: Duration = Duration::from_millis(500);

/// Why there is no measurement.
#[derive(Debug, thiserror::Error)]
pub(super) enum MeasureError {
    #[error(transparent)]
    Run(#[from] RunError),
    #[error("cannot hold idle connections: {0}")]
    Idle(io::Error),
    #[error("it answers wrong: {0}")]
    Wrong(String),
    #[error("interrupted")]
    Interrupted,
}

/// A proxy that listens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    pub(super) pid: u32,
    pub(super) address: SocketAddr,
}

/// What one measurement has shown. Times in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Measure {
    /// Whole, right answers a second.
    pub(super) rate: f64,
    /// CPU time of the proxy for each exchange.
    pub(super) user_us: f64,
    pub(super) system_us: f64,
    /// Part of the time that the proxy's CPU worked for it, and the load's CPUs for the load (the origin left out).
    pub(super) busy: f64,
    pub(super) load_busy: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    pub(super) p999_us: f64,
    pub(super) errors: u64,
    /// Were due in an open loop but found no connection.
    pub(super) unsent: u64,
    pub(super) peak_kib: u64,
}

/// How measurements are made.
#[derive(Debug)]
pub(super) struct Method {
    pub(super) load_cpus: Vec<usize>,
    pub(super) duration: Duration,
}

impl Method {
    /// Whether every byte that the proxy answers is right.
    pub(super) fn check(&self, scenario: &Scenario, target: Target) -> Result<(), MeasureError> {
        let tally = self.run(scenario.check(&target.address.to_string()))?;
        match tally.all_errors() {
            0 => Ok(()),
            _ => Err(MeasureError::Wrong(report::errors(&tally))),
        }
    }

    /// Warms up, then measures; `rate` for an open loop.
    pub(super) fn measure(
        &self,
        scenario: &Scenario,
        target: Target,
        rate: Option<f64>,
    ) -> Result<Measure, MeasureError> {
        let _idle = idle(target.address, scenario.idle).map_err(MeasureError::Idle)?;
        let load = |duration: Duration| {
            let mut arguments = scenario.arguments(&target.address.to_string());
            arguments.extend(["-d".into(), format!("{}us", duration.as_micros())]);
            arguments.extend(rate.into_iter().flat_map(|rate| ["--rate".into(), format!("{rate:.3}")]));
            self.run(arguments)
        };
        load(WARM_UP)?;
        let before = Reading::of(target.pid);
        let tally = load(self.duration)?;
        let cpu = Reading::of(target.pid).since(before);
        let us = |time: Duration| time.as_secs_f64() * 1e6;
        let (seconds, exchanges) = (tally.elapsed.as_secs_f64(), tally.latency.count().max(1) as f64);
        Ok(Measure {
            rate: tally.latency.count() as f64 / seconds,
            user_us: us(cpu.user) / exchanges,
            system_us: us(cpu.system) / exchanges,
            busy: (cpu.user + cpu.system).as_secs_f64() / seconds,
            load_busy: tally.cpu.as_secs_f64() / seconds / self.load_cpus.len() as f64,
            p50_us: us(tally.latency.quantile(0.5)),
            p99_us: us(tally.latency.quantile(0.99)),
            p999_us: us(tally.latency.quantile(0.999)),
            errors: tally.all_errors(),
            unsent: tally.unsent,
            peak_kib: peak_kib(target.pid),
        })
    }

    /// `cairn-load run` with these arguments.
    fn run(&self, arguments: Vec<String>) -> Result<Tally, MeasureError> {
        let cpus: Vec<String> = self.load_cpus.iter().map(usize::to_string).collect();
        let threads = self.load_cpus.len().to_string();
        let line = ["cairn-load".into(), "run".into()].into_iter().chain(arguments);
        let tally = run::load(&read(line.chain(["--cpus".into(), cpus.join(","), "--threads".into(), threads])))?;
        if tally.interrupted { Err(MeasureError::Interrupted) } else { Ok(tally) }
    }
}

impl Measure {
    pub(super) fn cpu_us(&self) -> f64 {
        self.user_us + self.system_us
    }
}

fn read(line: impl Iterator<Item = String>) -> RunArguments {
    match Arguments::try_parse_from(line).map(|arguments| arguments.verb) {
        Ok(Verb::Run(arguments)) => *arguments,
        // The lines are constants, as a test of theirs shows.
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
