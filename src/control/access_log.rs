//! The access log as operators see it and change it. Not here: writing it (`crate::access_log`).

use serde::{Deserialize, Serialize};

use super::{Control, Reply};
use crate::access_log::{AccessLog, Sink};
use crate::snapshot::Snapshot;

/// What has become of the entries of the access log so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessLogStatus {
    /// Entries that workers have queued.
    pub queued: u64,
    /// Entries for which a worker's ring had no room, because the log was not taken fast enough.
    pub dropped: u64,
    /// Queued ones whose lines could not be written.
    pub lost: u64,
}

impl Control {
    /// Takes over the log of the process.
    pub fn serve_log(&mut self, log: AccessLog) {
        self.access_log = Some(log);
    }

    /// Has the file opened again, and answers when that is done. The thread that writes may be held up by the file system.
    pub(super) fn reopen_log(&self, reply: Reply<Result<String, String>>) {
        let Some(log) = &self.access_log else { return };
        let done = log.reopen();
        tokio::spawn(async move {
            if let Ok(done) = done.await {
                // The requester may have hung up.
                let _ = reply.send(done);
            }
        });
    }

    /// Goes over to the log of a snapshot that workers are about to get. `sink`: where it is written, if that has changed.
    pub(super) fn begin_log(&self, snapshot: &Snapshot, sink: Option<Sink>) {
        if let (Some(log), Some(spec), Some(sink)) = (&self.access_log, &snapshot.access_log, sink) {
            log.switch(Some((spec.clone(), sink)));
        }
    }

    /// Ends the log if the snapshot that all workers have applied has none.
    pub(super) fn end_log(&self) {
        let is_on = self.snapshot().is_some_and(|snapshot| snapshot.access_log.is_some());
        if let Some(log) = self.access_log.as_ref().filter(|_| !is_on) {
            log.switch(None);
        }
    }

    pub(super) fn access_log_status(&self) -> AccessLogStatus {
        let counters = self.workers.iter().map(|worker| &worker.counters);
        let (queued, dropped) = counters.fold((0, 0), |(queued, dropped), counters| {
            (queued + counters.log_queued.get(), dropped + counters.log_dropped.get())
        });
        AccessLogStatus { queued, dropped, lost: self.access_log.as_ref().map_or(0, AccessLog::lost) }
    }
}
