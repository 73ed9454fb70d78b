//! Uploads to servers that take them, send them elsewhere, or refuse.

use std::fs;
use std::io::{Cursor, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use super::upload::upload_with;
use crate::agent::context::{Context, StageError};
use crate::agent::testing::{Answer, Job, Request, context, serve};
use crate::cache::room::Room;
use crate::cache::unpack::unpack;
use crate::gitlab::{Backoff, FailureReason};

/// A job in a directory of its own, against a GitLab that remembers what it was asked.
struct Story {
    context: Context,
    seen: Arc<Mutex<Vec<Request>>>,
    _builds: tempfile::TempDir,
}

impl Story {
    async fn new(artifacts: Value, answers: impl Fn(usize, &Request) -> Answer + Send + Sync + 'static) -> Story {
        Story::with(artifacts, answers, &[]).await
    }

    async fn with(
        artifacts: Value,
        answers: impl Fn(usize, &Request) -> Answer + Send + Sync + 'static,
        variables: &[(&str, &str)],
    ) -> Story {
        let seen: Arc<Mutex<Vec<Request>>> = Arc::default();
        let requests = seen.clone();
        let gitlab = serve(move |request| {
            let mut requests = requests.lock().unwrap();
            let answer = answers(requests.len(), &request);
            requests.push(request);
            answer
        })
        .await;
        let builds = tempfile::tempdir().unwrap();
        let job = Job::new(json!({"artifacts": artifacts})).of(&gitlab).within(builds.path());
        let context = context(variables.iter().fold(job, |job, (key, value)| job.variable(key, value)));
        fs::create_dir_all(&context.place.project_dir).unwrap();
        Story { context, seen, _builds: builds }
    }

    fn file(&self, path: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.context.place.project_dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    async fn upload(&self, failed: bool) -> Result<(), StageError> {
        upload_with(&self.context, failed, &Backoff::new(6, Duration::from_millis(1), Duration::from_millis(1))).await
    }

    fn log(&self) -> String {
        String::from_utf8(self.context.log.contents().to_vec()).unwrap()
    }

    /// Path, file name and content of each upload.
    fn uploads(&self) -> Vec<(String, String, Vec<u8>)> {
        self.seen
            .lock()
            .unwrap()
            .iter()
            .map(|request| (request.path.clone(), file_name(request), part(request)))
            .collect()
    }
}

/// The content of the only part of a multipart body, which has to be called `file`.
fn part(request: &Request) -> Vec<u8> {
    assert_eq!((request.method.as_str(), request.header("job-token")), ("POST", Some("glcbt-secret")));
    let boundary = request.header("content-type").unwrap().split_once("boundary=").unwrap().1;
    let body = &request.body;
    let start = body.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap() + 4;
    let tail = format!("\r\n--{boundary}--\r\n");
    assert!(body.ends_with(tail.as_bytes()) && String::from_utf8_lossy(&body[..start]).contains("name=\"file\""));
    body[start..body.len() - tail.len()].to_vec()
}

fn file_name(request: &Request) -> String {
    let head = String::from_utf8_lossy(&request.body[..300.min(request.body.len())]).into_owned();
    head.split_once("filename=\"").unwrap().1.split_once('"').unwrap().0.to_owned()
}

fn created(_: usize, _: &Request) -> Answer {
    Answer { body: b"201".to_vec(), ..Answer::status(201).header("X-Request-Id", "01J") }
}

fn unpacked(zip: &[u8]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let root = cap_std::fs::Dir::open_ambient_dir(directory.path(), cap_std::ambient_authority()).unwrap();
    unpack(&root, Room::of(&root).unwrap(), zip).unwrap();
    directory
}

fn gunzipped(bytes: &[u8]) -> String {
    let mut text = String::new();
    flate2::read::MultiGzDecoder::new(bytes).read_to_string(&mut text).unwrap();
    text
}

#[tokio::test]
async fn an_archive_keeps_rights_times_links_and_directories() {
    let artifacts =
        json!([{"paths": ["out"], "name": "a/$CI_JOB_STATUS-${NO:-x}", "expire_in": "1 week", "when": "on_success"}]);
    let story = Story::new(artifacts, created).await;
    story.file("out/run", "#!/bin/sh\n").file("out/deep/old", [7; 300_000]);
    let out = story.context.place.project_dir.join("out");
    fs::set_permissions(out.join("run"), fs::Permissions::from_mode(0o750)).unwrap();
    fs::create_dir(out.join("empty")).unwrap();
    symlink("/proc/self/environ", out.join("link")).unwrap();
    let old = fs::File::open(out.join("deep/old")).unwrap();
    old.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(86_400)).unwrap();

    story.upload(false).await.unwrap();

    let [(path, name, zip)] = story.uploads().try_into().unwrap();
    assert_eq!(path, "/api/v4/jobs/7/artifacts?artifact_format=zip&artifact_type=archive&expire_in=1+week");
    assert_eq!(name, "running-x.zip");
    let found = unpacked(&zip);
    let found = found.path().join("out");
    assert_eq!(fs::metadata(found.join("run")).unwrap().mode(), 0o100_750);
    assert_eq!(fs::read(found.join("deep/old")).unwrap(), [7; 300_000]);
    assert_eq!(fs::metadata(found.join("deep/old")).unwrap().mtime(), 86_400);
    assert!(found.join("empty").is_dir());
    assert_eq!(fs::read_link(found.join("link")).unwrap().to_str(), Some("/proc/self/environ"));
    let mut archive = zip::ZipArchive::new(Cursor::new(zip)).unwrap();
    assert_eq!(archive.by_name("out/deep/old").unwrap().last_modified().unwrap().year(), 1980);
    let log = story.log();
    assert!(log.starts_with("\x1b[32;1mUploading artifacts...\x1b[0;m\nout: found 6 matching"), "{log}");
    let told = "Uploading artifacts as \"archive\" to coordinator... 201 Created\x1b[0;m  correlation_id\x1b[0;m=01J";
    assert!(log.contains(told), "{log}");
}

#[tokio::test]
async fn the_same_files_make_the_same_archive() {
    let story = Story::new(json!([{"paths": ["*"]}, {"paths": ["*"]}]), created).await;
    story.file("a", "1").file("b/c", "2");
    story.upload(false).await.unwrap();
    let uploads = story.uploads();
    assert_eq!(uploads.len(), 2);
    assert_eq!((&uploads[0].1, &uploads[0].2), (&"artifacts.zip".to_owned(), &uploads[1].2));
}

#[tokio::test]
async fn another_zip_reads_what_we_write() {
    let story = Story::new(json!([{"paths": ["*"]}]), created).await;
    story.file("a/b", "content").file("ä", "");
    story.upload(false).await.unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), &story.uploads()[0].2).unwrap();
    let script = "import sys,zipfile; z=zipfile.ZipFile(sys.argv[1]); assert z.testzip() is None; \
                  print(sorted(z.namelist()), z.read('a/b'))";
    let python = std::process::Command::new("python3").args(["-c", script]).arg(file.path()).output();
    // A second opinion where there is one; our own reader has had its say in the other tests.
    let Ok(output) = python else { return };
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "['a/', 'a/b', 'ä'] b'content'", "{output:?}");
}

