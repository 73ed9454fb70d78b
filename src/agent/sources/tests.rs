//! Sources from real repositories.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use base64::Engine;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::repository::Git;
use super::settings::Settings;
use super::{directory, native_clone};
use crate::agent::context::{Context, User};
use crate::agent::stages::get_sources;
use crate::agent::testing::{Job, context};
use crate::gitlab::FailureReason;

/// A repository with three commits, the last of which GitLab's pipeline 1 is for, and a place for jobs.
struct Origin {
    root: tempfile::TempDir,
}

impl Origin {
    fn new() -> Self {
        let origin = Origin { root: tempfile::tempdir().unwrap() };
        // An unprivileged git has to get in.
        fs::set_permissions(origin.root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        origin.repository("app");
        for number in ["one", "two", "three"] {
            fs::write(origin.path("app").join("file"), number).unwrap();
            origin.commit("app", number);
        }
        origin.git("app", &["update-ref", "refs/pipelines/1", "HEAD"]);
        origin
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join("origin").join(name)
    }

    fn builds(&self) -> PathBuf {
        self.root.path().join("builds")
    }

    fn repository(&self, name: &str) {
        fs::create_dir_all(self.path(name)).unwrap();
        fs::create_dir_all(self.builds()).unwrap();
        fs::set_permissions(self.builds(), fs::Permissions::from_mode(0o777)).unwrap();
        self.git(name, &["init", "-q", "-b", "main"]);
    }

    fn commit(&self, name: &str, message: &str) {
        self.git(name, &["add", "-A"]);
        self.git(name, &["-c", "user.name=t", "-c", "user.email=t@t.test", "commit", "-q", "-m", message]);
    }

    fn git(&self, name: &str, arguments: &[&str]) -> String {
        let mut command = Command::new("git");
        let run = command.args(arguments).current_dir(self.path(name)).env("GIT_ALLOW_PROTOCOL", "file");
        let output = run.output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn job(&self, depth: u64, more: Value) -> Job {
        let mut fields = json!({
            "allow_git_fetch": true,
            "git_info": {
                "repo_url": format!("file://{}", self.path("app").display()), "sha": self.git("app", &["rev-parse", "HEAD"]),
                "ref": "main", "ref_type": "branch", "depth": depth,
                "refspecs": ["+refs/pipelines/1:refs/pipelines/1", "+refs/heads/main:refs/remotes/origin/main"],
            },
        });
        fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Job::new(fields).within(&self.builds())
    }
}

/// What every attempt begins with.
const HEADLINE: &str = "\x1b[0K\x1b[36;1mGetting source from Git repository\x1b[0;m\n";

fn log(context: &Context) -> String {
    String::from_utf8(context.log.contents().to_vec()).unwrap()
}

fn in_project(context: &Context, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "safe.directory=*"])
        .args(arguments)
        .current_dir(&context.place.project_dir)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn file(context: &Context, path: &str) -> Option<String> {
    fs::read_to_string(context.place.project_dir.join(path)).ok()
}

/// Each file below `directory`.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() && !path.is_symlink() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found
}

#[tokio::test]
async fn the_jobs_commit_is_checked_out_and_the_log_says_so_in_gitlab_runners_words() {
    let origin = Origin::new();
    let job = origin.job(2, json!({})).variable("FF_USE_GITALY_CORRELATION_ID", "false");
    // Whether this machine has git-lfs does not matter then.
    let context = context(job.variable("GIT_LFS_SKIP_SMUDGE", "true"));

    get_sources(&context).await.unwrap();

    assert_eq!(file(&context, "file").as_deref(), Some("three"));
    assert_eq!(in_project(&context, &["rev-list", "--count", "HEAD"]), "2");
    assert_eq!(in_project(&context, &["rev-parse", "--abbrev-ref", "HEAD"]), "HEAD");
    let sha = origin.git("app", &["rev-parse", "HEAD"]);
    let green = |text: &str| format!("\x1b[32;1m{text}\x1b[0;m\n");
    let expected = [
        HEADLINE.to_owned(),
        green("Fetching changes with git depth set to 2..."),
        format!("Initialized empty Git repository in {}/.git/\n", context.place.project_dir.display()),
        green("Created fresh repository."),
        green(&format!("Checking out {} as detached HEAD (ref is main)...", &sha[..8])),
        green("Skipping Git submodules setup"),
    ];
    assert_eq!(log(&context), expected.concat());
}

