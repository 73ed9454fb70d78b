//! How many jobs may be claimed: a claimed job shows as running in GitLab and uses up its timeout, so claims are
//! bounded by what can be launched.

use crate::ledger::LaunchQuota;

/// Jobs may be claimed for so many seconds of launches.
const SECONDS_OF_LAUNCHES: f64 = 2.0;
/// The window begins with this; each launch adds one, a throttle halves it.
const FIRST_WINDOW: f64 = 10.0;
/// So many jobs in a row that capacity holds back end a poll: the next ones would wait, too.
const HELD_IN_A_ROW: u32 = 5;

/// How many jobs may be claimed and have no task yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    size: f64,
    held_in_a_row: u32,
}

/// What counts against the window when one runner wants to claim.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Unlaunched {
    /// Jobs that are ready for their launch.
    pub(super) ready: usize,
    /// Jobs of the same GitLab that are being planned, and its claims that are not answered yet. Those of a slow GitLab
    /// do not count against another's runners.
    pub(super) under_way: usize,
}

impl Window {
    pub(super) fn new() -> Window {
        Window { size: FIRST_WINDOW, held_in_a_row: 0 }
    }

    /// How many claims a runner may make now, if `wave` are wanted and its limit leaves `room`.
    pub(super) fn claims(
        &self,
        wave: usize,
        is_first: bool,
        unlaunched: Unlaunched,
        room: usize,
        per_second: f64,
        capacity_is_held: bool,
    ) -> usize {
        if self.held_in_a_row >= HELD_IN_A_ROW {
            return 0;
        }
        let most = self.size.min(per_second * SECONDS_OF_LAUNCHES).max(1.0) as usize;
        let wave = if capacity_is_held || is_first { 1 } else { wave };
        // One claim finds out whether there is anything: claims of other runners do not delay it.
        let taken = if is_first { unlaunched.ready } else { unlaunched.ready + unlaunched.under_way };
        wave.min(most.saturating_sub(taken)).min(room)
    }

    /// A task was launched.
    pub(super) fn launched(&mut self, quota: LaunchQuota) {
        self.size = (self.size + 1.0).min((quota.per_second * SECONDS_OF_LAUNCHES).max(FIRST_WINDOW));
        self.held_in_a_row = 0;
    }

    /// ECS throttled a launch.
    pub(super) fn throttled(&mut self) {
        self.size = (self.size / 2.0).max(1.0);
    }

    /// A job was claimed that capacity holds back.
    pub(super) fn held(&mut self) {
        self.held_in_a_row += 1;
    }

    /// A task has stopped.
    pub(super) fn room_again(&mut self) {
        self.held_in_a_row = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGE: LaunchQuota = LaunchQuota { burst: 100.0, per_second: 20.0 };

    fn waiting(ready: usize, under_way: usize) -> Unlaunched {
        Unlaunched { ready, under_way }
    }

    #[test]
    fn claims_are_bounded_by_two_seconds_of_launches_and_by_the_window() {
        let window = Window::new();
        assert_eq!(window.claims(32, false, waiting(0, 0), usize::MAX, 20.0, false), 10);
        assert_eq!(window.claims(32, false, waiting(4, 3), usize::MAX, 20.0, false), 3);
        assert_eq!(window.claims(32, false, waiting(0, 0), usize::MAX, 2.0, false), 4);
        assert_eq!(window.claims(32, false, waiting(0, 0), 2, 20.0, false), 2);
        let mut grown = window;
        (0..100).for_each(|_| grown.launched(LARGE));
        assert_eq!(grown.claims(32, false, waiting(0, 0), usize::MAX, 20.0, false), 32);
        assert_eq!(grown.claims(32, false, waiting(30, 0), usize::MAX, 20.0, false), 10);
    }

    #[test]
    fn one_claim_is_possible_at_the_lowest_rate_and_none_while_a_job_waits_there() {
        let mut window = Window::new();
        (0..9).for_each(|_| window.throttled());
        assert_eq!(window.claims(1, true, waiting(0, 0), usize::MAX, 0.1, false), 1);
        assert_eq!(window.claims(1, true, waiting(1, 0), usize::MAX, 0.1, false), 0);
    }

    #[test]
    fn the_first_claim_of_a_runner_does_not_wait_for_claims_of_others() {
        let window = Window::new();
        assert_eq!(window.claims(1, true, waiting(0, 10), usize::MAX, 20.0, false), 1);
        assert_eq!(window.claims(2, false, waiting(0, 10), usize::MAX, 20.0, false), 0);
    }

    #[test]
    fn without_capacity_jobs_are_claimed_one_at_a_time_and_five_that_wait_are_enough() {
        let mut window = Window::new();
        assert_eq!(window.claims(8, false, waiting(1, 0), usize::MAX, 20.0, true), 1);
        (0..5).for_each(|_| window.held());
        assert_eq!(window.claims(8, false, waiting(5, 0), usize::MAX, 20.0, true), 0);
        window.room_again();
        assert_eq!(window.claims(8, false, waiting(5, 0), usize::MAX, 20.0, true), 1);
    }
}
