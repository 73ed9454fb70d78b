//! The Lambda binary as Lambda runs it: a runtime API hands it events, Secrets Manager and SQS answer it, S3, ECS and
//! GitLab are the sandbox's.
#![cfg(feature = "sandbox")]

#[path = "../stories/support.rs"]
#[expect(dead_code, reason = "the stories need more of it")]
mod support;

#[expect(dead_code, reason = "other tests need more of it")]
mod aws;
#[expect(dead_code, reason = "other tests need more of it")]
mod function;
mod stack;

use std::sync::Arc;

use futures::FutureExt;
use mayfly::ledger::keys::proof;
use mayfly::ledger::{JobKey, Ticket};
use mayfly::sandbox::Settings;
use mayfly::sandbox::ecs::{Ending, Runtime};
use mayfly::sandbox::gitlab::RunnerSpec;
use serde_json::json;

use aws::Aws;
use function::Function;
use stack::Stack;
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
    assert_eq!(aws.messages(), [json!({"event": "knock", "instance": null, "jobs": [7]})]);

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
async fn a_webhook_without_a_token_answers_503_with_what_to_do() {
    let aws = Aws::start(&[("webhook", "{\"secret_tokens\": []}")]).await;
    let function = Function::start("webhook", &aws, &[("MAYFLY_WEBHOOK_SECRET", "webhook")]).await;
    let headers = [("x-gitlab-event", "Job Hook"), ("x-gitlab-token", "")];
    for text in ["{\"secret_tokens\": [\"\"]}", "{\"signing_tokens\": [\"whsec_\"]}", "hush", "{}"] {
        aws.put_secret("webhook", text);
        let answer = function.request("POST", "/", &headers, "{}").await;
        let body = answer["body"].as_str().unwrap_or_default();
        assert_eq!(answer["statusCode"], 503, "{answer}");
        assert!(
            body.starts_with("Mayfly is not set up yet: the secret `webhook` ") && !body.contains("hush"),
            "{body}"
        );
    }
    aws.put_secret("webhook", "{\"secret_token\": \"open\"}");
    let headers = [("x-gitlab-event", "Job Hook"), ("x-gitlab-token", "open")];
    let hook = json!({"object_kind": "build", "build_id": 7, "build_status": "pending"}).to_string();
    assert_eq!(function.request("POST", "/", &headers, &hook).await["statusCode"], 200);
}

const AGENT: &[u8] = b"an agent";
/// `printf 'an agent' | sha256sum`
const AGENT_SHA256: &str = "647936ec3e40783d8d86fad9d2d8acfac4613dee5c3eb516ef433fed532f8d86";
const KEYS: [(&str, &str); 3] =
    [("ticket", "ticket-key-ticket-key"), ("grant", "grant-key-grant-key-"), ("launch", "launch-key-launch-key")];