#[tokio::test]
async fn fetching_cleans_what_git_does_not_know_and_deepens_a_shallow_repository() {
    let origin = Origin::new();
    let first = context(origin.job(1, json!({})));
    get_sources(&first).await.unwrap();
    fs::write(first.place.project_dir.join("left"), "").unwrap();
    fs::write(first.place.project_dir.join("file"), "changed").unwrap();
    fs::write(first.place.project_dir.join(".git/index.lock"), "").unwrap();

    let second = context(origin.job(0, json!({})));
    get_sources(&second).await.unwrap();

    assert_eq!((file(&second, "file").as_deref(), file(&second, "left")), (Some("three"), None));
    assert_eq!(in_project(&second, &["rev-list", "--count", "HEAD"]), "3");
    assert!(log(&second).contains("Removing left\n"), "{}", log(&second));
    assert!(log(&second).contains("Fetching changes...") && log(&second).contains("Gitaly correlation ID: "));
}

#[tokio::test]
async fn a_clone_begins_from_nothing_and_flags_may_keep_files() {
    let origin = Origin::new();
    for (strategy, clean, stays) in [("clone", "", false), ("fetch", "none", true), ("fetch", "-ffdx -e left", true)] {
        let job = origin.job(1, json!({})).variable("GIT_STRATEGY", strategy).variable("GIT_CLEAN_FLAGS", clean);
        let context = context(job);
        fs::create_dir_all(&context.place.project_dir).unwrap();
        fs::write(context.place.project_dir.join("left"), "").unwrap();

        get_sources(&context).await.unwrap();

        assert_eq!(file(&context, "left").is_some(), stays, "{strategy} {clean}");
    }
}

#[tokio::test]
async fn a_native_clone_brings_the_branch_and_checks_nothing_out() {
    let origin = Origin::new();
    let job = origin.job(2, json!({})).variable("GIT_STRATEGY", "clone").variable("FF_USE_GIT_NATIVE_CLONE", "true");
    let context = context(job.variable("GIT_CLONE_EXTRA_FLAGS", "--origin mine"));
    directory::make(&context.place, None).unwrap();
    // Whatever this machine's git is: a branch is cloned by any.
    let git = Git::new(&context, None).await.unwrap();
    native_clone::clone(&git, &Settings::read(&context).unwrap()).await.unwrap();

    assert_eq!(in_project(&context, &["rev-list", "--count", "HEAD"]), "2");
    assert_eq!(in_project(&context, &["rev-parse", "HEAD"]), origin.git("app", &["rev-parse", "HEAD"]));
    assert_eq!(in_project(&context, &["remote"]), "mine");
    assert!(file(&context, "file").is_none() && !context.place.project_dir.join(".git/hooks").exists());
    let said = "\x1b[32;1mCloning repository for main with git depth set to 2...\x1b[0;m\nCloning into '.'...\n";
    assert_eq!(log(&context), said);
}

#[tokio::test]
async fn without_a_checkout_there_are_commits_and_no_files() {
    let origin = Origin::new();
    let context = context(origin.job(1, json!({})).variable("GIT_CHECKOUT", "false"));
    get_sources(&context).await.unwrap();
    assert_eq!(file(&context, "file"), None);
    assert_eq!(in_project(&context, &["rev-list", "--count", "refs/pipelines/1"]), "1");
    assert!(log(&context).contains("Skipping Git checkout"));
}

#[tokio::test]
async fn a_large_file_is_fetched_and_checked_out_in_little_memory() {
    const SIZE: u64 = 96 << 20;
    let origin = Origin::new();
    // The other side of the connection is a child of the limited shell, too.
    origin.git("app", &["config", "core.bigFileThreshold", "1m"]);
    origin.git("app", &["config", "core.compression", "0"]);
    fs::File::create(origin.path("app").join("large")).unwrap().set_len(SIZE).unwrap();
    origin.commit("app", "large");
    let context = context(origin.job(1, json!({})));
    directory::make(&context.place, None).unwrap();
    let git = Git::new(&context, None).await.unwrap();

    let script = "ulimit -d 65536 && git init -q && git fetch -q \"$0\" main && git checkout -q FETCH_HEAD";
    let mut limited = Command::new("sh");
    limited.args(["-c", script, git.url()]).current_dir(&context.place.project_dir);
    let status = limited.envs(git.environment().iter().cloned()).status().unwrap();

    assert!(status.success(), "{status}");
    assert_eq!(fs::metadata(context.place.project_dir.join("large")).unwrap().len(), SIZE);
}

