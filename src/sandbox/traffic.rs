//! Counts the HTTP requests that the sandbox's servers get, and lets a test stand in their way.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::USER_AGENT;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use futures::future::BoxFuture;

/// One request as a server of the sandbox saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Which server: `gitlab`, `ecs`, `s3`, `broker` or `webhook`.
    pub server: &'static str,
    /// The HTTP method.
    pub method: String,
    /// Path and query, or the AWS operation for ECS.
    pub path: String,
    /// The sender's `User-Agent`, empty without one.
    pub user_agent: String,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.server, self.method, self.path)
    }
}

/// When a [gate](Traffic::set_gate) is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The request is there, and no handler has seen it.
    Arrived,
    /// The handler has answered, and the sender has not heard it.
    Answered,
}

/// What a gate decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go on as if there were no gate.
    Pass,
    /// The sender never hears an answer.
    Cut,
    /// The sender is told 403, as by a policy that does not allow it.
    Forbid,
    /// The sender gets this status.
    Status(u16),
}

type Gate = Arc<dyn Fn(Seen, Moment) -> BoxFuture<'static, Verdict> + Send + Sync>;

/// The record of all requests to one sandbox; clones share it.
#[derive(Clone, Default)]
pub struct Traffic {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    seen: Vec<Seen>,
    in_flight: usize,
    gate: Option<Gate>,
}

/// How long a cut request hangs if its sender does not hang up.
const CUT_HANGS_FOR: Duration = Duration::from_secs(5);

impl Traffic {
    /// Every request so far, in order of arrival.
    pub fn seen(&self) -> Vec<Seen> {
        self.lock().seen.clone()
    }

    /// Forgets the requests so far.
    pub fn forget(&self) {
        self.lock().seen.clear();
    }

    /// Requests that arrived and are not answered yet.
    pub fn in_flight(&self) -> usize {
        self.lock().in_flight
    }

    /// From now on asks `gate` before and after each request.
    pub fn set_gate(&self, gate: impl Fn(Seen, Moment) -> BoxFuture<'static, Verdict> + Send + Sync + 'static) {
        self.lock().gate = Some(Arc::new(gate));
    }

    /// Puts this record in front of all routes of `server`.
    pub fn watch(&self, server: &'static str, router: Router) -> Router {
        let traffic = self.clone();
        router.layer(middleware::from_fn(move |request: Request, next: Next| {
            let traffic = traffic.clone();
            async move { traffic.pass(server, request, next).await }
        }))
    }

    async fn pass(&self, server: &'static str, request: Request, next: Next) -> Response {
        let seen = seen(server, &request);
        let gate = {
            let mut shared = self.lock();
            shared.seen.push(seen.clone());
            shared.in_flight += 1;
            shared.gate.clone()
        };
        let _in_flight = InFlight(self.clone());
        let Some(gate) = gate else { return next.run(request).await };
        match gate(seen.clone(), Moment::Arrived).await {
            Verdict::Pass => {}
            Verdict::Cut => return hang().await,
            Verdict::Forbid => return StatusCode::FORBIDDEN.into_response(),
            Verdict::Status(status) => return answer(status),
        }
        let response = next.run(request).await;
        match gate(seen, Moment::Answered).await {
            Verdict::Pass => response,
            Verdict::Cut => hang().await,
            Verdict::Forbid => StatusCode::FORBIDDEN.into_response(),
            Verdict::Status(status) => answer(status),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct InFlight(Traffic);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.lock().in_flight -= 1;
    }
}

fn seen(server: &'static str, request: &Request) -> Seen {
    let header = |name: &str| request.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let target = header("x-amz-target").and_then(|t| t.rsplit('.').next().map(str::to_owned));
    let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    Seen {
        server,
        method: request.method().to_string(),
        path: target.unwrap_or(path),
        // The AWS SDKs name the application only in a header of their own.
        user_agent: header("x-amz-user-agent").or_else(|| header(USER_AGENT.as_str())).unwrap_or_default(),
    }
}

fn answer(status: u16) -> Response {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR).into_response()
}

async fn hang() -> Response {
    tokio::time::sleep(CUT_HANGS_FOR).await;
    StatusCode::BAD_GATEWAY.into_response()
}
