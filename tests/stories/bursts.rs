//! More jobs than AWS takes: what can run is claimed, what is claimed runs, and who waits is told why.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use mayfly::ledger::JobKey;
use mayfly::sandbox::Settings;
use mayfly::sandbox::ecs::{Ending, Runtime};
use mayfly::sandbox::gitlab::{JobHandle, RunnerSpec};
use mayfly::sandbox::traffic::{Moment, Verdict};

use crate::support::{Story, in_time, trace, until};

/// Tasks that run until they are told to end, and then fail their jobs.
#[derive(Clone, Default)]
struct Ends(Arc<Mutex<BTreeSet<String>>>);

impl Ends {
    fn settings(&self) -> Settings {
        let ends = self.0.clone();
        let play = move |task: mayfly::sandbox::ecs::SimulatedTask| {
            let ends = ends.clone();
            async move {
                task.running();
                loop {
                    if ends.lock().expect("no panic").contains(&task.arn) {
                        return Ending::out_of_memory("build");
                    }
                    if !task.runs_for(Duration::from_millis(50)).await {
                        return Ending::exited([("helper", 143), ("build", 143)]);
                    }
                }
            }
            .boxed()
        };
        Settings { runtime: Runtime::Simulated(Arc::new(play)), ticks: false, ..Settings::default() }
    }

    fn end(&self, arn: &str) {
        self.0.lock().expect("no panic").insert(arn.to_owned());
    }
}

/// `count` jobs with these tags.
fn jobs(name: &str, count: usize, tags: &str) -> String {
    (0..count).map(|i| format!("{name}{i}:\n  tags: [{tags}]\n  script: ['true']\n")).collect()
}

