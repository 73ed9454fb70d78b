//! Images, sizes, and what Fargate cannot do.

use mayfly::sandbox::Settings;
use mayfly::sandbox::gitlab::Variable;

use crate::run::{Ended, job, jobs, jobs_with};
use crate::support::{Story, in_time};

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_expanded_and_its_entry_point_is_the_shells() {
    let jobs = jobs(
        "
variables: {TAG: '3.20', ONE_PASS: $TAG}
plain:
  image: 'alpine:$TAG'
  script: ['echo \"<$CI_JOB_IMAGE>\"']
ignored:
  image: {name: 'alpine:$ONE_PASS', entrypoint: [/does-not-exist]}
  script: [echo ran]
honoured:
  image: {name: 'alpine', entrypoint: [sh, -c, 'FROM_ENTRYPOINT=yes; export FROM_ENTRYPOINT; exec \"$@\"', --]}
  variables: {FF_KUBERNETES_HONOR_ENTRYPOINT: 'true'}
  script: ['echo \"<$FROM_ENTRYPOINT>\"']
nonsense: {image: 'alpine:$NOPE 1', script: [echo ran]}
",
    )
    .await;
    jobs["plain"].passed().says(&["Image: alpine:3.20", "O <alpine:3.20>"]);
    jobs["ignored"].passed().says(&["O ran"]);
    jobs["honoured"].passed().says(&["O <yes>"]);
    jobs["nonsense"].failed("runner_configuration_error").says(&["is no image name that can be pulled"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn user_and_platform_are_the_tasks() {
    let jobs = jobs(
        "
both:
  image: {name: alpine, docker: {user: 'dave', platform: linux/amd64}, kubernetes: {user: '$ID:1000'}}
  variables: {ID: '1000'}
  script: [echo ran]
named: {image: {name: alpine, docker: {user: 'no user'}}, script: [echo ran]}
letters: {image: {name: alpine, kubernetes: {user: dave}}, script: [echo ran]}
windows: {image: {name: a, docker: {platform: windows/amd64}}, script: [echo ran]}
arm: {image: {name: a, docker: {platform: linux/arm64}}, script: [echo ran]}
twice: {image: {name: a, docker: {platform: linux/arm64}}, tags: [amd64], script: [echo ran]}
",
    )
    .await;
    jobs["both"].passed();
    for (job, said) in [
        ("named", "`no user` is no user that a container can run as"),
        ("letters", "`dave` is no user that a container can run as"),
        ("windows", "Fargate has no machine for `platform: windows/amd64`"),
        ("arm", "this deployment has no agent for arm64"),
        ("twice", "`platform: linux/arm64` and the tag or variable for amd64 contradict each other"),
    ] {
        jobs[job].failed("runner_configuration_error").says(&[said]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_policy_but_never_is_a_pull() {
    let jobs = jobs(
        "
always: {image: {name: a, pull_policy: always}, script: [echo ran]}
if_not_present: {image: {name: a, pull_policy: [if-not-present, never]}, script: [echo ran]}
never: {image: {name: a, pull_policy: never}, script: [echo ran]}
",
    )
    .await;
    jobs["always"].passed();
    jobs["if_not_present"].passed();
    jobs["never"]
        .failed("runner_configuration_error")
        .says(&["`pull_policy: never` cannot be kept: a Fargate task starts on a new machine and pulls every image"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_a_privileged_machine_is_refused_with_the_way_out() {
    let jobs = jobs(
        "
dind: {image: docker, services: ['docker:dind'], script: [docker build .]}
socket: {image: docker, script: [docker -H unix:///var/run/docker.sock ps]}
remote: {image: docker, variables: {DOCKER_HOST: 'tcp://build.test:2376'}, script: [echo ran]}
",
    )
    .await;
    jobs["dind"].failed("runner_configuration_error").says(&["which Fargate has not: build images with kaniko"]);
    jobs["socket"].failed("runner_configuration_error").says(&["names the host's Docker socket", "kaniko"]);
    jobs["remote"].passed();
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_of_the_job_come_too_late_and_the_log_says_so() {
    let settings = Settings {
        fleet: Box::new(|fleet| {
            let registry = |host: &str, projects: &[u64]| mayfly::config::Registry {
                host: host.into(),
                credentials: "arn:aws:secretsmanager:us-east-1:123456789012:secret:registry".into(),
                projects: projects.to_vec(),
            };
            fleet.images.registries = vec![registry("theirs.test", &[7]), registry("proxy.test", &[41])];
        }),
        ..Settings::default()
    };
    let jobs = jobs_with(
        settings,
        r#"
variables:
  DOCKER_AUTH_CONFIG: '{"auths": {"private.test": {"auth": "aHVudGVyMg=="}, "proxy.test:443": {"auth": "aHVudGVyMg=="}}}'
  CI_DEPENDENCY_PROXY_GROUP_IMAGE_PREFIX: proxy.test:443/group/dependency_proxy/containers
told: {image: 'private.test/a:1', script: [echo ran]}
quiet: {image: 'alpine:3', script: [echo ran]}
proxy: {image: '${CI_DEPENDENCY_PROXY_GROUP_IMAGE_PREFIX}/alpine:3', script: [echo ran]}
foreign: {image: 'theirs.test/a:1', script: [echo ran]}
"#,
    )
    .await;
    jobs["told"].passed().says(&[
        "WARNING: `private.test/a:1` is pulled without `DOCKER_AUTH_CONFIG`",
        "a secret for `private.test` in `images.registries` of the fleet configuration",
    ]);
    jobs["proxy"]
        .passed()
        .says(&["Image: proxy.test:443/group/dependency_proxy/containers/alpine:3"])
        .never_says(&["is pulled without"]);
    jobs["quiet"].passed().never_says(&["is pulled without"]);
    jobs["foreign"].failed("runner_configuration_error").says(&["may not use the registry `theirs.test`"]);
    for job in jobs.values() {
        job.never_says(&["aHVudGVyMg=="]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn flags_that_only_kubernetes_knows_change_nothing() {
    let job = job("
job:
  variables:
    FF_PRINT_POD_EVENTS: 'true'
    FF_WAIT_FOR_POD_TO_BE_REACHABLE: 'true'
    FF_USE_ADVANCED_POD_SPEC_CONFIGURATION: 'true'
    FF_USE_LEGACY_KUBERNETES_EXECUTION_STRATEGY: 'true'
    FF_USE_DUMB_INIT_WITH_KUBERNETES_EXECUTOR: 'true'
    FF_DISABLE_UMASK_FOR_KUBERNETES_EXECUTOR: 'true'
    FF_USE_POD_ACTIVE_DEADLINE_SECONDS: 'false'
    FF_SUSPENDABLE_ENVIRONMENTS: 'true'
  script: ['echo \"<$FF_PRINT_POD_EVENTS$FF_SUSPENDABLE_ENVIRONMENTS>\"']
")
    .await;
    job.passed().says(&["O <truetrue>"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_masked_part_of_an_image_shows_nowhere() {
    let story = Story::start(
        "
pulled: {image: '$HIDDEN/a:1', script: [echo ran]}
refused: {image: '$HIDDEN/a b', script: [echo ran]}
",
    )
    .await;
    let (key, value) = ("HIDDEN".to_owned(), "hidden.test/hunter2".to_owned());
    story.sandbox.gitlab.set_variable(story.project, Variable { key, value, masked: true, ..Variable::default() });
    let run = story.run();
    in_time(run.finished()).await;
    let jobs: Vec<Ended> = run.jobs().iter().map(Ended::of).collect();
    jobs[0].passed().says(&["Image: [MASKED]/a:1"]).never_says(&["hunter2"]);
    jobs[1].failed("runner_configuration_error").says(&["`[MASKED]/a b` is no image name"]).never_says(&["hunter2"]);
    assert!(run.jobs().iter().all(|job| job.hidden_secrets() == 0), "we masked it, not GitLab");
    story.end().await;
}
