//! Many short jobs on few places: nothing waits that could go on.

use std::fmt::Write;
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use mayfly::sandbox::Settings;

use crate::support::{Story, agent};

fn at_most(limit: u32) -> Settings {
    let fleet = Box::new(move |fleet: &mut mayfly::config::Fleet| fleet.runners[0].limit = Some(limit));
    let poll_spacing = SignedDuration::from_millis(50);
    Settings { agent: Some(agent()), ticks: false, fleet, poll_spacing, ..Settings::default() }
}

/// `stages` stages of `jobs` trivial jobs; each needs its counterpart in the stage before.
fn pipeline(stages: usize, jobs: usize) -> String {
    let names: Vec<String> = (0..stages).map(|stage| format!("stage-{stage}")).collect();
    let mut text = format!("stages: [{}]\n", names.join(", "));
    for (stage, name) in names.iter().enumerate() {
        for job in 0..jobs {
            let needs = if stage == 0 { String::new() } else { format!("\n  needs: [job-{}-{job}]", stage - 1) };
            let _ = writeln!(text, "job-{stage}-{job}:\n  stage: {name}\n  script: [echo hello]{needs}");
        }
    }
    text
}

async fn succeeds_within(story: &Story, patience: Duration) -> Duration {
    let begun = Instant::now();
    let pipeline = story.run();
    tokio::time::timeout(patience, pipeline.finished()).await.expect("it ends in time");
    assert_eq!(pipeline.status(), "success");
    begun.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_ends_makes_room_for_the_next_without_a_tick() {
    let story = Story::start_with(at_most(2), &pipeline(1, 12)).await;

    succeeds_within(&story, Duration::from_secs(60)).await;

    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_jobs_in_five_stages_keep_four_places_busy() {
    let story = Story::start_with(at_most(4), &pipeline(5, 40)).await;

    let took = succeeds_within(&story, Duration::from_secs(300)).await;

    println!("200 jobs in 5 stages, 4 at a time: {took:.1?}");
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_stages_of_one_job_each_follow_each_other_without_a_pause() {
    let settings = Settings { agent: Some(agent()), ticks: false, ..Settings::default() };
    let story = Story::start_with(settings, &pipeline(10, 1)).await;

    let took = succeeds_within(&story, Duration::from_secs(120)).await;

    println!("ten stages of one trivial job each: {took:.1?}");
    // A poll that had to wait would have been sent as a message.
    let delayed = story.sandbox.deployment.queue().ever_sent();
    let delayed = delayed.iter().filter(|body| body.contains("\"event\":\"poll\"") && body.contains("\"in_vain\":0"));
    assert_eq!(delayed.count(), 0);
    story.end().await;
}
