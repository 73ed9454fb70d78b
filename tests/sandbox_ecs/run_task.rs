//! RunTask, its tokens, quotas and failures, and the lists of tasks (aws.md §1.3 to §1.5).

use std::time::Duration;

use aws_sdk_ecs::operation::run_task::RunTaskError;
use aws_sdk_ecs::types::{
    CapacityProviderStrategyItem, DesiredStatus, EphemeralStorage, PropagateTags, Tag, TaskField, TaskOverride,
};
use futures::FutureExt;
use mayfly::sandbox::ecs::{Ending, Runtime, When};
use std::sync::Arc;

use crate::world::{World, arn, code, container, environment, simulated};

const HOUR: Duration = Duration::from_secs(3600);

/// Tasks that run for as long as nobody stops them.
async fn endless() -> World {
    let play = |task: mayfly::sandbox::ecs::SimulatedTask| {
        async move {
            task.running();
            task.told_to_stop().await;
            Ending::exited([])
        }
        .boxed()
    };
    let world = simulated(Runtime::Simulated(Arc::new(play))).await;
    world.register("mayfly-a", vec![container("helper", "true"), container("build", "true")]).await;
    world
}

impl World {
    async fn stop(&self, arn: &str) {
        self.client.stop_task().cluster("mayfly").task(arn).reason("enough").send().await.unwrap();
        self.stopped(arn).await;
    }
}

#[tokio::test]
async fn the_same_token_and_parameters_give_the_same_task() {
    let world = endless().await;
    let run = || world.run("mayfly-a").client_token("t-1").overrides(environment("build", &[("A", "1")])).send();

    let answers = futures::future::join_all((0..8).map(|_| run())).await;

    let arns: Vec<_> = answers.iter().map(|answer| arn(answer.as_ref().unwrap())).collect();
    assert!(arns.iter().all(|other| *other == arns[0]));
    assert_eq!(world.ecs.tasks().len(), 1);
    world.stop(&arns[0]).await;
    assert_eq!(arn(&run().await.unwrap()), arns[0], "also after it has stopped");
}

#[tokio::test]
async fn the_same_token_with_other_parameters_is_a_conflict_that_names_the_task() {
    let world = endless().await;
    let run =
        |value: &str| world.run("mayfly-a").client_token("t-1").overrides(environment("build", &[("A", value)])).send();
    let first = arn(&run("1").await.unwrap());

    let conflict = run("2").await.unwrap_err().into_service_error();

    let RunTaskError::ConflictException(conflict) = conflict else { panic!("{conflict:?}") };
    assert_eq!(conflict.resource_ids(), [first]);
    assert_eq!(world.ecs.tasks().len(), 1);
}

#[tokio::test]
async fn a_token_lives_for_a_day_or_an_hour_longer_than_its_task() {
    let world = endless().await;
    let run = || world.run("mayfly-a").client_token("t-1").send();
    let first = arn(&run().await.unwrap());
    world.clock.advance(23 * HOUR);
    assert_eq!(arn(&run().await.unwrap()), first);
    world.clock.advance(HOUR);
    let second = arn(&run().await.unwrap());
    assert_ne!(second, first);

    world.stop(&second).await;
    world.clock.advance(HOUR - Duration::from_secs(60));
    assert_eq!(arn(&run().await.unwrap()), second);
    world.clock.advance(Duration::from_secs(60));
    assert_ne!(arn(&run().await.unwrap()), second);
}

#[tokio::test]
async fn no_capacity_is_a_failure_in_a_200_and_leaves_the_token_free() {
    let world = endless().await;
    world.ecs.faults().capacity_unavailable(1);
    let run = || world.run("mayfly-a").client_token("t-1").send();

    let refused = run().await.unwrap();
    let started = run().await.unwrap();

    assert!(refused.tasks().is_empty());
    assert!(refused.failures()[0].reason().unwrap().starts_with("Capacity is unavailable at this time."));
    assert_eq!((started.tasks().len(), started.failures().len()), (1, 0));
}

#[tokio::test]
async fn spot_and_on_demand_have_a_vcpu_quota_each() {
    let world = endless().await;
    world.ecs.faults().vcpu_limit(2);
    let size = TaskOverride::builder().cpu("2048").memory("4096").build();
    let run = || world.run("mayfly-a").overrides(size.clone());
    let spot = CapacityProviderStrategyItem::builder().capacity_provider("FARGATE_SPOT").weight(1).build().unwrap();

    let first = arn(&run().send().await.unwrap());
    let second = run().send().await.unwrap();
    let on_spot = run().set_launch_type(None).capacity_provider_strategy(spot).send().await.unwrap();

    let reason = second.failures()[0].reason().unwrap();
    assert_eq!(reason, "You\u{2019}ve reached the limit on the number of vCPUs you can run concurrently");
    assert_eq!(on_spot.tasks()[0].capacity_provider_name(), Some("FARGATE_SPOT"));
    world.stop(&first).await;
    assert_eq!(run().send().await.unwrap().tasks().len(), 1, "what stopped is free again");
}

