//! Tables of counters that cost no memory before they are used. Not here: what is counted (`telemetry`).

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::sync::atomic::AtomicU64;

/// So many counters of zero. Pages of them that nobody writes are not resident where the allocator takes them from the kernel.
#[must_use]
pub fn zeroed_counters(count: usize) -> Box<[AtomicU64]> {
    if count == 0 {
        return Box::default();
    }
    let Ok(layout) = Layout::array::<AtomicU64>(count) else { handle_alloc_error(Layout::new::<AtomicU64>()) };
    // SAFETY: The layout is not empty, because `count` is not 0.
    let memory = unsafe { alloc_zeroed(layout) };
    if memory.is_null() {
        handle_alloc_error(layout);
    }
    // SAFETY: The memory is of the global allocator, has the layout of the slice, and is nobody else's. An `AtomicU64` has the size and
    // the bit validity of a `u64` (std::sync::atomic), of which all bits zero is a value.
    unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(memory.cast::<AtomicU64>(), count)) }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn they_begin_at_zero() {
        let counters = zeroed_counters(5000);
        assert_eq!(counters.len(), 5000);
        counters[4999].store(7, Ordering::Relaxed);
        let sum: u64 = counters.iter().map(|counter| counter.load(Ordering::Relaxed)).sum();
        assert_eq!(sum, 7);
        assert!(zeroed_counters(0).is_empty());
    }
}
