//! `PUT /jobs/:id` and cancelling (gitlab-protocol.md §5, §8.3, §11.3 jobs_put).

use reqwest::Method;
use serde_json::json;

use crate::support::{ONE_JOB, World, claim_body, header};

fn checksum(bytes: &[u8]) -> String {
    format!("crc32:{:08x}", crc32fast::hash(bytes))
}

#[tokio::test]
async fn success_and_failure_are_applied_once() {
    let world = World::new("a: {script: x}\nb: {script: x}\n").await;
    world.run();
    let (a, b) = (world.claim().await, world.claim().await);

    let answer = world.put(&a, json!({ "state": "success" })).await;
    assert_eq!((answer.status().as_u16(), header(&answer, "job-status")), (200, Some("success")));
    assert_eq!(header(&answer, "x-gitlab-trace-update-interval"), None);
    let failed = json!({ "state": "failed", "failure_reason": "script_failure", "exit_code": 99_999 });
    assert_eq!(world.put(&b, failed.clone()).await.status(), 200);

    let again = world.put(&b, failed).await;
    assert_eq!((again.status().as_u16(), header(&again, "job-status")), (403, Some("failed")));
    let job = world.job(&b);
    assert_eq!((job.failure_reason().as_deref(), job.exit_code()), (Some("script_failure"), Some(32_767)));
    assert_eq!((job.finishes(), world.job(&a).finishes()), (1, 1));
    world.assert_strict();
}

#[tokio::test]
async fn a_reason_that_gitlab_does_not_know_is_unknown_failure() {
    let world = World::new("a: {script: x}\nb: {script: x}\n").await;
    world.run();
    let (a, b) = (world.claim().await, world.claim().await);
    world.put(&a, json!({ "state": "failed", "failure_reason": "bad_weather" })).await;
    world.put(&b, json!({ "state": "failed" })).await;

    assert_eq!(world.job(&a).failure_reason().as_deref(), Some("unknown_failure"));
    assert_eq!(world.job(&b).failure_reason().as_deref(), Some("unknown_failure"));
}

#[tokio::test]
async fn states_that_no_runner_may_say_are_refused() {
    let world = World::new(ONE_JOB).await;
    world.run();
    let claim = world.claim().await;

    for state in [json!("pending"), json!("canceled"), json!(null)] {
        assert_eq!(world.put(&claim, json!({ "state": state })).await.status(), 400);
    }
    assert_eq!(world.put(&claim, json!({ "state": "running" })).await.status(), 200);
    assert_eq!(world.job(&claim).status(), "running");
}

#[tokio::test]
async fn unknown_jobs_and_wrong_tokens_are_403_and_no_token_is_400() {
    let world = World::new(ONE_JOB).await;
    world.run();
    let claim = world.claim().await;
    let put =
        |id: u64, body: serde_json::Value| world.call(Method::PUT, &format!("/api/v4/jobs/{id}")).json(&body).send();

    assert_eq!(put(claim.id, json!({ "state": "running" })).await.unwrap().status(), 400);
    assert_eq!(put(claim.id, json!({ "state": "success", "token": "wrong" })).await.unwrap().status(), 403);
    assert_eq!(put(1, json!({ "state": "success", "token": claim.token })).await.unwrap().status(), 403);
    assert_eq!(world.job(&claim).status(), "running");
}

#[tokio::test]
async fn a_final_update_with_a_checksum_waits_for_the_log_and_the_first_one_wins() {
    let world = World::new(ONE_JOB).await;
    world.run();
    let claim = world.claim().await;
    world.patch(&claim, 0, "hello").await;
    world.gitlab.faults().final_update_pending(2);
    let output = json!({ "checksum": checksum(b"hello"), "bytesize": 5 });
    let success = json!({ "state": "success", "output": output });

    let first = world.put(&claim, success.clone()).await;
    assert_eq!((first.status().as_u16(), header(&first, "x-gitlab-trace-update-interval")), (202, Some("60")));
    let other = json!({ "state": "failed", "output": output });
    assert_eq!(world.put(&claim, other).await.status(), 202);
    assert_eq!(world.put(&claim, success).await.status(), 200);

    assert_eq!(world.job(&claim).status(), "success");
    assert_eq!(world.gitlab.checksum_mismatches(), 0);
}