#[tokio::test]
async fn the_task_is_described_as_it_was_asked_for() {
    let world = endless().await;
    let overrides = TaskOverride::builder()
        .cpu("4096")
        .memory("8192")
        .ephemeral_storage(EphemeralStorage::builder().size_in_gib(60).build())
        .build();
    let tag = Tag::builder().key("job").value("7").build();
    let run = world.run("mayfly-a").overrides(overrides).started_by("mayfly/group-1/7").tags(tag);

    let ran = run.propagate_tags(PropagateTags::TaskDefinition).send().await.unwrap();

    let arn = arn(&ran);
    world.reached(&arn, "RUNNING").await;
    let describe = || world.client.describe_tasks().cluster("mayfly").tasks(&arn);
    let task = describe().include(TaskField::Tags).send().await.unwrap().tasks.unwrap().remove(0);
    assert_eq!((task.cpu(), task.memory(), task.last_status()), (Some("4096"), Some("8192"), Some("RUNNING")));
    assert_eq!(task.ephemeral_storage().unwrap().size_in_gib(), 60);
    assert_eq!((task.started_by(), task.group()), (Some("mayfly/group-1/7"), Some("family:mayfly-a")));
    assert_eq!(task.tags()[0].value(), Some("7"));
    assert_eq!(task.overrides().unwrap().container_overrides().len(), 2);
    assert_eq!(task.containers()[0].last_status(), Some("RUNNING"));
    assert!(task.version() > ran.tasks()[0].version());
    assert!(describe().send().await.unwrap().tasks()[0].tags().is_empty());
    world.stop(&arn).await;
    let stopped = describe().include(TaskField::Tags).send().await.unwrap().tasks.unwrap().remove(0);
    assert!(stopped.tags().is_empty(), "StopTask takes the tags");
    assert_eq!(stopped.stopped_reason(), Some("enough"));
    assert_eq!(stopped.stop_code().unwrap().as_str(), "UserInitiated");
}

#[tokio::test]
async fn a_stopped_task_is_shown_for_an_hour() {
    let world = endless().await;
    let arn = arn(&world.run("mayfly-a").send().await.unwrap());
    world.stop(&arn).await;
    let describe = || world.client.describe_tasks().cluster("mayfly").tasks(&arn).send();
    let list = || world.client.list_tasks().cluster("mayfly").desired_status(DesiredStatus::Stopped).send();
    assert_eq!(describe().await.unwrap().tasks().len(), 1);
    assert_eq!(list().await.unwrap().task_arns(), std::slice::from_ref(&arn));

    world.clock.advance(HOUR);

    let missing = describe().await.unwrap();
    assert!(missing.tasks().is_empty());
    assert_eq!(missing.failures()[0].reason(), Some("MISSING"));
    assert_eq!(missing.failures()[0].arn(), Some(arn.as_str()));
    assert!(list().await.unwrap().task_arns().is_empty());
    assert_eq!(code(world.client.stop_task().cluster("mayfly").task(&arn).send().await), "InvalidParameterException");
}

#[tokio::test]
async fn tasks_are_listed_by_family_starter_and_page() {
    let world = endless().await;
    world.register("mayfly-b", vec![container("build", "true")]).await;
    for by in ["mayfly/1", "mayfly/2", "mayfly/2"] {
        world.run("mayfly-a").started_by(by).send().await.unwrap();
    }
    world.run("mayfly-b").send().await.unwrap();
    let list = || world.client.list_tasks().cluster("mayfly");

    assert_eq!(list().family("mayfly-b").send().await.unwrap().task_arns().len(), 1);
    assert_eq!(list().started_by("mayfly/2").send().await.unwrap().task_arns().len(), 2);
    assert_eq!(code(list().started_by("mayfly/2").family("mayfly-a").send().await), "InvalidParameterException");
    let pages = list().into_paginator().page_size(3).send().collect::<Result<Vec<_>, _>>().await.unwrap();
    assert_eq!(pages.iter().map(|page| page.task_arns().len()).collect::<Vec<_>>(), [3, 1]);
    let cluster = world.client.describe_clusters().clusters("mayfly").send().await.unwrap();
    assert_eq!(cluster.clusters()[0].cluster_arn(), Some(world.ecs.cluster_arn().as_str()));
}

#[tokio::test]
async fn run_task_is_throttled_after_twenty_calls_in_a_second() {
    let world = endless().await;
    let (mut started, mut refused) = (0, Vec::new());
    while refused.is_empty() {
        let calls = (0..20).map(|_| world.run("mayfly-a").send());
        let answers = futures::future::join_all(calls).await;
        started += answers.iter().filter(|answer| answer.is_ok()).count();
        refused.extend(answers.into_iter().filter(Result::is_err).map(code));
    }

    assert!(started >= 20);
    assert!(refused.iter().all(|code| code == "ThrottlingException"), "{refused:?}");
    world.clock.advance(Duration::from_secs(1));
    world.run("mayfly-a").send().await.unwrap();
}

#[tokio::test]
async fn faults_strike_as_often_as_they_are_told_to() {
    let world = endless().await;
    let faults = world.ecs.faults();
    faults.throttle("RunTask", 1);
    faults.server_error("RunTask", 1, When::BeforeEffect);
    let run = || world.run("mayfly-a").client_token("t-1").send();

    assert_eq!(code(run().await), "ThrottlingException");
    assert_eq!(code(run().await), "ServerException");
    assert!(world.ecs.tasks().is_empty());
    faults.server_error("RunTask", 1, When::AfterEffect);
    assert_eq!(code(run().await), "ServerException");
    assert_eq!(world.ecs.tasks().len(), 1);
    let arn = arn(&run().await.unwrap());
    assert_eq!(world.ecs.tasks().len(), 1, "the retry finds what the lost answer spoke of");
    faults.missing_after_run(1);
    let describe = || world.client.describe_tasks().cluster("mayfly").tasks(&arn).send();
    assert_eq!(describe().await.unwrap().failures()[0].reason(), Some("MISSING"));
    assert_eq!(describe().await.unwrap().tasks().len(), 1);
}
