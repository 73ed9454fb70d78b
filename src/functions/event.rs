//! Owns what the dispatcher is told. Nothing here is secret, and nothing is believed: every event is a hint.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ledger::{JobKey, StoppedTask, read_event};

/// A message to the dispatcher.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// Look now: a job may wait.
    Knock {
        /// `X-Gitlab-Instance`: which runners to ask; all without it.
        instance: Option<String>,
        /// The job that a hook named.
        job: Option<u64>,
    },
    /// Look at one runner again.
    Look {
        /// Its name in the fleet.
        runner: String,
        /// How often it was looked at in vain before.
        in_vain: u8,
    },
    /// A minute has passed.
    Tick,
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
    /// Bring this job a step on.
    Drive {
        /// The job.
        job: JobKey,
    },
}

impl Event {
    /// Reads a message of the queue: one of ours, or an event of ECS; `None` for what we do not know or need.
    pub fn read(body: &str) -> Option<Event> {
        if let Ok(event) = serde_json::from_str(body) {
            return Some(event);
        }
        read_event(&serde_json::from_str(body).ok()?).map(Event::Stopped)
    }
}

/// A message to send, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Later {
    /// The message.
    pub event: Event,
    /// Not before this has passed; at most 15 minutes (SQS).
    pub delay: Duration,
}

impl Later {
    /// `event`, after `seconds`.
    pub fn new(event: Event, seconds: u64) -> Self {
        Later { event, delay: Duration::from_secs(seconds) }
    }
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
        assert_eq!(Event::read(r#"{"event": "tick"}"#), Some(Event::Tick));
        assert!(matches!(Event::read(&stopped("STOPPED")), Some(Event::Stopped(task)) if task.task == "arn"));
        assert_eq!(Event::read(&stopped("RUNNING")), None);
        assert_eq!(Event::read("{}"), None);
        assert_eq!(Event::read("not JSON"), None);
    }
}
