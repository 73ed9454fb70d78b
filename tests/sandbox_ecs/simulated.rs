//! Tasks without processes, and the events about all tasks (aws.md §2.7, §3).

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_ecs::types::CapacityProviderStrategyItem;
use futures::FutureExt;
use mayfly::sandbox::ecs::{Ending, Runtime, SimulatedTask};
use serde_json::Value;

use crate::world::{PATIENCE, World, arn, container, environment, exit, simulated};

/// Tasks that run for the minutes in MINUTES, and end as END says.
fn play(task: SimulatedTask) -> futures::future::BoxFuture<'static, Ending> {
    async move {
        let end = task.variable("build", "END").unwrap_or("fine").to_owned();
        if end == "no start" {
            return Ending::failed_to_start("ResourceInitializationError: no ENI");
        }
        task.running();
        let minutes = task.variable("build", "MINUTES").and_then(|minutes| minutes.parse().ok()).unwrap_or(1);
        if !task.runs_for(Duration::from_secs(60 * minutes)).await {
            return Ending::exited([("helper", 143)]);
        }
        match end.as_str() {
            "oom" => Ending::out_of_memory("build"),
            "host" => Ending::stopped_by_aws("InfrastructureHealth", "the host failed"),
            _ => Ending::exited([("helper", 0), ("build", 0)]),
        }
    }
    .boxed()
}

async fn plays() -> World {
    let world = simulated(Runtime::Simulated(Arc::new(play))).await;
    world.register("mayfly-a", vec![container("helper", "true"), container("build", "true")]).await;
    world
}

impl World {
    async fn run_with(&self, pairs: &[(&str, &str)]) -> String {
        arn(&self.run("mayfly-a").overrides(environment("build", pairs)).send().await.unwrap())
    }

    /// The next event about `arn`.
    async fn next_event(&mut self) -> Value {
        tokio::time::timeout(PATIENCE, self.events.recv()).await.expect("an event comes").unwrap()
    }
}

#[tokio::test]
async fn a_played_task_runs_for_its_time_on_the_clock() {
    let world = plays().await;
    let task = world.run_with(&[("MINUTES", "30")]).await;
    world.reached(&task, "RUNNING").await;
    world.clock.advance(Duration::from_secs(29 * 60));
    assert_eq!(world.ecs.live_tasks(), 1);

    world.clock.advance(Duration::from_secs(60));

    let task = world.stopped(&task).await;
    assert_eq!(task.stop_code.as_deref(), Some("EssentialContainerExited"));
    assert_eq!(task.stopped_reason.as_deref(), Some("Essential container in task exited"));
    assert_eq!((exit(&task, "helper"), exit(&task, "build")), (Some(0), Some(0)));
    tokio::time::timeout(PATIENCE, world.ecs.all_stopped()).await.unwrap();
}

#[tokio::test]
async fn a_played_task_may_end_in_other_ways() {
    let world = plays().await;
    let tasks = [
        world.run_with(&[("END", "oom")]).await,
        world.run_with(&[("END", "host")]).await,
        world.run_with(&[("END", "no start")]).await,
        world.run_with(&[("MINUTES", "999")]).await,
    ];
    for task in [&tasks[0], &tasks[1], &tasks[3]] {
        world.reached(task, "RUNNING").await;
    }
    world.client.stop_task().cluster("mayfly").task(&tasks[3]).reason("cancelled").send().await.unwrap();
    world.clock.advance(Duration::from_secs(60));

    let [oom, host, no_start, stopped] = tasks;
    let (oom, host) = (world.stopped(&oom).await, world.stopped(&host).await);
    let (no_start, stopped) = (world.stopped(&no_start).await, world.stopped(&stopped).await);
    assert_eq!((exit(&oom, "build"), exit(&oom, "helper")), (Some(137), Some(143)));
    assert!(oom.containers[1].reason.as_ref().unwrap().starts_with("OutOfMemoryError"));
    assert_eq!(host.stop_code.as_deref(), Some("InfrastructureHealth"));
    assert_eq!(no_start.stop_code.as_deref(), Some("TaskFailedToStart"));
    assert_eq!((exit(&no_start, "build"), no_start.json.get("startedAt")), (None, None));
    assert_eq!(
        (stopped.stop_code.as_deref(), stopped.stopped_reason.as_deref()),
        (Some("UserInitiated"), Some("cancelled"))
    );
    assert_eq!(exit(&stopped, "helper"), Some(143));
}

