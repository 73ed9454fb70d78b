//! Owns what the dispatcher is told. Nothing here is secret, and nothing is believed: every event is a hint.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::ledger::{JobKey, StoppedTask, read_event};

/// A message to the dispatcher.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// Look now: a job may wait.
    Knock {
        /// `X-Gitlab-Instance`: which runners to ask; all without it.
        instance: Option<String>,
        /// The jobs that a hook named as waiting.
        #[serde(default)]
        jobs: Vec<u64>,
    },
    /// Poll one runner again.
    #[serde(alias = "look")]
    Poll {
        /// Its name in the fleet.
        runner: String,
        /// How often it was polled in vain for the same knock.
        in_vain: u8,
    },
    /// A minute has passed.
    Tick,
    /// Jobs wait whose time has come.
    Wake,
    /// See to these live jobs.
    Reconcile {
        /// The jobs.
        jobs: Vec<JobKey>,
    },
    /// A task has stopped.
    Stopped(StoppedTask),
    /// A hook said that a job has ended.
    Finished {
        /// `X-Gitlab-Instance`.
        instance: Option<String>,
        /// The job.
        job: u64,
    },
    /// A minute ago a hook said that this job has ended: its task must be gone.
    CheckFinished {
        /// The job.
        job: JobKey,
    },
    /// A hook said that a runner has claimed a job.
    Running {
        /// `X-Gitlab-Instance`.
        instance: Option<String>,
        /// The job.
        job: u64,
        /// GitLab's id of the runner.
        runner: u64,
    },
    /// A minute ago a hook said that a runner of ours has claimed this job: we must know it.
    CheckClaim {
        /// The job.
        job: JobKey,
    },
    /// See to one live job.
    Drive {
        /// The job.
        job: JobKey,
    },
}

/// A chain of messages of which none led to a claim or a launch ends after so many. Lambda's own stop of recursive loops
/// is off: it would count those that do.
pub const MOST_HOPS: u8 = 20;

/// An event in the queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// What the dispatcher is told.
    #[serde(flatten)]
    pub event: Event,
    /// How many messages led to this one since a hook, a tick, a claim or a launch.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub hops: u8,
}

impl Message {
    /// An event that nothing led to.
    pub fn new(event: Event) -> Message {
        Message { event, hops: 0 }
    }

    /// Reads a message of the queue: one of ours, or an event of ECS; `None` for what we do not know or need.
    pub fn read(body: &str) -> Option<Message> {
        if let Ok(message) = serde_json::from_str(body) {
            return Some(message);
        }
        read_event(&serde_json::from_str(body).ok()?).map(Event::Stopped).map(Message::new)
    }
}

/// A message to send, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Later {
    /// The message.
    pub message: Message,
    /// Not before this has passed; at most 15 minutes (SQS).
    pub delay: Duration,
    /// A job was claimed meanwhile, so a new chain begins.
    pub begins_chain: bool,
}

impl Later {
    /// `event`, after `seconds`.
    pub fn new(event: Event, seconds: u64) -> Self {
        Later::after(event, Duration::from_secs(seconds))
    }

    /// `event`, after `delay`.
    pub fn after(event: Event, delay: Duration) -> Self {
        Later { message: Message::new(event), delay, begins_chain: false }
    }

    /// The same message as the next after one of `hops`; `None` at the end of a chain.
    pub(super) fn behind(mut self, hops: u8) -> Option<Later> {
        if self.begins_chain {
            return Some(self);
        }
        self.message.hops = hops.saturating_add(1);
        if self.message.hops > MOST_HOPS {
            warn!(event = ?self.message.event, "a chain of {MOST_HOPS} messages led to nothing: the next tick goes on");
            return None;
        }
        Some(self)
    }
}

fn is_zero(hops: &u8) -> bool {
    *hops == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_message_is_ours_or_an_event_of_ecs_or_nothing() {
        let stopped = |status: &str| {
            json!({"detail-type": "ECS Task State Change", "detail": {"taskArn": "arn", "lastStatus": status}})
                .to_string()
        };
        let read = |body: &str| Message::read(body).map(|message| (message.event, message.hops));
        assert_eq!(read(r#"{"event": "tick"}"#), Some((Event::Tick, 0)));
        assert_eq!(read(r#"{"event": "tick", "hops": 7}"#), Some((Event::Tick, 7)));
        assert!(matches!(read(&stopped("STOPPED")), Some((Event::Stopped(task), 0)) if task.task == "arn"));
        assert_eq!(read(&stopped("RUNNING")), None);
        assert_eq!(read("{}"), None);
        assert_eq!(read("not JSON"), None);
    }

    #[test]
    fn a_chain_ends_after_twenty_hops() {
        let next = |hops| Later::new(Event::Tick, 0).behind(hops).map(|later| later.message.hops);
        assert_eq!((next(0), next(19), next(20), next(255)), (Some(1), Some(20), None, None));
        let text = serde_json::to_string(&Message { event: Event::Tick, hops: 3 }).unwrap();
        assert_eq!(Message::read(&text), Some(Message { event: Event::Tick, hops: 3 }));
    }
}
