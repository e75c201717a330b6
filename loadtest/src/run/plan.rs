//! What a run is to do, checked and fixed before it begins. Not here: doing it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use cairn::http::Method;
use cairn::id::Address;

use super::ask::{Ask, Expect};
use super::pace::Load;
use super::target::{Form, TargetError, Url, schedule};
use crate::args::RunArguments;
use crate::crew::{self, CrewError};

/// How long the first connection to the target may take.
const REACH: Duration = Duration::from_secs(5);
/// How long a run sends if nothing says so.
const DURATION: Duration = Duration::from_secs(10);

/// Why a run cannot be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlanError {
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error(transparent)]
    Crew(#[from] CrewError),
    #[error("cannot read the body from {0}: {1}")]
    Body(PathBuf, io::Error),
}

/// What all threads share; never changed while they run.
#[derive(Debug)]
pub(crate) struct Plan {
    /// As the report names it.
    pub(crate) name: String,
    pub(super) hosts: Vec<Address>,
    pub(super) asks: Vec<Ask>,
    /// Indices of `asks` in the order of their turns.
    pub(super) schedule: Box<[u16]>,
    pub(crate) connections: usize,
    pub(crate) pipeline: usize,
    pub(crate) close: bool,
    pub(super) timeout: Duration,
    pub(crate) rate: Option<f64>,
    pub(crate) poisson: bool,
    pub(super) warmup: Duration,
    pub(super) duration: Option<Duration>,
    requests_count: Option<u64>,
    pub(crate) threads: usize,
    pub(super) cpus: Vec<usize>,
}

/// What one thread is to do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) connections: usize,
    pub(super) load: Load,
}

impl Plan {
    /// Checks everything, and that the target can be reached.
    pub(super) fn new(arguments: &RunArguments) -> Result<Self, PlanError> {
        let urls = arguments.urls.iter().map(|text| Url::parse(text)).collect::<Result<Vec<_>, _>>()?;
        let body = body(arguments)?;
        let method = arguments.method.as_deref().unwrap_or(if body.is_some() { "POST" } else { "GET" });
        let form = Form { method, headers: &arguments.headers, body: body.as_deref(), close: arguments.close };
        let expect = Expect {
            status: arguments.expect_status,
            length: arguments.expect_length,
            sha256: arguments.expect_sha256,
        };
        let mut hosts = Hosts::default();
        let ask = |url: &Url| {
            let (bytes, method) = (form.write(url)?, Method::lookup(method.as_bytes()));
            Ok(Ask { host: hosts.number(url), bytes, method, expect })
        };
        let asks = urls.iter().map(ask).collect::<Result<Vec<_>, TargetError>>()?;
        let connections = arguments.connections as usize;
        let cpus = crew::cpus(&arguments.threads.cpus)?;
        let threads = arguments.threads.threads.map_or(cpus.len(), usize::from).min(connections);
        crew::provide_descriptors(connections * hosts.0.len())?;
        let unbounded = arguments.duration.is_none() && arguments.requests.is_none();
        Ok(Self {
            name: arguments.urls.join(" "),
            hosts: hosts.reach()?,
            asks,
            schedule: schedule(&urls.iter().map(|url| url.weight).collect::<Vec<_>>()),
            connections,
            pipeline: usize::from(arguments.pipeline),
            close: arguments.close,
            timeout: arguments.timeout,
            rate: arguments.rate,
            poisson: arguments.poisson,
            warmup: arguments.warmup,
            duration: if unbounded { Some(DURATION) } else { arguments.duration },
            requests_count: arguments.requests,
            threads,
            cpus,
        })
    }

    /// The threads' parts, which add up to the whole.
    pub(super) fn parts(&self) -> Vec<Part> {
        let share = |whole: u64, thread: usize| {
            let (threads, thread) = (self.threads as u64, thread as u64);
            whole / threads + u64::from(thread < whole % threads)
        };
        let part = |thread| Part {
            connections: share(self.connections as u64, thread) as usize,
            load: Load {
                rate: self.rate,
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

/// The hosts of some URLs, each once.
#[derive(Debug, Default)]
struct Hosts(Vec<Url>);

impl Hosts {
    fn number(&mut self, url: &Url) -> u16 {
        let known = self.0.iter().position(|host| host.is_same_origin(url));
        known.unwrap_or_else(|| {
            self.0.push(url.clone());
            self.0.len() - 1
        }) as u16
    }

    /// Their addresses, each of which takes connections.
    fn reach(&self) -> Result<Vec<Address>, TargetError> {
        self.0.iter().map(|host| host.reach(REACH).map(Address::Inet)).collect()
    }
}

fn body(arguments: &RunArguments) -> Result<Option<Vec<u8>>, PlanError> {
    if let Some(path) = &arguments.body_file {
        return std::fs::read(path).map(Some).map_err(|error| PlanError::Body(path.clone(), error));
    }
    let filler = arguments.body_size.map(|size| vec![b'x'; size as usize]);
    Ok(arguments.body.clone().map(String::into_bytes).or(filler))
}
