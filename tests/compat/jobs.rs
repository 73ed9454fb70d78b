//! The keywords that GitLab's server reads and a runner only obeys.

use crate::run::{Ended, job};
use crate::support::Story;

#[tokio::test(flavor = "multi_thread")]
async fn scripts_run_in_one_shell() {
    let job = job("
job:
  before_script: [cd /, 'word=kept']
  script: ['echo $word in $PWD']
  after_script: ['echo after: $word in $PWD']
")
    .await;

    job.passed().says(&["$ cd /", "$ echo $word in $PWD", "kept in /", "Running after script...", "after:  in "]);
}

/// Starts a pipeline whose only job's claim is changed on its way.
async fn rewritten(rewrite: impl Fn(&mut serde_json::Value) + Send + Sync + 'static) -> Ended {
    let story = Story::start("job: {script: [echo ran]}").await;
    story.sandbox.gitlab.faults().rewrite_claim(None, rewrite);
    let ended = Ended::of(&story.run_job().await);
    story.end().await;
    ended
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_gitlabs_step_runner_or_form_is_refused_with_the_way_out() {
    let run = rewritten(|claim| {
        claim["steps"] = serde_json::Value::Null;
        claim["run"] = r#"[{"name": "hello", "script": "echo ran"}]"#.into();
    });
    run.await.failed("runner_configuration_error").says(&["`run:` is not supported by this runner: use `script:`"]);
    let inputs = rewritten(|claim| {
        claim["inputs"] = serde_json::json!([{"key": "size", "value": {"content": "1", "type": "string"}}]);
    });
    let said = "job `inputs:` are not supported by this runner (`size`): use `variables:`";
    inputs.await.failed("runner_configuration_error").says(&[said]).never_says(&["O ran"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_gitlab_turns_into_variables_arrives_as_variables() {
    let job = rewritten(|claim| {
        let cloud = serde_json::json!([
            {"key": "CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE", "value": "{\"type\": \"external_account\"}", "file": true,
             "public": false, "masked": false},
            {"key": "DAST_WEBSITE", "value": "https://app.test", "public": true, "masked": false},
        ]);
        claim["variables"].as_array_mut().expect("a list").extend(cloud.as_array().expect("a list").clone());
        claim["steps"][0]["script"] =
            serde_json::json!(["cat $CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE", "echo; echo \"<$DAST_WEBSITE>\""]);
    });
    job.await.passed().says(&["{\"type\": \"external_account\"}", "O <https://app.test>"]);
    for keyword in ["identity: google_cloud", "dast_configuration: {site_profile: a}"] {
        let story = Story::start(&format!("job: {{script: [echo ran], {keyword}}}")).await;
        let refused = story.sandbox.gitlab.run_pipeline(story.project, "main").err().map(|error| format!("{error:?}"));
        assert!(refused.is_some_and(|said| said.contains("cannot be done here")), "{keyword}");
        story.end().await;
    }
}
