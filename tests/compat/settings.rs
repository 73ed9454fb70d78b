//! The fleet's settings that GitLab Runner has in its config.toml.

use std::collections::BTreeMap;

use mayfly::config::{Fleet, JobSettings, RunnerCache, SizeLimits};
use mayfly::sandbox::Settings;

use crate::run::{Ended, jobs_with};

/// A sandbox whose fleet is changed.
fn fleet(change: impl FnOnce(&mut Fleet) + Send + 'static) -> Settings {
    Settings { fleet: Box::new(change), ..Settings::default() }
}

/// A sandbox whose runner has these settings of its own.
fn runner(settings: JobSettings) -> Settings {
    fleet(move |fleet| fleet.runners[0].settings = settings)
}

async fn job_with(settings: Settings, pipeline: &str) -> Ended {
    jobs_with(settings, pipeline).await.pop_first().expect("the pipeline has a job").1
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn list(items: &[&str]) -> Option<Vec<String>> {
    Some(items.iter().map(|item| (*item).to_owned()).collect())
}

fn resources(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_runners_scripts_stand_around_the_jobs() {
    let settings = JobSettings {
        pre_get_sources_script: text("echo before the sources"),
        post_get_sources_script: text("echo behind the sources"),
        pre_build_script: text("word=kept\necho before the build"),
        post_build_script: text("echo behind the build: $word"),
        ..JobSettings::default()
    };
    let job = job_with(
        runner(settings),
        "
job:
  hooks: {pre_get_sources_script: [echo the own one]}
  script: ['echo in the build: $word']
  after_script: ['echo after: $word']
",
    )
    .await;
    job.passed().says(&[
        "$ echo before the sources",
        "O before the sources",
        "O the own one",
        "Checking out ",
        "O behind the sources",
        "$ word=kept # collapsed multi-line command",
        "O before the build",
        "O in the build: kept",
        "O behind the build: kept",
        "O after:",
    ]);
    let around = job.log.matches("before the build").count();
    assert_eq!(around, 1, "after_script has none: {}", job.log);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_runners_environment_is_below_the_jobs_and_its_flags_above() {
    let settings = JobSettings {
        environment: list(&["MINE=runner", "OTHER=other $MINE", "CI_BUILDS_DIR=/nowhere"]),
        feature_flags: Some(BTreeMap::from([("FF_TIMESTAMPS".to_owned(), false), ("FF_OTHER".to_owned(), true)])),
        ..JobSettings::default()
    };
    let job = job_with(
        runner(settings),
        "
job:
  variables: {MINE: job, FF_TIMESTAMPS: 'true', FF_OTHER: 'false'}
  script: ['echo \"<$MINE> <$OTHER> <$FF_TIMESTAMPS> <$FF_OTHER>\"', 'test $CI_BUILDS_DIR != /nowhere']
",
    )
    .await;
    job.passed().says(&["\n<job> <other job> <false> <true>"]).never_says(&["Z 01O "]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_ends_at_the_runners_limit_and_debugging_can_be_off() {
    let settings = JobSettings { output_limit: Some(4), debug_trace_disabled: Some(true), ..JobSettings::default() };
    let job = job_with(
        runner(settings),
        "
job:
  variables: {CI_DEBUG_TRACE: 'true'}
  script: ['for i in 1 2 3 4 5 6 7 8 9 10; do printf %01000d 0; echo; done']
",
    )
    .await;
    job.passed()
        .says(&[
            "WARNING: CI_DEBUG_TRACE: usage is disabled on this Runner",
            "Job's log exceeded limit of 4096 bytes.",
            "Job execution will continue but no more output will be collected.",
            "Job succeeded",
        ])
        .never_says(&["+ printf"]);
    assert!(job.log.len() < 6000, "{} bytes", job.log.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn sources_have_a_time_and_a_place_of_their_own() {
    let settings = JobSettings {
        get_sources_timeout: text("1s"),
        pre_get_sources_script: text("test \"$CI_JOB_NAME\" = quick || exec sleep 60"),
        ..JobSettings::default()
    };
    let jobs = jobs_with(
        runner(settings),
        "
slow:
  script: [echo in the script]
  after_script: [echo in after_script]
  artifacts: {when: always, paths: [.gitlab-ci.yml]}
quick: {script: [echo in the script]}
",
    )
    .await;
    jobs["slow"]
        .failed("job_execution_timeout")
        .says(&["ERROR: Job failed: get sources timeout: exceeded timeout of 1s"])
        .never_says(&["in the script", "in after_script", "Uploading artifacts"]);
    assert!(jobs["slow"].artifacts.is_empty());
    jobs["quick"].passed();

    let settings = JobSettings { clone_url: text("http://127.0.0.1:1/mirror"), ..JobSettings::default() };
    let job = job_with(runner(settings), "job: {script: [echo in the script]}").await;
    assert_eq!(job.status, "failed", "{}", job.log);
    job.says(&["http://127.0.0.1:1/mirror/group/app.git"]).never_says(&["in the script"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_images_and_services_of_the_lists_run() {
    let settings = fleet(|fleet| {
        fleet.settings.image = text("ours.test/default:1");
        fleet.settings.allowed_images = list(&["ruby:*", "ours.test/**"]);
        fleet.settings.allowed_services = list(&["postgres:*"]);
    });
    let jobs = jobs_with(
        settings,
        "
allowed: {image: 'ours.test/a/b:2', script: [echo ran]}
theirs: {script: [echo ran]}
other: {image: 'alpine:3', script: [echo ran]}
service: {image: 'ruby:3', services: ['redis:7'], script: [echo ran]}
",
    )
    .await;
    jobs["allowed"].passed().says(&["Image: ours.test/a/b:2"]);
    jobs["theirs"].passed().says(&["Using default image", "Image: ours.test/default:1"]);
    jobs["other"].failed("runner_configuration_error").says(&[
        "\x1b[31;1mERROR: The \"alpine:3\" image is not present on list of allowed images:\x1b[0;m",
        "- ruby:*",
        "- ours.test/**",
        "Please check runner's allowed_images",
        "ERROR: Job failed: disallowed image",
    ]);
    assert_eq!(jobs["other"].exit_code, None);
    jobs["service"].failed("runner_configuration_error").says(&[
        "The \"redis:7\" image is not present on list of allowed services:",
        "- postgres:*",
        "ERROR: Job failed: disallowed image",
    ]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_without_any_image_fails_with_the_way_out() {
    let job = job_with(fleet(|fleet| fleet.images.default = None), "job: {script: [echo ran]}").await;
    job.failed("runner_configuration_error")
        .says(&["ERROR: Job failed: no image specified and no default set in config", "`[settings]`"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_users_of_the_lists_run() {
    let settings = JobSettings { allowed_users: list(&["1000", "node"]), ..JobSettings::default() };
    let root = "root: {image: {name: a, kubernetes: {user: '0'}}, script: [echo ran]}";
    let jobs = jobs_with(
        runner(settings),
        &format!(
            "
{root}
other: {{image: {{name: a, docker: {{user: dave}}}}, script: [echo ran]}}
group: {{image: {{name: a, kubernetes: {{user: '1000:0'}}}}, script: [echo ran]}}
"
        ),
    )
    .await;
    for (job, said) in [
        ("root", "`allowed_users` does not let a job run as `0`"),
        ("other", "`allowed_users` does not let a job run as `dave`"),
        ("group", "`allowed_groups` does not let a job run as `0`"),
    ] {
        jobs[job].failed("runner_configuration_error").says(&[said]);
    }
    let job = job_with(Settings::default(), root).await;
    job.failed("runner_configuration_error").says(&["`allowed_users` does not let a job run as `0`"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_and_limits_have_defaults_and_maxima() {
    let settings = fleet(|fleet| {
        fleet.settings.resources = resources(&[
            ("cpu_request", "500m"),
            ("helper_cpu_limit", "500m"),
            ("memory_limit", "3Gi"),
            ("helper_memory_limit", "512Mi"),
            ("helper_memory_limit_overwrite_max_allowed", "1Gi"),
            ("ephemeral_storage_request", "30Gi"),
            ("cpu_request_overwrite_max_allowed", "2"),
            ("service_memory_limit_overwrite_max_allowed", "1Gi"),
            ("pod_memory_request_overwrite_max_allowed", "9Gi"),
        ]);
    });
    let jobs = jobs_with(
        settings,
        "
theirs: {script: [echo ran]}
overwritten: {variables: {KUBERNETES_CPU_REQUEST: '2'}, script: [echo ran]}
above: {variables: {KUBERNETES_CPU_REQUEST: '3'}, script: [echo ran]}
pod: {variables: {KUBERNETES_POD_MEMORY_REQUEST: 9Gi}, script: [echo ran]}
helper: {variables: {KUBERNETES_HELPER_MEMORY_LIMIT: 1Gi}, script: [echo ran]}
helper_above: {variables: {KUBERNETES_HELPER_MEMORY_LIMIT: 2Gi}, script: [echo ran]}
without_maximum: {variables: {KUBERNETES_CPU_LIMIT: '4'}, script: [echo ran]}
",
    )
    .await;
    jobs["theirs"]
        .passed()
        .says(&["Size: 1 vCPU, 4 GB, 30 GB of disk", "512 MB for the helper (setting helper_memory_limit)"])
        .never_says(&["overwritten"]);
    jobs["helper"].passed().says(&["\"HelperMemoryLimit\" overwritten with \"1Gi\"", "1024 MB for the helper"]);
    jobs["helper_above"].failed("runner_configuration_error").says(&["\"HelperMemoryLimit\" requested \"2Gi\""]);
    jobs["overwritten"].passed().says(&["\"CPURequest\" overwritten with \"2\"", "Size: 4 vCPU, 8 GB"]);
    jobs["above"]
        .failed("runner_configuration_error")
        .says(&["ERROR: Job failed: the resource \"CPURequest\" requested \"3\" is higher than limit allowed \"2\""]);
    jobs["pod"].passed().says(&["\"PodMemoryRequest\" overwritten with \"9Gi\"", "Size: 2 vCPU, 9 GB"]);
    jobs["without_maximum"].passed().says(&["Size: 8 vCPU"]).never_says(&["overwritten"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn kubernetes_variables_ask_for_a_size_under_the_fleets_ceilings() {
    let settings = fleet(|fleet| {
        fleet.size = SizeLimits { max_cpu: Some("4".into()), max_memory: Some("16g".into()), ..SizeLimits::default() };
        fleet.broker.agents.remove("arm64");
    });
    let jobs = jobs_with(
        settings,
        "
asked:
  variables:
    KUBERNETES_CPU_REQUEST: 500m
    KUBERNETES_CPU_LIMIT: '1'
    KUBERNETES_HELPER_CPU_LIMIT: '1'
    KUBERNETES_MEMORY_LIMIT: 5Gi
    KUBERNETES_EPHEMERAL_STORAGE_LIMIT: 25Gi
  script: [echo ran]
helper: {variables: {KUBERNETES_HELPER_MEMORY_LIMIT: 1Gi}, script: [echo ran]}
above: {variables: {KUBERNETES_CPU_LIMIT: '8'}, script: [echo ran]}
helper_above: {variables: {KUBERNETES_HELPER_MEMORY_REQUEST: 16Gi}, script: [echo ran]}
wrong: {variables: {KUBERNETES_MEMORY_REQUEST: much}, script: [echo ran]}
arm: {variables: {KUBERNETES_NODE_SELECTOR_ARCH: kubernetes.io/arch=arm64}, script: [echo ran]}
unread:
  variables:
    KUBERNETES_NAMESPACE_OVERWRITE: other
    KUBERNETES_SERVICE_ACCOUNT_OVERWRITE: admin
    KUBERNETES_BEARER_TOKEN: abc
    KUBERNETES_NODE_TOLERATIONS_1: a=b
    KUBERNETES_POD_LABELS_1: a=b
    KUBERNETES_POD_ANNOTATIONS_1: a=b
  script: [echo ran]
",
    )
    .await;
    jobs["asked"].passed().says(&["Size: 2 vCPU, 5 GB, 25 GB of disk (variable KUBERNETES_CPU_LIMIT"]);
    jobs["helper"].passed().says(&[
        "Size: 1 vCPU, 3 GB (the default: no `cpu-` or `mem-` tag; 1 vCPU, 2 GB without variable \
         KUBERNETES_HELPER_MEMORY_LIMIT)",
        "Memory: 2048 MB for the script, 1024 MB for the helper (variable KUBERNETES_HELPER_MEMORY_LIMIT)",
    ]);
    jobs["above"].failed("runner_configuration_error").says(&["this runner gives at most 4 vCPU", "`size.max_cpu`"]);
    jobs["helper_above"].failed("runner_configuration_error").says(&[
        "16 GB for the helper by variable KUBERNETES_HELPER_MEMORY_REQUEST",
        "this runner gives at most 16 GB",
        "`size.max_memory`",
    ]);
    jobs["wrong"].failed("runner_configuration_error").says(&["variable `KUBERNETES_MEMORY_REQUEST`"]);
    jobs["arm"].failed("runner_configuration_error").says(&["this deployment has no agent for arm64"]);
    jobs["unread"].passed().never_says(&["overwritten"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_has_a_part_of_the_cache_for_itself() {
    let settings = fleet(|fleet| {
        let cache = RunnerCache { path: text("team"), shared: Some(true), max_uploaded_archive_size: Some(100_000) };
        fleet.runners[0].cache = cache;
    });
    let jobs = jobs_with(
        settings,
        "
stages: [one, two]
small:
  stage: one
  variables: {CACHE_MAX_UPLOADED_ARCHIVE_SIZE: '1'}
  cache: {key: small, paths: [small]}
  script: [echo kept > small, 'echo \"<$CACHE_MAX_UPLOADED_ARCHIVE_SIZE>\"']
large:
  stage: one
  cache: {key: large, paths: [large]}
  script: [head -c 300000 /dev/urandom > large]
finds:
  stage: two
  cache: [{key: small, paths: [small]}, {key: large, paths: [large]}]
  script: [cat small, test ! -e large]
",
    )
    .await;
    jobs["small"].passed().says(&["O <100000>"]);
    jobs["large"].passed().says(&["100000"]);
    jobs["finds"].passed().says(&["O kept"]);
}

/// The way to a setting that cannot be, and what its owner reads.
#[test]
fn what_cannot_be_set_is_refused_with_its_line_and_the_way_out() {
    for (text, said) in [
        (
            "[settings]\nprivileged = true",
            "line 2: `privileged` cannot be set: Fargate runs no privileged containers: build",
        ),
        ("[settings]\nimage = 'a'\n[[settings.volumes.pvc]]\nname = 'x'", "`cache` or `artifacts`"),
        ("[settings]\nsuspend_pvc_size = '1Gi'", "a task has no volumes but `/builds`"),
        ("[settings]\ngpus = 'all'", "Fargate has no GPUs: keep such jobs on another runner by their tags"),
        (
            "[settings]\nshm_size = 300000",
            "Fargate gives each container 64 MB of `/dev/shm`: let the program use `/tmp`",
        ),
        ("[[runners]]\nbuilds_dir = '/x'", "line 2: `builds_dir` cannot be set: builds lie in `/builds`"),
        ("[settings]\nsafe_directory_checkout = false", "git always trusts them"),
        ("[settings]\nclean_git_config = true", "fetched anew"),
        ("[settings]\npull_policy = 'never'", "every task pulls its images"),
        ("[settings]\nimage_pull_secrets = ['x']", "`[[images.registries]]`"),
        ("[settings]\nhelper_image = 'x'", "`images.helper`"),
        ("[settings]\nnode_selector = {}", "`size.arch`"),
        ("[settings]\nservice_account = 'x'", "`id_tokens:`"),
        ("[[runners]]\nshell = 'pwsh'", "the image's own is taken"),
        ("[[runners]]\nenvironment = ['A=1']", "`environment` belongs into `[settings]`"),
        ("[[runners]]\n[runners.kubernetes]\nimage = 'a'", "there is no section `kubernetes`"),
        ("[settings]\nimagee = 'a'", "line 2: `imagee` is no setting"),
    ] {
        let error = Fleet::read(text).expect_err("it is refused").to_string();
        assert!(error.contains(said), "{error}");
    }
}
