//! How often task definitions are registered: AWS allows 20 at once and then one a second (aws.md §1.4).

use tokio::time::Instant;

/// One less than AWS allows, and as much slower: other functions and the console register, too.
const BURST: f64 = 19.0;
const PER_SECOND: f64 = 0.95;

/// A token bucket of registrations, for one function.
#[derive(Debug, Default)]
pub(super) struct Registrations(Option<(f64, Instant)>);

impl Registrations {
    /// Takes one registration; false if none is left.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let left = match self.0 {
            None => BURST,
            Some((left, at)) => (left + now.duration_since(at).as_secs_f64() * PER_SECOND).min(BURST),
        };
        let is_left = left >= 1.0;
        self.0 = Some((if is_left { left - 1.0 } else { left }, now));
        is_left
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn nineteen_at_once_and_then_almost_one_a_second() {
        let (mut registrations, start) = (Registrations::default(), Instant::now());
        assert_eq!((0..40).filter(|_| registrations.take(start)).count(), 19);
        assert!(!registrations.take(start + Duration::from_secs(1)));
        let later = (0..40).filter(|i| registrations.take(start + Duration::from_secs(2 + i))).count();
        assert!((36..40).contains(&later), "{later}");
    }
}
