//! Owns the order in which a task's containers start and stop (aws.md §2.3), and how each comes to run.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use rustix::process::Signal;
use serde_json::Value;
use tokio::sync::{mpsc, watch};

use super::host::{Exit, Running};
use super::json::{list, number, text};
use super::lifecycle::{Environments, essential_exited, fail_container, failed_to_start, step};
use super::state::Shared;
use super::task::{Container, Status, StopCause, Task, Wish, told_to_stop};

/// What a container may be called to run as a process; all others are services.
const OURS: [&str; 2] = ["build", "helper"];
/// aws.md §2.3.
const STOP_TIMEOUT: i64 = 30;

/// Starts all containers and returns once the task has to stop.
pub(super) async fn run(
    shared: &Arc<Shared>,
    arn: &str,
    environments: Environments,
    mut wish: watch::Receiver<Wish>,
) -> Result<(), StopCause> {
    let Some(task) = shared.look(arn, Task::clone) else { return Ok(()) };
    if !shared.host.has_images() {
        refuse_services(&task)?;
    }
    let prepared = shared.host.prepare(&task, shared.faults.disk()).await;
    prepared.map_err(|error| failed_to_start(format!("CannotCreateVolumeError: {error}")))?;
    let (exits, mut ended) = mpsc::unbounded_channel();
    let waiting = task.containers.iter().filter(|container| container.reason.is_none());
    let mut waiting: Vec<String> = waiting.map(|container| container.name.clone()).collect();
    loop {
        start_ready(shared, arn, &environments, &mut waiting, &exits).await?;
        if waiting.is_empty() && shared.look(arn, |task| task.last_status) == Some(Status::Activating) {
            step(shared, arn, Status::Running);
        }
        tokio::select! {
            biased;
            () = told_to_stop(&mut wish) => return Ok(()),
            Some(name) = ended.recv() => {
                let essential = task.containers.iter().any(|container| container.name == name && container.essential);
                if essential {
                    return Err(essential_exited());
                }
                // It changed, and its task goes on.
                shared.change(arn, |_| ());
            }
        }
    }
}

/// Stops what still runs: dependents before what they depend on, or all at once if the host goes away.
pub(super) async fn stop(shared: &Arc<Shared>, arn: &str) {
    let Some(task) = shared.look(arn, Task::clone) else { return };
    let at_once = *task.wish.borrow() == Wish::Interrupt;
    loop {
        let running = shared.host.of_task(&task);
        if running.is_empty() {
            return;
        }
        let is_needed = |name: &str| running.iter().any(|(other, _)| depends(&task.definition, other, name));
        let next = running.iter().filter(|(name, _)| at_once || !is_needed(name));
        join_all(next.map(|(name, running)| stop_one(&task, name, running))).await;
    }
}

fn refuse_services(task: &Task) -> Result<(), StopCause> {
    match task.containers.iter().find(|container| !OURS.contains(&container.name.as_str())) {
        Some(service) => Err(failed_to_start(format!(
            "CannotStartContainerError: `{}` is a service, and services need podman or Docker (`mayfly run --containers`); this sandbox runs tasks as processes",
            service.name
        ))),
        None => Ok(()),
    }
}

/// Starts whoever waits for nothing any more, until nobody else becomes ready.
async fn start_ready(
    shared: &Arc<Shared>,
    arn: &str,
    environments: &Environments,
    waiting: &mut Vec<String>,
    exits: &mpsc::UnboundedSender<String>,
) -> Result<(), StopCause> {
    loop {
        let Some(task) = shared.look(arn, Task::clone) else { return Ok(()) };
        let next = waiting.iter().position(|name| readiness(&task, name) != Readiness::Later);
        let Some(name) = next.map(|at| waiting.remove(at)) else { return Ok(()) };
        let Some(container) = task.containers.iter().find(|container| container.name == name) else { continue };
        let (failure, code) = match readiness(&task, &name) {
            Readiness::Never => {
                let text = "CannotStartContainerError: a dependency did not end as it had to, or needs a health check, which no process has";
                (Err(text.to_owned()), Some(143))
            }
            _ => (start(shared, &task, container, environments, exits).await, None),
        };
        if let Err(reason) = failure {
            fail_container(shared, arn, &name, reason.clone(), code);
            if container.essential {
                return Err(failed_to_start(reason));
            }
        }
    }
}

