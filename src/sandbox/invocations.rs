//! Runs invocations of one function as Lambda does: each for itself, and each can die at any moment.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::AbortHandle;

/// The running invocations of one function; clones share them.
#[derive(Clone, Default)]
pub(super) struct Invocations {
    running: Arc<Mutex<Running>>,
}

#[derive(Default)]
struct Running {
    next: u64,
    handles: HashMap<u64, AbortHandle>,
}

impl Invocations {
    /// Runs `invocation` to its end; `None` if it was killed.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        invocation: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let task = tokio::spawn(invocation);
        let id = {
            let mut running = self.lock();
            running.next += 1;
            let id = running.next;
            running.handles.insert(id, task.abort_handle());
            id
        };
        let result = task.await;
        self.lock().handles.remove(&id);
        result.ok()
    }

    /// Kills all that run: they stop where they wait, and nothing after it happens.
    pub(super) fn kill(&self) {
        for (_, handle) in self.lock().handles.drain() {
            handle.abort();
        }
    }

    /// How many run.
    pub(super) fn running(&self) -> usize {
        self.lock().handles.len()
    }

    fn lock(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
