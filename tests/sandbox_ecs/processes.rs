//! Tasks as real processes: environment, volumes, metadata, order, signals, and that nothing survives.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use aws_sdk_ecs::types::{
    CapacityProviderStrategyItem, ContainerCondition, ContainerDefinition, ContainerDependency, ContainerOverride,
    EnvironmentFile, EnvironmentFileType, Secret, TaskOverride,
};
use serde_json::Value;

use crate::world::{PATIENCE, World, arn, container, environment, exit, pair, world, world_with};

const SLEEP: &str = "trap 'exit 0' TERM; while :; do sleep 0.05; done";

fn altered(mut container: ContainerDefinition, alter: impl FnOnce(&mut ContainerDefinition)) -> ContainerDefinition {
    alter(&mut container);
    container
}

fn essential(container: ContainerDefinition, essential: bool) -> ContainerDefinition {
    altered(container, |container| container.essential = Some(essential))
}

fn depends(container: ContainerDefinition, on: &str, condition: ContainerCondition) -> ContainerDefinition {
    let dependency = ContainerDependency::builder().container_name(on).condition(condition).build().unwrap();
    altered(container, |container| container.depends_on = Some(vec![dependency]))
}

impl World {
    /// Waits until the container has written `text`.
    async fn wrote(&self, task: &str, container: &str, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.ecs.container_log(task, container).contains(text) {
            assert!(Instant::now() < deadline, "`{container}` wrote `{}`", self.ecs.container_log(task, container));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn env_of(&self, task: &str, container: &str) -> Vec<(String, String)> {
        let log = self.ecs.container_log(task, container);
        let pairs = log.lines().filter_map(|line| line.split_once('='));
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }
}

/// Whether a process is there and not only waiting to be waited for.
fn lives(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

#[tokio::test]
async fn a_container_gets_what_fargate_gives_and_nothing_of_ours() {
    let secret = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:launch-AbCdEf";
    let world = world_with(|options| {
        options.secrets.insert(secret.to_owned(), r#"{"key":"s3cret"}"#.to_owned());
    })
    .await;
    let build = container("build", "env; pwd; ls -A");
    let of_secret = Secret::builder().name("LAUNCH_KEY").value_from(format!("{secret}:key::")).build().unwrap();
    let build = altered(build, |build| {
        build.secrets = Some(vec![of_secret]);
        build.environment.as_mut().unwrap().extend([pair("BOTH", "definition"), pair("OVER", "definition")]);
    });
    let definition = world.register("mayfly-a", vec![build]).await;
    let file = EnvironmentFile::builder().r#type(EnvironmentFileType::S3).value("arn:aws:s3:::services/a.env").build();
    let over = ContainerOverride::builder()
        .name("build")
        .environment(pair("OVER", "override"))
        .environment(pair("TRICK", "a b'c\"$HOME"))
        .environment_files(file.unwrap())
        .build();
    let run = world.run(&definition).overrides(TaskOverride::builder().container_overrides(over).build());
    let task = arn(&run.send().await.unwrap());

    let stopped = world.stopped(&task).await;

    assert_eq!(exit(&stopped, "build"), Some(0));
    let env = world.env_of(&task, "build");
    let value = |name: &str| env.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str());
    assert_eq!((value("LAUNCH_KEY"), value("FROM_FILE")), (Some("s3cret"), Some("1")));
    assert_eq!((value("BOTH"), value("OVER")), (Some("definition"), Some("override")));
    assert_eq!(value("TRICK"), Some("a b'c\"$HOME"));
    assert_eq!(value("MAYFLY_BUILDS_DIR"), world.ecs.volume_dir(&task, "builds").to_str());
    assert_eq!((value("AWS_REGION"), value("AWS_EXECUTION_ENV")), (Some("eu-central-1"), Some("AWS_ECS_FARGATE")));
    assert!(value("ECS_CONTAINER_METADATA_URI_V4").unwrap().starts_with("http://127.0.0.1:"));
    assert_eq!(value("HOME"), value("PWD"));
    let known = [
        "AWS_DEFAULT_REGION AWS_EXECUTION_ENV AWS_REGION BOTH ECS_CONTAINER_METADATA_URI ECS_CONTAINER_METADATA_URI_V4",
        "FROM_FILE HOME HOSTNAME LANG LAUNCH_KEY MAYFLY_AGENT_DIR MAYFLY_BUILDS_DIR OVER PATH TRICK PWD SHLVL OLDPWD _",
        // What an image would have, and here the machine has.
        "LC_ALL TZ JAVA_HOME GOROOT SDKMAN_DIR RUSTUP_HOME CARGO_HOME PYENV_ROOT NVM_DIR GOPROXY GOFLAGS",
        "SSL_CERT_FILE SSL_CERT_DIR NODE_EXTRA_CA_CERTS REQUESTS_CA_BUNDLE CURL_CA_BUNDLE GIT_SSL_CAINFO PIP_CERT",
        "PIP_FIND_LINKS PIP_INDEX_URL npm_config_registry",
        "HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy",
    ];
    let known = known.join(" ");
    let others: Vec<_> = env.iter().filter(|(name, _)| !known.split(' ').any(|known| known == name)).collect();
    assert!(others.is_empty(), "{others:?}");
    let everything = format!("{:?}{:?}{:?}", world.ecs.tasks(), world.ecs.definitions(), world.ecs.events());
    assert!(!everything.contains("s3cret"), "secrets are described nowhere");
}

#[tokio::test]
async fn containers_share_volumes_that_everybody_may_write() {
    let world = world().await;
    let helper = container(
        "helper",
        "umask 077; echo hello > $MAYFLY_AGENT_DIR/new; mv $MAYFLY_AGENT_DIR/new $MAYFLY_AGENT_DIR/f; sleep 1000",
    );
    let build =
        container("build", "until test -f $MAYFLY_AGENT_DIR/f; do sleep 0.01; done; cat $MAYFLY_AGENT_DIR/f; exit 7");
    world.ecs.keep_volumes(true);
    let task = world.start(vec![helper, build]).await;

    let stopped = world.stopped(&task).await;

    assert_eq!(world.ecs.container_log(&task, "build"), "hello\n");
    assert_eq!((exit(&stopped, "build"), exit(&stopped, "helper")), (Some(7), Some(143)));
    let volume = world.ecs.volume_dir(&task, "agent");
    assert_eq!(std::fs::read_to_string(volume.join("f")).unwrap(), "hello\n");
    assert_eq!(volume.metadata().unwrap().permissions().mode() & 0o777, 0o777);
    for parent in volume.ancestors().take_while(|parent| parent.starts_with(world.root.path())) {
        assert_eq!(parent.metadata().unwrap().permissions().mode() & 0o001, 0o001, "{}", parent.display());
    }
    assert!(volume.as_os_str().len() < world.root.path().as_os_str().len() + 30, "sockets need short paths");
}

#[tokio::test]
async fn volumes_go_with_their_task() {
    let world = world().await;
    let task = world.start(vec![container("build", "mkdir -p $MAYFLY_BUILDS_DIR/a/b; echo done")]).await;

    world.stopped(&task).await;

    assert!(!world.ecs.volume_dir(&task, "builds").exists());
    assert_eq!(world.ecs.container_log(&task, "build"), "done\n");
}

#[tokio::test]
async fn a_container_reads_about_itself_and_its_task() {
    let world = world().await;
    let task = world
        .start(vec![container("helper", SLEEP), container("build", "echo $ECS_CONTAINER_METADATA_URI_V4; sleep 1000")])
        .await;
    world.wrote(&task, "build", "\n").await;
    let uri = world.ecs.container_log(&task, "build").trim().to_owned();
    world.reached(&task, "RUNNING").await;
    let get = |path: &str| {
        let url = format!("{uri}{path}");
        async move { reqwest::get(url).await.unwrap().json::<Value>().await.unwrap() }
    };

    let (container, of_task, stats) = (get("").await, get("/task").await, get("/task/stats").await);

    assert_eq!((&container["Name"], &container["KnownStatus"]), (&"build".into(), &"RUNNING".into()));
    assert_eq!((&of_task["TaskARN"], &of_task["Limits"]["CPU"]), (&task.as_str().into(), &1.0.into()));
    assert_eq!((&of_task["Limits"]["Memory"], &of_task["LaunchType"]), (&2048.into(), &"FARGATE".into()));
    assert_eq!(of_task["Containers"].as_array().unwrap().len(), 2);
    assert_eq!(stats.as_object().unwrap().len(), 2);
    let used = |stats: &Value| stats["memory_stats"]["usage"].as_u64().unwrap();
    assert!(stats.as_object().unwrap().values().all(|stats| used(stats) > 100_000), "{stats}");
    let own = get("/stats").await;
    assert!(own["read"].is_string() && own["name"] == "build" && used(&own) > 100_000, "{own}");
    assert!(own["cpu_stats"]["cpu_usage"]["total_usage"].is_u64(), "{own}");
    assert!(of_task["PullStartedAt"].is_string() && of_task["PullStoppedAt"].is_string());
    assert_eq!(reqwest::get(format!("{uri}0")).await.unwrap().status(), 404);
    assert!(world.traffic.seen().iter().any(|seen| seen.server == "metadata"));
    assert!(world.traffic.seen().iter().filter(|seen| seen.server == "ecs").all(|seen| !seen.path.contains("/v4/")));
}

#[tokio::test]
async fn stop_task_terminates_first_and_kills_after_the_stop_timeout() {
    let world = world().await;
    let polite = container("helper", "trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.05; done");
    let stubborn = container("build", "trap '' TERM; echo up; while :; do sleep 0.05; done");
    let task = world.start(vec![polite, stubborn]).await;
    world.wrote(&task, "helper", "up").await;
    world.wrote(&task, "build", "up").await;
    let asked = Instant::now();

    world.client.stop_task().cluster("mayfly").task(&task).reason("cancelled").send().await.unwrap();

    let stopped = world.stopped(&task).await;
    assert!(asked.elapsed() >= Duration::from_secs(2), "the stubborn one has its 2 s");
    assert_eq!((exit(&stopped, "helper"), exit(&stopped, "build")), (Some(5), Some(137)));
    assert_eq!(world.ecs.container_log(&task, "helper"), "up\nbye\n");
    assert_eq!(
        (stopped.stop_code.as_deref(), stopped.stopped_reason.as_deref()),
        (Some("UserInitiated"), Some("cancelled"))
    );
}

#[tokio::test]
async fn containers_start_in_order_and_stop_in_reverse() {
    let world = world().await;
    let say = |name: &str| {
        format!(
            "trap 'echo stop {name} >> $MAYFLY_BUILDS_DIR/order; exit 0' TERM; echo start {name} >> $MAYFLY_BUILDS_DIR/order; while :; do sleep 0.05; done"
        )
    };
    world.ecs.keep_volumes(true);
    let build = depends(container("build", &say("build")), "helper", ContainerCondition::Start);
    let task = world.start(vec![build, container("helper", &say("helper"))]).await;
    world.reached(&task, "RUNNING").await;
    let order = world.ecs.volume_dir(&task, "builds").join("order");
    let deadline = Instant::now() + PATIENCE;
    while std::fs::read_to_string(&order).unwrap_or_default().lines().count() < 2 {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    world.client.stop_task().cluster("mayfly").task(&task).send().await.unwrap();
    world.stopped(&task).await;

    let order = std::fs::read_to_string(order).unwrap();
    let stops: Vec<_> = order.lines().filter(|line| line.starts_with("stop")).collect();
    assert_eq!(stops, ["stop build", "stop helper"]);
}

#[tokio::test]
async fn a_spot_interruption_terminates_all_containers_at_once() {
    let world = world().await;
    // Helper ends only once build has had its SIGTERM; in an orderly stop build would get it after helper's end.
    let build = container("build", "trap 'touch $MAYFLY_BUILDS_DIR/told' TERM; echo up; while :; do sleep 0.05; done");
    let helper = "trap 'until test -f $MAYFLY_BUILDS_DIR/told; do sleep 0.01; done; exit 9' TERM; echo up; while :; do sleep 0.05; done";
    let helper = depends(container("helper", helper), "build", ContainerCondition::Start);
    let definition = world.register("mayfly-a", vec![build, helper]).await;
    let spot = CapacityProviderStrategyItem::builder().capacity_provider("FARGATE_SPOT").weight(1).build().unwrap();
    let run = world.run(&definition).set_launch_type(None).capacity_provider_strategy(spot);
    let task = arn(&run.send().await.unwrap());
    world.wrote(&task, "build", "up").await;
    world.wrote(&task, "helper", "up").await;

    assert!(world.ecs.interrupt_spot(&task));

    let stopped = world.stopped(&task).await;
    assert_eq!(stopped.stop_code.as_deref(), Some("SpotInterruption"));
    assert_eq!((exit(&stopped, "helper"), exit(&stopped, "build")), (Some(9), Some(137)));
}

#[tokio::test]
async fn a_dependency_that_has_to_succeed_is_waited_for() {
    let world = world().await;
    let helper = |script: &str| essential(container("helper", script), false);
    let build = || depends(container("build", "cat $MAYFLY_AGENT_DIR/f"), "helper", ContainerCondition::Success);

    let good = world.start(vec![build(), helper("sleep 0.2; echo x > $MAYFLY_AGENT_DIR/f")]).await;
    let bad = world.start(vec![build(), helper("exit 3")]).await;

    let (good, bad) = (world.stopped(&good).await, world.stopped(&bad).await);
    assert_eq!((exit(&good, "helper"), exit(&good, "build")), (Some(0), Some(0)));
    assert_eq!((exit(&bad, "helper"), exit(&bad, "build")), (Some(3), Some(143)));
    assert_eq!(bad.stop_code.as_deref(), Some("TaskFailedToStart"));
}

#[tokio::test]
async fn a_container_that_is_not_essential_may_end() {
    let world = world().await;
    let helper = essential(container("helper", "exit 4"), false);
    let task =
        world.start(vec![container("build", "until test -f $MAYFLY_BUILDS_DIR/go; do sleep 0.01; done"), helper]).await;
    let deadline = Instant::now() + PATIENCE;
    while exit(&world.ecs.task(&task).unwrap(), "helper").is_none() {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(world.reached(&task, "RUNNING").await.last_status, "RUNNING");

    std::fs::write(world.ecs.volume_dir(&task, "builds").join("go"), "").unwrap();

    assert_eq!(exit(&world.stopped(&task).await, "helper"), Some(4));
}

#[tokio::test]
async fn whatever_a_container_started_ends_with_it() {
    let world = world().await;
    // One in its own session, one with a cleaned environment but our log, one grandchild whose parent has ended.
    let script = "setsid sh -c 'echo $$; exec sleep 1000' & env -i sh -c 'echo $$; exec sleep 1000' & \
        (setsid env -i sh -c 'echo $$; sleep 1000; :' &) ; \
        sh -c '(nohup sleep 1000 >/dev/null 2>&1 & echo $!)'; echo up; sleep 1000";
    let ends = [("kill", Some(137)), ("stop", Some(143))];
    for (end, code) in ends {
        let task = world.start(vec![container("build", script)]).await;
        world.wrote(&task, "build", "up").await;
        let deadline = Instant::now() + PATIENCE;
        while world.ecs.container_log(&task, "build").lines().count() < 5 {
            assert!(Instant::now() < deadline);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let log = world.ecs.container_log(&task, "build");
        let pids: Vec<_> = log.lines().filter(|line| *line != "up").collect();
        assert!(pids.len() == 4 && pids.iter().all(|pid| lives(pid)), "{log}");
        let main = world.ecs.container_pid(&task, "build").unwrap().to_string();

        match end {
            "kill" => assert!(world.ecs.kill_container(&task, "build")),
            _ => drop(world.client.stop_task().cluster("mayfly").task(&task).send().await.unwrap()),
        }

        let stopped = world.stopped(&task).await;
        assert_eq!(exit(&stopped, "build"), code, "{end}");
        assert!(!pids.iter().any(|pid| lives(pid)) && !lives(&main), "{end}");
        assert_eq!(world.ecs.container_pid(&task, "build"), None);
    }
}

#[tokio::test]
async fn shutdown_leaves_no_process_and_does_not_wait_for_stop_timeouts() {
    let world = world().await;
    let stubborn = "trap '' TERM; setsid sleep 1000 & echo $!; while :; do sleep 0.05; done";
    let task = world.start(vec![container("build", stubborn), container("helper", stubborn)]).await;
    world.wrote(&task, "build", "\n").await;
    world.wrote(&task, "helper", "\n").await;
    let pids = ["build", "helper"].map(|name| {
        let daemon = world.ecs.container_log(&task, name).trim().to_owned();
        [daemon, world.ecs.container_pid(&task, name).unwrap().to_string()]
    });
    assert!(pids.as_flattened().iter().all(|pid| lives(pid)));

    world.ecs.shutdown().await;

    assert!(!pids.as_flattened().iter().any(|pid| lives(pid)));
    assert_eq!(world.ecs.live_tasks(), 0);
}

#[tokio::test]
async fn a_dropped_ecs_leaves_no_process() {
    let world = world().await;
    let task = world.start(vec![container("build", "echo up; sleep 1000")]).await;
    world.wrote(&task, "build", "up").await;
    let pid = world.ecs.container_pid(&task, "build").unwrap().to_string();
    assert!(lives(&pid));

    drop(world);

    assert!(!lives(&pid));
}

#[tokio::test]
async fn what_cannot_start_says_why() {
    let world = world().await;
    let no_entry_point = altered(container("build", "true"), |c| c.entry_point = None);
    let no_program = altered(container("build", "x"), |c| c.entry_point = Some(vec!["no-such-program".into()]));
    let secret = Secret::builder().name("A").value_from("arn:aws:secretsmanager:r:1:secret:none").build().unwrap();
    let no_secret = altered(container("build", "true"), |c| c.secrets = Some(vec![secret]));
    let file =
        EnvironmentFile::builder().r#type(EnvironmentFileType::S3).value("arn:aws:s3:::services/none.env").build();
    let no_file = altered(container("build", "true"), |c| c.environment_files = Some(vec![file.unwrap()]));
    let cases = [
        (vec![no_entry_point], "CannotStartContainerError"),
        (vec![no_program], "CannotStartContainerError: exec: \"no-such-program\""),
        (vec![no_secret], "ResourceInitializationError: unable to pull secrets"),
        (vec![no_file], "ResourceInitializationError: failed to download env files"),
        (vec![container("build", "true"), container("svc-0", "true")], "services need podman or Docker"),
    ];
    for (containers, expected) in cases {
        let task = world.start(containers).await;
        let stopped = world.stopped(&task).await;
        assert_eq!(stopped.stop_code.as_deref(), Some("TaskFailedToStart"), "{expected}");
        assert!(stopped.stopped_reason.as_ref().unwrap().contains(expected), "{:?}", stopped.stopped_reason);
        assert_eq!(exit(&stopped, "build"), None);
        assert_eq!(stopped.json.get("startedAt"), None);
    }
}

#[tokio::test]
async fn an_image_that_cannot_be_pulled_fails_the_task_only_if_it_is_essential() {
    let world = world().await;
    let text = "CannotPullContainerError: pull image manifest has been retried 1 time(s): not found";
    world.ecs.faults().fail_pull("build:", text);
    let helper = || container("helper", "true");

    let essential_one = world.start(vec![container("build", "true"), helper()]).await;
    let other = world.start(vec![essential(container("build", "true"), false), helper()]).await;

    let (failed, ran) = (world.stopped(&essential_one).await, world.stopped(&other).await);
    assert_eq!(
        (failed.stop_code.as_deref(), failed.stopped_reason.as_deref()),
        (Some("TaskFailedToStart"), Some(text))
    );
    assert_eq!(failed.containers[0].reason.as_deref(), Some(text));
    assert_eq!(ran.stop_code.as_deref(), Some("EssentialContainerExited"));
    assert_eq!((exit(&ran, "build"), exit(&ran, "helper")), (None, Some(0)));
    world.ecs.faults().clear();
    world.ecs.faults().fail_start("ResourceInitializationError: ENI provisioning failed");
    let task = world.start(vec![container("build", "true")]).await;
    assert!(world.stopped(&task).await.stopped_reason.unwrap().contains("ENI"));
}

#[tokio::test]
async fn a_command_override_replaces_the_command_and_not_the_entry_point() {
    let world = world().await;
    let definition = world.register("mayfly-a", vec![container("build", "echo definition")]).await;
    let over = ContainerOverride::builder().name("build").command("echo override").build();
    let run = world.run(&definition).overrides(TaskOverride::builder().container_overrides(over).build());

    let task = arn(&run.send().await.unwrap());

    world.stopped(&task).await;
    assert_eq!(world.ecs.container_log(&task, "build"), "override\n");
}

#[tokio::test]
async fn two_tasks_do_not_meet() {
    let world = world().await;
    let definition = world
        .register(
            "mayfly-a",
            vec![container(
                "build",
                "echo $ME > $MAYFLY_BUILDS_DIR/me; cat $MAYFLY_BUILDS_DIR/*; echo $ECS_CONTAINER_METADATA_URI_V4",
            )],
        )
        .await;
    let mut tasks = Vec::new();
    for me in ["one", "two", "three"] {
        tasks.push((
            me,
            arn(&world.run(&definition).overrides(environment("build", &[("ME", me)])).send().await.unwrap()),
        ));
    }

    let mut uris = Vec::new();
    for (me, task) in &tasks {
        world.stopped(task).await;
        let log = world.ecs.container_log(task, "build");
        assert!(log.starts_with(&format!("{me}\nhttp")), "{log}");
        uris.push(log);
    }
    uris.dedup();
    assert_eq!(uris.len(), 3);
}
