//! Decides what a stopped task means for its job.

use jiff::Timestamp;

use crate::gitlab::{FailureReason, Outcome};
use crate::ledger::{Phase, Record, StoppedTask};

use super::cause::{Cause, cause};

/// What to do about a stopped task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// It is not (or no longer) the record's current task.
    NotCurrent,
    /// GitLab knows already; only the record is to be settled.
    AlreadySaid,
    /// Launch the job again, and say why in its trace.
    Relaunch {
        /// The sentence.
        why: String,
    },
    /// Say this outcome.
    Say(Outcome),
}

/// So many tasks are started for one job at most.
pub const MOST_TASKS: u32 = 3;

/// Decides what the stop of attempt `attempt` means for the job with this record.
pub fn settle(record: &Record, attempt: u32, stopped: &StoppedTask, now: Timestamp) -> Settlement {
    let current = record.attempt.as_ref().is_some_and(|current| current.number == attempt);
    if !current {
        return Settlement::NotCurrent;
    }
    match record.phase {
        // The helper ends so only after GitLab's 200 to the final update, or after GitLab said that the job is over.
        Phase::Opened if helper_exit_code(stopped) == Some(0) => Settlement::AlreadySaid,
        Phase::Opened => Settlement::Say(failed(cause(stopped, record.plan.as_ref()))),
        Phase::Launching => not_opened(record, cause(stopped, record.plan.as_ref()), now),
        Phase::Settled => Settlement::AlreadySaid,
        Phase::Claimed | Phase::Planned => Settlement::NotCurrent,
    }
}

/// Decides what it means that ECS has not known the record's current task for long.
pub fn settle_missing(record: &Record, now: Timestamp) -> Settlement {
    let message = "ECS no longer has the task, and did not report how it ended: retry the job".to_owned();
    let cause = Cause { reason: FailureReason::RunnerSystemFailure, transient: true, message };
    match record.phase {
        Phase::Opened => Settlement::Say(failed(cause)),
        Phase::Launching => not_opened(record, cause, now),
        Phase::Settled => Settlement::AlreadySaid,
        Phase::Claimed | Phase::Planned => Settlement::NotCurrent,
    }
}

fn not_opened(record: &Record, cause: Cause, now: Timestamp) -> Settlement {
    if cause.transient && record.tasks_started < MOST_TASKS && now < record.deadline() {
        return Settlement::Relaunch { why: cause.message };
    }
    Settlement::Say(failed(cause))
}

fn failed(cause: Cause) -> Outcome {
    Outcome::failed(cause.reason, cause.message)
}

fn helper_exit_code(stopped: &StoppedTask) -> Option<i32> {
    stopped.container("helper")?.exit_code
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::JobKey;
    use crate::ledger::StoppedContainer;
    use serde_json::json;

    fn record(phase: Phase, tasks_started: u32) -> Record {
        let job = JobKey { host: "gitlab.test".into(), id: 1 };
        let mut record = Record::claimed(job, "one", "https://gitlab.test", String::new(), now(), 3600);
        record.phase = phase;
        record.tasks_started = tasks_started;
        record.attempt = serde_json::from_value(json!({
            "number": 2, "run_task": {}, "at": now(), "state": {"is": "started", "task": "arn"},
        }))
        .unwrap();
        record
    }

    fn now() -> Timestamp {
        "2026-11-21T10:00:00Z".parse().unwrap()
    }

    fn exited(code: i32) -> StoppedTask {
        let helper = StoppedContainer { name: "helper".into(), exit_code: Some(code), reason: None };
        StoppedTask { containers: vec![helper], ..StoppedTask::default() }
    }

    #[test]
    fn a_stop_means_what_the_record_makes_of_it() {
        let said = |settlement: &Settlement| matches!(settlement, Settlement::Say(_));
        let again = |settlement: &Settlement| matches!(settlement, Settlement::Relaunch { .. });
        let early = settle(&record(Phase::Launching, 1), 2, &exited(137), now());
        assert!(again(&early), "{early:?}");
        assert!(said(&settle(&record(Phase::Launching, 3), 2, &exited(137), now())));
        let late = now() + jiff::SignedDuration::from_hours(2);
        assert!(said(&settle(&record(Phase::Launching, 1), 2, &exited(137), late)));
        assert!(said(&settle(&record(Phase::Opened, 1), 2, &exited(137), now())));
        assert_eq!(settle(&record(Phase::Opened, 1), 2, &exited(0), now()), Settlement::AlreadySaid);
        assert_eq!(settle(&record(Phase::Settled, 1), 2, &exited(137), now()), Settlement::AlreadySaid);
        assert_eq!(settle(&record(Phase::Opened, 1), 1, &exited(137), now()), Settlement::NotCurrent);
        assert!(again(&settle_missing(&record(Phase::Launching, 1), now())));
        assert!(said(&settle_missing(&record(Phase::Opened, 1), now())));
    }
}
