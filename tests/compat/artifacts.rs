//! Artifacts and reports: what is in them, which jobs get them, and what becomes of a job whose artifacts go wrong.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};

use mayfly::sandbox::Settings;
use mayfly::sandbox::gitlab::ArtifactView;
use serde_json::Value;
use zip::ZipArchive;

use crate::archives::names;
use crate::run::{self, Ended};
use crate::support::{Gate, Story, agent, in_time};

/// Runs the pipeline; `prepare` is called before.
async fn jobs_after(pipeline: &str, prepare: impl FnOnce(&Story)) -> BTreeMap<String, Ended> {
    let story = Story::start_with(Settings { agent: Some(agent()), ..Settings::default() }, pipeline).await;
    prepare(&story);
    let run = story.run();
    in_time(run.finished()).await;
    let ended = run.jobs().iter().map(|job| (job.name(), Ended::of(job))).collect();
    story.end().await;
    ended
}

fn archive(artifact: &ArtifactView) -> ZipArchive<Cursor<&[u8]>> {
    ZipArchive::new(Cursor::new(artifact.bytes.as_slice())).expect("a zip")
}

fn content(artifact: &ArtifactView, name: &str) -> String {
    let mut text = String::new();
    archive(artifact).by_name(name).expect(name).read_to_string(&mut text).expect("text");
    text
}

