//! What events decide: rules, only and except, workflow, includes, inputs.

use super::support::*;
use crate::pipeline::When;

const MR: &[(&str, &str)] =
    &[("CI_PIPELINE_SOURCE", "merge_request_event"), ("CI_COMMIT_BRANCH", ""), ("CI_MERGE_REQUEST_IID", "1")];
const TAG: &[(&str, &str)] = &[("CI_COMMIT_TAG", "v1"), ("CI_COMMIT_BRANCH", ""), ("CI_COMMIT_REF_NAME", "v1")];

fn jobs_of(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
    match with(request(&[(".gitlab-ci.yml", text), ("go.mod", "x"), ("src/a.go", "x")]), variables) {
        Ok(pipeline) => names(&pipeline).into_iter().map(str::to_owned).collect(),
        Err(error) => vec![error.to_string()],
    }
}

#[test]
fn the_first_rule_that_holds_decides() {
    let text = "a: {script: x, rules: [{if: $CI_COMMIT_TAG, when: never}, {if: $CI_COMMIT_BRANCH == 'main', variables: {R: 1}, when: always}]}\n\
        b: {script: x, rules: [{exists: ['**/*.go']}]}\nc: {script: x, rules: [{exists: [none]}]}\n\
        d: {script: x, rules: []}\ne: {script: x, rules: [!reference [.r, rules]]}\n.r: {rules: [{if: $CI}]}\n\
        f: {script: x, rules: [{changes: [x]}]}\n";

    let pipeline = with(request(&[(".gitlab-ci.yml", text), ("src/a.go", "")]), &[]).expect("it reads");

    assert_eq!(names(&pipeline), ["a", "b", "e", "f"]);
    let a = named(&pipeline, "a");
    assert_eq!((a.when, value(a, "R")), (When::Always, Some("1")));
    assert_eq!(jobs_of(text, TAG), ["b", "e", "f"]);
}

#[test]
fn changes_hold_for_what_changed_and_where_nothing_can_be_compared() {
    let text = "a: {script: x, rules: [{changes: ['src/**/*']}]}\nb: {script: x, rules: [{changes: {paths: [$DIR/*], compare_to: main}}]}\n\
        c: {script: x, only: {changes: [docs/*]}}\nz: {script: x}\nvariables: {DIR: lib}\n";
    let files = [(".gitlab-ci.yml", text)];
    let mut request = request(&files);
    request.tree.changed = Some(vec!["src/deep/a.c".to_owned()]);
    request.tree.changed_since = Box::new(|name| (name == "main").then(|| vec!["lib/b".to_owned()]));

    assert_eq!(names(&create(&request).expect("it reads")), ["a", "b", "z"]);
    request.tree.changed = None;
    assert_eq!(names(&create(&request).expect("it reads")), ["a", "b", "c", "z"]);
}

#[test]
fn only_and_except_choose_refs_variables_and_sources() {
    let text = "plain: {script: x}\nmain: {script: x, only: [main]}\ntags: {script: x, only: [tags]}\n\
        mr: {script: x, only: [merge_requests]}\npattern: {script: x, only: ['/^ma/']}\n\
        elsewhere: {script: x, only: [main@other/project]}\nhere: {script: x, only: ['/^MAIN$/i@group/app']}\n\
        not_main: {script: x, except: [main]}\nvariable: {script: x, only: {refs: [branches, tags], variables: [$NOPE, $CI]}}\n\
        no_variable: {script: x, except: {variables: [$CI]}}\nruled: {script: x, rules: [{when: on_success}]}\n";

    assert_eq!(jobs_of(text, &[]), ["plain", "main", "pattern", "here", "variable", "ruled"]);
    assert_eq!(jobs_of(text, TAG), ["plain", "tags", "not_main", "variable", "ruled"]);
    assert_eq!(jobs_of(text, MR), ["mr", "ruled"]);
}