#[tokio::test]
async fn reports_are_gzip_members_and_raw_is_one_file() {
    let artifacts = json!([
        {"paths": ["reports"], "name": "junit.xml", "artifact_type": "junit", "when": "always", "artifact_format": "gzip"},
        {"paths": ["plain.txt"], "name": "x", "artifact_type": "metrics", "artifact_format": "raw", "when": "always"},
        {"paths": ["reports/*"], "artifact_type": "metrics", "artifact_format": "raw", "when": "always"},
    ]);
    let story = Story::new(artifacts, created).await;
    story.file("reports/1.xml", "<one/>").file("reports/2.xml", "<two/>").file("plain.txt", "as it is");

    let error = story.upload(true).await.unwrap_err();

    let [(query, name, gzip), (_, raw_name, raw)] = story.uploads().try_into().unwrap();
    assert!(query.ends_with("?artifact_format=gzip&artifact_type=junit"), "{query}");
    assert_eq!((name.as_str(), gunzipped(&gzip).as_str()), ("junit.xml.gz", "<one/><two/>"));
    assert_eq!((raw_name.as_str(), raw.as_slice()), ("x", b"as it is".as_slice()));
    assert!(error.message.contains("only one file can be sent as raw"), "{error}");
}

#[tokio::test]
async fn only_what_is_due_is_uploaded_and_nothing_found_is_no_failure() {
    let of = |when: &str| json!({"paths": [when], "when": when, "name": when});
    for (failed, expected) in [(false, ["on_success.zip", "always.zip"]), (true, ["on_failure.zip", "always.zip"])] {
        let artifacts =
            json!([of("on_success"), of("on_failure"), of("always"), {"paths": ["none"], "when": "always"}]);
        let story = Story::new(artifacts, created).await;
        story.file("on_success", "").file("on_failure", "").file("always", "");

        story.upload(failed).await.unwrap();

        assert_eq!(story.uploads().into_iter().map(|(_, name, _)| name).collect::<Vec<_>>(), expected);
        assert!(story.log().contains("\x1b[31;1mERROR: No files to upload"), "{}", story.log());
    }
}

