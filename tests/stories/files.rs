//! Sources, cache and artifacts, between jobs and pipelines.

use mayfly::sandbox::Settings;

use crate::support::{Story, agent, in_time, trace};

const SHARED_CACHE: &str = "
image: busybox:latest
stages: [build, test]
cache: {key: '${CI_COMMIT_REF_SLUG}', paths: [vendor/]}
before_script: [echo \"Before script section\"]
after_script: [echo \"After script section\"]
build1:
  stage: build
  script: [mkdir -p vendor, echo build > vendor/hello.txt]
test1:
  stage: test
  script: [cat vendor/hello.txt]
";

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_goes_from_one_jobs_machine_to_the_next() {
    let story = Story::start(SHARED_CACHE).await;
    let pipeline = story.run();
    in_time(pipeline.finished()).await;

    let test = pipeline.job("test1").expect("it is there");
    assert_eq!(pipeline.status(), "success", "{}", trace(&test));
    assert!(trace(&test).contains("Successfully extracted cache"), "{}", trace(&test));
    let keys = story.sandbox.s3.keys("cache");
    assert_eq!(keys.len(), 1, "{keys:?}");
    let project = story.project;
    assert!(
        keys[0].starts_with("runner/") && keys[0].ends_with(&format!("/project/{project}/main-protected")),
        "{keys:?}"
    );
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_outlives_its_sandbox_where_it_is_told_to_and_nothing_else_does() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = || Settings { agent: Some(agent()), cache: Some(folder.path().to_owned()), ..Settings::default() };
    let script = "build:\n  cache: {key: k, paths: [vendor/]}\n  script: [cat vendor/hello.txt || mkdir -p vendor, echo kept > vendor/hello.txt]\n";
    let first = Story::start_with(settings(), script).await;
    let job = first.run_job().await;
    assert_eq!(job.status(), "success", "{}", trace(&job));
    first.end().await;

    let second = Story::start_with(settings(), script).await;
    let job = second.run_job().await;

    assert!(trace(&job).contains("Successfully extracted cache"), "{}", trace(&job));
    second.end().await;
    let folders =
        std::fs::read_dir(folder.path().join("names")).expect("names").map(|entry| entry.expect("one").file_name());
    assert_eq!(folders.collect::<Vec<_>>(), ["cache"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn artifacts_go_to_gitlab_and_into_the_next_stage() {
    let pipeline = "
stages: [build, test]
build:
  stage: build
  script: [mkdir -p dist/deep, echo one > dist/a.txt, echo two > dist/deep/b.txt, echo no > dist/skip.log]
  artifacts: {name: \"$CI_JOB_NAME-files\", paths: [dist/], exclude: ['dist/*.log'], expire_in: 1 week}
test:
  stage: test
  script: [cat dist/a.txt, cat dist/deep/b.txt, '! test -e dist/skip.log']
";
    let story = Story::start(pipeline).await;
    let pipeline = story.run();
    in_time(pipeline.finished()).await;

    let (build, test) = (pipeline.job("build").expect("it is there"), pipeline.job("test").expect("it is there"));
    assert_eq!(pipeline.status(), "success", "{}\n{}", trace(&build), trace(&test));
    let artifact = build.artifacts().remove(0);
    assert_eq!((artifact.kind.as_str(), artifact.format.as_str()), ("archive", "zip"));
    assert_eq!(artifact.filename, "build-files.zip");
    assert_eq!(artifact.expire_in.as_deref(), Some("1 week"));
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sources_are_the_commit_of_the_pipeline_without_a_token_on_disk() {
    let script = "build:\n  script:\n    - git status --porcelain --ignored > ../status.txt\n    - test ! -s ../status.txt\n    - git rev-parse HEAD\n    - '! grep -r glcbt- .git'\n    - git fetch --quiet origin $CI_COMMIT_SHA\n";
    let story = Story::start(script).await;
    let pipeline = story.run();
    in_time(pipeline.finished()).await;
    let job = pipeline.jobs().remove(0);
    assert_eq!(job.status(), "success", "{}", trace(&job));
    assert!(trace(&job).contains(&pipeline.sha()), "{}", trace(&job));
    story.end().await;
}
