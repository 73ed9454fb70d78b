//! Nothing secret is where others can read it: definitions, overrides, events, messages, our logs, volumes.
#![cfg(feature = "sandbox")]
#![allow(clippy::print_stdout, reason = "a run shows its figures")]

#[path = "stories/support.rs"]
#[expect(dead_code, reason = "the stories need more of it")]
mod support;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};

use mayfly::sandbox::gitlab::Variable;
use mayfly::sandbox::{Sandbox, Settings};
use support::{Gate, Story, agent, in_time, trace, until};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;

const MASKED: &str = "masked-value-7f3a9c1e5b";
const PIPELINE: &str = "
build:
  cache: {key: k, paths: [out/]}
  script: [echo begun, WAIT, mkdir -p out, 'echo \"$SECRET\" | wc -c > out/n', 'echo $SECRET', 'echo $CI_JOB_TOKEN', 'cat $SECRET_FILE']
  after_script: ['echo $SECRET']
  artifacts: {paths: [out/]}
";

/// Our own log, whole.
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

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_where_others_can_read_it() {
    let log = Log::default();
    let writer = log.clone();
    let ours = Targets::new().with_target("mayfly", LevelFilter::TRACE);
    let layer = tracing_subscriber::fmt::layer().with_writer(move || writer.clone()).with_filter(ours);
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::set_global_default(subscriber).expect("the only one");

    let gate = Gate::new();
    let pipeline = PIPELINE.replace("WAIT", &gate.wait());
    let story = Story::start_with(Settings { agent: Some(agent()), ..Settings::default() }, &pipeline).await;
    story.sandbox.ecs.keep_volumes(true);
    for (key, file) in [("SECRET", false), ("SECRET_FILE", true)] {
        let variable = Variable { key: key.into(), value: MASKED.into(), masked: true, file, ..Variable::default() };
        story.sandbox.gitlab.set_variable(story.project, variable);
    }
    let job = story.run().jobs().remove(0);
    in_time(job.traced("begun")).await;
    let token = job.token().expect("it was claimed");
    // The search finds what is there: the ledger, which only we may read, holds the token while the job runs.
    let held = readable_places(&story.sandbox).into_iter().filter(|(_, bytes)| contains(bytes, token.as_bytes()));
    assert!(held.map(|(place, _)| place).any(|place| place.contains("claims/")), "the claim is in the ledger");
    gate.open();
    in_time(job.finished()).await;
    assert_eq!(job.status(), "success", "{}", trace(&job));
    in_time(story.sandbox.ecs.all_stopped()).await;
    let claims = || story.sandbox.s3.keys("ledger").iter().filter(|key| key.starts_with("claims/")).count();
    until("the ledger lets the claim go", || claims() == 0).await;

    let secrets = [
        ("the job token", token.as_str()),
        ("a masked variable", MASKED),
        ("the launch key", story.sandbox.launch_key()),
    ];
    let mut found = Vec::new();
    let mut places = readable_places(&story.sandbox);
    places.push(("our log".to_owned(), log.0.lock().expect("no panic").clone()));
    places.push(("the trace".to_owned(), job.trace()));
    assert!(places.len() > 20, "only {} places were searched", places.len());
    for (place, bytes) in &places {
        for (what, secret) in secrets {
            if contains(bytes, secret.as_bytes()) {
                found.push(format!("{what} is in {place}"));
            }
        }
    }
    println!("searched {} places", places.len());
    assert!(found.is_empty(), "{}", found.join("\n"));
    assert_eq!(job.hidden_secrets(), 0, "GitLab had to hide what we should have masked");
    story.end().await;
}

fn readable_places(sandbox: &Sandbox) -> Vec<(String, Vec<u8>)> {
    let mut places = Vec::new();
    for definition in sandbox.ecs.definitions() {
        places.push(("a task definition".to_owned(), definition.to_string().into_bytes()));
    }
    for event in sandbox.ecs.events() {
        places.push(("an event".to_owned(), event.to_string().into_bytes()));
    }
    for message in sandbox.deployment.queue().ever_sent() {
        places.push(("a queue message".to_owned(), message.into_bytes()));
    }
    for task in sandbox.ecs.tasks() {
        places.push(("a described task".to_owned(), task.json.to_string().into_bytes()));
        for name in ["helper", "build"] {
            places
                .push((format!("the {name} container's log"), sandbox.ecs.container_log(&task.arn, name).into_bytes()));
        }
        for volume in ["builds", "agent"] {
            files(&sandbox.ecs.volume_dir(&task.arn, volume), &mut places);
        }
    }
    // What is left in the ledger after the job: records, and no claim.
    for key in sandbox.s3.keys("ledger") {
        let bytes = sandbox.s3.object("ledger", &key).unwrap_or_default();
        places.push((format!("`{key}` in the ledger"), bytes));
    }
    places
}

fn files(directory: &Path, places: &mut Vec<(String, Vec<u8>)>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files(&path, places),
            Ok(kind) if kind.is_file() => {
                places.push((path.display().to_string(), fs::read(&path).unwrap_or_default()));
            }
            _ => {}
        }
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}
