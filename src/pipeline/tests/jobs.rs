//! What every pipeline makes of a file.

use std::time::Duration;

use super::support::*;
use crate::pipeline::{AllowFailure, Need, Node, Retry, When};

#[test]
fn a_job_inherits_the_defaults_that_it_does_not_replace() {
    let pipeline = pipeline(
        "default:\n  image: alpine\n  tags: [mayfly]\nbefore_script: [echo before]\nvariables: {A: 1, B: 2}\n\
         one:\n  script: echo one\ntwo:\n  image: {name: rust, entrypoint: ['']}\n  before_script: []\n  \
         script: [[a, [b]], c]\n  tags: []\n  variables: {B: 3}\n\
         three: {script: x, inherit: {default: [tags], variables: [B]}}\n\
         four: {script: x, inherit: {default: false, variables: false}}\n",
    );

    let [one, two, three, four] = pipeline.jobs.as_slice() else { panic!("four jobs") };
    assert_eq!(pipeline.stages, [".pre", "build", "test", "deploy", ".post"]);
    assert_eq!((value(one, "A"), value(two, "A"), value(two, "B")), (Some("1"), Some("1"), Some("3")));
    assert_eq!(one.image.as_ref().expect("an image").name, "alpine");
    assert_eq!((one.before_script.len(), &one.tags), (1, &vec!["mayfly".to_owned()]));
    assert_eq!(two.image.as_ref().and_then(|i| i.entrypoint.clone()), Some(vec![String::new()]));
    assert_eq!(two.script, ["a", "b", "c"]);
    assert!(two.before_script.is_empty() && two.tags.is_empty());
    assert!(three.image.is_none() && three.before_script.is_empty() && three.tags == ["mayfly"]);
    assert_eq!((value(three, "A"), value(three, "B")), (None, Some("2")));
    assert!(four.tags.is_empty() && four.variables.is_empty());
}

