//! `mayfly sandbox`: what it says when it is ready, what it does for a stack, and that nothing of it stays.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};
use std::time::Duration;

use aws_sdk_ecs::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_ecs::error::ProvideErrorMetadata;
use aws_sdk_ecs::types::{
    AwsVpcConfiguration, Compatibility, ContainerDefinition, KeyValuePair, NetworkConfiguration, NetworkMode, Secret,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::stack_aws::{ROLE, SECRET, StackAws};
use crate::support::User;

const FUNCTION: &str = "arn:aws:lambda:us-east-1:123456789012:function:dispatcher";
/// ministack's: `ASIA` and 16 digits of the SHA-256 of `<FUNCTION>:<ROLE>`.
const KEY: &str = "ASIA9334C0DE230622F1";
const EXECUTION: &str = "arn:aws:iam::123456789012:role/stack/execution";
const PATIENCE: Duration = Duration::from_secs(60);

/// A running `mayfly sandbox`, and the line that it printed.
struct StandIns {
    child: Child,
    ready: Value,
    http: reqwest::Client,
}

impl StandIns {
    fn start(user: &User, arguments: &[&str]) -> StandIns {
        let arguments = [&["sandbox", "--json"], arguments].concat();
        let mut command = user.command(&arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("mayfly runs");
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().expect("it is piped"));
        out.read_line(&mut line).expect("text");
        let ready = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        child.stdout = Some(out.into_inner());
        StandIns { child, ready, http: reqwest::Client::builder().no_proxy().build().expect("a client") }
    }

    fn text(&self, name: &str) -> String {
        self.ready[name].as_str().unwrap_or_else(|| panic!("`{name}` in {}", self.ready)).to_owned()
    }

    /// A call of GitLab's API as a person.
    async fn call(&self, method: reqwest::Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let url = format!("{}/api/v4{path}", self.text("gitlab"));
        let mut request = self.http.request(method, url).header("PRIVATE-TOKEN", self.text("private_token"));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.expect("an answer");
        let status = answer.status().as_u16();
        let text = answer.text().await.expect("text");
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    async fn get(&self, path: &str) -> Value {
        let (status, body) = self.call(reqwest::Method::GET, path, None).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.call(reqwest::Method::POST, path, Some(body)).await
    }

    /// A call as the runner, or with a job's token.
    async fn as_runner(&self, method: reqwest::Method, path: &str, body: Value) -> (u16, Value) {
        let url = format!("{}/api/v4{path}", self.text("gitlab"));
        let answer = self.http.request(method, url).json(&body).send().await.expect("an answer");
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }

    fn ecs(&self) -> aws_sdk_ecs::Client {
        let config = aws_sdk_ecs::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .endpoint_url(self.text("ecs"))
            .credentials_provider(Credentials::new(KEY, "secret", Some("token".into()), None, "test"))
            .build();
        aws_sdk_ecs::Client::from_conf(config)
    }

    /// Sends `signal`; the process must end well, and nothing of it may be left.
    fn end(mut self, signal: Signal, user: &User) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process");
        kill_process(pid, signal).expect("it is ours");
        let code = self.child.wait().expect("it ends").code();
        let (mut out, mut err) = (String::new(), String::new());
        self.child.stdout.take().expect("it is piped").read_to_string(&mut out).expect("text");
        self.child.stderr.take().expect("it is piped").read_to_string(&mut err).expect("text");
        assert_eq!((code, out.as_str(), err.as_str()), (Some(0), "", ""));
        user.nothing_is_left();
    }
}

fn hello() -> User {
    User::of("hello:\n  script: [echo hello]\n")
}

fn task(script: &str) -> ContainerDefinition {
    let pair = KeyValuePair::builder().name("BROKER").value("https://0a1b.lambda-url.us-east-1.on.aws");
    ContainerDefinition::builder()
        .name("build")
        .image("busybox:1")
        .set_entry_point(Some(["sh", "-c", script].map(str::to_owned).to_vec()))
        .environment(pair.build())
        .secrets(Secret::builder().name("LAUNCH_KEY").value_from(SECRET).build().expect("name and value are set"))
        .build()
}

async fn register(ecs: &aws_sdk_ecs::Client, container: ContainerDefinition) -> String {
    let registered = ecs
        .register_task_definition()
        .family("mayfly-a")
        .network_mode(NetworkMode::Awsvpc)
        .requires_compatibilities(Compatibility::Fargate)
        .cpu("256")
        .memory("512")
        .execution_role_arn(EXECUTION)
        .container_definitions(container)
        .send()
        .await;
    registered.expect("it is registered").task_definition.and_then(|one| one.task_definition_arn).expect("an ARN")
}

fn run(
    ecs: &aws_sdk_ecs::Client,
    definition: &str,
) -> aws_sdk_ecs::operation::run_task::builders::RunTaskFluentBuilder {
    let network = AwsVpcConfiguration::builder().subnets("subnet-1").build().expect("the subnets are set");
    let network = NetworkConfiguration::builder().awsvpc_configuration(network).build();
    ecs.run_task().cluster("tasks").task_definition(definition).network_configuration(network)
}

/// Waits for a state, never for a time.
async fn eventually<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let wait = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("it happens")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_is_started_and_watched_over_gitlabs_api() {
    let user = hello();
    let stand_ins = StandIns::start(&user, &["--project", ".", "--pipeline"]);
    assert_eq!((&stand_ins.ready["project"], &stand_ins.ready["branch"]), (&json!(41), &json!("main")));
    assert_eq!(stand_ins.text("cluster"), "arn:aws:ecs:us-east-1:123456789012:cluster/mayfly");
    let first = stand_ins.ready["pipeline"].as_u64().expect("a pipeline");
    user.write("more", "a second commit is seen");
    user.git(&["add", "--all"]);
    user.git(&["commit", "--quiet", "--message", "Second"]);

    let variables = json!([{"key": "COLOUR", "value": "red"}]);
    let (status, second) =
        stand_ins.post("/projects/41/pipeline", json!({"ref": "main", "variables": variables})).await;
    assert_eq!((status, &second["status"], &second["source"]), (201, &json!("pending"), &json!("api")), "{second}");
    assert_eq!(second["sha"], user.git(&["rev-parse", "HEAD"]));
    let listed = stand_ins.get("/projects/41/pipelines").await;
    let ids: Vec<_> = listed.as_array().expect("a list").iter().map(|one| one["id"].clone()).collect();
    assert_eq!(ids, [second["id"].clone(), json!(first)]);

    // A runner does the job.
    let runner = json!({"token": stand_ins.text("runner_token"), "system_id": "r_abcdef012345",
        "info": {"name": "test", "features": {"refspecs": true}}});
    let (status, claim) = stand_ins.as_runner(reqwest::Method::POST, "/jobs/request", runner).await;
    assert_eq!(status, 201, "{claim}");
    let (job, token) = (claim["id"].as_u64().expect("an id"), claim["token"].clone());
    let append = stand_ins
        .http
        .patch(format!("{}/api/v4/jobs/{job}/trace", stand_ins.text("gitlab")))
        .header("JOB-TOKEN", token.as_str().expect("a token"))
        .header("Content-Range", "0-5")
        .header("Content-Type", "text/plain")
        .body("hello\n");
    assert_eq!(append.send().await.expect("an answer").status(), 202);
    let done = json!({"token": token, "state": "success", "checksum": "crc32:363a3020", "output":
        {"checksum": "crc32:363a3020", "bytesize": 6}});
    let (status, _) = stand_ins.as_runner(reqwest::Method::PUT, &format!("/jobs/{job}"), done).await;
    assert!([200, 202].contains(&status), "{status}");

    let shown = stand_ins.get(&format!("/projects/41/pipelines/{first}/jobs")).await;
    assert_eq!((&shown[0]["id"], &shown[0]["name"]), (&json!(job), &json!("hello")));
    assert_eq!(stand_ins.get(&format!("/projects/41/jobs/{job}/trace")).await, json!("hello\n"));
    eventually(async || {
        let status = stand_ins.get(&format!("/projects/41/pipelines/{first}")).await["status"].clone();
        (status == "success").then_some(())
    })
    .await;
    let (_, canceled) = stand_ins.post(&format!("/projects/41/pipelines/{}/cancel", second["id"]), json!({})).await;
    assert_eq!(canceled["status"], "canceled");
    stand_ins.end(Signal::TERM, &user);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_calls_of_the_api_are_refused_as_gitlab_does() {
    let user = hello();
    let stand_ins = StandIns::start(&user, &["--project", ".", "--bucket", "ledger"]);
    assert_eq!(stand_ins.ready["pipeline"], Value::Null);
    let bucket = format!("{}/ledger", stand_ins.text("s3"));
    assert_eq!(stand_ins.http.get(bucket).send().await.expect("an answer").status(), 403);
    for (path, body, status) in [
        ("/projects/41/pipeline", json!({"ref": "nowhere"}), 400),
        ("/projects/41/pipeline", json!({}), 400),
        ("/projects/41/pipeline", json!({"ref": "main", "variables": "COLOUR=red"}), 400),
        ("/projects/42/pipeline", json!({"ref": "main"}), 404),
        ("/projects/41/pipelines/1/cancel", json!({}), 404),
        ("/projects/41/hooks", json!({"token": "x"}), 400),
        ("/projects/41/hooks", json!({"url": "nowhere"}), 400),
        ("/projects/42/hooks", json!({"url": "http://127.0.0.1:1"}), 404),
        ("/user/runners", json!({"runner_type": "group_type"}), 400),
        ("/user/runners", json!({"runner_type": "instance_type", "run_untagged": false}), 400),
    ] {
        let (answered, message) = stand_ins.post(path, body.clone()).await;
        assert_eq!(answered, status, "{path} {body}: {message}");
    }
    for path in ["/projects/41/pipelines", "/projects/41/pipelines/301", "/projects/41/jobs/1/trace"] {
        let url = format!("{}/api/v4{path}", stand_ins.text("gitlab"));
        let answer = stand_ins.http.get(url).header("PRIVATE-TOKEN", "glpat-wrong").send().await.expect("an answer");
        assert_eq!(answer.status(), 401, "{path}");
    }
    let (status, runner) = stand_ins.post("/user/runners", json!({"runner_type": "instance_type"})).await;
    assert!(status == 201 && runner["token"].as_str().is_some_and(|token| token.starts_with("glrt-")), "{runner}");
    stand_ins.end(Signal::INT, &user);
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_carry_the_token_to_the_url() {
    let user = hello();
    let (sender, mut hooks) = tokio::sync::mpsc::unbounded_channel();
    let answer = move |uri: http::Uri, headers: http::HeaderMap| {
        let token = headers.get("x-gitlab-token").and_then(|token| token.to_str().ok()).map(str::to_owned);
        let _ = sender.send((uri.path().to_owned(), token));
        async { "ok" }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(answer)).await });
    let hook = ["--hook-url", "https://0a1b.lambda-url.us-east-1.on.aws/", "--hook-token", "t0ken"];
    let more = ["--project", ".", "--pipeline", "--aws-endpoint", endpoint.as_str()];
    let stand_ins = StandIns::start(&user, &[hook.as_slice(), &more].concat());
    let first = tokio::time::timeout(PATIENCE, hooks.recv()).await.expect("a hook");
    assert_eq!(first, Some(("/_aws/lambda-url/0a1b/".to_owned(), Some("t0ken".to_owned()))));

    let later = json!({"url": format!("{endpoint}/later"), "token": "other", "job_events": true});
    let (status, added) = stand_ins.post("/projects/41/hooks", later).await;
    assert_eq!((status, &added["token_present"]), (201, &json!(true)));
    stand_ins.post("/projects/41/pipeline", json!({"ref": "main"})).await;
    let other = Some("other".to_owned());
    eventually(async || hooks.recv().await.filter(|(path, token)| path == "/later" && *token == other)).await;
    stand_ins.end(Signal::TERM, &user);
}

#[test]
fn people_see_where_to_go_and_what_fails() {
    let user = hello();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let hook = format!("http://{closed}/");
    let mut command = user.command(&["sandbox", "--project", ".", "--pipeline", "--hook-url", &hook]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("mayfly runs");
    let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    let mut shown = String::new();
    for line in &mut lines {
        shown.push_str(&line.expect("text"));
        shown.push('\n');
        if shown.contains("the receiver did not answer") {
            break;
        }
    }
    for said in ["runner token   glrt-", "access token   glpat-", "project        41, sandbox/", "/pipeline?ref=main'"]
    {
        assert!(shown.contains(said), "`{said}` in {shown}");
    }
    assert!(shown.contains("job 7001 `hello`: pending"), "{shown}");
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process");
    kill_process(pid, Signal::INT).expect("it is ours");
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    user.nothing_is_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_runs_ends_with_its_stand_in() {
    let user = hello();
    let stand_ins = StandIns::start(&user, &["--cluster", "tasks"]);
    let ecs = stand_ins.ecs();
    let mut container = task("trap '' TERM; sleep 1000 & wait; sleep 1000");
    container.secrets = None;
    let definition = register(&ecs, container).await;
    let task = run(&ecs, &definition).send().await.expect("it runs").tasks()[0].task_arn().expect("an ARN").to_owned();
    eventually(async || {
        let described = ecs.describe_tasks().cluster("tasks").tasks(&task).send().await.expect("it is described");
        (described.tasks()[0].last_status() == Some("RUNNING")).then_some(())
    })
    .await;
    stand_ins.end(Signal::TERM, &user);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stacks_policies_secrets_and_queue_are_used() {
    let user = hello();
    let aws = StackAws::start().await;
    let allow = |sid: &str, action: &str, resource: &str| json!({"Sid": sid, "Effect": "Allow", "Action": action, "Resource": resource});
    let any = "arn:aws:ecs:*:*:task-definition/mayfly-*:*";
    let inline = json!([allow("Register", "ecs:RegisterTaskDefinition", any), allow("Run", "ecs:RunTask", any)]);
    aws.set("dispatcher", inline.clone(), json!([allow("Pass", "iam:PassRole", EXECUTION)]));
    let key = allow("Key", "secretsmanager:GetSecretValue", SECRET);
    aws.set("execution", json!([key]), json!([]));
    let (queue, caller) = (format!("{}/123456789012/stops", aws.url), format!("{FUNCTION}={ROLE}"));
    let decisions = user.repository.path().join("decisions");
    let stand_ins = StandIns::start(
        &user,
        &[
            "--cluster",
            "tasks",
            "--aws-endpoint",
            &aws.url,
            "--stops-queue",
            &queue,
            "--iam",
            &aws.url,
            "--caller",
            &caller,
            "--decisions",
            &decisions.to_string_lossy(),
        ],
    );
    let ecs = stand_ins.ecs();

    let near = format!("{}/_aws/lambda-url/0a1b", aws.url);
    let script = format!(r#"test "$LAUNCH_KEY" = s3cret && test "$BROKER" = {near} && exit 7"#);
    let definition = register(&ecs, task(&script)).await;
    run(&ecs, &definition).send().await.expect("it runs");
    let stopped = eventually(async || aws.messages().into_iter().next()).await;
    assert_eq!((&stopped["detail-type"], &stopped["source"]), (&json!("ECS Task State Change"), &json!("aws.ecs")));
    assert_eq!(stopped["detail"]["containers"][0]["exitCode"], 7, "{stopped}");

    // A statement that is gone is missed within a second.
    aws.set("dispatcher", inline, json!([]));
    let refused = eventually(async || run(&ecs, &definition).send().await.err()).await;
    assert_eq!(refused.code(), Some("AccessDeniedException"));
    let lines = std::fs::read_to_string(&decisions).expect("decisions");
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let has = |principal: &str, action: &str, sid: Value, decision: &str| {
        lines.iter().any(|line| {
            line["principal"] == principal
                && line["action"] == action
                && line["sid"] == sid
                && line["decision"] == decision
        })
    };
    assert!(has(ROLE, "iam:PassRole", json!("Pass"), "Allow"), "{lines:?}");
    assert!(has(EXECUTION, "secretsmanager:GetSecretValue", json!("Key"), "Allow"), "{lines:?}");
    assert!(has(ROLE, "iam:PassRole", Value::Null, "ImplicitDeny"), "{lines:?}");
    std::fs::remove_file(&decisions).expect("it is a file");
    stand_ins.end(Signal::TERM, &user);
}

#[test]
fn wrong_usage_says_what_is_wrong() {
    let user = hello();
    let empty = tempfile::tempdir().expect("a directory");
    let empty = empty.path().to_string_lossy().into_owned();
    for (arguments, said) in [
        (&["--pipeline"][..], "--project"),
        (&["--project", "nowhere"], "there is no directory `nowhere`"),
        (&["--project", &empty], "is no git repository"),
        (&["--hook-token", "x", "--project", "."], "--hook-url"),
        (&["--iam", "http://127.0.0.1:1"], "--caller"),
        (&["--iam", "http://127.0.0.1:1", "--caller", "dispatcher"], "FUNCTION_ARN=ROLE_ARN"),
        (&["--account", "me"], "12 digits"),
        (&["--stops-queue", "x"], "--aws-endpoint"),
        (&["--aws-endpoint", "nowhere"], "`nowhere` is no URL of a server"),
    ] {
        let done = user.mayfly(&[&["sandbox"], arguments].concat());
        assert_eq!((done.code, done.out.as_str()), (Some(2), ""), "{arguments:?}: {}", done.err);
        assert!(done.err.contains(said), "{arguments:?}: {}", done.err);
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let done = user.mayfly(&["sandbox", "--json", "--ecs-port", &port]);
    assert_eq!(done.code, Some(1), "{}", done.err);
    assert!(done.json()["error"].as_str().is_some_and(|text| text.contains(&format!("ECS on port {port}"))));
}
