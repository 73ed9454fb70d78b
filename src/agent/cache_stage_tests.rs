//! The cache stages against a broker and a bucket over real HTTP.

use std::collections::BTreeMap;
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
use crate::gitlab::{FailureReason, Job, JobClient, Variable, Variables};
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
    job_with(project_dir, cache, &[]).await
}

async fn job_with(
    project_dir: &Path,
    cache: Value,
    variables: &[(&str, &str)],
) -> (Bucket, Context, Vec<EntryObjects>) {
    let variables: Variables = variables.iter().map(|(key, value)| Variable::public(key, *value)).collect();
    let mut environment: BTreeMap<_, _> = variables.iter().map(|v| (v.key.clone(), v.value.clone())).collect();
    environment.insert("DIR".to_owned(), "deps".to_owned());
    let bucket = Bucket::start().await;
    bucket.with(|state| state.broker = Some(broker));
    let url: url::Url = bucket.url.parse().unwrap();
    let job = json!({"id": 1, "token": "t", "cache": cache, "job_info": {"name": "j", "project_id": 2}});
    let job = Job::read(job.to_string().as_bytes()).unwrap();
    let gitlab = JobClient::new(Client::new(), &url, 1, job.token.clone());
    let objects = cache_objects(&job, &variables, "short", &CacheSettings::default());
    let context = Context {
        job,
        variables,
        environment,
        cache: Vec::new(),
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
        let object = if fallback { "saved-02" } else { "saved-0" };
        bucket.with(|state| state.objects.insert(object.to_owned(), saved.clone()));

        restore_cache(&context, &objects).await.unwrap();

        assert_eq!(fs::read_to_string(second.path().join("deps/a")).unwrap(), "cached", "fallback: {fallback}");
        assert_eq!(bucket.with(|state| state.asked.len()), if fallback { 3 } else { 1 });
    }
}

