//! Reads from the task metadata endpoint every few seconds what the task uses, until the endpoint does not answer.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::usage::Usage;
use crate::agent::metadata::{self, Task};

/// Between two samples while the job is young, so that short jobs have some, and later.
const YOUNG: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(1));
const PAUSE: Duration = Duration::from_secs(5);
/// After this many requests in a row without an answer the sampler ends.
const FAILURES: u32 = 3;

/// A sampler at work; it ends when it is dropped.
pub(in crate::agent) struct Sampler {
    began: Instant,
    seen: Arc<Mutex<Seen>>,
    work: JoinHandle<()>,
}

/// What the endpoint has answered.
#[derive(Clone, Debug, Default)]
pub(in crate::agent) struct Seen {
    pub(super) usage: Usage,
    pub(super) task: Option<Task>,
}

impl Sampler {
    /// Takes the first sample at once.
    pub(in crate::agent) fn start() -> Self {
        let (began, seen) = (Instant::now(), Arc::new(Mutex::default()));
        let work = tokio::spawn(work(began, Arc::clone(&seen)));
        Sampler { began, seen, work }
    }

    /// Takes a last sample, unless the endpoint does not answer.
    pub(in crate::agent) async fn finish(self) -> Seen {
        let gave_up = self.work.is_finished();
        self.work.abort();
        if !gave_up {
            sample(self.began, &self.seen).await;
        }
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.work.abort();
    }
}

async fn work(began: Instant, seen: Arc<Mutex<Seen>>) {
    let mut failures = 0;
    while failures < FAILURES {
        failures = if sample(began, &seen).await { 0 } else { failures + 1 };
        let (young, pause) = YOUNG;
        sleep(if began.elapsed() < young { pause } else { PAUSE }).await;
    }
}

async fn sample(began: Instant, seen: &Mutex<Seen>) -> bool {
    let Some(task) = metadata::task().await else { return false };
    let Some(used) = metadata::used(&task).await else { return false };
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    seen.usage.add(began.elapsed(), &used, task.disk_mib());
    seen.task = Some(task);
    true
}
