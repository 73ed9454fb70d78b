//! A whole task: the real helper and the real build, with a broker and a GitLab of a few lines.
//!
//! The jobs have no repository, no cache and no artifacts: what is told here is the flow.

use std::fs;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use mayfly::ledger::keys::{SigningKey, is_proof};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tiny_http::{Answer, Request, serve};
use tokio::process::{Child, Command};
use tokio_util::codec::LengthDelimitedCodec;

#[path = "support/tiny_http.rs"]
mod tiny_http;

/// Nothing here takes so long.
const LONG: Duration = Duration::from_secs(60);

const LAUNCH_KEY: &str = "launch-key-of-the-stack";
const TICKET: &str = "the-ticket";

/// Broker and GitLab in one.
#[derive(Default)]
struct World {
    claim: Value,
    claimed_ms_ago: u64,
    refuse_ticket: bool,
    opened: usize,
    trace: String,
    outcome: Option<Value>,
    /// What `Job-Status` says once the trace holds a text.
    status_when: Option<(&'static str, &'static str)>,
}

impl World {
    fn answer(&mut self, request: &Request) -> Answer {
        match request.path.split('?').next().unwrap() {
            "/broker/open" => self.open(request),
            "/api/v4/jobs/7/trace" => self.append(request),
            "/api/v4/jobs/7" => self.update(request),
            _ => Answer::status(501),
        }
    }

    fn open(&mut self, request: &Request) -> Answer {
        let asked: Value = serde_json::from_slice(&request.body).unwrap();
        let (nonce, proof) = (asked["nonce"].as_str().unwrap(), asked["proof"].as_str().unwrap());
        assert!(nonce.len() >= 32 && is_proof(&SigningKey::new(LAUNCH_KEY.into()), TICKET, nonce, proof));
        if self.refuse_ticket {
            let body = json!({"message": "the ticket is used"}).to_string();
            return Answer::Response { status: 403, headers: Vec::new(), body };
        }
        self.opened += 1;
        let answer = json!({
            "gitlab": format!("http://{}/", request.header("host").unwrap()), "claim": self.claim, "grant": "grant",
            "runner": {"name": "r", "short_token": "t9Wkyj-HG", "system_id": "r_0123456789ab"},
            "claimed_ms_ago": self.claimed_ms_ago, "trace": "Mayfly was here\n",
        });
        Answer::Response { status: 200, headers: Vec::new(), body: answer.to_string() }
    }

    fn append(&mut self, request: &Request) -> Answer {
        if self.status() == Some("canceled") || self.outcome.is_some() {
            return Answer::Response {
                status: 403,
                headers: vec![("Job-Status", "canceled".into())],
                body: String::new(),
            };
        }
        let start = request.header("content-range").unwrap().split('-').next().unwrap().parse::<usize>().unwrap();
        let status = match start == self.trace.len() {
            true => {
                self.trace.push_str(std::str::from_utf8(&request.body).unwrap());
                202
            }
            false => 416,
        };
        let mut headers = vec![("Range", format!("0-{}", self.trace.len()))];
        headers.push(("X-GitLab-Trace-Update-Interval", "1".into()));
        headers.extend(self.status().map(|status| ("Job-Status", status.to_owned())));
        Answer::Response { status, headers, body: String::new() }
    }

    fn update(&mut self, request: &Request) -> Answer {
        if self.status() == Some("canceled") {
            return Answer::Response {
                status: 403,
                headers: vec![("Job-Status", "canceled".into())],
                body: String::new(),
            };
        }
        let update: Value = serde_json::from_slice(&request.body).unwrap();
        if update["state"] != "running" {
            assert_eq!(update["output"]["bytesize"], self.trace.len());
            self.outcome = Some(update);
        }
        Answer::status(200)
    }

    fn status(&self) -> Option<&'static str> {
        self.status_when.filter(|(text, _)| self.trace.contains(text)).map(|(_, status)| status)
    }
}

/// A task and what is around it.
struct Task {
    world: Arc<Mutex<World>>,
    dir: TempDir,
    helper: Child,
    build: Option<Child>,
}

/// How a task ended.
#[derive(Debug)]
struct End {
    code: Option<i32>,
    state: String,
    reason: Option<String>,
    exit_code: Option<i64>,
    trace: String,
}

