//! Owns the lock around the state and tells whoever waits that something changed.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::state::State;
use crate::sandbox::clock::Clock;

/// What all parts of one GitLab share.
pub(super) struct Shared {
    pub clock: Clock,
    pub files: TempDir,
    pub http: reqwest::Client,
    pub runtime: tokio::runtime::Handle,
    pub stop: CancellationToken,
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

impl Shared {
    pub fn new(state: State, files: TempDir, http: reqwest::Client) -> Arc<Self> {
        Arc::new(Shared {
            clock: state.clock.clone(),
            files,
            http,
            runtime: tokio::runtime::Handle::current(),
            stop: CancellationToken::new(),
            state: Mutex::new(state),
            changed: watch::Sender::new(()),
        })
    }

    /// Looks at the state.
    pub fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the state and wakes who waits for it.
    pub fn change<T>(self: &Arc<Self>, change: impl FnOnce(&mut State) -> T) -> T {
        let (value, ended, scheduled) = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let value = change(&mut state);
            (value, std::mem::take(&mut state.ended), std::mem::take(&mut state.scheduled))
        };
        self.changed.send_replace(());
        for (job, at) in scheduled {
            self.start_at(job, at);
        }
        for pipeline in ended {
            let shared = Arc::clone(self);
            self.runtime.spawn_blocking(move || {
                if let Err(error) = shared.keep_pipeline_ref(pipeline) {
                    tracing::warn!(pipeline.id = pipeline, "the ref of pipeline {pipeline} stays: {error}");
                }
            });
        }
        value
    }

    /// Starts a delayed job when its time has come, unless somebody was faster.
    fn start_at(self: &Arc<Self>, job: u64, at: Timestamp) {
        let shared = Arc::clone(self);
        self.runtime.spawn(self.stop.clone().run_until_cancelled_owned(async move {
            shared.clock.sleep_until(at).await;
            shared.change(|state| state.start_scheduled(job));
        }));
    }

    /// Returns once the state satisfies `wanted`.
    pub async fn until(&self, wanted: impl Fn(&State) -> bool) {
        let mut changed = self.changed.subscribe();
        while !self.read(&wanted) {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }
}
