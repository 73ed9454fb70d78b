//! Tests the life of pipelines on rows alone: no file, no server, no git.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::mirror::{Commit, Mirror};
use super::options::{RunnerSpec, Source};
use super::pipeline_row::{Pipeline, Roster};
use super::queue::Contact;
use super::state::{Outcome, Project, Runner, State};
use super::status::Status;
use crate::pipeline::{AllowFailure, Job, Need, Retry, When};
use crate::sandbox::clock::Clock;

struct Bench {
    state: State,
    pipeline: u64,
}

impl Bench {
    fn new(jobs: Vec<Job>) -> Bench {
        let mut state = State::new("http://127.0.0.1:1".to_owned(), Clock::default());
        state.projects.push(Project {
            id: 1,
            path: "group/app".to_owned(),
            mirror: Arc::new(Mirror::new(Path::new("/nowhere"), "/nowhere".into())),
            variables: Vec::new(),
            protected_refs: Vec::new(),
            default_branch: "main".to_owned(),
            cache_index: None,
            timeout: Duration::from_secs(3600),
            token_allowed_from: Vec::new(),
            pipelines: 0,
            merge_requests: Vec::new(),
        });
        state.runners.push(Runner {
            id: 1,
            token: "glrt-x".to_owned(),
            spec: RunnerSpec::default(),
            contacted_at: None,
            managers: Vec::new(),
            queue_version: String::new(),
        });
        let mut bench = Bench { state, pipeline: 0 };
        bench.pipeline = bench.add(jobs);
        bench
    }

    fn add(&mut self, jobs: Vec<Job>) -> u64 {
        let id = self.state.pipelines.len() as u64 + 1;
        let now = self.state.clock.now();
        let row = Pipeline {
            id,
            iid: id,
            project: 1,
            source: Source::Push,
            ref_name: "main".to_owned(),
            tag: false,
            tag_message: String::new(),
            merge_request: None,
            sha: "1".repeat(40),
            before_sha: "0".repeat(40),
            commit: Commit::default(),
            name: None,
            variables: Vec::new(),
            file: Arc::default(),
            jobs: Roster::default(),
            status: "created",
            has_warnings: false,
            created_at: now,
            started_at: None,
            finished_at: None,
        };
        let stages = ["build", "test", "deploy"].map(str::to_owned).to_vec();
        self.state.insert_pipeline(row, crate::pipeline::Pipeline { stages, jobs, ..Default::default() });
        self.state.start_pipeline(id);
        id
    }

    fn id(&self, name: &str) -> u64 {
        self.state.pipelines[&self.pipeline].latest_named(name).unwrap()
    }

    fn claim(&mut self) -> Option<String> {
        let features: BTreeSet<String> = ["return_exit_code".to_owned()].into();
        let id = self.state.assign(1, &Contact { features, ..Contact::default() })?;
        Some(self.state.jobs[&id].definition.name.clone())
    }

    fn end(&mut self, name: &str, status: Status, code: i64) {
        let failed = status == Status::Failed;
        let reason = failed.then(|| "script_failure".to_owned());
        self.state.finish(self.id(name), Outcome { status, reason, exit_code: failed.then_some(code) });
    }

    /// Claims `name` and ends it well.
    fn pass(&mut self, name: &str) {
        assert_eq!(self.claim().as_deref(), Some(name));
        self.end(name, Status::Success, 0);
    }

    fn fail(&mut self, name: &str, code: i64) {
        assert_eq!(self.claim().as_deref(), Some(name));
        self.end(name, Status::Failed, code);
    }

    /// `pipeline status: job status, …`
    fn shows(&self) -> String {
        let jobs = self.state.latest(self.pipeline);
        let jobs: Vec<String> = jobs.map(|job| format!("{} {}", job.definition.name, job.status.as_str())).collect();
        format!("{}: {}", self.state.pipelines[&self.pipeline].status, jobs.join(", "))
    }

    fn dependencies(&self, name: &str) -> Vec<String> {
        let jobs = self.state.dependencies(&self.state.jobs[&self.id(name)]);
        jobs.into_iter().map(|job| job.definition.name.clone()).collect()
    }
}

fn job(name: &str, stage: &str) -> Job {
    Job { name: name.to_owned(), stage: stage.to_owned(), script: vec!["x".to_owned()], ..Job::default() }
}

fn when(name: &str, stage: &str, when: When) -> Job {
    Job { when, ..job(name, stage) }
}

fn needs(name: &str, stage: &str, needs: &[&str]) -> Job {
    let needs = needs.iter().map(|&name| Need { job: name.to_owned(), artifacts: true });
    Job { needs: Some(needs.collect()), ..job(name, stage) }
}

fn optional(job: Job) -> Job {
    Job { allow_failure: AllowFailure::Yes, ..job }
}

