//! Owns the running server and its handle.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::faults::Faults;
use super::job_handle::JobHandle;
use super::mirror::Mirror;
use super::options::{Hook, Options, RunnerSpec, Trigger, Variable};
use super::pipeline_handle::PipelineHandle;
use super::run::{self, PipelineError};
use super::shared::Shared;
use super::state::{Delivered, Delivery, Project, Runner, State, random};
use super::wire::{Door, Scissors};
use super::{deliver, routes};

const MIB: u64 = 1024 * 1024;

/// A GitLab on loopback. It stops when its last clone is dropped.
#[derive(Clone)]
pub struct GitLab {
    running: Arc<Running>,
}

struct Running {
    shared: Arc<Shared>,
    server: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

impl GitLab {
    /// Starts it on 127.0.0.1.
    pub async fn start(options: Options) -> std::io::Result<GitLab> {
        let listener = TcpListener::bind(("127.0.0.1", options.port)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build();
        let http = http.map_err(std::io::Error::other)?;
        let files = tempfile::Builder::new().prefix("mayfly-gitlab-").tempdir()?;
        let shared = Shared::new(State::new(url, options.clock), files, http);
        let router = options.traffic.watch("gitlab", routes::router(Arc::clone(&shared)));
        let stop = shared.stop.clone();
        let server = tokio::spawn(async move {
            let service = router.into_make_service_with_connect_info::<Scissors>();
            let serving = axum::serve(Door(listener), service).with_graceful_shutdown(stop.cancelled_owned());
            if let Err(error) = serving.await {
                tracing::error!("the sandbox's GitLab stopped: {error}");
            }
        });
        let running = Running { shared, server: Mutex::new(Some(server)) };
        Ok(GitLab { running: Arc::new(running) })
    }

    /// Where it listens: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        self.shared().read(|state| state.url.clone())
    }

    /// Creates a runner and returns its `glrt-` token.
    pub fn add_runner(&self, spec: RunnerSpec) -> String {
        self.shared().change(|state| state.add_runner(spec)).1
    }

    /// Creates the project `path` (`group/app`) over a git repository, which is only ever read.
    pub fn add_project(&self, path: &str, repository: &Path) -> u64 {
        let bare = self.shared().files.path().join("repositories");
        self.shared().change(|state| {
            let id = state.projects.last().map_or(41, |project| project.id + 1);
            state.projects.push(Project {
                id,
                path: path.trim_matches('/').to_owned(),
                mirror: Arc::new(Mirror::new(repository, bare.join(format!("{id}.git")))),
                variables: Vec::new(),
                protected_refs: Vec::new(),
                default_branch: String::new(),
                cache_index: None,
                timeout: Duration::from_secs(3600),
                token_allowed_from: Vec::new(),
                pipelines: 0,
                merge_requests: Vec::new(),
            });
            id
        })
    }

    /// Sets a CI variable of a project.
    pub fn set_variable(&self, project: u64, variable: Variable) {
        self.shared().change(|state| {
            if let Some(row) = state.projects.iter_mut().find(|row| row.id == project) {
                row.variables.retain(|known| known.key != variable.key);
                row.variables.push(variable);
            }
        });
    }

    /// Adds a webhook to a project.
    pub fn add_hook(&self, project: u64, hook: Hook) {
        let _ = deliver::add(self.shared(), project, hook);
    }

    /// Starts a pipeline for a branch or tag, as a push would.
    pub fn run_pipeline(&self, project: u64, ref_name: &str) -> Result<PipelineHandle, PipelineError> {
        self.trigger(project, &Trigger { ref_name: ref_name.to_owned(), ..Trigger::default() })
    }

    /// Starts a pipeline for whatever `trigger` says.
    pub fn trigger(&self, project: u64, trigger: &Trigger) -> Result<PipelineHandle, PipelineError> {
        let id = run::run(self.shared(), project, trigger)?;
        Ok(PipelineHandle::new(self.shared(), id))
    }

