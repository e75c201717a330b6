//! The requests of a run and their order, from the command line or a scenario. Not here: when they are due.

use std::time::Duration;

use cairn::http::Method;

use super::file::{Request, Scenario};
use super::plan::PlanError;
use super::target::{Host, RequestForm, TargetError, Url, schedule};
use super::template::{Expect, RequestTemplate};
use super::tls::Probe;
use crate::args::LoadArguments;

/// How long the first connection to a host may take.
const REACH: Duration = Duration::from_secs(5);

/// The hosts, requests and their order.
#[derive(Debug, Default)]
pub(super) struct Mix {
    /// Hosts without duplicates.
    hosts: Vec<Url>,
    pub(super) templates: Vec<RequestTemplate>,
    /// Indices of `templates` in the order of their turns.
    pub(super) schedule: Box<[u16]>,
}

impl Mix {
    /// The same request to each of the URLs.
    pub(super) fn of_urls(arguments: &LoadArguments) -> Result<Self, PlanError> {
        let body = body(arguments)?;
        let (mut mix, mut weights) = (Self::default(), Vec::new());
        let expect = Expect {
            status: arguments.expect_status,
            length: arguments.expect_length,
            sha256: arguments.expect_sha256,
            grpc: arguments.grpc,
        };
        for text in &arguments.urls {
            let (url, weight) = Url::parse_weighted(text)?;
            let method = method(arguments.method.as_deref(), body.is_some() || arguments.grpc);
            let (headers, body, grpc) = (&arguments.headers[..], body.as_deref(), arguments.grpc);
            let form = RequestForm { method, headers, body, close: arguments.close, grpc };
            mix.add(&url, &form, expect)?;
            weights.push(weight);
        }
        mix.schedule = schedule(&weights);
        Ok(mix)
    }

    /// The requests of a scenario, with the command line's fields, and its URL for requests that have only a path.
    pub(super) fn of_scenario(scenario: &Scenario, arguments: &LoadArguments) -> Result<Self, PlanError> {
        let base = match &arguments.urls[..] {
            [] => None,
            [url] => Some(Url::parse(url)?),
            _ => return Err(TargetError::Bases.into()),
        };
        let mut mix = Self::default();
        for request in &scenario.requests {
            let url = locate(request, base.as_ref())?;
            let headers: Vec<String> = request.headers.iter().chain(&arguments.headers).cloned().collect();
            let body = request.content.as_deref();
            let method = method(request.method.as_deref(), body.is_some());
            let form =
                RequestForm { method, headers: &headers, body, close: arguments.close || scenario.close, grpc: false };
            let &Request { expect_status: status, expect_length: length, expect_sha256: sha256, .. } = request;
            mix.add(&url, &form, Expect { status, length, sha256, grpc: false })?;
        }
        mix.schedule = schedule(&scenario.requests.iter().map(|request| request.weight).collect::<Vec<_>>());
        Ok(mix)
    }

    pub(super) fn hosts(&self) -> usize {
        self.hosts.len()
    }

    pub(super) fn is_secure(&self) -> bool {
        self.hosts.iter().any(Url::is_secure)
    }

    /// Where the hosts are; each takes connections.
    pub(super) fn reach(&self, mut probe: Option<Probe>) -> Result<Vec<Host>, TargetError> {
        self.hosts.iter().map(|host| host.reach(probe.as_mut(), REACH)).collect()
    }

    fn add(&mut self, url: &Url, form: &RequestForm<'_>, expect: Expect) -> Result<(), TargetError> {
        let known = self.hosts.iter().position(|host| host.is_same_origin(url));
        let host = known.unwrap_or_else(|| {
            self.hosts.push(url.clone());
            self.hosts.len() - 1
        });
        let method = Method::lookup(form.method.as_bytes());
        self.templates.push(RequestTemplate { host: host as u16, bytes: form.write(url)?, method, expect });
        Ok(())
    }
}

/// A body of so many bytes.
pub(crate) fn filler(size: u64) -> Vec<u8> {
    vec![b'x'; size as usize]
}

fn locate(request: &Request, base: Option<&Url>) -> Result<Url, TargetError> {
    match base {
        _ if !request.url.starts_with('/') => Url::parse(&request.url),
        Some(base) => base.at(&request.url),
        None => Err(TargetError::Baseless(request.url.clone())),
    }
}

fn method(asked: Option<&str>, has_body: bool) -> &str {
    asked.unwrap_or(if has_body { "POST" } else { "GET" })
}

fn body(arguments: &LoadArguments) -> Result<Option<Vec<u8>>, PlanError> {
    if let Some(path) = &arguments.body_file {
        return std::fs::read(path).map(Some).map_err(|error| PlanError::Body(path.clone(), error));
    }
    Ok(arguments.body.clone().map(String::into_bytes).or(arguments.body_size.map(filler)))
}
