//! Owns what can cut a job short: its timeout, GitLab's wishes, the end of the task.

use std::future::pending;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::gitlab::{FailureReason, Outcome};

use super::durations::format_duration;
use super::trace::Wish;

/// Why a job ends before it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// The task is being stopped.
    Interrupted,
    /// GitLab has ended the job.
    Over,
    /// It ran longer than it may.
    TimedOut,
    /// Somebody cancelled it.
    Cancelled,
}

/// Whatever can cut a job short.
#[derive(Clone, Debug)]
pub(super) struct Signals {
    /// What GitLab wants.
    pub wish: watch::Receiver<Wish>,
    /// SIGTERM has come.
    pub interrupted: watch::Receiver<bool>,
    /// When the job's time is over.
    pub deadline: Instant,
}

impl Signals {
    /// Waits for something that ends the job at once; a cancel does so only before the script.
    pub(super) async fn cut(&self, cancel_counts: bool) -> Cut {
        let mut interrupted = self.interrupted.clone();
        let (mut over, mut cancelled) = (self.wish.clone(), self.wish.clone());
        tokio::select! {
            biased;
            () = reached(&mut interrupted, |interrupted| *interrupted) => Cut::Interrupted,
            () = reached(&mut over, |wish| *wish == Wish::Stop) => Cut::Over,
            () = sleep_until(self.deadline) => Cut::TimedOut,
            () = reached(&mut cancelled, |wish| *wish >= Wish::Cancel), if cancel_counts => Cut::Cancelled,
        }
    }
}

impl Cut {
    /// How the job ends; `timeout` is the job's.
    pub(super) fn outcome(self, timeout: Duration) -> Outcome {
        match self {
            Cut::Interrupted => Outcome::failed(
                FailureReason::RunnerInterrupted,
                "the task was stopped before the job ended: its machine was taken back, or somebody stopped it",
            ),
            // GitLab knows better by now; this is for the one reason that a runner may not say.
            Cut::Over | Cut::Cancelled => Outcome::failed(FailureReason::UnknownFailure, "canceled"),
            Cut::TimedOut => Outcome::failed(
                FailureReason::JobExecutionTimeout,
                format!("execution took longer than {} seconds", format_duration(timeout)),
            ),
        }
    }
}

/// Waits for a state; for ever if nobody is left who could change it.
async fn reached<T>(value: &mut watch::Receiver<T>, state: impl FnMut(&T) -> bool) {
    if value.wait_for(state).await.is_err() {
        pending().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signals(deadline: Duration) -> (watch::Sender<Wish>, watch::Sender<bool>, Signals) {
        let ((wish, wishes), (stop, stopped)) = (watch::channel(Wish::GoOn), watch::channel(false));
        (wish, stop, Signals { wish: wishes, interrupted: stopped, deadline: Instant::now() + deadline })
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn the_hardest_cut_counts() {
        let (wish, stop, signals) = signals(Duration::ZERO);
        assert_eq!(signals.cut(true).await, Cut::TimedOut);
        wish.send_replace(Wish::Cancel);
        assert_eq!(signals.cut(true).await, Cut::TimedOut);
        wish.send_replace(Wish::Stop);
        assert_eq!(signals.cut(false).await, Cut::Over);
        stop.send_replace(true);
        assert_eq!(signals.cut(false).await, Cut::Interrupted);
    }

    #[tokio::test]
    async fn a_cancel_counts_where_it_may() {
        let (wish, stop, signals) = signals(HOUR);
        let script = tokio::spawn({
            let signals = signals.clone();
            async move { signals.cut(false).await }
        });
        wish.send_replace(Wish::Cancel);
        assert_eq!(signals.cut(true).await, Cut::Cancelled);
        stop.send_replace(true);
        assert_eq!(script.await.unwrap(), Cut::Interrupted);
    }

    #[tokio::test]
    async fn a_trace_that_has_ended_cuts_nothing() {
        let (wish, stop, signals) = signals(HOUR);
        drop(wish);
        stop.send_replace(true);
        assert_eq!(signals.cut(true).await, Cut::Interrupted);
    }

    #[test]
    fn a_timeout_is_told_in_gitlab_runners_words() {
        let Outcome::Failed { reason, message, .. } = Cut::TimedOut.outcome(Duration::from_secs(3600)) else {
            panic!()
        };
        assert_eq!(reason, FailureReason::JobExecutionTimeout);
        assert_eq!(message, "execution took longer than 1h0m0s seconds");
    }
}
