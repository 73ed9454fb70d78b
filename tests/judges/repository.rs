//! Makes a git repository of a fixture, and what starts a pipeline in it, the same for ours and for others.

#![allow(dead_code, reason = "each test asks for a part of it")]

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use mayfly::pipeline::{Request, Tree};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::process::Command;

use crate::tools::run;

/// `events.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Events {
    events: BTreeMap<String, Event>,
    fixtures: BTreeMap<String, Vec<String>>,
    refused: BTreeMap<String, String>,
}

/// What starts a pipeline, beside a push to `main`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    #[serde(default)]
    pub set: BTreeMap<String, String>,
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    #[serde(default)]
    pub unset: Vec<String>,
    #[serde(default)]
    changed: Vec<String>,
    #[serde(default = "yes")]
    compare: bool,
}

fn yes() -> bool {
    true
}

impl Events {
    pub fn read() -> Events {
        toml::from_str(&fs::read_to_string(pipelines().join("events.toml")).expect("events.toml")).expect("TOML")
    }

    /// The events that `fixture` is judged at, by name.
    pub fn of(&self, fixture: &str) -> Vec<(&str, &Event)> {
        let more = self.fixtures.get(fixture).into_iter().flatten().map(String::as_str);
        ["push"].into_iter().chain(more).map(|name| (name, &self.events[name])).collect()
    }

    pub fn push(&self) -> &Event {
        &self.events["push"]
    }

    /// What ours says instead of making a pipeline.
    pub fn refused(&self, fixture: &str, event: &str) -> Option<&str> {
        self.refused.get(&format!("{fixture} {event}")).map(String::as_str)
    }
}

/// Where the fixtures are.
pub fn pipelines() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pipelines")
}

/// The names of the fixtures.
pub fn fixtures() -> Vec<String> {
    let entries = fs::read_dir(pipelines()).expect("fixtures").map(|entry| entry.expect("an entry"));
    let folders = entries.filter(|entry| entry.path().is_dir());
    let mut names: Vec<String> = folders.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// A repository with one commit, whose remote has the same.
pub struct Repository {
    room: TempDir,
    head: String,
    files: Vec<(String, String)>,
    texts: HashMap<String, String>,
}

impl Repository {
    /// The repository of one fixture.
    pub async fn of(fixture: &str) -> Repository {
        Repository::with(|root| copy(&pipelines().join(fixture), root)).await
    }

    /// The repository of one file.
    pub async fn of_file(file: &Path) -> Repository {
        let text = fs::read(file).expect("a file");
        Repository::with(|root| fs::write(root.join(".gitlab-ci.yml"), text).expect("a copy")).await
    }

    async fn with(fill: impl FnOnce(&Path)) -> Repository {
        let room = tempfile::tempdir().expect("a room");
        let mut repository = Repository { room, head: String::new(), files: Vec::new(), texts: HashMap::new() };
        fs::create_dir(repository.root()).expect("a root");
        fill(&repository.root());
        repository.git(&["init", "--quiet", "-b", "main"]).await;
        repository.git(&["remote", "add", "origin", "https://gitlab.example.com/group/project.git"]).await;
        repository.git(&["add", "--all", "--force"]).await;
        repository.git(&["commit", "--quiet", "-m", "Everything"]).await;
        repository.git(&["update-ref", "refs/remotes/origin/main", "HEAD"]).await;
        repository.git(&["symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/main"]).await;
        repository.head = repository.git(&["rev-parse", "HEAD"]).await.trim().to_owned();
        for line in repository.git(&["ls-tree", "-r", "-z", "HEAD"]).await.split_terminator('\0') {
            let (entry, path) = line.split_once('\t').expect("an entry and its path");
            let id = entry.rsplit(' ').next().expect("an id");
            let text = fs::read_to_string(repository.root().join(path)).expect("text");
            repository.files.push((path.to_owned(), id.to_owned()));
            repository.texts.insert(path.to_owned(), text);
        }
        repository
    }

    /// What its files say.
    pub fn texts(&self) -> impl Iterator<Item = &String> {
        self.texts.values()
    }

    fn root(&self) -> PathBuf {
        self.room.path().join("project")
    }

    /// `program` in the repository, knowing nothing of whoever runs it.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.root()).env_clear().env("HOME", self.room.path());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
        for who in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{who}_NAME"), "Somebody").env(format!("GIT_{who}_EMAIL"), "somebody@example.com");
            command.env(format!("GIT_{who}_DATE"), "2026-01-01T00:00:00Z");
        }
        command
    }

    async fn git(&self, arguments: &[&str]) -> String {
        String::from_utf8(run(self.command("git").args(arguments)).await.stdout).expect("text")
    }

    /// The files that `event` changes here.
    fn changed(&self, event: &Event) -> Vec<String> {
        event.changed.iter().filter(|path| self.texts.contains_key(*path)).cloned().collect()
    }

    /// Changes the working tree as `event` does; gitlab-ci-local compares that with the remote's main branch.
    pub fn change(&self, event: &Event) {
        for (path, text) in &self.texts {
            let end = if event.changed.contains(path) { "\n# changed\n" } else { "" };
            fs::write(self.root().join(path), format!("{text}{end}")).expect("a change");
        }
    }

    /// What ours is asked at `event`.
    pub fn request<'a>(&'a self, event: &'a Event) -> Request<'a> {
        Request {
            path: ".gitlab-ci.yml",
            variables: variables(event),
            settings: event.settings.clone().into_iter().collect(),
            inputs: Vec::new(),
            tree: Tree {
                files: self.files.clone(),
                changed: event.compare.then(|| self.changed(event)),
                read: Box::new(|path| self.texts.get(path).cloned()),
                changed_since: Box::new(|_| Some(self.changed(event))),
                last_commit: Box::new(|path| self.texts.contains_key(path).then(|| self.head.clone())),
            },
        }
    }
}

fn variables(event: &Event) -> Vec<(String, String)> {
    let push = [
        ("CI", "true"),
        ("GITLAB_CI", "true"),
        ("CI_PIPELINE_SOURCE", "push"),
        ("CI_COMMIT_BRANCH", "main"),
        ("CI_COMMIT_REF_NAME", "main"),
        ("CI_COMMIT_REF_SLUG", "main"),
        ("CI_COMMIT_MESSAGE", "Everything"),
        ("CI_DEFAULT_BRANCH", "main"),
        ("CI_PROJECT_DIR", "/builds/group/project"),
    ];
    let push = push.iter().filter(|(name, _)| !event.unset.iter().any(|unset| unset == name));
    let set = event.set.iter().map(|(name, value)| (name.clone(), value.clone()));
    push.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).chain(set).collect()
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir(&target).expect("a folder");
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a copy");
        }
    }
}
