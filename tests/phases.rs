//! The ledger's phases under any interleaving of two dispatchers, a broker and settle: compare-and-swap, as in S3.

use jiff::Timestamp;
use mayfly::gitlab::{FailureReason, Outcome};
use mayfly::ledger::{JobKey, LaunchState, Phase, Record};
use mayfly::plan::Plan;
use proptest::prelude::*;
use serde_json::json;

/// What one of them may do with the record that he has read.
#[derive(Clone, Copy, Debug)]
enum Step {
    Plan,
    Launch,
    Started,
    Refused { capacity: bool },
    Open { nonce: u8, attempt_behind: u32 },
    TaskStoppedUnopened,
    Decide,
    Place,
    Settle,
}

/// Reads, or writes what came of a step on what was read.
#[derive(Clone, Copy, Debug)]
enum Move {
    Read,
    Write(Step),
}

/// Two dispatchers, a broker, and settle.
const ACTORS: usize = 4;

/// Only the dispatchers plan and launch, only the broker opens, only settle settles.
fn step_of(actor: usize) -> BoxedStrategy<Step> {
    match actor {
        0 | 1 => prop_oneof![
            3 => Just(Step::Plan),
            4 => Just(Step::Launch),
            4 => Just(Step::Started),
            2 => any::<bool>().prop_map(|capacity| Step::Refused { capacity }),
        ]
        .boxed(),
        2 => (0u8..2, 0u32..2).prop_map(|(nonce, attempt_behind)| Step::Open { nonce, attempt_behind }).boxed(),
        _ => prop_oneof![
            3 => Just(Step::TaskStoppedUnopened),
            1 => Just(Step::Decide),
            1 => Just(Step::Place),
            1 => Just(Step::Settle),
        ]
        .boxed(),
    }
}

fn moves() -> impl Strategy<Value = Vec<(usize, Move)>> {
    let one = (0..ACTORS).prop_flat_map(|actor| {
        let action = prop_oneof![2 => Just(Move::Read), 3 => step_of(actor).prop_map(Move::Write)];
        (Just(actor), action)
    });
    proptest::collection::vec(one, 1..120)
}

fn plan() -> Plan {
    serde_json::from_value(json!({
        "size": {"cpu_units": 1024, "memory_mib": 2048}, "disk_gib": null, "arch": "amd64", "spot": false,
        "memory": {"helper_mib": 256, "build_mib": 1792, "service_mib": 256, "service_is_limit": false},
        "build": {"image": "a", "user": null, "credentials": null}, "services": [], "words": [],
    }))
    .expect("a plan")
}

fn apply(record: &mut Record, step: Step) -> bool {
    let number = record.attempt.as_ref().map_or(0, |attempt| attempt.number);
    match step {
        Step::Plan => record.plan(plan(), "planned\n").is_ok(),
        Step::Launch => match record.next_attempt() {
            Some(next) => record.launch(next, json!({"attempt": next}), Timestamp::UNIX_EPOCH).is_ok(),
            None => false,
        },
        Step::Started => record.started(number, &format!("task-{number}")).is_ok(),
        Step::Refused { capacity } => record.over(number, "no".into(), capacity, "waiting\n").is_ok(),
        Step::TaskStoppedUnopened => {
            record.started(number, &format!("task-{number}")).is_ok()
                && record.over(number, "stopped".into(), false, "again\n").is_ok()
        }
        Step::Open { nonce, attempt_behind } => {
            record.open(number.saturating_sub(attempt_behind), &format!("nonce-{nonce}")).is_ok()
        }
        Step::Decide => record.decide(Outcome::failed(FailureReason::RunnerSystemFailure, "no"), "no\n".into()).is_ok(),
        Step::Place => {
            record.place_decision(7);
            true
        }
        Step::Settle => {
            record.settle();
            true
        }
    }
}

fn attempt(record: &Record) -> u32 {
    record.attempt.as_ref().map_or(0, |attempt| attempt.number)
}

fn check(before: &Record, after: &Record) -> Result<(), TestCaseError> {
    prop_assert!(after.phase >= before.phase, "{:?} after {:?}", after.phase, before.phase);
    prop_assert!(attempt(after) == attempt(before) || attempt(after) == attempt(before) + 1);
    prop_assert!(after.tasks_started >= before.tasks_started && after.tasks_started <= attempt(after));
    prop_assert!(after.trace.starts_with(&before.trace), "the trace only grows");
    if let Some(by) = &before.opened_by {
        prop_assert_eq!(after.opened_by.as_ref(), Some(by), "opened once, by one");
        prop_assert_eq!(attempt(after), attempt(before), "never launched again once opened");
        prop_assert_eq!(&after.trace, &before.trace, "the dispatcher's part is complete once a helper has it");
    }
    if let Some(decision) = &before.decision {
        let now = after.decision.as_ref();
        prop_assert_eq!(now.map(|d| (&d.outcome, &d.text)), Some((&decision.outcome, &decision.text)), "decided once");
        prop_assert!(decision.offset.is_none() || now.and_then(|d| d.offset) == decision.offset, "placed once");
        prop_assert_eq!(attempt(after), attempt(before), "never launched again once decided");
        prop_assert!(after.opened_by == before.opened_by, "never opened once decided");
    }
    // A new attempt only after a definitive answer to the one before.
    if attempt(after) > attempt(before) && attempt(before) > 0 {
        let over = matches!(before.attempt.as_ref().map(|a| &a.state), Some(LaunchState::Over { .. }));
        prop_assert!(over, "launched again after {:?}", before.attempt);
    }
    if before.phase == Phase::Settled {
        prop_assert!(after.opened_by == before.opened_by && attempt(after) == attempt(before));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn phases_only_move_forward_whoever_comes_between(moves in moves()) {
        let job = JobKey { host: "gitlab.test".into(), id: 1 };
        let mut stored = (Record::claimed(job, "one", "https://gitlab.test", "short".into(), Timestamp::UNIX_EPOCH, 3600), 0u32);
        let mut read = vec![stored.clone(); ACTORS];
        for (who, action) in moves {
            match action {
                Move::Read => read[who] = stored.clone(),
                Move::Write(step) => {
                    let (mut record, version) = read[who].clone();
                    // A step that the phase refuses is not written; a write on an old version is lost.
                    if apply(&mut record, step) && version == stored.1 {
                        check(&stored.0, &record)?;
                        stored = (record, version + 1);
                        read[who] = stored.clone();
                    }
                }
            }
        }
    }
}
