//! Decides what a live job needs: pure, from its record and from what ECS answers about its task.

use jiff::{SignedDuration, Timestamp};

use crate::launch::Described;
use crate::ledger::{LaunchState, Phase, Record};
use crate::settle::{Settlement, settle, settle_missing};

/// A task that ECS does not list counts as missing only then: right after `RunTask` it may not be listed yet.
const MISSING_AFTER: SignedDuration = SignedDuration::from_mins(10);
/// A job that was opened is stopped this long after its timeout; its helper should have ended it.
const OVERDUE_AFTER: SignedDuration = SignedDuration::from_mins(10);

/// What a live job needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ReconcileStep {
    /// GitLab has its outcome: delete what only a live job needs.
    Forget,
    /// Its outcome is decided and must be reported.
    Report,
    /// Its task has stopped or is gone.
    Settle(Settlement),
    /// It runs far beyond its timeout.
    StopOverdue,
    /// Its timeout is over, and no helper has begun.
    FailUnstarted,
    /// It has no helper: GitLab must hear that it is alive, and says whether it was canceled. Without a task it needs a
    /// launch.
    KeepAlive {
        /// It has no task.
        launch: bool,
    },
    /// Nothing: its helper is at work.
    Nothing,
}

/// Whether a job must be brought to a launch, or its last launch be repeated.
pub(super) fn needs_launch(record: &Record) -> bool {
    let has_task = matches!(&record.attempt, Some(attempt) if matches!(attempt.state, LaunchState::Started { .. }));
    record.decision.is_none() && matches!(record.phase, Phase::Planned | Phase::Launching) && !has_task
}

/// Decides what the job with this record needs; `described` is ECS's answer about its task, where it was asked.
pub(super) fn reconcile_step(record: &Record, described: Option<&Described>, now: Timestamp) -> ReconcileStep {
    if record.phase == Phase::Settled {
        return ReconcileStep::Forget;
    }
    if record.decision.is_some() {
        return ReconcileStep::Report;
    }
    let is_late = now >= record.deadline();
    if needs_launch(record) {
        return if is_late { ReconcileStep::FailUnstarted } else { ReconcileStep::KeepAlive { launch: true } };
    }
    let Some(attempt) = &record.attempt else { return ReconcileStep::Nothing };
    match (described, record.phase) {
        (Some(Described::Stopped(stopped)), _) => ReconcileStep::Settle(settle(record, attempt.number, stopped, now)),
        (Some(Described::Missing), _) if now >= attempt.at + MISSING_AFTER => {
            ReconcileStep::Settle(settle_missing(record, now))
        }
        (Some(Described::Live), Phase::Opened) if now >= record.deadline() + OVERDUE_AFTER => {
            ReconcileStep::StopOverdue
        }
        (Some(Described::Live), Phase::Launching) if is_late => ReconcileStep::FailUnstarted,
        (_, Phase::Launching) => ReconcileStep::KeepAlive { launch: false },
        _ => ReconcileStep::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gitlab::{FailureReason, Outcome};
    use crate::ledger::{Attempt, JobKey, StoppedTask};
    use serde_json::json;

    fn now() -> Timestamp {
        "2026-12-01T10:00:00Z".parse().unwrap()
    }

    fn record(phase: Phase, state: Option<LaunchState>) -> Record {
        let job = JobKey { host: "gitlab.test".into(), id: 1 };
        let mut record = Record::claimed(job, "one", "https://gitlab.test", String::new(), now(), 3600);
        record.phase = phase;
        record.attempt = state.map(|state| Attempt { number: 1, run_task: json!({}), at: now(), state });
        record
    }

    fn task() -> Option<LaunchState> {
        Some(LaunchState::Started { task: "arn".into() })
    }

    #[test]
    fn each_state_of_a_live_job_needs_one_step() {
        let over = || Some(LaunchState::Over { reason: "none".into(), capacity: true });
        let (soon, late, very_late) = (
            now() + SignedDuration::from_mins(1),
            now() + SignedDuration::from_hours(1),
            now() + SignedDuration::from_hours(2),
        );
        let alive = |launch| ReconcileStep::KeepAlive { launch };
        for (phase, state, described, at, step) in [
            (Phase::Settled, task(), Some(Described::Live), soon, ReconcileStep::Forget),
            (Phase::Planned, None, None, soon, alive(true)),
            (Phase::Planned, None, None, late, ReconcileStep::FailUnstarted),
            (Phase::Launching, Some(LaunchState::Unknown), None, soon, alive(true)),
            (Phase::Launching, over(), None, soon, alive(true)),
            (Phase::Launching, over(), None, late, ReconcileStep::FailUnstarted),
            (Phase::Launching, task(), Some(Described::Live), soon, alive(false)),
            (Phase::Launching, task(), None, soon, alive(false)),
            (Phase::Launching, task(), Some(Described::Missing), soon, alive(false)),
            (Phase::Launching, task(), Some(Described::Live), late, ReconcileStep::FailUnstarted),
            (Phase::Opened, task(), Some(Described::Live), late, ReconcileStep::Nothing),
            (Phase::Opened, task(), Some(Described::Live), very_late, ReconcileStep::StopOverdue),
            (Phase::Opened, task(), Some(Described::Missing), soon, ReconcileStep::Nothing),
            (Phase::Opened, task(), None, soon, ReconcileStep::Nothing),
        ] {
            let record = record(phase, state);
            assert_eq!(reconcile_step(&record, described.as_ref(), at), step, "{phase:?} {described:?} {at}");
        }
    }

    #[test]
    fn a_stopped_or_missing_task_is_settled_and_a_decided_job_is_reported() {
        let mut opened = record(Phase::Opened, task());
        let stopped = Described::Stopped(StoppedTask::default());
        assert!(matches!(reconcile_step(&opened, Some(&stopped), now()), ReconcileStep::Settle(_)));
        let later = now() + SignedDuration::from_mins(10);
        assert!(matches!(reconcile_step(&opened, Some(&Described::Missing), later), ReconcileStep::Settle(_)));
        opened.decide(Outcome::failed(FailureReason::ScriptFailure, "x"), String::new()).unwrap();
        assert_eq!(reconcile_step(&opened, Some(&stopped), now()), ReconcileStep::Report);
    }
}
