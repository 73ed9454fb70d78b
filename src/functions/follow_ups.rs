//! Sends messages to the dispatcher's own queue as soon as they arise.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::BoxFuture;
use tracing::error;

use super::Later;

/// Puts a message on the dispatcher's queue.
pub type SendLater = Arc<dyn Fn(Later) -> BoxFuture<'static, Result<(), anyhow::Error>> + Send + Sync>;

/// The messages that one batch of messages leads to.
pub(super) struct FollowUps<'a> {
    send: &'a SendLater,
    failed: AtomicBool,
}

impl<'a> FollowUps<'a> {
    pub(super) fn new(send: &'a SendLater) -> Self {
        FollowUps { send, failed: AtomicBool::new(false) }
    }

    /// Sends `later` as the next message of a chain that has `hops` messages.
    pub(super) async fn send(&self, later: Later, hops: u8) {
        let Some(later) = later.behind(hops) else { return };
        if let Err(error) = (self.send)(later).await {
            error!(error = %error, "a follow-up message could not be sent; the messages before it come again");
            self.failed.store(true, Ordering::SeqCst);
        }
    }

    /// Whether a message could not be sent.
    pub(super) fn have_failed(&self) -> bool {
        self.failed.load(Ordering::SeqCst)
    }
}
