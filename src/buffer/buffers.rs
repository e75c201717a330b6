//! All buffers of one worker, of two sizes, and the nodes of its queues. Not here: which buffers are offered to the kernel (`provided`).

use super::{Lease, Pieces, Pool, PoolError, Queue, QueueLimit};
use crate::limits;

/// A worker's buffers and the nodes of its queues.
#[derive(Debug)]
pub struct Buffers {
    /// Buffers of `limits::BUFFER_BYTES`.
    ordinary: &'static Pool,
    /// Buffers of `limits::HEAD_BUFFER_BYTES`, for heads that arrived in several pieces.
    large: &'static Pool,
    pieces: Pieces,
}

impl Buffers {
    /// Reserves `limits::BUFFERS` ordinary and `limits::HEAD_BUFFERS` large buffers.
    ///
    /// # Errors
    /// When the limit of the address space is too low.
    pub fn new() -> Result<Self, PoolError> {
        Ok(Self::over(Self::reserve(limits::BUFFERS, limits::HEAD_BUFFERS)?))
    }

    /// Reserves pools of so many ordinary and so many large buffers.
    ///
    /// # Errors
    /// When the address space is limited too tightly.
    pub fn reserve(ordinary: usize, large: usize) -> Result<[&'static Pool; 2], PoolError> {
        let headroom = limits::BUFFER_HEADROOM;
        let tailroom = limits::BUFFER_TAILROOM;
        let ordinary = Pool::new(ordinary, limits::BUFFER_BYTES, headroom, tailroom)?;
        Ok([ordinary, Pool::new(large, limits::HEAD_BUFFER_BYTES, headroom, tailroom)?])
    }

    /// The buffers of pools that nobody else takes from.
    #[must_use]
    pub fn over([ordinary, large]: [&'static Pool; 2]) -> Self {
        Self { ordinary, large, pieces: Pieces::new(2 * ordinary.capacity()) }
    }

    /// An empty buffer, or None when all are in use.
    #[must_use]
    pub fn take(&self) -> Option<Lease> {
        self.ordinary.take()
    }

    /// An empty buffer for a head that does not fit an ordinary one, or None when all are in use.
    #[must_use]
    pub fn take_large(&self) -> Option<Lease> {
        self.large.take()
    }

    /// The nodes of every queue of this worker.
    #[inline]
    pub fn pieces(&mut self) -> &mut Pieces {
        &mut self.pieces
    }

    /// The pieces of a queue, in order.
    pub fn iter<'a>(&'a self, queue: &Queue) -> impl Iterator<Item = &'a Lease> {
        queue.iter(&self.pieces)
    }

    /// What one direction of an exchange may hold now.
    #[must_use]
    pub fn queue_limit(&self) -> QueueLimit {
        if self.is_scarce() {
            QueueLimit { bytes: limits::QUEUE_BYTES_SCARCE, pieces: limits::QUEUE_PIECES_SCARCE }
        } else {
            QueueLimit { bytes: limits::QUEUE_BYTES, pieces: limits::QUEUE_PIECES }
        }
    }

    /// Whether fewer than a quarter of the buffers are free.
    #[must_use]
    pub fn is_scarce(&self) -> bool {
        self.ordinary.available() < self.ordinary.capacity() / limits::SCARCE_SHARE
    }

    /// How many ordinary and how many large buffers have to become free until as many are free as are reserved for endpoints and for
    /// answers of our own.
    #[must_use]
    pub fn missing(&self) -> [usize; 2] {
        self.pools().map(|pool| (pool.capacity() / limits::RESERVED_SHARE).saturating_sub(pool.available()))
    }

    /// How many pieces of a queue are in ordinary buffers, and how many in large ones.
    #[must_use]
    pub fn pieces_by_size(&self, queue: &Queue) -> [usize; 2] {
        let large = self.iter(queue).filter(|lease| self.is_large(lease)).count();
        [queue.pieces() - large, large]
    }

    /// Whether a lease is one of a large buffer.
    #[must_use]
    pub fn is_large(&self, lease: &Lease) -> bool {
        lease.is_of(self.large)
    }

    /// The pool of ordinary buffers and that of large ones.
    #[must_use]
    pub fn pools(&self) -> [&'static Pool; 2] {
        [self.ordinary, self.large]
    }
}
