//! The cache stages against a broker and a bucket over real HTTP.

use std::fs;
use std::path::Path;

use reqwest::Client;
use serde_json::{Value, json};

use super::broker_client::BrokerClient;
use super::cache_stage::{archive_cache, restore_cache};
use super::context::{Context, Place};
use super::log::JobLog;
use crate::cache::access::{Answer, Ask};
use crate::cache::object::{CacheSettings, EntryObjects, cache_objects};
use crate::cache::test_bucket::{Bucket, Fault, State};
use crate::gitlab::{FailureReason, Job, JobClient, Variables};
use crate::ledger::wire::{CacheAccess, CacheAnswer, CacheRequest};

/// Grants what the test's object names say: candidate 0 of entry 0 is what was saved.
fn broker(state: &mut State, url: &str, body: &str) -> (u16, String) {
    let request: CacheRequest = serde_json::from_str(body).unwrap();
    assert_eq!(request.grant, "the grant");
    let ask = match request.access {
        CacheAccess::Restore { key } => Ask::Restore { key },
        CacheAccess::Save { size } => Ask::Save { size },
        other => panic!("{other:?} for a small cache"),
    };
    let object = if ask == (Ask::Restore { key: 0 }) { "saved-" } else { "saved-0" };
    match state.answer(url, object, ask) {
        Ok(Answer::Url { url, headers }) => (200, serde_json::to_string(&CacheAnswer::Url { url, headers }).unwrap()),
        other => panic!("{other:?}"),
    }
}

async fn job(project_dir: &Path, cache: Value) -> (Bucket, Context, Vec<EntryObjects>) {
    let bucket = Bucket::start().await;
    bucket.with(|state| state.broker = Some(broker));
    let url: url::Url = bucket.url.parse().unwrap();
    let job = json!({"id": 1, "token": "t", "cache": cache, "job_info": {"name": "j", "project_id": 2}});
    let job = Job::read(job.to_string().as_bytes()).unwrap();
    let gitlab = JobClient::new(Client::new(), &url, 1, job.token.clone());
    let objects = cache_objects(&job, &Variables::default(), "short", &CacheSettings::default());
    let context = Context {
        job,
        variables: Variables::default(),
        environment: [("DIR".to_owned(), "deps".to_owned())].into(),
        place: Place {
            builds_dir: project_dir.parent().unwrap().to_owned(),
            project_dir: project_dir.to_owned(),
            temp_dir: project_dir.to_owned(),
        },
        log: JobLog::default(),
        gitlab: gitlab.clone(),
        gitlab_artifacts: gitlab,
        broker: BrokerClient::new(Client::new(), url).with_grant("the grant".to_owned()),
        child_user: None,
        settings: Default::default(),
    };
    (bucket, context, objects)
}

#[tokio::test]
async fn what_one_job_saves_the_next_restores_from_its_key_or_a_fallback() {
    let first = tempfile::tempdir().unwrap();
    fs::create_dir(first.path().join("deps")).unwrap();
    fs::write(first.path().join("deps/a"), "cached").unwrap();
    let (bucket, context, objects) = job(first.path(), json!([{"key": "k", "paths": ["$DIR/"]}])).await;

    restore_cache(&context, &objects).await.expect("a cache that is missing is no failure");
    archive_cache(&context, &objects, false).await.unwrap();
    let saved = bucket.with(|state| state.objects["saved-0"].clone());

    for fallback in [false, true] {
        let second = tempfile::tempdir().unwrap();
        let cache = json!([{"key": "k", "paths": ["deps"], "fallback_keys": ["main"]}]);
        let (bucket, context, objects) = job(second.path(), cache).await;
        let object = if fallback { "saved-01" } else { "saved-0" };
        bucket.with(|state| state.objects.insert(object.to_owned(), saved.clone()));

        restore_cache(&context, &objects).await.unwrap();

        assert_eq!(fs::read_to_string(second.path().join("deps/a")).unwrap(), "cached", "fallback: {fallback}");
        assert_eq!(bucket.with(|state| state.asked.len()), if fallback { 2 } else { 1 });
    }
}

#[tokio::test]
async fn a_cache_goes_only_the_ways_and_at_the_time_that_it_says() {
    let project = tempfile::tempdir().unwrap();
    fs::write(project.path().join("a"), "x").unwrap();
    for (entry, failed, restores, saves) in [
        (json!({"paths": ["a"]}), false, 1, 1),
        (json!({"paths": ["a"]}), true, 1, 0),
        (json!({"paths": ["a"], "when": "on_failure"}), false, 1, 0),
        (json!({"paths": ["a"], "when": "on_failure"}), true, 1, 1),
        (json!({"paths": ["a"], "when": "always"}), true, 1, 1),
        (json!({"paths": ["a"], "policy": "pull"}), false, 1, 0),
        (json!({"paths": ["a"], "policy": "push"}), false, 0, 1),
        (json!({"paths": ["none"]}), false, 1, 0),
        (json!({"paths": []}), false, 0, 0),
        (json!({"paths": ["a"], "key": ".."}), false, 0, 0),
    ] {
        let mut cache = entry.clone();
        if cache["key"].is_null() {
            cache["key"] = "k".into();
        }
        let (bucket, context, objects) = job(project.path(), json!([cache])).await;

        restore_cache(&context, &objects).await.unwrap();
        archive_cache(&context, &objects, failed).await.unwrap();

        let asked = bucket.with(|state| state.asked.clone());
        let restored = asked.iter().filter(|ask| matches!(ask, Ask::Restore { .. })).count();
        let saved = asked.iter().filter(|ask| matches!(ask, Ask::Save { .. })).count();
        assert_eq!((restored, saved), (restores, saves), "{entry} failed: {failed}");
    }
}

#[tokio::test]
async fn an_unknown_policy_ends_the_job_and_a_broken_bucket_does_not() {
    let project = tempfile::tempdir().unwrap();
    fs::write(project.path().join("a"), "x").unwrap();
    let (_bucket, context, objects) =
        job(project.path(), json!([{"key": "k", "paths": ["a"], "policy": "both"}])).await;
    let error = restore_cache(&context, &objects).await.unwrap_err();
    assert_eq!(error.reason, FailureReason::RunnerConfigurationError);
    assert!(error.message.starts_with("unknown cache policy both for k"), "{error}");
    assert!(archive_cache(&context, &objects, false).await.is_err());

    let (bucket, context, objects) = job(project.path(), json!([{"key": "k", "paths": ["a"]}])).await;
    bucket.with(|state| state.objects.insert("saved-0".into(), b"no archive".to_vec()));
    restore_cache(&context, &objects).await.unwrap();
    // The broker refuses.
    bucket.with(|state| state.faults.push_back(Fault::Status(403)));
    archive_cache(&context, &objects, false).await.unwrap();
    assert_eq!(bucket.with(|state| state.objects["saved-0"].clone()), b"no archive");
}
