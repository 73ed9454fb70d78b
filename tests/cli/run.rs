//! `mayfly run` from the first line to what it leaves behind.

use std::fs;

use insta::assert_snapshot;

use crate::support::{User, listing};

const PASSING: &str = "\
stages: [build, test]
build:
  stage: build
  tags: [mayfly, cpu-2]
  script:
    - mkdir out
    - cp note.txt out/
  artifacts:
    paths: [out/]
    reports: {junit: out/note.txt}
unit:
  stage: test
  script:
    - cat out/note.txt
    - printf '\\033[31mred\\033[0m\\033]0;title\\007 and \\033[2Jplain\\n'
";

#[test]
fn a_pipeline_runs_on_the_working_tree_as_it_stands() {
    let user = User::with(&[(".gitlab-ci.yml", PASSING), ("note.txt", "committed\n")]);
    user.write("note.txt", "changed\n");
    let status = user.git(&["status", "--porcelain"]);
    // After the status, which may write the index.
    let before = listing(user.repository.path());

    let done = user.mayfly(&["run", "-j", "1"]);

    assert_eq!((done.code, done.err.as_str()), (Some(0), ""), "{}", done.out);
    assert_snapshot!("passing", user.normal(&done.out));
    assert_eq!(listing(user.repository.path()), before, "the repository is untouched");
    assert_eq!(user.git(&["status", "--porcelain"]), status);
    let read = |path: &str| fs::read_to_string(user.kept().join(path)).expect(path);
    assert_eq!(read("artifacts/build/out/note.txt"), "changed\n");
    assert_eq!(read("artifacts/build/reports/junit-junit.xml"), "changed\n");
    let log = read("logs/unit.log");
    assert!(
        log.contains("Running with mayfly") && log.contains("\nred and plain\n") && log.ends_with("Job succeeded\n"),
        "{log}"
    );
    assert!(!log.contains(|c: char| c.is_control() && c != '\n'), "{log:?}");
}

#[test]
fn a_failure_is_told_with_its_reason_and_last_lines() {
    let user = User::of(
        "\
stages: [build, test]
boom:
  stage: build
  script: [echo before, exit 3]
soft:
  stage: build
  allow_failure: true
  script: [exit 4]
never:
  stage: test
  script: [echo never]
",
    );

    let done = user.mayfly(&["run", "-j", "1"]);

    assert_eq!(done.code, Some(1), "{}{}", done.out, done.err);
    assert_snapshot!("failing", user.normal(&done.out));
}

