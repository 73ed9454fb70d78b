//! Two jobs of one pipeline against the sandbox's GitLab: git over HTTP with the job token, artifacts from the first to
//! the second.

#![cfg(feature = "sandbox")]

use std::fs;
use std::path::Path;
use std::process::Command;

use mayfly::agent::artifacts::{download_artifacts, upload_artifacts};
use mayfly::agent::broker_client::BrokerClient;
use mayfly::agent::context::{Context, Place};
use mayfly::agent::log::JobLog;
use mayfly::agent::sources::get_sources;
use mayfly::gitlab::{
    BuildPlace, Claimed, Job, JobClient, Outcome, RunnerClient, Sender, SystemInfo, http_client, job_variables,
    project_directory,
};
use mayfly::sandbox::gitlab::{GitLab, Options, RunnerSpec};
use url::Url;

const PIPELINE: &str = r#"
stages: [build, test]
build:
  stage: build
  script: [make]
  artifacts:
    paths: [out/]
    reports:
      junit: report.xml
    expire_in: 1 week
test:
  stage: test
  script: [make test]
"#;

fn git(directory: &Path, arguments: &[&str]) {
    let identity = ["-c", "user.name=t", "-c", "user.email=t@t.test"];
    let status = Command::new("git").args(identity).args(arguments).current_dir(directory).status().unwrap();
    assert!(status.success(), "{arguments:?}");
}

fn repository() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    git(directory.path(), &["init", "-q", "-b", "main"]);
    fs::write(directory.path().join(".gitlab-ci.yml"), PIPELINE).unwrap();
    git(directory.path(), &["add", "-A"]);
    git(directory.path(), &["commit", "-q", "-m", "one"]);
    directory
}

async fn claim(gitlab: &GitLab, token: &str) -> Job {
    let system = SystemInfo { system_id: "r_0123456789ab".into() };
    let runner = RunnerClient::new(&gitlab.url().parse().unwrap(), token.to_owned().into(), system, None).unwrap();
    // A claim right after a change of the queue may be asked to come again.
    for _ in 0..20 {
        if let Claimed::Job(body) = runner.claim().await.unwrap() {
            return Job::read(&body).unwrap();
        }
    }
    panic!("no job waits");
}

fn context(job: Job, gitlab: &str, builds: &Path) -> Context {
    let url: Url = gitlab.parse().unwrap();
    let builds_dir = builds.to_str().unwrap().to_owned();
    let variables = job_variables(
        &job,
        &BuildPlace { builds_dir: builds_dir.clone(), short_token: "abc".into(), ..BuildPlace::default() },
    );
    let environment = variables.iter().map(|variable| (variable.key.clone(), variable.value.clone())).collect();
    let project_dir = project_directory(&job, &builds_dir);
    let place = Place {
        builds_dir: builds.to_owned(),
        temp_dir: format!("{project_dir}.tmp").into(),
        project_dir: project_dir.into(),
    };
    let http = http_client(Sender::Helper).unwrap();
    let client = JobClient::new(http.clone(), &url, job.id, job.token.clone());
    Context {
        job,
        variables,
        environment,
        place,
        cache: Vec::new(),
        log: JobLog::default(),
        gitlab: client.clone(),
        gitlab_artifacts: client,
        broker: BrokerClient::new(http, url),
        child_user: None,
        settings: Default::default(),
    }
}

fn log(context: &Context) -> String {
    String::from_utf8(context.log.contents().to_vec()).unwrap()
}

#[tokio::test]
async fn what_one_job_made_the_next_one_finds_beside_its_sources() {
    let gitlab = GitLab::start(Options::default()).await.unwrap();
    let (origin, builds) = (repository(), tempfile::tempdir().unwrap());
    let token = gitlab.add_runner(RunnerSpec::default());
    let project = gitlab.add_project("group/app", origin.path());
    let pipeline = gitlab.run_pipeline(project, "main").unwrap();

    let first = context(claim(&gitlab, &token).await, &gitlab.url(), &builds.path().join("first"));
    fs::create_dir(&first.place.builds_dir).unwrap();
    get_sources(&first).await.unwrap_or_else(|error| panic!("{error}: {}", log(&first)));
    fs::create_dir(first.place.project_dir.join("out")).unwrap();
    fs::write(first.place.project_dir.join("out/made"), "by the first").unwrap();
    fs::write(first.place.project_dir.join("report.xml"), "<testsuites/>").unwrap();
    upload_artifacts(&first, false).await.unwrap_or_else(|error| panic!("{error}: {}", log(&first)));
    first.gitlab.finish(&Outcome::Success, 0, 0).await.unwrap();

    let second = context(claim(&gitlab, &token).await, &gitlab.url(), &builds.path().join("second"));
    fs::create_dir(&second.place.builds_dir).unwrap();
    get_sources(&second).await.unwrap();
    download_artifacts(&second).await.unwrap_or_else(|error| panic!("{error}: {}", log(&second)));

    let made = fs::read_to_string(second.place.project_dir.join("out/made")).unwrap();
    assert_eq!(made, "by the first");
    assert!(second.place.project_dir.join(".gitlab-ci.yml").exists());
    let artifacts = pipeline.job("build").unwrap().artifacts();
    let kinds: Vec<_> = artifacts.iter().map(|found| (found.kind.as_str(), found.filename.as_str())).collect();
    assert_eq!(kinds, [("archive", "artifacts.zip"), ("junit", "junit.xml.gz")]);
    assert!(artifacts.iter().all(|found| found.expire_in.as_deref() == Some("1 week")));
    assert_eq!(gitlab.violations(), Vec::<String>::new());
    assert!(!log(&first).contains("glcbt") && !log(&second).contains("glcbt"));
}
