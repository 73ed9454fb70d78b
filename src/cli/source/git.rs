//! Runs git in somebody's repository: with their configuration, without what a surrounding git says, asking nobody.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use thiserror::Error;

/// Variables that say where a person's own configuration lies; all other `GIT_…` come from a surrounding git.
const KEPT: [&str; 3] = ["GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM"];

/// git in one directory.
#[derive(Clone, Debug)]
pub(super) struct Git {
    directory: PathBuf,
    settings: Vec<OsString>,
    variables: Vec<(&'static str, OsString)>,
}

/// What git said instead of doing it.
#[derive(Debug, Error)]
pub(super) enum GitError {
    /// It could not be started.
    #[error("git could not be started: is it installed?")]
    Start(#[from] std::io::Error),
    /// It ended with an error.
    #[error("`git {command}` failed: {message}")]
    Failed {
        /// Its first word.
        command: String,
        /// What it printed.
        message: String,
    },
}

impl Git {
    pub(super) fn new(directory: &Path) -> Git {
        Git { directory: directory.to_owned(), settings: Vec::new(), variables: Vec::new() }
    }

    /// With a setting of its configuration.
    pub(super) fn set(mut self, setting: impl Into<OsString>) -> Git {
        self.settings.push(setting.into());
        self
    }

    /// With a variable in its environment.
    pub(super) fn with(mut self, name: &'static str, value: impl Into<OsString>) -> Git {
        self.variables.push((name, value.into()));
        self
    }

    /// What it prints, without the last line feed.
    pub(super) fn text<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<String, GitError> {
        self.feed(arguments, b"")
    }

    /// What it prints; `None` where it has no answer.
    pub(super) fn ask<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Option<String> {
        self.text(arguments).ok().filter(|text| !text.is_empty())
    }

    /// A path that it prints.
    pub(super) fn path<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<PathBuf, GitError> {
        use std::os::unix::ffi::OsStringExt;
        Ok(OsString::from_vec(self.bytes(arguments, b"")?).into())
    }

    /// What it prints for this input.
    pub(super) fn feed<S: AsRef<OsStr>>(&self, arguments: &[S], input: &[u8]) -> Result<String, GitError> {
        Ok(String::from_utf8_lossy(&self.bytes(arguments, input)?).into_owned())
    }

    fn bytes<S: AsRef<OsStr>>(&self, arguments: &[S], input: &[u8]) -> Result<Vec<u8>, GitError> {
        let mut command = self.command();
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let stdin = child.stdin.take();
        let output = std::thread::scope(|scope| {
            // Beside the reading, so that neither side waits for a full pipe. Who does not read its input says why itself.
            scope.spawn(move || stdin.is_some_and(|mut stdin| stdin.write_all(input).is_ok()));
            child.wait_with_output()
        })?;
        if output.status.success() {
            let mut bytes = output.stdout;
            if bytes.last() == Some(&b'\n') {
                bytes.pop();
            }
            return Ok(bytes);
        }
        let command = arguments.first().map(|word| word.as_ref().to_string_lossy().into_owned()).unwrap_or_default();
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().filter(|line| !line.starts_with("hint: ")).collect::<Vec<_>>().join("; ");
        let message = if said.is_empty() { output.status.to_string() } else { said };
        Err(GitError::Failed { command, message })
    }

    fn command(&self) -> Command {
        let mut command = Command::new("git");
        command.arg("-C").arg(&self.directory);
        for setting in &self.settings {
            command.arg("-c").arg(setting);
        }
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("GIT_") && !KEPT.contains(&text.as_ref()) {
                command.env_remove(&name);
            }
        }
        // Optional locks would refresh the user's index while somebody only looks.
        command.envs([("GIT_TERMINAL_PROMPT", "0"), ("GIT_OPTIONAL_LOCKS", "0"), ("LC_ALL", "C")]);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }
}
