//! Owns the handle of one running ECS: start, what tests may see and do, shutdown.

use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::engine::Engine;
use super::faults::Faults;
use super::host::{Host, Running};
use super::options::{Options, Runtime};
use super::processes::Processes;
use super::rooms::Rooms;
use super::state::{Shared, id_of};
use super::task::{Container, Stamps, Status, StopCause, Task, Wish};
use super::{http, metadata};

/// A running ECS; clones share it. What it started ends with [`shutdown`](Ecs::shutdown), or when the last clone goes.
#[derive(Clone)]
pub struct Ecs {
    shared: Arc<Shared>,
    url: String,
    guard: Arc<Guard>,
}

/// One task as tests look at it.
#[derive(Clone, Debug)]
pub struct TaskView {
    /// The task's ARN.
    pub arn: String,
    /// Such as `RUNNING`.
    pub last_status: String,
    /// Such as `EssentialContainerExited`, once the task stops.
    pub stop_code: Option<String>,
    /// The reason that goes with it.
    pub stopped_reason: Option<String>,
    /// Its containers.
    pub containers: Vec<ContainerView>,
    /// The whole task as DescribeTasks shows it, with tags.
    pub json: Value,
}

/// One container as tests look at it.
#[derive(Clone, Debug)]
pub struct ContainerView {
    /// Its name.
    pub name: String,
    /// Such as `RUNNING`.
    pub last_status: String,
    /// Its exit code, if it ever ran and has ended.
    pub exit_code: Option<i64>,
    /// Why it failed.
    pub reason: Option<String>,
}

/// How long [`Ecs::shutdown`] tries.
const SHUTDOWN_TAKES: Duration = Duration::from_secs(30);
const KILL_AGAIN_AFTER: Duration = Duration::from_millis(50);

struct Guard {
    shared: Arc<Shared>,
    closing: watch::Sender<bool>,
}

