//! Answers that are made here, with the edits of the request's route: redirects, fixed responses, failures. Not here: what is
//! the same in all of them (`respond`).

use std::time::Duration;

use super::{
    Decision, Engine, Failure, Kept, RequestId, RequestValues, RouteOf, RouteRequest, appended_lines, find_captures,
    write_location,
};
use crate::http::{FieldName, write_decimal};
use crate::id::RouteNumber;
use crate::limits;
use crate::respond::{self, Answer, AnswerFields, Format, HSTS, ResponseStyle, sent_status, write_parts};
use crate::route::template::{Use, Values, Variable};
use crate::route::{Action, AnswerEdits};
use crate::snapshot::Snapshot;
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
        RouteOf { snapshot: self.snapshot, route: self.route, cluster: self.cluster }
    }
}

impl<D: Driver> Engine<D> {
    /// Writes the answer to the request that was decided on last to the scratch buffer, and returns its status.
    pub fn write_local(&mut self, local: &LocalResponse, asked: &RouteRequest<'_>, style: &ResponseStyle) -> u16 {
        let route = &*local.route;
        let Self { paths, captures, scratch: out, counters, .. } = self;
        find_captures(captures, route, paths.normal(asked.request.path(asked.head)));
        let values = RequestValues { asked: *asked, snapshot: &local.route.snapshot, route, paths, captures };
        out.clear();
        let hsts = if asked.peer.secure { local.route.listener(asked.listener).hsts_line() } else { b"" };
        let hsts = if route.response_edits.removes(HSTS) { b"" } else { hsts };
        match &route.action {
            Action::Respond(answer) => {
                counters.local_responses.count("respond");
                if style.format == Format::Grpc {
                    // The body is for people, and the fields may say how its length and type are to be read.
                    respond::write_grpc_status(answer.status, respond::phrase(answer.status), out);
                    out.extend_from_slice(hsts);
                    respond::write_rest(200, b"", true, style, out);
                    return 200;
                }
                respond::write_status_line(answer.status, out);
                let start = out.len();
                answer.head.write(Use::Lines, &values, out);
                write_hsts(hsts, start, out);
                respond::write_rest(answer.status, &answer.body, answer.dated, style, out);
                answer.status
            }
            Action::Redirect(redirect) => {
                counters.local_responses.count("redirect");
                respond::write_status_line(redirect.status, out);
                let edits = &route.response_edits;
                if edits.names() & FieldName::Location.bit() == 0 {
                    out.extend_from_slice(b"location: ");
                    write_location(&values, redirect, out);
                    out.extend_from_slice(b"\r\n");
                }
                edits.appended().write(Use::Lines, &values, out);
                out.extend_from_slice(hsts);
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

    /// What the answer to a refused request needs of it, if it has a route.
    pub fn keep_refused(&mut self, route: Option<&RouteOf>, asked: &RouteRequest<'_>) -> Option<Box<Kept>> {
        let route = route?;
        find_captures(&mut self.captures, route, self.paths.normal(asked.request.path(asked.head)));
        // Where it is too much, the answer goes without those fields.
        self.keep(&route.snapshot, route, asked, false).ok().flatten()
    }

    /// Writes the answer to a refused request to the scratch buffer, and returns its status.
    pub fn write_failure(&mut self, refused: Refused<'_>, style: &ResponseStyle) -> u16 {
        let Refused { failure, route, snapshot, kept, mut id, hsts } = refused;
        let answer = failure.answer();
        if id.text().is_empty() {
            self.make_request_id(&mut id);
        }
        let of_route = route.and_then(|route| route.error_pages.find(answer.status, style.format));
        let found = of_route.or_else(|| snapshot.error_pages.find(answer.status, style.format));
        let page = found.map(|(media_type, body)| {
            self.page.clear();
            body.write(Use::Text, &PageValues { answer, id }, &mut self.page);
            respond::Page { media_type, body: &self.page }
        });
        let out = &mut self.scratch;
        out.clear();
        let fields = AnswerFields { value: &self.answer_field, hsts };
        match route {
            Some(route) => {
                let edits =
                    AnswerEdits { edits: &route.response_edits, appended: appended_lines(route, kept.as_deref()) };
                answer.write(style, &edits, fields, page, out);
            }
            None => answer.write(style, &(), fields, page, out),
        }
        self.spare(kept);
        sent_status(answer.status, style.format)
    }
}

/// A request that is answered with its failure.
pub struct Refused<'a> {
    /// Why it failed.
    pub failure: Failure,
    /// Its route, if it has one: the answer has its edits and pages.
    pub route: Option<&'a RouteOf>,
    /// The snapshot whose pages the answer has otherwise.
    pub snapshot: &'a Snapshot,
    /// What the edits need of the request.
    pub kept: Option<Box<Kept>>,
    /// Its identifier; empty: it has none yet.
    pub id: RequestId,
    /// The line of Strict-Transport-Security; empty: none.
    pub hsts: &'a [u8],
}

/// Appends the line of Strict-Transport-Security, unless there is one among the lines from `start` on.
fn write_hsts(hsts: &[u8], start: usize, out: &mut Vec<u8>) {
    let lines = out[start..].split(|byte| *byte == b'\n');
    let is_own = |line: &[u8]| line.get(..HSTS.len()).is_some_and(|name| name.eq_ignore_ascii_case(HSTS));
    if !hsts.is_empty() && !lines.into_iter().any(is_own) {
        out.extend_from_slice(hsts);
    }
}

/// The values of variables in a page.
struct PageValues {
    answer: Answer,
    id: RequestId,
}

impl Values for PageValues {
    fn write(&self, variable: &Variable, out: &mut Vec<u8>) {
        match variable {
            Variable::ErrorStatus => write_parts(out, &[write_decimal(u64::from(self.answer.status), &mut [0; 20])]),
            Variable::ErrorTitle => write_parts(out, &[respond::phrase(self.answer.status).as_bytes()]),
            Variable::ErrorReason => write_parts(out, &[self.answer.reason.as_bytes()]),
            // A trusted peer may have sent it, and a page is read as HTML.
            Variable::RequestId => {
                let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:+/=@".contains(byte);
                out.extend(self.id.text().iter().map(|byte| if plain(byte) { *byte } else { b'_' }));
            }
            _ => {}
        }
    }
}
