//! What starts a pipeline, and what its jobs hear of that (gitlab-protocol.md §1.7, §3.7, §10.1).

use mayfly::sandbox::gitlab::{Hook, PipelineError, PipelineHandle, Source, Trigger, Variable};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Claim, World, claim_body, commit, git};

/// Without a rule a job runs for branches and tags only.
const EVERY_EVENT: &str = "job:\n  script: echo hello\n  rules: [{when: on_success}]\n";

fn trigger(world: &World, ref_name: &str, source: Source) -> PipelineHandle {
    let trigger = Trigger { ref_name: ref_name.into(), source, ..Trigger::default() };
    world.gitlab.trigger(world.project, &trigger).unwrap()
}

fn merge_request() -> Source {
    Source::MergeRequest { target: "main".into(), title: "Greet the world".into() }
}

/// A branch `topic` that left `main` one commit ago, which went on since.
fn with_topic(world: &World) -> String {
    let folder = world.repository.path();
    let base = git(folder, &["rev-parse", "HEAD"]);
    git(folder, &["checkout", "--quiet", "-b", "topic"]);
    commit(folder, &[("topic.txt", "topic")]);
    git(folder, &["checkout", "--quiet", "main"]);
    commit(folder, &[("main.txt", "main")]);
    base
}

/// Claims a job with every feature that one may need.
async fn claim(world: &World) -> Claim {
    let body = claim_body(&world.runner, &["refspecs", "return_exit_code"]);
    let response = world.own(Method::POST, "/api/v4/jobs/request").json(&body).send().await.unwrap();
    assert_eq!(response.status(), 201);
    Claim::new(response.json().await.unwrap())
}

#[tokio::test]
async fn a_merge_request_is_told_by_its_variables_and_its_ref() {
    let world = World::new(EVERY_EVENT).await;
    let base = with_topic(&world);
    trigger(&world, "topic", merge_request());

    let claim = claim(&world).await;

    let value = |key| claim.value(key);
    assert_eq!(value("CI_PIPELINE_SOURCE"), Some("merge_request_event"));
    assert_eq!(value("CI_MERGE_REQUEST_EVENT_TYPE"), Some("detached"));
    assert_eq!((value("CI_MERGE_REQUEST_IID"), value("CI_MERGE_REQUEST_TITLE")), (Some("1"), Some("Greet the world")));
    assert_eq!(value("CI_MERGE_REQUEST_SOURCE_BRANCH_NAME"), Some("topic"));
    assert_eq!(value("CI_MERGE_REQUEST_TARGET_BRANCH_NAME"), Some("main"));
    assert_eq!(value("CI_MERGE_REQUEST_TARGET_BRANCH_SHA"), Some(""));
    assert_eq!(value("CI_MERGE_REQUEST_DIFF_BASE_SHA"), Some(base.as_str()));
    assert_eq!(value("CI_MERGE_REQUEST_PROJECT_PATH"), Some("group/app"));
    assert_eq!(value("CI_OPEN_MERGE_REQUESTS"), Some("group/app!1"));
    assert_eq!((value("CI_COMMIT_REF_NAME"), value("CI_COMMIT_BRANCH")), (Some("topic"), None));
    assert!(value("CI_COMMIT_BEFORE_SHA").unwrap().bytes().all(|digit| digit == b'0'));
    let info = &claim.body["git_info"];
    assert_eq!((&info["ref"], &info["ref_type"]), (&json!("refs/merge-requests/1/head"), &json!("branch")));
    assert_eq!(info["refspecs"].as_array().unwrap().len(), 1);
    let entity = world.call(Method::GET, "/api/v4/job").header("JOB-TOKEN", &claim.token).send().await.unwrap();
    let entity: Value = entity.json().await.unwrap();
    assert_eq!(entity["pipeline"]["source"], "merge_request_event");
}

#[tokio::test]
async fn a_merge_request_needs_two_branches_and_a_runner_that_knows_refspecs() {
    let world = World::new(EVERY_EVENT).await;
    with_topic(&world);
    let into = |target: &str| Source::MergeRequest { target: target.into(), title: String::new() };
    let refused = Trigger { ref_name: "topic".into(), source: into("nope"), ..Trigger::default() };
    let error = world.gitlab.trigger(world.project, &refused).err().unwrap();
    assert!(matches!(error, PipelineError::NoRef(name) if name == "nope"));
    let pipeline = trigger(&world, "topic", merge_request());

    assert_eq!(world.ask().await.status(), 204);

    assert_eq!(pipeline.job("job").unwrap().failure_reason().as_deref(), Some("runner_unsupported"));
}