#[test]
fn a_job_with_needs_starts_when_they_are_done_and_one_without_any_at_once() {
    let mut bench = Bench::new(vec![
        job("a", "build"),
        job("b", "build"),
        needs("c", "test", &["a"]),
        job("d", "test"),
        needs("e", "deploy", &[]),
    ]);
    assert_eq!(bench.shows(), "pending: a pending, b pending, c created, d created, e pending");

    bench.pass("a");

    assert_eq!(bench.shows(), "running: a success, b pending, c pending, d created, e pending");
    for name in ["b", "c", "d", "e"] {
        bench.pass(name);
    }
    assert_eq!(bench.shows(), "success: a success, b success, c success, d success, e success");
}

#[test]
fn what_needs_a_job_that_does_not_run_is_skipped_in_any_order_of_the_file() {
    let mut bench = Bench::new(vec![
        needs("c", "test", &["b"]),
        needs("b", "test", &["a"]),
        job("a", "build"),
        Job { when: When::OnFailure, ..needs("rescue", "deploy", &["a"]) },
        Job { when: When::Always, ..needs("report", "deploy", &["b"]) },
    ]);

    bench.fail("a", 1);

    assert_eq!(bench.shows(), "running: c skipped, b skipped, a failed, rescue pending, report pending");
    bench.pass("rescue");
    bench.pass("report");
    assert_eq!(bench.shows(), "failed: c skipped, b skipped, a failed, rescue success, report success");
}

#[test]
fn when_decides_what_starts_after_a_failure() {
    let jobs = || {
        vec![
            job("a", "build"),
            job("b", "test"),
            when("c", "test", When::OnFailure),
            when("d", "deploy", When::Always),
            job("e", "deploy"),
        ]
    };
    let mut failing = Bench::new(jobs());
    failing.fail("a", 1);
    assert_eq!(failing.shows(), "running: a failed, b skipped, c pending, d created, e created");
    failing.pass("c");
    assert_eq!(failing.shows(), "running: a failed, b skipped, c success, d pending, e skipped");

    let mut passing = Bench::new(jobs());
    passing.pass("a");
    passing.pass("b");
    assert_eq!(passing.shows(), "running: a success, b success, c skipped, d pending, e pending");
}

#[test]
fn a_manual_job_that_must_run_holds_what_follows_until_it_is_played() {
    let mut bench = Bench::new(vec![job("a", "build"), when("gate", "test", When::Manual), job("b", "deploy")]);
    bench.pass("a");
    assert_eq!(bench.shows(), "manual: a success, gate manual, b created");

    assert!(!bench.state.play(bench.id("a")));
    assert!(bench.state.play(bench.id("gate")));

    assert_eq!(bench.shows(), "running: a success, gate pending, b created");
    bench.pass("gate");
    bench.pass("b");
    assert_eq!(bench.shows(), "success: a success, gate success, b success");
}

#[test]
fn a_manual_job_that_may_be_left_out_holds_nothing() {
    let mut bench = Bench::new(vec![
        job("a", "build"),
        optional(when("gate", "test", When::Manual)),
        needs("after", "deploy", &["gate"]),
        job("b", "deploy"),
    ]);
    bench.pass("a");
    assert_eq!(bench.shows(), "running: a success, gate manual, after skipped, b pending");
    bench.pass("b");
    assert_eq!(bench.shows(), "success: a success, gate manual, after skipped, b success");

    bench.state.play(bench.id("gate"));
    bench.pass("gate");

    assert_eq!(bench.shows(), "running: a success, gate success, after pending, b success");
}

#[test]
fn a_delayed_job_waits_for_its_time_or_for_a_person() {
    let delay = When::Delayed(Duration::from_secs(60));
    let mut bench = Bench::new(vec![when("a", "build", delay), when("b", "build", delay), job("c", "test")]);
    assert_eq!(bench.shows(), "scheduled: a scheduled, b scheduled, c created");
    let scheduled = std::mem::take(&mut bench.state.scheduled);
    assert_eq!(scheduled.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [bench.id("a"), bench.id("b")]);
    assert!(scheduled[0].1 > bench.state.clock.now());

    bench.state.play(bench.id("b"));
    bench.state.start_scheduled(bench.id("a"));
    bench.pass("a");
    bench.state.start_scheduled(bench.id("a"));
    bench.pass("b");

    assert_eq!(bench.shows(), "running: a success, b success, c pending");
}

#[test]
fn an_allowed_failure_warns_and_an_exit_code_can_decide() {
    let codes = AllowFailure::ExitCodes(vec![3]);
    let jobs = || vec![Job { allow_failure: codes.clone(), ..job("a", "build") }, job("b", "test")];
    let mut allowed = Bench::new(jobs());
    allowed.fail("a", 3);
    assert_eq!(allowed.shows(), "pending: a failed, b pending");
    allowed.pass("b");
    assert!(allowed.state.pipelines[&1].has_warnings);
    assert_eq!(allowed.shows(), "success: a failed, b success");

    let mut refused = Bench::new(jobs());
    refused.fail("a", 1);
    assert_eq!(refused.shows(), "failed: a failed, b skipped");
}