#[test]
fn machines_get_one_document() {
    let user = User::of(
        "\
build:
  script: [\"test $NAME = value\", mkdir out, echo x > out/x]
  artifacts: {paths: [out/]}
soft: {script: [exit 4], allow_failure: true}
late: {script: [\"true\"], when: manual}
",
    );

    let done = user.mayfly(&["run", "--json", "--variable", "NAME=value", "--artifacts", "kept"]);

    let document = done.json();
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""), "{document}");
    assert_eq!((&document["status"], &document["passed"]), (&"success".into(), &true.into()), "{document}");
    let job = |name: &str| {
        let jobs = document["jobs"].as_array().expect("jobs");
        jobs.iter().find(|job| job["name"] == name).unwrap_or_else(|| panic!("{name}: {document}")).clone()
    };
    assert_eq!(job("build")["status"], "success");
    assert_eq!(job("build")["size"]["vcpus"], 1.0);
    assert_eq!((&job("soft")["exit_code"], &job("soft")["allow_failure"]), (&4.into(), &true.into()));
    assert_eq!(job("late")["status"], "manual");
    let artifacts = job("build")["artifacts"].as_str().expect("a path").to_owned();
    assert!(artifacts.ends_with("kept/build"), "{artifacts}");
    assert_eq!(fs::read_to_string(format!("{artifacts}/out/x")).expect("it is there"), "x\n");
}

#[test]
fn a_manual_job_waits_for_its_name() {
    let user = User::of(
        "\
stages: [build, deploy]
build: {stage: build, script: [echo built]}
ship it:
  stage: deploy
  when: manual
  allow_failure: false
  script: [echo shipped]
",
    );

    let waiting = user.mayfly(&["run"]);
    let started = user.mayfly(&["run", "build", "ship it"]);

    assert_eq!(waiting.code, Some(0), "{}{}", waiting.out, waiting.err);
    assert!(waiting.out.contains("manual: `mayfly run 'ship it'` starts it"), "{}", waiting.out);
    assert!(!waiting.out.contains("shipped"), "{}", waiting.out);
    assert_eq!(started.code, Some(0), "{}{}", started.out, started.err);
    assert!(started.out.contains("| shipped"), "{}", started.out);
}

#[test]
fn a_foreign_tag_is_named_and_runs_all_the_same() {
    let user = User::of("unit:\n  tags: [docker, cpu-3]\n  script: [echo ran]\n");
    let done = user.mayfly(&["run"]);
    assert_eq!(done.code, Some(0), "{}{}", done.out, done.err);
    assert_snapshot!("typo", user.normal(&done.out));
}

#[test]
fn the_cache_is_kept_from_run_to_run_and_can_be_left_out() {
    let user = User::of(
        "\
unit:
  cache: {key: v, paths: [vendor/]}
  script: [mkdir -p vendor, date >> vendor/dates, wc -l < vendor/dates > out]
  artifacts: {paths: [out]}
",
    );
    let hit = |arguments: &[&str]| {
        let document = user.mayfly(arguments).json();
        let directory = document["jobs"][0]["artifacts"].as_str().expect("it left something").to_owned();
        let lines = fs::read_to_string(format!("{directory}/out")).expect("it is there");
        (document["jobs"][0]["cache_hit"].as_bool().expect("it has a cache"), lines.trim().to_owned())
    };

    assert_eq!(hit(&["run", "--json"]), (false, "1".to_owned()));
    assert_eq!(hit(&["run", "--json"]), (true, "2".to_owned()));
    assert_eq!(hit(&["run", "--json", "--no-cache"]), (false, "1".to_owned()));
    assert_eq!(hit(&["run", "--json"]), (true, "2".to_owned()));
}

#[test]
fn a_second_run_of_a_directory_waits_for_nobody() {
    let user = User::of("unit: {script: [\"true\"]}\n");
    assert_eq!(user.mayfly(&["run"]).code, Some(0));
    let lock = fs::File::open(user.kept().join("lock")).expect("a lock");
    lock.lock().expect("nobody holds it");

    let done = user.mayfly(&["run"]);

    assert_eq!(done.code, Some(1));
    assert!(done.err.contains("another `mayfly run`"), "{}", done.err);
}

#[test]
fn a_job_is_tried_again_with_a_log_of_its_own_and_a_delayed_one_waits() {
    let user = User::of(
        "\
workflow: {name: 'Nightly of $CI_COMMIT_BRANCH'}
flaky: {script: [echo try, exit 1], retry: 1, allow_failure: true}
later: {script: [echo late], when: delayed, start_in: 2 seconds}
",
    );

    let done = user.mayfly(&["run"]);

    assert_eq!(done.code, Some(0), "{}{}", done.out, done.err);
    assert_eq!(done.out.matches("| try\n").count(), 2, "{}", done.out);
    for said in ["Nightly of main\n", "later: starts in 0:0", "| late\n", "passed with warnings"] {
        assert!(done.out.contains(said), "{said}: {}", done.out);
    }
    let logs = listing(&user.kept().join("logs"));
    let names: Vec<_> = logs.iter().filter_map(|(path, _)| path.file_name()?.to_str()).collect();
    assert_eq!(names, ["flaky-2.log", "flaky.log", "later.log"]);
}

#[test]
fn a_named_job_runs_with_those_whose_artifacts_it_needs_and_without_the_others() {
    let user = User::of(
        "\
stages: [build, check, test]
compile: {stage: build, script: [echo made > out], artifacts: {paths: [out]}}
broken: {stage: build, script: [exit 1]}
gate: {stage: check, script: [exit 1]}
'unit: [a, b]': {stage: test, script: [cat out], needs: [compile, {job: gate, artifacts: false}]}
ship: {stage: test, script: [cat out], dependencies: [compile], when: manual}
",
    );

    let done = user.mayfly(&["run", "unit: [a, b]", "ship", "--json"]);

    let document = done.json();
    assert_eq!(done.code, Some(0), "{document}");
    let jobs = document["jobs"].as_array().expect("jobs").iter();
    let jobs: Vec<_> = jobs.filter_map(|job| Some((job["name"].as_str()?, job["status"].as_str()?))).collect();
    assert_eq!(jobs, [("compile", "success"), ("unit: [a, b]", "success"), ("ship", "success")]);
}