#[tokio::test]
async fn a_final_state_waits_no_longer_than_five_minutes_and_not_without_a_checksum() {
    let world = World::new("a: {script: x}\nb: {script: x}\n").await;
    world.run();
    let (a, b) = (world.claim().await, world.claim().await);
    world.gitlab.faults().final_update_pending(100);
    world.succeed(&a).await;
    let update = json!({ "state": "success", "output": { "checksum": checksum(b""), "bytesize": 0 } });
    assert_eq!(world.put(&b, update.clone()).await.status(), 202);

    world.clock.advance(std::time::Duration::from_secs(301));

    assert_eq!(world.put(&b, update).await.status(), 200);
}

#[tokio::test]
async fn a_wrong_checksum_is_counted_and_not_refused() {
    let world = World::new(ONE_JOB).await;
    world.run();
    let claim = world.claim().await;
    world.patch(&claim, 0, "hello").await;

    let update = json!({ "state": "success", "output": { "checksum": "crc32:00000000", "bytesize": 5 } });

    assert_eq!(world.put(&claim, update).await.status(), 200);
    assert_eq!(world.gitlab.checksum_mismatches(), 1);
}

#[tokio::test]
async fn a_graceful_cancel_is_heard_by_the_runner_and_success_ends_as_canceled() {
    let world = World::new(ONE_JOB).await;
    let pipeline = world.run();
    let claim = world.claim().await;

    world.job(&claim).cancel();

    let running = world.put(&claim, json!({ "state": "running" })).await;
    assert_eq!((running.status().as_u16(), header(&running, "job-status")), (200, Some("canceling")));
    let patch = world.patch(&claim, 0, "bye").await;
    assert_eq!((patch.status().as_u16(), header(&patch, "job-status")), (202, Some("canceling")));
    world.succeed(&claim).await;
    assert_eq!((world.job(&claim).status(), pipeline.status()), ("canceled".into(), "canceled".into()));
}

#[tokio::test]
async fn a_manager_whose_first_contact_was_silent_is_cancelled_hard() {
    let world = World::new(ONE_JOB).await;
    let verify = json!({ "token": world.runner, "system_id": "r_0123456789ab" });
    assert_eq!(world.own(Method::POST, "/api/v4/runners/verify").json(&verify).send().await.unwrap().status(), 200);
    world.run();
    let body = claim_body(&world.runner, &["cancel_gracefully"]);
    let claim = world.own(Method::POST, "/api/v4/jobs/request").json(&body).send().await.unwrap();
    let claim = crate::support::Claim::new(claim.json().await.unwrap());

    world.job(&claim).cancel();

    let patch = world.patch(&claim, 0, "late").await;
    assert_eq!((patch.status().as_u16(), header(&patch, "job-status")), (403, Some("canceled")));
}

#[tokio::test]
async fn people_cancel_retry_and_erase_with_their_own_token() {
    let world = World::new(ONE_JOB).await;
    let pipeline = world.run();
    let claim = world.claim().await;
    let path = |action: &str| format!("/api/v4/projects/{}/jobs/{}/{action}", world.project, claim.id);
    let act = |action: &str| {
        world.call(Method::POST, &path(action)).header("PRIVATE-TOKEN", world.gitlab.private_token()).send()
    };
    assert_eq!(world.call(Method::POST, &path("cancel")).send().await.unwrap().status(), 401);
    assert_eq!(act("retry").await.unwrap().status(), 403);
    assert_eq!(act("erase").await.unwrap().status(), 403);

    assert_eq!(act("cancel").await.unwrap().status(), 201);
    assert_eq!(world.job(&claim).status(), "canceling");
    let forced = world.call(Method::POST, &format!("{}?force=true", path("cancel")));
    let forced = forced.header("PRIVATE-TOKEN", world.gitlab.private_token()).send().await.unwrap();
    assert_eq!(forced.status(), 201);
    assert_eq!(world.job(&claim).status(), "canceled");
    let again: serde_json::Value = act("retry").await.unwrap().json().await.unwrap();
    assert_ne!(again["id"], json!(claim.id));
    assert_eq!((again["status"].as_str(), pipeline.status().as_str()), (Some("pending"), "pending"));
    assert_eq!(act("erase").await.unwrap().status(), 201);
    assert_eq!(world.put(&claim, json!({ "state": "running" })).await.status(), 403);
}