#[test]
fn a_job_is_tried_again_before_what_follows_is_decided() {
    let retry = Retry { max: 2, ..Retry::default() };
    let mut bench = Bench::new(vec![Job { retry, ..job("a", "build") }, job("b", "test")]);

    for _ in 0..2 {
        bench.fail("a", 1);
        assert_eq!(bench.shows().split(": ").nth(1), Some("a pending, b created"));
    }
    bench.fail("a", 1);

    assert_eq!(bench.shows(), "failed: a failed, b skipped");
    assert_eq!(bench.state.jobs.len(), 4);
    let again = bench.state.retry(bench.id("a")).unwrap();
    assert_eq!(bench.state.jobs[&again].retries, 3);
    assert_eq!(bench.shows(), "pending: a pending, b created");
}

#[test]
fn the_retry_of_a_manual_job_starts_at_once() {
    let mut bench = Bench::new(vec![when("a", "build", When::Manual)]);
    bench.state.play(bench.id("a"));
    bench.fail("a", 1);

    bench.state.retry(bench.id("a"));

    assert_eq!(bench.shows(), "pending: a pending");
}

#[test]
fn one_job_of_a_resource_group_goes_at_a_time_over_all_pipelines() {
    let group = |job: Job| Job { resource_group: Some("on $CI_COMMIT_BRANCH".to_owned()), ..job };
    let retry = Retry { max: 1, ..Retry::default() };
    let mut bench =
        Bench::new(vec![Job { retry, ..group(job("a", "build")) }, group(job("b", "build")), job("c", "test")]);
    let second = bench.add(vec![group(job("d", "build"))]);
    assert_eq!(bench.state.jobs[&bench.id("a")].resource_group.as_deref(), Some("on main"));
    assert_eq!(bench.shows(), "running: a pending, b waiting_for_resource, c created");
    assert_eq!(bench.state.pipelines[&second].status, "waiting_for_resource");

    bench.fail("a", 1);
    assert_eq!(bench.shows(), "running: a waiting_for_resource, b pending, c created");
    bench.state.cancel(bench.id("b"), false);

    assert_eq!(bench.state.pipelines[&second].status, "pending");
    assert_eq!(bench.claim().as_deref(), Some("d"));
    assert_eq!(bench.claim(), None);
    bench.state.cancel_pipeline(second);
    bench.pass("a");
    assert_eq!(bench.shows(), "canceled: a success, b canceled, c skipped");
}

#[test]
fn canceling_a_pipeline_leaves_what_waits_for_a_person() {
    let mut bench = Bench::new(vec![
        job("a", "build"),
        job("b", "build"),
        when("gate", "build", When::Manual),
        when("late", "build", When::Delayed(Duration::from_secs(9))),
        job("c", "test"),
    ]);
    bench.pass("a");

    bench.state.cancel_pipeline(bench.pipeline);

    assert_eq!(bench.shows(), "manual: a success, b canceled, gate manual, late canceled, c canceled");
}

#[test]
fn a_job_gets_the_artifacts_of_what_it_needs_or_of_all_before_it() {
    let mut picky = needs("picky", "deploy", &["a", "b"]);
    picky.needs.as_mut().unwrap()[1].artifacts = false;
    let bench = Bench::new(vec![
        job("a", "build"),
        job("b", "build"),
        job("c", "test"),
        job("all", "deploy"),
        picky,
        Job { dependencies: Some(vec!["b".to_owned()]), ..job("named", "deploy") },
        Job { dependencies: Some(vec!["b".to_owned()]), ..needs("both", "deploy", &["a", "b"]) },
        Job { dependencies: Some(Vec::new()), ..needs("none", "deploy", &["a"]) },
    ]);

    assert_eq!(bench.dependencies("all"), ["a", "b", "c"]);
    assert_eq!(bench.dependencies("picky"), ["a"]);
    assert_eq!(bench.dependencies("named"), ["b"]);
    assert_eq!(bench.dependencies("both"), ["b"]);
    assert!(bench.dependencies("none").is_empty() && bench.dependencies("a").is_empty());
}

#[test]
fn a_thousand_jobs_are_scheduled_in_no_time() {
    let stage = |n: usize| ["build", "test", "deploy"][n / 334];
    let name = |n: usize| format!("job {n}");
    let jobs = (0..1000).map(|n| match n {
        0..334 => job(&name(n), stage(n)),
        _ => needs(&name(n), stage(n), &[&name(n - 334), &name(n - 333)]),
    });
    let begun = Instant::now();
    let mut bench = Bench::new(jobs.collect());

    while let Some(name) = bench.claim() {
        bench.end(&name, Status::Success, 0);
    }

    assert_eq!(bench.state.pipelines[&1].status, "success");
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}
