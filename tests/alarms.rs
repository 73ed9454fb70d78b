//! What we must hear of, because nobody can mend it: the alarm is in our log.
#![cfg(feature = "sandbox")]

#[path = "stories/support.rs"]
#[expect(dead_code, reason = "the stories need more of it")]
mod support;

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use mayfly::sandbox::Settings;
use mayfly::sandbox::traffic::{Moment, Verdict};
use support::{Story, in_time};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn has(&self, text: &str) -> bool {
        String::from_utf8_lossy(&self.0.lock().expect("no panic")).contains(text)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_whose_answer_was_lost_is_noticed_when_its_hook_comes() {
    let log = Log::default();
    let writer = log.clone();
    let ours = Targets::new().with_target("mayfly", LevelFilter::INFO);
    let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || writer.clone()).with_filter(ours);
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::set_global_default(subscriber).expect("the only one");
    let settings = Settings { ticks: false, dispatchers: 1, ..Settings::default() };
    let story = Story::start_with(settings, "build:\n  script: ['true']\n").await;
    let (deployment, gitlab) = (story.sandbox.deployment.clone(), story.sandbox.gitlab.clone());
    let done = AtomicBool::new(false);
    story.sandbox.traffic.set_gate(move |seen, moment| {
        let is_claim = seen.path.ends_with("/jobs/request") && moment == Moment::Answered;
        let given = gitlab.jobs().first().is_some_and(|job| job.status() == "running");
        let cut = is_claim && given && !done.swap(true, Ordering::SeqCst);
        if cut {
            deployment.kill_dispatcher();
        }
        async move { if cut { Verdict::Cut } else { Verdict::Pass } }.boxed()
    });

    let job = story.run().jobs().remove(0);
    in_time(job.reached("running")).await;
    in_time(story.sandbox.gitlab.hooks_delivered()).await;

    for _ in 0..60 {
        story.quiet().await;
        if log.has("lost_claim") {
            break;
        }
        story.sandbox.clock.advance(Duration::from_secs(61));
    }
    assert!(log.has(&format!("job {} was given to a runner of ours and is not in the ledger", job.id())));
    story.sandbox.shutdown().await;
}
