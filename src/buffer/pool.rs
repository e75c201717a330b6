//! One region of equal buffers with a last-in-first-out free list. Not thread-safe: each worker has its own.

use std::cell::{Cell, RefCell};
use std::io;
use std::ptr::NonNull;

use super::Lease;

/// A worker's buffers of one size. Lives as long as the process, because the kernel may write to it at any time.
#[derive(Debug)]
pub struct Pool {
    /// First byte of a mapping of `count * bytes` bytes that is never unmapped.
    base: NonNull<u8>,
    bytes: usize,
    headroom: usize,
    tailroom: usize,
    /// Number of live leases of each buffer; 0: it is free, or offered to the kernel.
    leases: Box<[Cell<u16>]>,
    /// Free buffers, last in, first out: the buffer that was used last is the most likely to be in the CPU's cache.
    free: RefCell<Vec<u16>>,
    /// The lowest number of free buffers since the last [`Pool::is_stale`]: so many at the bottom of the list were not used since.
    untouched: Cell<usize>,
    /// The value that `untouched` had at the last [`Pool::is_stale`].
    stale: Cell<usize>,
    /// Number of buffers at the bottom of the list whose pages have been given back.
    trimmed: Cell<usize>,
}

/// The address space of a pool could not be reserved.
#[derive(Debug, thiserror::Error)]
#[error("cannot reserve {bytes} bytes of buffers: {source}; raise the address-space limit (ulimit -v)")]
pub struct PoolError {
    bytes: usize,
    source: io::Error,
}