#[tokio::test]
async fn a_cache_goes_only_the_ways_and_at_the_time_that_it_says() {
    let project = tempfile::tempdir().unwrap();
    fs::write(project.path().join("a"), "x").unwrap();
    for (entry, failed, restores, saves) in [
        // A key that has nothing is also asked for by its other name.
        (json!({"paths": ["a"]}), false, 2, 1),
        (json!({"paths": ["a"]}), true, 2, 0),
        (json!({"paths": ["a"], "when": "on_failure"}), false, 2, 0),
        (json!({"paths": ["a"], "when": "on_failure"}), true, 2, 1),
        (json!({"paths": ["a"], "when": "always"}), true, 2, 1),
        (json!({"paths": ["a"], "policy": "pull"}), false, 2, 0),
        (json!({"paths": ["a"], "policy": "push"}), false, 0, 1),
        (json!({"paths": ["none"]}), false, 2, 0),
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

/// What the stages have written, sizes and times left out, and the text of helper lines without their padding.
fn lines(context: &Context) -> Vec<String> {
    let log = String::from_utf8(context.log.contents().to_vec()).unwrap();
    let plain = |line: &str| {
        let line = line.trim_end_matches("\x1b[0;m ").trim_end();
        let line =
            ["Restored 1 file", "Saved 1 file"].into_iter().find(|start| line.starts_with(start)).unwrap_or(line);
        line.to_owned()
    };
    log.lines().map(plain).collect()
}

#[tokio::test]
async fn the_log_is_gitlab_runners() {
    const GREEN: &str = "\x1b[32;1m";
    const YELLOW: &str = "\x1b[0;33m";
    const RESET: &str = "\x1b[0;m";
    let project = tempfile::tempdir().unwrap();
    fs::write(project.path().join("a"), "x").unwrap();
    let wd = project.path().display();
    let cache = json!([
        {"key": "k/", "paths": ["a"], "fallback_keys": ["main", ".."], "when": "always"},
        {"key": "down", "paths": ["a"], "policy": "pull"},
        {"key": "up", "paths": ["none"], "policy": "push"},
        {"key": "$NONE", "paths": ["a"]},
    ]);
    let (bucket, context, objects) = job_with(project.path(), cache, &[("CACHE_FALLBACK_KEY", "x-protected")]).await;

    restore_cache(&context, &objects).await.unwrap();

    let missing = |key: &str| {
        [
            format!("{GREEN}Checking cache for {key}...{RESET}"),
            format!("{YELLOW}WARNING: file does not exist"),
            format!("{YELLOW}Failed to extract cache{RESET}"),
        ]
    };
    let skipped = |what: &str| format!("{GREEN}Skipping cache {what} due to empty cache key{RESET}");
    let sanitized = format!("{YELLOW}cache key \"k/\" sanitized to \"k\"{RESET}");
    let refused = format!("{YELLOW}CACHE_FALLBACK_KEY \"x-protected\" not allowed to end in \"-protected\"{RESET}");
    let mut expected = vec![
        sanitized.clone(),
        format!("{YELLOW}cache key \"..\" could not be sanitized{RESET}"),
        skipped("extraction"),
        refused.clone(),
    ];
    expected.extend(missing("k"));
    expected.extend(missing("main"));
    expected.push(refused);
    expected.extend(missing("down"));
    expected.extend([format!("{GREEN}Not downloading cache up due to policy{RESET}"), skipped("extraction")]);
    assert_eq!(lines(&context), expected);

    archive_cache(&context, &objects, false).await.unwrap();

    let none = format!(
        "{YELLOW}WARNING: none: no matching files. Ensure that the artifact path is relative to the working directory ({wd})"
    );
    expected.extend([
        sanitized,
        format!("{GREEN}Creating cache k...{RESET}"),
        "a: found 1 matching artifact files and directories".to_owned(),
        format!("Uploading cache.zip to {}/saved-0", bucket.url),
        "Saved 1 file".to_owned(),
        format!("{GREEN}Created cache{RESET}"),
        format!("{GREEN}Not uploading cache down due to policy{RESET}"),
        format!("{GREEN}Creating cache up...{RESET}"),
        none,
        format!("{YELLOW}WARNING: No files to cache."),
        format!("{GREEN}Created cache{RESET}"),
        skipped("archiving"),
    ]);
    assert_eq!(lines(&context), expected);
}

#[tokio::test]
async fn what_a_failed_restore_left_is_removed_where_the_job_wants_it() {
    for (flag, stays) in [("false", true), ("true", false)] {
        let top = tempfile::tempdir().unwrap();
        let project = top.path().join("project");
        fs::create_dir_all(project.join("deps/deep")).unwrap();
        fs::write(top.path().join("outside"), "").unwrap();
        fs::write(project.join("other"), "").unwrap();
        std::os::unix::fs::symlink("..", project.join("link")).unwrap();
        let cache = json!([{"key": "k", "paths": ["$DIR/", "../outside", "link/outside", ".", "*", "none"]}]);
        let variables = [("FF_CLEAN_UP_FAILED_CACHE_EXTRACT", flag)];
        let (bucket, context, objects) = job_with(&project, cache, &variables).await;
        bucket.with(|state| state.objects.insert("saved-0".into(), b"no archive".to_vec()));

        restore_cache(&context, &objects).await.unwrap();

        assert_eq!(project.join("deps").exists(), stays);
        assert!(top.path().join("outside").exists() && project.join("other").exists());
        assert_eq!(lines(&context).iter().any(|line| line == "Removing $DIR/"), !stays);
    }
}

#[tokio::test]
async fn formats_are_as_asked_and_all_of_them_come_back() {
    for (word, magic) in [
        ("", [0x28, 0xb5, 0x2f, 0xfd]),
        ("unknown", [0x28, 0xb5, 0x2f, 0xfd]),
        ("TarZstd", [0x28, 0xb5, 0x2f, 0xfd]),
        ("zip", *b"PK\x03\x04"),
        ("ZIPZSTD", *b"PK\x03\x04"),
    ] {
        for level in ["fastest", "default", "slowest"] {
            let project = tempfile::tempdir().unwrap();
            fs::write(project.path().join("a"), "x").unwrap();
            let cache = json!([{"key": "k", "paths": ["a"]}]);
            let variables = [("CACHE_COMPRESSION_FORMAT", word), ("CACHE_COMPRESSION_LEVEL", level)];
            let (bucket, context, objects) = job_with(project.path(), cache, &variables).await;
            archive_cache(&context, &objects, false).await.unwrap();
            assert_eq!(bucket.with(|state| state.objects["saved-0"][..4].to_vec()), magic, "{word}");
            fs::remove_file(project.path().join("a")).unwrap();

            restore_cache(&context, &objects).await.unwrap();

            assert_eq!(fs::read_to_string(project.path().join("a")).unwrap(), "x", "{word}");
            let log = lines(&context);
            let from = format!("Downloading cache from {}/saved-0", bucket.url);
            assert!(log.iter().any(|line| line.starts_with(&from) && !line.contains('?')), "{log:?}");
        }
    }
}

#[tokio::test]
async fn an_archive_that_is_too_large_is_not_uploaded_and_no_failure() {
    let project = tempfile::tempdir().unwrap();
    fs::write(project.path().join("a"), "x").unwrap();
    let cache = json!([{"key": "k", "paths": ["a"]}]);
    let (bucket, context, objects) =
        job_with(project.path(), cache, &[("CACHE_MAX_UPLOADED_ARCHIVE_SIZE", "10")]).await;
    archive_cache(&context, &objects, false).await.unwrap();
    assert!(bucket.with(|state| state.objects.is_empty()));
    let log = lines(&context);
    assert!(log.iter().any(|line| line.starts_with("Cache archive is too big (Limit is set to 10)")), "{log:?}");
    assert!(!log.iter().any(|line| line.contains("Failed")), "{log:?}");
}
