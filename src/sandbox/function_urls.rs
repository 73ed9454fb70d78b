//! Serves webhook and broker under URLs, as Lambda's function URLs do: raw body in, status, headers and body out.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::functions::{Broker, BrokerRequest, Refreshable, answer_hook};
use crate::gitlab::WebhookSecrets;

use super::clock::Clock;
use super::invocations::Invocations;
use super::queue::Queue;
use super::traffic::Traffic;

/// Lambda takes requests of up to 6 MB (aws.md §4.1).
const BODY_LIMIT: usize = 6 << 20;

/// The webhook behind its URL.
#[derive(Clone)]
pub(super) struct WebhookUrl {
    pub(super) secrets: Refreshable<WebhookSecrets>,
    pub(super) queue: Queue,
    pub(super) clock: Clock,
}

/// The broker behind its URL.
#[derive(Clone)]
pub(super) struct BrokerUrl {
    pub(super) broker: Broker,
    pub(super) invocations: Invocations,
}

/// Serves the webhook until `stop`; returns its URL.
pub(super) async fn serve_webhook(
    webhook: WebhookUrl,
    traffic: &Traffic,
    stop: CancellationToken,
) -> io::Result<String> {
    let router = Router::new().fallback(any(hook)).with_state(webhook).layer(DefaultBodyLimit::max(BODY_LIMIT));
    let listener = listen().await?;
    let address = listener.local_addr()?;
    spawn(listener, traffic.watch("webhook", router), stop);
    Ok(url(address))
}

/// A listener whose address is known before the broker behind it is made.
pub(super) async fn listen() -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await
}

/// The URL of who listens at `address`.
pub(super) fn url(address: SocketAddr) -> String {
    format!("http://{address}")
}

/// Serves the broker at `listener` until `stop`.
pub(super) fn serve_broker(broker: BrokerUrl, listener: TcpListener, traffic: &Traffic, stop: CancellationToken) {
    let router = Router::new().fallback(any(ask)).with_state(broker).layer(DefaultBodyLimit::max(BODY_LIMIT));
    spawn(listener, traffic.watch("broker", router), stop);
}

async fn hook(State(webhook): State<WebhookUrl>, headers: HeaderMap, body: Bytes) -> Response {
    let answer = answer_hook(&webhook.secrets.get(), &headers, &body, webhook.clock.now());
    if let Some(event) = &answer.event {
        let body = serde_json::to_string(event).expect("events are plain data");
        webhook.queue.send(body, std::time::Duration::ZERO);
    }
    (answer.status, answer.message).into_response()
}

async fn ask(State(url): State<BrokerUrl>, method: Method, uri: Uri, body: Bytes) -> Response {
    let request = BrokerRequest { method, path: uri.path().to_owned(), body };
    let broker = url.broker.clone();
    match url.invocations.run(async move { broker.answer(request).await }).await {
        Some(answer) => (answer.status, answer.headers, answer.body).into_response(),
        None => StatusCode::BAD_GATEWAY.into_response(),
    }
}

fn spawn(listener: TcpListener, router: Router, stop: CancellationToken) {
    tokio::spawn(async move {
        let server = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
        if let Err(error) = server.await {
            tracing::error!(error = %error, "a function URL ended");
        }
    });
}