impl Pool {
    /// Reserves `count` buffers of `bytes` bytes each, of which `headroom` and `tailroom` stay free around what the kernel writes.
    /// Indices of buffers and offsets in a buffer are `u16`s. Pages become resident when first written.
    ///
    /// # Errors
    /// When the limit of the address space is too low.
    pub fn new(count: usize, bytes: usize, headroom: usize, tailroom: usize) -> Result<&'static Self, PoolError> {
        assert!(count <= usize::from(u16::MAX) + 1 && bytes <= usize::from(u16::MAX) && headroom + tailroom < bytes);
        let size = count * bytes;
        let base = map(size).map_err(|source| PoolError { bytes: size, source })?;
        let free = (0..count).rev().map(|index| index as u16).collect();
        Ok(Box::leak(Box::new(Self {
            base,
            bytes,
            headroom,
            tailroom,
            leases: vec![Cell::new(0); count].into(),
            free: RefCell::new(free),
            untouched: Cell::new(count),
            stale: Cell::new(0),
            trimmed: Cell::new(count),
        })))
    }

    /// An empty lease with the pool's headroom in front, or None when every buffer is in use.
    #[must_use]
    pub fn take(&'static self) -> Option<Lease> {
        let buffer = self.pop()?;
        Some(self.lease(buffer, 0))
    }

    /// Number of buffers, free or not.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.leases.len()
    }

    /// Number of free buffers.
    #[must_use]
    pub fn available(&self) -> usize {
        self.free.borrow().len()
    }

    /// Bytes of one buffer between headroom and tailroom.
    #[must_use]
    pub fn payload(&self) -> usize {
        self.bytes - self.headroom - self.tailroom
    }

    /// The first lease of a buffer that was popped, with `filled` bytes behind the headroom.
    pub(super) fn lease(&'static self, buffer: u16, filled: usize) -> Lease {
        self.leases[usize::from(buffer)].set(1);
        let start = self.headroom as u16;
        let end = start + filled.min(self.payload()) as u16;
        Lease { pool: self, buffer, floor: 0, start, end, ceiling: self.bytes as u16 }
    }

    /// Writes behind the headroom of a buffer that was popped and has no lease yet, as the kernel would; returns how many of `bytes`
    /// there was room for.
    pub(super) fn fill(&'static self, buffer: u16, bytes: &[u8]) -> usize {
        let mut lease = self.lease(buffer, 0);
        let filled = lease.append(&bytes[..bytes.len().min(self.payload())]);
        // The lease is forgotten, so that the buffer is not freed: its first lease is made when the bytes are claimed.
        std::mem::forget(lease);
        self.leases[usize::from(buffer)].set(0);
        filled
    }

    /// Whether there are resident buffers that were not used since the call before, such as those that a burst has left; the caller
    /// then gives their pages back with [`Pool::trim`].
    pub fn is_stale(&self) -> bool {
        self.stale.set(self.untouched.replace(self.available()));
        self.trimmed.get() < self.stale.get()
    }

    /// Gives the pages of up to `most` stale buffers back to the kernel. Returns whether more are stale.
    pub fn trim(&self, most: usize) -> bool {
        let stale = self.stale.get().min(self.untouched.get());
        let first = self.trimmed.get().min(stale);
        let last = stale.min(first + most);
        for &buffer in &self.free.borrow()[first..last] {
            forget(self.address(buffer), self.bytes);
        }
        self.trimmed.set(self.trimmed.get().max(last));
        last < stale
    }

    /// Gives the pages of all buffers without leases back to the kernel, for a caller that will take no more buffers.
    pub fn release_pages(&self) {
        let mut first = 0;
        // Adjacent buffers are given back together, so that the pages which they share are included.
        for run in self.leases.chunk_by(|a, b| (a.get() == 0) == (b.get() == 0)) {
            if run.iter().all(|leases| leases.get() == 0) {
                forget(self.address(first as u16), run.len() * self.bytes);
            }
            first += run.len();
        }
    }

    pub(super) fn pop(&self) -> Option<u16> {
        let mut free = self.free.borrow_mut();
        let buffer = free.pop()?;
        self.untouched.set(self.untouched.get().min(free.len()));
        self.trimmed.set(self.trimmed.get().min(free.len()));
        Some(buffer)
    }

    pub(super) fn address(&self, buffer: u16) -> NonNull<u8> {
        // SAFETY: `buffer` is below the count of buffers, so the offset stays inside the mapping.
        unsafe { self.base.add(usize::from(buffer) * self.bytes) }
    }

    /// The address at which the kernel may write to a buffer, and how many bytes.
    pub(super) fn writable(&self, buffer: u16) -> (u64, u32) {
        // The kernel gets an address without provenance, and what it writes is read through other pointers to the buffer. So the
        // provenance is exposed.
        let address = self.address(buffer).as_ptr().expose_provenance();
        ((address + self.headroom) as u64, self.payload() as u32)
    }

    pub(super) fn retain(&self, buffer: u16) {
        let leases = &self.leases[usize::from(buffer)];
        leases.set(leases.get() + 1);
    }

    pub(super) fn release(&self, buffer: u16) {
        let leases = &self.leases[usize::from(buffer)];
        leases.set(leases.get() - 1);
        if leases.get() == 0 {
            self.free.borrow_mut().push(buffer);
        }
    }
}

/// Maps `size` bytes of zeros that are never unmapped. Pages become resident when first written.
#[cfg(not(miri))]
pub(super) fn map(size: usize) -> io::Result<NonNull<u8>> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a fresh anonymous mapping touches no existing memory; the result is checked below.
    let base = unsafe { libc::mmap(std::ptr::null_mut(), size, protection, flags, -1, 0) };
    if base == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(base.cast()).ok_or_else(io::Error::last_os_error)
}

/// The same for Miri, which knows no mmap(2): whole pages of zeros that are never freed.
#[cfg(miri)]
pub(super) fn map(size: usize) -> io::Result<NonNull<u8>> {
    let page = rustix::param::page_size();
    let layout = std::alloc::Layout::from_size_align(size.next_multiple_of(page).max(page), page);
    let layout = layout.map_err(io::Error::other)?;
    // SAFETY: the layout has at least a page.
    NonNull::new(unsafe { std::alloc::alloc_zeroed(layout) }).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}

/// Unmaps what [`map`] returned for this size; nobody may use it any more.
#[cfg(not(miri))]
pub(super) fn unmap(address: NonNull<u8>, size: usize) {
    // SAFETY: the whole of a mapping of our own that nobody uses any more.
    unsafe { libc::munmap(address.as_ptr().cast(), size) };
}

/// Leaves it where it is: Miri has no use for address space.
#[cfg(miri)]
pub(super) fn unmap(_: NonNull<u8>, _: usize) {}

