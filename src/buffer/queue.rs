//! Queues of leases: linked lists in one shared table of nodes, so that a queue allocates nothing. Not here: the leases.

use super::Lease;
use crate::limits::COALESCE_BYTES;

const NONE: u32 = u32::MAX;

/// The nodes of all queues of a worker.
#[derive(Debug)]
pub struct Pieces {
    nodes: Vec<Node>,
    free: u32,
}

#[derive(Debug)]
struct Node {
    lease: Option<Lease>,
    next: u32,
}

/// A queue of pieces, first in, first out; empty by default. A piece is a lease in a queue. A queue must be drained with
/// [`Queue::clear`] before it is dropped, because its nodes stay in the table.
///
/// Buffers are scarce, and a piece of one byte pins a whole buffer. So a small piece is appended to the last piece where that has
/// room. Of two neighbouring pieces at least one is larger than `limits::COALESCE_BYTES`, or the first one fills its buffer or was
/// put back in front.
#[derive(Debug)]
pub struct Queue {
    head: u32,
    tail: u32,
    bytes: u32,
    pieces: u32,
}

/// How much a queue may hold before its source is paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimit {
    /// Number of bytes.
    pub bytes: usize,
    /// Number of pieces; each pins at most one buffer.
    pub pieces: usize,
}

impl QueueLimit {
    /// Whether `queue` holds so many bytes or pieces.
    #[must_use]
    pub fn is_reached(self, queue: &Queue) -> bool {
        queue.bytes() >= self.bytes || queue.pieces() >= self.pieces
    }
}

impl Default for Queue {
    fn default() -> Self {
        Self { head: NONE, tail: NONE, bytes: 0, pieces: 0 }
    }
}

impl Pieces {
    /// A table with room for `count` pieces. It grows beyond that, so that no piece is ever lost.
    #[must_use]
    pub fn new(count: usize) -> Self {
        Self { nodes: Vec::with_capacity(count), free: NONE }
    }

    fn insert(&mut self, lease: Lease) -> u32 {
        let node = Node { lease: Some(lease), next: NONE };
        if self.free == NONE {
            self.nodes.push(node);
            return (self.nodes.len() - 1) as u32;
        }
        let index = self.free;
        let slot = &mut self.nodes[index as usize];
        self.free = slot.next;
        *slot = node;
        index
    }
}

