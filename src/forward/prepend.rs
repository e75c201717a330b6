//! Puts a written head in front of the bytes that follow it. Not here: what is in the head.

use crate::buffer::{Buffers, Lease, Queue};
use crate::limits;

/// No buffer of the worker is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuffersExhausted;

/// Queues `head` and then `body`, in one piece if possible: the head is written in front of the body, to the body's buffer (where the
/// received head was), or a short body is copied behind the head.
///
/// # Errors
/// When a buffer is needed and none is free; then nothing is queued.
pub fn prepend_head(
    buffers: &mut Buffers,
    out: &mut Queue,
    head: &[u8],
    mut body: Option<Lease>,
) -> Result<(), BuffersExhausted> {
    if let Some(body) = body.take_if(|body| body.prepend(head)) {
        out.push(buffers.pieces(), body);
        return Ok(());
    }
    let mut placed = Queue::default();
    let mut rest = head;
    while !rest.is_empty() {
        let Some(mut lease) = buffers.take() else {
            placed.clear(buffers.pieces());
            return Err(BuffersExhausted);
        };
        rest = &rest[lease.append(rest)..];
        if let Some(short) = body.take_if(|body| rest.is_empty() && body.len() <= coalesced(&lease)) {
            let copied = lease.append(short.bytes());
            debug_assert_eq!(copied, short.len());
        }
        placed.push(buffers.pieces(), lease);
    }
    if let Some(body) = body {
        placed.push(buffers.pieces(), body);
    }
    out.append(buffers.pieces(), &mut placed);
    Ok(())
}

/// Longest body that is copied behind a head in `lease`, bytes.
fn coalesced(lease: &Lease) -> usize {
    limits::COALESCE_BYTES.min(lease.spare())
}
