//! Job Hooks and Pipeline Hooks at a real receiver (gitlab-protocol.md §1).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use mayfly::sandbox::gitlab::{Delivered, Hook};
use serde_json::{Value, json};

use crate::support::{ONE_JOB, World};

#[derive(Clone)]
struct Receiver {
    url: String,
    heard: Arc<Mutex<Vec<(HeaderMap, Value)>>>,
    answer: Arc<Mutex<StatusCode>>,
}

impl Receiver {
    async fn start() -> Receiver {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let receiver = Receiver { url, heard: Arc::default(), answer: Arc::new(Mutex::new(StatusCode::OK)) };
        let router = Router::new().fallback(hear).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        receiver
    }

    fn hook(&self) -> Hook {
        Hook { url: self.url.clone(), job_events: true, ..Hook::default() }
    }

    fn heard(&self) -> Vec<(HeaderMap, Value)> {
        self.heard.lock().unwrap().clone()
    }

    fn statuses(&self) -> Vec<String> {
        let status = |(_, body): (HeaderMap, Value)| {
            let status = if body["object_kind"] == "build" {
                &body["build_status"]
            } else {
                &body["object_attributes"]["status"]
            };
            status.as_str().unwrap().to_owned()
        };
        self.heard().into_iter().map(status).collect()
    }

    fn answer(&self, status: u16) {
        *self.answer.lock().unwrap() = StatusCode::from_u16(status).unwrap();
    }
}

async fn hear(State(receiver): State<Receiver>, headers: HeaderMap, body: String) -> StatusCode {
    receiver.heard.lock().unwrap().push((headers, serde_json::from_str(&body).unwrap()));
    let answer = *receiver.answer.lock().unwrap();
    if answer == StatusCode::REQUEST_TIMEOUT {
        std::future::pending::<()>().await;
    }
    answer
}

#[tokio::test]
async fn a_job_hook_comes_with_every_step_and_never_with_the_jobs_tags() {
    let world = World::new("job: {tags: [mayfly], script: x}\n").await;
    let receiver = Receiver::start().await;
    world.gitlab.add_hook(world.project, Hook { secret_token: Some("s3\ncret".into()), ..receiver.hook() });
    let pipeline = world.run();
    let claim = world.claim().await;
    world.succeed(&claim).await;
    world.gitlab.hooks_delivered().await;

    assert_eq!(receiver.statuses(), ["created", "pending", "running", "success"]);
    let (headers, body) = receiver.heard().remove(1);
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    assert_eq!((header("x-gitlab-event"), header("x-gitlab-token")), ("Job Hook".into(), "s3cret".into()));
    assert_eq!((header("x-gitlab-instance"), header("content-type")), (world.gitlab.url(), "application/json".into()));
    assert!(header("user-agent").starts_with("GitLab/") && headers.contains_key("x-gitlab-event-uuid"));
    assert!(!headers.contains_key("webhook-signature"));
    assert_eq!((&body["build_id"], &body["commit"]["id"]), (&json!(claim.id), &json!(pipeline.id())));
    assert_eq!((&body["runner"], &body["build_failure_reason"]), (&Value::Null, &json!("unknown_failure")));
    assert!(!body.to_string().contains("mayfly\""));
    assert_eq!(receiver.heard()[2].1["runner"]["tags"], json!(["mayfly"]));
}

