//! The stuck-job workers of GitLab, at the clock's now (gitlab-protocol.md §9.1, §9.2; E20).

use std::time::Duration;

use super::faults::later;
use super::state::{Job, State};
use super::status::Status;

const HOUR: Duration = Duration::from_secs(3600);
const HALF_HOUR: Duration = Duration::from_secs(1800);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// What the server adds to a job's timeout before it ends the job itself.
const TIMEOUT_BUFFER: Duration = Duration::from_secs(15 * 60);

impl State {
    /// Drops every job that GitLab would give up now.
    pub fn sweep(&mut self) {
        let stuck: Vec<(u64, &'static str)> =
            self.jobs.values().filter_map(|job| Some((job.id, self.given_up(job)?))).collect();
        for (id, reason) in stuck {
            self.drop_job(id, reason);
        }
    }

    fn given_up(&self, job: &Job) -> Option<&'static str> {
        let now = self.clock.now();
        let silent = |limit: Duration| now >= later(job.updated_at, limit);
        let running_limit = if self.lower_stuck_timeouts { HALF_HOUR } else { HOUR };
        let overdue = job.started_at.is_some_and(|at| now >= later(at, job.timeout.saturating_add(TIMEOUT_BUFFER)));
        match job.status {
            Status::Pending if silent(DAY) => Some("stuck_pending_with_matching_runners"),
            Status::Pending
                if job.queued_at.is_some_and(|at| now >= later(at, HOUR)) && !self.has_online_runner(job) =>
            {
                Some("stuck_pending_no_matching_runners")
            }
            Status::Running if overdue => Some("server_timeout_running"),
            Status::Running if silent(running_limit) => Some("no_updates_running"),
            Status::Canceling if overdue => Some("server_timeout_canceling"),
            Status::Canceling if silent(HALF_HOUR) => Some("no_updates_canceling"),
            _ => None,
        }
    }

    fn has_online_runner(&self, job: &Job) -> bool {
        self.runners.iter().any(|runner| !runner.spec.paused && self.is_online(runner) && self.fits(runner, job))
    }
}
