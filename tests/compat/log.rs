//! What the job's log looks like, and what never stands in it.

use mayfly::sandbox::gitlab::Variable;
use regex::Regex;

use crate::run::{Ended, job, jobs};
use crate::support::{Gate, Story, in_time, until};

/// The log with its times taken out, and without the summary, which is full of them.
fn timeless(log: &str) -> String {
    let summary = Regex::new(r"(?s)section_start:[0-9]+:mayfly_summary.*section_end:[0-9]+:mayfly_summary\r\x1b\[0K");
    let times = Regex::new(r"section_(start|end):[0-9]+:").expect("an expression");
    times.replace_all(&summary.expect("an expression").replace(log, ""), "section_$1:T:").into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_has_gitlab_runners_shape_to_the_byte() {
    let jobs = jobs(
        "
plain:
  variables: {FF_TIMESTAMPS: 'false'}
  script:
    - '  echo one  '
    - |
      if true
      then echo two
      fi
    - 'echo \"no end\" | tr -d \"\\n\"'
folded:
  variables: {FF_TIMESTAMPS: 'false', FF_SCRIPT_SECTIONS: 'true'}
  script:
    - echo one
    - |
      if true
      then echo two
      fi
",
    )
    .await;

    let plain = timeless(&jobs["plain"].passed().log);
    let expected = "section_start:T:step_script\r\x1b[0K\x1b[0K\x1b[36;1mExecuting \"step_script\" stage of the job script\x1b[0;m\n\
        \x1b[32;1m$ echo one\x1b[0;m\none\n\
        \x1b[32;1m$ if true # collapsed multi-line command\x1b[0;m\ntwo\n\
        \x1b[32;1m$ echo \"no end\" | tr -d \"\\n\"\x1b[0;m\nno end\
        section_end:T:step_script\r\x1b[0K\
        section_start:T:cleanup_file_variables\r\x1b[0K\
        \x1b[0K\x1b[36;1mCleaning up project directory and file based variables\x1b[0;m\n\
        section_end:T:cleanup_file_variables\r\x1b[0K\
        \x1b[0K\x1b[32;1mJob succeeded\x1b[0;m\n";
    assert!(plain.ends_with(expected), "{plain}");
    let head = Regex::new(
        "^\x1b\\[0KRunning with mayfly [0-9.]+\n\x1b\\[0K  on mayfly [^ ]+, system ID: r_[^ ]{12}\n\
         \x1b\\[0K  feature flags: FF_TIMESTAMPS:false\n",
    );
    assert!(head.expect("an expression").is_match(&plain), "{plain}");

    let folded = timeless(&jobs["folded"].passed().log);
    let expected = "\x1b[32;1m$ echo one\x1b[0;m\none\n\
        section_start:T:section_script_step_1[hide_duration=true,collapsed=true]\r\x1b[0K\
        \x1b[32;1m$ if true\nthen echo two\nfi\x1b[0;m\n\
        section_end:T:section_script_step_1\r\x1b[0K\ntwo\n\
        section_end:T:step_script";
    assert!(folded.contains(expected), "{folded}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folded_section_shows_where_time_and_money_went() {
    let job = job("
job:
  variables: {FF_TIMESTAMPS: 'false'}
  script: [sleep 2]
")
    .await;

    job.passed().says(&[
        "section_start:",
        ":mayfly_summary[hide_duration=true,collapsed=true]\r\x1b[0K\x1b[0K\x1b[36;1mWhere time and money went\x1b[0;m\n",
        "Before the job: ",
        "\n  claim to RunTask ",
        "\n  provisioning ",
        "\n  image pull ",
        "The job: step_script took 2.",
        "\n  get_sources ",
        "\n  step_script ",
        "\nCPU: ",
        " of 1 vCPU on average, ",
        "\nMemory: ",
        " of 2048 MB on average, ",
        "(script ",
        " of 1792, helper ",
        " of 256)\nPrice: $0.000",
        " for 1m0s, the least that Fargate counts",
        "\nsection_end:",
        ":mayfly_summary\r\x1b[0K\x1b[0K\x1b[32;1mJob succeeded",
    ]);
    job.never_says(&["script 0 of", "helper 0 of"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_has_its_time_or_none() {
    let job =
        job("job:\n  script: [\"printf 'half a '\", echo line, \"printf '10%%\\\\r20%%\\\\r'\", echo done]\n").await;

    let frame = Regex::new(r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z (00|01)O[ +]").expect("an expression");
    job.passed();
    let lines: Vec<&str> = job.log.split_inclusive('\n').collect();
    assert!(lines.iter().all(|line| frame.is_match(line)), "{}", job.log);
    // Our own lines have one stream, those of all stages the other.
    job.says(&[" 00O \x1b[0KRunning with", " 00O section_start:", " 00O+\x1b[0K\x1b[36;1mGetting source"]);
    job.says(&[
        " 01O Running on",
        " 01O \x1b[32;1mFetching changes",
        " 01O line\n",
        " 00O+\x1b[0K\x1b[32;1mJob succeeded",
    ]);
    let mut text = String::new();
    for line in lines {
        if &line[31..32] == "+" {
            assert_eq!(text.pop(), Some('\n'));
        }
        text.push_str(&line[32..]);
    }
    assert!(text.contains("\x1b[0;m\nhalf a \x1b[32;1m$ echo line\x1b[0;m\nline\n"), "{text}");
    assert!(text.contains("10%\r20%\r\x1b[32;1m$ echo done\x1b[0;m\ndone\nsection_end:"), "{text}");
    assert!(
        timeless(&text).ends_with("cleanup_file_variables\r\x1b[0K\x1b[0K\x1b[32;1mJob succeeded\x1b[0;m\n"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_never_show() {
    let story = Story::start(
        "
variables: {FF_TIMESTAMPS: 'false'}
default:
  before_script: ['split() { for part in \"$@\"; do printf %s \"$part\"; sleep 0.01; done; echo; }']
job:
  script:
    - 'echo \"value $SECRET, twice $SECRET$SECRET, long $LONG\"'
    - split before- hunt er 2 -after
    - 'split $(echo $CI_JOB_TOKEN | fold -w 5)'
    - echo glpat-Ab1_2.x glrt-t1_34 and gltok-5 glother-6
    - 'echo \"https://h/?private_token=abc&x=1 &X-AMZ-Signature=00ff\"'
    - 'printf \"%b\" \"\\\\303\"; printf \"%b\" \"\\\\251\\\\377 bytes\\\\n\"'
fewer-tokens:
  variables: {FF_MASK_ALL_DEFAULT_TOKENS: 'false'}
  script: [echo glpat-1 glrt-2]
ours:
  variables: {MAYFLY_CPU: $SECRET}
  script: ['true']
",
    )
    .await;
    for (key, value) in [("SECRET", "hunter2"), ("LONG", "hunter2 and\nmore")] {
        let variable = Variable { key: key.into(), value: value.into(), masked: true, ..Variable::default() };
        story.sandbox.gitlab.set_variable(story.project, variable);
    }
    let run = story.run();
    in_time(run.finished()).await;

    let job = |name: &str| run.job(name).expect("it is in the file");
    Ended::of(&job("job")).passed().never_says(&["hunter2", "Ab1_2", "t1_34", "00ff", "more"]).says(&[
        "value [MASKED], twice [MASKED][MASKED], long [MASKED]\n",
        "before-[MASKED]-after\n",
        "\x1b[0;m\n[MASKED]\n",
        "\nglpat-[MASKED] glrt-[MASKED] and gltok-[MASKED] glother-6\n",
        "https://h/?private_token=[MASKED]&x=1 &X-AMZ-Signature=[MASKED]\n",
        "\u{e9}\u{fffd} bytes\n",
    ]);
    assert!(String::from_utf8(job("job").trace()).is_ok());
    // GitLab hides the job token itself, where a runner let it through.
    assert_eq!(job("job").hidden_secrets(), 0);
    Ended::of(&job("fewer-tokens")).passed().says(&["\nglpat-[MASKED] glrt-2\n"]);
    Ended::of(&job("ours")).failed("runner_configuration_error").says(&["[MASKED]"]).never_says(&["hunter2"]);
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_has_an_end_and_the_job_goes_on() {
    let story = Story::start(
        "job:\n  script: [\"head -c 5000000 /dev/zero | tr '\\\\0' y\", echo lost, echo kept > kept.txt]\n  \
         artifacts: {paths: [kept.txt]}\n",
    )
    .await;

    let handle = story.run_job().await;

    let job = Ended::of(&handle);
    job.passed().never_says(&["lost"]).says(&[
        "Job's log exceeded limit of 4194304 bytes.\n",
        "Job execution will continue but no more output will be collected.",
        "Job succeeded",
    ]);
    assert!(job.log.len() < 4_194_304 + 1_000 && job.artifacts.len() == 1);
    // What was counted is what was sent.
    assert_eq!(story.sandbox.gitlab.checksum_mismatches(), 0);
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_debug_trace_is_told_to_gitlab() {
    let story = Story::start(
        "
debug:
  variables: {CI_DEBUG_TRACE: $DEBUG, DEBUG: 'true'}
  hooks: {pre_get_sources_script: [echo hook]}
  script: [echo $WORD]
  after_script: [echo after]
plain:
  script: [echo word]
",
    )
    .await;
    let run = story.run();
    in_time(run.finished()).await;

    let (debug, plain) = (run.job("debug").expect("a job"), run.job("plain").expect("a job"));
    assert_eq!((debug.debug_trace(), plain.debug_trace()), (true, false));
    Ended::of(&debug).passed().says(&["+ echo hook", "+ echo", "Running after_script", "+ echo after"]);
    Ended::of(&plain).passed().never_says(&["+ echo"]);
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gitlab_hears_of_a_silent_job_as_often_as_the_job_wants() {
    let gate = Gate::new();
    let pipeline = format!(
        "
quiet:
  variables: {{FF_USE_DYNAMIC_TRACE_FORCE_SEND_INTERVAL: 'true'}}
  script: [echo begun, {}]
plain:
  script: [echo begun, {}]
",
        gate.wait(),
        gate.wait()
    );
    let story = Story::start(&pipeline).await;
    let run = story.run();
    let (quiet, plain) = (run.job("quiet").expect("a job"), run.job("plain").expect("a job"));
    in_time(quiet.traced("begun\n")).await;
    in_time(plain.traced("begun\n")).await;

    let updates = |id: u64| {
        let path = format!("/api/v4/jobs/{id}");
        story.sandbox.traffic.seen().iter().filter(|seen| seen.method == "PUT" && seen.path == path).count()
    };
    until("a sign of life", || updates(plain.id()) > 0).await;
    assert_eq!(updates(quiet.id()), 0);
    gate.open();
    in_time(run.finished()).await;
    Ended::of(&quiet).passed();
    Ended::of(&plain).passed();
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_a_policy_says_so() {
    let story = Story::start("job:\n  script: [echo hello]\n").await;
    story.sandbox.gitlab.faults().rewrite_claim(None, |claim| {
        claim["policy_options"] = serde_json::json!({
            "execution_policy_job": true,
            "policy_name": "Scans",
            "policy_variables_override_allowed": false,
            "policy_variables_override_exceptions": ["LEVEL"],
        });
    });

    let job = story.run_job().await;

    Ended::of(&job).passed().says(&[
        " 00O+\x1b[0K\x1b[32;1mJob triggered by policy \"Scans\".\x1b[0;m\n",
        "User-defined CI/CD variables are ignored in this job (except for LEVEL) according to the pipeline execution policy.",
        "Executing \"step_script\"",
    ]);
    story.end().await;
}
