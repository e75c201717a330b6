//! Answers that are made here, with the edits of the request's route: redirects, fixed responses, failures. Not here: what is
//! the same in all of them (`respond`).

use std::time::Duration;

use super::{Decision, Engine, Failure, Peer, RouteOf, RouteRequest};
use crate::http::path::Forms;
use crate::http::{FieldName, RequestHead};
use crate::id::RouteNumber;
use crate::limits;
use crate::respond::{self, ResponseStyle};
use crate::route::{Action, Redirect};
use crate::uring::Driver;

/// The answer of a route without a cluster: a redirect or a fixed response.
pub struct LocalResponse {
    route: RouteOf,
}

impl Decision {
    /// The number of the route, which is the same in later snapshots.
    #[must_use]
    pub fn route_number(&self) -> RouteNumber {
        self.snapshot.route_number(self.route)
    }

    /// The answer, for a request that is not forwarded.
    #[must_use]
    pub fn into_local(self) -> LocalResponse {
        LocalResponse { route: self.into_route() }
    }

    /// The route that was decided on.
    #[must_use]
    pub fn into_route(self) -> RouteOf {
        RouteOf { snapshot: self.snapshot, route: self.route }
    }
}

impl<D: Driver> Engine<D> {
    /// Writes the answer to the request that was decided on last to the scratch buffer, and returns its status.
    pub fn write_local(&mut self, local: &LocalResponse, asked: &RouteRequest<'_>, style: &ResponseStyle) -> u16 {
        let out = &mut self.scratch;
        out.clear();
        match &local.route.action {
            Action::Respond(answer) => {
                respond::write_status_line(answer.status, out);
                out.extend_from_slice(&answer.head);
                respond::write_rest(answer.status, &answer.body, answer.dated, style, out);
                answer.status
            }
            Action::Redirect(redirect) => {
                respond::write_status_line(redirect.status, out);
                let edits = &local.route.response_edits;
                if edits.names() & FieldName::Location.bit() == 0 {
                    out.extend_from_slice(b"location: ");
                    write_location(redirect, asked, &self.paths, out);
                    out.extend_from_slice(b"\r\n");
                }
                out.extend_from_slice(edits.appended());
                let dated = edits.names() & FieldName::Date.bit() == 0;
                respond::write_rest(redirect.status, b"", dated, style, out);
                redirect.status
            }
            Action::Cluster(_) | Action::Split(_) => 0,
        }
    }

    /// Sets `date` to the current time. The wall clock is read once a tick at most.
    pub fn update_date(&mut self) {
        let now = self.ring.clock().now();
        if now >= self.dated_until {
            self.dated_until = now + Duration::from_millis(limits::TICK_MS);
            self.date.set(self.ring.wall_seconds());
        }
    }

    /// Writes the answer to a failure to the scratch buffer, with the edits of `route`, and returns its status.
    pub fn write_failure(&mut self, failure: Failure, route: Option<&RouteOf>, style: &ResponseStyle) -> u16 {
        let answer = failure.answer();
        let out = &mut self.scratch;
        out.clear();
        match route {
            Some(route) => answer.write(style, &route.response_edits, &self.allow, out),
            None => answer.write(style, &(), &self.allow, out),
        }
        answer.status
    }
}

/// Writes the Location of a redirect that answers `asked`; `paths` holds the forms of its path.
pub fn write_location(redirect: &Redirect, asked: &RouteRequest<'_>, paths: &Forms, out: &mut Vec<u8>) {
    let RouteRequest { request, head, peer, .. } = *asked;
    let path = paths.forwarded(request.path(head));
    let host = request.authority.of(head);
    let query = request.query.map(|query| query.of(head));
    let scheme = scheme(peer, request, head);
    redirect.write_location(scheme, host, path, query, &mut |part: &[u8]| out.extend_from_slice(part));
}

/// The scheme that the client uses: the one that a trusted peer names, which may have ended the client's TLS, else that of the
/// connection.
fn scheme(peer: &Peer, request: &RequestHead, head: &[u8]) -> &'static [u8] {
    let told = request.fields.get(FieldName::XForwardedProto).filter(|field| peer.passes(request, head, field));
    // Each proxy on the way appends its element; the first was written by the proxy that the client is connected to.
    let first = told.and_then(|field| field.value.of(head).split(|byte| *byte == b',').next()).map(<[u8]>::trim_ascii);
    match first {
        Some(told) if told.eq_ignore_ascii_case(b"https") => b"https",
        Some(told) if told.eq_ignore_ascii_case(b"http") => b"http",
        _ => peer.scheme(),
    }
}