    /// The job `id`.
    pub fn job(&self, id: u64) -> Option<JobHandle> {
        self.shared().read(|state| state.jobs.contains_key(&id)).then(|| JobHandle::new(self.shared(), id))
    }

    /// Every job, oldest first.
    pub fn jobs(&self) -> Vec<JobHandle> {
        let ids: Vec<u64> = self.shared().read(|state| state.jobs.keys().copied().collect());
        ids.into_iter().map(|id| JobHandle::new(self.shared(), id)).collect()
    }

    /// Orders faults.
    pub fn faults(&self) -> Faults {
        Faults { shared: Arc::clone(self.shared()) }
    }

    /// Runs the workers that give up stuck jobs, at the clock's now.
    pub fn sweep(&self) {
        self.shared().change(State::sweep);
    }

    /// How often a job was asked for (E21).
    pub fn claim_requests(&self) -> usize {
        self.shared().read(|state| state.claim_requests)
    }

    /// How many final updates carried a checksum that was not the stored log's.
    pub fn checksum_mismatches(&self) -> usize {
        self.shared().read(|state| state.checksum_mismatches)
    }

    /// What clients of ours said that GitLab does not declare.
    pub fn violations(&self) -> Vec<String> {
        self.shared().read(|state| state.violations.clone())
    }

    /// A personal access token of the administrator, for the calls that people make.
    pub fn private_token(&self) -> String {
        self.shared().read(|state| state.private_token.clone())
    }

    /// Every hook that was sent or lost, in order.
    pub fn hook_deliveries(&self) -> Vec<Delivery> {
        self.shared().read(|state| state.deliveries.clone())
    }

    /// Returns once no hook is on its way; one that a fault holds back is not.
    pub async fn hooks_delivered(&self) {
        let on_its_way = |state: &State, index: usize, delivery: &Delivery| {
            delivery.delivered == Delivered::Waiting && !state.held.iter().any(|(_, held)| *held == index)
        };
        self.shared()
            .until(|state| !state.deliveries.iter().enumerate().any(|(index, d)| on_its_way(state, index, d)))
            .await;
    }

    /// Stops the server; requests that are being answered are finished.
    pub async fn shutdown(&self) {
        self.shared().stop.cancel();
        let server = self.running.server.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(server) = server
            && let Err(error) = server.await
        {
            tracing::error!("the sandbox's GitLab did not stop well: {error}");
        }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.running.shared
    }
}

impl State {
    /// Creates a runner: its id and its token.
    pub(super) fn add_runner(&mut self, spec: RunnerSpec) -> (u64, String) {
        let id = self.runners.last().map_or(21, |runner| runner.id + 1);
        let token = format!("glrt-{}", random(20));
        self.runners.push(Runner {
            id,
            token: token.clone(),
            spec,
            contacted_at: None,
            managers: Vec::new(),
            queue_version: random(20),
        });
        (id, token)
    }

    pub(super) fn new(url: String, clock: crate::sandbox::clock::Clock) -> Self {
        State {
            clock,
            url,
            private_token: format!("glpat-{}", random(20)),
            instance_uuid: uuid::Uuid::new_v4().to_string(),
            runners: Vec::new(),
            projects: Vec::new(),
            pipelines: Default::default(),
            last_pipeline: 300,
            jobs: Default::default(),
            resources: Default::default(),
            touched: Vec::new(),
            scheduled: Vec::new(),
            hooks: Vec::new(),
            deliveries: Vec::new(),
            held: Vec::new(),
            ended: Vec::new(),
            faults: Default::default(),
            violations: Vec::new(),
            claim_requests: 0,
            checksum_mismatches: 0,
            artifact_limit: 100 * MIB,
            trace_limit: 100 * MIB,
            lower_stuck_timeouts: true,
            registry: None,
            releases: false,
            withholds_secrets: false,
            storage: Default::default(),
        }
    }
}
