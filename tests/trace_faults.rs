//! The trace arrives whole, once and in order, and the outcome with it, whatever goes wrong on the way.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mayfly::agent::log::{JobLog, LogSettings};
use mayfly::agent::trace::{Finished, Trace, TraceSettings, Wish};
use mayfly::gitlab::{FailureReason, JobClient, Outcome, Sender, http_client};
use proptest::prelude::*;
use serde_json::Value;
use tiny_http::{Answer, Request, serve};

#[path = "support/tiny_http.rs"]
mod tiny_http;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// Nothing happens.
    Status(u16),
    /// It happens, and nobody hears of it.
    Lost(u16),
    CutBefore,
    CutAfter,
    /// GitLab's Redis forgets the chunks of a job that runs.
    Forget,
    /// Only PUT: not written yet.
    Accepted,
}

/// GitLab's rules for one job (gitlab-protocol.md §5, §6).
#[derive(Default)]
struct Server {
    stored: Vec<u8>,
    faults: VecDeque<Fault>,
    status: Option<&'static str>,
    outcome: Option<Value>,
    running: usize,
    patches: Vec<(u64, usize)>,
    wrong: Vec<String>,
}

impl Server {
    fn answer(&mut self, request: &Request) -> Answer {
        let fault = self.faults.pop_front().unwrap_or(Fault::None);
        match fault {
            Fault::Status(429) => {
                return Answer::Response {
                    status: 429,
                    headers: vec![("Retry-After", "0".into())],
                    body: String::new(),
                };
            }
            Fault::Status(status) => return Answer::status(status),
            Fault::CutBefore => return Answer::Cut,
            Fault::Forget if self.outcome.is_none() => self.stored.clear(),
            _ => {}
        }
        let answer = match request.method.as_str() {
            "PATCH" => self.append(request),
            "PUT" => self.update(request, fault),
            _ => Answer::status(405),
        };
        match fault {
            Fault::CutAfter => Answer::Cut,
            Fault::Lost(status) => Answer::status(status),
            _ => answer,
        }
    }

    fn append(&mut self, request: &Request) -> Answer {
        if self.outcome.is_some() || self.status == Some("canceled") {
            return Answer::Response {
                status: 403,
                headers: vec![("Job-Status", "canceled".into())],
                body: String::new(),
            };
        }
        assert_eq!(request.path.split('?').next(), Some("/api/v4/jobs/7/trace"));
        let (start, last) = request.header("content-range").and_then(|r| r.split_once('-')).expect("a range");
        let (start, last): (usize, usize) = (start.parse().unwrap(), last.parse().unwrap());
        if request.body.is_empty() || last + 1 - start != request.body.len() {
            self.wrong.push(format!("a piece of {} bytes says {start}-{last}", request.body.len()));
        }
        let status = if start == self.stored.len() {
            self.patches.push((start as u64, request.body.len()));
            self.stored.extend_from_slice(&request.body);
            202
        } else {
            416
        };
        let mut headers = vec![("Range", format!("0-{}", self.stored.len()))];
        headers.extend(self.status.map(|status| ("Job-Status", status.to_owned())));
        Answer::Response { status, headers, body: String::new() }
    }

    fn update(&mut self, request: &Request, fault: Fault) -> Answer {
        let update: Value = serde_json::from_slice(&request.body).expect("JSON");
        let mut headers: Vec<_> = self.status.map(|status| ("Job-Status", status.to_owned())).into_iter().collect();
        if self.outcome.is_some() || self.status == Some("canceled") {
            headers = vec![("Job-Status", "canceled".into())];
            return Answer::Response { status: 403, headers, body: String::new() };
        }
        if update["state"] == "running" {
            self.running += 1;
            return Answer::Response { status: 200, headers, body: String::new() };
        }
        if fault == Fault::Accepted {
            return Answer::Response { status: 202, headers, body: String::new() };
        }
        let checksum = format!("crc32:{:08x}", crc32fast::hash(&self.stored));
        if update["output"]["checksum"] != checksum.as_str() || update["output"]["bytesize"] != self.stored.len() {
            return Answer::status(412);
        }
        self.outcome = Some(update);
        Answer::status(200)
    }
}

fn settings() -> TraceSettings {
    TraceSettings {
        interval: Duration::from_millis(2),
        longest_pause: Duration::from_millis(5),
        patience: Duration::from_secs(20),
        piece: 16,
        ..TraceSettings::default()
    }
}

async fn start(server: Server) -> (Arc<Mutex<Server>>, JobClient) {
    let server = Arc::new(Mutex::new(server));
    let address = serve({
        let server = server.clone();
        move |request| server.lock().unwrap().answer(&request)
    })
    .await;
    let instance = format!("http://{address}").parse().unwrap();
    let client = JobClient::new(http_client(Sender::Helper).unwrap(), &instance, 7, "token".to_owned().into());
    (server, client)
}

