//! Mayfly as it would be deployed: queue, minute tick, ECS' events, and the three functions, which can be killed.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;

use crate::functions::{Dispatcher, Event, Message as DispatcherMessage};
use crate::ledger::Ledger;

use super::clock::Clock;
use super::invocations::Invocations;
use super::queue::{Message, Queue};

/// Messages in one invocation of the dispatcher.
const BATCH: usize = 10;
/// An invocation of the dispatcher may take so long.
const TIMEOUT: Duration = Duration::from_secs(300);

/// The deployed functions; clones share them.
#[derive(Clone)]
pub struct Deployment {
    pub(super) clock: Clock,
    pub(super) queue: Queue,
    pub(super) dispatcher: Dispatcher,
    pub(super) dispatcher_invocations: Invocations,
    pub(super) broker_invocations: Invocations,
    pub(super) webhook_url: String,
    pub(super) broker_url: String,
}

impl Deployment {
    /// Where hooks go.
    pub fn webhook_url(&self) -> &str {
        &self.webhook_url
    }

    /// Where helpers go.
    pub fn broker_url(&self) -> &str {
        &self.broker_url
    }

    /// The queue.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// The ledger, to look at.
    pub fn ledger(&self) -> &Ledger {
        &self.dispatcher.ledger
    }

    /// A minute has passed.
    pub fn tick(&self) {
        self.send(&DispatcherMessage::new(Event::Tick), Duration::ZERO);
    }

    /// Kills the dispatcher where it stands; its messages come again after their visibility timeout.
    pub fn kill_dispatcher(&self) {
        self.dispatcher_invocations.kill();
    }

    /// Kills the broker where it stands.
    pub fn kill_broker(&self) {
        self.broker_invocations.kill();
    }

    /// Invocations that run.
    pub fn running(&self) -> usize {
        self.dispatcher_invocations.running() + self.broker_invocations.running()
    }

    pub(super) fn send(&self, message: &DispatcherMessage, delay: Duration) {
        self.queue.send(serde_json::to_string(message).expect("messages are plain data"), delay);
    }

    /// Feeds the dispatcher from the queue until `stop`, in at most `at_once` invocations at one time.
    pub(super) fn run(&self, at_once: usize, mut ecs_events: UnboundedReceiver<Value>, stop: CancellationToken) {
        for _ in 0..at_once {
            let deployment = self.clone();
            tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
                loop {
                    let batch = deployment.queue.receive(BATCH).await;
                    deployment.invoke(batch).await;
                }
            }));
        }
        let deployment = self.clone();
        tokio::spawn(stop.run_until_cancelled_owned(async move {
            while let Some(event) = ecs_events.recv().await {
                // As the rule of a deployment: only tasks that have stopped (aws.md §3).
                if event["detail"]["lastStatus"] == "STOPPED" {
                    deployment.queue.send(event.to_string(), Duration::ZERO);
                }
            }
        }));
    }

    /// Ticks once a minute on the clock until `stop`.
    pub(super) fn tick_every_minute(&self, stop: CancellationToken) {
        let deployment = self.clone();
        tokio::spawn(stop.run_until_cancelled_owned(async move {
            loop {
                deployment.clock.sleep(Duration::from_secs(60)).await;
                deployment.tick();
            }
        }));
    }

    /// One invocation with partial failures, as the event source mapping does it.
    async fn invoke(&self, batch: Vec<Message>) {
        let (mut ids, mut events) = (Vec::new(), Vec::new());
        for message in batch {
            match DispatcherMessage::read(&message.body) {
                Some(event) => {
                    ids.push(message.id);
                    events.push(event);
                }
                None => self.queue.delete(message.id),
            }
        }
        let (dispatcher, deadline) = (self.dispatcher.clone(), self.deadline());
        let invocation = async move { dispatcher.handle(&events, deadline).await };
        let Some(handled) = self.dispatcher_invocations.run(invocation).await else { return };
        for (place, id) in ids.into_iter().enumerate() {
            if !handled.failed.contains(&place) {
                self.queue.delete(id);
            }
        }
    }

    fn deadline(&self) -> Timestamp {
        self.clock.now() + TIMEOUT
    }
}
