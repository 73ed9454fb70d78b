//! What a task definition does on an engine, asked over the ECS API.

use aws_sdk_ecs::types::{
    ContainerCondition, ContainerDefinition, ContainerDependency, ContainerOverride, EnvironmentFile,
    EnvironmentFileType, MountPoint, TaskOverride,
};
use std::process::Command;

use mayfly::sandbox::ecs::Runtime;

use crate::engine::settings;
use crate::world::{World, arn, container, exit, pair, world_with};

async fn engine_world() -> Option<World> {
    settings()?;
    Some(world_with(|options| options.runtime = Runtime::Containers { internet: false }).await)
}

fn busybox(name: &str, script: &str) -> ContainerDefinition {
    let mut container = container(name, script);
    container.image = Some("mayfly/busybox:1".to_owned());
    container
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_is_what_definition_override_and_file_say() {
    let Some(world) = engine_world().await else { return };
    let mut build = busybox("build", "echo never");
    build.user = Some("1234:4321".to_owned());
    build.working_directory = Some("/builds".to_owned());
    build.mount_points = Some(vec![
        MountPoint::builder().source_volume("builds").container_path("/builds").build(),
        MountPoint::builder().source_volume("agent").container_path("/mayfly").read_only(true).build(),
    ]);
    let definition = world.register("mayfly-a", vec![build]).await;
    let script = "id; grep CapEff /proc/self/status; pwd; echo $FROM_FILE $OVER; touch /builds/x; touch /mayfly/x; ls -ld /builds; \
                  wget -qO- $ECS_CONTAINER_METADATA_URI_V4/task | grep -c TaskARN; \
                  cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; exit 7";
    let file = EnvironmentFile::builder().r#type(EnvironmentFileType::S3).value("arn:aws:s3:::services/a.env").build();
    let over = ContainerOverride::builder()
        .name("build")
        .command(script)
        .memory(300)
        .environment(pair("OVER", "a b'c\"$HOME"))
        .environment_files(file.unwrap())
        .build();
    let run = world.run(&definition).overrides(TaskOverride::builder().container_overrides(over).build());
    let task = arn(&run.send().await.unwrap());

    let stopped = world.stopped(&task).await;

    let log = world.ecs.container_log(&task, "build");
    assert_eq!(exit(&stopped, "build"), Some(7), "{log}");
    for line in [
        "uid=1234",
        "CapEff:\t0000000000000000",
        "/builds\n",
        "1 a b'c\"$HOME",
        "touch: /builds/x: Permission denied",
        "Read-only file system",
        "drwxr-xr-x",
        "1\n314572800",
    ] {
        assert!(log.contains(line), "`{line}` is not in {log}");
    }
    world.ecs.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_share_a_network_and_stop_after_those_that_need_them() {
    let Some(world) = engine_world().await else { return };
    let serve = busybox(
        "helper",
        "mkdir /tmp/w; echo served > /tmp/w/a; httpd -p 127.0.0.1:80 -h /tmp/w; trap 'echo ends; exit 0' TERM; while :; do sleep 0.1; done",
    );
    let mut ask = busybox(
        "build",
        "until wget -qO- http://127.0.0.1/a; do sleep 0.1; done; trap 'echo told' TERM; while :; do sleep 0.1; done",
    );
    ask.stop_timeout = Some(2);
    ask.depends_on = Some(vec![
        ContainerDependency::builder().container_name("helper").condition(ContainerCondition::Start).build().unwrap(),
    ]);
    let task = world.start(vec![serve, ask]).await;
    let asked = async {
        while !world.ecs.container_log(&task, "build").contains("served") {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(crate::world::PATIENCE, asked).await.expect("the other container answers");
    world.client.stop_task().cluster("mayfly").task(&task).send().await.unwrap();

    let stopped = world.stopped(&task).await;

    // `build` only says that it was told, and is killed 2 s later; `helper` goes after it, by itself.
    assert_eq!((exit(&stopped, "build"), exit(&stopped, "helper")), (Some(137), Some(0)));
    assert!(world.ecs.container_log(&task, "build").contains("told"));
    assert!(world.ecs.container_log(&task, "helper").contains("ends"));
    world.ecs.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_with_its_own_entry_point_needs_none() {
    let Some(world) = engine_world().await else { return };
    let mut service = busybox("svc-0", "");
    service.entry_point = Some(vec!["echo".to_owned()]);
    service.command = Some(vec!["said".to_owned()]);
    let task = world.start(vec![service]).await;

    let stopped = world.stopped(&task).await;

    assert_eq!(exit(&stopped, "svc-0"), Some(0));
    assert_eq!(world.ecs.container_log(&task, "svc-0"), "said\n");
    world.ecs.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_sandbox_has_left_is_removed_by_the_next() {
    if settings().is_none() {
        return;
    }
    let podman = |arguments: &[&str]| Command::new("podman").args(arguments).output().expect("podman runs");
    // No process has the number 0.
    let ours = std::fs::read_link("/proc/self/ns/pid").expect("a namespace");
    let ours = format!("mayfly.processes={}", ours.display());
    let left = podman(&["create", "--label", "mayfly.owner=0", "--label", &ours, "docker.io/mayfly/busybox:1", "true"]);
    let id = String::from_utf8_lossy(&left.stdout).trim().to_owned();
    assert!(!id.is_empty(), "{}", String::from_utf8_lossy(&left.stderr));

    // A look that meets a container which is just ending sees nothing; there is always another sandbox.
    for _ in 0..20 {
        engine_world().await.expect("an engine").ecs.shutdown().await;
        if !podman(&["container", "exists", &id]).status.success() {
            return;
        }
    }
    panic!("{id} is still there");
}
