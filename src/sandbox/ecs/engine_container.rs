//! Builds what an engine is asked to create for one container, from its definition and override (aws.md §2.3).

use std::collections::HashMap;
use std::path::PathBuf;

use bollard::models::{ContainerCreateBody, HostConfig, HostConfigLogConfig, ResourcesUlimits};
use serde_json::Value;

use super::environment::Environment;
use super::json::{list, number, text, texts};
use super::rooms::Rooms;
use super::task::{Container, Task};

/// A mebibyte.
const MIB: i64 = 1024 * 1024;

/// Where a container's own `/etc/hosts` lies on this machine.
pub(super) fn hosts_file(rooms: &Rooms, task: &Task, container: &str) -> PathBuf {
    rooms.task_dir(&task.id).join(format!("{container}.hosts"))
}

/// The container in the network of the engine's container `network`. `cores` is what this machine has.
pub(super) fn body(
    task: &Task,
    container: &Container,
    environment: &Environment,
    rooms: &Rooms,
    network: &str,
    cores: usize,
) -> ContainerCreateBody {
    let (definition, over) = task.container_definition(&container.name);
    let words = |owner: &Value, name: &str| -> Option<Vec<String>> {
        let words: Vec<String> = texts(owner, name).map(str::to_owned).collect();
        (!words.is_empty()).then_some(words)
    };
    let memory = container.memory.unwrap_or(i64::from(task.size.memory)) * MIB;
    // The whole task may use its size; a container's share counts only against its neighbours.
    let cpus = (f64::from(task.size.cpu) / 1024.0).min(cores as f64);
    let host_config = HostConfig {
        binds: Some(binds(task, container, definition, rooms)),
        // An engine's own set is Docker's, as Fargate's. It must not be asked for: podman gives what it was asked for to
        // users without rights, too, as Docker and Fargate never do.
        cap_drop: words(&definition["linuxParameters"]["capabilities"], "drop"),
        cap_add: words(&definition["linuxParameters"]["capabilities"], "add"),
        cpu_shares: Some(container.cpu.max(2)),
        init: definition["linuxParameters"]["initProcessEnabled"].as_bool(),
        log_config: Some(HostConfigLogConfig { typ: Some("json-file".into()), config: None }),
        memory: Some(memory),
        // As much again as nothing: there is no swap.
        memory_swap: Some(memory),
        memory_reservation: number(over, "memoryReservation").map(|mib| mib * MIB),
        nano_cpus: Some((cpus * 1e9) as i64),
        network_mode: Some(format!("container:{network}")),
        readonly_rootfs: definition["readonlyRootFilesystem"].as_bool(),
        // What Docker and Fargate give; `sharedMemorySize` is refused.
        shm_size: Some(64 * MIB),
        ulimits: ulimits(definition),
        ..HostConfig::default()
    };
    ContainerCreateBody {
        image: Some(image_name(&container.image)),
        user: text(definition, "user").map(str::to_owned),
        entrypoint: words(definition, "entryPoint"),
        cmd: words(over, "command").or_else(|| words(definition, "command")),
        env: Some(environment.iter().map(|(name, value)| format!("{name}={value}")).collect()),
        working_dir: text(definition, "workingDirectory").map(str::to_owned),
        labels: Some(labels()),
        host_config: Some(host_config),
        ..ContainerCreateBody::default()
    }
}

/// Tells the containers of this process from all others, also when it is gone.
pub(super) fn labels() -> HashMap<String, String> {
    HashMap::from([
        ("mayfly.owner".to_owned(), std::process::id().to_string()),
        ("mayfly.processes".to_owned(), processes()),
    ])
}

/// Among which processes its number names one: an engine may serve several machines' worth of them.
pub(super) fn processes() -> String {
    std::fs::read_link("/proc/self/ns/pid").map(|link| link.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The whole name of an image: engines look short ones up in ways of their own, Fargate always on Docker Hub.
pub(super) fn image_name(name: &str) -> String {
    let first = name.split('/').next().unwrap_or_default();
    let has_host = name.contains('/') && (first.contains(['.', ':']) || first == "localhost");
    let name = match (has_host, name.contains('/')) {
        (true, _) => name.to_owned(),
        (false, true) => format!("docker.io/{name}"),
        (false, false) => format!("docker.io/library/{name}"),
    };
    let last = name.rsplit('/').next().unwrap_or_default();
    if last.contains([':', '@']) { name } else { format!("{name}:latest") }
}

/// Volumes, and a `/etc/hosts` of its own: containers of a Fargate task do not share it.
fn binds(task: &Task, container: &Container, definition: &Value, rooms: &Rooms) -> Vec<String> {
    let volume = |mount: &Value| {
        let from = rooms.volume_dir(&task.id, text(mount, "sourceVolume")?);
        let mode = if mount["readOnly"].as_bool() == Some(true) { "ro" } else { "rw" };
        Some(format!("{}:{}:{mode}", from.display(), text(mount, "containerPath")?))
    };
    let hosts = format!("{}:/etc/hosts:rw", hosts_file(rooms, task, &container.name).display());
    list(definition, "mountPoints").iter().filter_map(volume).chain([hosts]).collect()
}

fn ulimits(definition: &Value) -> Option<Vec<ResourcesUlimits>> {
    let limits = list(definition, "ulimits").iter().map(|limit| ResourcesUlimits {
        name: text(limit, "name").map(str::to_owned),
        soft: number(limit, "softLimit"),
        hard: number(limit, "hardLimit"),
    });
    Some(limits.collect::<Vec<_>>()).filter(|limits| !limits.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_of_docker_hub() {
        for (name, whole) in [
            ("alpine", "docker.io/library/alpine:latest"),
            ("alpine:3", "docker.io/library/alpine:3"),
            ("grafana/grafana", "docker.io/grafana/grafana:latest"),
            ("registry.example.com/a/b:1", "registry.example.com/a/b:1"),
            ("localhost:5000/a", "localhost:5000/a:latest"),
            ("alpine@sha256:abc", "docker.io/library/alpine@sha256:abc"),
        ] {
            assert_eq!(image_name(name), whole);
        }
    }
}
