//! Services as a job's script meets them.

use crate::engine::settings;
use crate::run::{Ended, jobs_with};
use crate::support::{Story, in_time};

/// A service that serves `text` on `port`, after `seconds`.
fn web(alias: &str, port: u16, text: &str, seconds: u32) -> String {
    format!(
        "{{name: 'mayfly/busybox:1', {alias} command: [sh, -c, 'sleep {seconds}; mkdir /tmp/w; echo {text} > \
         /tmp/w/index.html; exec httpd -f -p {port} -h /tmp/w']"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn services_have_names_and_are_waited_for() {
    let Some(settings) = settings() else { return };
    let slow = web("alias: 'slow, later',", 8081, "slow", 2) + ", variables: {HEALTHCHECK_TCP_PORT: '8081'}}";
    let quick = web("", 8080, "quick", 0) + "}";
    let pipeline = format!(
        "
root:
  image: mayfly/busybox:1
  services: [{quick}, {slow}]
  script:
    - wget -qO- http://slow:8081
    - wget -qO- http://later:8081
    - until wget -qO- http://mayfly-busybox:8080; do sleep 0.1; done
    - wget -qO- http://mayfly__busybox:8080
nobody:
  image: mayfly/nonroot:1
  services: [{slow}]
  script: ['echo $SLOW_HOST and $LATER_HOST, $MAYFLY_BUSYBOX_HOST']
"
    );
    let jobs = jobs_with(settings, &pipeline).await;

    jobs["root"].passed().says(&[
        "Waiting for services to be up and running (timeout 180 seconds)...",
        "waiting for TCP connection to localhost on [8081]...",
        "dialing localhost:8081...",
        "dial succeeded on localhost:8081. Exiting...",
        "section_end:",
        "slow\n",
        "slow\n",
        "quick\n",
        "quick\n",
    ]);
    jobs["nobody"]
        .passed()
        .says(&["the image's user may not write /etc/hosts", "127.0.0.1 and 127.0.0.1, 127.0.0.1\n"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_ends_is_named_with_its_code_and_fails_no_job() {
    let Some(settings) = settings() else { return };
    let pipeline = "
job:
  image: mayfly/busybox:1
  services: [{name: 'mayfly/busybox:1', alias: db, command: [sh, -c, 'exit 3'], variables: {HEALTHCHECK_TCP_PORT: '5432'}}]
  script: [echo goes on]
shown:
  image: mayfly/busybox:1
  variables: {CI_DEBUG_SERVICES: 'true'}
  services: [{name: 'mayfly/busybox:1', alias: db, command: [sh, -c, 'exit 3'], variables: {HEALTHCHECK_TCP_PORT: '5432'}}]
  script: [echo goes on]
";
    let jobs = jobs_with(settings, pipeline).await;

    jobs["job"].passed().says(&[
        "*** WARNING:",
        "Service db probably didn't start properly.",
        "Health check error:",
        "the container of service \"db\" (image mayfly/busybox:1) ended with exit code 3",
        "goes on\n",
        "ended with exit code 3; `CI_DEBUG_SERVICES: \"true\"` shows its output",
    ]);
    let shown = "ended with exit code 3; its output follows as lines that begin with `[service:`";
    jobs["shown"].passed().says(&[shown]).never_says(&["CI_DEBUG_SERVICES: \"true\""]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_gets_its_variables_and_no_secret_of_the_job() {
    let Some(settings) = settings() else { return };
    let show = "mkdir /tmp/w; env > /tmp/w/index.html; exec httpd -f -p 8080 -h /tmp/w";
    let pipeline = format!(
        "
job:
  image: mayfly/busybox:1
  variables: {{PUBLIC: seen, NAME: value}}
  services:
    - {{name: 'mayfly/busybox:1', alias: web, entrypoint: [sh, -c], command: ['{show}'], variables: {{HEALTHCHECK_TCP_PORT: '8080', OWN: 'a $NAME', TOKEN: 'x-$CI_JOB_TOKEN'}}}}
  script:
    - wget -qO env http://web:8080
    - grep -x 'PUBLIC=seen' env
    - grep -x 'OWN=a value' env
    - grep -qx \"TOKEN=x-$CI_JOB_TOKEN\" env
    - '! grep -q ^CI_JOB_TOKEN= env'
    - '! grep -q MAYFLY_ env'
"
    );
    let jobs = jobs_with(settings, &pipeline).await;

    jobs["job"].passed();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_services_write_is_shown_masked_where_the_job_asks_for_it() {
    let Some(settings) = settings() else { return };
    let service = |alias: &str| {
        format!(
            "{{name: 'mayfly/busybox:1', alias: {alias}, entrypoint: [sh, -c], command: ['echo I am {alias}; echo $OWN; httpd -f -p 8080'], \
             variables: {{HEALTHCHECK_TCP_PORT: '8080', OWN: 'the token is $CI_JOB_TOKEN'}}}}"
        )
    };
    let pipeline = format!(
        "
shown:
  image: mayfly/busybox:1
  variables: {{CI_DEBUG_SERVICES: 'true'}}
  services: [{}]
  script: [echo done]
silent:
  image: mayfly/busybox:1
  services: [{}]
  script: [echo done]
",
        service("loud"),
        service("quiet")
    );
    let jobs = jobs_with(settings, &pipeline).await;

    let shown = jobs["shown"].passed();
    shown.says(&[" 0fO \u{1b}[0;37m[service:mayfly/busybox:1-loud] I am loud\u{1b}[0;m"]);
    shown.says(&["[service:mayfly/busybox:1-loud] the token is [MASKED]"]);
    jobs["silent"].passed().never_says(&["[service:"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_well_known_image_is_waited_for_at_its_usual_port() {
    let Some(settings) = settings() else { return };
    let pipeline = "
job:
  image: mayfly/busybox:1
  services: [{name: 'mayfly/memcached:1', command: [sh, -c, 'sleep 2; echo here | nc -l -p 11211; sleep 60']}]
  script: [echo done]
silent:
  image: mayfly/busybox:1
  services: [{name: 'mayfly/memcached:1', alias: cache, command: [sh, -c, 'sleep 1; exit 9']}]
  script: [echo done]
";
    let jobs = jobs_with(settings, pipeline).await;

    let waited = "Waiting for services to be up and running (timeout 30 seconds)...";
    jobs["job"].passed().says(&[waited, "done\n"]).never_says(&["*** WARNING"]);
    jobs["silent"].passed().says(&[
        waited,
        "Service cache probably didn't start properly.",
        "ended with exit code 9",
        "waiting for TCP connection to localhost on [11211]...",
        "done\n",
    ]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_helper_that_dies_while_it_waits_for_a_service_is_settled() {
    let Some(settings) = settings() else { return };
    let pipeline = "
job:
  image: mayfly/busybox:1
  services: [{name: 'mayfly/busybox:1', alias: mute, command: [sleep, '300'], variables: {HEALTHCHECK_TCP_PORT: '8080'}}]
  script: [echo never]
";
    let story = Story::start_with(settings, pipeline).await;
    let job = story.run().jobs().remove(0);
    in_time(job.traced("dialing localhost:8080...")).await;
    let task = story.sandbox.ecs.tasks().remove(0);
    assert!(story.sandbox.ecs.kill_container(&task.arn, "helper"));
    in_time(job.finished()).await;

    let ended = Ended::of(&job);
    ended.failed("runner_system_failure").says(&["the `helper` container ended with exit code 137"]);
    ended.never_says(&["O never"]);
    assert_eq!(job.finishes(), 1);
    story.end().await;
}
