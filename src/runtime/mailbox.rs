//! One update from the control thread to a worker; a newer one replaces it.

use std::sync::Arc;

use crossbeam::queue::ArrayQueue;

/// A slot that holds the latest value sent and not yet taken.
#[derive(Debug)]
pub struct Mailbox<T>(Arc<ArrayQueue<T>>);

impl<T> Clone for Mailbox<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Mailbox<T> {
    fn default() -> Self {
        Self(Arc::new(ArrayQueue::new(1)))
    }
}

impl<T> Mailbox<T> {
    /// Stores an update and returns the one that it replaces.
    pub fn store(&self, update: T) -> Option<T> {
        self.0.force_push(update)
    }

    /// Takes the stored update.
    #[must_use]
    pub fn take(&self) -> Option<T> {
        self.0.pop()
    }
}
