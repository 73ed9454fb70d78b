//! The workers that give up jobs, with the clock moved by hand (gitlab-protocol.md §9; E20).

use std::time::Duration;

use serde_json::json;

use crate::support::{ONE_JOB, World};

const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_pending_job_is_given_up_after_an_hour_without_an_online_runner() {
    let world = World::new(ONE_JOB).await;
    let pipeline = world.run();
    let job = pipeline.job("job").unwrap();
    world.clock.advance(HOUR - MINUTE);
    world.gitlab.sweep();
    assert_eq!(job.status(), "pending");
    world.clock.advance(MINUTE);
    world.gitlab.sweep();
    assert_eq!(job.failure_reason().as_deref(), Some("stuck_pending_no_matching_runners"));
}

#[tokio::test]
async fn a_runner_is_online_for_two_hours_after_its_written_contact() {
    let world = World::new("job: {tags: [mayfly], script: x}\n").await;
    assert!(!world.gitlab.runner_online(&world.runner));
    assert_eq!(world.ask().await.status(), 204);
    assert!(world.gitlab.runner_online(&world.runner));
    // A contact after 50 minutes is not written (§2.4), so two hours count from the first.
    world.clock.advance(50 * MINUTE);
    world.ask().await;
    world.clock.advance(69 * MINUTE);
    assert!(world.gitlab.runner_online(&world.runner));
    let pipeline = world.run();
    world.clock.advance(MINUTE);
    assert!(!world.gitlab.runner_online(&world.runner));
    world.ask_as("glrt-wrong").await;
    world.clock.advance(HOUR);
    world.gitlab.sweep();
    assert_eq!(pipeline.status(), "failed");
}

#[tokio::test]
async fn a_pending_job_with_an_online_runner_waits_a_day() {
    let world = World::new(ONE_JOB).await;
    world.gitlab.faults().lag_next_claims(1000, mayfly::sandbox::gitlab::Lag::NoContent);
    let job = world.run().job("job").unwrap();
    for _ in 0..24 {
        assert_eq!(job.status(), "pending");
        world.clock.advance(HOUR);
        world.ask().await;
        world.gitlab.sweep();
    }
    assert_eq!(job.failure_reason().as_deref(), Some("stuck_pending_with_matching_runners"));
}

#[tokio::test]
async fn a_silent_running_job_is_given_up_and_one_that_speaks_is_not() {
    let world = World::new("a: {script: x, timeout: 10h}\nb: {script: x, timeout: 10h}\n").await;
    world.run();
    let (silent, speaking) = (world.claim().await, world.claim().await);
    for _ in 0..2 {
        world.clock.advance(16 * MINUTE);
        assert_eq!(world.put(&speaking, json!({ "state": "running" })).await.status(), 200);
    }
    world.gitlab.sweep();
    assert_eq!(world.job(&silent).failure_reason().as_deref(), Some("no_updates_running"));
    assert_eq!(world.job(&speaking).status(), "running");
    world.gitlab.set_lower_stuck_timeouts(false);
    world.clock.advance(31 * MINUTE);
    world.gitlab.sweep();
    assert_eq!(world.job(&speaking).status(), "running");
}

#[tokio::test]
async fn the_server_ends_a_job_a_quarter_of_an_hour_after_its_timeout() {
    let world = World::new("job: {script: x, timeout: 20m}\n").await;
    world.run();
    let claim = world.claim().await;
    for _ in 0..2 {
        world.clock.advance(17 * MINUTE);
        world.patch(&claim, world.job(&claim).trace().len(), "x").await;
    }
    world.gitlab.sweep();
    assert_eq!(world.job(&claim).status(), "running");
    world.clock.advance(MINUTE);
    world.gitlab.sweep();
    assert_eq!(world.job(&claim).failure_reason().as_deref(), Some("server_timeout_running"));
}

#[tokio::test]
async fn a_canceling_job_that_nobody_ends_is_canceled_after_half_an_hour() {
    let world = World::new(ONE_JOB).await;
    world.run();
    let claim = world.claim().await;
    world.job(&claim).cancel();
    world.clock.advance(30 * MINUTE);

    world.gitlab.sweep();

    assert_eq!(world.job(&claim).status(), "canceled");
    assert_eq!(world.job(&claim).finishes(), 1);
}
