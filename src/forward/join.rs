//! Joins pieces, because the parsers need contiguous bytes. Not here: how many bytes a head may have.

use super::BuffersExhausted;
use crate::buffer::{Buffers, Queue};

/// Joins the first two pieces of `queue`; false when there is only one. Copies the second piece behind the first, or both into a
/// large buffer if there is no room, so that a peer that sends a few bytes at a time holds one buffer and not many.
///
/// # Errors
/// When a large buffer is needed and none is free.
pub fn join(buffers: &mut Buffers, queue: &mut Queue) -> Result<bool, BuffersExhausted> {
    let Some(mut first) = queue.pop(buffers.pieces()) else { return Ok(false) };
    let Some(mut second) = queue.pop(buffers.pieces()) else {
        queue.push_front(buffers.pieces(), first);
        return Ok(false);
    };
    let needed = first.len() + second.len();
    if first.spare() < second.len()
        && let Some(mut large) = buffers.take_large()
        && large.spare() >= needed
    {
        let copied = large.append(first.bytes());
        debug_assert_eq!(copied, first.len());
        first = large;
    }
    let copied = first.append(second.bytes());
    second.advance(copied);
    let stuck = copied == 0;
    queue.push_front(buffers.pieces(), second);
    queue.push_front(buffers.pieces(), first);
    if stuck { Err(BuffersExhausted) } else { Ok(true) }
}
