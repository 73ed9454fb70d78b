//! How pipelines go on, and what their jobs are made of.

use std::time::Duration;

use mayfly::sandbox::gitlab::{JobHandle, PipelineError, PipelineHandle, Source, Trigger};
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

#[tokio::test]
async fn a_delayed_job_starts_when_the_clock_says_so() {
    let world = World::new("a: {script: x, when: delayed, start_in: 10 minutes}\n").await;
    let pipeline = world.run();
    assert_eq!(pipeline.status(), "scheduled");
    world.clock.advance(Duration::from_secs(599));
    assert_eq!(world.ask().await.status(), 204);

    world.clock.advance(Duration::from_secs(1));

    pipeline.job("a").unwrap().reached("pending").await;
    let claim = world.claim().await;
    world.succeed(&claim).await;
    pipeline.finished().await;
    assert_eq!(pipeline.status(), "success");
}

#[tokio::test]
async fn people_play_manual_jobs_once_and_a_blocked_pipeline_rests() {
    let world = World::new("gate: {script: x, when: manual, allow_failure: false}\n").await;
    let pipeline = world.run();
    pipeline.rested().await;
    assert_eq!(pipeline.status(), "manual");
    let id = pipeline.job("gate").unwrap().id();
    let play = || {
        let path = format!("/api/v4/projects/{}/jobs/{id}/play", world.project);
        world.call(reqwest::Method::POST, &path).header("PRIVATE-TOKEN", world.gitlab.private_token()).send()
    };

    assert_eq!(play().await.unwrap().status(), 201);

    assert_eq!(play().await.unwrap().status(), 400);
    let claim = world.claim().await;
    assert_eq!(claim.value("CI_JOB_MANUAL"), Some("true"));
    world.succeed(&claim).await;
    assert_eq!(pipeline.status(), "success");
}

#[tokio::test]
async fn parallel_jobs_know_their_place_and_a_hook_script_is_sent() {
    let world = World::new("a: {script: x, parallel: 2, hooks: {pre_get_sources_script: [echo before]}}\n").await;
    world.run();

    let (first, second) = (world.claim().await, world.claim().await);

    assert_eq!((first.value("CI_NODE_INDEX"), first.value("CI_NODE_TOTAL")), (Some("1"), Some("2")));
    assert_eq!((second.value("CI_NODE_INDEX"), second.value("CI_JOB_NAME")), (Some("2"), Some("a 2/2")));
    assert_eq!(first.body["hooks"], json!([{ "name": "pre_get_sources_script", "script": ["echo before"] }]));
}

#[tokio::test]
async fn changes_are_what_a_push_or_a_merge_request_brought() {
    let world = World::new("always: {script: x}\ndocs: {script: x, rules: [{changes: [docs.md]}]}\n").await;
    let folder = world.repository.path();
    let names = |pipeline: &PipelineHandle| pipeline.jobs().iter().map(JobHandle::name).collect::<Vec<_>>();
    // Nobody knows what a first push brought.
    assert_eq!(names(&world.run()), ["always", "docs"]);
    commit(folder, &[("code.rs", "x")]);
    assert_eq!(names(&world.run()), ["always"]);
    commit(folder, &[("docs.md", "x")]);
    assert_eq!(names(&world.run()), ["always", "docs"]);
    git(folder, &["checkout", "--quiet", "-b", "topic"]);
    commit(
        folder,
        &[
            ("more.rs", "x"),
            (
                ".gitlab-ci.yml",
                "all: {script: x, rules: [{if: $CI_MERGE_REQUEST_IID, changes: [more.rs]}]}\nno: {script: x, rules: [{if: $CI_MERGE_REQUEST_IID, changes: [docs.md]}]}\n",
            ),
        ],
    );

    let source = Source::MergeRequest { target: "main".into(), title: "More".into() };
    let trigger = Trigger { ref_name: "topic".into(), source, ..Trigger::default() };
    let pipeline = world.gitlab.trigger(world.project, &trigger).unwrap();

    assert_eq!(names(&pipeline), ["all"]);
}