impl Queue {
    /// Number of bytes queued.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes as usize
    }

    /// Number of pieces queued: an upper bound of the buffers that the queue pins.
    #[must_use]
    pub fn pieces(&self) -> usize {
        self.pieces as usize
    }

    /// Whether nothing is queued.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.head == NONE
    }

    /// Adds a piece at the end. A small one is appended to the last piece if that has room; an empty one is dropped.
    pub fn push(&mut self, pieces: &mut Pieces, mut lease: Lease) {
        if lease.is_empty() {
            return;
        }
        self.bytes += lease.len() as u32;
        if let Some(node) = pieces.nodes.get_mut(self.tail as usize)
            && let Some(last) = &mut node.lease
            && last.absorb(&mut lease, COALESCE_BYTES)
        {
            return;
        }
        self.pieces += 1;
        let index = pieces.insert(lease);
        match self.tail {
            NONE => self.head = index,
            tail => pieces.nodes[tail as usize].next = index,
        }
        self.tail = index;
    }

    /// Puts a piece back in front of the others.
    pub fn push_front(&mut self, pieces: &mut Pieces, lease: Lease) {
        if lease.is_empty() {
            return;
        }
        self.bytes += lease.len() as u32;
        self.pieces += 1;
        let index = pieces.insert(lease);
        pieces.nodes[index as usize].next = self.head;
        if self.head == NONE {
            self.tail = index;
        }
        self.head = index;
    }

    /// Takes the first piece.
    pub fn pop(&mut self, pieces: &mut Pieces) -> Option<Lease> {
        if self.head == NONE {
            return None;
        }
        let index = self.head;
        let node = &mut pieces.nodes[index as usize];
        let lease = node.lease.take();
        self.head = std::mem::replace(&mut node.next, pieces.free);
        pieces.free = index;
        if self.head == NONE {
            self.tail = NONE;
        }
        self.bytes -= lease.as_ref().map_or(0, Lease::len) as u32;
        self.pieces -= 1;
        lease
    }

    /// The first piece's bytes.
    #[must_use]
    pub fn front<'a>(&self, pieces: &'a Pieces) -> Option<&'a [u8]> {
        self.iter(pieces).next().map(Lease::bytes)
    }

    /// All pieces in order.
    pub fn iter<'a>(&self, pieces: &'a Pieces) -> impl Iterator<Item = &'a Lease> {
        let mut next = self.head;
        std::iter::from_fn(move || {
            let node = pieces.nodes.get(next as usize)?;
            next = node.next;
            node.lease.as_ref()
        })
    }

    /// Moves all pieces of `other` to the end of this queue. Small pieces at its beginning are appended to the last piece of this.
    pub fn append(&mut self, pieces: &mut Pieces, other: &mut Self) {
        let mut other = std::mem::take(other);
        if self.head == NONE {
            *self = other;
            return;
        }
        while let Some(lease) = other.pop(pieces) {
            let before = self.pieces;
            self.push(pieces, lease);
            if self.pieces > before {
                break;
            }
        }
        if other.head == NONE {
            return;
        }
        if let Some(last) = pieces.nodes.get_mut(self.tail as usize) {
            last.next = other.head;
        }
        self.tail = other.tail;
        self.bytes += other.bytes;
        self.pieces += other.pieces;
    }

    /// Drops all pieces.
    pub fn clear(&mut self, pieces: &mut Pieces) {
        while self.pop(pieces).is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::Pool;
    use super::*;

    fn texts(queue: &Queue, pieces: &Pieces) -> Vec<String> {
        queue.iter(pieces).map(|lease| String::from_utf8_lossy(lease.bytes()).into_owned()).collect()
    }

    #[test]
    fn order_bytes_and_nodes_are_kept() {
        let pool = Pool::new(8, 256, 0, 0).expect("two kilobytes");
        let mut pieces = Pieces::new(2);
        let lease = |text: &str| {
            let mut lease = pool.take().expect("a free buffer");
            assert_eq!(lease.append(text.as_bytes()), text.len());
            lease
        };
        let (mut one, mut two) = (Queue::default(), Queue::default());
        one.push(&mut pieces, lease("b"));
        one.push_front(&mut pieces, lease("a"));
        one.push(&mut pieces, lease(""));
        two.push(&mut pieces, lease("cc"));
        one.append(&mut pieces, &mut two);
        assert_eq!((texts(&one, &pieces), one.bytes()), (vec!["a".into(), "b".into(), "cc".into()], 4));
        assert!(two.is_empty() && two.bytes() == 0);
        assert_eq!(one.pop(&mut pieces).expect("a piece").bytes(), b"a");
        assert_eq!((one.pieces(), two.pieces()), (2, 0));
        one.clear(&mut pieces);
        assert!(one.is_empty() && one.bytes() == 0 && one.pieces() == 0);
        assert_eq!((pieces.nodes.len(), pool.available()), (3, 8));
    }

    #[test]
    fn small_pieces_share_a_buffer() {
        // Miri takes a while for each piece.
        const COUNT: usize = if cfg!(miri) { 1100 } else { 10_000 };
        const PAYLOAD: usize = 1024 - 32 - 512;
        let pool = Pool::new(64, 1024, 32, 512).expect("64 kilobytes");
        let mut pieces = Pieces::new(2);
        let byte = |byte: u8| {
            let mut lease = pool.take().expect("a free buffer");
            assert_eq!(lease.append(&[byte]), 1);
            lease
        };
        let mut queue = Queue::default();
        for count in 0..COUNT {
            if count % 2 == 0 {
                queue.push(&mut pieces, byte(count as u8));
            } else {
                let mut one = Queue::default();
                one.push(&mut pieces, byte(count as u8));
                queue.append(&mut pieces, &mut one);
            }
        }
        assert_eq!((queue.bytes(), queue.pieces()), (COUNT, COUNT.div_ceil(PAYLOAD)));
        let bytes: Vec<u8> = queue.iter(&pieces).flat_map(|lease| lease.bytes().to_vec()).collect();
        assert!(bytes.iter().enumerate().all(|(at, &byte)| byte == at as u8));
        queue.clear(&mut pieces);
        assert_eq!((pool.available(), pieces.nodes.len()), (64, COUNT.div_ceil(PAYLOAD) + 1));
    }
}
