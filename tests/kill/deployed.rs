//! The same with the functions as they are deployed: processes of the Lambda binary, which get the events of SQS and of
//! function URLs, read their secrets and their fleet from AWS, and are killed as processes are.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use mayfly::sandbox::gitlab::{JobHandle, RunnerSpec};
use mayfly::sandbox::traffic::Moment;
use mayfly::sandbox::{Queue, Settings};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::aws::Aws;
use crate::function::{Function, url_event};
use crate::gatekeeper::Gatekeeper;
use crate::plot::Plot;
use crate::sender::Sender;
use crate::stack::Stack;
use crate::support::{Story, agent, trace};
use crate::{ALONE, Case, PATIENCE, PIPELINE, judge, least, live_jobs, run_all};

/// A dispatcher that dies with the lease keeps the next one waiting for 30 s of real time: most of a case is that.
const AT_ONCE: usize = 12;
/// Looks at a deployment where nothing moves are so far apart.
const TICK_EVERY: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn a_deployed_function_that_dies_at_whatever_request_costs_no_job() {
    let _alone = ALONE.lock().await;
    let (one, other) = (count_requests().await, count_requests().await);
    println!("requests: {one:?}, {other:?}");
    let mut cases = Vec::new();
    for (sender, count) in least(&one, &other) {
        for n in 1..=count {
            let case = |moment| Case { story: Plot::Undisturbed, sender, n, moment };
            cases.extend([Moment::Arrived, Moment::Answered].map(case));
        }
    }
    run_all(cases, AT_ONCE, 5, run_case).await;
}

async fn count_requests() -> Vec<(Sender, usize)> {
    let deployed = Deployed::start().await;
    let gate = deployed.gate(None);
    let job = deployed.story.run().jobs().remove(0);
    let end = deployed.settle_down(&job).await;
    assert_eq!((end, job.status()), (Ok(()), "success".to_owned()), "{}", trace(&job));
    let counts = [Sender::Dispatcher, Sender::Broker].map(|sender| (sender, gate.count(sender))).to_vec();
    deployed.stop().await;
    counts
}

async fn run_case(case: Case) -> (String, Result<bool, String>) {
    let deployed = Deployed::start().await;
    let gate = deployed.gate(Some((case.sender, case.n, case.moment)));
    let job = deployed.story.run().jobs().remove(0);
    let end = deployed.settle_down(&job).await;
    let killed = gate.killed();
    let way = if case.moment == Moment::Arrived { "before" } else { "after" };
    let at = killed.as_ref().map_or("(not reached)".to_owned(), |killed| killed.request.to_string());
    let at: String = at.chars().take(120).collect();
    let line = format!("deployed: {} #{} {way} {at}: {}", case.sender, case.n, job.status());
    let verdict = end.and_then(|()| judge(Plot::Undisturbed, &job, killed.as_ref()));
    deployed.stop().await;
    (line, verdict.map(|()| killed.is_some()))
}

/// A sandbox whose dispatcher and broker are processes.
struct Deployed {
    story: Story,
    dispatcher: Arc<Slot>,
    broker: Arc<Slot>,
    stop: CancellationToken,
    _stack: Arc<Stack>,
}

/// Where one function runs. Lambda starts it when it is needed, and anew when it has died.
struct Slot {
    handler: &'static str,
    aws: Arc<Aws>,
    stack: Arc<Stack>,
    function: tokio::sync::Mutex<Option<Arc<Function>>>,
    running: Mutex<Option<Arc<Function>>>,
    invocations: AtomicUsize,
}

impl Slot {
    fn new(handler: &'static str, aws: &Arc<Aws>, stack: &Arc<Stack>) -> Arc<Slot> {
        Arc::new(Slot {
            handler,
            aws: Arc::clone(aws),
            stack: Arc::clone(stack),
            function: tokio::sync::Mutex::default(),
            running: Mutex::default(),
            invocations: AtomicUsize::new(0),
        })
    }

    /// One invocation at a time, as in one environment of Lambda; `None` where the function died.
    async fn invoke(&self, event: &Value) -> Option<Value> {
        self.invocations.fetch_add(1, Ordering::SeqCst);
        let mut slot = self.function.lock().await;
        if slot.as_ref().is_none_or(|function| function.is_killed()) {
            *slot = Some(Arc::new(Function::start(self.handler, &self.aws, &self.stack.variables()).await));
            *self.running.lock().unwrap_or_else(PoisonError::into_inner) = slot.clone();
        }
        let function = Arc::clone(slot.as_ref().expect("it was just started"));
        let answer = function.invoke_or_die(event).await;
        self.invocations.fetch_sub(1, Ordering::SeqCst);
        answer
    }

    fn kill(&self) {
        if let Some(function) = self.running.lock().unwrap_or_else(PoisonError::into_inner).take() {
            function.kill();
        }
    }

    fn is_idle(&self) -> bool {
        self.invocations.load(Ordering::SeqCst) == 0
    }
}

