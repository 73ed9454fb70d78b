//! Task definitions: revisions, their end, and the throttle (aws.md §1.4, §2.1).

use std::time::Duration;

use aws_sdk_ecs::types::{TaskDefinitionFamilyStatus, TaskDefinitionField, TaskDefinitionStatus};

use crate::world::{code, container, world};

#[tokio::test]
async fn every_registration_is_a_new_revision_and_a_family_means_the_latest_active() {
    let world = world().await;
    let first = world.register("mayfly-a", vec![container("build", "true")]).await;
    let second = world.register("mayfly-a", vec![container("build", "true")]).await;
    let describe = |name: &str| world.client.describe_task_definition().task_definition(name).send();

    assert!(first.ends_with("task-definition/mayfly-a:1") && second.ends_with("task-definition/mayfly-a:2"));
    let latest = describe("mayfly-a").await.unwrap().task_definition.unwrap();
    assert_eq!(latest.task_definition_arn.as_deref(), Some(second.as_str()));
    assert_eq!(latest.container_definitions()[0].essential, Some(true));

    world.client.deregister_task_definition().task_definition("mayfly-a:2").send().await.unwrap();
    let latest = describe("mayfly-a").await.unwrap().task_definition.unwrap();
    assert_eq!(latest.task_definition_arn.as_deref(), Some(first.as_str()));
    let inactive = describe(&second).await.unwrap().task_definition.unwrap();
    assert_eq!(inactive.status, Some(TaskDefinitionStatus::Inactive));
    assert_eq!(code(world.run(&second).send().await), "ClientException");
    assert_eq!(code(describe("mayfly-b").await), "ClientException");
}

#[tokio::test]
async fn only_inactive_definitions_can_be_deleted_and_numbers_are_never_used_again() {
    let world = world().await;
    let arn = world.register("mayfly-a", vec![container("build", "true")]).await;
    let delete = || world.client.delete_task_definitions().task_definitions(&arn).send();

    let refused = delete().await.unwrap();
    assert_eq!((refused.task_definitions().len(), refused.failures().len()), (0, 1));
    world.client.deregister_task_definition().task_definition(&arn).send().await.unwrap();
    let deleted = delete().await.unwrap();

    assert_eq!(deleted.task_definitions()[0].status, Some(TaskDefinitionStatus::DeleteInProgress));
    assert!(world.ecs.definitions().is_empty());
    assert!(world.register("mayfly-a", vec![container("build", "true")]).await.ends_with("mayfly-a:2"));
}

#[tokio::test]
async fn definitions_and_families_are_listed() {
    let world = world().await;
    for family in ["mayfly-a", "mayfly-a", "mayfly-b"] {
        world.register(family, vec![container("build", "true")]).await;
    }
    world.client.deregister_task_definition().task_definition("mayfly-b:1").send().await.unwrap();

    let pages = world.client.list_task_definitions().family_prefix("mayfly-a").into_paginator().page_size(1).send();
    let pages = pages.collect::<Result<Vec<_>, _>>().await.unwrap();
    let active = world.client.list_task_definition_families().status(TaskDefinitionFamilyStatus::Active).send().await;

    assert_eq!(pages.iter().map(|page| page.task_definition_arns().len()).collect::<Vec<_>>(), [1, 1]);
    assert_eq!(active.unwrap().families(), ["mayfly-a"]);
}

#[tokio::test]
async fn tags_are_described_only_where_they_are_asked_for() {
    let world = world().await;
    let tag = aws_sdk_ecs::types::Tag::builder().key("mayfly:hash").value("abc").build();
    let arn = world.register("mayfly-a", vec![container("build", "true")]).await;
    let known = world.client.describe_task_definition().task_definition(&arn).send().await.unwrap();
    let definition = known.task_definition.unwrap();
    let again = world.client.register_task_definition().family("mayfly-tagged").tags(tag);
    again
        .set_container_definitions(definition.container_definitions)
        .set_volumes(definition.volumes)
        .set_network_mode(definition.network_mode)
        .set_requires_compatibilities(definition.requires_compatibilities)
        .set_execution_role_arn(definition.execution_role_arn)
        .cpu("1 vCPU")
        .memory("2 GB")
        .send()
        .await
        .unwrap();

    let describe = || world.client.describe_task_definition().task_definition("mayfly-tagged");
    let bare = describe().send().await.unwrap();
    let tagged = describe().include(TaskDefinitionField::Tags).send().await.unwrap();

    assert!(bare.tags.is_none());
    assert_eq!(tagged.tags()[0].value(), Some("abc"));
    assert_eq!(tagged.task_definition.unwrap().cpu(), Some("1024"));
}

#[tokio::test]
async fn after_twenty_registrations_they_are_throttled_until_a_second_has_passed() {
    let world = world().await;
    world.register("mayfly-a", vec![container("build", "true")]).await;
    let deregister = || world.client.deregister_task_definition().task_definition("mayfly-a:1").send();

    let mut taken = 1;
    let refused = loop {
        match deregister().await {
            Ok(_) => taken += 1,
            refused => break code(refused),
        }
    };

    // The clock goes on meanwhile, so a slow machine gets more than its twenty.
    assert!(taken >= 20, "{taken}");
    assert_eq!(refused, "ThrottlingException");
    world.clock.advance(Duration::from_secs(1));
    deregister().await.unwrap();
}
