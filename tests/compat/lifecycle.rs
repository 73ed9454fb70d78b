//! Stages, attempts, timeouts, cancelling, and how a job ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt;
use mayfly::sandbox::traffic::{Moment, Verdict};

use crate::run::{Ended, jobs};
use crate::support::{Gate, Story, in_time, until};

#[tokio::test(flavor = "multi_thread")]
async fn stages_are_tried_again_as_often_as_the_job_wants() {
    let story = Story::start(
        "
variables: {FF_USE_EXPONENTIAL_BACKOFF_STAGE_RETRY: 'false'}
made:
  stage: build
  script: [echo made > made.txt]
  artifacts: {paths: [made.txt]}
sources:
  needs: []
  variables: {TRIES: '3', GET_SOURCES_ATTEMPTS: $TRIES}
  hooks: {pre_get_sources_script: ['test -e tried || { touch tried; exit 9; }']}
  script: [echo got them]
given-up:
  needs: []
  variables: {GET_SOURCES_ATTEMPTS: '2'}
  hooks: {pre_get_sources_script: [exit 9]}
  script: [echo never]
misread:
  needs: []
  variables: {GET_SOURCES_ATTEMPTS: many, EXECUTOR_JOB_SECTION_ATTEMPTS: '2'}
  script: [echo once, exit 1]
restore:
  needs: []
  variables: {RESTORE_CACHE_ATTEMPTS: '2', POLICY: upwards}
  cache: {key: a, paths: [a], policy: $POLICY}
  script: [echo never]
bring:
  variables: {ARTIFACT_DOWNLOAD_ATTEMPTS: '2'}
  needs: [made]
  script: [cat made.txt]
",
    )
    .await;
    story.sandbox.gitlab.faults().answer_next("GET", "/api/v4/jobs/[0-9]+/artifacts", 404, &[], 1);
    let run = story.run();
    in_time(run.finished()).await;

    let ended = |name: &str| Ended::of(&run.job(name).expect("it is in the file"));
    let clearing = "Deleting all tracked and untracked files due to source fetch failure";
    let retrying = "WARNING: `hooks:pre_get_sources_script` ended with exit code 9. Retrying...";
    let getting = "Getting source from Git repository";
    ended("sources").passed().says(&[getting, retrying, clearing, getting, "Fetching changes", "got them"]);
    let given_up = ended("given-up");
    given_up.failed("script_failure").says(&[getting, retrying, clearing, getting]).never_says(&["never"]);
    assert_eq!((given_up.log.matches("Retrying...").count(), given_up.exit_code), (1, Some(9)));
    let misread = ended("misread");
    misread.failed("script_failure");
    misread.says(&["WARNING: GET_SOURCES_ATTEMPTS: expected int got \"many\", using default value: 1"]);
    assert_eq!(misread.log.matches(" once\n").count(), 1, "{}", misread.log);
    let restore = ended("restore");
    restore.failed("runner_configuration_error").never_says(&["Retrying...", "never"]);
    assert_eq!(restore.log.matches("Restoring cache").count(), 1);
    let again = ["Downloading artifacts for made", ". Retrying...", "Downloading artifacts for made", "made\n"];
    ended("bring").passed().says(&again);
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn time_ends_scripts_and_jobs() {
    let jobs = jobs(
        "
script:
  variables: {SECONDS_LEFT: '1', RUNNER_SCRIPT_TIMEOUT: '${SECONDS_LEFT}s'}
  script: [echo begun, sleep 600]
  after_script: ['echo status $CI_JOB_STATUS', echo kept > kept.txt]
  artifacts: {name: 'of-$CI_JOB_STATUS', when: on_failure, paths: [kept.txt]}
after-script:
  variables: {RUNNER_AFTER_SCRIPT_TIMEOUT: 1s}
  script: ['true']
  after_script: [echo begun, sleep 600]
job:
  timeout: 5 seconds
  script: [sleep 600]
  after_script: [echo never]
  artifacts: {when: always, paths: ['.gitlab-ci.yml']}
odd:
  variables: {RUNNER_SCRIPT_TIMEOUT: soon, RUNNER_AFTER_SCRIPT_TIMEOUT: -5m}
  script: ['true']
long:
  variables: {RUNNER_SCRIPT_TIMEOUT: 2h}
  script: ['true']
",
    )
    .await;

    let could_not =
        |stage: &str| format!("WARNING: {stage} could not run to completion because the timeout was exceeded.");
    let script = &jobs["script"];
    script.failed("job_execution_timeout").says(&[
        "begun\n",
        &could_not("step_script"),
        "Running after script...",
        "status timedout\n",
        "Uploading artifacts for failed job",
        "ERROR: Job failed: script timeout: context deadline exceeded",
    ]);
    assert_eq!(script.artifacts[0].filename, "of-timedout.zip");
    let ignored = "WARNING: after_script failed, but job will continue unaffected: after_script timeout";
    jobs["after-script"].passed().says(&["begun\n", &could_not("after_script"), ignored, "Job succeeded"]);
    let job = &jobs["job"];
    job.failed("job_execution_timeout").never_says(&["never", "Uploading artifacts"]);
    job.says(&[
        "could not run to completion",
        "Cleaning up",
        "ERROR: Job failed: execution took longer than 5s seconds",
    ]);
    assert!(job.artifacts.is_empty());
    jobs["odd"].passed().says(&[
        "WARNING: Ignoring malformed RUNNER_SCRIPT_TIMEOUT timeout: soon",
        "WARNING: Ignoring relative RUNNER_AFTER_SCRIPT_TIMEOUT timeout: -5m",
    ]);
    jobs["long"].passed().says(&["WARNING: RUNNER_SCRIPT_TIMEOUT timeout: 2h is longer than job timeout."]);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_script_follows_whatever_the_script_did() {
    let jobs = jobs(
        "
default:
  after_script: ['echo status $CI_JOB_STATUS', exit 4]
ignored:
  script: [cd /]
counted:
  variables: {AFTER_SCRIPT_IGNORE_ERRORS: 'false'}
  script: ['true']
script-first:
  variables: {AFTER_SCRIPT_IGNORE_ERRORS: 'false'}
  script: [exit 3]
never-begun:
  hooks: {pre_get_sources_script: [exit 5]}
  script: ['true']
alone:
  script: [cd /, export WORD=kept]
  after_script: ['echo \"in $PWD with <$WORD>\"']
",
    )
    .await;

    let warning = "WARNING: after_script failed, but job will continue unaffected: exit code 4";
    jobs["ignored"].passed().says(&["Running after_script", "status success\n", warning, "Job succeeded"]);
    let counted = &jobs["counted"];
    counted.failed("script_failure").says(&["status success\n", "ERROR: Job failed: exit code 4"]);
    assert_eq!(counted.exit_code, Some(4));
    let script_first = &jobs["script-first"];
    script_first.failed("script_failure").says(&["status failed\n", "ERROR: Job failed: exit code 3"]);
    assert_eq!(script_first.exit_code, Some(3));
    jobs["never-begun"].failed("script_failure").never_says(&["Running after_script"]);
    jobs["alone"].passed().says(&["/app with <>\n"]).never_says(&["in / with", "<kept>"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_failure_is_the_reason_and_the_rest_takes_place() {
    let story = Story::start(
        "
failed:
  script: [echo made > made.txt, exit 3]
  cache: {key: a, paths: [made.txt], when: always}
  artifacts: {when: always, paths: [made.txt]}
green-until-the-upload:
  needs: []
  script: [echo made > made.txt]
  artifacts: {paths: [made.txt]}
no-files:
  needs: []
  script: ['true']
  artifacts: {paths: [none.txt]}
",
    )
    .await;
    // Nobody's artifacts are taken.
    story.sandbox.gitlab.faults().answer_next("POST", "/api/v4/jobs/[0-9]+/artifacts", 403, &[], 100);
    let run = story.run();
    in_time(run.finished()).await;

    let ended = |name: &str| Ended::of(&run.job(name).expect("it is in the file"));
    let failed = ended("failed");
    failed.failed("script_failure").says(&[
        "Saving cache for failed job",
        "Created cache",
        "Uploading artifacts for failed job",
        "Cleaning up project directory and file based variables",
        "ERROR: Job failed: exit code 3",
    ]);
    assert_eq!(failed.exit_code, Some(3));
    ended("green-until-the-upload").failed("script_failure").says(&["Uploading artifacts for successful job"]);
    ended("no-files").passed();
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_ends_a_job_as_far_as_it_has_come() {
    let (sources, script, after) = (Gate::new(), Gate::new(), Gate::new());
    let pipeline = format!(
        "
in-sources:
  hooks: {{pre_get_sources_script: [echo begun, {}]}}
  script: [echo never]
  after_script: [echo never]
in-script:
  script: [echo begun, {}, echo never]
  after_script: ['echo status $CI_JOB_STATUS', echo kept > kept.txt]
  artifacts: {{when: on_failure, paths: [kept.txt]}}
in-after-script:
  script: ['true']
  after_script: [echo begun, {}, echo done]
by-force:
  script: [echo begun, {}]
  after_script: [echo never]
",
        sources.wait(),
        script.wait(),
        after.wait(),
        script.wait(),
    );
    let story = Story::start(&pipeline).await;
    let run = story.run();
    let job = |name: &str| run.job(name).expect("it is in the file");
    for name in ["in-sources", "in-script", "in-after-script", "by-force"] {
        in_time(job(name).traced(" begun\n")).await;
    }

    for name in ["in-sources", "in-script", "in-after-script"] {
        job(name).cancel();
    }
    job("by-force").cancel();
    job("by-force").force_cancel();
    in_time(job("in-script").finished()).await;
    after.open();
    in_time(run.finished()).await;
    in_time(story.sandbox.ecs.all_stopped()).await;

    let ended = |name: &str| Ended::of(&job(name));
    assert_eq!(ended("in-sources").status, "canceled");
    ended("in-sources").says(&["Cleaning up", "ERROR: Job failed: canceled"]).never_says(&["never", "after_script"]);
    let in_script = ended("in-script");
    assert_eq!((in_script.status.as_str(), in_script.artifacts.len()), ("canceled", 1));
    in_script
        .says(&[
            "WARNING: script canceled externally (UI, API)",
            "Running after script...",
            "status canceled\n",
            "Uploading artifacts for failed job",
            "ERROR: Job failed: canceled",
        ])
        .never_says(&["01O never"]);
    assert_eq!(ended("in-after-script").status, "canceled");
    ended("in-after-script").says(&["begun\n", "done\n", "Job succeeded"]);
    assert_eq!(ended("by-force").status, "canceled");
    ended("by-force").never_says(&["never", "Cleaning up", "Job failed"]);
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_beside_the_script_counts_before_it_and_not_behind_it() {
    let story = Story::start(
        "
made:
  stage: build
  script: [echo made > made.txt]
  artifacts: {paths: [made.txt]}
brings:
  script: [echo never]
  after_script: [echo never]
  artifacts: {when: always, paths: [made.txt]}
hands-over:
  dependencies: []
  script: [echo done > done.txt]
  artifacts: {paths: [done.txt]}
",
    )
    .await;
    let run = story.run();
    let job = |name: &str| run.job(name).expect("it is in the file");
    // GitLab does not answer whoever brings or hands over, until it may.
    let (download, upload) = (format!("/jobs/{}/artifacts", job("made").id()), job("hands-over").id());
    let (upload, update) = (format!("/jobs/{upload}/artifacts"), format!("/jobs/{upload}"));
    let may = Arc::new(AtomicBool::new(false));
    let waits = [("GET", download.clone()), ("POST", upload.clone())];
    story.sandbox.traffic.set_gate({
        let may = may.clone();
        move |seen, moment| {
            let is_held = waits.iter().any(|(method, path)| seen.method == *method && seen.path.contains(path));
            let (held, may) = (is_held && moment == Moment::Arrived, may.clone());
            async move {
                while held && !may.load(Ordering::Relaxed) {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Verdict::Pass
            }
            .boxed()
        }
    });
    let seen = |method: &str, path: &str| {
        let fits = |seen: &&mayfly::sandbox::traffic::Seen| seen.method == method && seen.path.contains(path);
        story.sandbox.traffic.seen().iter().filter(fits).count()
    };
    until("both stages", || seen("GET", &download) > 0 && seen("POST", &upload) > 0).await;

    let heard = seen("PUT", &update) + seen("PATCH", &update);
    job("brings").cancel();
    job("hands-over").cancel();
    in_time(job("brings").finished()).await;
    until("a word to who hands over", || seen("PUT", &update) + seen("PATCH", &update) > heard + 1).await;
    may.store(true, Ordering::Relaxed);
    in_time(run.finished()).await;

    let (brings, hands_over) = (Ended::of(&job("brings")), Ended::of(&job("hands-over")));
    assert_eq!((brings.status.as_str(), brings.artifacts.len()), ("canceled", 0), "{}", brings.log);
    brings.says(&["Downloading artifacts", "Cleaning up", "ERROR: Job failed: canceled"]).never_says(&["never"]);
    assert_eq!((hands_over.status.as_str(), hands_over.artifacts.len()), ("canceled", 1), "{}", hands_over.log);
    hands_over.says(&["Uploading artifacts for successful job", "Job succeeded"]);
    story.end().await;
}
