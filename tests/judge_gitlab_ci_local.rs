//! An independent judge: gitlab-ci-local reads every fixture, and ours must read the same, or say why not.
//!
//! `differences.toml` holds what differs, with the reason and the page of GitLab's documentation that decides.

use std::collections::BTreeSet;
use std::process::Output;

use futures::{StreamExt, stream};
use mayfly::pipeline::{create, expanded};
use serde_json::Value;
use tokio::process::Command;

use difference::{Difference, differences, judge};
use repository::{Event, Events, Repository, fixtures};
use tools::{gitlab_ci_local, run, script};

#[path = "judges/difference.rs"]
mod difference;
#[path = "judges/keywords.rs"]
mod keywords;
#[path = "judges/normalise.rs"]
mod normalise;
#[path = "judges/repository.rs"]
mod repository;
#[path = "judges/tools.rs"]
mod tools;

/// How many fixtures are judged at once.
const AT_ONCE: usize = 4;
/// The view of a file before rules are decided, in `differences.toml`; all others are events.
const PREVIEW: &str = "preview";

/// What came of one fixture: differences, and sentences of ours about files that it should have read.
type Verdict = (Vec<Difference>, Vec<String>);

#[tokio::test]
async fn ours_expands_every_fixture_as_gitlab_ci_local_does() {
    let (found, refusals) = verdict_on_all(async |fixture, events| {
        let repository = Repository::of(fixture).await;
        let theirs = normalise::expanded(preview(&repository).await);
        match expanded(&repository.request(events.push())) {
            Ok(ours) => (differences(fixture, PREVIEW, &normalise::expanded(ours), &theirs), Vec::new()),
            Err(error) => (Vec::new(), vec![format!("{fixture}: {error}")]),
        }
    })
    .await;

    judge(&found, |view| view == PREVIEW, &refusals);
}

#[tokio::test]
async fn ours_creates_the_jobs_of_every_event_as_gitlab_ci_local_does() {
    let (found, refusals) = verdict_on_all(async |fixture, events| {
        let repository = Repository::of(fixture).await;
        let mut verdict = Verdict::default();
        for (name, event) in events.of(fixture) {
            let ours = create(&repository.request(event)).map_err(|error| error.to_string());
            match (ours, events.refused(fixture, name)) {
                (Err(error), Some(part)) if error.contains(part) => {}
                (Err(error), _) => verdict.1.push(format!("{fixture} at {name}: {error}")),
                (Ok(_), Some(part)) => verdict.1.push(format!("{fixture} at {name} is not refused with `{part}`")),
                (Ok(ours), None) => {
                    let theirs = normalise::listed(&list(&repository, event).await);
                    verdict.0.extend(differences(fixture, name, &normalise::created(&ours), &theirs));
                }
            }
        }
        verdict
    })
    .await;

    judge(&found, |view| view != PREVIEW, &refusals);
}

#[tokio::test]
async fn the_fixtures_use_every_keyword_that_is_acted_on_here() {
    let (events, mut used, mut texts) = (Events::read(), BTreeSet::new(), String::new());
    for fixture in fixtures() {
        let repository = Repository::of(&fixture).await;
        used.extend(keywords::used(&expanded(&repository.request(events.push())).expect("a file")));
        texts.extend(repository.texts().map(|text| format!("\n{text}")));
    }

    let merged = keywords::MERGED.iter().filter(|keyword| !used.contains(**keyword));
    let written = keywords::WRITTEN.iter().filter(|words| !texts.contains(**words));
    assert_eq!(merged.chain(written).collect::<Vec<_>>(), [""; 0].iter().collect::<Vec<_>>());
}

async fn verdict_on_all(on: impl AsyncFn(&str, &Events) -> Verdict) -> Verdict {
    let events = Events::read();
    let fixtures = fixtures();
    assert_eq!(fixtures.len(), 30);
    let verdicts = stream::iter(&fixtures).map(|fixture| on(fixture, &events)).buffered(AT_ONCE);
    let verdicts: Vec<Verdict> = verdicts.collect().await;
    let (found, refusals): (Vec<_>, Vec<_>) = verdicts.into_iter().unzip();
    (found.concat(), refusals.concat())
}

/// The file with everything merged into its jobs, as gitlab-ci-local sees it.
async fn preview(repository: &Repository) -> Value {
    let printed = ask(repository, &["--preview"]).await.stdout;
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), printed).expect("a preview");
    let input = std::fs::File::open(file.path()).expect("the preview");
    let judge = gitlab_ci_local().await;
    let json = run(Command::new("node").arg(script("yaml_to_json.mjs")).arg(judge).stdin(input)).await;
    serde_json::from_slice(&json.stdout).expect("JSON")
}

/// The jobs that gitlab-ci-local makes at `event`.
async fn list(repository: &Repository, event: &Event) -> Value {
    let set = event.set.iter().chain(&event.settings).map(|(name, value)| format!("--variable={name}={value}"));
    let unset = event.unset.iter().map(|name| format!("--unset-variable={name}"));
    let options: Vec<String> = ["--list-json".to_owned()].into_iter().chain(set).chain(unset).collect();
    repository.change(event);
    let printed = ask(repository, &options.iter().map(String::as_str).collect::<Vec<_>>()).await.stdout;
    let printed = String::from_utf8(printed).expect("text");
    // Warnings come first.
    let start = if printed.starts_with('[') { 0 } else { printed.find("\n[").expect("a list") };
    serde_json::from_str(&printed[start..]).expect("JSON")
}

async fn ask(repository: &Repository, options: &[&str]) -> Output {
    let program = gitlab_ci_local().await.join("node_modules/.bin/gitlab-ci-local");
    // Its copy of the schema is older than that of `judge_schema`.
    let always = ["--no-color", "--json-schema-validation=false", "--variable=GITLAB_CI=true"];
    run(repository.command(program).args(always).args(options)).await
}
