//! The phases of a job: which there are, and who may make which step.
//!
//! ```text
//!            dispatcher      dispatcher         broker            dispatcher
//!  (claim) ─▶ claimed ─▶ planned ─▶ launching(n) ─▶ opened ─▶ settled
//!                 │          │         │   ▲ │         │          ▲
//!                 │          │         └───┘ │         │          │
//!                 └──────────┴───────────────┴─────────┴──────────┘  once decided and said
//! ```
//!
//! `launching(n)` becomes `launching(n+1)` only after a definitive answer to attempt n. Nothing is launched again once
//! the ticket was opened or the outcome decided.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use crate::gitlab::{DEFAULT_TIMEOUT_SECONDS, Outcome};
use crate::plan::Plan;

use super::{JobKey, StoppedTask};

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Ours, and nothing decided.
    Claimed,
    /// We know which task it needs.
    Planned,
    /// A `RunTask` was or is about to be sent.
    Launching,
    /// A helper has the claim.
    Opened,
    /// GitLab knows how it ended.
    Settled,
}

/// The format of the records that this version writes.
pub const RECORD_VERSION: u32 = 1;

/// What we know about a claimed job.
///
/// Records of earlier and later versions are read as well: fields that are missing have a default, unknown ones are left
/// out. While a stack is upgraded, both versions of the functions work on the same records.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The format, counted from 1; 0 for records that were written before there was a version.
    #[serde(default)]
    pub version: u32,
    /// The job.
    pub job: JobKey,
    /// The runner that claimed it, by its name in the fleet.
    #[serde(default)]
    pub runner: String,
    /// The base URL of its GitLab: the job can be ended even when the runner has left the fleet.
    pub gitlab: String,
    /// The short form of its token, which is part of the cache keys.
    #[serde(default)]
    pub short_token: String,
    /// When GitLab gave it to us; its timeout runs since then.
    pub claimed_at: Timestamp,
    /// How long it may run, in seconds since the claim.
    #[serde(default = "default_timeout")]
    pub timeout_seconds: u64,
    /// How far it is.
    pub phase: Phase,
    /// From `planned` on.
    pub plan: Option<Plan>,
    /// The current launch, from `launching` on.
    pub attempt: Option<Attempt>,
    /// How many tasks were really started for it.
    #[serde(default)]
    pub tasks_started: u32,
    /// How many launches AWS refused for another reason than capacity.
    #[serde(default)]
    pub refusals: u32,
    /// Hash of the nonce that opened the ticket.
    pub opened_by: Option<String>,
    /// What the dispatcher writes to the trace; GitLab never gets a byte of it that is not here.
    #[serde(default)]
    pub trace: String,
    /// How the last task stopped, as far as we heard.
    #[serde(default)]
    pub stopped: Option<StoppedTask>,
    /// The outcome that we must say, because no helper can.
    pub decision: Option<Decision>,
}

/// One launch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// From 1.
    pub number: u32,
    /// The literal `RunTask` input; replayed as it stands.
    pub run_task: Value,
    /// When it was first about to be sent.
    pub at: Timestamp,
    /// What came of it.
    pub state: LaunchState,
}

/// What came of a `RunTask`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum LaunchState {
    /// No definitive answer yet: only this same input may be sent again.
    Unknown,
    /// There is a task.
    Started {
        /// Its ARN.
        task: String,
    },
    /// Definitively no task, or one that stopped before anybody opened the ticket: the next attempt may come.
    Over {
        /// Why.
        reason: String,
        /// It was for want of capacity: waiting helps.
        capacity: bool,
    },
}

/// An outcome that we say ourselves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// The outcome.
    pub outcome: Outcome,
    /// The trace's last bytes, with their framing.
    pub text: String,
    /// Where they belong, once GitLab has told how much trace it has.
    pub offset: Option<u64>,
}

/// A step that this phase does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the record is {0:?}, and that does not come after it")]
pub struct WrongPhase(pub Phase);

/// Why a ticket is not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum OpenRefused {
    /// Another nonce has opened it. Somebody holds a ticket that is not his: an alarm.
    #[error("the ticket was opened before, by another")]
    OpenedByAnother,
    /// It is a ticket of an earlier or later launch.
    #[error("the ticket is of another launch")]
    OtherAttempt,
    /// The job is over or about to be.
    #[error("the job has ended")]
    Ended,
    /// Nothing was launched for this job.
    #[error("the job has not been launched")]
    NotLaunched,
}