impl Ecs {
    /// Starts ECS on the port that `options` name, and its metadata endpoint on a free one, of 127.0.0.1.
    pub async fn start(options: Options) -> io::Result<Ecs> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port)).await?;
        let metadata_listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let metadata_url = format!("http://{}", metadata_listener.local_addr()?);
        let traffic = options.traffic.clone();
        let rooms = Rooms::new(options.root.clone());
        rooms.open()?;
        let host = match options.runtime {
            Runtime::Containers { internet } => {
                let engine = Engine::connect_to(rooms, internet).await?;
                engine.reach(metadata_listener.local_addr()?.port());
                Host::Engine(Arc::new(engine))
            }
            Runtime::Processes | Runtime::Simulated(_) => {
                Host::Processes(Arc::new(Processes::new(rooms, metadata_url.clone(), options.places.clone())))
            }
        };
        let shared = Arc::new(Shared::new(options, metadata_url, host));
        let closing = watch::Sender::new(false);
        let servers = [
            (listener, traffic.watch("ecs", http::routes(Arc::clone(&shared)))),
            (metadata_listener, traffic.watch("metadata", metadata::routes(Arc::clone(&shared)))),
        ];
        for (listener, router) in servers {
            let mut closing = closing.subscribe();
            let closed = async move {
                // An error says that the handle is gone, and then it is time as well.
                let _ = closing.wait_for(|closing| *closing).await;
            };
            tokio::spawn(async move {
                if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(closed).await {
                    tracing::error!("the sandbox's ECS stopped serving: {error}");
                }
            });
        }
        let guard = Arc::new(Guard { shared: Arc::clone(&shared), closing });
        Ok(Ecs { shared, url, guard })
    }

    /// The endpoint URL for ECS clients.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Lets containers reach this machine's `127.0.0.1:port` at the same address; processes do anyway.
    pub fn reach(&self, port: u16) {
        if let Host::Engine(engine) = &self.shared.host {
            engine.reach(port);
        }
    }

    /// The ARN of the one cluster.
    pub fn cluster_arn(&self) -> String {
        self.shared.options.cluster_arn()
    }

    /// Every task ever, in the order of launch.
    pub fn tasks(&self) -> Vec<TaskView> {
        self.shared.state().tasks().map(view).collect()
    }

    /// One task by ARN or id.
    pub fn task(&self, arn: &str) -> Option<TaskView> {
        self.shared.look(arn, view)
    }

    /// Every task definition that has not been deleted, as it is described.
    pub fn definitions(&self) -> Vec<Value> {
        self.shared.state().definitions.all().map(|definition| (*definition.json).clone()).collect()
    }

    /// Every event ever sent; lost ones are not among them, doubled ones are twice.
    pub fn events(&self) -> Vec<Value> {
        self.shared.events()
    }

    /// How many tasks are not STOPPED.
    pub fn live_tasks(&self) -> usize {
        self.shared.state().live()
    }

    /// Returns once every task is STOPPED.
    pub async fn all_stopped(&self) {
        self.until(|| (self.live_tasks() == 0).then_some(())).await;
    }

    /// Returns once the task is in `status`, such as `RUNNING`, or past it.
    pub async fn reached(&self, arn: &str, status: &str) -> TaskView {
        let wanted = Status::ALL.into_iter().find(|known| known.name() == status).unwrap_or(Status::Stopped);
        let look = || self.shared.look(arn, |task| (task.last_status >= wanted).then(|| view(task))).flatten();
        self.until(look).await
    }

    /// Kills a container's main process, as the kernel would; the rest of the container goes with it.
    pub fn kill_container(&self, task: &str, name: &str) -> bool {
        self.running(task, name).map(|running| running.signal(Signal::KILL)).is_some()
    }

    /// The process id of a running container.
    pub fn container_pid(&self, task: &str, name: &str) -> Option<u32> {
        self.running(task, name).map(|running| running.pid)
    }

    /// Takes a Spot task's host away; `false` if it is no Spot task or has stopped already.
    pub fn interrupt_spot(&self, task: &str) -> bool {
        let mut state = self.shared.state();
        let can = |task: &Task| task.is_spot() && task.stop.is_none();
        if !state.task(task).is_some_and(can) {
            return false;
        }
        let cause = StopCause { code: "SpotInterruption", reason: "Your Spot Task was interrupted.".to_owned() };
        self.shared.stop(&mut state, task, cause, Wish::Interrupt);
        true
    }

    /// Where a task's volume lies.
    pub fn volume_dir(&self, task: &str, name: &str) -> PathBuf {
        self.shared.host.rooms().volume_dir(id_of(task), name)
    }

    /// What a container has written to stdout and stderr so far.
    pub fn container_log(&self, task: &str, name: &str) -> String {
        let content = std::fs::read(self.shared.host.rooms().log_file(id_of(task), name)).unwrap_or_default();
        String::from_utf8_lossy(&content).into_owned()
    }

    /// Whether volumes outlive their task, for tests that search them.
    pub fn keep_volumes(&self, keep: bool) {
        self.shared.keep_volumes(keep);
    }

    /// What can be made to go wrong.
    pub fn faults(&self) -> Faults {
        self.shared.faults.clone()
    }

    /// What our own clients asked that they must not.
    pub fn violations(&self) -> Vec<String> {
        self.shared.state().violations.clone()
    }

    /// Whether containers see volumes at the [places](Options::places) that were asked for.
    pub fn has_places(&self) -> bool {
        self.shared.host.has_places()
    }

    /// Kills every container, waits until nothing of them is left, and closes the ports.
    pub async fn shutdown(&self) {
        self.guard.closing.send_replace(true);
        let deadline = Instant::now() + SHUTDOWN_TAKES;
        // A task may be about to start a container, so kill until all of them are over; nobody gets a grace period.
        while Instant::now() < deadline {
            self.shared.stop_all();
            let host = self.shared.host.clone();
            if let Err(error) = tokio::task::spawn_blocking(move || host.kill_all()).await {
                tracing::error!("killing the sandbox's containers: {error}");
            }
            if tokio::time::timeout(KILL_AGAIN_AFTER, self.all_stopped()).await.is_ok() {
                return;
            }
        }
        tracing::error!("tasks of the sandbox do not stop");
    }

    async fn until<T>(&self, mut look: impl FnMut() -> Option<T>) -> T {
        let mut changed = self.shared.changed.subscribe();
        loop {
            changed.mark_unchanged();
            if let Some(found) = look() {
                return found;
            }
            // The sender lives as long as we do.
            let _ = changed.changed().await;
        }
    }

    fn running(&self, task: &str, name: &str) -> Option<Running> {
        let task = self.shared.look(task, Task::clone)?;
        self.shared.host.of_task(&task).into_iter().find(|(other, _)| other == name).map(|(_, running)| running)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.closing.send_replace(true);
        self.shared.stop_all();
        self.shared.host.kill_all();
    }
}

fn view(task: &Task) -> TaskView {
    let mut json = task.to_json(Stamps::Seconds);
    json["tags"] = task.tags.clone();
    let container = |container: &Container| ContainerView {
        name: container.name.clone(),
        last_status: container.last_status.to_owned(),
        exit_code: container.exit_code,
        reason: container.reason.clone(),
    };
    TaskView {
        arn: task.arn.clone(),
        last_status: task.last_status.name().to_owned(),
        stop_code: task.stop.as_ref().map(|stop| stop.code.to_owned()),
        stopped_reason: task.stop.as_ref().map(|stop| stop.reason.clone()),
        containers: task.containers.iter().map(container).collect(),
        json,
    }
}
