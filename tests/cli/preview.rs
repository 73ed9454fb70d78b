//! `mayfly preview` and `mayfly check`: what Fargate would make of a pipeline, and what it would refuse.

use std::fs;

use insta::assert_snapshot;

use crate::support::User;

const PIPELINE: &str = "\
stages: [build, test, deploy]
kaniko:
  stage: build
  image: {name: 'gcr.io/kaniko-project/executor:debug', entrypoint: ['']}
  tags: [mayfly, cpu-4, mem-8g]
  script: ['/kaniko/executor --context $CI_PROJECT_DIR --destination app']
dind:
  stage: build
  image: docker:24
  services: ['docker:24-dind']
  variables: {DOCKER_HOST: 'tcp://docker:2375'}
  script: [docker build .]
socket:
  stage: build
  image: docker:24
  variables: {DOCKER_HOST: 'unix:///var/run/docker.sock'}
  script: [docker build .]
unit:
  stage: test
  image: python:$VERSION
  variables: {VERSION: '3.13', MAYFLY_MEMORY: 5g, MAYFLY_DISK: 40g}
  parallel: 2
  tags: [mayfly, spot, arm64, gpu]
  script: [pytest]
big:
  stage: test
  tags: [cpu-64, mayfli]
  variables: {MAYFLY_CPU: '64'}
  script: [make]
";

const FINE: &str = "\
kaniko:
  image: {name: 'gcr.io/kaniko-project/executor:debug', entrypoint: ['']}
  tags: [mayfly, cpu-4]
  script: ['/kaniko/executor --context $CI_PROJECT_DIR --destination app']
remote:
  script: [buildctl --addr tcp://buildkitd:1234 build]
";

#[test]
fn every_job_is_shown_with_its_task_and_every_refusal_with_its_sentence() {
    let user = User::of(PIPELINE);
    let done = user.mayfly(&["preview"]);
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""), "{}", done.out);
    assert_snapshot!("preview", user.normal(&done.out));
}

#[test]
fn a_check_fails_for_what_would_be_refused_or_is_misspelt() {
    let user = User::of(PIPELINE);
    let done = user.mayfly(&["check"]);
    assert_eq!((done.code, done.err.as_str()), (Some(1), ""), "{}", done.out);
    assert_snapshot!("check", user.normal(&done.out));
    assert_eq!(User::of("unit:\n  tags: [cpu4]\n  script: [make]\n").mayfly(&["check"]).code, Some(1));
}

#[test]
fn a_check_passes_for_what_runs_and_for_a_teams_own_tags() {
    let done = User::of(FINE).mayfly(&["check"]);
    assert_eq!(done.code, Some(0), "{}{}", done.out, done.err);
    assert_eq!(User::of("unit:\n  tags: [docker]\n  script: [make]\n").mayfly(&["check"]).code, Some(0));
}

#[test]
fn any_file_can_be_checked_in_the_context_of_its_repository() {
    let user = User::of("unit: {script: [make]}\n");
    user.write("ci/other.yml", "include: {local: ci/part.yml}\nother: {script: [make]}\n");
    user.write("ci/part.yml", "part: {image: 'docker:24', script: [docker -H unix:///x.sock ps]}\n");
    user.write("ci/wrong.yml", "other:\n  script: 1: 2: 3\n");

    let document = user.mayfly(&["preview", "ci/other.yml", "--json"]).json();
    let wrong = user.mayfly(&["check", "ci/wrong.yml"]);

    let names: Vec<&str> =
        document["jobs"].as_array().expect("jobs").iter().filter_map(|job| job["job"].as_str()).collect();
    assert_eq!(names, ["part", "other"], "{document}");
    assert!(document["jobs"][0]["refused"].as_str().expect("a sentence").contains("kaniko"), "{document}");
    assert_eq!(wrong.code, Some(2));
    assert!(wrong.err.starts_with("error: ci/wrong.yml: "), "{}", wrong.err);
}

#[test]
fn a_fleet_sets_region_ceilings_and_images() {
    let user = User::of("unit:\n  tags: [cpu-8]\n  script: [make]\nsmall:\n  script: [make]\n");
    let fleet = "\
region = 'eu-central-1'
[size]
max_cpu = '4'
[images]
default = 'alpine:3'
[[runners]]
name = 'team'
url = 'https://gitlab.test'
";
    let path = user.repository.path().join("fleet.toml");
    fs::write(&path, fleet).expect("a file");

    let done = user.mayfly(&["preview", "--fleet", "fleet.toml", "--json"]);

    let document = done.json();
    assert_eq!(document["region"], "eu-central-1");
    assert!(document["jobs"][0]["refused"].as_str().expect("a sentence").contains("size.max_cpu"), "{document}");
    assert_eq!(document["jobs"][1]["image"], "alpine:3");
    assert!(document["jobs"][1]["dollars_per_minute"].is_null(), "{document}");
}
