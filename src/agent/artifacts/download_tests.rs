//! Downloads from servers that do and do not do as they should.

use std::io::{Cursor, Write};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::download::download_with;
use crate::agent::context::{Context, StageError};
use crate::agent::testing::{Answer, Job, Request, context, serve};
use crate::gitlab::{Backoff, FailureReason};

fn zip(files: &[(&str, &str)]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in files {
        writer.start_file(*name, SimpleFileOptions::default()).unwrap();
        writer.write_all(content.as_bytes()).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn dependency(id: u64, name: &str) -> Value {
    json!({"id": id, "name": name, "token": format!("glcbt-of-{id}"), "artifacts_file": {"filename": "artifacts.zip"}})
}

fn job(gitlab: &str, builds: &Path, dependencies: &[Value]) -> Context {
    context(Job::new(json!({"dependencies": dependencies})).of(gitlab).within(builds))
}

async fn download(context: &Context) -> Result<(), StageError> {
    download_with(context, &Backoff::new(3, Duration::from_millis(1), Duration::from_millis(1))).await
}

fn log(context: &Context) -> String {
    String::from_utf8(context.log.contents().to_vec()).unwrap()
}

fn read(context: &Context, path: &str) -> String {
    std::fs::read_to_string(context.place.project_dir.join(path)).unwrap()
}

#[tokio::test]
async fn artifacts_come_in_order_with_each_dependencys_token_and_later_ones_win() {
    let builds = tempfile::tempdir().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let requests = seen.clone();
    let gitlab = serve(move |request: Request| {
        requests.lock().unwrap().push((request.path.clone(), request.header("job-token").unwrap().to_owned()));
        let content = if request.path.contains("/11/") { "first" } else { "second" };
        Answer::bytes(zip(&[("both", content), (&format!("dir/{content}"), "")])).header("X-Request-Id", "01J")
    })
    .await;
    let none = json!({"id": 12, "name": "left nothing", "token": "t"});
    let context = job(&gitlab, builds.path(), &[dependency(11, "build"), none, dependency(13, "pack")]);

    download(&context).await.unwrap();

    let asked = |id| (format!("/api/v4/jobs/{id}/artifacts?direct_download=true"), format!("glcbt-of-{id}"));
    assert_eq!(*seen.lock().unwrap(), [asked(11), asked(13)]);
    assert_eq!((read(&context, "both"), read(&context, "dir/first")), ("second".into(), String::new()));
    let expected = "\x1b[32;1mDownloading artifacts for build (11)...\x1b[0;m\n\
        Downloading artifacts from coordinator... ok      \x1b[0;m  correlation_id\x1b[0;m=01J host\x1b[0;m=127.0.0.1 \
        id\x1b[0;m=11 responseStatus\x1b[0;m=200 OK token\x1b[0;m=of-11\nUnpacked 2 files, 5 bytes\n";
    assert!(log(&context).starts_with(expected), "{:?}", log(&context));
}

#[tokio::test]
async fn object_storage_gets_no_token_and_is_asked_once() {
    let builds = tempfile::tempdir().unwrap();
    let storage = serve(|request: Request| {
        assert!(request.header("job-token").is_none());
        Answer { body: b"<Error><Code>AccessDenied</Code></Error>".to_vec(), ..Answer::status(403) }
    })
    .await;
    let gitlab = serve(move |request: Request| match request.path.contains("direct_download") {
        true => Answer::status(302).header("Location", format!("{storage}bucket/key?signature=1")),
        false => Answer::bytes(zip(&[("file", "by GitLab")])),
    })
    .await;
    let context = job(&gitlab, builds.path(), &[dependency(11, "build")]);

    download(&context).await.unwrap();

    assert_eq!(read(&context, "file"), "by GitLab");
}

#[tokio::test]
async fn a_refusal_ends_the_job_at_once_and_says_what_to_do() {
    let builds = tempfile::tempdir().unwrap();
    for (status, told, hint) in
        [(401, "unauthorized", "token"), (403, "forbidden", "permissions"), (404, "not found", "expired")]
    {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let gitlab = serve(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            Answer { body: br#"{"message": "no \u001b[31mway"}"#.to_vec(), ..Answer::status(status) }
        })
        .await;
        let context = job(&gitlab, builds.path(), &[dependency(11, "build")]);

        let error = download(&context).await.unwrap_err();

        assert_eq!((error.reason, error.exit_code), (FailureReason::ScriptFailure, Some(1)));
        assert!(error.message.starts_with("the artifacts of `build` (11) cannot be downloaded"), "{error}");
        assert!(error.message.contains(hint) && error.message.contains("\"no [31mway\""), "{error}");
        assert!(log(&context).contains(&format!("ERROR: Downloading artifacts from coordinator... {told}")));
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn what_breaks_is_tried_three_times() {
    let builds = tempfile::tempdir().unwrap();
    for (good_after, succeeds) in [(2, true), (3, false)] {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let gitlab = serve(move |_| match count.fetch_add(1, Ordering::SeqCst) {
            n if n >= good_after => Answer::bytes(zip(&[("file", "whole")])),
            0 => Answer::status(502),
            _ => Answer { cut: Some(40), ..Answer::bytes(zip(&[("file", "whole")])) },
        })
        .await;
        let context = job(&gitlab, builds.path(), &[dependency(11, "build")]);

        let result = download(&context).await;

        assert_eq!(result.is_ok(), succeeds, "{result:?}");
        assert_eq!(asked.load(Ordering::SeqCst), 3);
    }
}

#[tokio::test]
async fn an_archive_that_leads_out_fails_the_job() {
    let builds = tempfile::tempdir().unwrap();
    let gitlab = serve(|_| Answer::bytes(zip(&[("../../escaped", "x")]))).await;
    let context = job(&gitlab, builds.path(), &[dependency(11, "build")]);
    let error = download(&context).await.unwrap_err();
    assert!(error.message.contains("`../../escaped` lies outside the project directory"), "{error}");
    assert!(!builds.path().join("escaped").exists());
}

#[tokio::test]
async fn no_archive_at_all_fails_the_job() {
    let builds = tempfile::tempdir().unwrap();
    let gitlab = serve(|_| Answer::bytes(b"<html>".to_vec())).await;
    let context = job(&gitlab, builds.path(), &[dependency(11, "build")]);
    let error = download(&context).await.unwrap_err();
    assert!(error.message.contains("cannot be unpacked"), "{error}");
}
