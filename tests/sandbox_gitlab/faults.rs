//! The faults that tests order (gitlab-protocol.md §11.2).

use std::time::Duration;

use mayfly::sandbox::gitlab::{Cut, Lag};
use reqwest::Method;
use serde_json::json;

use crate::support::{ONE_JOB, World, claim_body, header};

#[tokio::test]
async fn a_lagging_replica_hides_a_job_once_and_only_when_one_waits() {
    let world = World::new(ONE_JOB).await;
    world.gitlab.faults().lag_next_claims(1, Lag::NoContent);
    world.gitlab.faults().lag_next_claims(1, Lag::Conflict);
    assert_eq!(world.ask().await.status(), 204);
    world.run();

    assert_eq!(world.ask().await.status(), 204);
    let conflict = world.ask().await;
    assert_eq!((conflict.status().as_u16(), header(&conflict, "x-gitlab-last-update")), (409, None));
    assert_eq!(world.ask().await.status(), 201);
    world.gitlab.faults().conflict_next_claims(1);
    assert_eq!(world.ask().await.status(), 409);
}

#[tokio::test]
async fn ordered_answers_come_instead_of_gitlabs_own() {
    let world = World::new(ONE_JOB).await;
    world.run();
    let faults = world.gitlab.faults();
    faults.answer_next("POST", "/api/v4/jobs/request", 429, &[("Retry-After", "60")], 1);
    let limited = world.ask().await;
    assert_eq!((limited.status().as_u16(), header(&limited, "retry-after")), (429, Some("60")));
    faults.answer_for(Duration::from_secs(60), "*", "/api/v4/.*", 502, &[]);

    for _ in 0..3 {
        assert_eq!(world.ask().await.status(), 502);
    }
    world.clock.advance(Duration::from_secs(60));
    assert_eq!(world.ask().await.status(), 201);
    assert_eq!(world.gitlab.claim_requests(), 1);
}

#[tokio::test]
async fn a_connection_is_cut_before_or_after_gitlab_acted() {
    let world = World::new(ONE_JOB).await;
    let pipeline = world.run();
    let body = claim_body(&world.runner, &[]);
    let ask = || world.own(Method::POST, "/api/v4/jobs/request").json(&body).send();

    world.gitlab.faults().cut_next("POST", "/api/v4/jobs/request", Cut::BeforeHandling, 1);
    assert!(ask().await.is_err());
    assert_eq!(pipeline.job("job").unwrap().status(), "pending");
    world.gitlab.faults().cut_next("POST", "/api/v4/jobs/request", Cut::AfterHandling, 1);
    assert!(ask().await.is_err());
    assert_eq!(pipeline.job("job").unwrap().status(), "running");
}

#[tokio::test]
async fn a_fresh_claim_is_not_found_by_its_token_at_first() {
    let world = World::new(ONE_JOB).await;
    world.run();
    world.gitlab.faults().job_lookup_lag(Duration::from_secs(3600));
    let claim = world.claim().await;
    let look = || world.own(Method::GET, "/api/v4/job").header("JOB-TOKEN", &claim.token).send();

    assert_eq!(look().await.unwrap().status(), 401);
    world.clock.advance(Duration::from_secs(3600));
    assert_eq!(look().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_claim_can_say_anything() {
    let world = World::new("a: {script: x}\nb: {script: x}\n").await;
    let pipeline = world.run();
    let a = pipeline.job("a").unwrap().id();
    world.gitlab.faults().rewrite_claim(Some(a), |claim| claim["steps"] = json!("nonsense"));
    world.gitlab.faults().rewrite_claim(None, |claim| claim["extra"] = json!(1));

    let (first, second) = (world.claim().await, world.claim().await);

    assert_eq!((&first.body["steps"], &first.body["extra"]), (&json!("nonsense"), &json!(1)));
    assert!(second.body["steps"].is_array());
    world.run();
    world.gitlab.faults().claim_body_raw(b"\xff{".to_vec());
    let raw = world.ask().await;
    assert_eq!((raw.status().as_u16(), raw.bytes().await.unwrap().as_ref()), (201, b"\xff{".as_slice()));
    world.gitlab.faults().clear();
    assert_eq!(world.claim().await.body["extra"], json!(null));
}

#[tokio::test]
async fn the_server_stops_when_its_last_handle_goes() {
    let world = World::new(ONE_JOB).await;
    let url = world.gitlab.url();
    let second = world.gitlab.clone();
    drop(world);
    assert_eq!(reqwest::get(&url).await.unwrap().status(), 404);
    drop(second);

    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while reqwest::get(&url).await.is_ok() {
        assert!(std::time::Instant::now() < deadline, "it still answers");
    }
}
