//! Brings the job's commit into the project's directory with git (runner-behaviour.md §4.3).
//!
//! What git finds in the repository is hostile: no hook and no monitor of its runs, and no call takes its configuration
//! for ours, because ours comes with the environment and counts most.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::process::{Command, ExitStatus};

use secrecy::ExposeSecret;

use crate::agent::child;
use crate::agent::context::{Context, StageError};
use crate::agent::git::{Configuration, Remote};
use crate::agent::log::JobLog;
use crate::gitlab::FailureReason;

use super::directory;
use super::home::Home;
use super::native_clone::{self, can_clone};
use super::settings::Settings;

/// What `git lfs install` writes; without it `git lfs pull` checks nothing out.
const LFS_FILTER: [(&str, &str); 4] = [
    ("filter.lfs.clean", "git-lfs clean -- %f"),
    ("filter.lfs.smudge", "git-lfs smudge -- %f"),
    ("filter.lfs.process", "git-lfs filter-process"),
    ("filter.lfs.required", "true"),
];

/// Git for one job.
pub(super) struct Git<'a> {
    context: &'a Context,
    remote: Remote,
    environment: Vec<(String, String)>,
    has_lfs: bool,
    _home: Home,
}

impl<'a> Git<'a> {
    /// Makes ready to run git for `context`'s job.
    pub(super) async fn new(context: &'a Context, correlation_id: Option<&str>) -> Result<Self, StageError> {
        let system = |message: String| StageError::new(FailureReason::RunnerSystemFailure, message);
        let Some(remote) = Remote::of(context) else {
            return Err(system("GitLab sent no URL to get the sources from".into()));
        };
        let home = Home::new(context).map_err(|error| system(format!("no home for git in the helper: {error}")))?;
        let mut configuration = configuration(context, &remote, correlation_id);
        let environment = environment(context, &configuration, &home);
        let mut git = Git { context, remote, environment, has_lfs: false, _home: home };
        git.has_lfs = git.status_in(&context.place.builds_dir, &["lfs", "version"], false).await?.success();
        if git.has_lfs {
            // An image may have it without `git lfs install --system`.
            for (key, value) in LFS_FILTER {
                configuration.add(key, value);
            }
            git.environment = self::environment(context, &configuration, &git._home);
        }
        Ok(git)
    }

    /// Whether the helper has git-lfs.
    pub(super) fn has_lfs(&self) -> bool {
        self.has_lfs
    }

    /// The repository's URL, without credentials.
    pub(super) fn url(&self) -> &str {
        &self.remote.url
    }

    pub(super) fn context(&self) -> &'a Context {
        self.context
    }

    /// What git needs besides the job's variables.
    pub(super) fn environment(&self) -> &[(String, String)] {
        &self.environment
    }

    /// Runs git in the project's directory; its words go to the log.
    pub(super) async fn run<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<(), StageError> {
        let status = self.status(arguments, true).await?;
        if status.success() {
            return Ok(());
        }
        let exit_code = child::exit_code(status);
        let what = arguments.first().map(|first| first.as_ref().to_string_lossy().into_owned()).unwrap_or_default();
        let message = self.explain(&what, exit_code);
        Err(StageError { exit_code: Some(exit_code), ..StageError::new(FailureReason::ScriptFailure, message) })
    }

    /// Whether git succeeds, without a word in the log.
    pub(super) async fn succeeds(&self, arguments: &[&str]) -> Result<bool, StageError> {
        Ok(self.status(arguments, false).await?.success())
    }

    /// Runs git and says whether it succeeded; its words go to the log.
    pub(super) async fn tries<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<bool, StageError> {
        Ok(self.status(arguments, true).await?.success())
    }

    /// What git writes; nothing if it fails.
    pub(super) async fn says(&self, arguments: &[&str]) -> Result<String, StageError> {
        let log = JobLog::default();
        let mut command = self.command(arguments);
        command.current_dir(&self.context.place.builds_dir);
        let status = child::run(command, self.context.child_user, None, Some(&log)).await.map_err(not_started)?;
        let words = String::from_utf8_lossy(&log.contents()).into_owned();
        Ok(if status.success() { words } else { String::new() })
    }

    async fn status<S: AsRef<OsStr>>(&self, arguments: &[S], told: bool) -> Result<ExitStatus, StageError> {
        self.status_in(&self.context.place.project_dir, arguments, told).await
    }

    async fn status_in<S: AsRef<OsStr>>(
        &self,
        directory: &Path,
        arguments: &[S],
        told: bool,
    ) -> Result<ExitStatus, StageError> {
        let mut command = self.command(arguments);
        command.current_dir(directory);
        let log = told.then_some(&self.context.log);
        child::run(command, self.context.child_user, None, log).await.map_err(not_started)
    }

    fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = child::command("git", self.context);
        command.envs(self.environment.iter().map(|(key, value)| (key, value))).args(arguments);
        command
    }

    fn explain(&self, what: &str, exit_code: i32) -> String {
        let url = &self.remote.url;
        match what {
            "fetch" => format!(
                "`git fetch` of `{url}` ended with exit code {exit_code}; git says why above: check that the helper \
                 reaches that host, and that whoever started the job may read the project"
            ),
            "submodule" => format!(
                "`git submodule` ended with exit code {exit_code}; git says why above: check the URLs in `.gitmodules`, \
                 and that their projects let the job token of this one in"
            ),
            "lfs" => format!("`git lfs` for `{url}` ended with exit code {exit_code}; it says why above"),
            _ => format!("`git {what}` in `{}` ended with exit code {exit_code}; git says why above", self.place()),
        }
    }

    fn place(&self) -> String {
        self.context.place.project_dir.display().to_string()
    }
}

