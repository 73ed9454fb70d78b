//! Claiming, sizing and launching, with simulated tasks.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use mayfly::sandbox::Settings;
use mayfly::sandbox::ecs::{Ending, Runtime, SimulatedTask};
use mayfly::sandbox::traffic::Verdict;

use crate::support::{Story, in_time, trace, until};

const ONE_JOB: &str = "build:\n  script: [echo hello]\n";

fn simulated(
    play: impl Fn(SimulatedTask) -> futures::future::BoxFuture<'static, Ending> + Send + Sync + 'static,
) -> Settings {
    Settings { runtime: Runtime::Simulated(Arc::new(play)), ticks: false, ..Settings::default() }
}

/// Tasks that run until they are stopped, and never open their ticket.
fn idle() -> Settings {
    simulated(|task| {
        async move {
            task.running();
            task.told_to_stop().await;
            Ending::exited([("helper", 143), ("build", 143)])
        }
        .boxed()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_starts_a_task_of_the_size_that_the_tags_ask_for() {
    let story = Story::start_with(idle(), "build:\n  tags: [mayfly, cpu-4, mem-8g]\n  script: ['true']\n").await;

    let job = story.run().jobs().remove(0);
    in_time(job.reached("running")).await;
    until("a task", || story.sandbox.ecs.live_tasks() == 1).await;

    let task = &story.sandbox.ecs.tasks()[0].json;
    assert_eq!((task["cpu"].as_str(), task["memory"].as_str()), (Some("4096"), Some("8192")));
    in_time(job.traced("Size: 4 vCPU, 8 GB (tag cpu-4, tag mem-8g)")).await;
    assert!(trace(&job).contains("Price: $0.00329 a minute on Fargate (us-east-1, prices of April 2026)"));
    story.sandbox.ecs.tasks().iter().for_each(|task| assert!(!task.json.to_string().contains("glcbt-")));
    assert_eq!(story.sandbox.violations(), Vec::<String>::new());
    story.sandbox.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_dies_before_the_job_began_is_started_three_times_and_then_said() {
    let settings = simulated(|task| {
        async move {
            task.running();
            task.runs_for(Duration::from_millis(10)).await;
            Ending::exited([("helper", 70), ("build", 143)])
        }
        .boxed()
    });
    let story = Story::start_with(settings, ONE_JOB).await;

    let job = story.run_job().await;

    assert_eq!((job.status().as_str(), job.failure_reason().as_deref()), ("failed", Some("runner_system_failure")));
    assert!(
        trace(&job).contains("the helper could not fetch Mayfly's agent from the broker (exit code 70)"),
        "{}",
        trace(&job)
    );
    assert_eq!(story.sandbox.ecs.tasks().len(), 3);
    assert_eq!(job.finishes(), 1);
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_cannot_be_sized_fails_with_a_sentence() {
    for (pipeline, said) in [
        (
            "build:\n  variables: {MAYFLY_CPU: many}\n  script: ['true']\n",
            "variable `MAYFLY_CPU`: `many` is no quantity of vCPUs",
        ),
        ("build:\n  tags: [cpu-2, cpu-4]\n  script: ['true']\n", "the tags `cpu-2` and `cpu-4` contradict each other"),
        ("build:\n  tags: [cpu-32]\n  script: ['true']\n", "this runner gives at most 16 vCPU"),
        (
            "build:\n  services: ['docker:dind']\n  script: ['true']\n",
            "needs a privileged machine, which Fargate has not",
        ),
        ("build:\n  image: {name: a, pull_policy: never}\n  script: ['true']\n", "`pull_policy: never` cannot be kept"),
    ] {
        let story = Story::start_with(idle(), pipeline).await;
        let job = story.run_job().await;
        assert_eq!(
            (job.status().as_str(), job.failure_reason().as_deref()),
            ("failed", Some("runner_configuration_error")),
            "{pipeline}"
        );
        assert!(trace(&job).contains(said), "{pipeline}: {}", trace(&job));
        assert_eq!(story.sandbox.ecs.tasks().len(), 0);
        story.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_hooks_with_one_job_waiting_cause_ten_claims_at_most() {
    let story = Story::start_with(idle(), ONE_JOB).await;
    // No hook has rung while the job began to wait; then all that GitLab has come a hundred times and more.
    story.sandbox.gitlab.faults().lose_next_hooks(usize::MAX);
    let job = story.run().jobs().remove(0);
    in_time(story.sandbox.gitlab.hooks_delivered()).await;
    story.sandbox.gitlab.faults().lose_next_hooks(0);
    let hooks = story.sandbox.gitlab.hook_deliveries();
    let kinds: std::collections::BTreeSet<_> = hooks.iter().map(|hook| hook.event.clone()).collect();
    assert_eq!(kinds.len(), 2, "Job Hooks and Pipeline Hooks");
    assert_eq!(job.status(), "pending");
    let began = story.sandbox.clock.now();
    for i in 0..1000 {
        story.sandbox.gitlab.redeliver(i % hooks.len()).expect("a delivery");
    }
    in_time(story.sandbox.gitlab.hooks_delivered()).await;
    // A look serves the knocks of 3 s: a machine that is slow to deliver so many hooks has more such times.
    let longer = story.sandbox.clock.now().duration_since(began).as_secs() / 3;
    in_time(job.reached("running")).await;
    // The last look of a chain comes 14 s after its knock.
    for _ in 0..30 {
        story.sandbox.clock.advance(Duration::from_secs(1));
        story.quiet().await;
    }
    let claims = story.sandbox.gitlab.claim_requests();
    println!("1,000 hooks, one job: {claims} claim requests");
    let most = 10 + usize::try_from(longer).expect("the clock goes on");
    assert!((1..=most).contains(&claims), "{claims} claim requests");
    story.sandbox.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_waiting_jobs_and_one_hook_are_all_claimed() {
    let pipeline: String = (0..50).map(|i| format!("job{i}:\n  script: ['true']\n")).collect();
    let story = Story::start_with(idle(), &pipeline).await;
    // All hooks are lost but the last of them.
    story.sandbox.gitlab.faults().lose_next_hooks(usize::MAX);
    let pipeline = story.run();
    in_time(story.sandbox.gitlab.hooks_delivered()).await;
    let deliveries = story.sandbox.gitlab.hook_deliveries();
    let pending = deliveries.iter().rposition(|d| d.json()["build_status"] == "pending").expect("a job is pending");
    story.sandbox.gitlab.faults().lose_next_hooks(0);
    story.sandbox.gitlab.redeliver(pending).expect("a delivery");

    for job in pipeline.jobs() {
        in_time(job.reached("running")).await;
    }
    until("fifty tasks", || story.sandbox.ecs.live_tasks() == 50).await;
    assert_eq!(story.sandbox.violations(), Vec::<String>::new());
    story.sandbox.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_hook_is_refused_and_a_lost_one_is_made_up_for_by_the_tick() {
    let story = Story::start_with(idle(), ONE_JOB).await;
    story.sandbox.gitlab.faults().lose_next_hooks(usize::MAX);
    let job = story.run().jobs().remove(0);
    in_time(story.sandbox.gitlab.hooks_delivered()).await;
    let forged = reqwest::Client::new()
        .post(story.sandbox.deployment.webhook_url())
        .header("X-Gitlab-Event", "Job Hook")
        .header("X-Gitlab-Token", "guess")
        .body(r#"{"object_kind":"build","build_id":1,"build_status":"pending"}"#)
        .send()
        .await
        .expect("an answer");
    assert_eq!(forged.status(), 401);
    let words = forged.text().await.expect("a text");
    assert!(words.contains("is not ours: compare GitLab's webhook settings"), "{words}");
    assert_eq!(story.sandbox.gitlab.claim_requests(), 0);

    story.sandbox.deployment.tick();

    in_time(job.reached("running")).await;
    story.sandbox.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_cancelled_before_its_task_has_begun_ends_cancelled_and_its_task_is_stopped() {
    let story = Story::start_with(idle(), ONE_JOB).await;
    let job = story.run().jobs().remove(0);
    until("a task", || story.sandbox.ecs.live_tasks() == 1).await;

    job.cancel();
    story.sandbox.deployment.tick();

    in_time(job.reached("canceled")).await;
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_capacity_a_job_waits_and_says_why() {
    let story = Story::start_with(idle(), ONE_JOB).await;
    story.sandbox.ecs.faults().capacity_unavailable(2);
    let job = story.run().jobs().remove(0);
    in_time(job.traced("Waiting for Fargate capacity")).await;
    assert_eq!(story.sandbox.ecs.live_tasks(), 0);

    story.sandbox.clock.advance(Duration::from_secs(61));
    story.sandbox.deployment.tick();
    until("the second try", || trace(&job).matches("Waiting for Fargate capacity").count() == 2).await;
    story.sandbox.clock.advance(Duration::from_secs(61));
    story.sandbox.deployment.tick();

    until("a task", || story.sandbox.ecs.live_tasks() == 1).await;
    assert_eq!(job.status(), "running");
    story.sandbox.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dispatcher_that_cannot_keep_a_claim_takes_no_other() {
    let story = Story::start_with(idle(), "build:\n  parallel: 5\n  script: ['true']\n").await;
    story.sandbox.gitlab.faults().lose_next_hooks(100);
    story.sandbox.traffic.set_gate(|seen, _| {
        let keeps_a_claim = seen.server == "s3" && seen.method == "PUT" && seen.path.contains("/claims/");
        let verdict = if keeps_a_claim { Verdict::Forbid } else { Verdict::Pass };
        async move { verdict }.boxed()
    });

    let jobs = story.run().jobs();
    story.sandbox.deployment.tick();
    until("a job that is lost", || jobs.iter().any(|job| job.status() == "failed")).await;
    story.quiet().await;

    let (lost, waiting): (Vec<_>, Vec<_>) = jobs.iter().partition(|job| job.status() == "failed");
    assert_eq!((lost.len(), waiting.len()), (1, 4));
    assert!(trace(lost[0]).contains("Mayfly could not store the job in its ledger; retry it"), "{}", trace(lost[0]));
    assert!(waiting.iter().all(|job| job.status() == "pending"));
    story.sandbox.shutdown().await;
}
