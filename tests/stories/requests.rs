//! What Mayfly's own requests cost: how many there are of each kind.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use mayfly::sandbox::Settings;
use mayfly::sandbox::ecs::{Ending, Runtime, SimulatedTask};
use mayfly::sandbox::gitlab::RunnerSpec;
use mayfly::sandbox::traffic::Seen;

use crate::support::{Story, in_time, until};

fn simulated(runners: Vec<RunnerSpec>) -> Settings {
    let play = |task: SimulatedTask| {
        async move {
            task.running();
            task.told_to_stop().await;
            Ending::exited([("helper", 143), ("build", 143)])
        }
        .boxed()
    };
    Settings { runtime: Runtime::Simulated(Arc::new(play)), ticks: false, runners, ..Settings::default() }
}

/// S3 charges PUT and LIST alike, and GET a twelfth of it; DELETE is free. Caches and agents are not counted.
fn costs_as_put(seen: &Seen) -> bool {
    let is_ledger = seen.server == "s3" && seen.path.starts_with("/ledger/");
    is_ledger && (matches!(seen.method.as_str(), "PUT" | "POST") || seen.path.contains("list-type=2"))
}

fn requests(story: &Story, from: usize) -> Vec<String> {
    let seen = story.sandbox.traffic.seen();
    seen[from..].iter().filter(|seen| costs_as_put(seen)).map(ToString::to_string).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_tick_costs_three_requests_however_many_runners_there_are() {
    for count in [1, 20] {
        let runner = |i: usize| RunnerSpec { description: format!("runner-{i}"), ..RunnerSpec::default() };
        let story = Story::start_with(simulated((0..count).map(runner).collect()), "job:\n  script: ['true']\n").await;
        story.sandbox.deployment.tick();
        until("the first polls", || story.sandbox.gitlab.claim_requests() == count).await;
        story.quiet().await;
        for _ in 0..3 {
            story.sandbox.clock.advance(Duration::from_secs(60));
            let from = story.sandbox.traffic.seen().len();
            let polls = story.sandbox.gitlab.claim_requests();
            story.sandbox.deployment.tick();
            until("all runners are polled", || story.sandbox.gitlab.claim_requests() == polls + count).await;
            story.quiet().await;
            let requests = requests(&story, from);
            assert!(requests.len() <= 3, "{count} runners: {requests:#?}");
        }
        story.sandbox.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lone_job_costs_twelve_requests() {
    let story = Story::start("build:\n  script: [echo hello]\n").await;
    let from = story.sandbox.traffic.seen().len();

    let job = story.run_job().await;
    in_time(story.sandbox.ecs.all_stopped()).await;
    in_time(story.sandbox.gitlab.hooks_delivered()).await;
    let claims = || story.sandbox.s3.keys("ledger").iter().filter(|key| key.starts_with("claims/")).count();
    until("the ledger has let it go", || claims() == 0).await;
    story.quiet().await;

    let requests = requests(&story, from);
    println!("a lone job: {} requests that cost as PUT", requests.len());
    assert_eq!(job.status(), "success");
    assert!(requests.len() <= 12, "{requests:#?}");
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_invocations_at_once_do_not_fight_for_one_object() {
    let settings = Settings { dispatchers: 100, ..simulated(Settings::default().runners) };
    let story = Story::start_with(settings, "job:\n  script: ['true']\n").await;
    let from = story.sandbox.traffic.seen().len();
    for _ in 0..1000 {
        story.sandbox.deployment.tick();
    }
    story.quiet().await;

    let requests = requests(&story, from);
    let lease = requests.iter().filter(|request| request.contains("PUT /ledger/lease")).count();
    println!("100 invocations with 10 ticks each: {} requests that cost as PUT, {lease} of the lease", requests.len());
    assert!(lease <= 300, "{lease} writes of the lease");
    story.sandbox.shutdown().await;
}
