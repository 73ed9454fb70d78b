//! Owns containers of podman or Docker: their images, network, start, signals, output and end.
//!
//! A task is a container that does nothing but hold the network, and those of the definition in it, as on Fargate.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, HostConfig};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, CreateImageOptionsBuilder, KillContainerOptionsBuilder,
    ListContainersOptionsBuilder, LogsOptionsBuilder, RemoveContainerOptionsBuilder,
};
use futures::StreamExt;
use rustix::process::Signal;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::engine_container::{body, hosts_file, image_name, labels, processes};
use super::environment::Environment;
use super::host::{Exit, Running};
use super::relay::relay;
use super::rooms::Rooms;
use super::task::{Container, Task};

/// Where engines listen, in the order in which they are tried.
const SOCKETS: [&str; 2] = ["/run/podman/podman.sock", "/var/run/docker.sock"];
/// Holds a network open, and ends when told.
const HOLD: &str = "trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done";
/// The last output of a container comes at most so long after its end.
const OUTPUT_TAKES: Duration = Duration::from_secs(5);
/// An image may be large.
const TIMEOUT: u64 = 600;

/// Podman or Docker on this machine, and all containers of one ECS in it.
pub(super) struct Engine {
    pub(super) rooms: Rooms,
    docker: Docker,
    internet: bool,
    ports: Mutex<Vec<u16>>,
    networks: Mutex<HashMap<String, JoinSet<()>>>,
    /// What was created and not removed, in this order.
    created: Mutex<Vec<String>>,
    running: Arc<Mutex<HashMap<String, Running>>>,
}

impl Engine {
    /// Finds an engine and removes what a sandbox that was killed has left in it.
    ///
    /// # Errors
    /// Says what to do where there is none, or where we are not root.
    pub(super) async fn connect_to(rooms: Rooms, internet: bool) -> io::Result<Engine> {
        if !rustix::process::geteuid().is_root() {
            return Err(io::Error::other(
                "tasks as containers need root, to listen in their network: run as root, or run jobs as processes",
            ));
        }
        let docker = connect().await?;
        let engine = Engine {
            rooms,
            docker,
            internet,
            ports: Mutex::default(),
            networks: Mutex::default(),
            created: Mutex::default(),
            running: Arc::default(),
        };
        sweep(&engine.docker).await;
        Ok(engine)
    }

    /// Lets the tasks from now on reach this machine's `127.0.0.1:port`.
    pub(super) fn reach(&self, port: u16) {
        lock(&self.ports).push(port);
    }

    /// The running container with this runtime id.
    pub(super) fn running(&self, id: &str) -> Option<Running> {
        lock(&self.running).get(id).cloned()
    }

    /// Makes the image be there.
    pub(super) async fn pull(&self, image: &str) -> Result<(), String> {
        let name = image_name(image);
        if self.docker.inspect_image(&name).await.is_ok() {
            return Ok(());
        }
        let options = CreateImageOptionsBuilder::new().from_image(&name).build();
        let mut progress = self.docker.create_image(Some(options), None, None);
        while let Some(step) = progress.next().await {
            let failure = match step {
                Ok(step) => step.error_detail.and_then(|detail| detail.message),
                Err(error) => Some(error.to_string()),
            };
            if let Some(failure) = failure {
                return Err(format!(
                    "CannotPullContainerError: pull image manifest has been retried 1 time(s): failed to resolve ref {name}: {failure}"
                ));
            }
        }
        Ok(())
    }

