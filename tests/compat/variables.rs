//! Variables and scripts: precedence, expansion, files, and the shell.

use std::collections::BTreeMap;

use mayfly::sandbox::gitlab::Variable;

use crate::run::{Ended, job, jobs};
use crate::support::{Story, in_time};

/// The jobs of a project that has CI variables.
async fn jobs_with(variables: Vec<Variable>, pipeline: &str) -> BTreeMap<String, Ended> {
    let story = Story::start(pipeline).await;
    for variable in variables {
        story.sandbox.gitlab.set_variable(story.project, variable);
    }
    let run = story.run();
    in_time(run.finished()).await;
    let ended = run.jobs().iter().map(|job| (job.name(), Ended::of(job))).collect();
    story.end().await;
    ended
}

fn variable(key: &str, value: &str) -> Variable {
    Variable { key: key.into(), value: value.into(), ..Variable::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_definition_counts_and_references_are_expanded() {
    let variables = vec![variable("PROJECT", "project"), variable("CI_RUNNER_VERSION", "mine")];
    let jobs = jobs_with(
        variables,
        r#"
variables: {GLOBAL: global, BOTH: global, PROJECT: file, CI_CONCURRENT_ID: mine, WORD: see}
precedence:
  variables: {BOTH: job}
  script:
    - echo "1 $GLOBAL $BOTH $PROJECT $CI_CONCURRENT_ID"
    - echo "2 $CI_RUNNER_VERSION" | grep -v mine
expansion:
  variables: {REFERS: "<$WORD-${WORD}x>", DOLLARS: "<$$WORD $>", NOBODY: "<$UNKNOWN${WORD:-d}>"}
  script:
    - printenv REFERS DOLLARS NOBODY
"#,
    )
    .await;

    jobs["precedence"].passed().says(&["01O 1 global job project mine", "01O 2 "]);
    jobs["expansion"].passed().says(&["<see-seex>", "<$WORD $>", "<>"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_runner_adds_its_variables_and_nothing_of_kubernetes() {
    let job = job(r#"
job:
  image: alpine:$TAG
  timeout: 20 minutes
  variables: {TAG: "$NUMBER", NUMBER: "3"}
  script:
    - test "$PWD" = "$CI_PROJECT_DIR"
    - test "$CI_PROJECT_DIR" = "$CI_BUILDS_DIR/group/app"
    - test "$RUNNER_TEMP_PROJECT_DIR" = "$CI_PROJECT_DIR.tmp"
    - test "$GITLAB_ENV" = "$RUNNER_TEMP_PROJECT_DIR/gitlab_runner_env"
    - echo "1 $CI_SERVER $CI_DISPOSABLE_ENVIRONMENT $CI_JOB_STATUS $CI_JOB_TIMEOUT $CI_JOB_IMAGE"
    - echo "2 $CI_CONCURRENT_ID $CI_CONCURRENT_PROJECT_ID $CI_RUNNER_EXECUTABLE_ARCH"
    - test -n "$CI_RUNNER_SHORT_TOKEN" && test -n "$CI_RUNNER_VERSION" && test -n "$CI_RUNNER_REVISION"
    - env | grep ^KUBERNETES_ || echo 3 none
"#)
    .await;

    job.passed().says(&["1 yes true running 1200 alpine:3\n", "2 0 0 linux/", "3 none"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_directory_can_be_called_otherwise_and_stays_where_it_is() {
    let job = job(r#"
job:
  variables: {CI_PROJECT_DIR: /mine, RUNNER_TEMP_PROJECT_DIR: /mine}
  script:
    - echo "1 $CI_PROJECT_DIR $RUNNER_TEMP_PROJECT_DIR"
    - test "$PWD" = "$CI_BUILDS_DIR/group/app"
"#)
    .await;

    job.passed().says(&["1 /mine ", "/group/app.tmp"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_variable_is_a_path_and_a_raw_one_is_as_it_stands() {
    let file = Variable { file: true, ..variable("CERT", "first\n  second $WORD") };
    let raw = Variable { raw: true, ..variable("RAW", "$WORD ${WORD}$$") };
    let raw_file = Variable { file: true, raw: true, ..variable("RAW_FILE", "$WORD") };
    let jobs = jobs_with(
        vec![file, raw, raw_file, variable("WORD", "see")],
        r#"
files:
  variables: {WHERE: "-f $CERT"}
  script:
    - test "$CERT" = "$RUNNER_TEMP_PROJECT_DIR/CERT" && test "$WHERE" = "-f $CERT"
    - cat $CERT && echo .
    - cat $RAW_FILE && echo .
    - rm $CERT
  after_script:
    - head -n 1 $CERT
raw:
  variables: {YAML: {value: "$WORD", expand: false}, USES: "<$RAW>"}
  script:
    - printenv RAW YAML USES
"#,
    )
    .await;

    jobs["files"].passed().says(&["first\n", "  second see.", "$WORD.", "Running after script...", "first\n"]);
    jobs["raw"].passed().says(&["$WORD ${WORD}$$", "$WORD", "<$WORD ${WORD}$$>"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_may_be_longer_than_an_environment_holds() {
    let big = "0123456789".repeat(20_000);
    let file = Variable { file: true, ..variable("BIG_FILE", &big) };
    let jobs = jobs_with(
        vec![variable("BIG", &big), file],
        r#"
job:
  hooks:
    pre_get_sources_script: ['wc -c < "$BIG_FILE"']
  script:
    - echo "1 ${#BIG}"
    - unset BIG
    - wc -c < "$BIG_FILE"
"#,
    )
    .await;

    jobs["job"].passed().says(&["200000", "1 200000", "200000"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_gitlab_env_are_variables_from_then_on() {
    let job = job(r#"
job:
  hooks:
    pre_get_sources_script: ['echo "HOOK=hook" >> "$GITLAB_ENV"']
  variables: {WORD: file, NAME: out}
  script:
    - echo "1 $HOOK"
    - echo 'WORD=two  words "$HOOK"' >> "$GITLAB_ENV"
    - echo "NAME=mine" >> "$GITLAB_ENV"
    - mkdir mine && touch mine/made
    - echo "2 $WORD"
  after_script:
    - echo "3 $WORD"
  artifacts: {paths: [$NAME/]}
"#)
    .await;

    job.passed().says(&["1 hook", "2 file", "3 two  words \"$HOOK\"", "mine/: found 2 matching"]);
    assert!(job.artifacts.iter().any(|artifact| artifact.kind == "archive"), "{:?}", job.artifacts);
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_end_as_a_shell_with_errexit_and_pipefail_ends() {
    let jobs = jobs(
        r#"
early: {script: ["echo 1 here", "exit 0", "echo never", "false"]}
spans: {script: ["if true; then", "echo 1 in one", "fi", "f() {", "echo 2 in f", "}", "f", "cd /", "echo 3 $PWD"]}
shell: {script: ['echo "1 $BASH"']}
empty: {script: ["cat", "read line || echo 1 nothing comes in"]}
pipe: {script: ["(exit 3) | cat", "echo never"]}
errexit: {script: ["(exit 42)", "echo never"]}
syntax: {script: ["if true", "echo never"]}
background: {script: ["sleep 300 &", "(sleep 300; echo never) &", "echo 1 gone"]}
"#,
    )
    .await;

    jobs["early"].passed().says(&["1 here"]).never_says(&["01O never"]);
    jobs["spans"].passed().says(&["1 in one", "2 in f", "3 /"]);
    // The first that is there of a list that begins with bash: this machine has it.
    jobs["shell"].passed().says(&["01O 1 /", "bin/bash"]);
    jobs["empty"].passed().says(&["1 nothing comes in"]);
    jobs["background"].passed().says(&["1 gone", "Job succeeded"]);
    for (name, code) in [("pipe", Some(3)), ("errexit", Some(42)), ("syntax", None)] {
        let job = jobs[name].failed("script_failure");
        assert!(code.is_none() || job.exit_code == code, "{:?}: {}", job.exit_code, job.log);
        job.never_says(&["01O never"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_flag_is_a_variable_and_a_malformed_one_is_warned_of() {
    let jobs = jobs(
        r#"
flags:
  variables: {FF_CONCRETE: maybe, FF_USE_FASTZIP: "0", FF_HASH_CACHE_KEYS: $YES, "YES": "T", FF_MINE: word}
  script:
    - env | grep '^FF_' | grep -vc FF_MINE
    - echo "1 $FF_CONCRETE $FF_USE_FASTZIP $FF_HASH_CACHE_KEYS $FF_MINE"
"#,
    )
    .await;

    let warning = "WARNING: FF_CONCRETE: could not parse feature flag, expected bool, got maybe";
    jobs["flags"].passed().says(&[warning, "01O 51\n", "1 false false true word"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn flags_change_how_the_shell_runs_a_script() {
    let jobs = jobs(
        r#"
.script: {script: ["false && true", "echo 1 went on"]}
unchecked: {extends: .script}
checked:
  extends: .script
  variables: {FF_ENABLE_BASH_EXIT_CODE_CHECK: "true"}
legacy:
  variables: {FF_USE_LEGACY_BASH_EVAL: "true"}
  script: ["WORD=kept", "cat", "echo 1 $WORD", "exit 0", "false"]
escapes:
  variables: {FF_POSIXLY_CORRECT_ESCAPES: "true", ODD: "it's a \\ and a \"quote\" and `echo`"}
  script: ["printenv ODD"]
clean:
  variables: {FF_ENABLE_JOB_CLEANUP: "true"}
  script: ["touch left"]
"#,
    )
    .await;

    jobs["unchecked"].passed().says(&["1 went on"]);
    jobs["checked"].failed("script_failure").never_says(&["01O 1 went on"]);
    jobs["legacy"].passed().says(&["1 kept"]);
    jobs["escapes"].passed().says(&["it's a \\ and a \"quote\" and `echo`"]);
    // The volume goes with the task: nothing is cleaned, and nothing is told.
    jobs["clean"].passed().never_says(&["Removing left"]);
}
