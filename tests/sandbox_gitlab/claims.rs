//! `POST /jobs/request`: who gets which job, and what the claim says (gitlab-protocol.md §3, §11.3 jobs_request).

use std::time::Duration;

use mayfly::sandbox::gitlab::{RunnerSpec, Scope, Variable};
use reqwest::Method;
use serde_json::json;

use crate::support::{Claim, ONE_JOB, World, claim_body, commit, git, header};

const FULL: &str = r#"
stages: [build, test]
variables: {GLOBAL: one, WINS: file}
default:
  before_script: [echo before]
build:
  stage: build
  script: [echo build]
  artifacts: {paths: [out/], exclude: [out/x], expire_in: 1 week, reports: {junit: r.xml}}
test:
  stage: test
  image: {name: "rust:1", entrypoint: [""], docker: {user: me}, pull_policy: always}
  services: [{name: "postgres:16", alias: db, variables: {P: "1"}}]
  variables: {WINS: job, GIT_DEPTH: "5"}
  script: [echo one, echo two]
  after_script: [echo bye]
  cache: [{paths: [a/]}, {key: k, paths: [b/], unprotect: true, fallback_keys: [f]}]
  environment: {name: "review/$CI_COMMIT_REF_NAME"}
  timeout: 30m
"#;
const EVERYTHING: [&str; 4] =
    ["upload_multiple_artifacts", "artifacts_exclude", "fallback_cache_keys", "cancel_gracefully"];

#[tokio::test]
async fn a_claim_tells_the_runner_everything_about_the_job() {
    let world = World::new(FULL).await;
    let variable = |key: &str| Variable { key: key.into(), value: "settings".into(), ..Variable::default() };
    world.gitlab.set_variable(world.project, Variable { masked: true, ..variable("WINS") });
    world.gitlab.set_variable(world.project, Variable { file: true, raw: true, ..variable("KUBECONFIG") });
    let pipeline = world.run();
    let body = claim_body(&world.runner, &EVERYTHING);
    let ask = || world.own(Method::POST, "/api/v4/jobs/request").json(&body).send();
    let build = ask().await.unwrap();
    assert_eq!((build.status().as_u16(), header(&build, "content-type")), (201, Some("application/json")));
    assert_eq!(header(&build, "x-gitlab-last-update"), None);
    let build = Claim::new(build.json().await.unwrap());
    let artifacts = &build.body["artifacts"];
    assert_eq!(artifacts[0]["artifact_type"], "archive");
    assert_eq!(artifacts[0]["exclude"], json!(["out/x"]));
    assert_eq!(
        artifacts[1],
        json!({
            "name": "junit.xml", "untracked": null, "paths": ["r.xml"], "when": "always", "expire_in": "1 week",
            "artifact_type": "junit", "artifact_format": "gzip",
        })
    );
    world.succeed(&build).await;

    let test = Claim::new(ask().await.unwrap().json().await.unwrap());

    let sha = git(world.repository.path(), &["rev-parse", "HEAD"]);
    let id = pipeline.id();
    assert_eq!(test.body["git_info"]["sha"], sha);
    assert_eq!(test.body["git_info"]["depth"], 5);
    assert_eq!(
        test.body["git_info"]["refspecs"],
        json!([format!("+refs/pipelines/{id}:refs/pipelines/{id}"), "+refs/heads/main:refs/remotes/origin/main",])
    );
    let url = test.body["git_info"]["repo_url"].as_str().unwrap();
    assert!(url.contains(&format!("gitlab-ci-token:{}@127.0.0.1:", test.token)) && url.ends_with("/group/app.git"));
    assert_eq!(
        test.body["image"],
        json!({
            "name": "rust:1", "entrypoint": [""], "ports": [], "executor_opts": {"docker": {"user": "me"}}, "pull_policy": ["always"],
        })
    );
    assert_eq!(test.body["services"][0]["variables"], json!([{"key": "P", "value": "1"}]));
    assert_eq!(test.body["steps"][0]["script"], json!(["echo before", "echo one", "echo two"]));
    assert_eq!(test.body["steps"][1]["when"], "always");
    assert_eq!(test.body["cache"][0]["key"], "default-protected");
    assert_eq!(test.body["cache"][1]["key"], "k-non_protected");
    assert_eq!(test.body["cache"][1]["fallback_keys"], json!(["f-non_protected"]));
    assert_eq!(test.body["runner_info"]["timeout"], 1800);
    assert_eq!(test.body["dependencies"], json!([{"id": build.id, "name": "build", "token": test.token}]));
    assert_eq!(test.body["features"]["failure_reasons"].as_array().unwrap().len(), 52);
    assert_eq!(test.body["job_info"]["project_jobs_running_on_instance_runners_count"], "0");
    assert_eq!(
        test.variable("WINS").unwrap(),
        &json!({"key": "WINS", "value": "settings", "public": false, "masked": true})
    );
    assert_eq!(test.variable("KUBECONFIG").unwrap()["file"], true);
    assert_eq!(test.variable("CI_JOB_TOKEN").unwrap()["masked"], true);
    assert_eq!(test.variable("CI_REPOSITORY_URL").unwrap()["public"], false);
    assert_eq!(test.value("GLOBAL"), Some("one"));
    assert_eq!(test.value("CI_ENVIRONMENT_NAME"), Some("review/main"));
    assert_eq!(test.value("CI_COMMIT_TITLE"), Some("Say hello"));
    assert_eq!(test.value("CI_COMMIT_AUTHOR"), Some("Ada <ada@example.com>"));
    assert_eq!(test.value("CI_RUNNER_TAGS"), Some("[\"mayfly\"]"));
    assert_eq!((test.value("CI_COMMIT_BRANCH"), test.value("CI_PROJECT_DIR")), (Some("main"), None));
    world.assert_strict();
}

