//! The plan of a run, checked before it begins. Not here: carrying it out.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use cairn::tls::ClientSpec;

use super::file::{FileError, Scenario};
use super::mix::Mix;
use super::pace::Load;
use super::ramp::Step;
use super::target::{Host, TargetError};
use super::template::RequestTemplate;
use super::tls::{self, Probe};
use crate::args::RunArguments;
use crate::crew::{self, CrewError};

/// Default duration of a run.
const DURATION: Duration = Duration::from_secs(10);
/// Default number of connections to a host, and default time-out of an answer.
const CONNECTIONS: u32 = 64;
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why a run is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlanError {
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error(transparent)]
    Crew(#[from] CrewError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error("the scenario says how fast and how long; leave --rate and -d out")]
    TwoPaces,
    #[error("--pipeline and --close exclude each other")]
    Pipelined,
    #[error("the scenario asks for `pipeline` or `close`, which are of HTTP/1.1; leave --http2 out")]
    Version,
    #[error("cannot read the body from {0}: {1}")]
    Body(PathBuf, io::Error),
}

/// The plan that all threads share; immutable during the run.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Name in the report.
    pub(crate) name: String,
    pub(super) hosts: Vec<Host>,
    /// For those that want TLS.
    pub(super) client: Option<ClientSpec>,
    pub(super) templates: Vec<RequestTemplate>,
    /// Indices of `templates` in the order of their turns.
    pub(super) schedule: Box<[u16]>,
    pub(crate) connections: usize,
    /// Requests that a connection may have under way; over HTTP/2 as many streams.
    pub(crate) pipeline: usize,
    pub(crate) http2: bool,
    pub(crate) close: bool,
    pub(super) timeout: Duration,
    /// Of an open loop, after the warm-up.
    pub(crate) steps: Vec<Step>,
    pub(crate) poisson: bool,
    pub(super) warmup: Duration,
    pub(super) duration: Option<Duration>,
    requests_count: Option<u64>,
    pub(crate) threads: usize,
    pub(super) cpus: Vec<usize>,
}

/// The load of one thread.
#[derive(Clone, Debug)]
pub(super) struct ThreadLoad {
    pub(super) connections: usize,
    pub(super) load: Load,
}

impl Plan {
    /// Checks everything, and that the target can be reached.
    pub(super) fn new(arguments: &RunArguments) -> Result<Self, PlanError> {
        let load = &arguments.load;
        let scenario = load.scenario.as_deref().map(|path| Scenario::read(path, !load.urls.is_empty()));
        let scenario = scenario.transpose()?.unwrap_or_default();
        let mix = match load.scenario {
            Some(_) => Mix::of_scenario(&scenario, load)?,
            None => Mix::of_urls(load)?,
        };
        let mut steps = scenario.steps.clone();
        if !steps.is_empty() && (arguments.rate.is_some() || arguments.duration.is_some()) {
            return Err(PlanError::TwoPaces);
        }
        let stepped: Duration = steps.iter().map(|step| step.duration).sum();
        steps.extend(arguments.rate.map(|rate| Step { duration: Duration::MAX, from: rate, to: rate }));
        let duration = match (arguments.duration, arguments.requests) {
            (None, _) if !stepped.is_zero() => Some(stepped),
            (None, None) => Some(DURATION),
            (duration, _) => duration,
        };
        if load.http2 && (scenario.pipeline.is_some() || scenario.close) {
            return Err(PlanError::Version);
        }
        let pipeline = usize::from(load.streams.or(load.pipeline).or(scenario.pipeline).unwrap_or(1));
        let close = load.close || scenario.close;
        if close && pipeline > 1 {
            return Err(PlanError::Pipelined);
        }
        let connections = load.connections.or(scenario.connections).unwrap_or(CONNECTIONS) as usize;
        let cpus = crew::cpus(&load.threads.cpus)?;
        let threads = load.threads.threads.map_or(cpus.len(), usize::from).min(connections);
        crew::provide_descriptors(connections * mix.hosts())?;
        let client =
            mix.is_secure().then(|| tls::spec(&load.tls, load.http2)).transpose().map_err(TargetError::from)?;
        let probe = client.as_ref().map(|spec| Probe::new(spec, load.http2, load.tls.ca.clone()));
        let probe = probe.transpose().map_err(TargetError::from)?;
        let names = load.scenario.iter().map(|path| path.display().to_string()).chain(load.urls.clone());
        Ok(Self {
            name: names.collect::<Vec<_>>().join(" "),
            hosts: mix.reach(probe)?,
            client,
            templates: mix.templates,
            schedule: mix.schedule,
            connections,
            pipeline,
            http2: load.http2,
            close,
            timeout: load.timeout.or(scenario.timeout).unwrap_or(TIMEOUT),
            steps,
            poisson: arguments.poisson || scenario.poisson,
            warmup: arguments.warmup.or(scenario.warmup).unwrap_or_default(),
            duration,
            requests_count: arguments.requests,
            threads,
            cpus,
        })
    }

    /// TLS agreements with the hosts, without duplicates.
    pub(crate) fn agreements(&self) -> Vec<&str> {
        let mut all: Vec<&str> = self.hosts.iter().filter_map(|host| host.agreement.as_deref()).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    pub(crate) fn is_open(&self) -> bool {
        !self.steps.is_empty()
    }

    /// The threads' parts, which add up to the whole.
    pub(super) fn parts(&self) -> Vec<ThreadLoad> {
        let share = |whole: u64, thread: usize| {
            let (threads, thread) = (self.threads as u64, thread as u64);
            whole / threads + u64::from(thread < whole % threads)
        };
        // The warm-up is as fast as the run begins.
        let first = self.steps.first().map(|step| Step { duration: self.warmup, from: step.from, to: step.from });
        let steps: Vec<Step> = first.into_iter().chain(self.steps.iter().copied()).collect();
        let part = |thread| ThreadLoad {
            connections: share(self.connections as u64, thread) as usize,
            load: Load {
                steps: steps.clone(),
                poisson: self.poisson,
                warmup: self.warmup,
                duration: self.duration,
                requests: self.requests_count.map(|requests| share(requests, thread)),
                thread,
                threads: self.threads,
            },
        };
        (0..self.threads).map(part).collect()
    }
}