async fn until(what: impl Fn() -> bool) {
    let reached = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), reached).await.expect("the state is reached in time");
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        3 => Just(Fault::None),
        2 => prop_oneof![Just(409u16), Just(429), Just(500), Just(502), Just(503)].prop_map(Fault::Status),
        1 => Just(Fault::Lost(502)),
        1 => Just(Fault::CutBefore),
        1 => Just(Fault::CutAfter),
        1 => Just(Fault::Forget),
        1 => Just(Fault::Accepted),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn under_any_mix_of_faults_every_byte_arrives_once_and_in_order(
        faults in proptest::collection::vec(fault(), 0..24),
        lines in proptest::collection::vec("[a-z]{0,40}", 0..8),
        begun in "[a-z]{0,20}",
    ) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let stored = begun.clone().into_bytes();
        let (server, contents, finished) = runtime.block_on(async {
            let (server, client) = start(Server { stored, faults: faults.into(), ..Server::default() }).await;
            let log = JobLog::new(LogSettings { begun: begun.clone().into_bytes(), ..LogSettings::default() });
            let trace = Trace::start(log.clone(), client, begun.len() as u64, settings());
            for line in &lines {
                log.line(line);
                tokio::task::yield_now().await;
            }
            log.end(&Outcome::Success);
            let finished = trace.finish(&Outcome::Success).await;
            (server, log.contents(), finished)
        });
        let server = server.lock().unwrap();
        // A success whose answer is lost is told again and refused then: GitLab has it all the same.
        prop_assert!(matches!(finished, Finished::Accepted | Finished::JobOver), "{:?}", finished);
        prop_assert_eq!(String::from_utf8_lossy(&server.stored), String::from_utf8_lossy(&contents));
        prop_assert_eq!(&server.outcome.as_ref().unwrap()["state"], "success");
        prop_assert!(server.wrong.is_empty(), "{:?}", server.wrong);
    }
}

#[tokio::test]
async fn the_first_piece_is_sent_at_once() {
    let (server, client) = start(Server::default()).await;
    let log = JobLog::default();
    log.line("here we are");
    let settings = TraceSettings { interval: Duration::from_secs(3600), ..settings() };
    let trace = Trace::start(log, client, 0, TraceSettings { piece: 1 << 20, ..settings });
    until(|| server.lock().unwrap().stored == b"here we are\n").await;
    drop(trace);
}

#[tokio::test]
async fn a_quiet_job_says_that_it_goes_on_and_hears_that_it_is_cancelled() {
    let (server, client) = start(Server { status: Some("canceling"), ..Server::default() }).await;
    let settings = TraceSettings { keep_alive: Duration::from_millis(20), ..settings() };
    let trace = Trace::start(JobLog::default(), client, 0, settings);
    let wish = trace.wish();
    until(|| *wish.borrow() == Wish::Cancel).await;

    server.lock().unwrap().status = None;
    let quiet = server.lock().unwrap().running;
    until(|| server.lock().unwrap().running > quiet).await;
    assert_eq!(*wish.borrow(), Wish::Cancel, "a cancel is not taken back");
    assert_eq!(trace.finish(&Outcome::Success).await, Finished::Accepted);
}

#[tokio::test]
async fn a_job_that_gitlab_has_ended_is_over_for_us_too() {
    let (server, client) = start(Server { status: Some("canceled"), ..Server::default() }).await;
    let log = JobLog::default();
    log.line("in vain");
    let trace = Trace::start(log, client, 0, settings());
    let wish = trace.wish();
    until(|| *wish.borrow() == Wish::Stop).await;
    assert_eq!(trace.finish(&Outcome::Success).await, Finished::JobOver);
    assert!(server.lock().unwrap().stored.is_empty());
}

#[tokio::test]
async fn a_failure_is_told_with_reason_and_exit_code() {
    let (server, client) = start(Server::default()).await;
    let outcome =
        Outcome::Failed { reason: FailureReason::ScriptFailure, exit_code: Some(3), message: "exit code 3".into() };
    let trace = Trace::start(JobLog::default(), client, 0, settings());
    assert_eq!(trace.finish(&outcome).await, Finished::Accepted);

    let outcome = server.lock().unwrap().outcome.clone().unwrap();
    assert_eq!((&outcome["state"], &outcome["exit_code"]), (&"failed".into(), &3.into()));
    assert_eq!(outcome["failure_reason"], "script_failure");
}

#[tokio::test]
async fn a_piece_that_a_proxy_finds_too_large_is_sent_in_smaller_ones() {
    let faults = VecDeque::from(vec![Fault::Status(413); 2]);
    let (server, client) = start(Server { faults, ..Server::default() }).await;
    let log = JobLog::default();
    log.line(&"x".repeat(100_000));
    let trace = Trace::start(log.clone(), client, 0, TraceSettings { piece: 128 << 10, ..settings() });
    log.end(&Outcome::Success);
    assert_eq!(trace.finish(&Outcome::Success).await, Finished::Accepted);

    let server = server.lock().unwrap();
    assert_eq!(server.stored, log.contents());
    assert!(server.patches.iter().all(|(_, size)| *size <= 32 << 10), "{:?}", server.patches);
}

#[tokio::test]
async fn a_gitlab_that_stays_away_is_given_up_in_the_end() {
    let faults = VecDeque::from(vec![Fault::Status(502); 10_000]);
    let (_server, client) = start(Server { faults, ..Server::default() }).await;
    let trace =
        Trace::start(JobLog::default(), client, 0, TraceSettings { patience: Duration::from_millis(50), ..settings() });
    assert_eq!(trace.finish(&Outcome::Success).await, Finished::GaveUp);
}
