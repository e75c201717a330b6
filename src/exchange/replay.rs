//! The part of a request that was sent, kept so that it can be sent again on another connection. Not here: when that is allowed
//! (`attempt`).

use crate::buffer::{Buffers, Queue};
use crate::limits::{REPLAY_BYTES, REPLAY_PIECES};

/// The pieces of one request that were sent: returned by the ring, or, over TLS, copied before they were sealed.
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
        // A request that may have to be sent again is worth less than those that wait for a buffer.
        if self.whole && fits && !buffers.is_scarce() {
            self.pieces.append(buffers.pieces(), sent);
        } else {
            sent.clear(buffers.pieces());
            self.begin(buffers, false);
        }
        self.whole
    }

    /// Copies pieces that are about to be sealed, as long as all of them have room.
    pub(super) fn copy(&mut self, buffers: &mut Buffers, content: &Queue) {
        if !self.whole {
            return;
        }
        let fits = self.pieces.bytes() + content.bytes() <= REPLAY_BYTES;
        match if fits { copied(buffers, content) } else { None } {
            Some(mut copy) => drop(self.keep(buffers, &mut copy)),
            None => self.begin(buffers, false),
        }
    }

    /// Gives back what [`Replay::take`] has taken out.
    pub(super) fn restore(&mut self, pieces: Queue) {
        self.pieces = pieces;
        self.whole = true;
    }

    /// Everything that was sent; None if a part was not kept.
    pub(super) fn take(&mut self) -> Option<Queue> {
        if !self.whole {
            return None;
        }
        self.whole = false;
        Some(std::mem::take(&mut self.pieces))
    }

    /// Whether everything that was sent is kept.
    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    /// Number of pieces kept: an upper bound of the buffers that they pin.
    pub(super) fn pieces(&self) -> usize {
        self.pieces.pieces()
    }
}

/// Copies `content` into as few buffers as hold it. None: not so many are free, or it takes more than `REPLAY_PIECES`.
pub(super) fn copied(buffers: &mut Buffers, content: &Queue) -> Option<Queue> {
    let mut leases = [const { None }; REPLAY_PIECES];
    let (mut room, mut count) = (0, 0);
    while room < content.bytes() {
        let lease = buffers.take()?;
        room += lease.spare();
        *leases.get_mut(count)? = Some(lease);
        count += 1;
    }
    let mut at = 0;
    for piece in content.iter(buffers.pieces()) {
        let mut bytes = piece.bytes();
        while let (false, Some(Some(lease))) = (bytes.is_empty(), leases.get_mut(at)) {
            bytes = &bytes[lease.append(bytes)..];
            at += usize::from(!bytes.is_empty());
        }
    }
    let mut copy = Queue::default();
    leases.into_iter().flatten().for_each(|lease| copy.push(buffers.pieces(), lease));
    Some(copy)
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
    fn copies_are_whole_or_gone() {
        let mut buffers = Buffers::new().unwrap();
        let free = buffers.pools()[0].available();
        for (keeps, sizes, pieces) in [
            (true, &[100, 200, 300][..], Some(1)),
            (true, &[0], Some(0)),
            (true, &[16_000, 16_000, 16_000, 16_000], Some(4)),
            (true, &[16_000; REPLAY_BYTES / 16_000 + 1], None),
            (false, &[100], None),
        ] {
            let mut replay = Replay::default();
            replay.begin(&mut buffers, keeps);
            let mut content = sent(&mut buffers, sizes);
            replay.copy(&mut buffers, &content);
            let taken = replay.take();
            let expected = pieces.map(|count| (content.bytes(), count));
            assert_eq!(taken.as_ref().map(|it| (it.bytes(), it.pieces())), expected, "{sizes:?}");
            content.clear(buffers.pieces());
            taken.into_iter().for_each(|mut queue| queue.clear(buffers.pieces()));
            assert_eq!(buffers.pools()[0].available(), free);
        }
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

    #[test]
    fn nothing_is_kept_while_buffers_are_scarce() {
        let mut buffers = Buffers::new().unwrap();
        let mut replay = Replay::default();
        replay.begin(&mut buffers, true);
        let mut first = sent(&mut buffers, &[100]);
        assert!(replay.keep(&mut buffers, &mut first));
        let mut second = sent(&mut buffers, &[100]);
        let mut held = Vec::new();
        while !buffers.is_scarce() {
            held.extend(buffers.take());
        }
        assert!(!replay.keep(&mut buffers, &mut second));
        assert_eq!((replay.pieces(), replay.take().is_none()), (0, true));
    }
}
