//! Archives that others wrote: GitLab Runner's own, and hostile ones.

use crate::archives;
use crate::cache::story;
use crate::run::Ended;
use crate::support::{Gate, in_time};

#[tokio::test(flavor = "multi_thread")]
async fn caches_that_gitlab_runner_wrote_are_restored() {
    let gate = Gate::new();
    let story = story(&format!(
        "
stages: [one, two]
seed: {{stage: one, cache: {{key: seed, paths: [a]}}, script: [touch a]}}
hold: {{stage: one, script: [{}]}}
load:
  stage: two
  cache:
    - {{key: zip, paths: [a], policy: pull}}
    - {{key: zipzstd, paths: [a], policy: pull}}
    - {{key: tarzstd, paths: [a], policy: pull}}
  script: [cat of-zip/file of-zipzstd/file of-tarzstd/file, test -x of-zip/file]
",
        gate.wait()
    ))
    .await;
    let run = story.run();
    in_time(run.job("seed").expect("it is there").finished()).await;
    for (key, archive) in [
        ("zip", archives::zip("of-zip/file", "zip", zip::CompressionMethod::Deflated)),
        ("zipzstd", archives::zip("of-zipzstd/file", "zipzstd", zip::CompressionMethod::Zstd)),
        ("tarzstd", archives::tar("of-tarzstd/file", "tarzstd")),
    ] {
        archives::plant(&story, "seed-protected", &format!("{key}-protected"), archive).await;
    }
    gate.open();
    in_time(run.finished()).await;
    let load = Ended::of(&run.job("load").expect("it is there"));
    story.end().await;

    load.passed().says(&["Checking cache for zip-protected", "Successfully extracted cache"]);
    load.never_says(&["Failed to extract cache"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_archives_stay_where_they_are() {
    let gate = Gate::new();
    let story = story(&format!(
        "
stages: [one, two]
seed: {{stage: one, cache: {{key: seed, paths: [a]}}, script: [touch a]}}
hold: {{stage: one, script: [{}]}}
caches:
  stage: two
  needs: [{{job: hold, artifacts: false}}]
  cache:
    - {{key: tar-up, paths: [a], policy: pull}}
    - {{key: zip-up, paths: [a], policy: pull}}
    - {{key: tar-link, paths: [a], policy: pull}}
    - {{key: zip-link, paths: [a], policy: pull}}
  script: [ls -a .., '! test -e ../escaped', '! test -e ../../escaped', echo went on]
artifacts:
  stage: two
  needs: [hold]
  script: [echo never]
planted:
  stage: two
  needs: [{{job: hold, artifacts: false}}]
  cache: {{key: planted, paths: [out, proc, 'out/*', 'proc/**', proc/self/environ, ../up]}}
  artifacts: {{name: p, paths: [out, proc, 'out/**', 'proc/*', proc/etc/passwd, /etc/passwd]}}
  script: [ln -s /etc out, ln -s /proc proc]
",
        gate.wait()
    ))
    .await;
    let run = story.run();
    in_time(run.job("seed").expect("it is there").finished()).await;
    for (key, archive) in [
        ("tar-up", archives::tar("../../escaped", "x")),
        ("zip-up", archives::zip("../../escaped", "x", zip::CompressionMethod::Deflated)),
        ("tar-link", archives::tar_through_a_link("link", "../..", "link/escaped")),
        ("zip-link", archives::zip_through_a_link("link", "../..", "link/escaped")),
    ] {
        archives::plant(&story, "seed-protected", &format!("{key}-protected"), archive).await;
    }
    let hold = run.job("hold").expect("it is there");
    in_time(hold.reached("running")).await;
    let hostile = archives::zip("../../escaped", "x", zip::CompressionMethod::Deflated);
    archives::upload(&story, &hold, hostile).await;
    gate.open();
    in_time(run.finished()).await;
    let ended = |name: &str| Ended::of(&run.job(name).expect("it is there"));
    let (caches, artifacts, planted) = (ended("caches"), ended("artifacts"), ended("planted"));
    let cache = archives::object(&story, "planted-protected");
    story.end().await;

    caches.passed().says(&[
        "Checking cache for tar-up-protected...",
        "WARNING: `../../escaped` lies outside the project directory",
        "Failed to extract cache",
        "Checking cache for zip-up-protected...",
        "WARNING: `../../escaped` lies outside the project directory",
        "Failed to extract cache",
        "Checking cache for tar-link-protected...",
        "WARNING: `link` is a directory already",
        "Failed to extract cache",
        "Checking cache for zip-link-protected...",
        "WARNING: `link` is a directory already",
        "Failed to extract cache",
        "went on",
    ]);
    artifacts
        .failed("script_failure")
        .says(&["cannot be unpacked: `../../escaped` lies outside the project directory"]);
    artifacts.never_says(&["never"]);
    planted.passed().says(&[
        "out: found 1 matching artifact files and directories",
        "proc: found 1 matching artifact files and directories",
        "WARNING: out/*: no matching files.",
        "WARNING: proc: a path led outside of the filesystem",
        "proc/**: found 1 matching artifact files and directories",
        "WARNING: proc/self/environ: no matching files.",
        "WARNING: processPath: artifact path is not a subpath of project directory: ../up",
        "Created cache",
        "WARNING: proc/etc/passwd: no matching files.",
        "WARNING: processPath: artifact path is not a subpath of project directory: /etc/passwd",
    ]);
    assert_eq!(archives::names(&planted.artifacts[0].bytes), ["out", "proc"]);
    assert!(!cache.expect("it was saved").windows(4).any(|bytes| bytes == b"root"));
}
