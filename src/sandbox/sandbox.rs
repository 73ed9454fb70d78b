//! Starts a whole sandbox: the world, the fleet configuration, the functions, a runner.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::SignedDuration;
use secrecy::SecretString;
use sha2::{Digest, Sha256};
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::config::{Fleet, FleetError};
use crate::functions::{Broker, BrokerKeys, Dispatcher, DispatcherSecrets, Now, PackedAgents, Refreshable};
use crate::gitlab::{HttpClients, HttpError, RunnerClient, RunnerError, Sender, SystemInfo, WebhookSecrets};
use crate::launch;
use crate::ledger::keys::SigningKey;
use crate::ledger::{Ledger, POLL_SPACING, Store};
use crate::plan::VOCABULARY;

use super::aws;
use super::clock::Clock;
use super::deployment::Deployment;
use super::ecs::{Ecs, Runtime};
use super::fleet::{AGENTS, CLUSTER, FleetFacts, LEDGER, fleet};
use super::function_urls::{BrokerUrl, WebhookUrl, listen, serve_broker, serve_webhook, url};
use super::gitlab::{GitLab, Hook, RunnerSpec};
use super::invocations::Invocations;
use super::queue::Queue;
use super::s3::S3;
use super::traffic::Traffic;
use super::world::World;

/// How to start a sandbox.
pub struct Settings {
    /// The agent that helpers fetch; none is needed where tasks are simulated.
    pub agent: Option<PathBuf>,
    /// What tasks are made of.
    pub runtime: Runtime,
    /// Where the cache's bucket lies, so that the next sandbox finds it again: one folder for one repository, for every
    /// sandbox calls its first project 41. Everything else goes with this sandbox.
    pub cache: Option<PathBuf>,
    /// Where every job sees its builds, as all see theirs at `/builds` on Fargate: an empty directory, to which each task
    /// binds its own. Without it, or where the machine has no namespaces for it, builds lie where the task lies.
    pub builds: Option<PathBuf>,
    /// The runners to register; a Mayfly runner with all labels by default.
    pub runners: Vec<RunnerSpec>,
    /// Changes the fleet configuration.
    pub fleet: Box<dyn FnOnce(&mut Fleet) + Send>,
    /// The time that everything goes by.
    pub clock: Clock,
    /// Ticks come by the clock; else only [`Deployment::tick`] ticks.
    pub ticks: bool,
    /// Invocations of the dispatcher at one time.
    pub dispatchers: usize,
    /// The broker's role has `s3:ListBucket`, as a deployment gives it.
    pub broker_may_list: bool,
    /// Empty polls of one runner are so far apart; a deployment's [`POLL_SPACING`] unless nobody else asks this GitLab.
    pub poll_spacing: SignedDuration,
}

impl Default for Settings {
    fn default() -> Self {
        let runner = RunnerSpec {
            description: "mayfly".into(),
            tags: VOCABULARY.map(str::to_owned).to_vec(),
            ..RunnerSpec::default()
        };
        Settings {
            agent: None,
            runtime: Runtime::Processes,
            cache: None,
            builds: None,
            runners: vec![runner],
            fleet: Box::new(|_| {}),
            clock: Clock::default(),
            ticks: true,
            dispatchers: 10,
            broker_may_list: true,
            poll_spacing: POLL_SPACING,
        }
    }
}

/// GitLab, AWS and Mayfly on this machine.
pub struct Sandbox {
    /// The time.
    pub clock: Clock,
    /// All requests.
    pub traffic: Traffic,
    /// The stand-in for GitLab.
    pub gitlab: GitLab,
    /// The stand-in for ECS.
    pub ecs: Ecs,
    /// The stand-in for S3.
    pub s3: S3,
    /// Mayfly.
    pub deployment: Deployment,
    /// Its configuration.
    pub fleet: Arc<Fleet>,
    secrets: SandboxSecrets,
    stop: CancellationToken,
    root: tempfile::TempDir,
}

/// The secrets of one sandbox, made anew each time.
struct SandboxSecrets {
    launch_key: String,
    ticket_key: String,
    grant_key: String,
    signing_token: String,
}

