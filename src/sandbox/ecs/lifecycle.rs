//! Owns the life of one task, from PROVISIONING to STOPPED (aws.md §2.7).

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::watch;

use super::access::{check_image, check_log, check_log_stream, check_trust};
use super::environment::{self, Environment};
use super::options::Runtime;
use super::state::Shared;
use super::task::{Status, StopCause, Task, Wish, told_to_stop};
use super::{containers, simulated};

/// The environment of every container, by its name.
pub(super) type Environments = HashMap<String, Environment>;

/// Starts to drive a task that was just added.
pub(super) fn start(shared: &Arc<Shared>, arn: String) {
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let was = live(&shared, &arn).await;
        if let Err(cause) = was {
            shared.stop(&mut shared.state(), &arn, cause, Wish::Stop);
        }
        wind_down(&shared, &arn).await;
    });
}

/// A task that never came to run.
pub(super) fn failed_to_start(reason: impl Into<String>) -> StopCause {
    StopCause { code: "TaskFailedToStart", reason: reason.into() }
}

/// An essential container ended.
pub(super) fn essential_exited() -> StopCause {
    StopCause { code: "EssentialContainerExited", reason: "Essential container in task exited".to_owned() }
}

/// Says that the task is in `status` now.
pub(super) fn step(shared: &Shared, arn: &str, status: Status) {
    let now = shared.now();
    shared.change(arn, |task| {
        task.last_status = status;
        match status {
            Status::Pending => task.times.connected = Some(now),
            Status::Running => task.times.started = Some(now),
            Status::Deprovisioning => task.times.execution_stopped = task.times.started.map(|_| now),
            Status::Stopped => task.times.stopped = Some(now),
            _ => {}
        }
    });
}

/// Returns once the task has to stop, with the cause if nobody has said one.
async fn live(shared: &Arc<Shared>, arn: &str) -> Result<(), StopCause> {
    let Some((task, mut wish)) = shared.look(arn, |task| (task.clone(), task.wish.subscribe())) else { return Ok(()) };
    if stopped_during(&mut wish, shared.options.clock.sleep(shared.faults.start_delay())).await.is_none() {
        return Ok(());
    }
    step(shared, arn, Status::Pending);
    if let Some(reason) = shared.faults.start_failure() {
        return Err(failed_to_start(reason));
    }
    let Some(environments) = stopped_during(&mut wish, environments(shared, &task)).await else { return Ok(()) };
    let environments = environments.map_err(failed_to_start)?;
    match stopped_during(&mut wish, pull(shared, &task)).await {
        Some(pulled) => pulled?,
        None => return Ok(()),
    }
    step(shared, arn, Status::Activating);
    match &shared.options.runtime {
        Runtime::Processes | Runtime::Containers { .. } => containers::run(shared, arn, environments, wish).await,
        Runtime::Simulated(simulate) => simulated::run(shared, &task, environments, wish, simulate).await,
    }
}

/// The result of `work`, or `None` if the task was stopped first.
async fn stopped_during<T>(wish: &mut watch::Receiver<Wish>, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        () = told_to_stop(wish) => None,
        result = work => Some(result),
    }
}

async fn environments(shared: &Shared, task: &Task) -> Result<Environments, String> {
    check_trust(shared, task).await?;
    let mut all = Environments::new();
    for container in &task.containers {
        all.insert(container.name.clone(), environment::resolve(shared, task, container).await?);
    }
    Ok(all)
}

/// A failed pull stops the task only if the container is essential (aws.md §13).
async fn pull(shared: &Shared, task: &Task) -> Result<(), StopCause> {
    let now = shared.now();
    shared.note(&task.arn, |task| task.times.pull_started = Some(now));
    let mut failed = Ok(());
    for container in &task.containers {
        let refused = check_image(shared, task, container).await.err().map(pull_refused);
        let pulled = match shared.faults.pull_failure(&container.image).or(refused) {
            Some(reason) => Err(reason),
            None if matches!(shared.options.runtime, Runtime::Simulated(_)) => Ok(()),
            None => shared.host.pull(&container.image).await,
        };
        let Err(reason) = pulled else { continue };
        if container.essential {
            failed = Err(failed_to_start(reason.clone()));
        }
        fail_container(shared, &task.arn, &container.name, reason, None);
    }
    failed?;
    open_logs(shared, task).await?;
    let now = shared.now();
    shared.note(&task.arn, |task| task.times.pull_stopped = Some(now));
    Ok(())
}

/// A stream that cannot be made stops the task; lines that cannot be written are lost.
async fn open_logs(shared: &Shared, task: &Task) -> Result<(), StopCause> {
    for container in &task.containers {
        let failed = |cause: String| {
            failed_to_start(format!(
                "ResourceInitializationError: failed to validate logger args: create stream has been retried 1 times: failed to create Cloudwatch log stream: {cause}"
            ))
        };
        check_log_stream(shared, task, container).await.map_err(failed)?;
        if check_log(shared, task, container).await.is_err() {
            shared.note(&task.arn, |task| {
                if let Some(container) = task.container(&container.name) {
                    container.loses_log = true;
                }
            });
        }
    }
    Ok(())
}

fn pull_refused(cause: String) -> String {
    format!("CannotPullContainerError: {cause}")
}

/// One container that never ran.
pub(super) fn fail_container(shared: &Shared, arn: &str, name: &str, reason: String, exit_code: Option<i64>) {
    shared.note(arn, |task| {
        if let Some(container) = task.container(name) {
            container.last_status = "STOPPED";
            container.reason = Some(reason);
            container.exit_code = exit_code;
        }
    });
}

async fn wind_down(shared: &Arc<Shared>, arn: &str) {
    let Some(ran) = shared.look(arn, |task| task.containers.iter().any(|c| c.started_at.is_some())) else { return };
    if ran {
        step(shared, arn, Status::Deactivating);
        step(shared, arn, Status::Stopping);
        containers::stop(shared, arn).await;
    }
    shared.note(arn, |task| task.containers.iter_mut().for_each(|container| container.last_status = "STOPPED"));
    step(shared, arn, Status::Deprovisioning);
    let is_played = matches!(shared.options.runtime, Runtime::Simulated(_));
    if let Some(task) = shared.look(arn, Task::clone).filter(|_| !is_played) {
        shared.host.clean(&task, shared.keeps_volumes()).await;
    }
    step(shared, arn, Status::Stopped);
}
