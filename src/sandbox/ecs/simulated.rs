//! Owns tasks without processes: a closure plays all containers of a task on the sandbox's clock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::Value;
use tokio::sync::watch;

use super::lifecycle::{Environments, essential_exited, failed_to_start, step};
use super::state::Shared;
use super::task::{Stamps, Status, StopCause, Task, Wish, told_to_stop};
use crate::sandbox::clock::Clock;

/// Plays one task and says how it ended.
pub type Simulate = Arc<dyn Fn(SimulatedTask) -> BoxFuture<'static, Ending> + Send + Sync>;

/// How long a play that was told to stop may go on, on the sandbox's clock: the longest stopTimeout.
const STOP_TIMEOUT: Duration = Duration::from_secs(120);

/// What a [`Simulate`] closure gets.
pub struct SimulatedTask {
    /// The task's ARN.
    pub arn: String,
    /// The task definition as it is described.
    pub definition: Arc<Value>,
    /// The task as DescribeTasks showed it at its launch.
    pub task: Value,
    /// The sandbox's clock.
    pub clock: Clock,
    environments: Environments,
    wish: watch::Receiver<Wish>,
    shared: Arc<Shared>,
}

impl SimulatedTask {
    /// The value of one variable of a container, secrets and environment files included.
    pub fn variable(&self, container: &str, name: &str) -> Option<&str> {
        self.environments.get(container)?.get(name).map(String::as_str)
    }

    /// Says that all containers run now. A play that ends without it, other than with a failed start, ran for no time.
    pub fn running(&self) {
        run_all(&self.shared, &self.arn);
    }

    /// Lets `length` pass on the clock; `false` if the task was told to stop before that.
    pub async fn runs_for(&self, length: Duration) -> bool {
        tokio::select! {
            biased;
            () = self.told_to_stop() => false,
            () = self.clock.sleep(length) => true,
        }
    }

    /// Returns once the containers get their SIGTERM.
    pub async fn told_to_stop(&self) {
        told_to_stop(&mut self.wish.clone()).await;
    }
}

/// How a simulated task ended.
#[derive(Clone, Debug, Default)]
pub struct Ending {
    exits: BTreeMap<String, (Option<i64>, Option<String>)>,
    cause: Option<(&'static str, String)>,
}

impl Ending {
    /// These containers exited so; the others were stopped by SIGTERM.
    pub fn exited<'a>(codes: impl IntoIterator<Item = (&'a str, i64)>) -> Ending {
        let exits = codes.into_iter().map(|(name, code)| (name.to_owned(), (Some(code), None))).collect();
        Ending { exits, cause: None }
    }

    /// The kernel killed this container for its memory (aws.md §2.7).
    pub fn out_of_memory(container: &str) -> Ending {
        let reason = "OutOfMemoryError: Container killed due to memory usage".to_owned();
        Ending { exits: [(container.to_owned(), (Some(137), Some(reason)))].into(), cause: None }
    }

    /// This container never started, for `reason`; the others were stopped by SIGTERM.
    pub fn not_started(container: &str, reason: &str) -> Ending {
        Ending { exits: [(container.to_owned(), (None, Some(reason.to_owned())))].into(), cause: None }
    }

    /// Nothing ever ran.
    pub fn failed_to_start(reason: &str) -> Ending {
        Ending { exits: BTreeMap::new(), cause: Some(("TaskFailedToStart", reason.to_owned())) }
    }

    /// AWS stopped the task: `stop_code` and `reason` as in aws.md §2.7.
    pub fn stopped_by_aws(stop_code: &'static str, reason: &str) -> Ending {
        Ending { exits: BTreeMap::new(), cause: Some((stop_code, reason.to_owned())) }
    }
}

/// Plays the task and returns once it has to stop.
pub(super) async fn run(
    shared: &Arc<Shared>,
    task: &Task,
    environments: Environments,
    mut wish: watch::Receiver<Wish>,
    simulate: &Simulate,
) -> Result<(), StopCause> {
    let simulated = SimulatedTask {
        arn: task.arn.clone(),
        definition: Arc::clone(&task.definition),
        task: task.to_json(Stamps::Seconds),
        clock: shared.options.clock.clone(),
        environments,
        wish: wish.clone(),
        shared: Arc::clone(shared),
    };
    let mut play = simulate(simulated);
    let ending = tokio::select! {
        biased;
        ending = &mut play => Some(ending),
        () = told_to_stop(&mut wish) => tokio::select! {
            biased;
            ending = play => Some(ending),
            () = shared.options.clock.sleep(STOP_TIMEOUT) => None,
        },
    };
    let cause = ending.as_ref().and_then(|ending| ending.cause.as_ref());
    if let Some((_, reason)) = cause.filter(|(code, _)| *code == "TaskFailedToStart") {
        return Err(failed_to_start(reason.clone()));
    }
    let never_ran = shared.look(&task.arn, |task| task.last_status) == Some(Status::Activating);
    if never_ran && *wish.borrow() != Wish::Run {
        return Ok(());
    }
    run_all(shared, &task.arn);
    end_all(shared, &task.arn, ending.as_ref());
    match ending.and_then(|ending| ending.cause) {
        Some((code, reason)) => Err(StopCause { code, reason }),
        None => Err(essential_exited()),
    }
}

fn run_all(shared: &Arc<Shared>, arn: &str) {
    if shared.look(arn, |task| task.last_status) != Some(Status::Activating) {
        return;
    }
    let now = shared.now();
    shared.note(arn, |task| {
        for container in task.containers.iter_mut().filter(|container| container.reason.is_none()) {
            container.created_at = Some(now);
            container.started_at = Some(now);
            container.last_status = "RUNNING";
        }
    });
    step(shared, arn, Status::Running);
}

/// Who had to be killed exits with 137, who was stopped with 143.
fn end_all(shared: &Shared, arn: &str, ending: Option<&Ending>) {
    let now = shared.now();
    shared.note(arn, |task| {
        for container in task.containers.iter_mut().filter(|container| container.reason.is_none()) {
            let others = (Some(if ending.is_some() { 143 } else { 137 }), None);
            let (code, reason) = ending.and_then(|ending| ending.exits.get(&container.name)).cloned().unwrap_or(others);
            container.exit_code = code;
            container.reason = reason;
            container.finished_at = Some(now);
            container.last_status = "STOPPED";
        }
    });
}
