//! What a run is to do, checked and fixed before it begins. Not here: doing it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use cairn::http::Method;
use cairn::id::Address;

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
    pub(super) address: Address,
    /// The bytes of each URL's request.
    pub(super) requests: Vec<Box<[u8]>>,
    /// Indices of `requests` in the order of their turns.
    pub(super) schedule: Box<[u16]>,
    pub(super) method: Method,
    pub(crate) connections: usize,
    pub(crate) pipeline: usize,
    pub(crate) close: bool,
    pub(super) timeout: Duration,
    pub(super) expect_status: Option<u16>,
    pub(super) expect_length: Option<u64>,
    pub(crate) rate: Option<f64>,
    pub(crate) poisson: bool,
    warmup: Duration,
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
        let (first, name) = (&urls[0], &arguments.urls[0]);
        if let Some(other) = urls.iter().position(|url| !url.is_same_origin(first)) {
            return Err(TargetError::Hosts(name.clone(), arguments.urls[other].clone()).into());
        }
        let body = match (&arguments.body, &arguments.body_file) {
            (Some(text), _) => Some(text.clone().into_bytes()),
            (None, Some(path)) => Some(std::fs::read(path).map_err(|error| PlanError::Body(path.clone(), error))?),
            (None, None) => None,
        };
        let method = arguments.method.as_deref().unwrap_or(if body.is_some() { "POST" } else { "GET" });
        let form = Form { method, headers: &arguments.headers, body: body.as_deref(), close: arguments.close };
        let requests = urls.iter().map(|url| form.write(url)).collect::<Result<Vec<_>, _>>()?;
        let connections = arguments.connections as usize;
        let cpus = crew::cpus(&arguments.threads.cpus)?;
        let threads = arguments.threads.threads.map_or(cpus.len(), usize::from).min(connections);
        crew::provide_descriptors(connections)?;
        let unbounded = arguments.duration.is_none() && arguments.requests.is_none();
        Ok(Self {
            name: arguments.urls.join(" "),
            address: Address::Inet(first.reach(REACH)?),
            requests,
            schedule: schedule(&urls.iter().map(|url| url.weight).collect::<Vec<_>>()),
            method: Method::lookup(method.as_bytes()),
            connections,
            pipeline: usize::from(arguments.pipeline),
            close: arguments.close,
            timeout: arguments.timeout,
            expect_status: arguments.expect_status,
            expect_length: arguments.expect_length,
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