#[tokio::test(flavor = "multi_thread")]
async fn before_the_fleet_is_there_ticks_are_dropped_and_the_broker_answers_503() {
    let story = story().await;
    let stack = Stack::of(&story, AGENT_SHA256, AGENT);
    let aws = Aws::start(&KEYS).await;
    aws.put_secret("tokens", "{}");
    let dispatcher = Function::start("dispatcher", &aws, &stack.variables()).await;
    let broker = Function::start("broker", &aws, &stack.variables()).await;

    let tick = json!({"Records": [
        {"messageId": "m1", "body": "{\"event\": \"tick\"}"},
        {"messageId": "m2", "body": "{\"event\": \"knock\", \"instance\": null, \"job\": 7}"},
    ]});
    assert_eq!(dispatcher.invoke(&tick).await, json!({"batchItemFailures": []}));
    let answer = broker.request("POST", "/open", &[], "{}").await;
    assert_eq!(answer["statusCode"], 503, "{answer}");
    let body = answer["body"].as_str().unwrap_or_default();
    assert!(body.contains("aws s3 cp fleet.toml s3://agents/fleet.toml"), "{body}");

    // With the fleet and no token the tick is handled; without a restart.
    stack.put_fleet(&story, "lambda").await;
    in_time(async { while broker.request("POST", "/open", &[], "{}").await["statusCode"] != 400 {} }).await;
    assert_eq!(dispatcher.invoke(&tick).await, json!({"batchItemFailures": []}));

    // Without readable tokens it goes on as well: what needs none is done.
    aws.put_secret("tokens", "not JSON");
    let lease = || story.sandbox.s3.object("ledger", "lease");
    let before = lease();
    let damaged = Function::start("dispatcher", &aws, &stack.variables()).await;
    assert_eq!(damaged.invoke(&tick).await, json!({"batchItemFailures": []}));
    assert_ne!(lease(), before, "the tick took the lease");

    // A secret that cannot be read now is no missing step: what is not a tick comes again.
    let failing = Aws::start(&KEYS).await;
    failing.fail(true);
    let dispatcher = Function::start("dispatcher", &failing, &stack.variables()).await;
    assert_eq!(dispatcher.invoke(&tick).await, json!({"batchItemFailures": [{"itemIdentifier": "m2"}]}));
    story.sandbox.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dispatcher_claims_and_launches_on_a_tick_and_the_broker_opens_nothing_for_strangers() {
    let story = story().await;
    // This deployment has a runner of its own; the sandbox's own one hears nothing.
    story.sandbox.gitlab.faults().lose_next_hooks(usize::MAX);
    let token = story.sandbox.gitlab.add_runner(RunnerSpec { description: "lambda".into(), ..RunnerSpec::default() });
    let stack = Stack::of(&story, AGENT_SHA256, AGENT);
    stack.put_fleet(&story, "lambda").await;
    let aws = Aws::start(&KEYS).await;
    aws.put_secret("tokens", &json!({"lambda": token, "other": 7}).to_string());
    let job = story.run().jobs().remove(0);

    let dispatcher = Function::start("dispatcher", &aws, &stack.variables()).await;
    let tick =
        json!({"Records": [{"messageId": "m1", "body": "{\"event\": \"tick\"}"}, {"messageId": "m2", "body": "?"}]});
    let answer = dispatcher.invoke(&tick).await;
    assert_eq!(answer, json!({"batchItemFailures": []}));
    in_time(job.reached("running")).await;
    until("a task", || story.sandbox.ecs.live_tasks() == 1).await;
    let task = story.sandbox.ecs.tasks().remove(0).json.to_string();
    assert!(task.contains(AGENT_SHA256) && task.contains("https://broker.test"), "{task}");

    let broker = Function::start("broker", &aws, &stack.variables()).await;
    let missing = broker.request("GET", &format!("/agent/{}", "0".repeat(64)), &[], "").await;
    assert_eq!(missing["statusCode"], 404, "{missing}");
    let odd = broker.request("GET", "/agent/..%2Ffleet.toml", &[], "").await;
    assert_eq!(odd["statusCode"], 404, "{odd}");
    for _ in 0..2 {
        let agent = broker.request("GET", &format!("/agent/{AGENT_SHA256}"), &[], "").await;
        assert_eq!(agent["statusCode"], 302, "{agent}");
        let location = agent["headers"]["location"].as_str().expect("a location").to_owned();
        let agent = reqwest::get(location).await.expect("an answer").bytes().await.expect("a body");
        assert_eq!(agent, AGENT);
    }
    let stranger = json!({"ticket": "x.y", "nonce": "n".repeat(32), "proof": "p"}).to_string();
    let refused = broker.request("POST", "/open", &[], &stranger).await;
    assert_eq!(refused["statusCode"], 403, "{refused}");
    story.sandbox.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_of_messages_that_leads_to_nothing_ends() {
    let story = story().await;
    story.sandbox.gitlab.faults().lose_next_hooks(usize::MAX);
    let token = story.sandbox.gitlab.add_runner(RunnerSpec { description: "lambda".into(), ..RunnerSpec::default() });
    let stack = Stack::of(&story, AGENT_SHA256, AGENT);
    stack.put_fleet(&story, "lambda").await;
    let aws = Aws::start(&KEYS).await;
    aws.put_secret("tokens", &json!({"lambda": token}).to_string());
    let dispatcher = Function::start("dispatcher", &aws, &stack.variables()).await;
    let poll = |hops: u8| {
        let body = json!({"event": "poll", "runner": "lambda", "in_vain": 0, "hops": hops}).to_string();
        json!({"Records": [{"messageId": "m", "body": body}]})
    };
    assert_eq!(dispatcher.invoke(&poll(19)).await, json!({"batchItemFailures": []}));
    let sent = aws.messages();
    assert_eq!((sent.len(), &sent[0]["event"], &sent[0]["hops"]), (1, &json!("poll"), &json!(20)), "{sent:?}");

    // A message at the end of its chain sends no other, whether its poll comes too early or finds nothing.
    for _ in 0..3 {
        assert_eq!(dispatcher.invoke(&poll(20)).await, json!({"batchItemFailures": []}));
    }
    assert_eq!(aws.messages().len(), 1);

    // It still claims a job.
    let job = story.run().jobs().remove(0);
    in_time(async {
        while job.status() == "pending" {
            dispatcher.invoke(&poll(20)).await;
        }
    })
    .await;
    in_time(job.reached("running")).await;
    story.sandbox.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_rotated_refuses_nobody_who_holds_the_new_or_the_old_one() {
    let story = story().await;
    let stack = Stack::of(&story, AGENT_SHA256, AGENT);
    stack.put_fleet(&story, "lambda").await;
    let aws = Aws::start(&KEYS).await;
    let broker = Function::start("broker", &aws, &stack.variables()).await;
    let open = async |ticket_key: &str, launch_key: &str| {
        let job = JobKey::new(&"https://gitlab.test".parse().expect("a URL"), 1);
        let ticket = Ticket { job, attempt: 1 }.sign(&ticket_key.into());
        let nonce = "n".repeat(32);
        let proof = proof(&launch_key.into(), &ticket, &nonce);
        let body = json!({"ticket": ticket, "nonce": nonce, "proof": proof}).to_string();
        let answer = broker.request("POST", "/open", &[], &body).await;
        answer["body"].as_str().unwrap_or_default().to_owned()
    };
    let known = "the ledger knows no such job";
    let (old_ticket, old_launch) = (KEYS[0].1, KEYS[2].1);
    assert!(open(old_ticket, old_launch).await.contains(known));
    aws.put_secret("ticket", "another-ticket-key");
    aws.put_secret("launch", "another-launch-key");
    assert!(open("another-ticket-key", "another-launch-key").await.contains(known));
    assert!(open(old_ticket, old_launch).await.contains(known));
    assert!(open("a-key-of-a-stranger", old_launch).await.contains("this is no ticket of ours"));
    assert!(open(old_ticket, "a-key-of-a-stranger").await.contains("without the launch key"));
    story.sandbox.shutdown().await;
}
