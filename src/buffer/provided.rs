//! The ring of buffers that the kernel picks from when bytes arrive (io_uring_register_buf_ring(3)).
//! Not here: registering it, which is the driver's.

use std::cell::Cell;
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use super::{Lease, Pool};

/// `struct io_uring_buf` of the kernel's ABI. The fields are cells, because the kernel reads them at times that the compiler does not
/// know of.
#[repr(C)]
#[derive(Debug)]
struct Entry {
    address: Cell<u64>,
    bytes: Cell<u32>,
    buffer: Cell<u16>,
    /// In the first entry: the ring's tail.
    tail: AtomicU16,
}

/// A ring of buffers that are offered to the kernel, and the record of which they are.
#[derive(Debug)]
pub struct ProvidedRing {
    pool: &'static Pool,
    /// A page-aligned mapping of `mask + 1` entries. Once a kernel may have been told of it, it is never unmapped.
    entries: NonNull<Entry>,
    /// A kernel may have been told of `entries`.
    registered: Cell<bool>,
    mask: u16,
    tail: u16,
    /// Ring position of the next buffer that [`ProvidedRing::fill`] fills. A kernel counts its own position instead.
    head: u16,
    /// Number of buffers that the kernel holds, at most `mask + 1`.
    offered: usize,
    /// Ring position of each offered buffer, by buffer.
    position: Box<[u16]>,
    /// The buffer offered at each position; None once it has been claimed.
    slots: Box<[Option<u16>]>,
}

/// The kernel has reported a buffer as filled that was not on offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inconsistent;

impl ProvidedRing {
    /// An empty ring of `entries` (a power of two, at most 32,768) over `pool`.
    ///
    /// # Errors
    /// When memory for the ring cannot be mapped.
    pub fn new(pool: &'static Pool, entries: usize) -> io::Result<Self> {
        assert!(entries.is_power_of_two() && entries <= 32 * 1024);
        let memory = super::pool::map(entries * size_of::<Entry>())?.cast();
        let position = vec![0; usize::from(u16::MAX) + 1].into();
        let slots = vec![None; entries].into();
        let (mask, registered) = ((entries - 1) as u16, Cell::new(false));
        Ok(Self { pool, entries: memory, registered, mask, tail: 0, head: 0, offered: 0, position, slots })
    }

    /// Address and number of entries, for the registration with the kernel.
    #[must_use]
    pub fn registration(&self) -> (u64, u16) {
        self.registered.set(true);
        (self.entries.as_ptr().expose_provenance() as u64, self.mask + 1)
    }

    /// Number of buffers on offer: those that the kernel may still pick.
    #[must_use]
    pub fn offered(&self) -> usize {
        self.offered
    }

    /// Offers free buffers until `target` are on offer or the pool has only `leaves` left. Returns whether any are on offer.
    pub fn refill(&mut self, target: usize, leaves: usize) -> bool {
        let before = self.tail;
        while self.offered < target.min(usize::from(self.mask) + 1) && self.pool.available() > leaves {
            let Some(buffer) = self.pool.pop() else { break };
            let (address, bytes) = self.pool.writable(buffer);
            let entry = self.entry(self.tail);
            entry.address.set(address);
            entry.bytes.set(bytes);
            entry.buffer.set(buffer);
            self.position[usize::from(buffer)] = self.tail;
            self.slots[usize::from(self.tail & self.mask)] = Some(buffer);
            self.tail = self.tail.wrapping_add(1);
            self.offered += 1;
        }
        if self.tail != before {
            // The kernel reads an entry only after the tail has moved past it.
            self.entry(0).tail.store(self.tail, Ordering::Release);
        }
        self.offered > 0
    }

    /// Writes received bytes to the buffers on offer, as the kernel would: in the order in which they were offered, to one buffer
    /// or, with `bundle`, to as many as are needed. Returns the first buffer, and how many of `bytes` there was room for; None when
    /// no buffer is on offer.
    ///
    /// For a machine in memory only. A ring that is registered with a kernel must not be filled like this.
    pub fn fill(&mut self, bytes: &[u8], bundle: bool) -> Option<(u16, usize)> {
        let first = self.next_to_fill()?;
        let mut filled = 0;
        while let Some(buffer) = self.next_to_fill() {
            filled += self.pool.fill(buffer, &bytes[filled..]);
            self.head = self.head.wrapping_add(1);
            if filled == bytes.len() || !bundle {
                break;
            }
        }
        Some((first, filled))
    }

    fn next_to_fill(&self) -> Option<u16> {
        self.slots[usize::from(self.head & self.mask)].filter(|_| self.head != self.tail)
    }

