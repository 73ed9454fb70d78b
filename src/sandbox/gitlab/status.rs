//! Owns the statuses of jobs, and the one status that many of them make together.

/// The job statuses that this GitLab uses (gitlab-protocol.md §1.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Status {
    Created,
    WaitingForResource,
    Pending,
    Running,
    Canceling,
    Manual,
    Scheduled,
    Success,
    Failed,
    Canceled,
    Skipped,
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Created => "created",
            Status::WaitingForResource => "waiting_for_resource",
            Status::Pending => "pending",
            Status::Running => "running",
            Status::Canceling => "canceling",
            Status::Manual => "manual",
            Status::Scheduled => "scheduled",
            Status::Success => "success",
            Status::Failed => "failed",
            Status::Canceled => "canceled",
            Status::Skipped => "skipped",
        }
    }

    /// A runner works on it: its token opens doors.
    pub fn is_executing(self) -> bool {
        matches!(self, Status::Running | Status::Canceling)
    }

    pub fn is_final(self) -> bool {
        matches!(self, Status::Success | Status::Failed | Status::Canceled | Status::Skipped)
    }

    /// Canceling the pipeline ends it; what only waits for a person stays.
    pub fn ends_with_its_pipeline(self) -> bool {
        !self.is_final() && !matches!(self, Status::Canceling | Status::Manual)
    }
}

/// Whether a pipeline with this status is over.
pub(super) fn is_final(status: &str) -> bool {
    matches!(status, "success" | "failed" | "canceled" | "skipped")
}

/// Which statuses some jobs have, as GitLab's `Ci::Status::Composite` tells them apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Statuses(u16);

/// A failure or a cancel that is allowed.
const WARNED: u16 = 1 << 14;
/// A manual job that nobody has to start.
const IGNORED: u16 = 1 << 15;

impl Statuses {
    /// Counts one more job in.
    pub fn add(&mut self, status: Status, may_fail: bool) {
        self.0 |= match status {
            Status::Failed | Status::Canceled if may_fail => WARNED,
            Status::Manual if may_fail => IGNORED,
            status => bit(status),
        };
    }

    /// Whether some job failed and was allowed to.
    pub fn has_warnings(self) -> bool {
        self.0 & WARNED != 0
    }

    /// The status of a pipeline, or of all that comes before a stage; `None` of no jobs.
    pub fn together(self) -> Option<&'static str> {
        use Status::{
            Canceled, Canceling, Created, Manual, Pending, Running, Scheduled, Skipped, Success, WaitingForResource,
        };
        let only = |wanted: &[Status], more: u16| self.0 & !(bits(wanted) | more) == 0;
        let any = |wanted: &[Status]| self.0 & bits(wanted) != 0;
        match () {
            () if self.0 == 0 => None,
            () if only(&[Skipped], IGNORED) => Some("skipped"),
            () if only(&[Success, Skipped], WARNED | IGNORED) => Some("success"),
            () if only(&[Created], WARNED | IGNORED) => Some("created"),
            () if only(&[Canceled, Success, Skipped], WARNED | IGNORED) => Some("canceled"),
            () if only(&[Pending, Created, Skipped], WARNED | IGNORED) => Some("pending"),
            () if any(&[Running, Pending]) => Some("running"),
            () if any(&[WaitingForResource]) => Some("waiting_for_resource"),
            () if any(&[Manual]) => Some("manual"),
            () if any(&[Scheduled]) => Some("scheduled"),
            () if any(&[Created]) => Some("running"),
            () if any(&[Canceling]) => Some("canceling"),
            () => Some("failed"),
        }
    }

    /// The status of what a job with `needs` waits for: one that does not run skips it, one that is not over holds it.
    pub fn of_needs(self) -> Option<&'static str> {
        let over = bits(&[Status::Success, Status::Failed, Status::Canceled]) | WARNED;
        match () {
            () if self.0 & (bit(Status::Skipped) | IGNORED) != 0 => Some("skipped"),
            () if self.0 & !over != 0 => Some("pending"),
            () => self.together(),
        }
    }
}

fn bit(status: Status) -> u16 {
    1 << status as u16
}

fn bits(statuses: &[Status]) -> u16 {
    statuses.iter().fold(0, |bits, status| bits | bit(*status))
}

#[cfg(test)]
mod tests {
    use super::Status::*;
    use super::*;

    fn of(jobs: &[(Status, bool)]) -> Statuses {
        let mut statuses = Statuses::default();
        jobs.iter().for_each(|(status, may_fail)| statuses.add(*status, *may_fail));
        statuses
    }

    #[test]
    fn a_pipeline_takes_its_status_from_its_jobs() {
        let table: &[(&[(Status, bool)], &str)] = &[
            (&[(Created, false)], "created"),
            (&[(Pending, false), (Created, false)], "pending"),
            (&[(Success, false), (Created, false)], "running"),
            (&[(Running, false), (Failed, false)], "running"),
            (&[(Success, false), (Failed, true)], "success"),
            (&[(Failed, false), (Skipped, false)], "failed"),
            (&[(Canceled, false), (Skipped, false)], "canceled"),
            (&[(Canceling, false), (Success, false)], "canceling"),
            (&[(Success, false), (Manual, true)], "success"),
            (&[(Manual, true)], "skipped"),
            (&[(Success, false), (Manual, false), (Created, false)], "manual"),
            (&[(Running, false), (Manual, false)], "running"),
            (&[(Success, false), (Scheduled, false)], "scheduled"),
            (&[(Manual, false), (Scheduled, false)], "manual"),
            (&[(Success, false), (WaitingForResource, false)], "waiting_for_resource"),
            (&[(WaitingForResource, false), (Pending, false)], "running"),
        ];
        for (jobs, status) in table {
            assert_eq!(of(jobs).together(), Some(*status), "{jobs:?}");
        }
        assert_eq!(of(&[]).together(), None);
        assert!(of(&[(Failed, true)]).has_warnings());
    }

    #[test]
    fn a_job_with_needs_waits_until_each_of_them_is_over() {
        assert_eq!(of(&[(Success, false), (Running, false)]).of_needs(), Some("pending"));
        assert_eq!(of(&[(Failed, false), (Created, false)]).of_needs(), Some("pending"));
        assert_eq!(of(&[(Success, false), (Failed, true)]).of_needs(), Some("success"));
        assert_eq!(of(&[(Success, false), (Failed, false)]).of_needs(), Some("failed"));
        assert_eq!(of(&[(Success, false), (Skipped, false)]).of_needs(), Some("skipped"));
        assert_eq!(of(&[(Manual, true)]).of_needs(), Some("skipped"));
        assert_eq!(of(&[(Manual, false)]).of_needs(), Some("pending"));
        assert_eq!(of(&[]).of_needs(), None);
    }
}