impl Deployed {
    async fn start() -> Deployed {
        let settings = Settings { agent: Some(agent()), ticks: false, dispatchers: 0, ..Settings::default() };
        let story = Story::start_with(settings, PIPELINE).await;
        let sandbox = &story.sandbox;
        // Only the deployed functions have this runner's token; the sandbox's own runner is not asked for anything.
        let spec = RunnerSpec { description: "deployed".into(), ..RunnerSpec::default() };
        let token = sandbox.gitlab.add_runner(spec);
        let secrets = [
            ("tokens", json!({"deployed": token}).to_string()),
            ("ticket", "t".repeat(32)),
            ("grant", "g".repeat(32)),
            ("launch", sandbox.launch_key().to_owned()),
        ];
        let secrets = secrets.each_ref().map(|(name, value)| (*name, value.as_str()));
        let aws = Arc::new(Aws::start_watched(&secrets, &sandbox.traffic).await);
        aws.send_to(sandbox.deployment.queue().clone());

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let agent_sha256 = &sandbox.fleet.broker.agents["amd64"];
        let agent = sandbox.s3.object("agents", &format!("agents/{agent_sha256}")).expect("the agent is in the bucket");
        let mut stack = Stack::of(&story, agent_sha256, &agent);
        stack.broker = format!("http://{}", listener.local_addr().expect("an address"));
        stack.put_fleet(&story, "deployed").await;
        let stack = Arc::new(stack);

        let (dispatcher, broker) = (Slot::new("dispatcher", &aws, &stack), Slot::new("broker", &aws, &stack));
        let stop = CancellationToken::new();
        let router = Router::new().fallback(function_url).with_state(Arc::clone(&broker));
        let router = sandbox.traffic.watch("broker", router);
        let server = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
        tokio::spawn(async move { server.await });
        let source = event_source(sandbox.deployment.queue().clone(), Arc::clone(&dispatcher));
        tokio::spawn(stop.clone().run_until_cancelled_owned(source));
        Deployed { story, dispatcher, broker, stop, _stack: stack }
    }

    fn gate(&self, order: Option<(Sender, usize, Moment)>) -> Gatekeeper {
        let (dispatcher, broker) = (Arc::clone(&self.dispatcher), Arc::clone(&self.broker));
        let kill = move |sender| match sender {
            Sender::Dispatcher => dispatcher.kill(),
            _ => broker.kill(),
        };
        Gatekeeper::stand_with(&self.story, Plot::Undisturbed, order, None, Arc::new(kill))
    }

    /// Lets ticks come until the job has ended in GitLab, no task is left, and the ledger has let the job go.
    ///
    /// The functions' clock is the machine's, so no time is skipped.
    async fn settle_down(&self, job: &JobHandle) -> Result<(), String> {
        let sandbox = &self.story.sandbox;
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let mut tick = tokio::time::Instant::now();
        loop {
            let now = tokio::time::Instant::now();
            if now > deadline {
                return Err(format!("not settled in time: job {}, {}", job.status(), trace(job)));
            }
            let quiet = self.dispatcher.is_idle()
                && self.broker.is_idle()
                && sandbox.deployment.queue().visible() == 0
                && sandbox.traffic.in_flight() == 0;
            let ended = matches!(job.status().as_str(), "success" | "failed" | "canceled");
            if quiet && ended && sandbox.ecs.live_tasks() == 0 && live_jobs(&self.story).await == 0 {
                return Ok(());
            }
            if now >= tick {
                tick = now + TICK_EVERY;
                sandbox.deployment.tick();
            }
            if job.status() == "running" && is_lost(sandbox) && now + PATIENCE / 2 > deadline {
                // The window that cannot be closed: GitLab ends the job after an hour.
                sandbox.clock.advance(Duration::from_secs(3700));
                sandbox.gitlab.sweep();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.dispatcher.kill();
        self.broker.kill();
        self.story.sandbox.shutdown().await;
    }
}

/// Whether the ledger has nothing of a job that GitLab thinks we run.
fn is_lost(sandbox: &mayfly::sandbox::Sandbox) -> bool {
    sandbox.ecs.live_tasks() == 0 && !sandbox.s3.keys("ledger").iter().any(|key| key.starts_with("claims/"))
}

/// Lambda's event source mapping: batches go in, and what did not fail is deleted.
async fn event_source(queue: Queue, dispatcher: Arc<Slot>) {
    loop {
        let batch = queue.receive(10).await;
        let record =
            |message: &mayfly::sandbox::Message| json!({"messageId": message.id.to_string(), "body": message.body});
        let event = json!({"Records": batch.iter().map(record).collect::<Vec<_>>()});
        let Some(answer) = dispatcher.invoke(&event).await else { continue };
        let Some(failures) = answer["batchItemFailures"].as_array() else { continue };
        let failed = |id: u64| failures.iter().any(|failure| failure["itemIdentifier"] == json!(id.to_string()));
        batch.iter().filter(|message| !failed(message.id)).for_each(|message| queue.delete(message.id));
    }
}

/// Lambda's function URL in front of the broker.
async fn function_url(
    State(broker): State<Arc<Slot>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let headers: Vec<(&str, &str)> =
        headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?))).collect();
    let event = url_event(method.as_str(), uri.path(), &headers, &String::from_utf8_lossy(&body), false);
    let Some(answer) = broker.invoke(&event).await else { return StatusCode::BAD_GATEWAY.into_response() };
    let status =
        answer["statusCode"].as_u64().and_then(|status| StatusCode::from_u16(u16::try_from(status).ok()?).ok());
    let mut response = Response::builder().status(status.unwrap_or(StatusCode::BAD_GATEWAY));
    for (name, value) in answer["headers"].as_object().into_iter().flatten() {
        response = response.header(name, value.as_str().unwrap_or_default());
    }
    response.body(answer["body"].as_str().unwrap_or_default().to_owned().into()).expect("a response")
}
