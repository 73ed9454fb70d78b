//! What the log of a job says when its task could not run it: what failed, on what, and what to do.

use std::sync::Arc;

use futures::FutureExt;
use insta::assert_snapshot;
use mayfly::sandbox::Settings;
use mayfly::sandbox::ecs::{Ending, Faults, Runtime, SimulatedTask};

use crate::support::{Story, in_time, trace};

const JOB: &str = "
build:
  image: registry.test/not-found:500
  tags: [mayfly, cpu-1, mem-2g]
  script: ['true']
";

/// The failure reason, the number of tasks and the log's lines behind the image of a job whose tasks all end so.
async fn log_of(pipeline: &str, ending: Ending, faults: impl FnOnce(&Faults)) -> String {
    let play = move |task: SimulatedTask| {
        let ending = ending.clone();
        async move {
            task.running();
            ending
        }
        .boxed()
    };
    let settings = Settings { runtime: Runtime::Simulated(Arc::new(play)), ticks: false, ..Settings::default() };
    let story = Story::start_with(settings, pipeline).await;
    faults(&story.sandbox.ecs.faults());
    let job = story.run_job().await;
    in_time(story.sandbox.ecs.all_stopped()).await;

    let log = trace(&job);
    let lines = log.lines().map(plain).skip_while(|line| !line.starts_with("Image: ")).skip(1);
    let mut lines: Vec<String> = lines.collect();
    // Why another task was started is the same text each time: it is shown once.
    let last = lines.pop().expect("a last line");
    let message = last.split_once(": ").and_then(|(_, rest)| rest.split_once(": ")).expect("a message").1;
    lines.iter_mut().for_each(|line| *line = line.replace(&format!("({message})"), "(…)"));
    let head = format!("{}, {} task(s)", job.failure_reason().unwrap_or_default(), story.sandbox.ecs.tasks().len());
    assert_eq!(job.finishes(), 1);
    story.end().await;
    lines.insert(0, head);
    lines.push(last);
    lines.join("\n")
}

/// A line without its time and its colours.
fn plain(line: &str) -> String {
    let line = line.split_once("00O ").map_or(line, |(_, line)| line);
    let mut out = String::new();
    let mut parts = line.split("\x1b[");
    out.push_str(parts.next().unwrap_or_default());
    for part in parts {
        out.push_str(part.split_once(['m', 'K']).map_or("", |(_, rest)| rest));
    }
    out
}

async fn log_of_pull(text: &str) -> String {
    log_of(JOB, Ending::default(), |faults| faults.fail_pull("registry.test", text)).await
}

