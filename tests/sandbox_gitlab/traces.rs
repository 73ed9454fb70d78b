//! `PATCH /jobs/:id/trace` (gitlab-protocol.md §6, §11.3 jobs_trace).

use reqwest::Method;

use crate::support::{ONE_JOB, World, header};

#[tokio::test]
async fn a_log_grows_by_strictly_following_pieces() {
    let world = World::new(ONE_JOB).await;
    world.run();
    let claim = world.claim().await;

    let first = world.patch(&claim, 0, "hello ").await;
    assert_eq!((first.status().as_u16(), header(&first, "range")), (202, Some("0-6")));
    assert_eq!(header(&first, "job-status"), Some("running"));
    assert_eq!(header(&first, "x-gitlab-trace-update-interval"), Some("60"));
    for wrong in [0, 5, 7] {
        let answer = world.patch(&claim, wrong, "again").await;
        assert_eq!((answer.status().as_u16(), header(&answer, "range")), (416, Some("0-6")));
    }
    world.job(&claim).watch(true);
    let second = world.patch(&claim, 6, "world").await;
    assert_eq!(header(&second, "x-gitlab-trace-update-interval"), Some("3"));
    assert_eq!(world.patch(&claim, 11, "").await.status(), 202);

    assert_eq!(world.job(&claim).trace(), b"hello world");
    world.job(&claim).traced("lo wo").await;
    world.assert_strict();
}

#[tokio::test]
async fn a_lost_log_is_asked_for_from_the_start() {
    let world = World::new(ONE_JOB).await;
    world.run();
    let claim = world.claim().await;
    world.patch(&claim, 0, "hello").await;
    world.gitlab.faults().flush_trace(claim.id);

    let partial = world.patch(&claim, 5, " world").await;

    assert_eq!((partial.status().as_u16(), header(&partial, "range")), (416, Some("0-0")));
    assert_eq!(world.patch(&claim, 0, "hello world").await.status(), 202);
}

#[tokio::test]
async fn a_piece_without_its_place_or_token_is_refused() {
    let world = World::new(ONE_JOB).await;
    world.run();
    let claim = world.claim().await;
    let path = format!("/api/v4/jobs/{}/trace", claim.id);
    let patch = |token: &str| world.call(Method::PATCH, &path).header("JOB-TOKEN", token).body("x");

    assert_eq!(patch(&claim.token).send().await.unwrap().status(), 400);
    assert_eq!(patch(&claim.token).header("Content-Range", "x").send().await.unwrap().status(), 400);
    assert_eq!(patch("wrong").header("Content-Range", "0-0").send().await.unwrap().status(), 403);
    let nobody = world.call(Method::PATCH, "/api/v4/jobs/1/trace").header("JOB-TOKEN", &claim.token);
    assert_eq!(nobody.header("Content-Range", "0-0").body("x").send().await.unwrap().status(), 403);
    assert!(world.job(&claim).trace().is_empty());
}

#[tokio::test]
async fn a_log_over_the_limit_fails_its_job() {
    let world = World::new(ONE_JOB).await;
    world.run();
    let claim = world.claim().await;
    world.gitlab.set_trace_limit(4);

    let answer = world.patch(&claim, 0, "hello").await;

    assert_eq!((answer.status().as_u16(), header(&answer, "job-status")), (403, Some("failed")));
    assert_eq!(world.job(&claim).failure_reason().as_deref(), Some("trace_size_exceeded"));
}

#[tokio::test]
async fn gitlab_hides_a_job_token_in_its_length_and_remembers_that_it_had_to() {
    let world = World::new(ONE_JOB).await;
    world.run();
    let claim = world.claim().await;

    world.patch(&claim, 0, &format!("a {} b", claim.token)).await;

    let trace = String::from_utf8(world.job(&claim).trace()).unwrap();
    assert_eq!(trace.len(), claim.token.len() + 4);
    assert!(trace.starts_with("a [MASKED]xx") && trace.ends_with("xx b"));
    assert_eq!(world.job(&claim).hidden_secrets(), 1);
}
