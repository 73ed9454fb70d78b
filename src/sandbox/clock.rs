//! Owns the sandbox's clock: real time plus an offset that only grows.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tokio::time::Instant;

/// The time that every server of one sandbox agrees on.
///
/// It runs with the machine's clock until somebody [advances](Clock::advance) it; whoever sleeps on it wakes up then.
#[derive(Clone, Debug)]
pub struct Clock {
    ahead_ms: Arc<AtomicI64>,
    moved: watch::Sender<()>,
    /// Where it runs with tokio's clock: when it began.
    began: Option<(Timestamp, Instant)>,
}

impl Default for Clock {
    fn default() -> Self {
        Clock { ahead_ms: Arc::default(), moved: watch::Sender::new(()), began: None }
    }
}

impl Clock {
    /// A clock that runs with tokio's, which a simulation pauses.
    pub fn of_tokio() -> Clock {
        Clock { began: Some((Timestamp::now(), Instant::now())), ..Clock::default() }
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        let now = match self.began {
            Some((timestamp, instant)) => timestamp + instant.elapsed(),
            None => Timestamp::now(),
        };
        now + SignedDuration::from_millis(self.ahead_ms.load(Ordering::SeqCst))
    }

    /// Moves the clock forward and wakes all sleepers to look at it again.
    pub fn advance(&self, by: Duration) {
        let ms = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.ahead_ms.fetch_add(ms, Ordering::SeqCst);
        self.moved.send_replace(());
    }

    /// Returns once the clock shows `deadline` or later.
    pub async fn sleep_until(&self, deadline: Timestamp) {
        let mut moved = self.moved.subscribe();
        loop {
            let left = deadline.duration_since(self.now());
            let Ok(left) = Duration::try_from(left) else { return };
            if left.is_zero() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(left) => {}
                _ = moved.changed() => {}
            }
        }
    }

    /// Returns after `delay` on this clock.
    pub async fn sleep(&self, delay: Duration) {
        let delay = SignedDuration::try_from(delay).unwrap_or(SignedDuration::MAX);
        self.sleep_until(self.now().saturating_add(delay).unwrap_or(Timestamp::MAX)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sleeper_wakes_when_the_clock_is_moved_past_its_deadline() {
        let clock = Clock::default();
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep(Duration::from_secs(3600)).await }
        });
        tokio::task::yield_now().await;

        clock.advance(Duration::from_secs(3601));

        tokio::time::timeout(Duration::from_secs(5), sleeper).await.expect("it woke up").expect("it did not panic");
    }
}