/// The servers answer as they do from afar.
fn slow(story: &Story, run_task: u64, gitlab: u64, s3: u64) {
    story.sandbox.traffic.set_gate(move |seen, moment| {
        let pause = match (seen.server, seen.path.as_str()) {
            ("ecs", "RunTask") => run_task,
            ("gitlab", _) => gitlab,
            ("s3", _) => s3,
            _ => 0,
        };
        async move {
            if moment == Moment::Arrived {
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            Verdict::Pass
        }
        .boxed()
    });
}

fn count(story: &Story, status: &str) -> usize {
    story.sandbox.gitlab.jobs().iter().filter(|job| job.status() == status).count()
}

/// The ids of the jobs whose tasks were started, in the order of their starts.
fn started(story: &Story) -> Vec<u64> {
    let id = |started_by: &str| started_by.split('/').nth(2).and_then(|id| id.parse().ok());
    story.sandbox.ecs.tasks().iter().filter_map(|task| id(task.json["startedBy"].as_str()?)).collect()
}

/// When we got the job, in whole seconds: claims of one wave are equally old.
async fn claimed_at(story: &Story, id: u64) -> i64 {
    let key = JobKey::new(&story.sandbox.gitlab.url().parse().expect("a URL"), id);
    let record = story.sandbox.deployment.ledger().record(&key).await.expect("it can be read");
    record.expect("it was claimed").value.claimed_at.as_second()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_of_four_bounds_what_is_claimed_and_a_freed_place_goes_to_the_oldest_job() {
    let ends = Ends::default();
    let story = Story::start_with(ends.settings(), &jobs("job", 120, "cpu-1, mem-2g")).await;
    story.sandbox.ecs.faults().vcpu_limit(4);
    slow(&story, 500, 60, 15);

    let pipeline = story.run();
    until("four tasks", || story.sandbox.ecs.live_tasks() == 4).await;
    story.quiet().await;

    let claimed = count(&story, "running");
    println!("120 jobs of 1 vCPU, quota 4: {claimed} claimed");
    assert!(claimed <= 44, "{claimed} claimed");
    let waiting: Vec<_> = pipeline.jobs().into_iter().filter(|job| job.status() == "running").collect();
    let tasks = started(&story);
    for _ in 0..2 {
        let before = started(&story);
        let live = story.sandbox.ecs.tasks().into_iter().find(|task| task.last_status == "RUNNING").expect("one");
        ends.end(&live.arn);
        until("the freed place is taken", || started(&story).len() > before.len()).await;
        let taken = started(&story)[before.len()];
        for job in waiting.iter().map(JobHandle::id).filter(|id| *id != taken && !before.contains(id)) {
            let (age, taken_age) = (claimed_at(&story, job).await, claimed_at(&story, taken).await);
            assert!((taken_age, taken) < (age, job), "job {taken} was launched before {job}, which is older");
        }
    }
    let told = waiting.iter().filter(|job| !tasks.contains(&job.id()));
    for job in told {
        in_time(job.traced("Waiting for Fargate capacity")).await;
    }
    assert!(count(&story, "running") <= 44);
    story.sandbox.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_every_launch_is_throttled_twenty_jobs_are_claimed_at_most() {
    let story = Story::start_with(Ends::default().settings(), &jobs("job", 400, "cpu-1, mem-2g")).await;
    story.sandbox.ecs.faults().throttle("RunTask", u32::MAX);
    slow(&story, 500, 60, 15);

    story.run();
    let calls = || story.sandbox.traffic.seen().iter().filter(|seen| seen.path == "RunTask").count();
    until("a throttled launch", || calls() > 0).await;
    // Time passes: the queue's messages and the ticks bring it back.
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        story.sandbox.clock.advance(Duration::from_millis(500));
    }
    let claimed = count(&story, "running");
    println!("400 jobs, RunTask throttled for 20 s: {claimed} claimed, {} calls of RunTask", calls());
    assert!((1..=20).contains(&claimed), "{claimed} claimed");
    assert!(calls() <= 60, "{} calls", calls());

    story.sandbox.ecs.faults().throttle("RunTask", 0);
    until("launches again, without a tick", || story.sandbox.ecs.live_tasks() > 30).await;
    story.sandbox.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_above_the_quota_holds_nobody_back_and_fails_with_a_sentence() {
    let pipeline = jobs("large", 1, "cpu-8, mem-16g") + &jobs("small", 20, "cpu-0.25, mem-512m");
    for large_first in [true, false] {
        let story = Story::start_with(Ends::default().settings(), &pipeline).await;
        story.sandbox.ecs.faults().vcpu_limit(6);
        slow(&story, 100, 20, 5);
        if !large_first {
            // The large one is claimed when others run.
            story.sandbox.ecs.faults().capacity_unavailable(1);
        }

        let large = story.run().jobs().remove(0);
        until("all small ones", || story.sandbox.ecs.live_tasks() == 20).await;
        for _ in 0..10 {
            story.quiet().await;
            if large.status() == "failed" {
                break;
            }
            story.sandbox.clock.advance(Duration::from_secs(60));
            story.sandbox.deployment.tick();
        }

        in_time(large.finished()).await;
        let log = trace(&large);
        for part in ["the job needs 8 vCPU", "L-3032A538", "`cpu-` tag", "Service Quotas"] {
            assert!(log.contains(part), "{part} is not in {log}");
        }
        assert_eq!((large.finishes(), story.sandbox.ecs.live_tasks()), (1, 20));
        story.sandbox.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_holds_whatever_is_slow() {
    let settings = Ends::default().settings();
    let fleet = Box::new(|fleet: &mut mayfly::config::Fleet| fleet.runners[0].limit = Some(10));
    let story = Story::start_with(Settings { fleet, ..settings }, &jobs("job", 60, "cpu-1, mem-2g")).await;
    slow(&story, 50, 20, 150);

    story.run();
    for _ in 0..8 {
        story.sandbox.deployment.tick();
        tokio::time::sleep(Duration::from_millis(400)).await;
        let claimed = count(&story, "running");
        assert!(claimed <= 10, "{claimed} claimed");
    }
    until("ten tasks", || story.sandbox.ecs.live_tasks() == 10).await;
    story.quiet().await;
    assert_eq!(count(&story, "running"), 10);
    story.sandbox.shutdown().await;
}

/// A GitLab that needs 28 s for each answer.
async fn slow_gitlab() -> (String, Arc<Mutex<(usize, usize)>>) {
    let counts: Arc<Mutex<(usize, usize)>> = Arc::default();
    let asked = Arc::clone(&counts);
    let answer = move || {
        let asked = Arc::clone(&asked);
        async move {
            asked.lock().expect("no panic").0 += 1;
            tokio::time::sleep(Duration::from_secs(28)).await;
            asked.lock().expect("no panic").1 += 1;
            http::StatusCode::NO_CONTENT
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(answer)).await });
    (url, counts)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_gitlab_does_not_delay_the_runners_of_another() {
    for conflicts in [0, 1] {
        let (url, asked) = slow_gitlab().await;
        let mut runners = Settings::default().runners;
        runners.push(RunnerSpec { description: "slow".into(), ..RunnerSpec::default() });
        let fleet = Box::new(move |fleet: &mut mayfly::config::Fleet| {
            fleet.runners[1].url = url.parse().expect("a URL");
        });
        let settings = Settings { runners, fleet, ..Ends::default().settings() };
        let story = Story::start_with(settings, &jobs("job", 1, "cpu-1, mem-2g")).await;
        story.sandbox.deployment.tick();
        until("the slow GitLab is asked", || asked.lock().expect("no panic").0 > 0).await;
        story.sandbox.gitlab.faults().conflict_next_claims(conflicts);

        let began = std::time::Instant::now();
        let job = story.run().jobs().remove(0);
        in_time(job.reached("running")).await;

        println!("a knock while a slow GitLab is asked, {conflicts} conflicts: {:.1?}", began.elapsed());
        assert_eq!(asked.lock().expect("no panic").1, 0, "the slow GitLab has answered before");
        story.sandbox.shutdown().await;
    }
}
