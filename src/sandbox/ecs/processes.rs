//! Owns containers as local processes: their directories, start, signals and end.
//!
//! What Fargate would enforce and processes do not: the image and its user are ignored, memory and CPU are not limited,
//! and `readOnly` mounts can be written. A container's environment, volumes, metadata endpoint, exit code and death with
//! all of its descendants are as on Fargate.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};

use super::environment::{Environment, metadata_uri};
use super::family::Family;
use super::host::{Exit, Running};
use super::json::{list, text, texts};
use super::machine::machine;
use super::namespace::Namespaces;
use super::rooms::Rooms;
use super::task::{Container, Task};

/// All processes of one ECS.
pub(super) struct Processes {
    pub(super) rooms: Rooms,
    metadata_url: String,
    places: Option<(Namespaces, HashMap<String, PathBuf>)>,
    running: Mutex<HashMap<String, Running>>,
}

impl Processes {
    pub(super) fn new(rooms: Rooms, metadata_url: String, places: HashMap<String, PathBuf>) -> Processes {
        let namespaces = places.values().next().and_then(|place| Namespaces::probe(place));
        Processes { rooms, metadata_url, places: namespaces.map(|found| (found, places)), running: Mutex::default() }
    }

    /// Whether volumes are seen at their places.
    pub(super) fn has_places(&self) -> bool {
        self.places.is_some()
    }

    /// Starts one container; `ended` is called with its exit code once it and all its descendants are gone.
    pub(super) fn start(
        self: &Arc<Self>,
        task: &Task,
        container: &Container,
        environment: &Environment,
        ended: impl FnOnce(Exit) + Send + 'static,
    ) -> Result<(), String> {
        let mut child =
            self.spawn(task, container, environment).map_err(|cause| format!("CannotStartContainerError: {cause}"))?;
        let pid = child.id().unwrap_or_default();
        let (signals, mut wanted) = mpsc::unbounded_channel();
        let (exit_sender, exit) = watch::channel(None);
        let key = container.runtime_id.clone();
        self.lock().insert(key.clone(), Running { pid, signals, exit });
        let mut family = self.family(task, container, pid);
        let processes = Arc::clone(self);
        tokio::spawn(async move {
            let code = loop {
                tokio::select! {
                    status = child.wait() => break exit_code(status),
                    Some(signal) = wanted.recv() => {
                        family.watch();
                        send(&child, signal);
                    }
                }
            };
            let swept = tokio::task::spawn_blocking(move || family.kill()).await;
            if let Err(error) = swept {
                tracing::error!("sweeping the processes of a container: {error}");
            }
            ended(Exit { code, reason: None });
            processes.lock().remove(&key);
            exit_sender.send_replace(Some(code));
        });
        Ok(())
    }

    /// The running container with this runtime id.
    pub(super) fn running(&self, id: &str) -> Option<Running> {
        self.lock().get(id).cloned()
    }

    /// Kills every process that any task of this ECS started; blocks.
    pub(super) fn kill_all(&self) {
        let marker = format!("ECS_CONTAINER_METADATA_URI_V4={}/v4/", self.metadata_url);
        let groups: Vec<u32> = self.lock().values().map(|running| running.pid).collect();
        let mut family = Family { marker, group: None, log: None, seen: HashSet::new() };
        for group in groups {
            Family { group: Some(group), ..family.clone() }.kill();
        }
        family.kill();
    }

    fn spawn(&self, task: &Task, container: &Container, environment: &Environment) -> Result<Child, String> {
        let (definition, over) = task.container_definition(&container.name);
        let entry_point: Vec<&str> = texts(definition, "entryPoint").collect();
        let arguments: Vec<&str> = if over.get("command").is_some_and(|command| !command.is_null()) {
            texts(over, "command").collect()
        } else {
            texts(definition, "command").collect()
        };
        let Some((program, first)) = entry_point.split_first() else {
            return Err("the sandbox runs no images: a container needs an entryPoint".to_owned());
        };
        let dir = self.rooms.task_dir(&task.id).join(&container.name);
        let prepared =
            fs::create_dir_all(&dir).and_then(|()| File::create(self.rooms.log_file(&task.id, &container.name)));
        let log = prepared.map_err(|error| format!("preparing `{}`: {error}", dir.display()))?;
        let error_log = log.try_clone().map_err(|error| error.to_string())?;
        let mut command = match &self.places {
            Some((namespaces, _)) => namespaces.command(program, &self.binds(task, definition)),
            None => Command::new(program),
        };
        command.args(first).args(arguments).env_clear();
        command
            .envs(machine())
            .env("HOME", &dir)
            .envs(self.with_places(task, definition, environment))
            .current_dir(&dir)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(error_log)
            .process_group(0)
            .kill_on_drop(true);
        command.spawn().map_err(|error| format!("exec: \"{program}\": {error}"))
    }

    /// A value that is the place of a volume in the container becomes the volume's directory here.
    fn with_places(&self, task: &Task, definition: &Value, environment: &Environment) -> Environment {
        let mounts = list(definition, "mountPoints");
        let place = |value: &str| {
            let mount = mounts.iter().find(|mount| text(mount, "containerPath") == Some(value))?;
            let place = self.places.as_ref().and_then(|(_, places)| places.get(value)).cloned();
            let place = place.or_else(|| Some(self.rooms.volume_dir(&task.id, text(mount, "sourceVolume")?)))?;
            Some(place.to_string_lossy().into_owned())
        };
        environment.iter().map(|(name, value)| (name.clone(), place(value).unwrap_or_else(|| value.clone()))).collect()
    }

    /// The volumes of a container that have a place of their own.
    fn binds(&self, task: &Task, definition: &Value) -> Vec<(PathBuf, PathBuf)> {
        let Some((_, places)) = &self.places else { return Vec::new() };
        let bind = |mount: &Value| {
            let place = places.get(text(mount, "containerPath")?)?;
            Some((self.rooms.volume_dir(&task.id, text(mount, "sourceVolume")?), place.clone()))
        };
        list(definition, "mountPoints").iter().filter_map(bind).collect()
    }

    fn family(&self, task: &Task, container: &Container, pid: u32) -> Family {
        let log = fs::canonicalize(self.rooms.log_file(&task.id, &container.name)).ok();
        let marker = format!("ECS_CONTAINER_METADATA_URI_V4={}", metadata_uri(&self.metadata_url, container));
        Family { marker, group: Some(pid).filter(|pid| *pid != 0), log, seen: HashSet::new() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn send(child: &Child, signal: Signal) {
    // It has an id until somebody has waited for it, so this hits nobody else.
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    pid.map(|pid| kill_process(pid, signal).ok());
}

/// 128 and the signal for who was killed by one, as Docker says it.
fn exit_code(status: io::Result<std::process::ExitStatus>) -> i64 {
    let Ok(status) = status else { return 255 };
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.unwrap_or(255).into()
}