#[tokio::test]
async fn strategies_without_git_leave_or_empty_the_directory() {
    let origin = Origin::new();
    for (strategy, stays, said) in [
        ("none", true, "Skipping Git repository setup\x1b"),
        ("empty", false, "Skipping Git repository setup and creating an empty build directory\x1b"),
    ] {
        let hooks = json!({"hooks": [{"name": "pre_get_sources_script", "script": ["exit 1"]}]});
        let context = context(origin.job(1, hooks).variable("GIT_STRATEGY", strategy));
        fs::create_dir_all(&context.place.project_dir).unwrap();
        fs::write(context.place.project_dir.join("left"), "").unwrap();

        get_sources(&context).await.unwrap();

        assert_eq!(file(&context, "left").is_some(), stays, "{strategy}");
        assert!(log(&context).contains(said), "{}", log(&context));
        assert!(!context.place.project_dir.join(".git").exists());
    }
}

#[tokio::test]
async fn no_token_lies_anywhere_when_the_sources_are_there() {
    let origin = Origin::new();
    let context = context(origin.job(0, json!({})));
    get_sources(&context).await.unwrap();
    let files = files(origin.root.path());
    assert!(files.len() > 10);
    for path in files {
        let content = fs::read(&path).unwrap();
        assert!(!content.windows(12).any(|bytes| bytes == b"glcbt-secret"), "{}", path.display());
    }
}

#[tokio::test]
async fn what_is_planted_in_an_old_repository_does_not_run() {
    let origin = Origin::new();
    let first = context(origin.job(1, json!({})));
    get_sources(&first).await.unwrap();
    let (git, mark) = (first.place.project_dir.join(".git"), origin.root.path().join("mark"));
    let script = origin.root.path().join("script");
    fs::write(&script, format!("#!/bin/sh\n: > '{}'\n", mark.display())).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir_all(git.join("hooks")).unwrap();
    for hook in ["post-checkout", "reference-transaction", "post-index-change"] {
        fs::copy(&script, git.join("hooks").join(hook)).unwrap();
    }
    in_project(&first, &["config", "core.fsmonitor", script.to_str().unwrap()]);
    let _ = fs::remove_file(&mark);

    get_sources(&context(origin.job(1, json!({})))).await.unwrap();

    assert!(!mark.exists());
}

#[tokio::test]
async fn hooks_run_around_and_see_the_jobs_variables() {
    let origin = Origin::new();
    let hooks = json!({"hooks": [
        {"name": "pre_get_sources_script", "script": ["echo \"$WORD\"; pwd", "git config --global alias.mine 'rev-parse HEAD'"]},
        {"name": "post_get_sources_script", "script": ["cat file", "git mine > made"]},
    ]});
    let context = context(origin.job(1, hooks).variable("WORD", "it's"));

    get_sources(&context).await.unwrap();

    let text = log(&context);
    let before = format!("it's\n{}\n", origin.builds().display());
    let begin = format!("{HEADLINE}\x1b[32;1m$ echo \"$WORD\"; pwd\x1b[0;m\n");
    assert!(text.starts_with(&begin) && text.contains(&before), "{text}");
    assert!(text.ends_with("\x1b[0;m\nthree\x1b[32;1m$ git mine > made\x1b[0;m\n"), "{text}");
    assert_eq!(file(&context, "made").unwrap().trim(), origin.git("app", &["rev-parse", "HEAD"]));
}

#[tokio::test]
async fn a_failing_hook_fails_the_job_with_its_exit_code() {
    let origin = Origin::new();
    let hooks = json!({"hooks": [{"name": "pre_get_sources_script", "script": ["(exit 9)", "echo no"]}]});
    let context = context(origin.job(1, hooks));
    let error = get_sources(&context).await.unwrap_err();
    assert_eq!((error.reason, error.exit_code), (FailureReason::ScriptFailure, Some(9)));
    assert!(!log(&context).contains("no\n") && file(&context, "file").is_none());
}

#[tokio::test]
async fn a_repository_that_is_not_there_fails_the_job_by_name_after_all_attempts() {
    let origin = Origin::new();
    let job = origin.job(1, json!({})).variable("FF_USE_EXPONENTIAL_BACKOFF_STAGE_RETRY", "false");
    let context = context(job.variable("GET_SOURCES_ATTEMPTS", "2"));
    fs::remove_dir_all(origin.path("app")).unwrap();

    let error = get_sources(&context).await.unwrap_err();

    assert_eq!((error.reason, error.exit_code), (FailureReason::ScriptFailure, Some(128)));
    assert!(error.message.contains(&format!("`file://{}`", origin.path("app").display())), "{error}");
    assert_eq!(log(&context).matches("Deleting all tracked and untracked files").count(), 1);
    assert_eq!(log(&context).matches("Retrying...").count(), 1);
    assert_eq!(log(&context).matches("Created fresh repository.").count(), 2);
    let stages =
        [HEADLINE, "WARNING: ", "Deleting all tracked and untracked files due to source fetch failure", HEADLINE];
    stages.into_iter().fold(log(&context).as_str(), |rest, stage| rest.split_once(stage).expect(stage).1);
}