/// Fetches and checks out what `settings` want.
pub(super) async fn get(git: &Git<'_>, settings: &Settings) -> Result<(), StageError> {
    let log = &git.context.log;
    if settings.native_clone && can_clone(git).await? {
        native_clone::clone(git, settings).await?;
    } else {
        match settings.depth {
            0 => log.notice("Fetching changes..."),
            depth => log.notice(&format!("Fetching changes with git depth set to {depth}...")),
        }
        initialize(git).await?;
        fetch(git, settings).await?;
    }
    if !settings.checkout {
        log.notice("Skipping Git checkout");
        return Ok(());
    }
    checkout(git).await?;
    if !settings.clean_flags.is_empty() {
        let mut clean = vec!["clean".to_owned()];
        clean.extend(settings.clean_flags.iter().cloned());
        git.run(&clean).await?;
    }
    if settings.lfs && git.has_lfs {
        log.notice("Pulling LFS files...");
        git.run(&["lfs", "pull"]).await?;
    }
    Ok(())
}

async fn initialize(git: &Git<'_>) -> Result<(), StageError> {
    let mut init = vec!["init", "--template="];
    if git.context.job.git.repo_object_format.as_deref() == Some("sha256") {
        init.extend(["--object-format", "sha256"]);
    }
    git.run(&init).await?;
    match git.succeeds(&["remote", "add", "origin", &git.remote.url]).await? {
        true => git.context.log.notice("Created fresh repository."),
        false => git.run(&["remote", "set-url", "origin", &git.remote.url]).await?,
    }
    Ok(())
}

async fn fetch(git: &Git<'_>, settings: &Settings) -> Result<(), StageError> {
    let mut fetch: Vec<String> = ["fetch", "origin", "--no-recurse-submodules"].map(str::to_owned).into();
    fetch.extend(git.context.job.git.refspecs.iter().filter(|refspec| !refspec.starts_with('-')).cloned());
    match settings.depth {
        0 if directory::is_shallow(&git.context.place) => fetch.push("--unshallow".into()),
        0 => {}
        depth => fetch.extend(["--depth".to_owned(), depth.to_string()]),
    }
    fetch.extend(settings.fetch_flags.iter().cloned());
    git.run(&fetch).await
}

async fn checkout(git: &Git<'_>) -> Result<(), StageError> {
    let (sha, ref_name) = (&git.context.job.git.sha, &git.context.job.git.ref_name);
    if sha.is_empty() || !sha.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let message = "GitLab sent no commit to check out";
        return Err(StageError::new(FailureReason::RunnerSystemFailure, message));
    }
    let short = sha.get(..8).unwrap_or(sha);
    git.context.log.notice(&format!("Checking out {short} as detached HEAD (ref is {ref_name})..."));
    git.run(&["-c", "submodule.recurse=false", "checkout", "-f", "-q", sha]).await
}

fn environment(context: &Context, configuration: &Configuration, home: &Home) -> Vec<(String, String)> {
    let mut environment = configuration.environment(&context.environment);
    let mut add = |key: &str, value: &str| environment.push((key.to_owned(), value.to_owned()));
    add("CI_JOB_TOKEN", context.job.token.expose_secret());
    add("GIT_TERMINAL_PROMPT", "0");
    add("GCM_INTERACTIVE", "Never");
    // Files come after the checkout, all at once.
    add("GIT_LFS_SKIP_SMUDGE", "1");
    add("HOME", &home.path().to_string_lossy());
    environment
}

/// What the helper's own git needs besides [`Configuration::shared`].
fn configuration(context: &Context, remote: &Remote, correlation_id: Option<&str>) -> Configuration {
    let mut all = Configuration::shared(context);
    for (key, value) in [
        ("core.hooksPath", "/dev/null"),
        ("core.fsmonitor", "false"),
        ("init.defaultBranch", "none"),
        ("fetch.recurseSubmodules", "false"),
        ("credential.interactive", "never"),
        ("gc.autoDetach", "false"),
        ("maintenance.autoDetach", "false"),
        ("advice.detachedHead", "false"),
        // Git holds a smaller file in memory as a whole. With its default of 512 MiB one file of 300 MB takes 286 MiB,
        // and the helper of the default task has 256.
        ("core.bigFileThreshold", "16m"),
    ] {
        all.add(key, value);
    }
    if context.variables.flag("FF_USE_GIT_BUNDLE_URIS", true) {
        all.add("transfer.bundleURI", "true");
    }
    all.add("http.userAgent", user_agent());
    let Some(origin) = &remote.origin else { return all };
    if let Some(id) = correlation_id {
        all.add(&format!("http.{origin}.extraHeader"), format!("X-Gitaly-Correlation-ID: {id}"));
    }
    // Of this host alone: others are not to see the token unasked.
    if context.variables.flag("FF_USE_GIT_PROACTIVE_AUTH", false) {
        all.add(&format!("http.{origin}.proactiveAuth"), "basic");
    }
    all
}

fn user_agent() -> String {
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    format!("mayfly/{} linux/{arch}", env!("CARGO_PKG_VERSION"))
}

fn not_started(error: io::Error) -> StageError {
    let message = format!("the helper cannot start `git`: {error}; its image has to bring it");
    StageError::new(FailureReason::RunnerSystemFailure, message)
}
