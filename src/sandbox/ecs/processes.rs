//! Owns containers as local processes: their directories, start, signals and end.
//!
//! What Fargate would enforce and processes do not: the image and its user are ignored, memory and CPU are not limited,
//! and `readOnly` mounts can be written. A container's environment, volumes, metadata endpoint, exit code and death with
//! all of its descendants are as on Fargate.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};

use super::environment::{Environment, metadata_uri};
use super::family::Family;
use super::json::{list, text, texts};
use super::machine::machine;
use super::namespace::Namespaces;
use super::task::{Container, Task};

/// All processes of one ECS.
pub(super) struct Processes {
    root: PathBuf,
    metadata_url: String,
    places: Option<(Namespaces, HashMap<String, PathBuf>)>,
    running: Mutex<HashMap<String, Running>>,
}

/// One running container.
#[derive(Clone)]
pub(super) struct Running {
    pub(super) pid: u32,
    signals: mpsc::UnboundedSender<Signal>,
    exit: watch::Receiver<Option<i64>>,
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

impl Processes {
    pub(super) fn new(root: PathBuf, metadata_url: String, places: HashMap<String, PathBuf>) -> Processes {
        let namespaces = places.values().next().and_then(|place| Namespaces::probe(place));
        Processes { root, metadata_url, places: namespaces.map(|found| (found, places)), running: Mutex::default() }
    }

    /// Whether volumes are seen at their places.
    pub(super) fn has_places(&self) -> bool {
        self.places.is_some()
    }

    /// Where the task `id` lives; short, because sockets lie beneath it.
    pub(super) fn task_dir(&self, id: &str) -> PathBuf {
        self.root.join(id.get(..8).unwrap_or(id))
    }

    pub(super) fn volume_dir(&self, id: &str, volume: &str) -> PathBuf {
        self.task_dir(id).join("volumes").join(volume)
    }

    pub(super) fn log_file(&self, id: &str, container: &str) -> PathBuf {
        self.task_dir(id).join(format!("{container}.log"))
    }

    /// Makes the root, and lets every uid through to it where that is ours to say.
    pub(super) fn open_root(&self) -> io::Result<()> {
        fs::create_dir_all(&self.root)?;
        let own = rustix::process::geteuid().as_raw();
        for dir in self.root.ancestors().take_while(|dir| !dir.as_os_str().is_empty()) {
            let metadata = fs::metadata(dir)?;
            let mode = metadata.permissions().mode();
            if mode & 0o001 != 0 {
                continue;
            }
            // Nobody's home is opened; a temporary directory has a name that nobody guesses.
            if metadata.uid() == own && (dir == self.root || dir.starts_with(std::env::temp_dir())) {
                fs::set_permissions(dir, Permissions::from_mode(mode | 0o111))?;
            } else {
                tracing::warn!("other users cannot reach the sandbox's tasks through `{}`", dir.display());
            }
        }
        Ok(())
    }

    /// Makes the task's directory and its volumes.
    pub(super) fn prepare(&self, task: &Task) -> io::Result<()> {
        let open = |dir: &Path, mode| fs::set_permissions(dir, Permissions::from_mode(mode));
        let dir = self.task_dir(&task.id);
        fs::create_dir_all(dir.join("volumes"))?;
        for shared in [&dir, &dir.join("volumes")] {
            open(shared, fs::metadata(shared)?.permissions().mode() | 0o711)?;
        }
        for volume in list(&task.definition, "volumes").iter().filter_map(|volume| text(volume, "name")) {
            let volume = self.volume_dir(&task.id, volume);
            fs::create_dir_all(&volume)?;
            open(&volume, 0o777)?;
        }
        Ok(())
    }

    /// Removes what the task's containers wrote, but for their logs.
    pub(super) fn clean(&self, task: &Task, keep_volumes: bool) {
        let dir = self.task_dir(&task.id);
        let containers = task.containers.iter().map(|container| container.name.as_str());
        let volumes = Some("volumes").filter(|_| !keep_volumes);
        for name in containers.chain(volumes) {
            match fs::remove_dir_all(dir.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!("removing `{}` of an ended task: {error}", dir.join(name).display());
                }
                _ => {}
            }
        }
    }

    /// Starts one container; `ended` is called with its exit code once it and all its descendants are gone.
    pub(super) fn start(
        self: &Arc<Self>,
        task: &Task,
        container: &Container,
        environment: &Environment,
        ended: impl FnOnce(i64) + Send + 'static,
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
            ended(code);
            processes.lock().remove(&key);
            exit_sender.send_replace(Some(code));
        });
        Ok(())
    }

    /// The running containers of one task, by name.
    pub(super) fn of_task(&self, task: &Task) -> Vec<(String, Running)> {
        let running = self.lock();
        let of = |container: &Container| Some((container.name.clone(), running.get(&container.runtime_id)?.clone()));
        task.containers.iter().filter_map(of).collect()
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
        let dir = self.task_dir(&task.id).join(&container.name);
        let prepared = fs::create_dir_all(&dir).and_then(|()| File::create(self.log_file(&task.id, &container.name)));
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
            let place = place.or_else(|| Some(self.volume_dir(&task.id, text(mount, "sourceVolume")?)))?;
            Some(place.to_string_lossy().into_owned())
        };
        environment.iter().map(|(name, value)| (name.clone(), place(value).unwrap_or_else(|| value.clone()))).collect()
    }

    /// The volumes of a container that have a place of their own.
    fn binds(&self, task: &Task, definition: &Value) -> Vec<(PathBuf, PathBuf)> {
        let Some((_, places)) = &self.places else { return Vec::new() };
        let bind = |mount: &Value| {
            let place = places.get(text(mount, "containerPath")?)?;
            Some((self.volume_dir(&task.id, text(mount, "sourceVolume")?), place.clone()))
        };
        list(definition, "mountPoints").iter().filter_map(bind).collect()
    }

    fn family(&self, task: &Task, container: &Container, pid: u32) -> Family {
        let log = fs::canonicalize(self.log_file(&task.id, &container.name)).ok();
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
