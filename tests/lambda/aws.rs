//! Secrets Manager and SQS, as far as the functions use them: GetSecretValue and SendMessage.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// The two services on one port.
pub struct Aws {
    url: String,
    shared: Arc<Shared>,
}

struct Shared {
    secrets: HashMap<String, String>,
    messages: Mutex<Vec<Value>>,
}

impl Aws {
    /// Starts them with these secrets.
    pub async fn start(secrets: &[(&str, &str)]) -> Aws {
        let secrets = secrets.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let shared = Arc::new(Shared { secrets, messages: Mutex::default() });
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Aws { url, shared }
    }

    pub fn url(&self) -> &str {
        &self.url
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
        "secretsmanager.GetSecretValue" => match body["SecretId"].as_str().and_then(|id| shared.secrets.get(id)) {
            Some(text) => json!({"SecretString": text}).to_string().into_response(),
            None => {
                (StatusCode::BAD_REQUEST, json!({"__type": "ResourceNotFoundException"}).to_string()).into_response()
            }
        },
        "AmazonSQS.SendMessage" => {
            let text = body["MessageBody"].as_str().unwrap_or_default();
            let message = serde_json::from_str(text).unwrap_or_default();
            shared.messages.lock().expect("no panic").push(message);
            json!({"MessageId": "1"}).to_string().into_response()
        }
        other => (StatusCode::NOT_IMPLEMENTED, other.to_owned()).into_response(),
    }
}