fn unpacked_report(artifact: &ArtifactView) -> String {
    let mut text = String::new();
    flate2::read::MultiGzDecoder::new(artifact.bytes.as_slice()).read_to_string(&mut text).expect("gzip");
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_is_what_its_patterns_say() {
    let jobs = run::jobs("
stages: [one, two]
variables: {DIR: out, WHO: them}
pack:
  stage: one
  script:
    - mkdir -p out/deep/er out/empty src/a/b
    - echo run > out/run && chmod 750 out/run && touch -d 2001-02-03T04:05:06Z out/run
    - echo deep > out/deep/er/file && ln -s deep/er/file out/link && ln -s /proc/self/environ out/far
    - echo o > src/a/b/c.o && echo h > src/a/x.h && echo log > out/skip.log && echo secret > out/deep/skip.log
    - echo one > 'with blank' && echo two > 'ä.txt'
    - echo FROM_SCRIPT=late >> $GITLAB_ENV && mkdir late && touch late/file
  artifacts:
    name: \"$WHO/$CI_JOB_NAME-${NO:-none}-$CI_COMMIT_REF_NAME\"
    expire_in: 3 days
    paths: ['$DIR', 'src/**/*.{o,h}', 'with blank', '*.txt', '${FROM_SCRIPT}/', none, '', /etc, ../up, '$CI_PROJECT_DIR/src/a/x.h']
    exclude: ['out/**/*.log', '${DIR}/none']
loose:
  stage: one
  script: [mkdir d, echo u > d/untracked, echo x > excluded]
  artifacts: {untracked: true, exclude: [excluded]}
use:
  stage: two
  script:
    - cat out/deep/er/file d/untracked && test -d out/empty && test \"$(readlink out/link)\" = deep/er/file
    - test \"$(stat -c '%a %Y' out/run)\" = '750 981173106' && test ! -e out/skip.log
")
    .await;

    let pack = jobs["pack"].passed();
    pack.says(&[
        "Uploading artifacts for successful job",
        "Uploading artifacts...",
        "out: found 8 matching artifact files and directories",
        "src/**/*.{o,h}: found 2 matching artifact files and directories",
        "with blank: found 1 matching",
        "*.txt: found 1 matching",
        "late/: found 2 matching",
        "WARNING: none: no matching files. Ensure that the artifact path is relative to the working directory (",
        "WARNING: No matching files. Path is empty.",
        "WARNING: processPath: artifact path is not a subpath of project directory: /etc",
        "WARNING: processPath: artifact path is not a subpath of project directory: ../up",
        "/src/a/x.h: found 1 matching",
        "out/**/*.log: excluded 2 files",
        "Uploading artifacts as \"archive\" to coordinator... 201 Created\x1b[0;m  id\x1b[0;m=",
        " responseStatus\x1b[0;m=201 Created token\x1b[0;m=",
    ]);
    let artifact = &pack.artifacts[0];
    assert_eq!((artifact.kind.as_str(), artifact.format.as_str()), ("archive", "zip"));
    assert_eq!((artifact.filename.as_str(), artifact.expire_in.as_deref()), ("pack-none-main.zip", Some("3 days")));
    let expected = [
        "late/",
        "late/file",
        "out/",
        "out/deep/",
        "out/deep/er/",
        "out/deep/er/file",
        "out/empty/",
        "out/far",
        "out/link",
        "out/run",
        "src/a/b/c.o",
        "src/a/x.h",
        "with blank",
        "ä.txt",
    ];
    assert_eq!(names(&artifact.bytes), expected);
    assert_eq!(content(artifact, "out/far"), "/proc/self/environ");
    assert_eq!(archive(artifact).by_name("out/run").expect("it is there").unix_mode(), Some(0o100_750));

    let loose = jobs["loose"].passed();
    loose.says(&["untracked: found 1 files", "excluded: excluded 1 files", "201 Created"]);
    assert_eq!(names(&loose.artifacts[0].bytes), ["d/untracked"]);
    assert_eq!(loose.artifacts[0].filename, "artifacts.zip");
    jobs["use"].passed().says(&["Downloading artifacts", "deep", "u"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_are_gzip_and_archives_are_packed_as_hard_as_asked() {
    let jobs = run::jobs(
        "
stages: [one, two]
.seq: &seq {stage: one, script: [seq 100000 > a], artifacts: {paths: [a]}}
fastest: {<<: *seq, variables: {ARTIFACT_COMPRESSION_LEVEL: fastest}}
slowest: {<<: *seq, variables: {ARTIFACT_COMPRESSION_LEVEL: slowest}}
report:
  stage: one
  script: ['echo \"<one/>\" > 1.xml', 'echo \"<two/>\" > 2.xml', echo FOUND=by-dotenv > build.env, exit 4]
  allow_failure: true
  artifacts: {reports: {junit: ['*.xml'], dotenv: build.env}, when: on_failure}
next: {stage: two, script: [echo $FOUND]}
",
    )
    .await;

    let (fastest, slowest) = (jobs["fastest"].passed(), jobs["slowest"].passed());
    assert!(slowest.artifacts[0].bytes.len() < fastest.artifacts[0].bytes.len() / 2);
    assert_eq!(content(&fastest.artifacts[0], "a"), content(&slowest.artifacts[0], "a"));
    let report = jobs["report"].failed("script_failure");
    report.says(&[
        "Uploading artifacts for failed job",
        "*.xml: found 2 matching artifact files and directories",
        "Uploading artifacts as \"junit\" to coordinator... 201 Created",
        "Uploading artifacts as \"dotenv\" to coordinator... 201 Created",
    ]);
    let of = |kind: &str| report.artifacts.iter().find(|artifact| artifact.kind == kind).expect("it is there");
    assert_eq!((of("junit").filename.as_str(), of("junit").format.as_str()), ("junit.xml.gz", "gzip"));
    assert_eq!(unpacked_report(of("junit")), "<one/>\n<two/>\n");
    assert_eq!(unpacked_report(of("dotenv")), "FOUND=by-dotenv\n");
    jobs["next"].passed().says(&["by-dotenv"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn artifacts_are_uploaded_after_the_end_that_they_are_for() {
    let jobs = run::jobs(
        "
.a: &a {paths: [a]}
success: {script: [touch a], artifacts: {<<: *a, when: on_success}}
failed: {script: [touch a, exit 3], artifacts: {<<: *a, when: on_failure}}
always: {script: [touch a, exit 3], artifacts: {<<: *a, when: always}}
plain-failed: {script: [touch a, exit 3], artifacts: *a}
not-failed: {script: [touch a], artifacts: {<<: *a, when: on_failure}}
nothing: {script: [echo none], artifacts: *a}
shown: {script: [touch a], artifacts: {<<: *a, expose_as: The file, public: false}}
kept: {script: [touch a], artifacts: {<<: *a, access: developer}}
",
    )
    .await;

    for (job, uploads) in [
        ("success", 1),
        ("failed", 1),
        ("always", 1),
        ("plain-failed", 0),
        ("not-failed", 0),
        ("shown", 1),
        ("kept", 1),
    ] {
        assert_eq!(jobs[job].artifacts.len(), uploads, "{job}: {}", jobs[job].log);
    }
    for job in ["failed", "always", "plain-failed"] {
        assert_eq!(
            (jobs[job].failed("script_failure").exit_code, jobs[job].reason.as_deref()),
            (Some(3), Some("script_failure"))
        );
    }
    jobs["failed"].says(&["Uploading artifacts for failed job"]);
    jobs["nothing"].passed().says(&["\x1b[31;1mERROR: No files to upload"]);
    assert!(jobs["nothing"].artifacts.is_empty());
    jobs["shown"].passed();
    jobs["kept"].passed();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_gets_the_artifacts_that_it_depends_on_in_order() {
    let jobs = run::jobs("
stages: [one, two]
.make: &make {stage: one, script: ['echo $CI_JOB_NAME > $CI_JOB_NAME', 'echo $CI_JOB_NAME > both'], artifacts: {paths: [a, b, both]}}
a: *make
b: *make
c: {stage: one, script: [echo none]}
all: {stage: two, script: [cat a b both]}
one: {stage: two, dependencies: [a], script: ['test \"$(echo $(ls))\" = \"a both\"']}
none: {stage: two, dependencies: [], script: ['test -z \"$(ls)\"']}
needs: {stage: two, needs: [c, b], script: ['test \"$(echo $(ls))\" = \"b both\"']}
without: {stage: two, needs: [{job: a, artifacts: false}, {job: b, artifacts: true}], script: ['test \"$(echo $(ls))\" = \"b both\"']}
")
    .await;

    jobs.values().for_each(|job| {
        job.passed();
    });
    jobs["all"].says(&[
        "Downloading artifacts for a (",
        "coordinator... ok",
        "Downloading artifacts for b (",
        "coordinator... ok",
    ]);
    jobs["all"].says(&["$ cat a b both", "a\n", "b\n", "b\n"]);
    jobs["one"].never_says(&["Downloading artifacts for b"]);
    jobs["none"].never_says(&["Downloading artifacts"]);
    jobs["without"].never_says(&["Downloading artifacts for a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn artifacts_come_from_object_storage_unless_the_job_wants_them_from_gitlab() {
    let pipeline = "
stages: [one, two]
make: {stage: one, script: [echo made > a], artifacts: {paths: [a]}}
direct: {stage: two, script: [cat a]}
proxied: {stage: two, variables: {FF_USE_DIRECT_DOWNLOAD: 'false'}, script: [cat a]}
";
    let story = Story::start_with(Settings { agent: Some(agent()), ..Settings::default() }, pipeline).await;
    story.sandbox.gitlab.faults().direct_download(true);
    let run = story.run();
    in_time(run.finished()).await;
    let jobs: BTreeMap<_, _> = run.jobs().iter().map(|job| (job.name(), Ended::of(job))).collect();
    let downloads: Vec<String> =
        story.sandbox.traffic.seen().into_iter().filter(|seen| seen.method == "GET").map(|seen| seen.path).collect();
    story.end().await;

    jobs["direct"].passed().says(&["Downloading artifacts from coordinator... ok", "made"]);
    jobs["proxied"].passed().says(&["Downloading artifacts from coordinator... ok", "made"]);
    let count = |end: &str| downloads.iter().filter(|path| path.contains("/artifacts") && path.ends_with(end)).count();
    assert_eq!((count("direct_download=true"), count("/artifacts")), (1, 1), "{downloads:?}");
    assert_eq!(downloads.iter().filter(|path| path.starts_with("/-/storage/")).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_fails_fails_a_green_job_and_no_other() {
    let limited = "
green: {script: [head -c 20000 /dev/urandom > a], artifacts: {paths: [a]}}
red: {script: [head -c 20000 /dev/urandom > a, exit 7], artifacts: {paths: [a], when: always}}
";
    let jobs = jobs_after(limited, |story| story.sandbox.gitlab.set_artifact_limit(10_000)).await;
    jobs["green"].failed("script_failure").says(&[
        "\x1b[31;1mERROR: Uploading artifacts as \"archive\" to coordinator... 413 Payload Too Large",
        "Job failed",
    ]);
    jobs["green"].never_says(&["Retrying"]);
    jobs["red"].failed("script_failure").says(&["413 Payload Too Large"]);
    assert_eq!(jobs["red"].exit_code, Some(7));

    let one = "job: {script: [touch a], artifacts: {paths: [a]}}";
    let order = |status| {
        move |story: &Story| {
            story.sandbox.gitlab.faults().answer_next("POST", "/api/v4/jobs/[0-9]+/artifacts", status, &[], 1);
        }
    };
    let jobs = jobs_after(one, order(403)).await;
    jobs["job"]
        .failed("script_failure")
        .says(&["ERROR: Uploading artifacts as \"archive\" to coordinator... 403 Forbidden"]);
    let jobs = jobs_after(one, order(503)).await;
    jobs["job"].passed().says(&[
        "WARNING: Uploading artifacts as \"archive\" to coordinator... 503 Service Unavailable",
        "Retrying...",
        "201 Created",
    ]);
    let jobs = jobs_after(one, |story| story.sandbox.gitlab.faults().redirect_uploads(1)).await;
    assert_eq!(names(&jobs["job"].passed().artifacts[0].bytes), ["a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_without_the_artifacts_that_it_needs_does_not_run() {
    let gate = Gate::new();
    let pipeline = format!(
        "
stages: [one, two]
make: {{stage: one, script: [touch a, {}], artifacts: {{paths: [a]}}}}
use: {{stage: two, script: [echo never]}}
",
        gate.wait()
    );
    let jobs = jobs_after(&pipeline, |story| {
        story.sandbox.gitlab.faults().answer_next("GET", "/api/v4/jobs/[0-9]+/artifacts", 404, &[], 9);
        gate.open();
    })
    .await;
    jobs["use"].failed("script_failure").says(&[
        "Downloading artifacts for make (",
        "\x1b[31;1mERROR: Downloading artifacts from coordinator... not found",
        "Job failed",
    ]);
    jobs["use"].never_says(&["never", "Executing \"step_script\""]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_states_where_it_comes_from() {
    let jobs = run::jobs("
.make: &make
  script: [echo content > a]
  artifacts: {name: $CI_JOB_NAME, paths: [a]}
stated: {<<: *make, variables: {RUNNER_GENERATE_ARTIFACTS_METADATA: 'true', SLSA_PROVENANCE_SCHEMA_VERSION: v1, SECRET: hidden}}
unknown: {<<: *make, variables: {RUNNER_GENERATE_ARTIFACTS_METADATA: 'true', SLSA_PROVENANCE_SCHEMA_VERSION: v0.2}}
plain: *make
")
    .await;

    let stated = jobs["stated"].passed();
    stated.says(&["Generating artifacts statement", "201 Created"]).never_says(&["Unknown SLSA"]);
    assert_eq!(names(&stated.artifacts[0].bytes), ["a", "stated-metadata.json"]);
    let text = content(&stated.artifacts[0], "stated-metadata.json");
    let statement: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(statement["_type"], "https://in-toto.io/Statement/v0.1");
    assert_eq!(statement["predicateType"], "https://slsa.dev/provenance/v1");
    assert_eq!(statement["subject"][0]["name"], "a");
    let hash = "434728a410a78f56fc1b5899c3593436e61ab0c731e9072d95e96db290205e53";
    assert_eq!(statement["subject"][0]["digest"]["sha256"], hash);
    let definition = &statement["predicate"]["buildDefinition"];
    assert_eq!(definition["externalParameters"]["entryPoint"], "stated");
    assert_eq!(definition["externalParameters"]["SECRET"], "");
    assert_eq!(definition["resolvedDependencies"][0]["digest"]["sha256"].as_str().expect("a commit").len(), 40);
    assert!(!text.contains("hidden") && !text.contains("glcbt-"), "{text}");
    jobs["unknown"].passed().says(&["WARNING: Unknown SLSA provenance version v0.2, defaulting to v1"]);
    assert_eq!(names(&jobs["plain"].passed().artifacts[0].bytes), ["a"]);
}