#[test]
fn every_keyword_of_a_job_is_read() {
    let job = job(r#"
stages: [test]
job:
  stage: test
  image: {name: img, docker: {platform: linux/arm64, user: me}, kubernetes: {user: 1001}, pull_policy: [always, if-not-present]}
  services:
    - postgres:16
    - {name: redis, alias: cache, command: [redis-server], entrypoint: [sh], variables: {P: "1"}}
  variables: {X: {value: "$Y", expand: false}}
  hooks: {pre_get_sources_script: [git --version]}
  script: |
    one
    two
  after_script: [bye]
  cache:
    - {key: k, paths: [a/], policy: pull, when: always, fallback_keys: [f], unprotect: true, untracked: true}
    - {paths: [b/]}
    - {key: {files: [.gitlab-ci.yml], prefix: $CI_COMMIT_BRANCH}, paths: [c/]}
    - {key: {files: [none.lock]}, paths: [d/]}
  artifacts: {name: n, paths: [o/], exclude: [o/x], untracked: false, when: always, expire_in: 1 week, expose_as: it, access: none, reports: {junit: r.xml, coverage_report: {coverage_format: cobertura, path: c.xml}}}
  tags: [mayfly, cpu-4]
  environment: {name: production, url: https://example.com, action: start, on_stop: stop, auto_stop_in: 1 day, deployment_tier: production}
  allow_failure: {exit_codes: [3, 4]}
  retry: {max: 1, when: [script_failure, stuck_or_timeout_failure], exit_codes: 137}
  timeout: 1h 30m
  resource_group: production
  interruptible: true
  coverage: '/\d+%/'
  dependencies: []
"#);

    assert_eq!(job.services[0].image.name, "postgres:16");
    assert_eq!(job.services[1].alias.as_deref(), Some("cache"));
    assert!(job.variables[0].raw);
    assert_eq!(job.script, ["one\ntwo\n"]);
    assert_eq!(job.pre_get_sources_script, ["git --version"]);
    let keys: Vec<&str> = job.cache.iter().map(|cache| cache.key.as_str()).collect();
    assert_eq!(keys[..2], ["k", "default"]);
    assert!(keys[2].starts_with("$CI_COMMIT_BRANCH-") && keys[2].len() == 58, "{}", keys[2]);
    assert_eq!(keys[3], "3-default");
    let artifacts = job.artifacts.expect("artifacts");
    assert_eq!(artifacts.reports[1], ("cobertura".to_owned(), vec!["c.xml".to_owned()]));
    assert_eq!(job.timeout, Some(Duration::from_secs(5400)));
    assert_eq!(job.dependencies, Some(Vec::new()));
    let environment = job.environment.expect("one");
    assert_eq!((environment.action.as_deref(), environment.tier.as_deref()), (Some("start"), Some("production")));
    assert_eq!(job.allow_failure, AllowFailure::ExitCodes(vec![3, 4]));
    let when = vec!["script_failure".to_owned(), "stuck_or_timeout_failure".to_owned()];
    assert_eq!(job.retry, Retry { max: 1, when, exit_codes: vec![137] });
    assert_eq!((job.resource_group.as_deref(), job.interruptible), (Some("production"), true));
}

#[test]
fn hidden_jobs_are_left_out_and_can_be_merged_extended_and_referred_to() {
    let pipeline = pipeline(
        ".base: &base\n  image: alpine\n  script: [base]\n.more: {extends: .base, variables: {X: 1}}\n\
         one:\n  <<: *base\n  script: [own]\ntwo: {extends: [.more], variables: {Y: 2}}\n\
         three: {script: [!reference [.base, script], c], variables: !reference [.more, variables]}\n",
    );

    assert_eq!(names(&pipeline), ["one", "two", "three"]);
    assert_eq!(named(&pipeline, "one").script, ["own"]);
    let two = named(&pipeline, "two");
    assert_eq!(
        (two.script.as_slice(), value(two, "X"), value(two, "Y")),
        (&["base".to_owned()][..], Some("1"), Some("2"))
    );
    assert_eq!(named(&pipeline, "three").script, ["base", "c"]);
}

#[test]
fn an_empty_keyword_takes_away_what_a_parent_brought() {
    let job = job(".base: {image: a, retry: 2, before_script: [x], environment: {name: e, on_stop: s, url: u}}\n\
         job: {extends: .base, script: x, image: ~, retry: ~, before_script: ~, environment: {on_stop: ~, url: ~}, tags: }\n");

    assert!(job.image.is_none() && job.before_script.is_empty() && job.tags.is_empty());
    assert_eq!((job.retry.max, job.environment.map(|e| e.name)), (0, Some("e".to_owned())));
}

#[test]
fn parallel_jobs_are_named_numbered_and_get_their_variables() {
    let pipeline = pipeline(
        "a: {script: x, parallel: 3}\n\
         b: {script: x, parallel: {matrix: [{OS: [linux, mac], V: ['1', '2']}, {OS: bsd}]}}\n\
         c: {script: x, needs: [a, {job: b, artifacts: false, parallel: {matrix: [{OS: mac, V: ['1', '2']}]}}]}\n\
         d: {script: x, parallel: {matrix: [{OS: [linux], V: ['1']}]}, needs: [{job: b, parallel: {matrix: [{OS: '$[[ matrix.OS ]]', V: '2'}]}}]}\n",
    );

    let expected =
        ["a 1/3", "a 2/3", "a 3/3", "b: [linux, 1]", "b: [linux, 2]", "b: [mac, 1]", "b: [mac, 2]", "b: [bsd]"];
    assert_eq!(names(&pipeline)[..8], expected);
    let b = named(&pipeline, "b: [mac, 1]");
    assert_eq!((value(b, "OS"), value(b, "V"), b.node), (Some("mac"), Some("1"), Some(Node { index: 3, total: 5 })));
    let need = |job: &str, artifacts| Need { job: job.to_owned(), artifacts };
    let expected = ["a 1/3", "a 2/3", "a 3/3"]
        .map(|job| need(job, true))
        .into_iter()
        .chain(["b: [mac, 1]", "b: [mac, 2]"].map(|job| need(job, false)));
    assert_eq!(named(&pipeline, "c").needs, Some(expected.collect()));
    assert_eq!(named(&pipeline, "d: [linux, 1]").needs, Some(vec![need("b: [linux, 2]", true)]));
}

#[test]
fn needs_and_dependencies_find_their_jobs() {
    let pipeline = pipeline(
        "stages: [a, b]\n\
         one: {stage: a, script: x, parallel: 2}\ntwo: {stage: a, script: x, only: [tags]}\n\
         three: {stage: b, script: x, dependencies: [one]}\n\
         four: {stage: b, script: x, needs: [{job: two, optional: true}, one 1/2]}\n\
         five: {stage: b, script: x, needs: []}\nsix: {stage: a, script: x, needs: [four]}\n"
            .replace("six: {stage: a", "six: {stage: b")
            .as_str(),
    );

    assert_eq!(named(&pipeline, "three").dependencies, Some(vec!["one 1/2".to_owned(), "one 2/2".to_owned()]));
    assert_eq!(named(&pipeline, "four").needs, Some(vec![Need { job: "one 1/2".into(), artifacts: true }]));
    assert_eq!(named(&pipeline, "five").needs, Some(Vec::new()));
    assert_eq!(named(&pipeline, "six").needs.as_ref().map(Vec::len), Some(1));
}

#[test]
fn a_combination_that_is_there_twice_is_one_job() {
    let pipeline = pipeline("t: {script: x, parallel: {matrix: [{V: [1, 2]}, {V: [2, 3]}]}}\n");

    assert_eq!(names(&pipeline), ["t: [1]", "t: [2]", "t: [3]"]);
}

#[test]
fn a_merge_wins_over_what_stands_before_it() {
    let pipeline = pipeline(
        ".x: &x {image: a, script: [x]}\n.y: &y {image: y}\none: {image: b, <<: *x}\ntwo: {<<: [*y, *x], image: b}\n",
    );

    let image = |name: &str| named(&pipeline, name).image.as_ref().map(|image| image.name.clone());
    assert_eq!((image("one").as_deref(), image("two").as_deref()), (Some("a"), Some("b")));
}

#[test]
fn a_manual_job_may_fail_unless_it_or_a_rule_says_otherwise() {
    let pipeline = pipeline(
        "a: {script: x, when: manual}\nb: {script: x, when: manual, allow_failure: false}\n\
         c: {script: x, rules: [{when: manual}]}\nd: {script: x, rules: [{when: manual, allow_failure: true}]}\n\
         e: {script: x, when: delayed, start_in: 30 minutes}\nf: {script: x, when: manual, rules: [{if: '$CI'}]}\n",
    );

    let of = |name: &str| (named(&pipeline, name).when, named(&pipeline, name).may_fail());
    assert_eq!(of("a"), (When::Manual, true));
    assert_eq!(of("b"), (When::Manual, false));
    assert_eq!(of("c"), (When::Manual, false));
    assert_eq!(of("d"), (When::Manual, true));
    assert_eq!(of("e"), (When::Delayed(Duration::from_secs(1800)), false));
    assert_eq!(of("f"), (When::Manual, true));
}

#[test]
fn what_acts_in_gitlab_alone_is_named_once() {
    let pipeline = pipeline(
        "a: {script: x, coverage: '/x/', environment: e}\nb: {script: x, coverage: '/x/'}\n\
         c: {trigger: {include: child.yml}}\nd: {script: x, needs: [c], stage: deploy}\n",
    );

    assert_eq!(names(&pipeline), ["a", "b", "d"]);
    assert_eq!(named(&pipeline, "d").needs, Some(Vec::new()));
    let starts: Vec<&str> = pipeline.notes.iter().map(|note| note.split(':').next().unwrap_or_default()).collect();
    assert_eq!(starts, ["`coverage` (a, b)", "`environment` (a)", "`trigger` (c)"]);
}
