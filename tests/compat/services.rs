//! Services: names, variables, readiness, logs.

use crate::run::jobs;

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_cannot_be_is_refused_before_anything_starts() {
    let jobs = jobs(
        "
alias: {services: [{name: redis, alias: my_redis}], script: [echo ran]}
dind: {services: ['docker:24-dind'], script: [echo ran]}
never: {services: [{name: redis, pull_policy: never}], script: [echo ran]}
name: {services: ['$NOPE'], script: [echo ran]}
many: {services: [a, b, c, d, e, f, g, h], script: [echo ran]}
line:
  services: [{name: redis, variables: {CONFIG: \"a\\nb\"}}]
  script: [echo ran]
user: {services: [{name: redis, kubernetes: {user: '0'}}], script: [echo ran]}
",
    )
    .await;
    for (job, said) in [
        ("alias", "provided host alias my_redis for service redis is invalid DNS. a lowercase RFC 1123 subdomain must"),
        (
            "dind",
            "the service `docker:24-dind` needs a privileged machine, which Fargate has not: build images with kaniko",
        ),
        ("never", "`pull_policy: never` cannot be kept"),
        ("name", "`` is no image name that can be pulled"),
        ("many", "a Fargate task has room for 7 services beside the job, not 8"),
        ("line", "variable `CONFIG` of service `redis` has a line break"),
        ("user", "`allowed_users` does not let a job run as `0`"),
    ] {
        jobs[job].failed("runner_configuration_error").says(&[said]).never_says(&["O ran"]);
    }
}