    /// Makes the task's network, and the servers of this machine be there in it.
    pub(super) async fn connect(&self, task: &Task) -> io::Result<()> {
        let image = task.containers.iter().find(|container| container.reason.is_none()).map(|first| &first.image);
        let network = ContainerCreateBody {
            image: image.map(|image| image_name(image)),
            user: Some("0".into()),
            entrypoint: Some(vec!["sh".into(), "-c".into()]),
            cmd: Some(vec![HOLD.into()]),
            hostname: Some(format!("ip-{}", task.private_ip().replace('.', "-"))),
            labels: Some(labels()),
            host_config: Some(HostConfig {
                network_mode: (!self.internet).then(|| "none".to_owned()),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        };
        let name = self.name(task, "network");
        self.create(&name, network).await.map_err(io::Error::other)?;
        let holder = self.docker.inspect_container(&name, None).await.map_err(io::Error::other)?;
        let pid = holder.state.and_then(|state| state.pid).filter(|pid| *pid > 0);
        let pid = pid.ok_or_else(|| io::Error::other("the engine does not say where the task's network is"))?;
        let ports = lock(&self.ports).clone();
        lock(&self.networks).insert(task.id.clone(), relay(pid, &ports)?);
        Ok(())
    }

    /// Takes the network away, after all containers in it.
    pub(super) async fn disconnect(&self, task: &Task) {
        lock(&self.networks).remove(&task.id);
        let names = task.containers.iter().map(|container| container.name.as_str()).chain(["network"]);
        for name in names.map(|name| self.name(task, name)) {
            remove(&self.docker, &name).await;
            lock(&self.created).retain(|created| *created != name);
        }
    }

    /// Starts one container; `ended` is called once it is gone.
    pub(super) async fn start(
        &self,
        task: &Task,
        container: &Container,
        environment: &Environment,
        ended: impl FnOnce(Exit) + Send + 'static,
    ) -> Result<(), String> {
        let hosts = format!("127.0.0.1 localhost\n{} {}\n", task.private_ip(), environment["HOSTNAME"]);
        fs::write(hosts_file(&self.rooms, task, &container.name), hosts)
            .map_err(|error| format!("CannotCreateContainerError: {error}"))?;
        let log = self.rooms.log_file(&task.id, &container.name);
        let name = self.name(task, &container.name);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let body = body(task, container, environment, &self.rooms, &self.name(task, "network"), cores);
        self.create(&name, body).await.map_err(|error| format!("CannotStartContainerError: {error}"))?;
        let pid = self.docker.inspect_container(&name, None).await.ok().and_then(|found| found.state?.pid);
        let (signals, wanted) = mpsc::unbounded_channel();
        let (exit_sender, exit) = watch::channel(None);
        let id = container.runtime_id.clone();
        let pid = pid.and_then(|pid| u32::try_from(pid).ok()).unwrap_or_default();
        lock(&self.running).insert(id.clone(), Running { pid, signals, exit });
        let (docker, running) = (self.docker.clone(), Arc::clone(&self.running));
        tokio::spawn(async move {
            let output = tokio::spawn(write_output(docker.clone(), name.clone(), log.clone(), true));
            let exit = watch_over(&docker, &name, wanted).await;
            output.abort();
            let _ = output.await;
            // Who follows may miss the last words of a short life; now they are all there.
            let whole = log.with_extension("whole");
            let written = write_output(docker.clone(), name.clone(), whole.clone(), false);
            if tokio::time::timeout(OUTPUT_TAKES, written).await.is_ok()
                && let Err(error) = fs::rename(&whole, &log)
            {
                tracing::warn!("keeping the log of `{name}`: {error}");
            }
            remove(&docker, &name).await;
            let code = exit.code;
            ended(exit);
            lock(&running).remove(&id);
            exit_sender.send_replace(Some(code));
        });
        Ok(())
    }

    /// Removes every container of this ECS; blocks.
    pub(super) fn kill_all(&self) {
        let mut names = std::mem::take(&mut *lock(&self.created));
        // The holder of a network came first, and goes last.
        names.reverse();
        if names.is_empty() {
            return;
        }
        let removed = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let docker = connect().await?;
                for name in names {
                    remove(&docker, &name).await;
                }
                Ok(())
            })
        });
        if let Err(error) = removed.join().unwrap_or_else(|_| Err(io::Error::other("a panic"))) {
            tracing::error!("removing the sandbox's containers: {error}");
        }
    }

    async fn create(&self, name: &str, body: ContainerCreateBody) -> Result<(), Error> {
        let options = CreateContainerOptionsBuilder::new().name(name).build();
        lock(&self.created).push(name.to_owned());
        self.docker.create_container(Some(options), body).await?;
        let started = self.docker.start_container(name, None).await;
        if started.is_err() {
            remove(&self.docker, name).await;
        }
        started
    }

    /// The engine's name for a container; nobody else's.
    fn name(&self, task: &Task, container: &str) -> String {
        format!("mayfly-{}-{container}", task.id)
    }
}

