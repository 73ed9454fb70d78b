//! Owns what runs a task's containers: local processes, or an engine; and a running container as both see it.

use std::io;
use std::sync::Arc;

use rustix::process::Signal;
use tokio::sync::{mpsc, watch};

use super::engine::Engine;
use super::environment::Environment;
use super::processes::Processes;
use super::rooms::Rooms;
use super::task::{Container, Task};

/// What runs containers.
#[derive(Clone)]
pub(super) enum Host {
    /// One process a container.
    Processes(Arc<Processes>),
    /// Podman or Docker.
    Engine(Arc<Engine>),
}

/// One running container.
#[derive(Clone)]
pub(super) struct Running {
    pub(super) pid: u32,
    pub(super) signals: mpsc::UnboundedSender<Signal>,
    pub(super) exit: watch::Receiver<Option<i64>>,
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Exit {
    /// 128 and the signal for who was killed by one.
    pub(super) code: i64,
    /// What ECS says besides.
    pub(super) reason: Option<String>,
}

impl Running {
    /// Signals the main process alone, if it still runs.
    pub(super) fn signal(&self, signal: Signal) {
        // Nobody receives it once the process has ended.
        let _ = self.signals.send(signal);
    }

    /// Returns the exit code once the whole container is gone.
    pub(super) async fn ended(&self) -> Option<i64> {
        self.exit.clone().wait_for(Option::is_some).await.ok().and_then(|code| *code)
    }
}

impl Host {
    pub(super) fn rooms(&self) -> &Rooms {
        match self {
            Host::Processes(processes) => &processes.rooms,
            Host::Engine(engine) => &engine.rooms,
        }
    }

    /// Whether it runs images, and so services.
    pub(super) fn has_images(&self) -> bool {
        matches!(self, Host::Engine(_))
    }

    /// Whether volumes are seen at the places that were asked for; in a container they always are.
    pub(super) fn has_places(&self) -> bool {
        match self {
            Host::Processes(processes) => processes.has_places(),
            Host::Engine(_) => true,
        }
    }

    /// Makes the image be there; an error is ECS' reason.
    pub(super) async fn pull(&self, image: &str) -> Result<(), String> {
        match self {
            Host::Processes(_) => Ok(()),
            Host::Engine(engine) => engine.pull(image).await,
        }
    }

    /// Makes the task's volumes and its network.
    pub(super) async fn prepare(&self, task: &Task, disk: Option<u64>) -> io::Result<()> {
        match self {
            // Processes of other users share them, and nobody makes them ready.
            Host::Processes(processes) => processes.rooms.prepare(task, 0o777, disk),
            Host::Engine(engine) => {
                // aws.md §2.3: a new volume is root's, and others only read it.
                engine.rooms.prepare(task, 0o755, disk)?;
                engine.connect(task).await
            }
        }
    }

    /// Starts one container; `ended` is called once it and all its descendants are gone.
    pub(super) async fn start(
        &self,
        task: &Task,
        container: &Container,
        environment: &Environment,
        ended: impl FnOnce(Exit) + Send + 'static,
    ) -> Result<(), String> {
        match self {
            Host::Processes(processes) => processes.start(task, container, environment, ended),
            Host::Engine(engine) => engine.start(task, container, environment, ended).await,
        }
    }

    /// The running containers of one task, by name.
    pub(super) fn of_task(&self, task: &Task) -> Vec<(String, Running)> {
        let find = |id: &str| match self {
            Host::Processes(processes) => processes.running(id),
            Host::Engine(engine) => engine.running(id),
        };
        let of = |container: &Container| Some((container.name.clone(), find(&container.runtime_id)?));
        task.containers.iter().filter_map(of).collect()
    }

    /// Removes what the task had, but for its containers' logs.
    pub(super) async fn clean(&self, task: &Task, keep_volumes: bool) {
        if let Host::Engine(engine) = self {
            engine.disconnect(task).await;
        }
        let (rooms, task) = (self.rooms().clone(), task.clone());
        // A directory that cannot be removed is logged there; the task is over all the same.
        let _ = tokio::task::spawn_blocking(move || rooms.clean(&task, keep_volumes)).await;
    }

    /// Kills every container that any task of this ECS started; blocks.
    pub(super) fn kill_all(&self) {
        match self {
            Host::Processes(processes) => processes.kill_all(),
            Host::Engine(engine) => engine.kill_all(),
        }
    }
}
