//! What the user has to mend is told on standard error, with exit code 2 and nothing run.

use crate::support::User;

const PIPELINE: &str = "\
stages: [build, test]
build: {stage: build, script: [make]}
unit: {stage: test, script: [make test], needs: [build]}
lint: {stage: test, script: [make lint], when: manual}
";

#[test]
fn wrong_usage_ends_with_2_and_says_what_is_wrong() {
    let user = User::of(PIPELINE);
    for (arguments, said) in [
        (&["run", "--dir", "nowhere"][..], "there is no directory `nowhere`"),
        (&["run", "unti"], "the pipeline has no job `unti`; did you mean `unit`?"),
        (&["run", "--variable", "A-B=hunter2"], "`A-B` is no name of a variable"),
        (&["run", "--branch", "a..b"], "`a..b` is no name for a branch"),
        (&["run", "--merge-request"], "both are `main`"),
        (&["run", "--merge-request=nowhere"], "no branch `nowhere`"),
        (&["run", "--jobs", "0"], "--jobs"),
        (&["run", "--branch", "a", "--tag", "b"], "--tag"),
        (&["check", "nowhere.yml"], "there is no file `nowhere.yml`"),
        (&["preview", "--fleet", "nowhere.toml"], "`nowhere.toml`"),
    ] {
        let done = user.mayfly(arguments);
        assert_eq!((done.code, done.out.as_str()), (Some(2), ""), "{arguments:?}: {}", done.err);
        assert!(done.err.contains(said), "{arguments:?}: {}", done.err);
        assert!(!done.err.contains("hunter2"), "a value is shown: {}", done.err);
    }
}

#[test]
fn a_pipeline_that_cannot_be_read_ends_with_2_and_its_line() {
    let user = User::of("build:\n  script: [make]\n  stagee: build\n");
    for command in ["run", "preview", "check"] {
        let done = user.mayfly(&[command]);
        assert_eq!((done.code, done.out.as_str()), (Some(2), ""), "{command}: {}", done.err);
        assert!(done.err.starts_with("error: .gitlab-ci.yml: ") && done.err.contains("line 3"), "{}", done.err);
    }
    let empty = User::with(&[("README", "x")]);
    let done = empty.mayfly(&["run", "--json"]);
    assert_eq!(done.code, Some(2));
    assert!(done.err.contains("there is no `.gitlab-ci.yml` in"), "{}", done.err);
    assert!(done.json()["error"].as_str().expect("a sentence").contains(".gitlab-ci.yml"), "{}", done.out);
}

#[test]
fn a_pipelines_jobs_are_listed_and_not_run() {
    let user = User::of(PIPELINE);
    let list = user.mayfly(&["run", "--list"]);
    let rows: Vec<Vec<&str>> = list.out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(
        rows,
        [
            vec!["job", "stage", "when", "needs"],
            vec!["build", "build", "on_success", "earlier", "stages"],
            vec!["unit", "test", "on_success", "build"],
            vec!["lint", "test", "manual", "earlier", "stages"],
        ]
    );
    let document = user.mayfly(&["run", "--list", "--json"]).json();
    assert_eq!(
        document["jobs"][1],
        serde_json::json!({"name": "unit", "stage": "test", "when": "on_success", "needs": ["build"], "tags": []})
    );
}