#[tokio::test]
async fn a_branch_names_its_open_merge_requests_and_a_second_run_keeps_its_number() {
    let world = World::new(EVERY_EVENT).await;
    with_topic(&world);
    trigger(&world, "topic", merge_request());
    trigger(&world, "topic", merge_request());
    trigger(&world, "topic", Source::Push);

    let (first, second, branch) = (claim(&world).await, claim(&world).await, claim(&world).await);

    assert_eq!(first.value("CI_MERGE_REQUEST_IID"), second.value("CI_MERGE_REQUEST_IID"));
    assert_eq!(branch.value("CI_OPEN_MERGE_REQUESTS"), Some("group/app!1"));
    assert_eq!(branch.value("CI_COMMIT_BRANCH"), Some("topic"));
}

#[tokio::test]
async fn a_tag_brings_its_message() {
    let world = World::new(EVERY_EVENT).await;
    git(world.repository.path(), &["tag", "--annotate", "v1", "--message", "The first"]);
    git(world.repository.path(), &["tag", "v2"]);
    trigger(&world, "v1", Source::Push);
    trigger(&world, "v2", Source::Push);

    let (annotated, plain) = (world.claim().await, world.claim().await);

    assert_eq!(annotated.value("CI_COMMIT_TAG"), Some("v1"));
    assert_eq!(annotated.value("CI_COMMIT_TAG_MESSAGE"), Some("The first"));
    assert_eq!((plain.value("CI_COMMIT_TAG"), plain.value("CI_COMMIT_TAG_MESSAGE")), (Some("v2"), Some("")));
    assert_eq!(plain.value("CI_COMMIT_BRANCH"), None);
    assert_eq!(plain.body["git_info"]["refspecs"][1], "+refs/tags/v2:refs/tags/v2");
}

#[tokio::test]
async fn whoever_starts_a_pipeline_has_the_last_word_about_variables() {
    let world = World::new("job:\n  variables: {A: file, B: file}\n  script: x\n").await;
    let variable = |key: &str, value: &str| Variable { key: key.into(), value: value.into(), ..Variable::default() };
    world.gitlab.set_variable(world.project, variable("A", "project"));
    world.gitlab.set_variable(world.project, variable("B", "project"));
    let variables = vec![variable("A", "trigger")];
    let trigger = Trigger { ref_name: "main".into(), source: Source::Web, variables, ..Trigger::default() };
    world.gitlab.trigger(world.project, &trigger).unwrap();

    let claim = world.claim().await;

    assert_eq!((claim.value("A"), claim.value("B")), (Some("trigger"), Some("project")));
    assert_eq!(claim.value("CI_PIPELINE_SOURCE"), Some("web"));
    assert_eq!(claim.body["variables"].as_array().unwrap().last().unwrap()["key"], "A");
}

#[tokio::test]
async fn hooks_tell_the_event() {
    let world = World::new(EVERY_EVENT).await;
    with_topic(&world);
    let hook = Hook { url: "http://127.0.0.1:1".into(), job_events: true, pipeline_events: true, ..Hook::default() };
    world.gitlab.add_hook(world.project, hook);
    trigger(&world, "topic", merge_request());

    let sent = world.gitlab.hook_deliveries();

    let of = |event: &str| sent.iter().find(|sent| sent.event == event).unwrap().json();
    let pipeline = of("Pipeline Hook");
    assert_eq!(pipeline["object_attributes"]["source"], "merge_request_event");
    assert_eq!(pipeline["object_attributes"]["ref"], "topic");
    assert_eq!(pipeline["merge_request"]["target_branch"], "main");
    assert_eq!(of("Job Hook")["ref"], "refs/merge-requests/1/head");
}

#[tokio::test]
async fn every_job_can_be_looked_at_as_a_runner_would_be_told_it() {
    let world = World::new(
        "a: {stage: build, script: x, tags: [$WHERE], variables: {WHERE: mayfly}}\nb: {stage: test, script: y}\n",
    )
    .await;
    let pipeline = world.run();

    let previews = pipeline.previews();

    let names: Vec<String> = previews.iter().map(|preview| preview.job.name()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!((&previews[0].tags, &previews[1].tags), (&vec!["mayfly".to_owned()], &Vec::new()));
    assert_eq!(previews[1].claim["steps"][0]["script"], json!(["y"]));
    assert_eq!(previews[1].claim["dependencies"][0]["name"], "a");
    assert!(previews[1].claim["token"].is_string());
    assert_eq!(pipeline.job("a").unwrap().token(), None);
    assert_eq!((pipeline.stages(), pipeline.name()), (vec!["build".to_owned(), "test".to_owned()], None));
}
