//! Owns the directories of tasks: where their volumes, logs and private files lie on this machine.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::json::{list, text};
use super::task::Task;

/// The directories of all tasks of one ECS.
#[derive(Clone)]
pub(super) struct Rooms {
    root: PathBuf,
}

impl Rooms {
    /// Tasks live beneath `root`; keep it short, sockets lie beneath it.
    pub(super) fn new(root: PathBuf) -> Rooms {
        Rooms { root }
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
    pub(super) fn open(&self) -> io::Result<()> {
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

    /// Makes the task's directory and its volumes with `mode`, on a disk of their own of `disk` bytes if a test wants it
    /// small.
    pub(super) fn prepare(&self, task: &Task, mode: u32, disk: Option<u64>) -> io::Result<()> {
        let dir = self.task_dir(&task.id);
        let volumes = dir.join("volumes");
        fs::create_dir_all(&volumes)?;
        if let Some(bytes) = disk {
            let options = std::ffi::CString::new(format!("size={bytes}")).map_err(io::Error::other)?;
            mount("mayfly", &volumes, "tmpfs", MountFlags::empty(), options.as_c_str())?;
        }
        for shared in [&dir, &volumes] {
            set_mode(shared, fs::metadata(shared)?.permissions().mode() | 0o711)?;
        }
        for volume in list(&task.definition, "volumes").iter().filter_map(|volume| text(volume, "name")) {
            let volume = self.volume_dir(&task.id, volume);
            fs::create_dir_all(&volume)?;
            set_mode(&volume, mode)?;
        }
        Ok(())
    }

    /// Removes what the task's containers wrote, but for their logs.
    pub(super) fn clean(&self, task: &Task, keep_volumes: bool) {
        let dir = self.task_dir(&task.id);
        let containers = task.containers.iter().map(|container| container.name.as_str());
        let volumes = Some("volumes").filter(|_| !keep_volumes);
        if volumes.is_some() && is_mounted(&dir.join("volumes")) {
            // What cannot be unmounted is emptied below, and its directory named in the warning.
            let _ = unmount(dir.join("volumes"), UnmountFlags::DETACH);
        }
        for name in containers.chain(volumes) {
            match fs::remove_dir_all(dir.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!("removing `{}` of an ended task: {error}", dir.join(name).display());
                }
                _ => {}
            }
        }
    }
}

fn set_mode(dir: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(dir, Permissions::from_mode(mode))
}

/// Whether a disk of its own lies there.
fn is_mounted(dir: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev()).ok();
    dir.parent().is_some_and(|parent| device(dir).is_some() && device(dir) != device(parent))
}
