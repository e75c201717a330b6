//! Answers that a route gives by itself: redirects and fixed responses. Not here: answers to failures (`respond`).

use super::{Decision, Exchanges, Question, RouteOf};
use crate::http::path::Forms;
use crate::respond::{self, Manner};
use crate::route::{Action, Redirect};

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

    /// Writes the answer to the request that was decided on last to the scratch, and returns its status.
    pub fn write_local(&mut self, local: &Local, asked: &Question<'_>, manner: &Manner) -> u16 {
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
                out.extend_from_slice(b"location: ");
                write_location(redirect, asked, &self.paths, out);
                out.extend_from_slice(b"\r\n");
                out.extend_from_slice(local.route.response_edits.appended());
                respond::write_rest(redirect.status, b"", manner, out);
                redirect.status
            }
            Action::Cluster(_) | Action::Split(_) => 0,
        }
    }
}

/// Writes where a redirect leads that answers `asked`, the forms of whose path are `paths`.
pub fn write_location(redirect: &Redirect, asked: &Question<'_>, paths: &Forms, out: &mut Vec<u8>) {
    let Question { request, head, peer, .. } = *asked;
    let path = paths.forwarded(request.path(head));
    let (host, query) = (request.authority.of(head), request.query.map(|query| query.of(head)));
    redirect.write_location(peer.scheme(), host, path, query, &mut |part: &[u8]| out.extend_from_slice(part));
}
