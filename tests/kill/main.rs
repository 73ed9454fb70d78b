//! Kill everywhere: in a run of one job, whoever sends the n-th request dies, before it arrives or before he hears the
//! answer. For every sender, every n, both ways, the job ends in GitLab exactly once, rightly, and no task is left.
//!
//! No failpoint in the product: the sandbox's servers see every request, and the sender is killed from outside.
#![cfg(feature = "sandbox")]
#![allow(clippy::print_stdout, reason = "a run shows its figures")]

#[path = "../stories/support.rs"]
#[expect(dead_code, reason = "the stories need more of it")]
mod support;

#[path = "../lambda/aws.rs"]
#[expect(dead_code, reason = "other tests need more of it")]
mod aws;
mod deployed;
#[path = "../lambda/function.rs"]
#[expect(dead_code, reason = "other tests need more of it")]
mod function;
mod gatekeeper;
mod outcome;
mod plot;
mod sender;
#[path = "../lambda/stack.rs"]
mod stack;

use std::time::Duration;

use futures::{StreamExt, stream};
use mayfly::sandbox::Settings;
use mayfly::sandbox::gitlab::JobHandle;
use mayfly::sandbox::traffic::Moment;

use gatekeeper::Gatekeeper;
use outcome::{Killed, expected};
use plot::Plot;
use sender::Sender;
use support::{Story, agent, trace};

/// One job that uses everything: cache, artifacts, both scripts.
const PIPELINE: &str = "
build:
  cache: {key: packages, paths: [vendor/]}
  script: [mkdir -p vendor, echo hello > vendor/hello.txt, cp vendor/hello.txt result.txt]
  after_script: [echo done]
  artifacts: {paths: [result.txt]}
";

/// Cases at one time: most of a case is waiting.
const AT_ONCE: usize = 4;
/// The two tests of this file have the machine for themselves, one after the other.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
/// Longer than three leases.
const HELD_UP_FOR: Duration = Duration::from_secs(120);
/// A case takes a few seconds.
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn whoever_dies_at_whatever_request_the_job_ends_once_and_rightly() {
    let _alone = ALONE.lock().await;
    let mut cases = Vec::new();
    for story in [Plot::Undisturbed, Plot::Settle, Plot::Relaunch] {
        let counts = least(&count_requests(story).await, &count_requests(story).await);
        println!("requests of {story}: {counts:?}");
        for (sender, count) in counts {
            for n in 1..=count {
                cases.extend([Moment::Arrived, Moment::Answered].map(|moment| Case { story, sender, n, moment }));
            }
        }
    }
    run_all(cases, AT_ONCE, 10, run_case).await;
}

/// A dispatcher that is held up for longer than its lease lasts wakes up beside another, which has gone on meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn two_dispatchers_alive_at_once_end_the_job_once_and_rightly() {
    let _alone = ALONE.lock().await;
    let counts = least(&count_requests(Plot::Undisturbed).await, &count_requests(Plot::Undisturbed).await);
    let count = counts.iter().find(|(sender, _)| *sender == Sender::Dispatcher).map_or(0, |(_, count)| *count);
    let case = |n, moment| Case { story: Plot::Undisturbed, sender: Sender::Dispatcher, n, moment };
    let cases = (1..=count).flat_map(|n| [Moment::Arrived, Moment::Answered].map(|moment| case(n, moment)));
    run_all(cases.collect(), AT_ONCE, 5, run_held_up_case).await;
}

async fn run_held_up_case(case: Case) -> (String, Result<bool, String>) {
    let settings = Settings { agent: Some(agent()), ticks: false, dispatchers: 3, ..Settings::default() };
    let story = Story::start_with(settings, PIPELINE).await;
    let gate = Gatekeeper::hold_up(&story, Some((case.sender, case.n, case.moment)), HELD_UP_FOR);
    let job = story.run().jobs().remove(0);
    let end = settle_down(&story, &job, &gate).await;
    let held_up = gate.killed();
    let way = if case.moment == Moment::Arrived { "before" } else { "after" };
    let at = held_up.as_ref().map_or("(not reached)".to_owned(), |held_up| held_up.request.to_string());
    let at: String = at.chars().take(120).collect();
    let line = format!("held up: {} #{} {way} {at}: {}", case.sender, case.n, job.status());
    let verdict = end.and_then(|()| judge(Plot::Undisturbed, &job, None));
    let violations = story.sandbox.violations();
    story.sandbox.shutdown().await;
    let verdict = if violations.is_empty() { verdict } else { verdict.and(Err(format!("{violations:?}"))) };
    (line, verdict.map(|()| held_up.is_some()))
}