#[test]
fn workflow_rules_decide_about_the_pipeline_and_give_variables() {
    let text = "workflow:\n  name: 'Build of $CI_COMMIT_BRANCH in $MODE'\n  rules:\n    - if: $CI_PIPELINE_SOURCE == 'merge_request_event'\n      \
        variables: {MODE: review}\n    - if: $CI_COMMIT_BRANCH == 'main'\n      variables: {MODE: release}\n\
        variables: {MODE: none}\na: {script: x}\nb: {script: x, variables: {MODE: own}}\nc: {script: x, rules: [{if: $MODE == 'release'}]}\n";

    let pipeline = pipeline(text);
    assert_eq!(pipeline.name.as_deref(), Some("Build of main in release"));
    assert_eq!(value(named(&pipeline, "a"), "MODE"), Some("release"));
    assert_eq!(value(named(&pipeline, "b"), "MODE"), Some("own"));
    // Workflow rules take the default `only` away: `a` runs for merge requests, too.
    assert_eq!(jobs_of(text, MR), ["a", "b"]);
    assert_eq!(jobs_of(text, TAG), ["line 1: `workflow:rules` wants no pipeline for this event"]);
}

#[test]
fn settings_win_over_the_file_in_rules() {
    let text = "variables: {DEPLOY: 'no'}\na: {script: x, rules: [{if: $DEPLOY == 'yes'}]}\nb: {script: x}\n";
    let files = [(".gitlab-ci.yml", text)];
    let mut request = request(&files);
    request.settings.push(("DEPLOY".to_owned(), "yes".to_owned()));

    assert_eq!(names(&create(&request).expect("it reads")), ["a", "b"]);
    assert_eq!(jobs_of(text, &[]), ["b"]);
}

#[test]
fn included_files_lie_beneath_the_one_that_includes_them() {
    let files = [
        (
            ".gitlab-ci.yml",
            "include:\n  - local: /ci/*.yml\n  - ci/deep/lint.yaml\n  - {local: never.yml, rules: [{if: $NOPE}]}\n  \
             - {local: ci/inputs/t.yml, inputs: {name: unit}, rules: [{if: $CI}]}\n\
             build: {script: [own]}\nvariables: {A: main}\n",
        ),
        ("ci/a.yml", "include: ci/inputs/t.yml\nbuild: {script: [a], image: a}\nvariables: {A: a, B: a}\n"),
        ("ci/b.yml", "build: {image: b}\nvariables: {B: b}\n"),
        ("ci/deep/lint.yaml", "lint: {script: x}\n"),
        (
            "ci/inputs/t.yml",
            "spec:\n  inputs:\n    name: {default: base}\n---\n'$[[ inputs.name ]]-test': {script: x}\n",
        ),
    ];

    let pipeline = with(request(&files), &[]).expect("it reads");

    let mut all = names(&pipeline);
    all.sort_unstable();
    assert_eq!(all, ["base-test", "build", "lint", "unit-test"]);
    let build = named(&pipeline, "build");
    assert_eq!((build.script[0].as_str(), build.image.as_ref().expect("one").name.as_str()), ("own", "b"));
    assert_eq!((value(build, "A"), value(build, "B")), (Some("main"), Some("b")));
}

#[test]
fn mistakes_in_included_files_name_the_file() {
    let files = [(".gitlab-ci.yml", "include: ci/a.yml\nb: {script: x}\n"), ("ci/a.yml", "a:\n  scirpt: x\n")];

    let error = with(request(&files), &[]).expect_err("a typo").to_string();

    assert_eq!(error, "`ci/a.yml`, job `a`, line 2: `scirpt` is no keyword of a job: did you mean `script`?");
}

#[test]
fn inputs_of_the_configuration_are_given_from_outside() {
    let text = "spec: {inputs: {count: {type: number}, on: {type: boolean, default: false}, version: {default: '1'}}}\n---\n\
        a:\n  script: x\n  parallel: $[[ inputs.count ]]\n  interruptible: $[[ inputs.on ]]\n  image: a:$[[ inputs.version ]]\n";
    let files = [(".gitlab-ci.yml", text)];
    let mut request = request(&files);
    request.inputs.push(("count".to_owned(), "2".to_owned()));
    request.inputs.push(("version".to_owned(), "3.10".to_owned()));
    request.inputs.push(("on".to_owned(), "true".to_owned()));

    let pipeline = create(&request).expect("it reads");

    assert_eq!(names(&pipeline), ["a 1/2", "a 2/2"]);
    let job = &pipeline.jobs[0];
    assert_eq!((job.interruptible, job.image.as_ref().map(|i| i.name.as_str())), (true, Some("a:3.10")));
}
