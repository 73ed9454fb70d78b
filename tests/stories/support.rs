//! What the stories need: a sandbox, a repository with a pipeline, and waiting for states.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use mayfly::sandbox::gitlab::{JobHandle, PipelineHandle};
use mayfly::sandbox::{Sandbox, Settings};
use tempfile::TempDir;

/// A story fails if a state is not reached within this time.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A sandbox with one project.
pub struct Story {
    pub sandbox: Sandbox,
    pub project: u64,
    _repository: TempDir,
}

impl Story {
    /// Starts a sandbox whose tasks run the real agent as processes.
    pub async fn start(pipeline: &str) -> Story {
        Story::start_with(Settings { agent: Some(agent()), ..Settings::default() }, pipeline).await
    }

    /// Starts a sandbox with `settings`.
    pub async fn start_with(settings: Settings, pipeline: &str) -> Story {
        let repository = repository(&[(".gitlab-ci.yml", pipeline)]);
        let sandbox = Sandbox::start(settings).await.expect("the sandbox starts");
        let project = sandbox.add_project("group/app", repository.path());
        Story { sandbox, project, _repository: repository }
    }

    /// Runs the pipeline of `main`, with somebody watching all its logs: GitLab then asks for them every 3 s.
    pub fn run(&self) -> PipelineHandle {
        let pipeline = self.sandbox.gitlab.run_pipeline(self.project, "main").expect("the pipeline is read");
        pipeline.jobs().iter().for_each(|job| job.watch(true));
        pipeline
    }

    /// Runs the pipeline, waits for its end and returns its only job.
    pub async fn run_job(&self) -> JobHandle {
        let pipeline = self.run();
        in_time(pipeline.finished()).await;
        pipeline.jobs().remove(0)
    }

    /// Waits until no message is left to handle and nobody handles one.
    pub async fn quiet(&self) {
        let deployment = &self.sandbox.deployment;
        until("a quiet dispatcher", || deployment.running() == 0 && deployment.queue().visible() == 0).await;
    }

    /// Ends the story: none of our requests was one that GitLab or AWS would not know, and no task is left.
    pub async fn end(self) {
        in_time(self.sandbox.ecs.all_stopped()).await;
        assert_eq!(self.sandbox.violations(), Vec::<String>::new());
        self.sandbox.shutdown().await;
    }
}

/// Holds a script back until the story lets it go.
pub struct Gate(TempDir);

impl Gate {
    pub fn new() -> Gate {
        Gate(tempfile::tempdir().expect("a directory"))
    }

    /// A line for a script: waits for [`open`](Self::open).
    pub fn wait(&self) -> String {
        format!("'while test ! -e {}; do sleep 0.05; done'", self.0.path().join("open").display())
    }

    pub fn open(&self) {
        std::fs::write(self.0.path().join("open"), "").expect("a file");
    }
}

/// The agent that cargo built for these tests.
pub fn agent() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_agent"))
}

/// A git repository with these files on `main`.
pub fn repository(files: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    git(directory.path(), &["init", "--quiet", "--initial-branch=main"]);
    for (path, text) in files {
        let path = directory.path().join(path);
        std::fs::create_dir_all(path.parent().expect("it lies in the repository")).expect("a directory");
        std::fs::write(path, text).expect("a file");
    }
    commit(directory.path());
    directory
}

/// Commits all that has changed.
pub fn commit(repository: &Path) {
    git(repository, &["add", "--all"]);
    let identity = ["-c", "user.name=Test", "-c", "user.email=test@example.com"];
    git(repository, &[&identity[..], &["commit", "--quiet", "--message", "Add files"]].concat());
}

fn git(directory: &Path, arguments: &[&str]) {
    let status = Command::new("git").arg("-C").arg(directory).args(arguments).status().expect("git runs");
    assert!(status.success(), "git {arguments:?}");
}

/// The value of `future`, or a failed story.
pub async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it happens in time")
}

/// Waits until `condition` holds.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The trace as text.
pub fn trace(job: &JobHandle) -> String {
    String::from_utf8_lossy(&job.trace()).into_owned()
}