impl Task {
    async fn launch(mut world: World) -> Task {
        world.trace = "Mayfly was here\n".into();
        let world = Arc::new(Mutex::new(world));
        let address = serve({
            let world = world.clone();
            move |request| world.lock().unwrap().answer(&request)
        })
        .await;
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("builds")).unwrap();
        let helper = command(&dir, "helper")
            .env("MAYFLY_TICKET", TICKET)
            .env("MAYFLY_LAUNCH_KEY", LAUNCH_KEY)
            .env("MAYFLY_BROKER_URL", format!("http://{address}/broker"))
            .spawn()
            .unwrap();
        Task { world, dir, helper, build: None }
    }

    fn start_build(&mut self) {
        self.build = Some(command(&self.dir, "build").spawn().unwrap());
    }

    async fn until(&self, what: impl Fn(&World) -> bool) {
        let reached = async {
            while !what(&self.world.lock().unwrap()) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(LONG, reached).await.expect("the state is reached in time");
    }

    fn interrupt(&self) {
        let pid = Pid::from_raw(self.helper.id().unwrap().cast_signed()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
    }

    async fn end(&mut self) -> End {
        let code = tokio::time::timeout(LONG, self.helper.wait()).await.expect("the helper ends").unwrap().code();
        let world = self.world.lock().unwrap();
        let outcome = world.outcome.clone().unwrap_or_default();
        let text = |key: &str| outcome[key].as_str().map(str::to_owned);
        End {
            code,
            state: text("state").unwrap_or_default(),
            reason: text("failure_reason"),
            exit_code: outcome["exit_code"].as_i64(),
            trace: world.trace.clone(),
        }
    }
}

fn command(dir: &TempDir, part: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_agent"));
    command.arg(part).env("MAYFLY_BUILDS_DIR", dir.path().join("builds")).env("MAYFLY_AGENT_DIR", dir.path());
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

fn job(script: &[&str], after_script: &[&str], variables: Value) -> World {
    let step = |name: &str, script: &[&str]| json!({"name": name, "script": script, "when": "on_success"});
    let mut all = vec![
        json!({"key": "GIT_STRATEGY", "value": "none"}),
        json!({"key": "FF_TIMESTAMPS", "value": "false"}),
        json!({"key": "SECRET", "value": "hunter2-hunter2", "masked": true}),
    ];
    all.extend(variables.as_array().unwrap().iter().cloned());
    let steps = [("script", script), ("after_script", after_script)];
    let steps: Vec<_> = steps.iter().filter(|(_, s)| !s.is_empty()).map(|(name, s)| step(name, s)).collect();
    let claim = json!({
        "id": 7, "token": "glcbt-job-token", "variables": all, "steps": steps, "runner_info": {"timeout": 3600},
        "git_info": {"repo_url": "http://gitlab-ci-token:x@gitlab.test/group/app.git"},
        "features": {"trace_sections": true, "failure_reasons": ["runner_configuration_error"]},
    });
    World { claim, ..World::default() }
}

async fn run(world: World) -> End {
    let mut task = Task::launch(world).await;
    task.start_build();
    task.end().await
}

#[tokio::test]
async fn a_job_runs_from_its_first_line_to_its_last() {
    let script =
        ["echo before", "export KEPT=1", "echo \"secret $SECRET\"", "echo \"HANDED=on\" >> $GITLAB_ENV", "pwd"];
    let end = run(job(&script, &["echo \"$CI_JOB_STATUS ${KEPT:-gone} $HANDED\""], json!([]))).await;

    assert_eq!(
        (end.code, end.state.as_str(), &end.reason, end.exit_code),
        (Some(0), "success", &None, None),
        "{end:?}"
    );
    let mut at = 0;
    for expected in [
        "Mayfly was here\n",
        ":prepare_script\r\x1b[0K\x1b[0K\x1b[36;1mPreparing environment\x1b[0;m\n",
        "Running on ",
        " via mayfly...\n",
        ":get_sources\r\x1b[0K",
        ":step_script\r\x1b[0K\x1b[0K\x1b[36;1mExecuting \"step_script\" stage of the job script\x1b[0;m\n",
        "\x1b[32;1m$ echo before\x1b[0;m\nbefore\n",
        "secret [MASKED]\n",
        "/builds/group/app\nsection_end:",
        ":after_script\r\x1b[0K\x1b[0K\x1b[36;1mRunning after_script\x1b[0;m\n\x1b[32;1mRunning after script...\x1b[0;m\n",
        "\nsuccess gone on\n",
        "Cleaning up project directory and file based variables",
        "\x1b[32;1mJob succeeded\x1b[0;m\n",
    ] {
        let found = end.trace[at..].find(expected);
        at += found.unwrap_or_else(|| panic!("{expected:?} is not behind {at} in {}", end.trace)) + expected.len();
    }
    assert_eq!(at, end.trace.len());
    assert!(!end.trace.contains("hunter2"));
    for nothing in ["restore_cache", "download_artifacts", "archive_cache", "upload_artifacts"] {
        assert!(!end.trace.contains(nothing), "{}", end.trace);
    }
}

#[tokio::test]
async fn a_failing_script_fails_the_job_with_its_exit_code() {
    let end = run(job(&["(exit 3)", "echo never"], &["echo \"it $CI_JOB_STATUS\"; exit 9"], json!([]))).await;
    assert_eq!((end.state.as_str(), end.exit_code), ("failed", Some(3)));
    assert_eq!(end.reason.as_deref(), Some("script_failure"));
    assert!(end.trace.contains("it failed\n") && !end.trace.contains("never\n"), "{}", end.trace);
    assert!(end.trace.contains("WARNING: after_script failed, but job will continue unaffected: exit code 9"));
    assert!(end.trace.ends_with("\x1b[31;1mERROR: Job failed: exit code 3\x1b[0;m\n"), "{}", end.trace);
}

#[tokio::test]
async fn an_after_script_counts_only_where_the_job_wants_it() {
    let variables = json!([{"key": "AFTER_SCRIPT_IGNORE_ERRORS", "value": "false"}]);
    let end = run(job(&["true"], &["exit 9"], variables)).await;
    assert_eq!((end.state.as_str(), end.exit_code), ("failed", Some(9)));
}

#[tokio::test]
async fn with_timestamps_every_line_of_ours_has_one() {
    let end = run(job(&["printf 'no end'"], &[], json!([{"key": "FF_TIMESTAMPS", "value": "true"}]))).await;
    let ours = end.trace.strip_prefix("Mayfly was here\n").unwrap();
    assert!(ours.lines().all(|line| line.as_bytes().get(26) == Some(&b'Z')), "{ours}");
    assert!(ours.contains(" 01O no end\n"), "{ours}");
}

#[tokio::test]
async fn a_cancelled_job_ends_in_order() {
    let mut world = job(&["echo begun", "sleep 600"], &["echo \"after $CI_JOB_STATUS\""], json!([]));
    world.status_when = Some(("begun\n", "canceling"));
    let end = run(world).await;
    assert_eq!((end.code, end.state.as_str()), (Some(0), "failed"));
    assert!(end.trace.contains("after canceled\n"), "{}", end.trace);
    assert!(end.trace.ends_with("ERROR: Job failed: canceled\x1b[0;m\n"), "{}", end.trace);
}

#[tokio::test]
async fn a_job_that_is_over_ends_at_once() {
    let mut world = job(&["echo begun", "sleep 600"], &["echo after"], json!([]));
    world.status_when = Some(("begun\n", "canceled"));
    let end = run(world).await;
    assert_eq!((end.code, end.state.as_str()), (Some(0), ""));
    assert!(!end.trace.contains("after_script"), "{}", end.trace);
}

#[tokio::test]
async fn a_job_whose_time_is_over_runs_nothing_more() {
    let mut world = job(&["echo begun", "sleep 600"], &["echo after"], json!([]));
    world.claimed_ms_ago = 3_598_000;
    let end = run(world).await;
    assert_eq!((end.state.as_str(), end.reason.as_deref()), ("failed", Some("job_execution_timeout")));
    assert!(!end.trace.contains("Running after_script"), "{}", end.trace);
    assert!(end.trace.contains("WARNING: step_script could not run to completion"), "{}", end.trace);
    assert!(end.trace.contains("ERROR: Job failed: execution took longer than 1h0m0s seconds"), "{}", end.trace);
}

#[tokio::test]
async fn a_script_whose_time_is_over_is_followed_by_after_script() {
    let variables = json!([{"key": "RUNNER_SCRIPT_TIMEOUT", "value": "1s"}]);
    let end = run(job(&["sleep 600"], &["echo \"after $CI_JOB_STATUS\""], variables)).await;
    assert_eq!(end.reason.as_deref(), Some("job_execution_timeout"));
    assert!(end.trace.contains("after timedout\n"), "{}", end.trace);
    assert!(end.trace.contains("ERROR: Job failed: script timeout: context deadline exceeded"), "{}", end.trace);
}

#[tokio::test]
async fn a_task_that_is_taken_away_says_so_in_time() {
    let mut task = Task::launch(job(&["echo begun", "sleep 600"], &["echo after"], json!([]))).await;
    task.start_build();
    task.until(|world| world.trace.contains("begun\n")).await;
    task.interrupt();
    let end = task.end().await;
    assert_eq!(end.code, Some(0));
    // This server does not know `runner_interrupted`.
    assert_eq!(end.reason.as_deref(), Some("runner_system_failure"));
    assert!(end.trace.contains("the task was stopped before the job ended"), "{}", end.trace);
    assert!(!end.trace.contains("after_script"), "{}", end.trace);
}

#[tokio::test]
async fn a_build_container_that_dies_is_a_system_failure() {
    let mut task = Task::launch(job(&["echo begun", "sleep 600"], &[], json!([]))).await;
    task.start_build();
    task.until(|world| world.trace.contains("begun\n")).await;
    task.build.as_mut().unwrap().start_kill().unwrap();
    let end = task.end().await;
    assert_eq!(end.reason.as_deref(), Some("runner_system_failure"));
    assert!(end.trace.contains("(system failure): the build container ended unexpectedly"), "{}", end.trace);
}

/// Speaks for build: these frames, and then nothing until the helper hangs up.
async fn impersonate_build(task: &Task, frames: &[&[u8]]) {
    let socket = task.dir.path().join("helper.sock");
    task.until(|_| socket.exists()).await;
    let stream = tokio::net::UnixStream::connect(socket).await.unwrap();
    let mut socket = LengthDelimitedCodec::builder().new_framed(stream);
    for frame in frames {
        socket.send(Bytes::copy_from_slice(frame)).await.unwrap();
    }
    tokio::spawn(async move { while let Some(Ok(_)) = socket.next().await {} });
}

fn hello(shell: Option<&str>) -> Vec<u8> {
    format!("h{}", json!({"version": env!("CARGO_PKG_VERSION"), "shell": shell})).into_bytes()
}

#[tokio::test]
async fn an_image_without_a_shell_is_told_what_it_lacks() {
    let mut task = Task::launch(job(&["true"], &[], json!([]))).await;
    impersonate_build(&task, &[&hello(None)]).await;
    let end = task.end().await;
    assert_eq!(end.reason.as_deref(), Some("runner_configuration_error"));
    assert!(end.trace.contains("shell not found: put `bash` or `sh` into the image"), "{}", end.trace);
}

#[tokio::test]
async fn a_build_that_is_somebody_else_ends_the_job() {
    for frame in [&b"z"[..], b"", b"e{}x", b"h{}"] {
        let mut task = Task::launch(job(&["true"], &["true"], json!([]))).await;
        impersonate_build(&task, &[&hello(Some("/bin/sh")), frame]).await;
        let end = task.end().await;
        assert_eq!((end.code, end.reason.as_deref()), (Some(0), Some("runner_system_failure")), "{frame:?}");
        assert!(end.trace.contains("said something unexpected"), "{}", end.trace);
    }
}

#[tokio::test]
async fn a_script_that_cannot_be_started_is_a_system_failure() {
    let mut task = Task::launch(job(&["true"], &[], json!([]))).await;
    impersonate_build(&task, &[&hello(Some("/bin/sh")), b"f\"cannot start `/bin/sh`\""]).await;
    let end = task.end().await;
    assert_eq!(end.reason.as_deref(), Some("runner_system_failure"));
    assert!(end.trace.contains("(system failure): cannot start `/bin/sh`"), "{}", end.trace);
}

#[tokio::test]
async fn memory_that_ran_out_is_told_in_words() {
    let mut task = Task::launch(job(&["true"], &[], json!([]))).await;
    let end = br#"e{"code":137,"killed":false,"out_of_memory":true,"memory_limit_mib":352}"#;
    impersonate_build(&task, &[&hello(Some("/bin/sh")), end]).await;
    let end = task.end().await;
    assert_eq!((end.reason.as_deref(), end.exit_code), (Some("script_failure"), Some(137)));
    assert!(end.trace.contains("exit code 137: the script's memory of 352 MB ran out"), "{}", end.trace);
}

#[tokio::test]
async fn what_cannot_run_is_refused_before_anything_runs() {
    let mut world = job(&["echo never"], &[], json!([]));
    world.claim["run"] = json!([{"name": "step"}]);
    let end = run(world).await;
    assert_eq!(end.reason.as_deref(), Some("runner_configuration_error"));
    assert!(end.trace.contains("ERROR: Job failed: `run:` is not supported"), "{}", end.trace);
    assert!(!end.trace.contains("section_start"), "{}", end.trace);
}

#[tokio::test]
async fn a_refused_ticket_has_an_exit_code_of_its_own() {
    let mut world = job(&["true"], &[], json!([]));
    world.refuse_ticket = true;
    let end = run(world).await;
    assert_eq!((end.code, end.state.as_str()), (Some(11), ""));
}

#[tokio::test]
async fn the_ticket_stays_closed_until_build_is_there_and_nobody_can_read_it() {
    let mut task = Task::launch(job(&["true"], &[], json!([]))).await;
    let socket = task.dir.path().join("helper.sock");
    task.until(|_| socket.exists()).await;
    let environment = fs::read(format!("/proc/{}/environ", task.helper.id().unwrap())).unwrap();
    let command_line = fs::read(format!("/proc/{}/cmdline", task.helper.id().unwrap())).unwrap();
    for place in [environment, command_line] {
        let place = String::from_utf8_lossy(&place).into_owned();
        assert!(!place.contains(TICKET) && !place.contains(LAUNCH_KEY), "{place}");
    }
    task.interrupt();
    assert_eq!(task.end().await.code, Some(13));
    assert_eq!(task.world.lock().unwrap().opened, 0);
}