impl Record {
    /// The record of a job that was just claimed.
    pub fn claimed(
        job: JobKey,
        runner: &str,
        gitlab: &str,
        short_token: String,
        claimed_at: Timestamp,
        timeout_seconds: u64,
    ) -> Record {
        Record {
            version: RECORD_VERSION,
            job,
            runner: runner.to_owned(),
            gitlab: gitlab.to_owned(),
            short_token,
            claimed_at,
            timeout_seconds,
            phase: Phase::Claimed,
            plan: None,
            attempt: None,
            tasks_started: 0,
            refusals: 0,
            opened_by: None,
            trace: String::new(),
            stopped: None,
            decision: None,
        }
    }

    /// Dispatcher: the job's task is planned, and `words` are for its trace.
    ///
    /// # Errors
    /// When it is not `claimed`.
    pub fn plan(&mut self, plan: Plan, words: &str) -> Result<(), WrongPhase> {
        self.allow(self.phase == Phase::Claimed)?;
        self.phase = Phase::Planned;
        self.plan = Some(plan);
        self.trace.push_str(words);
        Ok(())
    }

    /// The number that the next attempt would have; `None` while none may be made.
    pub fn next_attempt(&self) -> Option<u32> {
        if self.decision.is_some() {
            return None;
        }
        match (self.phase, &self.attempt) {
            (Phase::Planned, _) => Some(1),
            (Phase::Launching, Some(Attempt { number, state: LaunchState::Over { .. }, .. })) => Some(number + 1),
            _ => None,
        }
    }

    /// Dispatcher: `run_task` is about to be sent as attempt `number`.
    ///
    /// # Errors
    /// When another attempt than [`next_attempt`](Self::next_attempt) is meant.
    pub fn launch(&mut self, number: u32, run_task: Value, now: Timestamp) -> Result<(), WrongPhase> {
        self.allow(self.next_attempt() == Some(number))?;
        self.phase = Phase::Launching;
        self.attempt = Some(Attempt { number, run_task, at: now, state: LaunchState::Unknown });
        Ok(())
    }

    /// Dispatcher: attempt `number` has started `task`. Said again it changes nothing.
    ///
    /// # Errors
    /// When `number` is not the current attempt, or it is over.
    pub fn started(&mut self, number: u32, task: &str) -> Result<(), WrongPhase> {
        let phase = self.phase;
        let attempt = self.current(number)?;
        match &attempt.state {
            LaunchState::Unknown => {
                attempt.state = LaunchState::Started { task: task.to_owned() };
                self.tasks_started += 1;
                Ok(())
            }
            LaunchState::Started { task: known } if known == task => Ok(()),
            _ => Err(WrongPhase(phase)),
        }
    }

    /// Dispatcher: attempt `number` brought no task, or one that stopped before its ticket was opened.
    ///
    /// # Errors
    /// When it was opened after all, or is not the current attempt.
    pub fn over(&mut self, number: u32, reason: String, capacity: bool, words: &str) -> Result<(), WrongPhase> {
        self.allow(self.phase == Phase::Launching)?;
        let attempt = self.current(number)?;
        if !matches!(attempt.state, LaunchState::Over { .. }) {
            let refused = attempt.state == LaunchState::Unknown && !capacity;
            attempt.state = LaunchState::Over { reason, capacity };
            self.refusals += u32::from(refused);
            self.trace.push_str(words);
        }
        Ok(())
    }

    /// Dispatcher: `words` are for the trace of a job that waits.
    ///
    /// # Errors
    /// When a helper writes the trace, or the outcome is decided.
    pub fn add_to_trace(&mut self, words: &str) -> Result<(), WrongPhase> {
        self.allow(self.phase < Phase::Opened && self.decision.is_none())?;
        self.trace.push_str(words);
        Ok(())
    }

    /// Broker: a helper with the ticket of attempt `number` and a nonce of this hash asks for the claim.
    ///
    /// Asked again with the same nonce it is the same answer. This is the one moment after which nothing is launched.
    ///
    /// # Errors
    /// See [`OpenRefused`].
    pub fn open(&mut self, number: u32, nonce_hash: &str) -> Result<(), OpenRefused> {
        if self.phase == Phase::Settled || self.decision.is_some() {
            return Err(OpenRefused::Ended);
        }
        let Some(attempt) = &self.attempt else { return Err(OpenRefused::NotLaunched) };
        if attempt.number != number || matches!(attempt.state, LaunchState::Over { .. }) {
            return Err(OpenRefused::OtherAttempt);
        }
        match &self.opened_by {
            Some(by) if by == nonce_hash => Ok(()),
            Some(_) => Err(OpenRefused::OpenedByAnother),
            None => {
                self.phase = Phase::Opened;
                self.opened_by = Some(nonce_hash.to_owned());
                Ok(())
            }
        }
    }

