//! Counts of one thread in each second, handed to the control thread. Not here: adding the threads up.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use crate::histogram::Histogram;

/// Slices of a thread: one is written, the others are in the channels or read.
const SLICES: usize = 4;

/// Counts of one second.
#[derive(Clone, Debug)]
pub(super) struct Slice {
    /// Number of the second, from the end of the warm-up.
    pub(super) second: u64,
    pub(super) latency: Histogram,
    pub(super) errors: u64,
}

/// The generator's side. Allocates nothing after its construction.
#[derive(Debug)]
pub(super) struct Meter {
    slice: Box<Slice>,
    /// The last second in which a new slice was wanted.
    tried: u64,
    filed: SyncSender<Box<Slice>>,
    fresh: Receiver<Box<Slice>>,
}

/// The control thread's side: takes full slices and gives empty ones back.
#[derive(Debug)]
pub(super) struct Reader {
    filed: Receiver<Box<Slice>>,
    /// Channel of empty slices; it has room for all of them.
    fresh: SyncSender<Box<Slice>>,
}

impl Slice {
    pub(super) fn new(second: u64) -> Self {
        Self { second, latency: Histogram::new(), errors: 0 }
    }

    fn is_empty(&self) -> bool {
        self.latency.count() + self.errors == 0
    }
}

/// Both sides.
pub(super) fn meter() -> (Meter, Reader) {
    let (filed, files) = sync_channel(SLICES);
    let (emptied, fresh) = sync_channel(SLICES);
    for _ in 1..SLICES {
        // There is room.
        let sent = emptied.try_send(Box::new(Slice::new(0)));
        debug_assert!(sent.is_ok());
    }
    (Meter { slice: Box::new(Slice::new(0)), tried: 0, filed, fresh }, Reader { filed: files, fresh: emptied })
}

impl Meter {
    /// The time is now `now` after the warm-up. Where the control thread is slow, a slice goes on for more than a second.
    pub(super) fn turn(&mut self, now: Duration) {
        if now.as_secs() == self.tried {
            return;
        }
        self.tried = now.as_secs();
        if !self.slice.is_empty() {
            let Ok(fresh) = self.fresh.try_recv() else { return };
            let full = std::mem::replace(&mut self.slice, fresh);
            self.send(full);
        }
        self.slice.second = now.as_secs();
    }

    /// When the next second begins.
    pub(super) fn next(&self) -> Duration {
        Duration::from_secs(self.tried + 1)
    }

    pub(super) fn record(&mut self, latency: Duration) {
        self.slice.latency.record(latency);
    }

    pub(super) fn fail(&mut self) {
        self.slice.errors += 1;
    }

    /// Sends what is left.
    pub(super) fn close(mut self) {
        let last = std::mem::replace(&mut self.slice, Box::new(Slice::new(0)));
        self.send(last);
    }

    fn send(&self, slice: Box<Slice>) {
        // There is room for all slices; without a reader nobody wants them.
        let _ = self.filed.try_send(slice);
    }
}

impl Reader {
    /// Hands every slice that has come to `read`.
    pub(super) fn drain(&self, mut read: impl FnMut(&Slice)) {
        while let Ok(mut slice) = self.filed.try_recv() {
            read(&slice);
            slice.latency.clear();
            slice.errors = 0;
            // Its thread may have ended.
            let _ = self.fresh.try_send(slice);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_go_round_and_nothing_is_lost() {
        let (mut meter, reader) = meter();
        let mut read = Vec::new();
        for second in 0..10 {
            meter.turn(Duration::from_millis(second * 1000 + 5));
            meter.record(Duration::from_millis(1));
            if second == 4 {
                meter.fail();
            }
            if second > 6 {
                reader.drain(|slice| read.push((slice.second, slice.latency.count(), slice.errors)));
            }
        }
        meter.close();
        reader.drain(|slice| read.push((slice.second, slice.latency.count(), slice.errors)));
        // Nobody read during the first seven seconds: the fourth slice had to last.
        let expected = [(0, 1, 0), (1, 1, 0), (2, 1, 0), (3, 5, 1), (8, 1, 0), (9, 1, 0)];
        assert_eq!(read, expected);
    }
}
