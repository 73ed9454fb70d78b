//! Getting sources: strategies, flags, retries, and what never stands on a disk.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use mayfly::sandbox::gitlab::Variable;
use mayfly::sandbox::{Sandbox, Settings};
use tempfile::TempDir;

use crate::run::{Ended, jobs};
use crate::support::{Gate, agent, commit, in_time, repository};

/// A sandbox with the projects `group/…`, the first of which has the pipeline.
pub struct Projects {
    pub sandbox: Sandbox,
    pub project: u64,
    _repositories: Vec<TempDir>,
}

impl Projects {
    pub async fn start(repositories: Vec<(&str, TempDir)>) -> Projects {
        let sandbox =
            Sandbox::start(Settings { agent: Some(agent()), ..Settings::default() }).await.expect("it starts");
        let ids: Vec<u64> = repositories
            .iter()
            .map(|(name, repository)| sandbox.add_project(&format!("group/{name}"), repository.path()))
            .collect();
        ids.iter().skip(1).for_each(|id| sandbox.gitlab.allow_job_tokens(*id, ids[0]));
        let repositories = repositories.into_iter().map(|(_, repository)| repository).collect();
        Projects { sandbox, project: ids[0], _repositories: repositories }
    }

    pub async fn run(self) -> BTreeMap<String, Ended> {
        let pipeline = self.sandbox.gitlab.run_pipeline(self.project, "main").expect("the pipeline is read");
        in_time(pipeline.finished()).await;
        let ended = pipeline.jobs().iter().map(|job| (job.name(), Ended::of(job))).collect();
        self.end().await;
        ended
    }

    async fn end(self) {
        in_time(self.sandbox.ecs.all_stopped()).await;
        assert_eq!(self.sandbox.violations(), Vec::<String>::new());
        self.sandbox.shutdown().await;
    }
}