#[tokio::test]
async fn a_redirected_upload_is_sent_again_to_the_new_place() {
    let story = Story::new(json!([{"paths": ["file"]}]), |n, _| match n {
        0 => Answer::status(307).header("Location", "/elsewhere?artifact_type=archive"),
        _ => Answer::status(201),
    })
    .await;
    story.file("file", "x");
    story.upload(false).await.unwrap();
    let uploads = story.uploads();
    assert_eq!(uploads[1].0, "/elsewhere?artifact_type=archive");
    assert_eq!(uploads[0].2, uploads[1].2);
}

#[tokio::test]
async fn statuses_are_tried_again_as_often_as_gitlab_runner_does() {
    for (status, tries) in [(403, 1), (413, 1), (500, 3), (400, 3), (503, 6)] {
        let story = Story::new(json!([{"paths": ["file"]}]), move |_, _| Answer {
            body: br#"{"message": "because"}"#.to_vec(),
            ..Answer::status(status)
        })
        .await;
        story.file("file", "x");

        let error = story.upload(false).await.unwrap_err();

        assert_eq!(story.uploads().len(), tries, "{status}");
        assert_eq!((error.reason, error.exit_code), (FailureReason::ScriptFailure, Some(1)));
        let expected = format!("the artifacts `artifacts.zip` (archive) cannot be uploaded: GitLab answered {status} ");
        assert!(error.message.starts_with(&expected) && error.message.contains("\"because\""), "{error}");
        assert!(story.log().contains(&format!("coordinator... {status} ")), "{}", story.log());
    }
}

#[tokio::test]
async fn one_that_is_refused_does_not_keep_the_others_back() {
    let story = Story::new(json!([{"paths": ["a"], "name": "a"}, {"paths": ["b"], "name": "b"}]), |n, _| {
        Answer::status(if n == 0 { 413 } else { 201 })
    })
    .await;
    story.file("a", "").file("b", "");
    let error = story.upload(false).await.unwrap_err();
    assert!(error.message.contains("`a.zip`") && error.message.contains("maximum artifacts size"), "{error}");
    assert_eq!(story.uploads().len(), 2);
}

#[tokio::test]
async fn a_server_that_refuses_before_it_has_read_is_heard() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gitlab = format!("http://{}/", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        while stream.read_line(&mut line).await.unwrap() > 2 {
            line.clear();
        }
        stream.write_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        // It reads no more, and does not close either.
        std::future::pending::<()>().await;
    });
    let builds = tempfile::tempdir().unwrap();
    let artifacts = json!([{"paths": ["large"], "artifact_type": "metrics", "artifact_format": "raw"}]);
    let context = context(Job::new(json!({"artifacts": artifacts})).of(&gitlab).within(builds.path()));
    fs::create_dir_all(&context.place.project_dir).unwrap();
    fs::File::create(context.place.project_dir.join("large")).unwrap().set_len(200 << 20).unwrap();

    let error = upload_with(&context, false, &Backoff::new(1, Duration::ZERO, Duration::ZERO)).await.unwrap_err();

    assert!(error.message.contains("413"), "{error}");
    server.abort();
}