/// Why a sandbox could not be started.
#[derive(Debug, Error)]
pub enum SandboxError {
    /// A server or a file.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Its configuration.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// TLS.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// Its GitLab does not know its runner.
    #[error(transparent)]
    Runner(#[from] RunnerError),
    /// The agent could not be uploaded.
    #[error("the agent could not be put into the sandbox's S3: {0}")]
    Agent(String),
}

impl Sandbox {
    /// Starts everything.
    ///
    /// # Errors
    /// See [`SandboxError`].
    pub async fn start(settings: Settings) -> Result<Sandbox, SandboxError> {
        let root = tempfile::Builder::new().prefix("mf-").tempdir()?;
        open_to_all(root.path())?;
        let (clock, traffic, stop) = (settings.clock, Traffic::default(), CancellationToken::new());
        let secrets = SandboxSecrets::new();
        let lasting_cache = settings.cache.is_some();
        let lasting = (settings.cache, settings.builds);
        let in_containers = matches!(settings.runtime, Runtime::Containers { .. });
        let world = World::start(root.path(), &clock, &traffic, settings.runtime, &secrets.launch_key, lasting).await?;
        let agent_sha256 = put_agent(&world.s3, settings.agent.as_deref(), in_containers).await?;

        let broker_listener = listen().await?;
        let broker_url = url(broker_listener.local_addr()?);
        for server in [&broker_url, world.s3.url(), &world.gitlab.url()] {
            world.ecs.reach(port(server)?);
        }
        let (runners, runner_tokens) = register(&world.gitlab, settings.runners).await?;
        let facts = FleetFacts {
            gitlab: &world.gitlab.url(),
            broker: &broker_url,
            agent_sha256: &agent_sha256,
            runners: &runners,
            lasting_cache,
        };
        let fleet = Arc::new(fleet(&facts, settings.fleet)?);

        let now: Now = {
            let clock = clock.clone();
            Arc::new(move || clock.now())
        };
        let broker = Broker {
            fleet: Arc::clone(&fleet),
            ledger: Ledger::new(Store::new(aws::s3(world.s3.url(), "broker"), LEDGER)),
            s3: match settings.broker_may_list {
                true => aws::s3(world.s3.url(), "broker"),
                false => aws::s3_as(aws::UNLISTING_KEY, world.s3.url(), "broker"),
            },
            logs: aws::logs(world.ecs.url(), "broker"),
            keys: Refreshable::new(secrets.broker_keys()),
            // The keys of a sandbox are never rotated.
            reread_keys: Arc::new(|| Box::pin(std::future::ready(()))),
            packed: PackedAgents::default(),
            uploaded: Arc::default(),
            now: Arc::clone(&now),
        };
        let queue = Queue::new(clock.clone());
        let dispatcher = Dispatcher {
            fleet: Arc::clone(&fleet),
            ledger: Ledger::new(Store::new(aws::s3(world.s3.url(), "dispatcher"), LEDGER)),
            ecs: launch::Ecs::new(aws::ecs(world.ecs.url(), "dispatcher"), CLUSTER, aws::REGION),
            http: HttpClients::new(Sender::Dispatcher),
            secrets: Refreshable::new(DispatcherSecrets {
                runner_tokens,
                ticket_key: SecretString::from(secrets.ticket_key.as_str()),
            }),
            now,
            send: {
                let queue = queue.clone();
                Arc::new(move |later| {
                    let body = serde_json::to_string(&later.message).expect("messages are plain data");
                    queue.send(body, later.delay);
                    Box::pin(std::future::ready(Ok(())))
                })
            },
            poll_spacing: settings.poll_spacing,
        };
        let broker_invocations = Invocations::default();
        serve_broker(
            BrokerUrl { broker, invocations: broker_invocations.clone() },
            broker_listener,
            &traffic,
            stop.clone(),
        );
        let webhook = WebhookUrl {
            secrets: Refreshable::new(secrets.webhook_secrets()),
            queue: queue.clone(),
            clock: clock.clone(),
        };
        let webhook_url = serve_webhook(webhook, &traffic, stop.clone()).await?;
        let deployment = Deployment {
            clock: clock.clone(),
            queue,
            dispatcher,
            dispatcher_invocations: Invocations::default(),
            broker_invocations,
            webhook_url,
            broker_url,
        };
        deployment.run(settings.dispatchers, world.ecs_events, stop.clone());
        if settings.ticks {
            deployment.tick_every_minute(stop.clone());
        }
        let World { gitlab, ecs, s3, .. } = World { ecs_events: tokio::sync::mpsc::unbounded_channel().1, ..world };
        Ok(Sandbox { clock, traffic, gitlab, ecs, s3, deployment, fleet, secrets, stop, root })
    }