async fn log_of_start(text: &str) -> String {
    log_of(JOB, Ending::default(), |faults| (0..3).for_each(|_| faults.fail_start(text))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_does_not_exist() {
    let text = "CannotPullContainerError: failed to resolve ref registry.test/not-found:500: manifest unknown";
    assert_snapshot!(log_of_pull(text).await, @r#"
    runner_configuration_error, 1 task(s)
    ERROR: Job failed: the image `registry.test/not-found:500` of the `build` container does not exist in its registry: check the name and the tag in `image:` in .gitlab-ci.yml (ECS: CannotPullContainerError: failed to resolve ref registry.test/not-found:500: manifest unknown)
    "#);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_the_registry_denies() {
    let text = "CannotPullContainerError: pull access denied, repository does not exist or may require authorization";
    assert_snapshot!(log_of_pull(text).await, @r#"
    runner_configuration_error, 1 task(s)
    ERROR: Job failed: the registry denies access to the image `registry.test/not-found:500` of the `build` container: check the name; for a private image the owner of this runner has to add the registry with its credentials to `[[images.registries]]` in fleet.toml (ECS: CannotPullContainerError: pull access denied, repository does not exist or may require authorization)
    "#);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_limits_its_pulls() {
    let text = "CannotPullContainerError: toomanyrequests: You have reached your pull rate limit";
    assert_snapshot!(log_of_pull(text).await, @r#"
    runner_external_dependency_failure, 3 task(s)
    The task ended before the job began; starting another (…)
    The task ended before the job began; starting another (…)
    ERROR: Job failed: the registry refused the image `registry.test/not-found:500` of the `build` container because too many images were pulled from it: retry the job later, or ask the owner of this runner for credentials in `[[images.registries]]` of fleet.toml or for a pull-through cache (ECS: CannotPullContainerError: toomanyrequests: You have reached your pull rate limit)
    "#);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_does_not_answer() {
    let text = "CannotPullContainerError: Head \"https://registry.test/v2/not-found/manifests/500\": i/o timeout";
    assert_snapshot!(log_of_pull(text).await, @r#"
    runner_external_dependency_failure, 3 task(s)
    The task ended before the job began; starting another (…)
    The task ended before the job began; starting another (…)
    ERROR: Job failed: the registry of the image `registry.test/not-found:500` of the `build` container did not answer: retry the job; if it happens again, ask the owner of this runner whether the task's subnets have a route to the registry (ECS: CannotPullContainerError: Head "https://registry.test/v2/not-found/manifests/500": i/o timeout)
    "#);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_for_another_processor() {
    let text = "CannotPullContainerError: image Manifest does not contain descriptor matching platform 'linux/amd64'";
    assert_snapshot!(log_of_pull(text).await, @r#"
    runner_configuration_error, 1 task(s)
    ERROR: Job failed: the image `registry.test/not-found:500` of the `build` container is not built for `amd64`, the processor of this task: add the tag `arm64` to the job, or use an image for `linux/amd64` (ECS: CannotPullContainerError: image Manifest does not contain descriptor matching platform 'linux/amd64')
    "#);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_larger_than_the_disk() {
    let text = "CannotPullContainerError: failed to extract layer sha256:00: no space left on device";
    assert_snapshot!(log_of_pull(text).await, @r#"
    runner_system_failure, 1 task(s)
    ERROR: Job failed (system failure): the task's disk of 20 GB is full, at the image `registry.test/not-found:500` of the `build` container: ask for more with a `disk-` tag, for example `disk-30g` (ECS: CannotPullContainerError: failed to extract layer sha256:00: no space left on device)
    "#);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_without_a_shell() {
    let text =
        "CannotStartContainerError: ResourceInitializationError: exec: \"sh\": executable file not found in $PATH";
    assert_snapshot!(log_of(JOB, Ending::not_started("build", text), |_| {}).await, @r#"
    runner_configuration_error, 1 task(s)
    ERROR: Job failed: the image `registry.test/not-found:500` of the `build` container has no shell, and a job's script needs one: use an image that has `sh` (ECS: CannotStartContainerError: ResourceInitializationError: exec: "sh": executable file not found in $PATH)
    "#);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_container_that_runs_out_of_memory() {
    assert_snapshot!(log_of(JOB, Ending::out_of_memory("build"), |_| {}).await, @r#"
    runner_system_failure, 1 task(s)
    ERROR: Job failed (system failure): the `build` container (image `registry.test/not-found:500`) used all of its limit of 1792 MiB and was killed: ask for more with a `mem-` tag, for example `mem-3g`, or `MAYFLY_MEMORY`
    "#);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_helper_that_runs_out_of_memory() {
    assert_snapshot!(log_of(JOB, Ending::out_of_memory("helper"), |_| {}).await, @r#"
    runner_system_failure, 1 task(s)
    ERROR: Job failed (system failure): the `helper` container used all of its limit of 256 MiB and was killed: it fetches sources and packs cache and artifacts; raise the limit with the variable `KUBERNETES_HELPER_MEMORY_LIMIT`, for example to `512Mi`
    "#);
}

#[tokio::test(flavor = "multi_thread")]
async fn spot_capacity_that_is_reclaimed() {
    let ending = Ending::stopped_by_aws("SpotInterruption", "Your Spot Task was interrupted.");
    assert_snapshot!(log_of(JOB, ending, |_| {}).await, @r#"
    runner_interrupted, 3 task(s)
    The task ended before the job began; starting another (…)
    The task ended before the job began; starting another (…)
    ERROR: Job failed: AWS reclaimed the spot capacity that the task ran on: add `retry: 2` to the job so that GitLab runs it again, or the tag `on-demand` for capacity that is not reclaimed
    "#);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_aws_takes_out_of_service() {
    let ending = Ending::stopped_by_aws("InfrastructureHealth", "The underlying infrastructure is unhealthy");
    assert_snapshot!(log_of(JOB, ending, |_| {}).await, @r#"
    runner_interrupted, 3 task(s)
    The task ended before the job began; starting another (…)
    The task ended before the job began; starting another (…)
    ERROR: Job failed: AWS took the task's machine out of service: retry the job, or add `retry: 2` to it (ECS: The underlying infrastructure is unhealthy)
    "#);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_a_person_stops() {
    assert_snapshot!(log_of(JOB, Ending::stopped_by_aws("UserInitiated", "wrong cluster"), |_| {}).await, @r#"
    runner_system_failure, 1 task(s)
    ERROR: Job failed (system failure): the task was stopped by a call of StopTask, for example in the ECS console: retry the job, or ask who stopped it (ECS: wrong cluster)
    "#);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_cannot_be_read() {
    let text = "ResourceInitializationError: unable to pull secrets or registry auth: AccessDeniedException: not \
                authorized on arn:aws:secretsmanager:us-east-1:123456789012:secret:launch";
    assert_snapshot!(log_of_start(text).await, @r#"
    runner_configuration_error, 1 task(s)
    ERROR: Job failed: the task's execution role cannot read a secret: the owner of this runner has to check that the secrets of `launch_key` in `[tasks]` and of `[[images.registries]]` in fleet.toml exist, and that the role may read them (ECS: ResourceInitializationError: unable to pull secrets or registry auth: AccessDeniedException: not authorized on arn:aws:secretsmanager:us-east-1:<account>:secret:launch)
    "#);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subnet_without_free_addresses() {
    let text = "Unexpected EC2 error while attempting to Create Network Interface: InsufficientFreeAddressesInSubnet";
    assert_snapshot!(log_of_start(text).await, @r#"
    runner_system_failure, 3 task(s)
    The task ended before the job began; starting another (…)
    The task ended before the job began; starting another (…)
    ERROR: Job failed (system failure): the task's subnet has no free address: retry the job when others have ended; the owner of this runner can give it larger or more subnets (`subnets` in `[tasks]` of fleet.toml) (ECS: Unexpected EC2 error while attempting to Create Network Interface: InsufficientFreeAddressesInSubnet)
    "#);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_interface_that_does_not_come() {
    assert_snapshot!(log_of_start("Timeout waiting for network interface provisioning to complete.").await, @r#"
    runner_system_failure, 3 task(s)
    The task ended before the job began; starting another (…)
    The task ended before the job began; starting another (…)
    ERROR: Job failed (system failure): AWS did not give the task its network interface, which happens at times: retry the job (ECS: Timeout waiting for network interface provisioning to complete.)
    "#);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_container_that_ends_by_itself() {
    assert_snapshot!(log_of(JOB, Ending::exited([("build", 1), ("helper", 13)]), |_| {}).await, @r#"
    runner_configuration_error, 1 task(s)
    ERROR: Job failed: the `build` container (image `registry.test/not-found:500`) ended with exit code 1 before the job was done: check that the image is built for `amd64`, the processor of this task (the tag `arm64` asks for the other one), and that its `sh` works
    "#);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_whose_image_is_denied() {
    let pipeline = format!("{JOB}  services: ['private.test/db:1']\n");
    let text = "CannotPullContainerError: failed to authorize: unexpected status: 401 Unauthorized";
    let ending = Ending::exited([("build", 143), ("helper", 143)]);
    assert_snapshot!(log_of(&pipeline, ending, |faults| faults.fail_pull("private.test", text)).await, @r#"
    runner_configuration_error, 1 task(s)
    ERROR: Job failed: the registry denies access to the image `private.test/db:1` of the `svc-0` container: check the name; for a private image the owner of this runner has to add the registry with its credentials to `[[images.registries]]` in fleet.toml (ECS: CannotPullContainerError: failed to authorize: unexpected status: 401 Unauthorized)
    "#);
}
