//! What is observed of exchanges, as operators see it. Not here: observing (`crate::observer`).

use serde::{Deserialize, Serialize};

use super::{Control, Reply};
use crate::observer::{Observer, Story};
use crate::snapshot::Snapshot;

/// What has become of spans so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceStatus {
    /// Spans that the collector has taken.
    pub exported: u64,
    /// Recorded exchanges for which a worker's ring had no room.
    pub dropped: u64,
    /// Spans that the collector has refused, or that it could not be given.
    pub lost: u64,
}

impl Control {
    /// Takes over the thread that observes exchanges.
    pub fn serve_observer(&mut self, observer: Observer) {
        self.observer = Some(observer);
    }

    /// Goes over to the collector of a snapshot that workers are about to get.
    pub(super) fn begin_export(&self, snapshot: &Snapshot) {
        let before = self.snapshot().and_then(|snapshot| snapshot.export.as_ref());
        if let (Some(observer), Some(export)) = (&self.observer, &snapshot.export)
            && before != Some(export)
        {
            observer.export(Some(export.clone()));
        }
    }

    /// Ends exporting if the snapshot that all workers have applied has none.
    pub(super) fn end_export(&self) {
        let is_on = self.snapshot().is_some_and(|snapshot| snapshot.export.is_some());
        if let Some(observer) = self.observer.as_ref().filter(|_| !is_on) {
            observer.export(None);
        }
    }

    /// Says what became of a request. The thread that knows is not waited for.
    pub(super) fn why(&self, request_id: String, reply: Reply<Result<Story, String>>) {
        let Some(observer) = &self.observer else { return };
        let found = observer.why(request_id);
        tokio::spawn(async move {
            if let Ok(found) = found.await {
                // The requester may have hung up.
                let _ = reply.send(found);
            }
        });
    }

    /// Tells of the last requests that have failed or were slow. The thread that knows is not waited for.
    pub(super) fn recent(&self, count: usize, reply: Reply<Vec<Story>>) {
        let Some(observer) = &self.observer else { return };
        let found = observer.recent(count);
        tokio::spawn(async move {
            if let Ok(found) = found.await {
                // The requester may have hung up.
                let _ = reply.send(found);
            }
        });
    }

    pub(super) fn trace_status(&self) -> TraceStatus {
        let dropped = self.workers.iter().map(|worker| worker.counters.spans_dropped.get()).sum();
        let count = |count: fn(&Observer) -> u64| self.observer.as_ref().map_or(0, count);
        TraceStatus { exported: count(Observer::exported), dropped, lost: count(Observer::lost) }
    }
}