    /// Dispatcher: this is how the job ends, and we must say it. The first decision stays.
    ///
    /// Until a helper has the trace the text simply becomes its end; behind a helper its place must be asked for.
    ///
    /// # Errors
    /// When GitLab knows the end already.
    pub fn decide(&mut self, outcome: Outcome, text: String) -> Result<(), WrongPhase> {
        self.allow(self.phase != Phase::Settled)?;
        if self.decision.is_none() {
            let offset = (self.phase != Phase::Opened).then_some(self.trace.len() as u64);
            self.decision = Some(Decision { outcome, text, offset });
        }
        Ok(())
    }

    /// Dispatcher: the decided text belongs at `offset`. The first answer stays.
    pub fn place_decision(&mut self, offset: u64) {
        if let Some(decision) = &mut self.decision {
            decision.offset.get_or_insert(offset);
        }
    }

    /// Dispatcher: GitLab knows how the job ended. Said again it changes nothing.
    pub fn settle(&mut self) {
        self.phase = Phase::Settled;
    }

    /// The current task, if there is one.
    pub fn task(&self) -> Option<&str> {
        match &self.attempt.as_ref()?.state {
            LaunchState::Started { task } => Some(task),
            _ => None,
        }
    }

    /// When the job's time is over.
    pub fn deadline(&self) -> Timestamp {
        let seconds = i64::try_from(self.timeout_seconds).unwrap_or(i64::MAX / 2).min(366 * 86_400);
        self.claimed_at + jiff::SignedDuration::from_secs(seconds)
    }

    fn current(&mut self, number: u32) -> Result<&mut Attempt, WrongPhase> {
        let phase = self.phase;
        self.attempt.as_mut().filter(|attempt| attempt.number == number).ok_or(WrongPhase(phase))
    }

    fn allow(&self, allowed: bool) -> Result<(), WrongPhase> {
        if allowed { Ok(()) } else { Err(WrongPhase(self.phase)) }
    }
}

fn default_timeout() -> u64 {
    DEFAULT_TIMEOUT_SECONDS
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A record as version 1 writes it: its text is fixed here, for later versions have to read it.
    fn version_1() -> Value {
        json!({
            "version": 1, "job": {"host": "gitlab.test", "id": 7}, "runner": "main", "gitlab": "https://gitlab.test/",
            "short_token": "abc", "claimed_at": "2026-12-01T10:00:00Z", "timeout_seconds": 3600, "phase": "opened",
            "plan": {
                "size": {"cpu_units": 1024, "memory_mib": 2048}, "disk_gib": null, "arch": "amd64", "spot": false,
                "memory": {"helper_mib": 256, "build_mib": 1792, "service_mib": 256, "service_is_limit": false},
                "build": {"image": "alpine:3", "user": null, "credentials": null, "entrypoint": null, "is_default": false},
                "services": [
                    {"image": "redis:8", "user": null, "credentials": null, "entrypoint": [], "command": ["redis"]}
                ],
                "service_logs": false, "words": ["1 vCPU"]
            },
            "attempt": {
                "number": 2, "run_task": {"cluster": "ci"}, "at": "2026-12-01T10:00:01Z",
                "state": {"is": "started", "task": "arn:task"}
            },
            "tasks_started": 1, "refusals": 1, "opened_by": "nonce", "trace": "Running\n",
            "stopped": {"task": "arn:task", "started_by": "mayfly/1/7/2", "stop_code": null, "stopped_reason": "",
                        "containers": [{"name": "build", "exit_code": 1, "reason": null}]},
            "decision": {
                "outcome": {"state": "failed", "reason": "script_failure", "exit_code": 1, "message": "exit code 1"},
                "text": "ERROR\n", "offset": 8
            }
        })
    }

    #[test]
    fn a_record_of_version_1_is_read_and_written_as_it_stands() {
        let record: Record = serde_json::from_value(version_1()).unwrap();
        assert_eq!(serde_json::to_value(&record).unwrap(), version_1());
        assert_eq!((record.task(), record.version), (Some("arn:task"), RECORD_VERSION));
    }

    #[test]
    fn unknown_fields_are_left_out_and_missing_ones_have_a_default() {
        let mut later = version_1();
        for place in ["", "/job", "/plan", "/plan/build", "/attempt", "/attempt/state", "/stopped", "/decision/outcome"]
        {
            later.pointer_mut(place).unwrap()["of_a_later_version"] = json!({"x": 1});
        }
        later["version"] = json!(2);
        let record: Record = serde_json::from_value(later).unwrap();
        assert_eq!((record.runner.as_str(), record.tasks_started), ("main", 1));

        let least = json!({
            "job": {"host": "gitlab.test", "id": 7}, "gitlab": "https://gitlab.test/",
            "claimed_at": "2026-12-01T10:00:00Z", "phase": "claimed"
        });
        let record: Record = serde_json::from_value(least).unwrap();
        assert_eq!((record.version, record.timeout_seconds, record.plan, record.decision), (0, 7200, None, None));
    }
}