/// What git says in `directory`.
pub fn git(directory: &Path, arguments: &[&str]) -> String {
    let identity = ["-c", "user.name=Test", "-c", "user.email=test@example.com"];
    let output =
        Command::new("git").arg("-C").arg(directory).args(identity).args(arguments).output().expect("git runs");
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Whether the machine's git is at least this.
fn git_is(oldest: (u32, u32)) -> bool {
    let words = git(Path::new("."), &["version"]);
    let number = words.split_whitespace().nth(2).expect("a version");
    let mut parts = number.split('.').map(|part| part.parse().expect("a number"));
    (parts.next().expect("a number"), parts.next().expect("a number")) >= oldest
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strategy_decides_what_is_there() {
    let jobs = jobs(
        r#"
.job:
  hooks:
    pre_get_sources_script: ["mkdir -p group/app && touch group/app/left"]
  script: ["ls -A | tr '\n' ' '"]
clone: {extends: .job, variables: {GIT_STRATEGY: clone}}
fetch: {extends: .job, variables: {GIT_STRATEGY: $HOW, HOW: fetch}}
none: {extends: .job, variables: {GIT_STRATEGY: none}}
empty: {extends: .job, variables: {GIT_STRATEGY: empty}}
other: {extends: .job, variables: {GIT_STRATEGY: Clone}}
fetched:
  variables: {GIT_CHECKOUT: "false"}
  script: ["ls -A", "git cat-file -t $CI_COMMIT_SHA"]
"#,
    )
    .await;

    jobs["clone"].passed().says(&["Created fresh repository.", "01O .git .gitlab-ci.yml "]).never_says(&["left "]);
    jobs["fetch"].passed().says(&["Created fresh repository.", "Removing left", "01O .git .gitlab-ci.yml "]);
    let skipped = ["Skipping Git repository setup\u{1b}", "Skipping Git checkout", "Skipping Git submodules setup"];
    jobs["none"].passed().says(&skipped).never_says(&["01O .git", "left "]);
    let emptied = "Skipping Git repository setup and creating an empty build directory";
    jobs["empty"].passed().says(&[emptied, "Skipping Git checkout"]).never_says(&["01O .git"]);
    let warning = "WARNING: GIT_STRATEGY: expected either 'clone', 'fetch', 'none' or 'empty' got \"Clone\", using default \
                   value 'fetch'";
    jobs["other"].passed().says(&[warning, "Removing left"]);
    jobs["fetched"].passed().says(&["Skipping Git checkout", "01O .git\n", "01O commit"]).never_says(&["01O .gitlab"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn depth_flags_and_place_are_the_jobs_to_choose() {
    let app = repository(&[(
        ".gitlab-ci.yml",
        r#"
depth: {variables: {GIT_DEPTH: "2"}, script: ["echo 1 $(git rev-list --count HEAD)"]}
whole: {variables: {GIT_DEPTH: "0"}, script: ["echo 1 $(git rev-list --count HEAD)"]}
loud: {variables: {GIT_FETCH_EXTRA_FLAGS: none, GIT_CLEAN_FLAGS: none}, script: [pwd]}
quiet: {script: [pwd]}
kept:
  hooks: {pre_get_sources_script: ["mkdir -p group/app && touch group/app/left group/app/right"]}
  variables: {GIT_CLEAN_FLAGS: -ffdx -e left}
  script: [ls]
native:
  variables: {GIT_STRATEGY: clone, FF_USE_GIT_NATIVE_CLONE: "true", GIT_CLONE_EXTRA_FLAGS: --origin mine}
  script: ["git rev-parse HEAD", "git remote"]
elsewhere: {variables: {GIT_CLONE_PATH: $CI_BUILDS_DIR/else/where}, script: ["test $CI_PROJECT_DIR = $PWD", "echo 1 ${PWD#$CI_BUILDS_DIR}"]}
outside: {variables: {GIT_CLONE_PATH: $CI_BUILDS_DIR/../mine}, script: [pwd]}
itself: {variables: {GIT_CLONE_PATH: $CI_BUILDS_DIR/}, script: [pwd]}
"#,
    )]);
    for number in 0..3 {
        fs::write(app.path().join("number"), number.to_string()).expect("a file");
        commit(app.path());
    }
    let jobs = Projects::start(vec![("app", app)]).await.run().await;

    jobs["depth"].passed().says(&["Fetching changes with git depth set to 2...", "01O 1 2"]);
    jobs["whole"].passed().says(&["Fetching changes...", "01O 1 4"]);
    jobs["loud"].passed().says(&["01O From http://"]);
    jobs["quiet"].passed().never_says(&["From http://"]);
    jobs["kept"].passed().says(&["Removing right", "01O left"]).never_says(&["Removing left"]);
    let native = jobs["native"].passed();
    match git_is((2, 49)) {
        true => native.says(&["Cloning repository for main with git depth set to 20...", "01O mine"]),
        false => native.says(&["Fetching changes with git depth set to 20...", "01O origin"]),
    };
    jobs["elsewhere"].passed().says(&["01O 1 /else/where"]);
    jobs["outside"].failed("runner_configuration_error").says(&["the GIT_CLONE_PATH=", " has to be within "]);
    jobs["itself"].failed("runner_configuration_error").says(&["the GIT_CLONE_PATH=", " has to be within "]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_attempt_begins_with_an_empty_worktree() {
    let jobs = jobs(
        r#"
job:
  variables: {GET_SOURCES_ATTEMPTS: "2", FF_USE_EXPONENTIAL_BACKOFF_STAGE_RETRY: "false"}
  hooks:
    pre_get_sources_script:
      - mkdir -p group/app && touch group/app/left group/app/$(ls group/app | wc -l)
      - test -e again || { touch again; exit 3; }
  script: [ls -A]
locks:
  hooks:
    pre_get_sources_script:
      - git init -q group/app && cd group/app
      - git config core.fsmonitor "touch /tmp/never"
      - touch .git/index.lock .git/shallow.lock .git/config.lock .git/HEAD.lock .git/refs/heads/x.lock
  script: ["ls .git/*.lock || echo 1 none", "git config core.fsmonitor || echo 2 none"]
daemon:
  hooks:
    pre_get_sources_script:
      - "setsid sh -c 'echo $$ > pid; exec sleep 300' > /dev/null 2>&1 &"
      - while test ! -s pid; do sleep 0.05; done
      - kill -0 $(cat pid) && echo 1 lives
  script: ["kill -0 $(cat $CI_BUILDS_DIR/pid) 2>/dev/null || echo 2 gone"]
"#,
    )
    .await;

    jobs["job"].passed().says(&[
        "Getting source from Git repository",
        "WARNING: `hooks:pre_get_sources_script` ended with exit code 3. Retrying...",
        "Deleting all tracked and untracked files due to source fetch failure",
        "Deleting tracked and untracked files...",
        "Getting source from Git repository",
        "Created fresh repository.",
    ]);
    jobs["locks"].passed().says(&["Reinitialized existing Git repository", "1 none", "2 none"]);
    jobs["daemon"].passed().says(&["01O 1 lives", "01O 2 gone"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn git_authenticates_without_a_token_in_any_url() {
    let app = repository(&[(
        ".gitlab-ci.yml",
        r#"
.hooks:
  hooks:
    pre_get_sources_script:
      - "git config --get transfer.bundleURI || echo no bundles"
      - "git config --get-urlmatch http.proactiveAuth $CI_SERVER_URL || echo not proactive"
plain:
  extends: .hooks
  script:
    - git remote get-url origin
    - git config --list --show-origin | grep -c "$CI_JOB_TOKEN" || echo 1 no token
    - git fetch origin $CI_COMMIT_SHA && echo 2 fetched
    - GIT_CONFIG_COUNT=0 git ls-remote origin || echo 3 refused
flags:
  extends: .hooks
  variables:
    FF_GIT_URLS_WITHOUT_TOKENS: "true"
    FF_USE_GIT_PROACTIVE_AUTH: "true"
    FF_USE_GITALY_CORRELATION_ID: "false"
    FF_USE_GIT_BUNDLE_URIS: "false"
  script: [git remote get-url origin]
traced:
  variables: {GIT_TRACE_CURL: "1", GIT_TRACE_REDACT: "0"}
  script: [git remote get-url origin]
own:
  variables: {GIT_CONFIG_COUNT: "1", GIT_CONFIG_KEY_0: user.name, GIT_CONFIG_VALUE_0: me}
  script: ["git config user.name", "git ls-remote --exit-code origin HEAD"]
"#,
    )]);
    let jobs = Projects::start(vec![("app", app)]).await.run().await;

    jobs["plain"]
        .passed()
        .says(&["01O true", "01O not proactive", "Gitaly correlation ID: ", "01O http://127.0.0.1:"])
        .says(&["/group/app.git\n", "1 no token", "2 fetched", "3 refused"]);
    let header = "  feature flags: FF_GIT_URLS_WITHOUT_TOKENS:true, FF_USE_GITALY_CORRELATION_ID:false, ";
    jobs["flags"]
        .passed()
        .says(&[header, "01O no bundles", "01O basic", "01O http://127.0.0.1:"])
        .never_says(&["Gitaly correlation ID"]);
    jobs["traced"].passed().says(&["=> Send header: ", "Authorization: Basic [MASKED]"]);
    jobs["own"].passed().says(&["01O me", "\tHEAD"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_shown_unasked_only_where_the_job_says_so() {
    // An older git does not know how.
    let unasked = if git_is((2, 46)) { 1 } else { 2 };
    for (flag, expected) in [("false", 2), ("true", unasked)] {
        let job = format!("job: {{variables: {{FF_USE_GIT_PROACTIVE_AUTH: '{flag}'}}, script: [pwd]}}");
        let projects = Projects::start(vec![("app", repository(&[(".gitlab-ci.yml", &job)]))]).await;
        let traffic = projects.sandbox.traffic.clone();
        projects.run().await["job"].passed();

        let asked = traffic.seen().into_iter().filter(|seen| seen.path.contains("/info/refs"));
        assert_eq!(asked.filter(|seen| seen.user_agent.starts_with("mayfly/")).count(), expected, "{flag}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn proxies_and_certificates_are_gits_to_use() {
    let app = repository(&[(
        ".gitlab-ci.yml",
        r#"
proxy: {variables: {http_proxy: "http://127.0.0.1:1", no_proxy: "", NO_PROXY: ""}, script: [pwd]}
past: {variables: {http_proxy: "http://127.0.0.1:1", no_proxy: 127.0.0.1}, script: [pwd]}
certificates:
  script:
    - test "$(git config --get-urlmatch http.sslCAInfo $CI_SERVER_URL)" = "$CI_SERVER_TLS_CA_FILE"
    - test "$(git config --get-urlmatch http.sslCert $CI_SERVER_URL)" = "$CI_SERVER_TLS_CERT_FILE"
    - cat $CI_SERVER_TLS_CA_FILE $CI_SERVER_TLS_CERT_FILE
"#,
    )]);
    let projects = Projects::start(vec![("app", app)]).await;
    for (key, value) in [("CI_SERVER_TLS_CA_FILE", "damaged\n"), ("CI_SERVER_TLS_CERT_FILE", "mine")] {
        let file = Variable { key: key.into(), value: value.into(), file: true, ..Variable::default() };
        projects.sandbox.gitlab.set_variable(projects.project, file);
    }
    let jobs = projects.run().await;

    jobs["proxy"].failed("script_failure").says(&["01O fatal: unable to access", "port 1", "`git fetch` of"]);
    jobs["past"].passed();
    let warning = "WARNING: `CI_SERVER_TLS_CA_FILE` holds no certificate in PEM that can be read";
    jobs["certificates"].passed().says(&[warning, "01O damaged", "01O mine"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_may_count_with_sha256() {
    let app = tempfile::tempdir().expect("a directory");
    git(app.path(), &["init", "--quiet", "--initial-branch=main", "--object-format=sha256"]);
    let script = "job: {script: [git rev-parse --show-object-format, git rev-parse HEAD]}";
    fs::write(app.path().join(".gitlab-ci.yml"), script).expect("a file");
    commit(app.path());
    let head = git(app.path(), &["rev-parse", "HEAD"]);
    let jobs = Projects::start(vec![("app", app)]).await.run().await;

    jobs["job"].passed().says(&["01O sha256", &head]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_token_is_left_on_any_volume() {
    let gate = Gate::new();
    let pipeline = r#"
.job:
  cache: {key: k, paths: [out/]}
  artifacts: {paths: [out/], when: always}
  hooks: {pre_get_sources_script: ["git config --global user.name me"]}
  script: ["mkdir -p out && touch out/made", "git fetch -q origin $CI_COMMIT_SHA || true", "cat $FILE"]
clone: {extends: .job, variables: {GIT_STRATEGY: clone, GIT_SUBMODULE_STRATEGY: recursive}}
fetch: {extends: .job, variables: {GIT_STRATEGY: fetch, FF_USE_GIT_PROACTIVE_AUTH: "true"}}
none: {extends: .job, variables: {GIT_STRATEGY: none}}
empty: {extends: .job, variables: {GIT_STRATEGY: empty}}
native: {extends: .job, variables: {GIT_STRATEGY: clone, FF_USE_GIT_NATIVE_CLONE: "true"}}
failed: {extends: .job, after_script: ["false"], script: ["cat $FILE", "exit 3"]}
unfetched: {extends: .job, hooks: {pre_get_sources_script: ["exit 3"]}}
stopped: {extends: .job, hooks: {pre_get_sources_script: ["git config --global a.b $CI_JOB_TOKEN", "echo begun", WAIT]}}
cancelled: {extends: .job, script: ["echo begun", WAIT]}
aborted: {extends: .job, script: ["echo begun", WAIT]}
"#;
    let app = repository(&[(".gitlab-ci.yml", &pipeline.replace("WAIT", &gate.wait()))]);
    let projects = Projects::start(vec![("app", app)]).await;
    let sandbox = &projects.sandbox;
    sandbox.ecs.keep_volumes(true);
    let file = Variable { key: "FILE".into(), value: "content-of-a-file".into(), file: true, ..Variable::default() };
    sandbox.gitlab.set_variable(projects.project, file);
    let pipeline = sandbox.gitlab.run_pipeline(projects.project, "main").expect("the pipeline is read");
    pipeline.jobs().iter().for_each(|job| job.watch(true));
    let job = |name: &str| pipeline.job(name).expect("it is there");
    in_time(job("stopped").traced("01O begun")).await;
    in_time(job("cancelled").traced("01O begun")).await;
    in_time(job("aborted").traced("01O begun")).await;
    let running = ["stopped", "cancelled", "aborted"].map(job);
    let tokens: Vec<String> = running.iter().filter_map(|job| job.token()).collect();
    // The search finds what is there while the job runs.
    assert!(!places_of("content-of-a-file", sandbox).is_empty() && !places_of(&tokens[0], sandbox).is_empty());
    running.iter().for_each(|job| job.cancel());
    job("aborted").force_cancel();
    in_time(pipeline.finished()).await;
    in_time(sandbox.ecs.all_stopped()).await;

    let tokens: Vec<String> = pipeline.jobs().iter().filter_map(|job| job.token()).chain(tokens).collect();
    assert!(tokens.len() >= 10, "{} tokens", tokens.len());
    assert_eq!(job("fetch").status(), "success");
    assert_eq!(job("unfetched").status(), "failed");
    assert!(places_of("repositoryformatversion", sandbox).len() >= 5, "the volumes are there");
    for secret in tokens.iter().map(String::as_str).chain(["content-of-a-file"]) {
        assert_eq!(places_of(secret, sandbox), Vec::<String>::new());
    }
    projects.end().await;
}

/// The files on volumes of all tasks in which `text` stands.
fn places_of(text: &str, sandbox: &Sandbox) -> Vec<String> {
    let mut found = Vec::new();
    for task in sandbox.ecs.tasks() {
        for volume in ["builds", "agent"] {
            search(&sandbox.ecs.volume_dir(&task.arn, volume), text.as_bytes(), &mut found);
        }
    }
    found
}

fn search(directory: &Path, text: &[u8], found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => search(&path, text, found),
            Ok(kind) if kind.is_file() => {
                let bytes = fs::read(&path).unwrap_or_default();
                if bytes.windows(text.len()).any(|window| window == text) {
                    found.push(path.display().to_string());
                }
            }
            _ => {}
        }
    }
}
