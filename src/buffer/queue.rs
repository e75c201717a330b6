//! Queues of leases without an allocation each: list heads of eight bytes over one shared table of nodes.

use super::Lease;

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

/// First in, first out; empty by default. Must be drained with [`Queue::clear`] before it is dropped.
#[derive(Debug)]
pub struct Queue {
    head: u32,
    tail: u32,
    bytes: u32,
}

impl Default for Queue {
    fn default() -> Self {
        Self { head: NONE, tail: NONE, bytes: 0 }
    }
}

impl Pieces {
    /// Room for `count` pieces; grows beyond that, so that no piece is ever lost.
    #[must_use]
    pub fn new(count: usize) -> Self {
        Self { nodes: Vec::with_capacity(count), free: NONE }
    }

    fn put(&mut self, lease: Lease) -> u32 {
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
    /// Bytes queued.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes as usize
    }

    /// Whether nothing is queued.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.head == NONE
    }

    /// Appends a piece; an empty one is dropped.
    pub fn push(&mut self, pieces: &mut Pieces, lease: Lease) {
        if lease.is_empty() {
            return;
        }
        self.bytes += lease.len() as u32;
        let index = pieces.put(lease);
        match self.tail {
            NONE => self.head = index,
            tail => pieces.nodes[tail as usize].next = index,
        }
        self.tail = index;
    }

    /// Puts a piece back in front.
    pub fn push_front(&mut self, pieces: &mut Pieces, lease: Lease) {
        if lease.is_empty() {
            return;
        }
        self.bytes += lease.len() as u32;
        let index = pieces.put(lease);
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

    /// Moves everything of `other` to the end of this queue.
    pub fn append(&mut self, pieces: &mut Pieces, other: &mut Self) {
        let other = std::mem::take(other);
        if other.head == NONE {
            return;
        }
        match self.tail {
            NONE => self.head = other.head,
            tail => pieces.nodes[tail as usize].next = other.head,
        }
        self.tail = other.tail;
        self.bytes += other.bytes;
    }

    /// Drops everything.
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
        one.clear(&mut pieces);
        assert!(one.is_empty() && one.bytes() == 0);
        assert_eq!((pieces.nodes.len(), pool.available()), (3, 8));
    }
}
