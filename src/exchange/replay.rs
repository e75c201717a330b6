//! What was sent of a request, so that it can be sent again on another connection. Not here: when that is allowed (`attempt`).

use crate::buffer::{Buffers, Queue};
use crate::limits::{REPLAY_BYTES, REPLAY_PIECES};

/// The pieces of one request that the kernel has given back. It lies above TLS: it holds what was to be sealed, not records.
#[derive(Debug, Default)]
pub(super) struct Replay {
    /// Within `limits::REPLAY_BYTES` and `limits::REPLAY_PIECES`; empty unless `whole`.
    pieces: Queue,
    /// Everything that was sent is in `pieces`, and what is sent next will be.
    whole: bool,
}

impl Replay {
    /// Keeps what is sent from now on if `keeps`; forgets what was kept.
    #[inline]
    pub(super) fn begin(&mut self, buffers: &mut Buffers, keeps: bool) {
        if !self.pieces.is_empty() {
            self.pieces.clear(buffers.pieces());
        }
        self.whole = keeps;
    }

    /// Takes what was sent, in order. Says whether more is wanted.
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

    /// Everything that was sent, if it is all there.
    pub(super) fn take(&mut self) -> Option<Queue> {
        std::mem::take(&mut self.whole).then(|| std::mem::take(&mut self.pieces))
    }

    /// Buffers that it pins at most.
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
