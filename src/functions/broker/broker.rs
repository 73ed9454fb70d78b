//! Answers requests to the broker by their method and path.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use aws_sdk_cloudwatchlogs::Client as LogsClient;
use aws_sdk_s3::Client;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde::Serialize;

use crate::config::Fleet;
use crate::ledger::Ledger;
use crate::ledger::wire::Refusal;

use crate::functions::{BrokerKeys, NotReady, Now, PackedAgents, Refreshable, RereadKeys};

/// A request to the broker.
#[derive(Clone, Debug)]
pub struct BrokerRequest {
    /// The method.
    pub method: Method,
    /// The path, without the query.
    pub path: String,
    /// The body.
    pub body: Bytes,
}

/// What it answers.
#[derive(Clone, Debug)]
pub struct BrokerAnswer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// JSON or nothing.
    pub body: Bytes,
}

/// The broker.
#[derive(Clone)]
pub struct Broker {
    /// The fleet.
    pub fleet: Arc<Fleet>,
    /// Claims and records.
    pub ledger: Ledger,
    /// Signs URLs for the cache's and the agents' bucket.
    pub s3: Client,
    /// Reads what services wrote.
    pub logs: LogsClient,
    /// Its keys.
    pub keys: Refreshable<BrokerKeys>,
    /// Reads the keys again where those at hand do not fit.
    pub reread_keys: RereadKeys,
    /// The agents in its package.
    pub packed: PackedAgents,
    /// Agents that are known to lie in the bucket.
    pub uploaded: Arc<Mutex<BTreeSet<String>>>,
    /// The time.
    pub now: Now,
}

/// How long a minted URL lasts.
pub(super) const URL_SECONDS: u64 = 900;

impl Broker {
    /// Answers one request.
    pub async fn answer(&self, request: BrokerRequest) -> BrokerAnswer {
        match (&request.method, request.path.trim_end_matches('/')) {
            (&Method::GET, path) if path.starts_with("/agent/") => self.agent(&path["/agent/".len()..]).await,
            (&Method::POST, "/open") => self.open(&request.body).await,
            (&Method::POST, "/cache") => self.cache(&request.body).await,
            (&Method::POST, "/service-logs") => self.service_logs(&request.body).await,
            _ => refuse(StatusCode::NOT_FOUND, "there is nothing here"),
        }
    }

    /// What `read` makes of the keys. Before it comes to nothing the keys are read again: they may just have been rotated.
    pub(super) async fn with_keys<T>(&self, read: impl Fn(&BrokerKeys) -> Option<T>) -> Option<T> {
        if let Some(found) = read(&self.keys.get()) {
            return Some(found);
        }
        (self.reread_keys)().await;
        read(&self.keys.get())
    }
}

pub(super) fn answer(value: &impl Serialize) -> BrokerAnswer {
    respond(StatusCode::OK, value)
}

pub(super) fn refuse(status: StatusCode, message: &str) -> BrokerAnswer {
    respond(status, &Refusal { message: message.to_owned() })
}

/// 503: the function cannot work yet.
pub fn not_ready(why: &NotReady) -> BrokerAnswer {
    refuse(StatusCode::SERVICE_UNAVAILABLE, &why.public())
}

/// 503: the caller comes again.
pub(super) fn unavailable(error: &dyn std::error::Error) -> BrokerAnswer {
    tracing::error!(error = %error, "the broker could not answer");
    refuse(StatusCode::SERVICE_UNAVAILABLE, "the broker cannot answer now")
}

fn respond(status: StatusCode, value: &impl Serialize) -> BrokerAnswer {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    let body = serde_json::to_vec(value).expect("answers are plain data").into();
    BrokerAnswer { status, headers, body }
}