#[tokio::test]
async fn links_are_not_followed_where_files_are_read() {
    let artifacts =
        json!([{"paths": ["link"], "artifact_type": "junit"}, {"paths": ["link"], "artifact_format": "raw"}]);
    let story = Story::new(artifacts, created).await;
    symlink("/etc/passwd", story.context.place.project_dir.join("link")).unwrap();
    story.upload(false).await.unwrap();
    assert!(story.uploads().is_empty());
    assert!(story.log().contains("link: a link is not followed"), "{}", story.log());
}

#[tokio::test]
async fn a_format_that_nobody_knows_is_named() {
    let story = Story::new(json!([{"paths": ["file"], "artifact_format": "rar"}]), created).await;
    story.file("file", "");
    let error = story.upload(false).await.unwrap_err();
    assert_eq!(error.reason, FailureReason::RunnerConfigurationError);
    assert!(error.message.contains("`rar`"), "{error}");
}

#[tokio::test]
async fn archives_can_be_tar_and_zstd() {
    let artifacts = json!([
        {"paths": ["dir"], "name": "n", "artifact_format": "tarzstd"},
        {"paths": ["dir"], "name": "n", "artifact_format": "zipzstd"},
    ]);
    let story = Story::new(artifacts, created).await;
    story.file("dir/file", "content");
    story.upload(false).await.unwrap();
    let uploads = story.uploads();
    assert_eq!(uploads.iter().map(|upload| upload.1.as_str()).collect::<Vec<_>>(), ["n.tar.zst", "n.zip"]);
    for (_, name, archive) in uploads {
        assert_eq!(fs::read_to_string(unpacked(&archive).path().join("dir/file")).unwrap(), "content", "{name}");
    }
}

#[tokio::test]
async fn a_zip_states_what_is_in_it_and_lies_the_same_way_when_it_is_sent_again() {
    let artifacts = json!([
        {"paths": ["dir"], "name": "../$CI_JOB_STATUS", "artifact_format": "zip"},
        {"paths": ["dir/file"], "name": "r", "artifact_type": "junit", "artifact_format": "gzip"},
    ]);
    let variables = [("RUNNER_GENERATE_ARTIFACTS_METADATA", "true"), ("SLSA_PROVENANCE_SCHEMA_VERSION", "v0.2")];
    let answers = |n, request: &Request| if n == 0 { Answer::status(500) } else { created(n, request) };
    let story = Story::with(artifacts, answers, &variables).await;
    story.file("dir/file", "content");
    symlink("/etc/passwd", story.context.place.project_dir.join("dir/link")).unwrap();

    story.upload(false).await.unwrap();

    let [first, second, report] = story.uploads().try_into().unwrap();
    assert_eq!(first, second);
    assert_eq!((first.1.as_str(), gunzipped(&report.2).as_str()), ("running.zip", "content"));
    let found = unpacked(&first.2);
    let statement = fs::read(found.path().join("running-metadata.json")).unwrap();
    let statement: Value = serde_json::from_slice(&statement).unwrap();
    let hash = "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73";
    assert_eq!(statement["subject"], json!([{"name": "dir/file", "digest": {"sha256": hash}}]));
    assert_eq!(statement["predicateType"], "https://slsa.dev/provenance/v1");
    assert!(!story.context.place.project_dir.join("running-metadata.json").exists());
    let log = story.log();
    assert!(log.contains("Generating artifacts statement"), "{log}");
    assert!(log.contains("WARNING: Unknown SLSA provenance version v0.2, defaulting to v1"), "{log}");
}