/// Connects to the first engine that answers.
async fn connect() -> io::Result<Docker> {
    for socket in SOCKETS.into_iter().filter(|socket| Path::new(socket).exists()) {
        let Ok(docker) = Docker::connect_with_unix(socket, TIMEOUT, bollard::API_DEFAULT_VERSION) else { continue };
        if let Ok(docker) = docker.negotiate_version().await {
            return Ok(docker);
        }
    }
    let sockets = SOCKETS.join(" and ");
    Err(io::Error::other(format!(
        "no podman and no Docker answers at {sockets}: start one (`podman system service --time=0 &`)"
    )))
}

/// Passes signals on until the container has ended.
async fn watch_over(docker: &Docker, name: &str, mut wanted: mpsc::UnboundedReceiver<Signal>) -> Exit {
    let mut wait = std::pin::pin!(docker.wait_container(name, None));
    let code = loop {
        tokio::select! {
            ended = wait.next() => break match ended {
                Some(Ok(ended)) => ended.status_code,
                Some(Err(Error::DockerContainerWaitError { code, .. })) => code,
                Some(Err(error)) => {
                    tracing::error!("waiting for the container `{name}`: {error}");
                    255
                }
                None => 255,
            },
            Some(signal) = wanted.recv() => {
                let options = KillContainerOptionsBuilder::new().signal(&signal.as_raw().to_string()).build();
                // Who has ended meanwhile needs no signal.
                let _ = docker.kill_container(name, Some(options)).await;
            }
        }
    };
    let state = docker.inspect_container(name, None).await.ok().and_then(|container| container.state);
    let out_of_memory = state.and_then(|state| state.oom_killed).unwrap_or(false);
    let reason = out_of_memory.then(|| "OutOfMemoryError: Container killed due to memory usage".to_owned());
    Exit { code, reason }
}

/// Writes what a container has said into its log, and what it says from now on if it is to be followed.
async fn write_output(docker: Docker, name: String, log: PathBuf, follows: bool) {
    let written = async {
        let mut log = File::create(log)?;
        let options = LogsOptionsBuilder::new().follow(follows).stdout(true).stderr(true).build();
        let mut output = docker.logs(&name, Some(options));
        while let Some(Ok(piece)) = output.next().await {
            if let LogOutput::StdOut { message } | LogOutput::StdErr { message } | LogOutput::Console { message } =
                piece
            {
                log.write_all(&message)?;
            }
        }
        Ok::<(), io::Error>(())
    };
    if let Err(error) = written.await {
        tracing::warn!("writing the log of `{name}`: {error}");
    }
}

/// Removes what sandboxes that were killed have left. What cannot be removed is in nobody's way but the disk's.
async fn sweep(docker: &Docker) {
    let filters = HashMap::from([("label", vec!["mayfly.owner"])]);
    let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
    let all = match docker.list_containers(Some(options)).await {
        Ok(all) => all,
        // Podman has words for the state of a container that is just ending which Docker's API does not know.
        Err(error) => return tracing::debug!("looking for containers that were left: {error}"),
    };
    let ours = processes();
    let is_left = |labels: &HashMap<String, String>| {
        labels.get("mayfly.processes") == Some(&ours) && labels.get("mayfly.owner").is_some_and(|owner| is_gone(owner))
    };
    let mut left: Vec<_> = all.into_iter().filter(|one| one.labels.as_ref().is_some_and(is_left)).collect();
    let holds = |names: &Option<Vec<String>>| names.iter().flatten().any(|name| name.ends_with("-network"));
    left.sort_by_key(|container| holds(&container.names));
    for id in left.into_iter().filter_map(|container| container.id) {
        remove(docker, &id).await;
    }
}

async fn remove(docker: &Docker, name: &str) {
    let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
    match docker.remove_container(name, Some(options)).await {
        Ok(()) | Err(Error::DockerResponseServerError { status_code: 404 | 409, .. }) => {}
        Err(error) => tracing::warn!("removing the container `{name}`: {error}"),
    }
}

/// Whether the process that made a sandbox is no more.
fn is_gone(owner: &str) -> bool {
    !Path::new("/proc").join(owner).exists()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
