//! The part of a request that was sent, kept so that it can be sent again on another connection. Not here: when that is allowed
//! (`attempt`).

use crate::buffer::{Buffers, Queue, QueueLimit};
use crate::limits::{REPLAY_PIECE_BYTES, REPLAY_PIECES_MAX, REPLAY_PIECES_MIN};

/// The pieces of one request that were sent: returned by the ring, or, over TLS, copied before they were sealed.
#[derive(Debug)]
pub(super) struct Replay {
    /// Within `most`; empty unless `whole`.
    pieces: Queue,
    most: QueueLimit,
    /// `pieces` holds everything that was sent; pieces that are sent next will be added.
    whole: bool,
}

impl Replay {
    /// Nothing yet, and at most `most` bytes.
    pub(super) fn new(most: usize) -> Self {
        let pieces = (most / REPLAY_PIECE_BYTES).clamp(REPLAY_PIECES_MIN, REPLAY_PIECES_MAX);
        Self { pieces: Queue::default(), most: QueueLimit { bytes: most, pieces }, whole: false }
    }

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
        let fits = self.pieces.bytes() + sent.bytes() <= self.most.bytes
            && self.pieces.pieces() + sent.pieces() <= self.most.pieces;
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
        let fits = self.pieces.bytes() + content.bytes() <= self.most.bytes;
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

/// Copies `content` into as few buffers as hold it. None: not so many are free, or it takes more than `REPLAY_PIECES_MAX`.
pub(super) fn copied(buffers: &mut Buffers, content: &Queue) -> Option<Queue> {
    let mut leases = [const { None }; REPLAY_PIECES_MAX];
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
    use crate::limits::{REPLAY_BYTES, REPLAY_BYTES_MAX};

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
        for (most, keeps, sizes, pieces) in [
            (REPLAY_BYTES, true, &[100, 200, 300][..], Some(1)),
            (REPLAY_BYTES, true, &[0], Some(0)),
            (REPLAY_BYTES, true, &[16_000, 16_000, 16_000, 16_000], Some(4)),
            (REPLAY_BYTES, true, &[16_000; REPLAY_BYTES / 16_000 + 1], None),
            (REPLAY_BYTES_MAX, true, &[16_000; REPLAY_BYTES / 16_000 + 1], Some(5)),
            (REPLAY_BYTES, false, &[100], None),
            (600, true, &[100, 200, 300], Some(1)),
            (599, true, &[100, 200, 300], None),
            (0, true, &[1], None),
        ] {
            let mut replay = Replay::new(most);
            replay.begin(&mut buffers, keeps);
            let mut content = sent(&mut buffers, sizes);
            replay.copy(&mut buffers, &content);
            let taken = replay.take();
            let expected = pieces.map(|count| (content.bytes(), count));
            assert_eq!(taken.as_ref().map(|it| (it.bytes(), it.pieces())), expected, "{most} {sizes:?}");
            content.clear(buffers.pieces());
            taken.into_iter().for_each(|mut queue| queue.clear(buffers.pieces()));
            assert_eq!(buffers.pools()[0].available(), free);
        }
    }

    #[test]
    fn what_was_sent_is_whole_or_gone() {
        let mut buffers = Buffers::new().unwrap();
        let free = buffers.pools()[0].available();
        const PIECES: usize = REPLAY_BYTES / REPLAY_PIECE_BYTES;
        for (most, keeps, sizes, whole) in [
            (REPLAY_BYTES, true, &[100, 16_000][..], Some(16_100)),
            (REPLAY_BYTES, true, &[3_000; PIECES], Some(3_000 * PIECES)),
            (REPLAY_BYTES, true, &[3_000; PIECES + 1], None),
            (REPLAY_BYTES_MAX, true, &[3_000; PIECES + 1], Some(3_000 * (PIECES + 1))),
            (REPLAY_BYTES, true, &[16_000; REPLAY_BYTES / 16_000 + 1], None),
            (REPLAY_BYTES, false, &[100], None),
            (100, true, &[50, 50], Some(100)),
            (100, true, &[50, 51], None),
        ] {
            let mut replay = Replay::new(most);
            replay.begin(&mut buffers, keeps);
            for size in sizes {
                let mut queue = sent(&mut buffers, &[*size]);
                replay.keep(&mut buffers, &mut queue);
            }
            let taken = replay.take();
            assert_eq!(taken.as_ref().map(Queue::bytes), whole, "{most} {sizes:?}");
            taken.into_iter().for_each(|mut queue| queue.clear(buffers.pieces()));
            assert!(replay.take().is_none());
            assert_eq!(buffers.pools()[0].available(), free);
        }
    }

    #[test]
    fn nothing_is_kept_while_buffers_are_scarce() {
        let mut buffers = Buffers::new().unwrap();
        let mut replay = Replay::new(REPLAY_BYTES);
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
