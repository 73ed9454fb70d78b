//! Owns the one policy by which requests to GitLab are repeated (runner-behaviour.md §7.5).

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use jiff::Timestamp;

/// Whether an answer says "not now" and not "no".
pub fn is_transient(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504) || status.as_u16() >= 512
}

/// How long the server asks us to wait: `RateLimit-ResetTime`, else `Retry-After` in seconds.
pub fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(reset) = text("ratelimit-resettime") {
        let at = jiff::fmt::rfc2822::parse(reset).ok()?.timestamp();
        return Some(Duration::try_from(at.duration_since(now)).unwrap_or_default());
    }
    text("retry-after")?.trim().parse().ok().map(Duration::from_secs)
}

/// Growing pauses with jitter between tries.
#[derive(Clone, Debug)]
pub struct Backoff {
    next: Duration,
    longest: Duration,
    tries_left: u32,
}

impl Backoff {
    /// GitLab Runner's policy for one request: 5 tries, 100 ms doubling up to 60 s.
    pub fn request() -> Self {
        Backoff { next: Duration::from_millis(100), longest: Duration::from_secs(60), tries_left: 4 }
    }

    /// `tries` tries in all, pauses from `first` doubling up to `longest`.
    pub fn new(tries: u32, first: Duration, longest: Duration) -> Self {
        Backoff { next: first, longest, tries_left: tries.saturating_sub(1) }
    }

    /// The pause before the next try, at least what the server asked for; `None` when the tries are used up.
    pub fn pause(&mut self, server_asks: Option<Duration>) -> Option<Duration> {
        self.tries_left = self.tries_left.checked_sub(1)?;
        let pause = jittered(self.next);
        self.next = (self.next * 2).min(self.longest);
        Some(server_asks.map_or(pause, |asked| asked.min(self.longest).max(pause)))
    }
}

/// Between half and all of `pause`: callers that failed together do not come back together.
fn jittered(pause: Duration) -> Duration {
    let random = uuid::Uuid::new_v4().as_bytes()[0];
    pause / 2 + pause.mul_f64(f64::from(random) / 512.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_end() {
        let mut backoff = Backoff::new(4, Duration::from_secs(1), Duration::from_secs(2));
        let pauses: Vec<_> = std::iter::from_fn(|| backoff.pause(None)).collect();
        assert_eq!(pauses.len(), 3);
        for (pause, longest) in pauses.iter().zip([1, 2, 2]) {
            assert!(*pause <= Duration::from_secs(longest) && *pause >= Duration::from_secs(longest) / 2, "{pause:?}");
        }
    }

    #[test]
    fn the_server_may_ask_for_more_but_not_for_longer_than_the_longest() {
        let mut backoff = Backoff::new(9, Duration::from_millis(1), Duration::from_secs(60));
        assert_eq!(backoff.pause(Some(Duration::from_secs(5))), Some(Duration::from_secs(5)));
        assert_eq!(backoff.pause(Some(Duration::from_secs(3600))), Some(Duration::from_secs(60)));
    }

    #[test]
    fn the_reset_time_counts_before_retry_after() {
        let now: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("retry-after", "7".parse().unwrap());
        assert_eq!(retry_after(&headers, now), Some(Duration::from_secs(7)));
        headers.insert("ratelimit-resettime", "Sat, 21 Nov 2026 10:00:30 GMT".parse().unwrap());
        assert_eq!(retry_after(&headers, now), Some(Duration::from_secs(30)));
    }
}