#[tokio::test]
async fn every_reading_of_the_job_row_shows_the_tags_that_the_claim_hides() {
    let world = World::new("job:\n  tags: [mayfly]\n  script: x\n").await;
    world.run();
    let claim = world.claim().await;
    assert!(!claim.body.to_string().contains("tag_list"));

    let job = world.own(Method::GET, "/api/v4/job").header("JOB-TOKEN", &claim.token).send().await.unwrap();

    assert_eq!(job.status(), 200);
    assert_eq!(job.json::<serde_json::Value>().await.unwrap()["tag_list"], json!(["mayfly"]));
    world.succeed(&claim).await;
    let dead = world.own(Method::GET, "/api/v4/job").header("JOB-TOKEN", &claim.token).send().await.unwrap();
    assert_eq!(dead.status(), 401);
}

#[tokio::test]
async fn a_request_without_a_good_token_is_refused() {
    let world = World::new(ONE_JOB).await;
    let ask = |body: serde_json::Value| world.call(Method::POST, "/api/v4/jobs/request").json(&body).send();

    assert_eq!(ask(json!({})).await.unwrap().status(), 400);
    assert_eq!(ask(json!({"token": "glrt-wrong"})).await.unwrap().status(), 403);
    let large = json!({"token": world.runner, "info": {"name": "x".repeat(40_000)}});
    assert_eq!(ask(large).await.unwrap().status(), 413);
    let broken = world.call(Method::POST, "/api/v4/jobs/request").body("{").send().await.unwrap();
    assert_eq!(broken.status(), 400);
    let orphan = RunnerSpec { scope: Scope::Project(999), ..RunnerSpec::default() };
    assert_eq!(ask(json!({"token": world.gitlab.add_runner(orphan)})).await.unwrap().status(), 403);
}

#[tokio::test]
async fn tags_must_be_a_subset_in_the_same_case() {
    let world = World::new("job:\n  tags: [Mayfly]\n  script: x\n").await;
    world.run();
    assert_eq!(world.ask().await.status(), 204);
    let other =
        world.gitlab.add_runner(RunnerSpec { tags: vec!["Mayfly".into(), "b".into()], ..RunnerSpec::default() });
    assert_eq!(world.ask_as(&other).await.status(), 201);
}

