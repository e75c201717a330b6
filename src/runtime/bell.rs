//! Wakes the control thread for what a worker has seen and cannot decide. It is rung rarely, and says that there is something to look
//! at, not what.

use std::sync::Arc;

use tokio::sync::Notify;

/// Rung by any thread, heard by one. Rings that nobody has heard yet count as one.
#[derive(Clone, Debug, Default)]
pub struct Bell(Arc<Notify>);

impl Bell {
    /// Wakes the thread that hears it, now or when it listens next.
    pub fn ring(&self) {
        self.0.notify_one();
    }

    /// Waits until it was rung since the last time. Cancel-safe.
    pub async fn heard(&self) {
        self.0.notified().await;
    }
}