/// Gives back the whole pages within a part of a mapping; they read as zero when they are touched again.
fn forget(address: NonNull<u8>, bytes: usize) {
    let page = rustix::param::page_size();
    let at = address.addr().get();
    let start = at.next_multiple_of(page);
    let end = (at + bytes) / page * page;
    if start < end {
        // SAFETY: `start` is below `end`, which is at most the end of the part, so the offset stays inside the mapping.
        let pages = unsafe { address.add(start - at) };
        give_back(pages, end - start);
    }
}

#[cfg(not(miri))]
fn give_back(pages: NonNull<u8>, bytes: usize) {
    // SAFETY: the pages lie wholly inside our mapping, which stays mapped; later reads find zeros.
    unsafe { libc::madvise(pages.as_ptr().cast(), bytes, libc::MADV_DONTNEED) };
}

/// The same for Miri: a write of zeros, because later reads find zeros.
#[cfg(miri)]
fn give_back(pages: NonNull<u8>, bytes: usize) {
    // SAFETY: the pages lie wholly inside our allocation, which is never freed.
    unsafe { pages.write_bytes(0, bytes) };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool() -> &'static Pool {
        Pool::new(4, 1024, 64, 16).expect("four kilobytes")
    }

    #[test]
    fn a_buffer_returns_with_its_last_lease() {
        let pool = pool();
        let mut first = pool.take().expect("a free buffer");
        assert_eq!(first.append(b"0123456789"), 10);
        let second = first.split_to(4);
        drop(first);
        assert_eq!(pool.available(), 3);
        assert_eq!(second.bytes(), b"0123");
        drop(second);
        assert_eq!(pool.available(), 4);
    }

    #[test]
    fn trimming_spares_what_was_used_since() {
        let pool = Pool::new(64, 16 * 1024, 64, 16).expect("a megabyte");
        let held: Vec<_> = (0..32).filter_map(|_| pool.take()).collect();
        drop(held);
        assert!(!pool.is_stale(), "32 were untouched and never resident");
        assert_eq!(pool.trimmed.get(), 32);
        assert!(pool.is_stale(), "now all 64 are untouched, 32 of them not yet given back");
        assert!(pool.trim(16));
        assert!(!pool.trim(16));
        assert!(!pool.is_stale());
        assert_eq!((pool.trimmed.get(), pool.available()), (64, 64));
    }

    /// Fills an empty lease, to its ceiling.
    fn fill(lease: &mut Lease) {
        lease.fill(|room| {
            room.fill(7);
            room.len()
        });
    }

    #[test]
    fn what_is_given_back_reads_as_zero_and_leases_stay_as_they_are() {
        // Buffers of a page and a half share pages with their neighbours: one between two others can give back a single page.
        let pool = Pool::new(4, 6 * 1024, 64, 16).expect("six pages");
        let one = if rustix::param::page_size() == 4096 { 4096 } else { 0 };
        let mut leases = [(); 3].map(|()| pool.take().expect("a free buffer"));
        leases.iter_mut().for_each(fill);
        let [first, given, last] = leases;
        drop(given);
        assert!(!pool.is_stale(), "the last one was never resident");
        assert!(pool.is_stale() && !pool.trim(2));
        let zeros = || {
            let mut again = pool.take().expect("the buffer that was given back");
            again.fill(|room| room.len());
            let zeros = again.bytes().iter().filter(|&&byte| byte == 0).count();
            again.truncate(0);
            fill(&mut again);
            zeros
        };
        assert_eq!(zeros(), one);
        assert_eq!(zeros(), 0, "in use again");
        // The slice lives while pages are given back.
        let held = first.bytes();
        pool.release_pages();
        assert!(held.iter().chain(last.bytes()).all(|&byte| byte == 7));
        assert_eq!(zeros(), one);
    }

    #[test]
    fn an_empty_pool_says_so() {
        let pool = pool();
        let all: Vec<_> = std::iter::from_fn(|| pool.take()).collect();
        assert_eq!((all.len(), pool.available()), (4, 0));
        drop(all);
        assert_eq!(pool.available(), 4);
    }
}