#[tokio::test]
async fn untagged_jobs_protected_runners_and_scopes_are_kept_apart() {
    let world =
        World::with(ONE_JOB, RunnerSpec { tags: vec!["a".into()], run_untagged: false, ..RunnerSpec::default() }).await;
    git(world.repository.path(), &["branch", "topic"]);
    world.gitlab.run_pipeline(world.project, "topic").unwrap();
    let protected = world.gitlab.add_runner(RunnerSpec { ref_protected: true, ..RunnerSpec::default() });
    let other = world.gitlab.add_project("other/app", world.repository.path());
    let elsewhere = world.gitlab.add_runner(RunnerSpec { scope: Scope::Project(other), ..RunnerSpec::default() });

    for runner in [&world.runner, &protected, &elsewhere] {
        assert_eq!(world.ask_as(runner).await.status(), 204);
    }
    world.run();
    assert_eq!(world.ask_as(&protected).await.status(), 201);
    let here = world.gitlab.add_runner(RunnerSpec { scope: Scope::Project(world.project), ..RunnerSpec::default() });
    assert_eq!(world.ask_as(&here).await.status(), 201);
}

#[tokio::test]
async fn a_paused_runner_gets_nothing_although_a_job_waits() {
    let world = World::new(ONE_JOB).await;
    world.run();
    world.gitlab.pause_runner(&world.runner, true);

    let answer = world.ask().await;

    assert_eq!(answer.status(), 204);
    assert!(header(&answer, "x-gitlab-last-update").is_some());
    world.gitlab.pause_runner(&world.runner, false);
    assert_eq!(world.ask().await.status(), 201);
}

#[tokio::test]
async fn an_equal_last_update_hides_a_job_from_a_foreign_client() {
    let world = World::new(ONE_JOB).await;
    world.run();
    world.gitlab.faults().lag_next_claims(1, mayfly::sandbox::gitlab::Lag::NoContent);
    let lagged = world.ask().await;
    let version = header(&lagged, "x-gitlab-last-update").unwrap().to_owned();
    let ask = |version: &str| {
        let body = json!({"token": world.runner, "last_update": version});
        world.call(Method::POST, "/api/v4/jobs/request").json(&body).send()
    };

    assert_eq!(ask(&version).await.unwrap().status(), 204);
    assert_eq!(ask("old").await.unwrap().status(), 201);
}

#[tokio::test]
async fn a_runner_that_cannot_do_what_a_job_needs_fails_it() {
    let world = World::new("a:\n  script: x\n  artifacts: {reports: {junit: r.xml}}\nb:\n  script: x\n").await;
    let pipeline = world.run();

    let claim = world.claim().await;

    assert_eq!(world.job(&claim).name(), "b");
    let info = &claim.body["job_info"];
    assert_eq!((&info["queue_size"], &info["queue_depth"]), (&json!(2), &json!(2)));
    let a = pipeline.job("a").unwrap();
    assert_eq!((a.status().as_str(), a.failure_reason().as_deref()), ("failed", Some("runner_unsupported")));
}

#[tokio::test]
async fn a_release_is_a_step_for_a_runner_that_runs_several() {
    let release =
        "  release: {tag_name: v$N, description: 'a \"b\"', milestones: [m], assets: {links: [{name: n, url: u}]}}\n";
    let world = World::new(&format!("a:\n  script: x\n  after_script: [z]\n{release}")).await;
    let steps = |claim: &Claim| -> Vec<String> {
        let steps = claim.body["steps"].as_array().unwrap().iter();
        steps.map(|step| step["name"].as_str().unwrap().to_owned()).collect()
    };
    world.run();
    assert_eq!(steps(&world.claim().await), ["script", "after_script"]);

    world.gitlab.enable_releases();
    let refused = world.run();
    assert_eq!(world.ask().await.status(), 204);
    let job = refused.job("a").unwrap();
    assert_eq!((job.status().as_str(), job.failure_reason().as_deref()), ("failed", Some("runner_unsupported")));

    world.run();
    let body = claim_body(&world.runner, &["multi_build_steps"]);
    let answer = world.own(Method::POST, "/api/v4/jobs/request").json(&body).send().await.unwrap();
    let claim = Claim::new(answer.json().await.unwrap());
    assert_eq!(steps(&claim), ["script", "release", "after_script"]);
    let command = r#"release-cli create --description "a \"b\"" --tag-name "v$N" --milestone "m" --assets-link "{\"name\":\"n\",\"url\":\"u\"}""#;
    assert_eq!(claim.body["steps"][1]["script"], json!([command]));
    world.assert_strict();
}

