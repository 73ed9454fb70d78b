//! A GitLab with one project, one runner, and a client that speaks plain HTTP.

use std::path::Path;
use std::process::Command;

use mayfly::sandbox::clock::Clock;
use mayfly::sandbox::gitlab::{GitLab, JobHandle, Options, PipelineHandle, RunnerSpec};
use mayfly::sandbox::traffic::Traffic;
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};
use tempfile::TempDir;

/// One job without tags.
pub const ONE_JOB: &str = "job:\n  script: echo hello\n";

pub struct World {
    pub gitlab: GitLab,
    pub clock: Clock,
    pub traffic: Traffic,
    pub project: u64,
    pub runner: String,
    pub repository: TempDir,
    client: Client,
}

impl World {
    pub async fn new(pipeline: &str) -> World {
        World::with(pipeline, RunnerSpec { tags: vec!["mayfly".into()], ..RunnerSpec::default() }).await
    }

    pub async fn with(pipeline: &str, runner: RunnerSpec) -> World {
        let repository = repository(&[(".gitlab-ci.yml", pipeline)]);
        let (clock, traffic) = (Clock::default(), Traffic::default());
        let gitlab = GitLab::start(Options { clock: clock.clone(), traffic: traffic.clone(), port: 0 }).await.unwrap();
        let project = gitlab.add_project("group/app", repository.path());
        let runner = gitlab.add_runner(runner);
        World { gitlab, clock, traffic, project, runner, repository, client: Client::new() }
    }

    pub fn run(&self) -> PipelineHandle {
        self.gitlab.run_pipeline(self.project, "main").unwrap()
    }

    /// A request of a foreign client.
    pub fn call(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.gitlab.url())).header("User-Agent", "curl/8")
    }

    /// A request of a client of ours.
    pub fn own(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.gitlab.url())).header("User-Agent", "mayfly/0.1")
    }

    pub async fn ask(&self) -> Response {
        self.ask_as(&self.runner).await
    }

    pub async fn ask_as(&self, runner: &str) -> Response {
        let body = claim_body(runner, &["cancel_gracefully"]);
        self.own(Method::POST, "/api/v4/jobs/request").json(&body).send().await.unwrap()
    }

    /// Claims a job that must be there.
    pub async fn claim(&self) -> Claim {
        let response = self.ask().await;
        assert_eq!(response.status(), 201);
        Claim::new(response.json().await.unwrap())
    }

    pub fn job(&self, claim: &Claim) -> JobHandle {
        self.gitlab.job(claim.id).unwrap()
    }

    pub async fn put(&self, claim: &Claim, mut body: Value) -> Response {
        body["token"] = json!(claim.token);
        let path = format!("/api/v4/jobs/{}", claim.id);
        self.own(Method::PUT, &path).header("JOB-TOKEN", &claim.token).json(&body).send().await.unwrap()
    }

    pub async fn patch(&self, claim: &Claim, start: usize, text: &str) -> Response {
        let last = (start + text.len()).wrapping_sub(1) as isize;
        self.own(Method::PATCH, &format!("/api/v4/jobs/{}/trace?debug_trace=false", claim.id))
            .header("JOB-TOKEN", &claim.token)
            .header("Content-Type", "text/plain")
            .header("Content-Range", format!("{start}-{last}"))
            .body(text.to_owned())
            .send()
            .await
            .unwrap()
    }

    pub async fn succeed(&self, claim: &Claim) {
        assert_eq!(self.put(claim, json!({ "state": "success" })).await.status(), 200);
    }

    /// No client of ours broke the protocol.
    pub fn assert_strict(&self) {
        assert_eq!(self.gitlab.violations(), Vec::<String>::new());
    }
}

pub struct Claim {
    pub id: u64,
    pub token: String,
    pub body: Value,
}

impl Claim {
    pub fn new(body: Value) -> Claim {
        Claim { id: body["id"].as_u64().unwrap(), token: body["token"].as_str().unwrap().to_owned(), body }
    }

    pub fn variable(&self, key: &str) -> Option<&Value> {
        self.body["variables"].as_array().unwrap().iter().rev().find(|variable| variable["key"] == key)
    }

    pub fn value(&self, key: &str) -> Option<&str> {
        self.variable(key)?["value"].as_str()
    }
}

pub fn claim_body(runner: &str, features: &[&str]) -> Value {
    let features: Value =
        features.iter().map(|name| ((*name).to_owned(), json!(true))).collect::<serde_json::Map<_, _>>().into();
    json!({
        "token": runner,
        "system_id": "r_0123456789ab",
        "info": { "name": "mayfly", "version": "0.1.0", "executor": "custom", "features": features },
    })
}

pub fn header<'r>(response: &'r Response, name: &str) -> Option<&'r str> {
    response.headers().get(name).map(|value| value.to_str().unwrap())
}

/// A repository with one commit on `main`.
pub fn repository(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    git(folder.path(), &["init", "--quiet", "--initial-branch=main"]);
    commit(folder.path(), files);
    folder
}

pub fn commit(folder: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        std::fs::write(folder.join(path), text).unwrap();
    }
    git(folder, &["add", "--all"]);
    git(folder, &["commit", "--quiet", "--message", "Say hello\n\nAnd more"]);
}

pub fn git(folder: &Path, args: &[&str]) -> String {
    let output = git_output(folder, args);
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

pub fn git_output(folder: &Path, args: &[&str]) -> std::process::Output {
    Command::new("git")
        .current_dir(folder)
        .args(["-c", "user.name=Ada", "-c", "user.email=ada@example.com", "-c", "credential.helper="])
        .args(args)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_TERMINAL_PROMPT", "0")
        .output()
        .unwrap()
}

/// git in a thread of its own, so that the server can answer it.
pub async fn git_async(folder: &Path, args: &[&str]) -> std::process::Output {
    let folder = folder.to_owned();
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    tokio::task::spawn_blocking(move || git_output(&folder, &args.iter().map(String::as_str).collect::<Vec<_>>()))
        .await
        .unwrap()
}