    /// Claims what one receive has filled: `bytes` in `buffer` and, with a bundle, in the buffers offered after it.
    /// Calls `each` with one lease for each buffer, in order.
    ///
    /// # Errors
    /// When the bytes would reach into a buffer that was not on offer; by then `each` was called for the buffers before it.
    pub fn claim(&mut self, buffer: u16, bytes: usize, mut each: impl FnMut(Lease)) -> Result<(), Inconsistent> {
        let mut position = self.position[usize::from(buffer)];
        let mut left = bytes;
        // A buffer that is not on offer still has its last position, at which another buffer may be now.
        if self.slots[usize::from(position & self.mask)] != Some(buffer) {
            return Err(Inconsistent);
        }
        loop {
            let filled = left.min(self.pool.payload());
            let buffer = self.slots[usize::from(position & self.mask)].take().ok_or(Inconsistent)?;
            self.offered -= 1;
            each(self.pool.lease(buffer, filled));
            left -= filled;
            if left == 0 {
                return Ok(());
            }
            position = position.wrapping_add(1);
            if position == self.tail {
                return Err(Inconsistent);
            }
        }
    }

    fn entry(&self, position: u16) -> &Entry {
        // SAFETY: the masked position is within the mapping.
        let entry = unsafe { self.entries.add(usize::from(position & self.mask)) };
        // SAFETY: the mapping is aligned, zeroed at first, unmapped by `drop` at the earliest, and the kernel does not write to it.
        unsafe { entry.as_ref() }
    }
}

