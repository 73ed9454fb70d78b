//! Jobs in images of several kinds, and what goes wrong in them.

use crate::engine::settings;
use crate::run::{Ended, jobs_with};
use crate::support::{Story, in_time, trace};

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_in_its_image() {
    let Some(settings) = settings() else { return };
    let pipeline = "
busybox:
  image: mayfly/busybox:1
  script: ['readlink /proc/self/exe', id]
no-bash:
  image: mayfly/dash:1
  script: ['! command -v bash', '! command -v git', 'readlink /proc/$$/exe', 'test -f .gitlab-ci.yml']
";
    let jobs = jobs_with(settings, pipeline).await;

    jobs["busybox"].passed().says(&["/bin/busybox", "uid=0"]);
    jobs["no-bash"].passed().says(&["/bin/dash"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_without_rights_git_and_bash_has_cache_artifacts_and_a_service() {
    let Some(settings) = settings() else { return };
    let pipeline = "
stages: [one, two]
default:
  image: mayfly/nonroot:1
  cache: {key: shared, paths: [kept]}
one:
  stage: one
  services:
    - {name: mayfly/busybox:1, alias: web, command: [sh, -c, 'mkdir /tmp/w; echo hello from the service > /tmp/w/index.html; exec httpd -f -p 8080 -h /tmp/w']}
  script:
    - test \"$(id -u)\" = 1000
    - '! command -v bash'
    - '! command -v git'
    - ls -l
    - mkdir -p kept out
    - echo cached > kept/file
    - echo handed over > out/file
    - perl -MIO::Socket::INET -e 'for (1..100) { last if $s = IO::Socket::INET->new(\"127.0.0.1:8080\"); select undef, undef, undef, 0.1 } print $s \"GET / HTTP/1.0\\r\\n\\r\\n\"; print while <$s>'
  artifacts: {paths: [out]}
two:
  stage: two
  script: [cat kept/file out/file, test -O kept/file]
";
    let jobs = jobs_with(settings, pipeline).await;

    jobs["one"].passed().says(&["hello from the service"]);
    jobs["two"].passed().says(&["cached\n", "handed over\n"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_containers_are_as_on_fargate() {
    let Some(settings) = settings() else { return };
    let pipeline = "
job:
  image: mayfly/debian:1
  script:
    - grep CapEff /proc/self/status
    - cat /etc/hosts
    - ls -ld /builds /mayfly
    - '! touch /mayfly/file'
    - ls /proc | grep -c '^[0-9]*$'
    - test ! -e /var/run/docker.sock
    - df -k /dev/shm | tail -1
    - '! ls /dev | grep -E \"nvidia|dri|kvm\"'
    - echo $(grep -cE \" /(builds|mayfly) \" /proc/mounts) volumes
";
    let jobs = jobs_with(settings, pipeline).await;

    // The default set without NET_RAW, which our definition drops.
    jobs["job"].passed().says(&[
        "CapEff:\t00000000a80405fb",
        "127.0.0.1 localhost",
        "drwxrwxrwx",
        "Read-only file system",
        "65536",
        "2 volumes",
    ]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_cannot_run_a_job_is_told_with_the_way_out() {
    let Some(settings) = settings() else { return };
    let pipeline = "
empty: {image: 'mayfly/empty:1', script: [echo never]}
missing: {image: 'localhost:1/missing:1', script: [echo never]}
";
    let jobs = jobs_with(settings, pipeline).await;

    jobs["empty"].failed("runner_configuration_error").says(&["has no shell"]);
    jobs["missing"].never_says(&["never\n"]).says(&["the image `localhost:1/missing:1` of the `build` container"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_runs_out_of_memory_is_told_the_figure() {
    let Some(settings) = settings() else { return };
    let pipeline = "
job:
  image: mayfly/debian:1
  tags: [mem-512m]
  variables: {MAYFLY_CPU: '0.25'}
  script: ['perl -e ''$x = \"a\" x (1 << 30); print length $x'' ', echo never]
  after_script: [echo after]
";
    let jobs = jobs_with(settings, pipeline).await;

    let job = &jobs["job"];
    job.failed("script_failure").says(&["after\n", "the script's memory of 352 MB ran out"]).never_says(&["never\n"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_that_kills_everything_kills_only_its_own_job() {
    let Some(settings) = settings() else { return };
    let pipeline = "
job:
  image: mayfly/debian:1
  script: ['kill -9 -1; echo survived', echo never]
  after_script: [echo after $CI_JOB_STATUS]
";
    let jobs = jobs_with(settings, pipeline).await;

    jobs["job"].failed("script_failure").says(&["after failed", "exit code 137"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_fails_the_job_with_its_reason() {
    let Some(settings) = settings() else { return };
    let pipeline = "
job:
  image: mayfly/busybox:1
  script: [dd if=/dev/zero of=large bs=1M count=200]
  artifacts: {paths: [large], when: always}
";
    let story = Story::start_with(settings, pipeline).await;
    story.sandbox.ecs.faults().small_disk(64 * 1024 * 1024);
    let run = story.run();
    in_time(run.finished()).await;

    let job = run.jobs().remove(0);
    assert_eq!(job.failure_reason().as_deref(), Some("script_failure"), "{}", trace(&job));
    assert!(trace(&job).contains("No space left on device"), "{}", trace(&job));
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_path_fails_what_writes_there_and_nothing_else() {
    let Some(settings) = settings() else { return };
    let pipeline = "
writes:
  image: mayfly/busybox:1
  script: [touch /mayfly/mine, echo never]
  after_script: [touch here]
keeps:
  image: mayfly/nonroot:1
  script: ['mkdir -p locked/in', touch locked/in/file, chmod 0555 locked/in locked]
  cache: {key: k, paths: [locked]}
  artifacts: {paths: [locked]}
reads:
  needs: [keeps]
  image: mayfly/nonroot:1
  script: [chmod 0755 locked/in, rm locked/in/file]
  cache: {key: k, paths: [locked], policy: pull}
";
    let jobs = jobs_with(settings, pipeline).await;

    jobs["writes"].failed("script_failure").says(&["Read-only file system", "Job failed: exit code 1"]);
    jobs["keeps"].passed();
    jobs["reads"].passed();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_is_stopped_in_its_container_after_its_after_script() {
    let Some(settings) = settings() else { return };
    let pipeline = "
job:
  image: mayfly/busybox:1
  script: [echo begun, sleep 600]
  after_script: [echo after $CI_JOB_STATUS]
";
    let story = Story::start_with(settings, pipeline).await;
    let job = story.run().jobs().remove(0);
    in_time(job.traced("begun\n")).await;
    job.cancel();
    in_time(job.finished()).await;

    let ended = Ended::of(&job);
    assert_eq!(ended.status, "canceled", "{}", ended.log);
    ended.says(&["after canceled"]);
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_as_the_user_that_it_names() {
    let Some(settings) = settings() else { return };
    let pipeline = "
.who: {script: ['echo I am $(id -u):$(id -g)']}
docker: {extends: .who, image: {name: 'mayfly/busybox:1', docker: {user: '1234'}}}
kubernetes: {extends: .who, image: {name: 'mayfly/busybox:1', kubernetes: {user: '1234:4321'}}}
root: {extends: .who, image: {name: 'mayfly/nonroot:1', docker: {user: '0'}}}
";
    let jobs = jobs_with(settings, pipeline).await;

    jobs["docker"].passed().says(&["I am 1234:0\n"]);
    jobs["kubernetes"].passed().says(&["I am 1234:4321\n"]);
    jobs["root"].passed().says(&["I am 0:0\n"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_left_on_a_volume() {
    let Some(settings) = settings() else { return };
    let pipeline = "
variables: {HIDDEN: {value: hunter2hunter2}}
job:
  image: mayfly/nonroot:1
  services: [{name: 'mayfly/busybox:1', alias: web, command: [sleep, '60'], variables: {OWN: $CI_JOB_TOKEN}}]
  cache: {key: k, paths: [kept]}
  script: [mkdir kept, echo x > kept/x, 'git --version || true']
";
    let story = Story::start_with(settings, pipeline).await;
    story.sandbox.ecs.keep_volumes(true);
    let job = story.run_job().await;
    assert_eq!(job.status(), "success", "{}", trace(&job));
    in_time(story.sandbox.ecs.all_stopped()).await;

    let token = job.token().expect("it was claimed");
    let secrets = [token.as_str(), story.sandbox.launch_key()];
    let mut searched = 0;
    let mut ahead = vec![story.sandbox.root().join("t")];
    while let Some(directory) = ahead.pop() {
        for entry in std::fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry")) {
            let (path, kind) = (entry.path(), entry.file_type().expect("a type"));
            if kind.is_dir() {
                ahead.push(path);
            } else if kind.is_file() {
                let bytes = std::fs::read(&path).expect("root reads all");
                searched += 1;
                for secret in secrets {
                    let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
                    assert!(!found, "a secret is in {}", path.display());
                }
            }
        }
    }
    assert!(searched > 10, "only {searched} files");
    story.end().await;
}
