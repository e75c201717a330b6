//! The part of a request that was sent, kept so that it can be sent again on another connection. Not here: when that is allowed
//! (`attempt`).

use crate::buffer::{Buffers, Queue};
use crate::limits::{REPLAY_BYTES, REPLAY_PIECES};

/// The pieces of one request that were sent and returned by the ring. They hold plain text, not TLS records.
#[derive(Debug, Default)]
pub(super) struct Replay {
    /// Within `limits::REPLAY_BYTES` and `limits::REPLAY_PIECES`; empty unless `whole`.
    pieces: Queue,
    /// `pieces` holds everything that was sent; pieces that are sent next will be added.
    whole: bool,
}

impl Replay {
    /// Drops what was kept. If `keeps`, pieces that are sent from now on are kept.
    #[inline]
    pub(super) fn begin(&mut self, buffers: &mut Buffers, keeps: bool) {
        if !self.pieces.is_empty() {
            self.pieces.clear(buffers.pieces());
        }
        self.whole = keeps;
    }

    /// Takes pieces that were sent, in order. Returns whether later ones will be kept too.
    pub(super) fn keep(&mut self, buffers: &mut Buffers, sent: &mut Queue) -> bool {
        let fits =
            self.pieces.bytes() + sent.bytes() <= REPLAY_BYTES && self.pieces.pieces() + sent.pieces() <= REPLAY_PIECES;
        if self.whole && fits {
            self.pieces.append(buffers.pieces(), sent);
        } else {
            sent.clear(buffers.pieces());
            self.begin(buffers, false);
        }
        self.whole
    }

    /// Everything that was sent; None if a part was not kept.
    pub(super) fn take(&mut self) -> Option<Queue> {
        if !self.whole {
            return None;
        }
        self.whole = false;
        Some(std::mem::take(&mut self.pieces))
    }

    /// Number of pieces kept: an upper bound of the buffers that they pin.
    pub(super) fn pieces(&self) -> usize {
        self.pieces.pieces()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(buffers: &mut Buffers, sizes: &[usize]) -> Queue {
        let mut queue = Queue::default();
        for size in sizes {
            let mut lease = buffers.take().unwrap();
            assert_eq!(lease.append(&vec![b'x'; *size]), *size);
            queue.push(buffers.pieces(), lease);
        }
        queue
    }

    #[test]
    fn what_was_sent_is_whole_or_gone() {
        let mut buffers = Buffers::new().unwrap();
        let free = buffers.pools()[0].available();
        for (keeps, sizes, whole) in [
            (true, &[100, 16_000][..], Some(16_100)),
            (true, &[3_000; REPLAY_PIECES], Some(3_000 * REPLAY_PIECES)),
            (true, &[3_000; REPLAY_PIECES + 1], None),
            (true, &[16_000; REPLAY_BYTES / 16_000 + 1], None),
            (false, &[100], None),
        ] {
            let mut replay = Replay::default();
            replay.begin(&mut buffers, keeps);
            for size in sizes {
                let mut queue = sent(&mut buffers, &[*size]);
                replay.keep(&mut buffers, &mut queue);
            }
            let taken = replay.take();
            assert_eq!(taken.as_ref().map(Queue::bytes), whole, "{sizes:?}");
            taken.into_iter().for_each(|mut queue| queue.clear(buffers.pieces()));
            assert!(replay.take().is_none());
            assert_eq!(buffers.pools()[0].available(), free);
        }
    }
}
