//! Jobs run by the real agent, as processes.

use crate::support::{Story, trace};

#[tokio::test(flavor = "multi_thread")]
async fn a_passing_script_passes_the_job() {
    let story = Story::start("build:\n  before_script: [echo first]\n  script: [echo hello from $CI_JOB_NAME]\n  after_script: [echo last]\n").await;

    let job = story.run_job().await;

    let log = trace(&job);
    assert_eq!(job.status(), "success", "{log}");
    for line in ["Running with mayfly", "Size: 1 vCPU, 2 GB", "hello from build", "last", "Job succeeded"] {
        assert!(log.contains(line), "{line} is not in {log}");
    }
    assert_eq!(job.finishes(), 1);
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_script_fails_the_job_with_its_exit_code() {
    let story = Story::start("build:\n  script: [exit 3]\n").await;

    let job = story.run_job().await;

    assert_eq!(
        (job.status().as_str(), job.failure_reason().as_deref(), job.exit_code()),
        ("failed", Some("script_failure"), Some(3))
    );
    assert!(trace(&job).contains("ERROR: Job failed: exit code 3"), "{}", trace(&job));
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fargate_sets_for_itself_does_not_overrule_the_job() {
    let pipeline = "
build:
  variables: {AWS_DEFAULT_REGION: eu-west-1}
  script:
    - test \"$AWS_DEFAULT_REGION\" = eu-west-1
    - test -z \"$AWS_REGION$AWS_EXECUTION_ENV\"
    - '! env | grep MAYFLY_'
";
    let story = Story::start(pipeline).await;

    let job = story.run_job().await;

    assert_eq!(job.status(), "success", "{}", trace(&job));
    story.end().await;
}
