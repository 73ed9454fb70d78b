//! Sources, cache and artifacts, between jobs and pipelines.

use crate::support::{Story, in_time, trace};

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
