//! **Unsafe is allowed here**: buffer pools, leases, the provided-buffer ring, the byte scanners and zeroed tables. Not here: any I/O.
//!
//! A [`Pool`] is one region of equal buffers that a worker reserves at start. A [`Lease`] is a move-only claim on a range of
//! one buffer; ranges of different leases never overlap, so the holder may read and write its range freely. A buffer goes
//! back to its pool when its last lease is dropped. Code that hands memory to the kernel moves the lease along with the
//! operation and gets it back with the completion: that single fact is the safety argument of every submission.
#![allow(unsafe_code, reason = "one of the two modules that may: it owns the raw memory")]

pub mod scan;

mod buffers;
mod lease;
mod pool;
mod provided;
mod queue;
mod zeroed;

pub use buffers::Buffers;
pub use lease::Lease;
pub use pool::{Pool, PoolError};
pub use provided::{Inconsistent, ProvidedRing};
pub use queue::{Pieces, Queue, QueueLimit};
pub use zeroed::zeroed_counters;