/// Runs all cases, and fails if one went wrong, or if more than one in `one_missed_in` never came to its request: counts differ by
/// a few from run to run (a trace in one piece or two, a look more or less).
async fn run_all<F: Future<Output = (String, Result<bool, String>)>>(
    cases: Vec<Case>,
    at_once: usize,
    one_missed_in: usize,
    run_case: impl Fn(Case) -> F,
) {
    let all = cases.len();
    let results = stream::iter(cases).map(|case| {
        let run = run_case(case);
        async move {
            let (line, verdict) = run.await;
            println!("{line}");
            verdict.map_err(|wrong| format!("{line}\n    {wrong}")).map(|reached| u32::from(!reached))
        }
    });
    let results: Vec<Result<u32, String>> = results.buffer_unordered(at_once).collect().await;
    let missed: u32 = results.iter().filter_map(|result| result.as_ref().ok()).sum();
    let wrong: Vec<String> = results.into_iter().filter_map(Result::err).collect();
    println!("{all} cases, {missed} of them came to their end before the n-th request");
    assert!(wrong.is_empty(), "{} of {all} cases went wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(missed as usize * one_missed_in <= all, "{missed} of {all} cases never came to their request");
}

/// Counts differ a little from run to run; every run has at least these.
fn least(one: &[(Sender, usize)], other: &[(Sender, usize)]) -> Vec<(Sender, usize)> {
    one.iter().zip(other).map(|((sender, one), (_, other))| (*sender, *one.min(other))).collect()
}

/// One death.
#[derive(Clone, Copy, Debug)]
struct Case {
    story: Plot,
    sender: Sender,
    n: usize,
    moment: Moment,
}

async fn start() -> Story {
    let settings = Settings { agent: Some(agent()), ticks: false, dispatchers: 1, ..Settings::default() };
    Story::start_with(settings, PIPELINE).await
}

/// How many requests each sender makes in a story in which nobody else dies.
async fn count_requests(plot: Plot) -> Vec<(Sender, usize)> {
    let story = start().await;
    let gate = Gatekeeper::stand(&story, plot, None);
    let job = story.run().jobs().remove(0);
    let end = settle_down(&story, &job, &gate).await;
    assert_eq!(end, Ok(()), "{plot}: {}", trace(&job));
    assert_eq!(job.status(), plot.ends_as().0, "{plot}: {}", trace(&job));
    let counts = plot.mortals().iter().map(|sender| (*sender, gate.count(*sender))).collect();
    story.end().await;
    counts
}

/// Runs one case; returns a line for people, and what went wrong, or whether the n-th request ever came.
async fn run_case(case: Case) -> (String, Result<bool, String>) {
    let story = start().await;
    let gate = Gatekeeper::stand(&story, case.story, Some((case.sender, case.n, case.moment)));
    let job = story.run().jobs().remove(0);
    let end = settle_down(&story, &job, &gate).await;
    let killed = gate.killed();

    let way = if case.moment == Moment::Arrived { "before" } else { "after" };
    let at = killed.as_ref().map_or("(not reached)".to_owned(), |killed| killed.request.to_string());
    let at: String = at.chars().take(120).collect();
    let status = job.status();
    let reason = job.failure_reason().map(|reason| format!(" ({reason})")).unwrap_or_default();
    let line = format!("{}: {} #{} {way} {at}: {status}{reason}", case.story, case.sender, case.n);

    let verdict = end.and_then(|()| judge(case.story, &job, killed.as_ref()));
    let violations = story.sandbox.violations();
    story.sandbox.shutdown().await;
    let verdict = if violations.is_empty() { verdict } else { verdict.and(Err(format!("{violations:?}"))) };
    (line, verdict.map(|()| killed.is_some()))
}

fn judge(plot: Plot, job: &JobHandle, killed: Option<&Killed>) -> Result<(), String> {
    if job.finishes() != 1 {
        return Err(format!("it ended {} times: {:?}", job.finishes(), job.history()));
    }
    let (status, reason) = (job.status(), job.failure_reason());
    let allowed = match killed {
        Some(killed) if plot == Plot::Undisturbed => expected(killed),
        _ => vec![plot.ends_as()],
    };
    if allowed.iter().any(|(s, r)| *s == status && r.is_none_or(|r| Some(r) == reason.as_deref())) {
        return Ok(());
    }
    Err(format!("expected one of {allowed:?}, and its trace is\n{}", trace(job)))
}

/// Lets ticks pass until the job has ended in GitLab, no task is left, and the ledger has let the job go.
async fn settle_down(story: &Story, job: &JobHandle, gate: &Gatekeeper) -> Result<(), String> {
    let sandbox = &story.sandbox;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let is_final = |job: &JobHandle| matches!(job.status().as_str(), "success" | "failed" | "canceled");
    loop {
        if tokio::time::Instant::now() > deadline {
            let tasks: Vec<_> =
                sandbox.ecs.tasks().iter().map(|t| (t.last_status.clone(), t.stopped_reason.clone())).collect();
            return Err(format!("not settled in time: job {}, tasks {tasks:?}, {}", job.status(), trace(job)));
        }
        if gate.is_paused() {
            // The lease of the one that is held up expires; others go on.
            tokio::time::sleep(Duration::from_millis(300)).await;
            sandbox.clock.advance(Duration::from_secs(31));
            sandbox.deployment.tick();
            continue;
        }
        let quiet = sandbox.deployment.running() == 0
            && sandbox.deployment.queue().visible() == 0
            && sandbox.ecs.live_tasks() == 0
            && sandbox.traffic.in_flight() == 0;
        if quiet && is_final(job) && live_jobs(story).await == 0 {
            return Ok(());
        }
        if quiet {
            // Nothing moves any more: only time helps.
            sandbox.clock.advance(Duration::from_secs(61));
            sandbox.gitlab.sweep();
            sandbox.deployment.tick();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn live_jobs(story: &Story) -> usize {
    story.sandbox.s3.keys("ledger").iter().filter(|key| key.starts_with("claims/")).count()
}
