//! The keywords that GitLab's server reads and a runner only obeys.

use mayfly::gitlab::features;

use crate::run::{Ended, job, jobs};
use crate::support::{Story, in_time};

#[tokio::test(flavor = "multi_thread")]
async fn scripts_run_in_one_shell() {
    let job = job("
job:
  before_script: [cd /, 'word=kept']
  script: ['echo $word in $PWD']
  after_script: ['echo after: $word in $PWD']
")
    .await;

    job.passed().says(&["$ cd /", "$ echo $word in $PWD", "kept in /", "Running after script...", "after: in "]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_only_and_except_decide_which_jobs_there_are() {
    let jobs = jobs(
        "
default:
  before_script: [echo by default]
variables: {WHERE: everywhere}
.base:
  script: ['echo $CI_JOB_NAME extends, $WHERE']
extends:
  extends: .base
  inherit: {default: false, variables: [NONE]}
rules:
  extends: .base
  rules:
    - if: $CI_COMMIT_BRANCH == 'other'
      when: never
    - if: $CI_COMMIT_BRANCH == 'main'
      variables: {WHERE: by a rule}
never:
  extends: .base
  rules: [{when: never}]
only:
  extends: .base
  only: [main]
only-tags:
  extends: .base
  only: [tags]
except:
  extends: .base
  except: [main]
tags:
  extends: .base
  tags: [mayfly, cpu-0.5]
",
    )
    .await;

    assert_eq!(jobs.keys().collect::<Vec<_>>(), ["extends", "only", "rules", "tags"]);
    jobs["extends"].passed().says(&["01O extends extends,\n"]).never_says(&["by default"]);
    jobs["rules"].passed().says(&["by default", "rules extends, by a rule"]);
    jobs["only"].passed().says(&["only extends, everywhere"]);
    jobs["tags"].passed().says(&["Size: 0.5 vCPU, 1 GB (tag cpu-0.5", "tags extends, everywhere"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn stages_and_needs_order_jobs_and_bring_artifacts() {
    let jobs = jobs(
        "
variables: {FF_TIMESTAMPS: 'false'}
stages: [build, check]
first:
  stage: .pre
  script: [echo first > first.txt]
  artifacts: {paths: [first.txt]}
make:
  stage: build
  script: [cat first.txt, echo made > made.txt]
  artifacts: {paths: [made.txt]}
stage:
  stage: check
  script: [cat first.txt made.txt]
needs:
  stage: check
  needs: [make]
  script: [cat made.txt, 'test ! -e first.txt']
needs-nothing:
  stage: check
  needs: []
  script: ['test ! -e made.txt']
parallel:
  stage: build
  parallel: 2
  script: ['echo $CI_NODE_INDEX of $CI_NODE_TOTAL']
matrix:
  stage: build
  parallel: {matrix: [{SYSTEM: [linux], BITS: ['32', '64']}]}
  script: ['echo $SYSTEM-$BITS']
",
    )
    .await;

    for job in jobs.values() {
        job.passed();
    }
    jobs["make"].says(&["Downloading artifacts for first", "\nfirst\n"]);
    jobs["stage"].says(&["$ cat first.txt made.txt", "\nfirst\n", "made\n"]);
    jobs["needs"]
        .says(&["Downloading artifacts for make", "\nmade\n"])
        .never_says(&["Downloading artifacts for first"]);
    jobs["needs-nothing"].never_says(&["Downloading artifacts"]);
    jobs["parallel 2/2"].says(&["\n2 of 2\n"]);
    jobs["matrix: [linux, 64]"].says(&["\nlinux-64\n"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_failure_means_is_gitlabs_to_say() {
    let place = tempfile::tempdir().expect("a directory");
    let tried = place.path().join("tried");
    let pipeline = format!(
        "
variables: {{FF_TIMESTAMPS: 'false'}}
may-fail:
  allow_failure: true
  script: [exit 3]
by-code:
  allow_failure: {{exit_codes: [7, 8]}}
  script: [(exit 8)]
again:
  retry: {{max: 1, when: script_failure}}
  script: ['test -e {0} || {{ touch {0}; exit 3; }}']
not-again:
  allow_failure: true
  retry: {{max: 2, when: [runner_system_failure]}}
  script: [exit 4]
again-by-code:
  allow_failure: true
  retry: {{max: 1, exit_codes: 5}}
  script: [exit 5]
interruptible:
  interruptible: true
  script: ['true']
on-failure:
  stage: deploy
  when: on_failure
  script: [echo no]
always:
  stage: deploy
  when: always
  script: [echo yes]
",
        tried.display()
    );
    let story = Story::start(&pipeline).await;
    let run = story.run();
    in_time(run.finished()).await;

    let job = |name: &str| run.job(name).expect("it is in the file");
    let ended = |name: &str| Ended::of(&job(name));
    assert_eq!((run.status().as_str(), run.has_warnings()), ("success", true));
    for (name, code, retries) in [("may-fail", 3, 0), ("by-code", 8, 0), ("not-again", 4, 0), ("again-by-code", 5, 1)] {
        assert_eq!(
            (ended(name).failed("script_failure").exit_code, job(name).retries()),
            (Some(code), retries),
            "{name}"
        );
        ended(name).says(&[&format!("ERROR: Job failed: exit code {code}")]);
    }
    ended("again").passed();
    assert_eq!(job("again").retries(), 1);
    ended("interruptible").passed();
    ended("always").passed().says(&["\nyes\n"]);
    assert_eq!(ended("on-failure").status, "skipped");
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_or_the_time_starts_a_job() {
    let story = Story::start(
        "
manual:
  when: manual
  manual_confirmation: Really?
  script: [echo by hand]
later:
  when: delayed
  start_in: 1 second
  script: [echo in time]
",
    )
    .await;
    let run = story.run();
    let (manual, later) = (run.job("manual").expect("a job"), run.job("later").expect("a job"));
    assert_eq!(manual.status(), "manual");

    assert!(manual.play());

    in_time(manual.finished()).await;
    in_time(later.finished()).await;
    Ended::of(&manual).passed().says(&["by hand"]);
    Ended::of(&later).passed().says(&["in time"]);
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_gitlab_acts_on_leaves_the_job_as_it_is() {
    let story = Story::start(
        "
environment:
  environment: {name: review/$CI_COMMIT_REF_SLUG, url: https://$CI_COMMIT_REF_SLUG.example.com}
  script: ['echo $CI_ENVIRONMENT_NAME at $CI_ENVIRONMENT_URL']
coverage:
  coverage: '/Covered: \\d+%/'
  script: ['echo Covered: 81%']
pages:
  pages: true
  publish: site
  script: [mkdir site, echo hello > site/index.html]
  artifacts: {paths: [site]}
one:
  resource_group: cluster
  script: [echo one]
two:
  resource_group: cluster
  script: [echo two]
child:
  trigger: {include: child.yml}
",
    )
    .await;
    let run = story.run();
    in_time(run.finished()).await;

    let job = |name: &str| run.job(name).expect("it is in the file");
    Ended::of(&job("environment")).passed().says(&["\u{1b}[0;m\n", "review/main at https://main.example.com"]);
    Ended::of(&job("coverage")).passed().says(&["Covered: 81%\n"]);
    let pages = Ended::of(&job("pages"));
    assert_eq!(pages.passed().artifacts.iter().map(|artifact| artifact.kind.as_str()).collect::<Vec<_>>(), ["archive"]);
    let span = |name: &str| (job(name).started_at().expect("it ran"), job(name).finished_at().expect("it ended"));
    let (one, two) = (span("one"), span("two"));
    assert!(one.1 <= two.0 || two.1 <= one.0, "{one:?} and {two:?}");
    // GitLab makes a pipeline of it; no runner ever sees such a job.
    assert!(run.job("child").is_none());
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_run_before_the_sources_are_got() {
    let jobs = jobs(
        "
hooks:
  hooks: {pre_get_sources_script: ['echo hook of $CI_JOB_NAME', 'test ! -e $CI_PROJECT_DIR/.git']}
  script: ['true']
failing:
  allow_failure: true
  hooks: {pre_get_sources_script: [exit 9]}
  script: [echo never]
  after_script: [echo never]
none:
  variables: {GIT_STRATEGY: none}
  hooks: {pre_get_sources_script: [echo never]}
  script: ['true']
",
    )
    .await;

    jobs["hooks"].passed().says(&[
        "Getting source from",
        "$ echo hook of",
        "\u{1b}[0;m\n",
        "hook of hooks",
        "Fetching",
    ]);
    jobs["failing"].failed("script_failure").says(&["exit code 9"]).never_says(&["never"]);
    assert_eq!(jobs["failing"].exit_code, Some(9));
    jobs["none"].passed().never_says(&["never"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_made_behind_the_script() {
    let story = Story::start(
        "
variables: {FF_TIMESTAMPS: 'false', NUMBER: '7'}
release:
  variables: {PATH: '$CI_PROJECT_DIR/bin:/usr/local/bin:/usr/bin:/bin', TITLE: 'Release $NUMBER'}
  script:
    - mkdir bin
    - printf '#!/bin/sh\\nfor word; do echo \"<$word>\"; done\\n' > bin/release-cli
    - chmod +x bin/release-cli
  after_script: ['echo then $CI_JOB_STATUS']
  release:
    tag_name: v$NUMBER
    name: $TITLE
    description: 'Costs $$5, made of $CI_COMMIT_SHORT_SHA'
    milestones: [m1, m2]
    assets: {links: [{name: app, url: 'https://example.com/v$NUMBER'}]}
failed:
  script: [exit 1]
  release: {tag_name: v1, description: never}
",
    )
    .await;
    story.sandbox.gitlab.enable_releases();
    let run = story.run();
    in_time(run.finished()).await;

    let release = Ended::of(&run.job("release").expect("a job"));
    release.passed().says(&[
        "Executing \"step_script\" stage of the job script",
        "section_end:",
        "Executing \"step_release\" stage of the job script",
        "$ release-cli create --name \"Release 7\" --description \"Costs $5, made of ",
        "<create>\n<--name>\n<Release 7>\n<--description>\n",
        "<--tag-name>\n<v7>\n<--milestone>\n<m1>\n<--milestone>\n<m2>\n",
        "<--assets-link>\n<{\"name\":\"app\",\"url\":\"https://example.com/v7\"}>\n",
        "Running after_script",
        "then success",
    ]);
    Ended::of(&run.job("failed").expect("a job")).failed("script_failure").never_says(&["step_release", "never"]);
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_terminal_is_announced() {
    let features = features();
    assert!(!features.session && !features.terminal && !features.proxy);
    assert!(features.multi_build_steps && features.return_exit_code && features.cancel_gracefully);
    let offered =
        rewritten(|claim| claim["runner_info"]["runner_session_url"] = "https://gitlab.test/group/app/-/jobs/1".into());
    offered.await.passed().says(&["O ran"]).never_says(&["terminal", "session"]);
}

/// Starts a pipeline whose only job's claim is changed on its way.
async fn rewritten(rewrite: impl Fn(&mut serde_json::Value) + Send + Sync + 'static) -> Ended {
    let story = Story::start("job: {script: [echo ran]}").await;
    story.sandbox.gitlab.faults().rewrite_claim(None, rewrite);
    let ended = Ended::of(&story.run_job().await);
    story.end().await;
    ended
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_gitlabs_step_runner_or_form_is_refused_with_the_way_out() {
    let run = rewritten(|claim| {
        claim["steps"] = serde_json::Value::Null;
        claim["run"] = r#"[{"name": "hello", "script": "echo ran"}]"#.into();
    });
    run.await.failed("runner_configuration_error").says(&["`run:` is not supported by this runner: use `script:`"]);
    let inputs = rewritten(|claim| {
        claim["inputs"] = serde_json::json!([{"key": "size", "value": {"content": "1", "type": "string"}}]);
    });
    let said = "job `inputs:` are not supported by this runner (`size`): use `variables:`";
    inputs.await.failed("runner_configuration_error").says(&[said]).never_says(&["O ran"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_gitlab_turns_into_variables_arrives_as_variables() {
    let job = rewritten(|claim| {
        let cloud = serde_json::json!([
            {"key": "CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE", "value": "{\"type\": \"external_account\"}", "file": true,
             "public": false, "masked": false},
            {"key": "DAST_WEBSITE", "value": "https://app.test", "public": true, "masked": false},
        ]);
        claim["variables"].as_array_mut().expect("a list").extend(cloud.as_array().expect("a list").clone());
        claim["steps"][0]["script"] =
            serde_json::json!(["cat $CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE", "echo; echo \"<$DAST_WEBSITE>\""]);
    });
    job.await.passed().says(&["{\"type\": \"external_account\"}", "O <https://app.test>"]);
    for keyword in ["identity: google_cloud", "dast_configuration: {site_profile: a}"] {
        let story = Story::start(&format!("job: {{script: [echo ran], {keyword}}}")).await;
        let refused = story.sandbox.gitlab.run_pipeline(story.project, "main").err().map(|error| format!("{error:?}"));
        assert!(refused.is_some_and(|said| said.contains("cannot be done here")), "{keyword}");
        story.end().await;
    }
}