    /// Adds a project whose hooks ring here, with the git repository at `repository`.
    pub fn add_project(&self, path: &str, repository: &Path) -> u64 {
        let project = self.gitlab.add_project(path, repository);
        self.gitlab.add_hook(
            project,
            Hook {
                url: self.deployment.webhook_url().to_owned(),
                job_events: true,
                pipeline_events: true,
                signing_token: Some(self.secrets.signing_token.clone()),
                ..Hook::default()
            },
        );
        project
    }

    /// The launch key: for tests that look where it must not be.
    pub fn launch_key(&self) -> &str {
        &self.secrets.launch_key
    }

    /// The token that hooks are signed with.
    pub fn signing_token(&self) -> &str {
        &self.secrets.signing_token
    }

    /// Where everything lies.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// Requests of ours that the real servers would not know.
    pub fn violations(&self) -> Vec<String> {
        let all = [self.gitlab.violations(), self.ecs.violations(), self.s3.violations()];
        all.into_iter().flatten().collect()
    }

    /// Stops everything, and removes every trace of it.
    pub async fn shutdown(self) {
        self.stop.cancel();
        self.deployment.kill_dispatcher();
        self.deployment.kill_broker();
        self.ecs.shutdown().await;
        self.gitlab.shutdown().await;
        self.s3.shutdown().await;
    }
}

impl SandboxSecrets {
    fn new() -> Self {
        let random = || uuid::Uuid::new_v4().simple().to_string();
        SandboxSecrets {
            launch_key: random(),
            ticket_key: random(),
            grant_key: random(),
            // 32 bytes: a simple UUID's hex digits.
            signing_token: format!("whsec_{}", STANDARD.encode(random())),
        }
    }

    fn broker_keys(&self) -> BrokerKeys {
        let key = |text: &str| SigningKey::new(SecretString::from(text));
        BrokerKeys {
            ticket_key: key(&self.ticket_key),
            grant_key: key(&self.grant_key),
            launch_key: key(&self.launch_key),
        }
    }

    fn webhook_secrets(&self) -> WebhookSecrets {
        WebhookSecrets { tokens: Vec::new(), signing_tokens: vec![SecretString::from(self.signing_token.as_str())] }
    }
}

/// Creates the runners, and makes first contact with all features, as a deployment does.
async fn register(
    gitlab: &GitLab,
    specs: Vec<RunnerSpec>,
) -> Result<(Vec<(String, Option<u64>)>, BTreeMap<String, SecretString>), SandboxError> {
    let (mut runners, mut tokens) = (Vec::new(), BTreeMap::new());
    for spec in specs {
        let name = spec.description.clone();
        let token = SecretString::from(gitlab.add_runner(spec));
        let instance = gitlab.url().parse().map_err(|error| SandboxError::Agent(format!("{error}")))?;
        let client =
            RunnerClient::new(&instance, token.clone(), SystemInfo { system_id: "r_sandbox00001".into() }, None)?;
        let verified = client.verify().await?;
        runners.push((name.clone(), Some(verified.id)));
        tokens.insert(name, token);
    }
    Ok((runners, tokens))
}

/// The port of one of our servers.
fn port(url: &str) -> Result<u16, SandboxError> {
    let parsed = url::Url::parse(url).ok().and_then(|url| url.port());
    parsed.ok_or_else(|| SandboxError::Io(io::Error::other(format!("`{url}` has no port"))))
}

/// Containers do not see this machine's files, and get the agent itself.
async fn put_agent(s3: &S3, agent: Option<&Path>, in_containers: bool) -> Result<String, SandboxError> {
    let bytes = match agent {
        Some(path) if in_containers => std::fs::read(path)?,
        Some(path) => agent_in_place(&std::path::absolute(path)?),
        None => Vec::new(),
    };
    let sha256 = hex::encode(Sha256::digest(&bytes));
    let put = aws::s3(s3.url(), "setup").put_object().bucket(AGENTS).key(format!("agents/{sha256}"));
    put.body(bytes.into())
        .send()
        .await
        .map_err(|error| SandboxError::Agent(aws_sdk_s3::error::DisplayErrorContext(error).to_string()))?;
    Ok(sha256)
}

/// An agent that is the one at `path`: every task fetches, verifies and starts it as anywhere, and none copies a debug
/// build of 50 MB.
fn agent_in_place(path: &Path) -> Vec<u8> {
    let path = path.to_string_lossy().replace('\'', r"'\''");
    format!("#!/bin/sh\nexec '{path}' \"$@\"\n").into_bytes()
}

/// Every uid of a task's containers must reach its volumes.
fn open_to_all(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
}