#[tokio::test]
async fn every_change_is_an_event_with_a_higher_version() {
    let mut world = plays().await;
    let task = world.run_with(&[("MINUTES", "5")]).await;
    let mut seen = Vec::new();
    let (mut version, mut last) = (0, Value::Null);
    while seen.last().map(String::as_str) != Some("STOPPED") {
        let event = world.next_event().await;
        let detail = &event["detail"];
        assert_eq!((&event["source"], &event["detail-type"]), (&"aws.ecs".into(), &"ECS Task State Change".into()));
        assert_eq!((&event["resources"][0], &detail["taskArn"]), (&task.as_str().into(), &task.as_str().into()));
        assert!(detail["version"].as_u64().unwrap() > version, "{detail}");
        version = detail["version"].as_u64().unwrap();
        let status = detail["lastStatus"].as_str().unwrap().to_owned();
        if status == "RUNNING" && seen.last() != Some(&status) {
            world.clock.advance(Duration::from_secs(5 * 60));
        }
        seen.push(status);
        last = event;
    }

    seen.dedup();
    let states = "PROVISIONING PENDING ACTIVATING RUNNING DEACTIVATING STOPPING DEPROVISIONING STOPPED";
    assert_eq!(seen.join(" "), states);
    let detail = &last["detail"];
    assert_eq!(
        (&detail["stopCode"], &detail["desiredStatus"]),
        (&"EssentialContainerExited".into(), &"STOPPED".into())
    );
    assert_eq!(detail["clusterArn"], world.ecs.cluster_arn());
    assert_eq!(detail["overrides"]["containerOverrides"][1]["environment"][0]["value"], "5", "nothing is hidden there");
    assert!(detail.get("tags").is_none());
    for time in ["createdAt", "startedAt", "stoppingAt", "executionStoppedAt", "stoppedAt", "updatedAt"] {
        detail[time].as_str().unwrap_or(time).parse::<jiff::Timestamp>().unwrap();
    }
    assert_eq!(world.ecs.events().last(), Some(&last));
}

#[tokio::test]
async fn events_are_lost_and_doubled_on_demand() {
    let mut world = plays().await;
    world.ecs.faults().lose_events(1);
    world.ecs.faults().double_events(1);

    world.run_with(&[]).await;

    let (first, second) = (world.next_event().await, world.next_event().await);
    assert_eq!(first["detail"]["lastStatus"], "PENDING", "PROVISIONING is lost");
    assert_eq!(first, second);
}

#[tokio::test]
async fn a_spot_interruption_warns_first_and_stops_then() {
    let mut world = plays().await;
    let spot = CapacityProviderStrategyItem::builder().capacity_provider("FARGATE_SPOT").weight(1).build().unwrap();
    let on_demand = world.run_with(&[]).await;
    let run = world.run("mayfly-a").set_launch_type(None).capacity_provider_strategy(spot).send().await;
    let task = arn(&run.unwrap());
    world.reached(&task, "RUNNING").await;

    assert!(world.ecs.interrupt_spot(&task));
    assert!(!world.ecs.interrupt_spot(&on_demand));

    let stopped = world.stopped(&task).await;
    assert_eq!(stopped.stop_code.as_deref(), Some("SpotInterruption"));
    assert_eq!(exit(&stopped, "helper"), Some(143));
    let warning = loop {
        let event = world.next_event().await;
        if event["detail"]["stopCode"] == "SpotInterruption" {
            break event;
        }
    };
    assert_eq!(warning["detail"]["lastStatus"], "RUNNING");
    assert_eq!(warning["detail"]["desiredStatus"], "STOPPED");
    assert_eq!(warning["detail"]["stoppedReason"], "Your Spot Task was interrupted.");
}

#[tokio::test]
async fn a_start_can_be_delayed_and_stopped_meanwhile() {
    let world = plays().await;
    world.ecs.faults().delay_start(Duration::from_secs(600));
    let waits = world.run_with(&[]).await;
    let stopped = world.run_with(&[]).await;
    world.client.stop_task().cluster("mayfly").task(&stopped).send().await.unwrap();

    let stopped = world.stopped(&stopped).await;

    assert_eq!((exit(&stopped, "build"), stopped.json.get("startedAt")), (None, None));
    assert_eq!(world.ecs.task(&waits).unwrap().last_status, "PROVISIONING");
    world.clock.advance(Duration::from_secs(600));
    world.reached(&waits, "RUNNING").await;
}

#[tokio::test]
async fn two_thousand_tasks_are_played_in_a_moment() {
    let world = plays().await;
    for _ in 0..200 {
        world.clock.advance(Duration::from_secs(1));
        let run = world.run("mayfly-a").count(10).overrides(environment("build", &[("MINUTES", "60")]));
        assert_eq!(run.send().await.unwrap().tasks().len(), 10);
    }
    for task in world.ecs.tasks() {
        world.reached(&task.arn, "RUNNING").await;
    }

    world.clock.advance(Duration::from_secs(3600));

    tokio::time::timeout(PATIENCE, world.ecs.all_stopped()).await.unwrap();
    assert_eq!(world.ecs.tasks().len(), 2000);
}
