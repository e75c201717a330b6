//! The routes considered for a request and why, for `cairn explain`. Not here: printing them.

use std::ops::ControlFlow;

use super::{Request, Router, Unmet};
use crate::id::{ListenerId, RouteId};

/// A route whose listener, host and literal path fit a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Considered<'a> {
    /// The route.
    pub route: RouteId,
    /// Whether it was chosen, or why not.
    pub verdict: Verdict<'a>,
}

/// Result for a considered route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// The route of the request.
    Chosen,
    /// A condition does not hold.
    Unmet(Unmet<'a>),
    /// All conditions hold, but this route is more specific.
    Shadowed(RouteId),
}

impl Router {
    /// The routes that [`Router::find`] looks at and the less specific ones after them, in that order, each once.
    pub fn explain<R: Request>(&self, listener: ListenerId, request: &R) -> Vec<Considered<'_>> {
        let mut considered: Vec<Considered<'_>> = Vec::new();
        let mut chosen = None;
        let _: ControlFlow<()> = self.walk(listener, request, |rule| {
            let route = rule.route();
            if considered.iter().all(|earlier| earlier.route != route) {
                let verdict = match (self.unmet(route, request), chosen) {
                    (Some(unmet), _) => Verdict::Unmet(unmet),
                    (None, Some(chosen)) => Verdict::Shadowed(chosen),
                    (None, None) => Verdict::Chosen,
                };
                if verdict == Verdict::Chosen {
                    chosen = Some(route);
                }
                considered.push(Considered { route, verdict });
            }
            ControlFlow::Continue(())
        });
        considered
    }
}