#[tokio::test]
async fn submodules_come_as_deep_as_the_job_wants() {
    let origin = Origin::new();
    for (name, inner) in [("deep", None), ("lib", Some("deep")), ("app", Some("lib"))] {
        if name != "app" {
            origin.repository(name);
            fs::write(origin.path(name).join("in"), name).unwrap();
        }
        if let Some(inner) = inner {
            let url = format!("file://{}", origin.path(inner).display());
            origin.git(name, &["submodule", "--quiet", "add", &url, inner]);
        }
        origin.commit(name, "made");
    }
    origin.git("app", &["update-ref", "refs/pipelines/1", "HEAD"]);
    for (strategy, lib, deep) in [("none", false, false), ("normal", true, false), ("recursive", true, true)] {
        let job = origin.job(1, json!({})).variable("GIT_SUBMODULE_STRATEGY", strategy);
        let context = context(job.variable("GIT_ALLOW_PROTOCOL", "file").variable("GIT_STRATEGY", "clone"));

        get_sources(&context).await.unwrap();

        let found = (file(&context, "lib/in").is_some(), file(&context, "lib/deep/in").is_some());
        assert_eq!(found, (lib, deep), "{strategy}: {}", log(&context));
        assert_eq!(log(&context).contains("Updated submodules"), lib);
    }
}

#[tokio::test]
async fn git_runs_as_somebody_else_where_the_helper_is_root() {
    // Only root can be somebody else.
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let origin = Origin::new();
    // The origin is root's: git on its side asks for the word of whoever runs it.
    let script = json!(["id -u", "git config --global safe.directory '*'"]);
    let hooks = json!({"hooks": [{"name": "pre_get_sources_script", "script": script}]});
    let mut context = context(origin.job(1, hooks));
    context.child_user = Some(User { uid: 61_000, gid: 61_000 });

    get_sources(&context).await.unwrap();

    assert!(log(&context).contains("\n61000\n"), "{}", log(&context));
    let owner = |path: &str| fs::metadata(context.place.project_dir.join(path)).unwrap().uid();
    assert_eq!((owner(""), owner("file"), owner(".git/config")), (61_000, 61_000, 61_000));
}

#[tokio::test]
async fn git_shows_the_job_token_to_the_jobs_host_alone() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let mut heads = Vec::new();
        // Without credentials, then with them: git asks again on the same connection or on a new one.
        while heads.len() < 2 {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (mut head, mut buffer) = (String::new(), [0; 4096]);
            while let Ok(n @ 1..) = stream.read(&mut buffer).await {
                head.push_str(&String::from_utf8_lossy(&buffer[..n]));
                if head.ends_with("\r\n\r\n") {
                    heads.push(std::mem::take(&mut head));
                    let status = if heads.len() == 1 { "401 Unauthorized" } else { "403 Forbidden" };
                    let answer = format!(
                        "HTTP/1.1 {status}\r\nWWW-Authenticate: Basic realm=\"GitLab\"\r\nContent-Length: 0\r\n\r\n"
                    );
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            }
        }
        heads
    });
    let builds = tempfile::tempdir().unwrap();
    let url = format!("http://gitlab-ci-token:glcbt-secret@{host}/group/app.git");
    let info = json!({"git_info": {"repo_url": url, "sha": "ab", "refspecs": ["+refs/heads/main:refs/heads/main"]}});
    let context = context(Job::new(info).within(builds.path()));

    let error = get_sources(&context).await.unwrap_err();

    let heads = tokio::time::timeout(Duration::from_secs(20), server).await.unwrap().unwrap();
    let credentials = base64::prelude::BASE64_STANDARD.encode("gitlab-ci-token:glcbt-secret");
    assert!(!heads[0].to_lowercase().contains("authorization"), "{}", heads[0]);
    assert!(heads[1].contains(&format!("Authorization: Basic {credentials}\r\n")), "{}", heads[1]);
    let agent = format!("User-Agent: mayfly/{} linux/", env!("CARGO_PKG_VERSION"));
    assert!(heads.iter().all(|head| head.contains(&agent) && head.contains("X-Gitaly-Correlation-ID: ")));
    assert!(error.message.contains(&format!("`http://{host}/group/app.git`")), "{error}");
    assert!(!log(&context).contains("glcbt-secret"));
}
