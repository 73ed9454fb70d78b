//! Hostile and mistaken input: each with the status, the reason and the words that GitLab shows.

use mayfly::sandbox::gitlab::Variable;
use serde_json::{Value, json};

use crate::support::{Story, trace};

const ONE_JOB: &str = "build:\n  script: [echo hello]\n";

#[tokio::test(flavor = "multi_thread")]
async fn what_we_do_not_do_is_refused_by_name_and_never_green() {
    type Rewrite = fn(&mut Value);
    let cases: [(Rewrite, &str); 6] = [
        (|claim| claim["run"] = json!("[{\"name\":\"hi\"}]"), "`run:`"),
        (|claim| claim["steps"] = json!([]), "`script:`"),
        (|claim| claim["inputs"] = json!([{"key": "a", "value": {"content": "b", "type": "string"}}]), "`inputs:`"),
        (|claim| claim["secrets"] = json!({"TOKEN": {"azure_key_vault": {}}}), "`secrets:azure_key_vault`"),
        (|claim| claim["image"]["executor_opts"] = json!({"docker": {"gpus": "all"}}), "gpus"),
        (|claim| claim["steps"] = json!("not a list"), "steps"),
    ];
    for (rewrite, said) in cases {
        let story = Story::start("image: busybox\nbuild:\n  script: [echo hello]\n").await;
        story.sandbox.gitlab.faults().rewrite_claim(None, rewrite);

        let job = story.run_job().await;

        let log = trace(&job);
        assert_eq!(job.status(), "failed", "{said}: {log}");
        assert_eq!(job.failure_reason().as_deref(), Some("runner_configuration_error"), "{said}: {log}");
        assert!(log.contains(said), "{said} is not in {log}");
        story.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_of_wild_shapes_fails_its_job_with_a_sentence() {
    let story = Story::start(ONE_JOB).await;
    story.sandbox.gitlab.faults().rewrite_claim(None, |claim| {
        let (id, token) = (claim["id"].clone(), claim["token"].clone());
        *claim = json!({"id": id, "token": token, "variables": "?", "steps": 7, "image": []});
    });

    let job = story.run_job().await;

    assert_eq!((job.status().as_str(), job.finishes()), ("failed", 1));
    assert!(trace(&job).contains("this runner cannot read `variables` of the job"), "{}", trace(&job));
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_without_a_shell_is_named_as_the_reason() {
    let story = Story::start(ONE_JOB).await;
    let reason =
        "CannotStartContainerError: ResourceInitializationError: exec: \"sh\": executable file not found in $PATH";
    story.sandbox.ecs.faults().fail_start(reason);

    let job = story.run_job().await;

    assert_eq!(job.failure_reason().as_deref(), Some("runner_configuration_error"), "{}", trace(&job));
    assert!(trace(&job).contains("an image of the task has no shell"), "{}", trace(&job));
    assert_eq!(story.sandbox.ecs.tasks().len(), 1);
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_cannot_be_pulled_is_told_with_the_registrys_words() {
    let story = Story::start("build:\n  image: nowhere.test/app:1\n  script: [echo hello]\n").await;
    let text = "CannotPullContainerError: pull image manifest has been retried 1 time(s): manifest unknown";
    story.sandbox.ecs.faults().fail_pull("nowhere.test", text);

    let job = story.run_job().await;

    assert_eq!(job.failure_reason().as_deref(), Some("runner_configuration_error"), "{}", trace(&job));
    assert!(trace(&job).contains("manifest unknown"), "{}", trace(&job));
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_cannot_be_cloned_fails_the_job_and_says_where_it_looked() {
    let story = Story::start(ONE_JOB).await;
    story.sandbox.gitlab.faults().rewrite_claim(None, |claim| {
        let url = claim["git_info"]["repo_url"].as_str().expect("a URL").replace("group/app", "group/gone");
        claim["git_info"]["repo_url"] = json!(url);
    });

    let job = story.run_job().await;

    let log = trace(&job);
    assert_eq!((job.status().as_str(), job.failure_reason().as_deref()), ("failed", Some("script_failure")), "{log}");
    assert!(log.contains("group/gone"), "{log}");
    assert!(!log.contains("hello\n"), "{log}");
    assert_eq!(job.hidden_secrets(), 0, "the token was masked by us, not by GitLab: {log}");
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_key_never_leaves_its_project() {
    let pipeline = "
build:
  variables: {WHERE: '../../../../secrets/../x'}
  cache: {key: $WHERE, paths: [out/]}
  script: [mkdir out, echo 1 > out/file]
";
    let story = Story::start(pipeline).await;

    let job = story.run_job().await;

    assert_eq!(job.status(), "success", "{}", trace(&job));
    let keys = story.sandbox.s3.keys("cache");
    let project = format!("/project/{}/", story.project);
    assert!(!keys.is_empty(), "{}", trace(&job));
    assert!(
        keys.iter().all(|key| key.starts_with("runner/") && key.contains(&project) && !key.contains("..")),
        "{keys:?}"
    );
    assert!(trace(&job).contains("sanitized"), "{}", trace(&job));
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_of_five_megabytes_is_cut_with_a_notice_and_the_job_goes_on() {
    let story = Story::start("build:\n  script: [\"head -c 5000000 /dev/zero | tr '\\\\0' x\", exit 7]\n").await;

    let job = story.run_job().await;

    assert_eq!((job.status().as_str(), job.exit_code()), ("failed", Some(7)));
    assert_eq!(job.failure_reason().as_deref(), Some("script_failure"));
    let log = job.trace();
    assert!(log.len() < (4 << 20) + 4096, "{} bytes", log.len());
    assert!(String::from_utf8_lossy(&log).contains("Job's log exceeded limit of 4194304 bytes."));
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_of_four_megabytes_arrives_whole() {
    let story = Story::start("build:\n  script: [\"head -c 4000000 /dev/zero | tr '\\\\0' x\", echo behind]\n").await;

    let job = story.run_job().await;

    let log = trace(&job);
    assert_eq!(job.status(), "success");
    assert!(log.matches('x').count() >= 4_000_000);
    assert!(log.contains("$ echo behind") && !log.contains("exceeded limit"));
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_comes_in_two_pieces_never_shows() {
    let secret = "s3cr3t-value-0123456789";
    let story = Story::start(
        "build:\n  script:\n    - printf '%s' \"$TOKEN\" | head -c 12; sleep 0.2; printf '%s' \"$TOKEN\" | tail -c +13\n",
    )
    .await;
    let variable =
        Variable { key: "TOKEN".into(), value: secret.into(), masked: true, raw: true, ..Variable::default() };
    story.sandbox.gitlab.set_variable(story.project, variable);

    let job = story.run_job().await;

    let log = trace(&job);
    assert_eq!(job.status(), "success", "{log}");
    assert!(!log.contains(secret), "{log}");
    assert!(log.contains("[MASKED]"), "{log}");
    assert_eq!(job.hidden_secrets(), 0);
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn services_are_refused_here_with_what_they_need() {
    let story = Story::start("build:\n  services: [redis:7]\n  script: [echo hello]\n").await;

    let job = story.run_job().await;

    assert_eq!(job.status(), "failed");
    assert!(trace(&job).contains("podman or Docker"), "{}", trace(&job));
    story.end().await;
}