async fn start(
    shared: &Arc<Shared>,
    task: &Task,
    container: &Container,
    environments: &Environments,
    exits: &mpsc::UnboundedSender<String>,
) -> Result<(), String> {
    let (arn, name) = (task.arn.clone(), container.name.clone());
    let now = shared.now();
    shared.note(&arn, |task| {
        if let Some(container) = task.container(&name) {
            container.created_at = Some(now);
            container.started_at = Some(now);
            container.last_status = "RUNNING";
        }
    });
    let ended = {
        let (shared, exits, arn, name) = (Arc::clone(shared), exits.clone(), arn.clone(), name.clone());
        move |exit: Exit| {
            let now = shared.now();
            shared.note(&arn, |task| {
                if let Some(container) = task.container(&name) {
                    container.exit_code = Some(exit.code);
                    container.reason = exit.reason;
                    container.finished_at = Some(now);
                    container.last_status = "STOPPED";
                }
            });
            // The task may already be stopping, and then nobody listens.
            let _ = exits.send(name);
        }
    };
    let environment = environments.get(&name).cloned().unwrap_or_default();
    let started = shared.host.start(task, container, &environment, ended).await;
    if started.is_err() {
        shared.note(&arn, |task| {
            if let Some(container) = task.container(&name) {
                container.started_at = None;
            }
        });
    }
    started
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Readiness {
    Now,
    Later,
    /// What it waits for can no longer happen.
    Never,
}

fn readiness(task: &Task, name: &str) -> Readiness {
    let (definition, _) = task.container_definition(name);
    let states = list(definition, "dependsOn").iter().map(|dependency| {
        let other = text(dependency, "containerName");
        let Some(other) = task.containers.iter().find(|c| Some(c.name.as_str()) == other) else {
            return Readiness::Never;
        };
        state_of(other, text(dependency, "condition").unwrap_or_default())
    });
    states.max_by_key(|state| *state as u8).unwrap_or(Readiness::Now)
}

fn state_of(other: &Container, condition: &str) -> Readiness {
    let never_ran = other.last_status == "STOPPED" && other.exit_code.is_none();
    match (condition, other.exit_code) {
        // Health checks run inside an image, and there is none.
        ("HEALTHY", _) => Readiness::Never,
        _ if never_ran => Readiness::Never,
        ("START", _) if other.started_at.is_some() => Readiness::Now,
        ("COMPLETE", Some(_)) | ("SUCCESS", Some(0)) => Readiness::Now,
        ("SUCCESS", Some(_)) => Readiness::Never,
        _ => Readiness::Later,
    }
}

fn depends(definition: &Value, name: &str, on: &str) -> bool {
    let mut all = list(definition, "containerDefinitions").iter();
    let container = all.find(|container| text(container, "name") == Some(name));
    let mut dependencies = container.map_or(&[][..], |container| list(container, "dependsOn")).iter();
    dependencies.any(|dependency| text(dependency, "containerName") == Some(on))
}

/// SIGTERM, and SIGKILL after the container's stopTimeout, in real time.
async fn stop_one(task: &Task, name: &str, running: &Running) {
    let (definition, _) = task.container_definition(name);
    let seconds = number(definition, "stopTimeout").unwrap_or(STOP_TIMEOUT);
    let grace_period = Duration::from_secs(u64::try_from(seconds).unwrap_or(30).min(120));
    running.signal(Signal::TERM);
    if tokio::time::timeout(grace_period, running.ended()).await.is_err() {
        running.signal(Signal::KILL);
        running.ended().await;
    }
}
