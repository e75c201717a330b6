//! Executors, pinning, the mailbox, the ring of bytes, the turn clock and the timer wheel; the only importer of glommio and crossbeam.
//! Not here: sockets. A worker's ring blocks the executor when nothing is runnable, so no glommio timer or I/O is used.

mod bell;
mod byte_ring;
mod clock;
mod executor;
mod mailbox;
mod quota;
mod stall;
mod wheel;

pub use bell::Bell;
pub use byte_ring::{ByteRingReader, ByteRingWriter, byte_ring};
pub use clock::Clock;
pub use executor::{Background, ExecutorError, ExecutorHandle, allowed_cpus, spawn};
pub use mailbox::Mailbox;
pub use quota::{Quota, QuotaLease};
pub use stall::Stall;
pub use wheel::{Tick, Wheel};
