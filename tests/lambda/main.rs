//! The Lambda binary as Lambda runs it: a runtime API hands it events, Secrets Manager and SQS answer it, S3, ECS and
//! GitLab are the sandbox's.
#![cfg(feature = "sandbox")]

#[path = "../stories/support.rs"]
#[expect(dead_code, reason = "the stories need more of it")]
mod support;

mod aws;
mod function;

use std::sync::Arc;

use futures::FutureExt;
use mayfly::sandbox::Settings;
use mayfly::sandbox::ecs::{Ending, Runtime};
use mayfly::sandbox::gitlab::RunnerSpec;
use serde_json::json;

use aws::Aws;
use function::Function;
use support::{Story, in_time, until};

const SIGNING_TOKEN: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

async fn story() -> Story {
    let play = |task: mayfly::sandbox::ecs::SimulatedTask| {
        async move {
            task.running();
            task.told_to_stop().await;
            Ending::exited([("helper", 143)])
        }
        .boxed()
    };
    let settings = Settings { runtime: Runtime::Simulated(Arc::new(play)), ticks: false, ..Settings::default() };
    Story::start_with(settings, "build:\n  script: ['true']\n").await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_webhook_puts_a_genuine_hook_on_the_queue_and_refuses_a_forged_one() {
    let aws =
        Aws::start(&[("webhook", &json!({"secret_tokens": ["open"], "signing_tokens": [SIGNING_TOKEN]}).to_string())])
            .await;
    let function = Function::start("webhook", &aws, &[("MAYFLY_WEBHOOK_SECRET", "webhook")]).await;
    let hook = json!({"object_kind": "build", "build_id": 7, "build_status": "pending"}).to_string();

    let genuine =
        function.request("POST", "/", &[("x-gitlab-event", "Job Hook"), ("x-gitlab-token", "open")], &hook).await;
    assert_eq!(genuine["statusCode"], 200, "{genuine}");
    assert_eq!(aws.messages(), [json!({"event": "knock", "instance": null, "job": 7})]);

    let encoded =
        function.request_base64("/", &[("x-gitlab-event", "Job Hook"), ("x-gitlab-token", "open")], &hook).await;
    assert_eq!(encoded["statusCode"], 200, "{encoded}");
    assert_eq!(aws.messages().len(), 2);

    let forged =
        function.request("POST", "/", &[("x-gitlab-event", "Job Hook"), ("x-gitlab-token", "guess")], &hook).await;
    assert_eq!(forged["statusCode"], 401, "{forged}");
    let garbage =
        function.request("POST", "/", &[("x-gitlab-event", "Job Hook"), ("x-gitlab-token", "open")], "{").await;
    assert_eq!(garbage["statusCode"], 400, "{garbage}");
    assert_eq!(aws.messages().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dispatcher_claims_and_launches_on_a_tick_and_the_broker_opens_nothing_for_strangers() {
    let story = story().await;
    // This deployment has a runner of its own; the sandbox's own one hears nothing.
    story.sandbox.gitlab.faults().lose_next_hooks(usize::MAX);
    let token = story.sandbox.gitlab.add_runner(RunnerSpec { description: "lambda".into(), ..RunnerSpec::default() });
    let mut fleet = (*story.sandbox.fleet).clone();
    fleet.runners[0].name = "lambda".into();
    fleet.runners[0].token = "runner-token".into();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("fleet.toml");
    std::fs::write(&path, toml::to_string(&fleet).expect("it is plain data")).expect("a file");
    let aws = Aws::start(&[("runner-token", &token), ("ticket", "k1"), ("grant", "k2"), ("launch", "k3")]).await;
    let s3 = story.sandbox.s3.url().to_owned();
    let ecs = story.sandbox.ecs.url().to_owned();
    let variables = [
        ("MAYFLY_FLEET", path.to_str().expect("a plain path")),
        ("MAYFLY_TICKET_KEY", "ticket"),
        ("MAYFLY_GRANT_KEY", "grant"),
        ("MAYFLY_LAUNCH_KEY", "launch"),
        ("AWS_ENDPOINT_URL_S3", &s3),
        ("AWS_ENDPOINT_URL_ECS", &ecs),
    ];
    let job = story.run().jobs().remove(0);

    let dispatcher = Function::start("dispatcher", &aws, &variables).await;
    let tick =
        json!({"Records": [{"messageId": "m1", "body": "{\"event\": \"tick\"}"}, {"messageId": "m2", "body": "?"}]});
    let answer = dispatcher.invoke(&tick).await;
    assert_eq!(answer, json!({"batchItemFailures": []}));
    in_time(job.reached("running")).await;
    until("a task", || story.sandbox.ecs.live_tasks() == 1).await;

    let broker = Function::start("broker", &aws, &variables).await;
    let sha256 = &story.sandbox.fleet.broker.agents["amd64"];
    let agent = broker.request("GET", &format!("/agent/{sha256}"), &[], "").await;
    assert_eq!(agent["statusCode"], 302, "{agent}");
    let location = agent["headers"]["location"].as_str().expect("a location").to_owned();
    assert!(reqwest::get(location).await.expect("an answer").status().is_success());
    let stranger = json!({"ticket": "x.y", "nonce": "n".repeat(32), "proof": "p"}).to_string();
    let refused = broker.request("POST", "/open", &[], &stranger).await;
    assert_eq!(refused["statusCode"], 403, "{refused}");
    story.sandbox.shutdown().await;
}
