//! Runs the Lambda binary against a runtime API of our own: events go in, answers come out.

use std::collections::HashMap;
use std::process::Stdio;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::aws::Aws;
use crate::support::in_time;

/// One function, and the runtime API that it polls.
pub struct Function {
    events: mpsc::UnboundedSender<(Value, oneshot::Sender<Value>)>,
    process: Mutex<Child>,
    killed: CancellationToken,
}

struct Runtime {
    events: Mutex<mpsc::UnboundedReceiver<(Value, oneshot::Sender<Value>)>>,
    waiting: Mutex<HashMap<String, oneshot::Sender<Value>>>,
}

impl Function {
    /// Starts the function with handler `handler`.
    pub async fn start(handler: &str, aws: &Aws, variables: &[(&str, &str)]) -> Function {
        let (events, receiver) = mpsc::unbounded_channel();
        let runtime = Arc::new(Runtime { events: Mutex::new(receiver), waiting: Mutex::default() });
        let router = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/response", post(answered))
            .route("/2018-06-01/runtime/invocation/{id}/error", post(answered))
            .with_state(runtime);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let process = Command::new(env!("CARGO_BIN_EXE_lambda"))
            .env_clear()
            .env("_HANDLER", handler)
            .env("AWS_LAMBDA_RUNTIME_API", address)
            .env("AWS_LAMBDA_FUNCTION_NAME", handler)
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "1")
            .env("AWS_LAMBDA_LOG_STREAM_NAME", "stream")
            .env("AWS_LAMBDA_LOG_GROUP_NAME", "group")
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", "AKIASANDBOX")
            .env("AWS_SECRET_ACCESS_KEY", "sandbox-secret-key")
            .env("AWS_ENDPOINT_URL_SECRETS_MANAGER", aws.url())
            .env("AWS_ENDPOINT_URL_SQS", aws.url())
            .env("MAYFLY_STACK", "{}")
            .env("MAYFLY_QUEUE_URL", format!("{}/123456789012/queue", aws.url()))
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("the function starts");
        Function { events, process: Mutex::new(process), killed: CancellationToken::new() }
    }

    /// The answer to an event.
    pub async fn invoke(&self, event: &Value) -> Value {
        in_time(self.invoke_or_die(event)).await.expect("an answer")
    }

    /// The answer to an event, or `None` where the function is killed before it has answered.
    pub async fn invoke_or_die(&self, event: &Value) -> Option<Value> {
        let (answer, answered) = oneshot::channel();
        self.events.send((event.clone(), answer)).expect("the runtime listens");
        self.killed.run_until_cancelled(answered).await?.ok()
    }

    /// Kills the process: nothing after this moment happens in it.
    pub fn kill(&self) {
        let mut process = self.process.try_lock().expect("it is killed once");
        process.start_kill().expect("it runs");
        self.killed.cancel();
    }

    /// Whether it was killed.
    pub fn is_killed(&self) -> bool {
        self.killed.is_cancelled()
    }

    /// The answer to a request at the function's URL.
    pub async fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Value {
        self.invoke(&url_event(method, path, headers, body, false)).await
    }

    /// The same, with the body as base64, as Lambda may deliver it.
    pub async fn request_base64(&self, path: &str, headers: &[(&str, &str)], body: &str) -> Value {
        self.invoke(&url_event("POST", path, headers, &STANDARD.encode(body), true)).await
    }
}

/// A request as Lambda gives it to a function behind a URL.
pub fn url_event(method: &str, path: &str, headers: &[(&str, &str)], body: &str, base64: bool) -> Value {
    let headers: serde_json::Map<String, Value> = headers.iter().map(|(k, v)| ((*k).to_owned(), json!(v))).collect();
    json!({
        "version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": "", "headers": headers,
        "requestContext": {
            "accountId": "anonymous", "apiId": "x", "domainName": "x.lambda-url.us-east-1.on.aws", "domainPrefix": "x",
            "http": {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1", "userAgent": "GitLab/19"},
            "requestId": "r", "routeKey": "$default", "stage": "$default", "time": "21/Nov/2026:10:00:00 +0000",
            "timeEpoch": 1_795_000_000_000_i64,
        },
        "body": body, "isBase64Encoded": base64,
    })
}

async fn next(State(runtime): State<Arc<Runtime>>) -> Response {
    let Some((event, answer)) = runtime.events.lock().await.recv().await else {
        return StatusCode::GONE.into_response();
    };
    let id = uuid::Uuid::new_v4().to_string();
    runtime.waiting.lock().await.insert(id.clone(), answer);
    let deadline = Timestamp::now().as_millisecond() + 300_000;
    let headers = [
        ("lambda-runtime-aws-request-id", id),
        ("lambda-runtime-deadline-ms", deadline.to_string()),
        ("lambda-runtime-invoked-function-arn", "arn:aws:lambda:us-east-1:123456789012:function:f".to_owned()),
        ("content-type", "application/json".to_owned()),
    ];
    (headers, event.to_string()).into_response()
}

async fn answered(State(runtime): State<Arc<Runtime>>, Path(id): Path<String>, body: Bytes) -> StatusCode {
    let value = serde_json::from_slice(&body).unwrap_or_else(|_| json!(String::from_utf8_lossy(&body)));
    if let Some(answer) = runtime.waiting.lock().await.remove(&id) {
        let _ = answer.send(value);
    }
    StatusCode::ACCEPTED
}
