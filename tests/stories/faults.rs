//! What goes wrong on the way: GitLab away, a helper killed, hooks doubled, jobs cancelled and overdue.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Gate, Story, in_time, trace, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_minute_of_502_from_gitlab_costs_no_byte_of_the_trace() {
    let gate = Gate::new();
    let story = Story::start(&format!("build:\n  script: [echo before, {}, echo behind]\n", gate.wait())).await;
    let job = story.run().jobs().remove(0);
    in_time(job.traced("before")).await;

    let faults = story.sandbox.gitlab.faults();
    faults.answer_for(Duration::from_secs(60), "*", "/api/v4/jobs/", 502, &[]);
    let seen = story.sandbox.traffic.seen().len();
    gate.open();
    let tries = || {
        let seen = &story.sandbox.traffic.seen()[seen..];
        seen.iter()
            .filter(|request| request.path.contains("/trace") || request.method == "PUT" && request.server == "gitlab")
            .count()
    };
    until("a few refused tries", || tries() >= 3).await;
    story.sandbox.clock.advance(Duration::from_secs(61));

    in_time(job.finished()).await;
    let log = trace(&job);
    assert_eq!(job.status(), "success", "{log}");
    assert_eq!(log.matches("\u{1b}[32;1m$ echo behind").count(), 1, "{log}");
    assert_eq!(story.sandbox.gitlab.checksum_mismatches(), 0);
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_helper_fails_the_job_with_what_happened() {
    let gate = Gate::new();
    let story = Story::start(&format!("build:\n  script: [echo begun, {}]\n", gate.wait())).await;
    let job = story.run().jobs().remove(0);
    in_time(job.traced("begun")).await;

    let task = story.sandbox.ecs.tasks().remove(0);
    assert!(story.sandbox.ecs.kill_container(&task.arn, "helper"));

    in_time(job.finished()).await;
    let log = trace(&job);
    assert_eq!(
        (job.status().as_str(), job.failure_reason().as_deref()),
        ("failed", Some("runner_system_failure")),
        "{log}"
    );
    assert!(log.contains("the `helper` container ended with exit code 137 (killed) before the job was done"), "{log}");
    assert!(log.contains("begun"), "{log}");
    assert_eq!((job.finishes(), story.sandbox.ecs.tasks().len()), (1, 1));
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spot_machine_that_is_taken_back_is_told_as_an_interruption() {
    let gate = Gate::new();
    let story = Story::start(&format!("build:\n  tags: [spot]\n  script: [echo begun, {}]\n", gate.wait())).await;
    let job = story.run().jobs().remove(0);
    in_time(job.traced("begun")).await;

    let task = story.sandbox.ecs.tasks().remove(0);
    assert!(story.sandbox.ecs.interrupt_spot(&task.arn));

    in_time(job.finished()).await;
    assert_eq!(job.failure_reason().as_deref(), Some("runner_interrupted"), "{}", trace(&job));
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_doubled_hook_runs_a_job_once() {
    let story = Story::start("build:\n  script: [echo hello]\n").await;
    story.sandbox.gitlab.faults().double_hooks(100);

    let job = story.run_job().await;

    assert_eq!((job.status().as_str(), job.finishes()), ("success", 1), "{}", trace(&job));
    assert_eq!(story.sandbox.ecs.tasks().len(), 1);
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_script_still_gets_its_after_script() {
    let gate = Gate::new();
    let pipeline = format!(
        "build:\n  script: [echo begun, {}, echo never]\n  after_script: ['echo status is $CI_JOB_STATUS']\n",
        gate.wait()
    );
    let story = Story::start(&pipeline).await;
    let job = story.run().jobs().remove(0);
    job.watch(true);
    in_time(job.traced("begun")).await;

    job.cancel();

    in_time(job.reached("canceled")).await;
    let log = trace(&job);
    assert!(log.contains("status is canceled"), "{log}");
    assert!(!log.contains("01O never"), "{log}");
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_runs_too_long_is_ended_as_overdue() {
    let gate = Gate::new();
    let story = Story::start(&format!("build:\n  script: [echo begun, {}]\n", gate.wait())).await;
    story.sandbox.gitlab.faults().rewrite_claim(None, |claim| claim["runner_info"]["timeout"] = 3.into());

    let job = story.run_job().await;

    assert_eq!((job.status().as_str(), job.failure_reason().as_deref()), ("failed", Some("job_execution_timeout")));
    assert!(trace(&job).contains("execution took longer than 3s seconds"), "{}", trace(&job));
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_edges_of_gitlabs_api_do_not_fail_a_job() {
    let story = Story::start("build:\n  script: [echo hello]\n").await;
    let faults = story.sandbox.gitlab.faults();
    faults.final_update_pending(2);
    faults.job_lookup_lag(Duration::from_secs(1));
    faults.conflict_next_claims(1);
    faults.answer_next("PATCH", "/api/v4/jobs/.*/trace", 429, &[("Retry-After", "1")], 1);

    let job = story.run_job().await;

    assert_eq!((job.status().as_str(), job.finishes()), ("success", 1), "{}", trace(&job));
    assert_eq!(trace(&job).matches("$ echo hello").count(), 1);
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_gitlab_lost_is_sent_again() {
    let gate = Gate::new();
    let story = Story::start(&format!("build:\n  script: [echo begun, {}, echo behind]\n", gate.wait())).await;
    let job = story.run().jobs().remove(0);
    in_time(job.traced("begun")).await;

    story.sandbox.gitlab.faults().flush_trace(job.id());
    gate.open();

    in_time(job.finished()).await;
    let log = trace(&job);
    assert_eq!(job.status(), "success", "{log}");
    for line in ["Running with mayfly", "begun", "$ echo behind", "Job succeeded"] {
        assert!(log.contains(line), "{line} is not in {log}");
    }
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_helper_that_hears_nothing_of_its_jobs_end_is_stopped_after_a_minute() {
    let gate = Gate::new();
    let story = Story::start(&format!("build:\n  script: [echo begun, {}]\n", gate.wait())).await;
    let job = story.run().jobs().remove(0);
    in_time(job.traced("begun")).await;
    let task = story.sandbox.ecs.tasks().remove(0);
    let helper = story.sandbox.ecs.container_pid(&task.arn, "helper").expect("it runs");
    let helper = Pid::from_raw(helper.cast_signed()).expect("a pid");
    kill_process(helper, Signal::STOP).expect("it is ours");

    job.force_cancel();
    in_time(job.finished()).await;
    in_time(story.sandbox.gitlab.hooks_delivered()).await;
    story.quiet().await;
    story.sandbox.clock.advance(Duration::from_secs(61));
    in_time(story.sandbox.ecs.reached(&task.arn, "STOPPING")).await;
    kill_process(helper, Signal::CONT).expect("it is ours");

    in_time(story.sandbox.ecs.all_stopped()).await;
    let task = story.sandbox.ecs.tasks().remove(0);
    assert_eq!(task.stopped_reason.as_deref(), Some("the job has ended in GitLab"));
    story.end().await;
}
