//! Answers that a route gives by itself: redirects and fixed responses. Not here: answers to failures (`respond`).

use super::{Decision, Exchanges, RouteOf};
use crate::http::RequestHead;
use crate::respond::{self, Manner};
use crate::route::Action;

/// What a route without a cluster does with a request.
pub struct Local {
    route: RouteOf,
}

impl Exchanges {
    /// The answer of a decision that is not forwarded.
    #[must_use]
    pub fn local(decision: Decision) -> Local {
        Local { route: RouteOf { snapshot: decision.snapshot, route: decision.route } }
    }

    /// Writes the answer to the scratch and returns its status. `scheme` is that of the client's connection.
    pub fn write_local(
        &mut self,
        local: &Local,
        request: &RequestHead,
        head: &[u8],
        scheme: &[u8],
        manner: &Manner,
    ) -> u16 {
        let out = &mut self.scratch;
        out.clear();
        match &local.route.action {
            Action::Respond(answer) => {
                respond::write_status_line(answer.status, out);
                out.extend_from_slice(&answer.head);
                respond::write_rest(answer.status, &answer.body, manner, out);
                answer.status
            }
            Action::Redirect(redirect) => {
                respond::write_status_line(redirect.status, out);
                let path = if self.path.is_empty() { request.path(head) } else { &self.path };
                let (host, query) = (request.authority.of(head), request.query.map(|query| query.of(head)));
                out.extend_from_slice(b"location: ");
                redirect.write_location(scheme, host, path, query, &mut |part: &[u8]| out.extend_from_slice(part));
                out.extend_from_slice(b"\r\n");
                out.extend_from_slice(local.route.response_edits.appended());
                respond::write_rest(redirect.status, b"", manner, out);
                redirect.status
            }
            Action::Cluster(_) | Action::Split(_) => 0,
        }
    }
}