/// Without a kernel, nothing outlives the ring: neither its memory nor what is on offer, which goes back to the pool.
impl Drop for ProvidedRing {
    fn drop(&mut self) {
        if self.registered.get() {
            return;
        }
        for buffer in self.slots.iter().flatten() {
            drop(self.pool.lease(*buffer, 0));
        }
        super::pool::unmap(self.entries.cast(), (usize::from(self.mask) + 1) * size_of::<Entry>());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAYLOAD: usize = 100;

    fn ring() -> ProvidedRing {
        let pool = Pool::new(8, PAYLOAD + 24, 16, 8).expect("a kilobyte");
        let mut ring = ProvidedRing::new(pool, 4).expect("64 bytes");
        assert!(ring.refill(4, 0));
        ring
    }

    /// Claims, and returns how many bytes each lease holds.
    fn claim(ring: &mut ProvidedRing, buffer: u16, bytes: usize) -> (Result<(), Inconsistent>, Vec<usize>) {
        let mut filled = Vec::new();
        let claimed = ring.claim(buffer, bytes, |lease| filled.push(lease.len()));
        (claimed, filled)
    }

    #[test]
    fn a_bundle_is_claimed_as_far_as_it_goes() {
        let mut ring = ring();
        assert_eq!(claim(&mut ring, 0, PAYLOAD + 1), (Ok(()), vec![PAYLOAD, 1]));
        assert_eq!(claim(&mut ring, 2, 7), (Ok(()), vec![7]));
        assert_eq!(ring.offered(), 1);
        ring.refill(4, 0);
        assert_eq!(ring.offered(), 4);
        // The last one, then those that came after it.
        let (claimed, filled) = claim(&mut ring, 3, 4 * PAYLOAD);
        assert_eq!((claimed, filled.len(), ring.offered()), (Ok(()), 4, 0));
    }

    /// What was filled is what is claimed, also across the end of the ring.
    #[test]
    fn buffers_are_filled_in_the_order_of_their_offer() {
        let mut ring = ring();
        let bytes: Vec<u8> = (0..=255).cycle().take(4 * PAYLOAD).collect();
        for (length, bundle, fits) in [(7, false, 7), (PAYLOAD + 1, false, PAYLOAD), (4 * PAYLOAD, true, 2 * PAYLOAD)] {
            assert_eq!(ring.fill(&bytes[..length], bundle).map(|(_, filled)| filled), Some(fits));
        }
        assert_eq!(ring.fill(&bytes, true), None, "all are filled");
        assert_eq!(claim(&mut ring, 0, 7).0, Ok(()));
        assert!(ring.refill(4, 0), "one is offered again");
        let (last, filled) = ring.fill(&bytes, true).unwrap();
        assert_eq!((filled, claim(&mut ring, last, filled)), (PAYLOAD, (Ok(()), vec![PAYLOAD])));
        let mut held = Vec::new();
        assert_eq!(ring.claim(1, PAYLOAD, |lease| held.push(lease)), Ok(()));
        assert_eq!(ring.claim(2, 2 * PAYLOAD, |lease| held.push(lease)), Ok(()));
        let held: Vec<&[u8]> = held.iter().map(Lease::bytes).collect();
        assert_eq!(held, [&bytes[..PAYLOAD], &bytes[..PAYLOAD], &bytes[PAYLOAD..2 * PAYLOAD]]);
        assert_eq!(ring.fill(&bytes, true), None, "nothing is on offer");
    }

    /// A buffer is free again when the leases that were claimed of it are dropped, in every round.
    #[test]
    fn filled_buffers_go_back_to_the_pool() {
        let mut ring = ring();
        for _ in 0..100 {
            let (buffer, filled) = ring.fill(b"hello", true).unwrap();
            assert_eq!(claim(&mut ring, buffer, filled), (Ok(()), vec![5]));
            assert!(ring.refill(4, 0));
            assert_eq!((ring.offered(), ring.pool.available()), (4, 4));
        }
    }

    #[test]
    fn no_buffer_is_claimed_that_was_not_on_offer() {
        let mut ring = ring();
        assert_eq!(claim(&mut ring, 5, 1), (Err(Inconsistent), vec![]), "never offered");
        assert_eq!(claim(&mut ring, 3, PAYLOAD + 1), (Err(Inconsistent), vec![PAYLOAD]), "beyond the tail");
        assert_eq!(claim(&mut ring, 3, 1), (Err(Inconsistent), vec![]), "twice");
        assert_eq!(claim(&mut ring, 1, 1), (Ok(()), vec![1]));
        assert_eq!(claim(&mut ring, 0, PAYLOAD + 1), (Err(Inconsistent), vec![PAYLOAD]), "into one that was claimed");
        assert_eq!(ring.offered(), 1);
        assert!(ring.refill(4, 0));
        assert_eq!((ring.offered(), ring.pool.available()), (4, 4));
    }

    /// The kernel's view of a ring: what it needs to fill buffers.
    struct Kernel {
        entries: NonNull<Entry>,
        memory: NonNull<u8>,
        mask: u16,
        head: u16,
    }

    // SAFETY: it is used by one thread at a time, and what it points to is never freed.
    unsafe impl Send for Kernel {}

    impl Kernel {
        /// Waits for a buffer on offer, fills it and returns its index.
        fn receive(&mut self, byte: u8) -> u16 {
            while self.entry(0).tail.load(Ordering::Acquire) == self.head {
                std::thread::yield_now();
            }
            let entry = self.entry(self.head);
            let (address, bytes, buffer) = (entry.address.get(), entry.bytes.get(), entry.buffer.get());
            let room = self.memory.as_ptr().with_addr(address as usize);
            // SAFETY: the ring offers parts of the pool's memory that nobody else has.
            unsafe { room.write_bytes(byte, bytes as usize) };
            self.head = self.head.wrapping_add(1);
            buffer
        }

        fn entry(&self, position: u16) -> &Entry {
            // SAFETY: the masked position is within the ring.
            let entry = unsafe { self.entries.add(usize::from(position & self.mask)) };
            // SAFETY: the ring is never unmapped; what changes in it while this thread reads is atomic.
            unsafe { entry.as_ref() }
        }
    }

    /// A thread writes to buffers as the kernel does, at any time: for Miri, which looks for races and for pointers that
    /// the holder of a lease has made invalid.
    #[test]
    fn the_kernel_fills_buffers_while_leases_of_others_are_changed() {
        const ROUNDS: u8 = if cfg!(miri) { 20 } else { 200 };
        let mut ring = ring();
        let (memory, entries, mask) = (ring.pool.address(0), ring.entries, ring.mask);
        let mut kernel = Kernel { entries, memory, mask, head: 0 };
        let (completions, arrived) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || (0..ROUNDS).all(|byte| completions.send(kernel.receive(byte)).is_ok()));
        let mut kept: Option<Lease> = None;
        for (byte, buffer) in arrived.iter().enumerate() {
            let mut claimed = None;
            assert_eq!(ring.claim(buffer, PAYLOAD, |lease| claimed = Some(lease)), Ok(()));
            let mut lease = claimed.expect("one lease");
            assert_eq!(lease.bytes(), [byte as u8; PAYLOAD]);
            if let Some(before) = &mut kept {
                let changed = before.bytes_mut();
                assert!(ring.refill(4, 0));
                changed.fill(0);
                lease.bytes_mut()[..PAYLOAD / 2].copy_from_slice(changed);
            }
            kept = Some(lease.split_to(PAYLOAD / 2));
        }
        assert!(thread.join().is_ok_and(|sent| sent));
        drop(kept);
        assert_eq!(ring.offered() + ring.pool.available(), 8);
    }
}
