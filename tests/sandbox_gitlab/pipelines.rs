//! Stages, skipping and statuses of pipelines.

use mayfly::sandbox::gitlab::PipelineError;
use serde_json::json;

use crate::support::{ONE_JOB, World, commit, git};

const STAGES: &str =
    "a: {stage: build, script: x}\nb: {stage: build, script: x, allow_failure: true}\nc: {stage: test, script: x}\n";

#[tokio::test]
async fn stages_follow_each_other_and_the_jobs_of_one_run_together() {
    let world = World::new(STAGES).await;
    let pipeline = world.run();
    assert_eq!(pipeline.status(), "pending");
    let (a, b) = (world.claim().await, world.claim().await);
    assert_eq!(pipeline.status(), "running");
    assert_eq!(world.ask().await.status(), 204);
    world.put(&b, json!({ "state": "failed", "failure_reason": "script_failure" })).await;
    assert_eq!(world.ask().await.status(), 204);
    world.succeed(&a).await;

    let c = world.claim().await;
    world.succeed(&c).await;

    pipeline.finished().await;
    assert_eq!(pipeline.status(), "success");
    let names: Vec<String> = world.job(&c).history().into_iter().map(|(_, status)| status).collect();
    assert_eq!(names, ["created", "pending", "running", "success"]);
}

#[tokio::test]
async fn a_failed_job_stops_the_next_stages_until_it_is_retried() {
    let world = World::new(STAGES).await;
    let pipeline = world.run();
    let (a, b) = (world.claim().await, world.claim().await);
    world.succeed(&b).await;
    world.put(&a, json!({ "state": "failed", "failure_reason": "script_failure" })).await;
    assert_eq!(pipeline.job("c").unwrap().status(), "skipped");
    assert_eq!(pipeline.status(), "failed");

    let again = world.job(&a).retry();

    assert_ne!(again.id(), a.id);
    assert_eq!(pipeline.status(), "running");
    let a = world.claim().await;
    world.succeed(&a).await;
    let c = world.claim().await;
    world.succeed(&c).await;
    assert_eq!(pipeline.status(), "success");
    assert_eq!(pipeline.jobs().len(), 3);
    assert_eq!(world.gitlab.jobs().len(), 4);
}

#[tokio::test]
async fn a_pipeline_runs_the_commit_that_its_ref_had() {
    let world = World::new(ONE_JOB).await;
    let first = world.run();
    commit(world.repository.path(), &[(".gitlab-ci.yml", "other:\n  script: x\n")]);
    let second = world.run();

    assert!(first.job("job").is_some() && second.job("other").is_some());
    world.claim().await;
    let claim = world.claim().await;
    assert_eq!(claim.body["git_info"]["before_sha"], json!(first.sha()));
}

#[tokio::test]
async fn what_cannot_run_is_refused_with_a_sentence() {
    let world = World::new("job:\n  scirpt: x\n").await;
    let run = |project, name: &str| world.gitlab.run_pipeline(project, name).err().unwrap();

    assert!(matches!(run(1, "main"), PipelineError::NoProject(1)));
    assert!(matches!(run(world.project, "nope"), PipelineError::NoRef(_)));
    let typo = ".gitlab-ci.yml: job `job`, line 2: `scirpt` is no keyword of a job: did you mean `script`?";
    assert_eq!(run(world.project, "main").to_string(), typo);
    git(world.repository.path(), &["rm", "--quiet", ".gitlab-ci.yml"]);
    commit(world.repository.path(), &[("other", "x")]);
    assert!(matches!(run(world.project, "main"), PipelineError::NoFile));
}

#[tokio::test]
async fn an_erased_dependency_fails_the_job_that_needs_it() {
    let world = World::new("a: {stage: build, script: x}\nb: {stage: test, script: x}\n").await;
    let pipeline = world.run();
    let a = world.claim().await;
    world.succeed(&a).await;
    assert!(world.job(&a).erase());

    assert_eq!(world.ask().await.status(), 204);
    assert_eq!(pipeline.job("b").unwrap().failure_reason().as_deref(), Some("missing_dependency_failure"));
}