#[tokio::test]
async fn a_pipeline_hook_comes_with_the_pipelines_own_changes() {
    let world = World::new("a: {stage: build, script: x}\nb: {stage: test, script: x}\n").await;
    let receiver = Receiver::start().await;
    world.gitlab.add_hook(world.project, Hook { job_events: false, pipeline_events: true, ..receiver.hook() });
    world.run();
    for _ in 0..2 {
        let claim = world.claim().await;
        world.succeed(&claim).await;
    }
    world.gitlab.hooks_delivered().await;

    // The second stage's pending job changes nothing in a running pipeline (§1.7).
    assert_eq!(receiver.statuses(), ["pending", "running", "success"]);
    let body = &receiver.heard()[2].1;
    assert_eq!(body["object_attributes"]["stages"], json!(["build", "test"]));
    assert_eq!(body["builds"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_signing_token_signs_the_raw_body() {
    let world = World::new(ONE_JOB).await;
    let receiver = Receiver::start().await;
    let token = "whsec_MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDA=";
    world.gitlab.add_hook(world.project, Hook { signing_token: Some(token.into()), ..receiver.hook() });
    world.run();
    world.gitlab.hooks_delivered().await;

    let (headers, _) = receiver.heard().remove(0);
    assert_eq!(headers["webhook-id"], headers["idempotency-key"]);
    assert!(headers["webhook-signature"].to_str().unwrap().starts_with("v1,"));
    let timestamp: i64 = headers["webhook-timestamp"].to_str().unwrap().parse().unwrap();
    assert!((world.clock.now().as_second() - timestamp).abs() < 60);
}

#[tokio::test]
async fn a_failing_hook_is_not_repeated_and_disabled_after_four_failures() {
    let world = World::new(ONE_JOB).await;
    let receiver = Receiver::start().await;
    world.gitlab.add_hook(world.project, receiver.hook());
    receiver.answer(500);
    for _ in 0..3 {
        world.run();
        world.gitlab.hooks_delivered().await;
    }
    // Two events per pipeline; the fourth failure disabled the hook.
    assert_eq!(receiver.heard().len(), 4);
    let deliveries = world.gitlab.hook_deliveries();
    assert_eq!(deliveries[3].status, Some(500));
    assert_eq!(deliveries[4].delivered, Delivered::Lost);

    receiver.answer(302);
    world.clock.advance(Duration::from_secs(61));
    world.run();
    world.gitlab.hooks_delivered().await;
    assert_eq!(receiver.heard().len(), 6);
    let again = world.gitlab.redeliver(0).unwrap();
    world.gitlab.hooks_delivered().await;
    assert_eq!(world.gitlab.hook_deliveries()[again].status, Some(302));
    let heard = receiver.heard();
    assert_eq!(heard[6].0["idempotency-key"], heard[0].0["idempotency-key"]);
    assert_ne!(heard[6].0["x-gitlab-webhook-uuid"], heard[0].0["x-gitlab-webhook-uuid"]);
}

#[tokio::test]
async fn nobody_there_is_a_failed_delivery() {
    let world = World::new(ONE_JOB).await;
    let hook = Hook { url: "http://127.0.0.1:1/".into(), job_events: true, ..Hook::default() };
    world.gitlab.add_hook(world.project, hook);
    world.run();
    world.gitlab.hooks_delivered().await;

    let delivery = world.gitlab.hook_deliveries().remove(0);
    assert_eq!((delivery.status, delivery.delivered), (None, Delivered::Failed));
}

#[tokio::test]
async fn hooks_get_lost_doubled_and_out_of_order_when_ordered() {
    let world = World::new(ONE_JOB).await;
    let receiver = Receiver::start().await;
    world.gitlab.add_hook(world.project, receiver.hook());
    world.gitlab.faults().lose_next_hooks(1);
    world.gitlab.faults().running_before_pending(true);
    world.run();
    world.claim().await;
    world.gitlab.hooks_delivered().await;
    assert_eq!(receiver.statuses(), ["running", "pending"]);

    world.gitlab.faults().clear();
    world.gitlab.faults().double_hooks(1);
    world.run();
    world.gitlab.hooks_delivered().await;
    assert_eq!(receiver.statuses()[2..], ["created", "created", "pending"]);
    let heard = receiver.heard();
    assert_eq!(heard[2].0["idempotency-key"], heard[3].0["idempotency-key"]);
}

#[tokio::test]
async fn a_receiver_has_ten_seconds() {
    let world = World::new(ONE_JOB).await;
    let receiver = Receiver::start().await;
    world.gitlab.add_hook(world.project, receiver.hook());
    receiver.answer(408);
    world.run();
    for sent in 1..=2 {
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        while receiver.heard().len() < sent {
            assert!(std::time::Instant::now() < deadline, "no hook came");
            tokio::task::yield_now().await;
        }
        world.clock.advance(Duration::from_secs(10));
    }
    world.gitlab.hooks_delivered().await;

    assert!(world.gitlab.hook_deliveries().iter().all(|delivery| delivery.delivered == Delivered::Failed));
}