#[tokio::test]
async fn each_job_goes_to_one_claimer() {
    let world = World::new(ONE_JOB).await;
    world.run();

    let answers = futures::future::join_all((0..8).map(|_| world.ask())).await;

    let given = answers.iter().filter(|answer| answer.status() == 201).count();
    assert_eq!((given, world.gitlab.claim_requests()), (1, 8));
}

#[tokio::test]
async fn the_smallest_timeout_wins() {
    let runner = RunnerSpec { maximum_timeout: Some(Duration::from_secs(1000)), ..RunnerSpec::default() };
    let world = World::with(ONE_JOB, runner).await;
    world.gitlab.set_project_timeout(world.project, Duration::from_secs(1234));
    world.run();
    world.run();
    let free = world.gitlab.add_runner(RunnerSpec::default());

    assert_eq!(world.claim().await.body["runner_info"]["timeout"], 1000);
    let other: serde_json::Value = world.ask_as(&free).await.json().await.unwrap();
    assert_eq!(other["runner_info"]["timeout"], 1234);
}

#[tokio::test]
async fn a_session_on_a_local_address_is_a_conflict() {
    let world = World::new(ONE_JOB).await;
    world.run();
    let body = json!({"token": world.runner, "session": {"url": "https://127.0.0.1:8093"}});

    assert_eq!(world.call(Method::POST, "/api/v4/jobs/request").json(&body).send().await.unwrap().status(), 409);
}

#[tokio::test]
async fn a_tag_pipeline_and_a_full_clone_have_their_refspecs() {
    let world = World::new("job:\n  script: x\n").await;
    git(world.repository.path(), &["tag", "v1"]);
    commit(world.repository.path(), &[(".gitlab-ci.yml", "job:\n  script: x\n  variables: {GIT_DEPTH: 0}\n")]);
    world.gitlab.run_pipeline(world.project, "v1").unwrap();
    world.run();

    let (tag, full) = (world.claim().await, world.claim().await);

    assert_eq!(tag.body["git_info"]["ref_type"], "tag");
    assert_eq!(tag.body["git_info"]["refspecs"][1], "+refs/tags/v1:refs/tags/v1");
    assert_eq!((tag.value("CI_COMMIT_TAG"), tag.value("CI_COMMIT_BRANCH")), (Some("v1"), None));
    assert_eq!(full.body["git_info"]["refspecs"][1], "+refs/heads/*:refs/remotes/origin/*");
    assert_eq!(full.body["git_info"]["depth"], 0);
}

#[tokio::test]
async fn protected_variables_and_the_registry_come_when_they_are_allowed() {
    let world = World::new("job:\n  script: x\n  cache: {paths: [a]}\n").await;
    git(world.repository.path(), &["branch", "topic"]);
    let secret = Variable { key: "S".into(), value: "v".into(), protected: true, ..Variable::default() };
    world.gitlab.set_variable(world.project, secret);
    world.gitlab.clear_caches(world.project);
    world.gitlab.run_pipeline(world.project, "topic").unwrap();
    let topic = world.claim().await;
    world.gitlab.enable_registry("registry.test");
    world.run();
    let main = world.claim().await;

    assert_eq!((topic.value("S"), main.value("S")), (None, Some("v")));
    assert_eq!(topic.body["credentials"], json!([]));
    assert_eq!(main.body["credentials"][0]["password"], json!(main.token));
    assert_eq!(topic.body["cache"][0]["key"], "default-1-non_protected");
    assert_eq!(main.body["cache"][0]["key"], "default-1-protected");
}
