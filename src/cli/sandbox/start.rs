//! Starts the stand-ins, keeps them until a signal comes, and ends them.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::JoinHandle;
use url::Url;

use crate::cli::clean::plain;
use crate::cli::exit::{ExitCode, Usage};
use crate::cli::interrupts::Interrupts;
use crate::cli::screen::{Screen, Tone, print_error, print_json_line};
use crate::plan::VOCABULARY;
use crate::sandbox::ecs::{self, Access, Callers, Ecs, Record, Runtime};
use crate::sandbox::gitlab::{self, GitLab, RunnerSpec};
use crate::sandbox::s3::{self, S3};
use crate::sandbox::stack::{
    StackAws, bucket_policies, environment_files, own_keys, policies, reachable, secrets, send_stops,
};
use crate::sandbox::traffic::Traffic;

use super::follow::follow;
use super::options::SandboxCommand;
use super::project::{self, Project};
use super::ready::Ready;

/// What runs.
struct Running {
    gitlab: GitLab,
    ecs: Ecs,
    s3: Option<S3>,
    stops: Option<JoinHandle<()>>,
    /// Where tasks live.
    root: TempDir,
}

impl SandboxCommand {
    /// Runs the command.
    pub(in crate::cli) async fn run(self) -> ExitCode {
        match self.serve().await {
            Ok(()) => ExitCode::Success,
            Err(error) => {
                print_error(&error);
                if self.json {
                    print_json_line(&serde_json::json!({"error": format!("{error:#}")}));
                }
                ExitCode::of(&error)
            }
        }
    }

    async fn serve(&self) -> anyhow::Result<()> {
        let mut interrupts = Interrupts::listen()?;
        let screen = Screen::new(self.json);
        let repository = self.project.as_deref().map(project::repository).transpose()?;
        let running = interrupts.or(self.start(screen)).await?;
        let (gitlab, ecs) = (&running.gitlab, &running.ecs);
        let project = repository.map(|repository| Project::add(gitlab, &repository, self)).transpose();
        let project = match project {
            Ok(project) => project,
            Err(error) => {
                running.end().await;
                return Err(error);
            }
        };
        let tags = VOCABULARY.map(str::to_owned).to_vec();
        let ready = Ready {
            gitlab: gitlab.url(),
            ecs: ecs.url().to_owned(),
            s3: running.s3.as_ref().map(|s3| s3.url().to_owned()),
            cluster: ecs.cluster_arn(),
            runner_token: gitlab.add_runner(RunnerSpec { description: "mayfly".into(), tags, ..RunnerSpec::default() }),
            private_token: gitlab.private_token(),
            project,
        };
        ready.show(screen);
        if self.json {
            print_json_line(&ready.json());
        }
        tokio::select! {
            () = interrupts.next() => {}
            () = follow(gitlab, ecs, screen) => {}
        }
        running.end().await;
        Ok(())
    }

    async fn start(&self, screen: Screen) -> anyhow::Result<Running> {
        let root = tempfile::Builder::new().prefix("mf-").tempdir().context("making a directory for tasks")?;
        let gitlab = gitlab::Options { port: self.gitlab_port, ..gitlab::Options::default() };
        let gitlab = GitLab::start(gitlab).await.with_context(|| listening("GitLab", self.gitlab_port))?;
        let (events, ended) = unbounded_channel();
        let mut options = ecs::Options {
            port: self.ecs_port,
            region: self.region.clone(),
            account: self.account.clone(),
            cluster: self.cluster.clone(),
            callers: self.callers(screen)?,
            runtime: if self.containers { Runtime::Containers { internet: true } } else { Runtime::Processes },
            ..ecs::Options::new(root.path().join("t"), events)
        };
        let mut ports = vec![port(&gitlab.url())?];
        let s3 = self.s3(root.path()).await.context("starting S3")?;
        if let Some(s3) = &s3 {
            ports.push(port(s3.url())?);
            options.fetch_s3 = environment_files(StackAws::new(s3.url(), &self.region).s3());
        }
        let mut stops = None;
        if let Some(endpoint) = &self.aws_endpoint {
            ports.push(port(endpoint)?);
            let aws = StackAws::new(endpoint, &self.region);
            options.fetch_secret = secrets(&aws);
            options.fetch_s3 = environment_files(aws.s3());
            let endpoint = endpoint.clone();
            options.place = Arc::new(move |value| reachable(&endpoint, value));
            stops = self.stops_queue.clone().map(|queue| {
                let failed = move |text: String| screen.line(Tone::Bad, &plain(&text));
                tokio::spawn(send_stops(aws, queue, ended, failed))
            });
        }
        let ecs = Ecs::start(options).await.with_context(|| listening("ECS", self.ecs_port))?;
        ports.into_iter().for_each(|port| ecs.reach(port));
        Ok(Running { gitlab, ecs, s3, stops, root })
    }

    async fn s3(&self, root: &Path) -> std::io::Result<Option<S3>> {
        if self.buckets.is_empty() {
            return Ok(None);
        }
        let (access_key, secret_key) = own_keys();
        let options = s3::Options {
            clock: None,
            traffic: Traffic::default(),
            root: root.join("s3"),
            buckets: self.buckets.clone(),
            elsewhere: BTreeMap::new(),
            access_key,
            secret_key,
            unlisting_key: None,
        };
        S3::start(options).await.map(Some)
    }

    fn callers(&self, screen: Screen) -> anyhow::Result<Callers> {
        let Some(iam) = &self.iam else { return Ok(Callers::Anybody) };
        let aws = StackAws::new(iam, &self.region);
        Ok(Callers::Roles(Access {
            read: policies(&aws, &self.callers),
            read_bucket: bucket_policies(&aws),
            record: recorder(self.decisions.as_deref(), screen)?,
        }))
    }
}

impl Running {
    /// Ends everything, and removes every trace of it.
    async fn end(self) {
        let Running { gitlab, ecs, s3, stops, root } = self;
        ecs.shutdown().await;
        if let Some(stops) = stops {
            stops.abort();
        }
        gitlab.shutdown().await;
        if let Some(s3) = s3 {
            s3.shutdown().await;
        }
        drop(root);
    }
}

/// Writes decisions to `file`, and shows those that refuse.
fn recorder(file: Option<&Path>, screen: Screen) -> anyhow::Result<Record> {
    let open = |path: &Path| -> anyhow::Result<File> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        file.with_context(|| format!("opening `{}`", path.display()))
    };
    let file = file.map(open).transpose()?.map(Mutex::new);
    Ok(Arc::new(move |decision: Value| {
        let text = |name: &str| decision[name].as_str().unwrap_or_default().to_owned();
        if text("decision") != "Allow" {
            let (principal, action, resource) = (text("principal"), text("action"), text("resource"));
            let why = decision["error"].as_str().map(|error| format!(": {error}")).unwrap_or_default();
            screen.line(Tone::Bad, &plain(&format!("refused: {principal} may not {action} {resource}{why}")));
        }
        if let Some(file) = &file {
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(error) = file.write_all(format!("{decision}\n").as_bytes()) {
                screen.line(Tone::Bad, &format!("a decision could not be written: {error}"));
            }
        }
    }))
}

fn listening(server: &str, port: u16) -> String {
    if port == 0 { format!("starting {server}") } else { format!("starting {server} on port {port}") }
}

/// The port of a server on this machine.
fn port(url: &str) -> anyhow::Result<u16> {
    let port = Url::parse(url).ok().and_then(|url| url.port_or_known_default());
    port.ok_or_else(|| Usage::error(format!("`{url}` is no URL of a server")))
}
