//! Secrets Manager and SQS, as far as the functions use them: GetSecretValue with its stages, and SendMessage.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use mayfly::sandbox::Queue;
use mayfly::sandbox::traffic::Traffic;
use serde_json::{Value, json};

/// The two services on one port.
pub struct Aws {
    url: String,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// The current version of each secret, and the one before it.
    secrets: Mutex<HashMap<String, (String, Option<String>)>>,
    messages: Mutex<Vec<Value>>,
    queue: OnceLock<Queue>,
    fails: Mutex<bool>,
    reads: Mutex<usize>,
}

impl Aws {
    /// Starts them with these secrets.
    pub async fn start(secrets: &[(&str, &str)]) -> Aws {
        Aws::start_watched(secrets, &Traffic::default()).await
    }

    /// The same, with their requests counted as `aws`.
    pub async fn start_watched(secrets: &[(&str, &str)], traffic: &Traffic) -> Aws {
        let shared = Arc::new(Shared::default());
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let router = traffic.watch("aws", router);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let aws = Aws { url, shared };
        secrets.iter().for_each(|(name, value)| aws.put_secret(name, value));
        aws
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// PutSecretValue: the value before becomes the previous one.
    pub fn put_secret(&self, name: &str, value: &str) {
        let mut secrets = self.shared.secrets.lock().expect("no panic");
        let previous = secrets.get(name).map(|(current, _)| current.clone());
        secrets.insert(name.to_owned(), (value.to_owned(), previous));
    }

    /// Messages go to this queue from now on.
    pub fn send_to(&self, queue: Queue) {
        assert!(self.shared.queue.set(queue).is_ok(), "the queue is set once");
    }

    /// From now on Secrets Manager answers 500, or again as it should.
    pub fn fail(&self, fail: bool) {
        *self.shared.fails.lock().expect("no panic") = fail;
    }

    /// How often secrets were asked for.
    pub fn reads(&self) -> usize {
        *self.shared.reads.lock().expect("no panic")
    }

    /// The bodies of all messages.
    pub fn messages(&self) -> Vec<Value> {
        self.shared.messages.lock().expect("no panic").clone()
    }
}

async fn answer(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let target = headers.get("x-amz-target").and_then(|t| t.to_str().ok()).unwrap_or_default();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    match target {
        "secretsmanager.GetSecretValue" => get_secret_value(&shared, &body),
        "AmazonSQS.SendMessage" => {
            let text = body["MessageBody"].as_str().unwrap_or_default();
            if let Some(queue) = shared.queue.get() {
                let delay = body["DelaySeconds"].as_u64().unwrap_or_default();
                queue.send(text.to_owned(), Duration::from_secs(delay));
            }
            let message = serde_json::from_str(text).unwrap_or_default();
            shared.messages.lock().expect("no panic").push(message);
            json!({"MessageId": "1"}).to_string().into_response()
        }
        other => (StatusCode::NOT_IMPLEMENTED, other.to_owned()).into_response(),
    }
}

fn get_secret_value(shared: &Shared, body: &Value) -> Response {
    *shared.reads.lock().expect("no panic") += 1;
    if *shared.fails.lock().expect("no panic") {
        return (StatusCode::INTERNAL_SERVER_ERROR, json!({"__type": "InternalServiceError"}).to_string())
            .into_response();
    }
    let secrets = shared.secrets.lock().expect("no panic");
    let secret = body["SecretId"].as_str().and_then(|id| secrets.get(id));
    let text = match (secret, body["VersionStage"].as_str()) {
        (Some((_, previous)), Some("AWSPREVIOUS")) => previous.as_ref(),
        (Some((current, _)), Some("AWSCURRENT") | None) => Some(current),
        _ => None,
    };
    match text {
        Some(text) => json!({"SecretString": text}).to_string().into_response(),
        None => (StatusCode::BAD_REQUEST, json!({"__type": "ResourceNotFoundException"}).to_string()).into_response(),
    }
}
