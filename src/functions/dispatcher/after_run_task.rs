//! Decides what follows the answer to a `RunTask`.

use std::time::Duration;

use crate::launch::{Launched, RefusalKind};

/// After so many refusals that are not about capacity the job fails.
const MOST_REFUSALS: u32 = 3;

/// What follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum AfterRunTask {
    /// The task runs: note its ARN.
    Started { task: String },
    /// The same call again as soon as ECS takes calls.
    Throttled,
    /// The same call again after this time: nobody knows whether there is a task.
    AskAgain { after: Duration, reason: String },
    /// The next attempt, on-demand at once: there is no spot capacity.
    OnDemand { reason: String },
    /// The next attempt, when there is room.
    WaitForRoom { reason: String, kind: RefusalKind },
    /// The next attempt after this time.
    TryAgain { after: Duration, reason: String },
    /// The job fails.
    Report { reason: String },
}

/// Decides for one attempt: whether it asked for spot capacity, and how many refusals the job had before.
pub(super) fn after_run_task(answer: Launched, spot: bool, refusals: u32) -> AfterRunTask {
    match answer {
        Launched::Started { task } => AfterRunTask::Started { task },
        Launched::Throttled => AfterRunTask::Throttled,
        Launched::Unknown { reason } => AfterRunTask::AskAgain { after: Duration::from_secs(2), reason },
        Launched::Refused { reason, kind: RefusalKind::Other } if refusals + 1 < MOST_REFUSALS => {
            AfterRunTask::TryAgain { after: Duration::from_secs(5), reason }
        }
        Launched::Refused { reason, kind: RefusalKind::Other } => AfterRunTask::Report { reason },
        Launched::Refused { reason, .. } if spot => AfterRunTask::OnDemand { reason },
        Launched::Refused { reason, kind } => AfterRunTask::WaitForRoom { reason, kind },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_has_one_consequence() {
        let refused = |kind| Launched::Refused { reason: "r".into(), kind };
        let reason = || "r".to_owned();
        for (answer, spot, refusals, after) in [
            (Launched::Started { task: "t".into() }, true, 0, AfterRunTask::Started { task: "t".into() }),
            (Launched::Throttled, false, 0, AfterRunTask::Throttled),
            (
                Launched::Unknown { reason: reason() },
                false,
                9,
                AfterRunTask::AskAgain { after: Duration::from_secs(2), reason: reason() },
            ),
            (refused(RefusalKind::Capacity), true, 0, AfterRunTask::OnDemand { reason: reason() }),
            (refused(RefusalKind::VcpuQuota), true, 0, AfterRunTask::OnDemand { reason: reason() }),
            (
                refused(RefusalKind::Capacity),
                false,
                9,
                AfterRunTask::WaitForRoom { reason: reason(), kind: RefusalKind::Capacity },
            ),
            (
                refused(RefusalKind::VcpuQuota),
                false,
                0,
                AfterRunTask::WaitForRoom { reason: reason(), kind: RefusalKind::VcpuQuota },
            ),
            (
                refused(RefusalKind::Other),
                false,
                1,
                AfterRunTask::TryAgain { after: Duration::from_secs(5), reason: reason() },
            ),
            (refused(RefusalKind::Other), true, 2, AfterRunTask::Report { reason: reason() }),
        ] {
            assert_eq!(after_run_task(answer.clone(), spot, refusals), after, "{answer:?} {spot} {refusals}");
        }
    }
}
