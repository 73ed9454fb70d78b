//! The sandbox's S3, asked by the real SDK and by hand.

use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{AppName, BehaviorVersion, Credentials, Region};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::presigning::{PresignedRequest, PresigningConfig};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart, Delete, ObjectIdentifier};
use mayfly::sandbox::clock::Clock;
use mayfly::sandbox::s3::{Options, S3};
use mayfly::sandbox::traffic::Traffic;
use tempfile::TempDir;

const BUCKET: &str = "mayfly-cache";
const MIB: usize = 1024 * 1024;

struct World {
    s3: S3,
    client: Client,
    traffic: Traffic,
    root: TempDir,
}

async fn world() -> World {
    world_at(tempfile::tempdir().unwrap(), None).await
}

async fn world_at(root: TempDir, clock: Option<Clock>) -> World {
    world_with(root, clock, None).await
}

/// A world whose bucket lies in `elsewhere`, if it is given.
async fn world_with(root: TempDir, clock: Option<Clock>, elsewhere: Option<&Path>) -> World {
    let traffic = Traffic::default();
    let options = Options {
        clock,
        traffic: traffic.clone(),
        root: root.path().join("s3"),
        buckets: vec![BUCKET.to_owned()],
        elsewhere: elsewhere.map(|root| (BUCKET.to_owned(), root.to_owned())).into_iter().collect(),
        access_key: "AKIASANDBOX".to_owned(),
        secret_key: "secret".to_owned(),
        unlisting_key: Some("AKIAUNLISTING".to_owned()),
    };
    let s3 = S3::start(options).await.unwrap();
    let client = client(&s3, "AKIASANDBOX", "secret");
    World { s3, client, traffic, root }
}

fn client(s3: &S3, access_key: &str, secret_key: &str) -> Client {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .endpoint_url(s3.url())
        .force_path_style(true)
        .app_name(AppName::new("mayfly").unwrap())
        .retry_config(RetryConfig::disabled())
        .credentials_provider(Credentials::new(access_key, secret_key, None, None, "test"))
        .build();
    Client::from_conf(config)
}

fn presigning(seconds: u64) -> PresigningConfig {
    PresigningConfig::expires_in(Duration::from_secs(seconds)).unwrap()
}

async fn send(request: &PresignedRequest, body: impl Into<reqwest::Body>) -> reqwest::Response {
    let method = reqwest::Method::from_bytes(request.method().as_bytes()).unwrap();
    let mut builder = reqwest::Client::new().request(method, request.uri()).body(body);
    for (name, value) in request.headers() {
        builder = builder.header(name, value);
    }
    builder.send().await.unwrap()
}

fn status<T, E>(result: Result<T, SdkError<E>>) -> u16 {
    match result {
        Ok(_) => 200,
        Err(error) => error.raw_response().expect("the server answered").status().as_u16(),
    }
}

impl World {
    async fn put(&self, key: &str, body: &str) -> String {
        let put = self.client.put_object().bucket(BUCKET).key(key);
        put.body(ByteStream::from(body.as_bytes().to_vec())).send().await.unwrap().e_tag.unwrap()
    }

    async fn get(&self, key: &str) -> String {
        let got = self.client.get_object().bucket(BUCKET).key(key).send().await.unwrap();
        String::from_utf8(got.body.collect().await.unwrap().to_vec()).unwrap()
    }
}

#[tokio::test]
async fn an_object_comes_back_with_its_etag_metadata_and_type() {
    let world = world().await;
    let put = world.client.put_object().bucket(BUCKET).key("a/b.txt").metadata("files", "37").content_type("text/x");

    let put = put.body(ByteStream::from_static(b"hello")).send().await.unwrap();

    let got = world.client.get_object().bucket(BUCKET).key("a/b.txt").send().await.unwrap();
    let head = world.client.head_object().bucket(BUCKET).key("a/b.txt").send().await.unwrap();
    assert_eq!(put.e_tag.as_deref(), Some("\"5d41402abc4b2a76b9719d911017c592\""));
    assert_eq!((&got.e_tag, &head.e_tag), (&put.e_tag, &put.e_tag));
    assert_eq!(got.metadata.as_ref().unwrap()["files"], "37");
    assert_eq!(head.metadata.unwrap()["files"], "37");
    assert_eq!((got.content_type.as_deref(), head.content_length), (Some("text/x"), Some(5)));
    assert_eq!(got.body.collect().await.unwrap().to_vec(), b"hello");
    assert_eq!(world.s3.keys(BUCKET), ["a/b.txt"]);
    assert_eq!(world.s3.object(BUCKET, "a/b.txt").unwrap(), b"hello");
    assert!(world.traffic.seen().iter().any(|seen| seen.to_string().starts_with("s3 PUT /mayfly-cache/a/b.txt")));
}

#[tokio::test]
async fn ranges_are_cut_and_a_range_past_the_end_is_416() {
    let world = world().await;
    world.put("k", "0123456789").await;
    let get = |range: &str| world.client.get_object().bucket(BUCKET).key("k").range(range).send();

    let middle = get("bytes=2-4").await.unwrap();

    assert_eq!(middle.content_range.as_deref(), Some("bytes 2-4/10"));
    assert_eq!(middle.body.collect().await.unwrap().to_vec(), b"234");
    assert_eq!(status(get("bytes=10-").await), 416);
}

#[tokio::test]
async fn of_many_writers_with_the_same_etag_one_wins() {
    let world = world().await;
    let mut etag = world.put("lease", "0").await;
    for round in 0..10 {
        let writers = (0..16).map(|writer| {
            let put = world.client.put_object().bucket(BUCKET).key("lease").if_match(&etag);
            put.body(ByteStream::from(format!("{round}-{writer}").into_bytes())).send()
        });

        let results = futures::future::join_all(writers).await;

        let winners: Vec<_> = results.iter().filter_map(|result| result.as_ref().ok()).collect();
        assert_eq!(winners.len(), 1, "round {round}");
        etag = winners[0].e_tag.clone().unwrap();
        assert!(results.into_iter().filter(Result::is_err).all(|result| status(result) == 412));
    }
}

#[tokio::test]
async fn of_many_creators_one_wins() {
    let world = world().await;
    let creators = (0..16).map(|n| {
        let put = world.client.put_object().bucket(BUCKET).key("claim").if_none_match("*");
        put.body(ByteStream::from(format!("{n}").into_bytes())).send()
    });

    let results = futures::future::join_all(creators).await;

    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    assert!(results.into_iter().filter(Result::is_err).all(|result| status(result) == 412));
}

#[tokio::test]
async fn a_reader_never_sees_a_mixture_of_two_writes() {
    let world = world().await;
    let body = |n: u8| ByteStream::from(vec![b'a' + n; 300_000]);
    let put = |n: u8| world.client.put_object().bucket(BUCKET).key("k").body(body(n)).send();
    put(0).await.unwrap();
    let writer = async {
        for n in 1..20 {
            put(n).await.unwrap();
        }
    };
    let reader = async {
        for _ in 0..40 {
            let got = world.client.get_object().bucket(BUCKET).key("k").send().await.unwrap();
            let etag = got.e_tag.clone();
            let bytes = got.body.collect().await.unwrap().to_vec();
            assert!(bytes.len() == 300_000 && bytes.iter().all(|byte| *byte == bytes[0]));
            let same = world.client.put_object().bucket(BUCKET).key("other").body(ByteStream::from(bytes)).send();
            assert_eq!(same.await.unwrap().e_tag, etag, "the ETag belongs to the bytes");
        }
    };

    futures::join!(writer, reader);
}

#[tokio::test]
async fn a_write_that_expects_an_object_where_none_is_gets_404() {
    let world = world().await;

    let put = world.client.put_object().bucket(BUCKET).key("nothing").if_match("\"0\"").send().await;

    assert_eq!(status(put), 404);
    assert!(world.s3.keys(BUCKET).is_empty());
}

#[tokio::test]
async fn a_reader_who_has_it_already_gets_304() {
    let world = world().await;
    let etag = world.put("k", "x").await;

    let same = world.client.get_object().bucket(BUCKET).key("k").if_none_match(&etag).send().await;
    let head = world.client.head_object().bucket(BUCKET).key("k").if_none_match(&etag).send().await;
    let other = world.client.get_object().bucket(BUCKET).key("k").if_none_match("\"0\"").send().await;
    let wrong = world.client.get_object().bucket(BUCKET).key("k").if_match("\"0\"").send().await;

    assert_eq!((status(same), status(head), status(other), status(wrong)), (304, 304, 200, 412));
}

#[tokio::test]
async fn a_failed_checksum_changes_nothing() {
    let world = world().await;
    world.put("k", "old").await;
    let put = world.client.put_object().bucket(BUCKET).key("k").checksum_crc32("AAAAAA==");

    let refused = put.body(ByteStream::from_static(b"new")).send().await;

    assert_eq!(status(refused), 400);
    assert_eq!(world.get("k").await, "old");
}

#[tokio::test]
async fn keys_are_listed_in_pages_and_groups() {
    let world = world().await;
    for key in ["a/1", "a/2", "a/3", "b/1", "c", "a b&c"] {
        world.put(key, key).await;
    }
    let list = || world.client.list_objects_v2().bucket(BUCKET);
    let keys = |page: &ListObjectsV2Output| {
        page.contents().iter().map(|object| object.key().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let groups = |page: &ListObjectsV2Output| {
        page.common_prefixes().iter().map(|group| group.prefix().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let mut pages = Vec::new();
    let mut token = None;
    loop {
        let page = list().max_keys(2).set_continuation_token(token).send().await.unwrap();
        pages.push(keys(&page));
        assert_eq!(page.is_truncated, Some(page.next_continuation_token.is_some()));
        token = page.next_continuation_token;
        if token.is_none() {
            break;
        }
    }
    let prefixed = list().prefix("a/").start_after("a/1").send().await.unwrap();
    let grouped = list().delimiter("/").send().await.unwrap();
    let first = list().delimiter("/").max_keys(2).send().await.unwrap();
    let token = first.next_continuation_token().unwrap();
    let rest = list().delimiter("/").continuation_token(token).send().await.unwrap();

    assert_eq!(pages, [vec!["a b&c", "a/1"], vec!["a/2", "a/3"], vec!["b/1", "c"]]);
    assert_eq!(keys(&prefixed), ["a/2", "a/3"]);
    assert_eq!(prefixed.contents()[0].size(), Some(3));
    assert_eq!(
        (keys(&grouped), groups(&grouped)),
        (vec!["a b&c".to_owned(), "c".to_owned()], vec!["a/".to_owned(), "b/".to_owned()])
    );
    assert_eq!((groups(&first), groups(&rest)), (vec!["a/".to_owned()], vec!["b/".to_owned()]));
}

#[tokio::test]
async fn keys_may_be_long_odd_and_each_others_prefix() {
    let world = world().await;
    let long = format!("{}/{}", "x".repeat(300), "y".repeat(600));
    let keys = ["a", "a/b", "a//b", "a/", long.as_str(), "ü/ +%2F", "../../outside", "a/../c", ".upload-x.json"];
    for key in keys {
        world.put(key, key).await;
    }

    for key in keys {
        assert_eq!(world.get(key).await, key, "{key}");
        assert_eq!(world.s3.object(BUCKET, key).unwrap(), key.as_bytes());
    }
    assert_eq!(world.s3.keys(BUCKET).len(), keys.len());
    let beside: Vec<_> =
        std::fs::read_dir(world.root.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(beside, ["s3"], "nothing has left the root");
    let too_long = world.client.put_object().bucket(BUCKET).key("z".repeat(1025)).send().await;
    assert_eq!(too_long.unwrap_err().code(), Some("KeyTooLongError"));
}

#[tokio::test]
async fn a_put_without_a_length_is_411() {
    let world = world().await;
    let put = world.client.put_object().bucket(BUCKET).key("k").presigned(presigning(900)).await.unwrap();
    let chunks = futures::stream::iter([Ok::<_, std::io::Error>("chunk")]);

    let answer = send(&put, reqwest::Body::wrap_stream(chunks)).await;

    assert_eq!(answer.status(), 411);
    assert!(answer.text().await.unwrap().contains("<Code>MissingContentLength</Code>"));
    assert_eq!(send(&put, "chunk").await.status(), 200);
    assert_eq!(world.get("k").await, "chunk");
}

#[tokio::test]
async fn presigned_urls_open_one_thing_only() {
    let world = world().await;
    world.put("k", "x").await;
    let get = world.client.get_object().bucket(BUCKET).key("k").presigned(presigning(900)).await.unwrap();
    let head = world.client.head_object().bucket(BUCKET).key("k").presigned(presigning(900)).await.unwrap();
    let create = world.client.put_object().bucket(BUCKET).key("new").if_none_match("*").content_length(3);
    let create = create.presigned(presigning(900)).await.unwrap();

    assert_eq!(send(&get, "").await.text().await.unwrap(), "x");
    assert_eq!(send(&head, "").await.status(), 200);
    assert_eq!(send(&create, "abc").await.status(), 200);
    assert_eq!(send(&create, "abc").await.status(), 412);
    let other = reqwest::get(get.uri().replace("/k?", "/new?")).await.unwrap();
    assert_eq!(other.status(), 403);
    let bare = reqwest::get(get.uri().split('?').next().unwrap()).await.unwrap();
    assert_eq!(bare.status(), 403);
    let without_condition = reqwest::Client::new().put(create.uri()).body("abc").send().await.unwrap();
    assert!(without_condition.status().is_client_error(), "a signed header cannot be left out");
    assert_eq!(world.get("new").await, "abc");
}

#[tokio::test]
async fn a_presigned_url_dies_by_the_sandboxs_clock() {
    let clock = Clock::default();
    let world = world_at(tempfile::tempdir().unwrap(), Some(clock.clone())).await;
    world.put("k", "x").await;
    let get = world.client.get_object().bucket(BUCKET).key("k").presigned(presigning(900)).await.unwrap();

    clock.advance(Duration::from_secs(800));
    assert_eq!(send(&get, "").await.status(), 200);
    clock.advance(Duration::from_secs(200));
    assert_eq!(send(&get, "").await.status(), 403);

    let now = std::time::SystemTime::now() + Duration::from_secs(1000);
    let later = PresigningConfig::builder().start_time(now).expires_in(Duration::from_secs(900)).build().unwrap();
    let get = world.client.get_object().bucket(BUCKET).key("k").presigned(later).await.unwrap();
    assert_eq!(send(&get, "").await.status(), 200);
}

#[tokio::test]
async fn wrong_keys_and_buckets_are_refused() {
    let world = world().await;

    let wrong_secret = client(&world.s3, "AKIASANDBOX", "guessed").list_objects_v2().bucket(BUCKET).send().await;
    let wrong_key = client(&world.s3, "AKIAOTHER", "secret").list_objects_v2().bucket(BUCKET).send().await;
    let no_bucket = world.client.put_object().bucket("no-such-bucket").key("k").send().await;
    let no_key = world.client.get_object().bucket(BUCKET).key("k").send().await;

    assert_eq!((status(wrong_secret), status(wrong_key)), (403, 403));
    assert_eq!(no_bucket.unwrap_err().code(), Some("NoSuchBucket"));
    assert_eq!(no_key.unwrap_err().code(), Some("NoSuchKey"));
}

#[tokio::test]
async fn an_operation_that_is_not_here_is_a_501_and_a_violation() {
    let world = world().await;

    let answer = world.client.get_bucket_policy().bucket(BUCKET).send().await;

    assert_eq!(status(answer), 501);
    assert_eq!(world.s3.violations().len(), 1);
    assert!(world.s3.violations()[0].starts_with("GET /mayfly-cache"));
}

async fn upload(world: &World, key: &str, parts: &[Vec<u8>]) -> (String, Vec<CompletedPart>) {
    let upload = world.client.create_multipart_upload().bucket(BUCKET).key(key).metadata("pack", "7");
    let id = upload.send().await.unwrap().upload_id.unwrap();
    let mut done = Vec::new();
    for (number, part) in (1..).zip(parts) {
        let put = world.client.upload_part().bucket(BUCKET).key(key).upload_id(&id).part_number(number);
        let answer = send(&put.presigned(presigning(900)).await.unwrap(), part.clone()).await;
        assert_eq!(answer.status(), 200);
        let etag = answer.headers()["etag"].to_str().unwrap().to_owned();
        done.push(CompletedPart::builder().part_number(number).e_tag(etag).build());
    }
    (id, done)
}

async fn complete(world: &World, key: &str, id: &str, parts: Vec<CompletedPart>) -> Result<String, String> {
    let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
    let complete = world.client.complete_multipart_upload().bucket(BUCKET).key(key).upload_id(id).if_none_match("*");
    let result = complete.multipart_upload(parts).send().await;
    result.map(|done| done.e_tag.unwrap()).map_err(|error| error.code().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn presigned_parts_become_one_object() {
    let world = world().await;
    let parts = [vec![b'a'; 5 * MIB], vec![b'b'; 5 * MIB], vec![b'c'; 10]];
    let (id, done) = upload(&world, "pack", &parts).await;
    assert!(world.s3.keys(BUCKET).is_empty(), "an upload is no object yet");
    let open = world.client.list_multipart_uploads().bucket(BUCKET).send().await.unwrap();
    assert_eq!(open.uploads()[0].upload_id(), Some(id.as_str()));
    let there = world.client.list_parts().bucket(BUCKET).key("pack").upload_id(&id).send().await.unwrap();
    assert_eq!(there.parts().iter().filter_map(|part| part.size()).sum::<i64>(), 10 * MIB as i64 + 10);

    let etag = complete(&world, "pack", &id, done.clone()).await.unwrap();

    let head = world.client.head_object().bucket(BUCKET).key("pack").send().await.unwrap();
    assert!(etag.ends_with("-3\""), "{etag}");
    assert_eq!((head.e_tag, head.content_length), (Some(etag), Some(10 * MIB as i64 + 10)));
    assert_eq!(head.metadata.unwrap()["pack"], "7");
    assert_eq!(world.s3.object(BUCKET, "pack").unwrap(), parts.concat());
    assert_eq!(complete(&world, "pack", &id, done).await.unwrap_err(), "NoSuchUpload");
}

#[tokio::test]
async fn an_upload_is_completed_rightly_or_stays_as_it_is() {
    let world = world().await;
    let (id, done) = upload(&world, "pack", &[vec![b'a'; 10], vec![b'b'; 10]]).await;
    let wrong_etag = vec![CompletedPart::builder().part_number(1).e_tag("\"0\"").build()];
    let missing = vec![CompletedPart::builder().part_number(3).e_tag(done[0].e_tag().unwrap()).build()];
    let backwards = done.iter().rev().cloned().collect();

    assert_eq!(complete(&world, "pack", &id, done.clone()).await.unwrap_err(), "EntityTooSmall");
    assert_eq!(complete(&world, "pack", &id, wrong_etag).await.unwrap_err(), "InvalidPart");
    assert_eq!(complete(&world, "pack", &id, missing).await.unwrap_err(), "InvalidPart");
    assert_eq!(complete(&world, "pack", &id, backwards).await.unwrap_err(), "InvalidPartOrder");
    assert_eq!(complete(&world, "other", &id, done.clone()).await.unwrap_err(), "NoSuchUpload");
    complete(&world, "pack", &id, done[..1].to_vec()).await.unwrap();
    assert_eq!(world.s3.object(BUCKET, "pack").unwrap(), [b'a'; 10]);

    let (id, done) = upload(&world, "pack", &[vec![b'c'; 10]]).await;
    assert_eq!(complete(&world, "pack", &id, done).await.unwrap_err(), "PreconditionFailed");
    world.client.abort_multipart_upload().bucket(BUCKET).key("pack").upload_id(&id).send().await.unwrap();
    let gone = world.client.abort_multipart_upload().bucket(BUCKET).key("pack").upload_id(&id).send().await;
    assert_eq!(gone.unwrap_err().code(), Some("NoSuchUpload"));
}

#[tokio::test]
async fn what_is_deleted_is_gone_and_leaves_nothing_behind() {
    let world = world().await;
    for key in ["a", "b", "c"] {
        world.put(key, "1").await;
        world.put(key, "2").await;
    }
    world.client.copy_object().bucket(BUCKET).key("d").copy_source(format!("{BUCKET}/a")).send().await.unwrap();
    assert_eq!(world.get("d").await, "2");
    for _ in 0..2 {
        world.client.delete_object().bucket(BUCKET).key("a").send().await.unwrap();
    }
    let objects = ["b", "c", "d"].map(|key| ObjectIdentifier::builder().key(key).build().unwrap());
    let delete = Delete::builder().set_objects(Some(objects.to_vec())).build().unwrap();
    world.client.delete_objects().bucket(BUCKET).delete(delete).send().await.unwrap();

    assert!(world.s3.keys(BUCKET).is_empty());
    let bucket = world.s3.bucket_dir(BUCKET);
    let files = |dir: PathBuf| std::fs::read_dir(dir).unwrap().filter(|e| e.as_ref().unwrap().path().is_file()).count();
    assert_eq!((files(bucket.parent().unwrap().to_owned()), files(bucket)), (0, 0));
}

#[tokio::test]
async fn the_next_start_finds_everything_again() {
    let first = world().await;
    let etag = first.put("k", "kept").await;
    let (_, parts) = upload(&first, "pack", &[vec![b'a'; 10]]).await;
    assert_eq!(parts.len(), 1);
    std::fs::write(first.s3.bucket_dir(BUCKET).join("half"), "written").unwrap();
    first.s3.shutdown().await;

    let second = world_at(first.root, None).await;

    let bucket = second.s3.bucket_dir(BUCKET);
    assert_eq!(std::fs::read_dir(&bucket).unwrap().count(), 1, "what was not finished is gone");
    let beside = std::fs::read_dir(bucket.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(!beside.into_iter().any(|name| name.to_string_lossy().contains("part-1")));
    assert_eq!(second.get("k").await, "kept");
    let put = second.client.put_object().bucket(BUCKET).key("k").if_match(etag).send().await;
    assert_eq!(status(put), 200);
}

#[tokio::test]
async fn two_at_once_share_a_bucket_that_lies_elsewhere() {
    let elsewhere = tempfile::tempdir().unwrap();
    let one = world_with(tempfile::tempdir().unwrap(), None, Some(elsewhere.path())).await;
    let (_, parts) = upload(&one, "pack", &[vec![b'a'; 10]]).await;
    assert_eq!(parts.len(), 1);
    let etag = one.put("k", "1").await;
    let other = world_with(tempfile::tempdir().unwrap(), None, Some(elsewhere.path())).await;

    assert_eq!(other.get("k").await, "1");
    other.put("k", "2").await;
    other.put("new", "n").await;

    assert_eq!((one.get("k").await.as_str(), one.get("new").await.as_str()), ("2", "n"));
    assert_eq!(one.s3.keys(BUCKET), ["k", "new"]);
    assert_eq!(status(one.client.put_object().bucket(BUCKET).key("k").if_match(etag).send().await), 412);
    other.client.delete_object().bucket(BUCKET).key("new").send().await.unwrap();
    assert_eq!(status(one.client.get_object().bucket(BUCKET).key("new").send().await), 404);
    // Who starts beside them takes nothing from under their hands; a killed one's folder goes.
    let writing = || {
        let names = std::fs::read_dir(elsewhere.path()).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().starts_with("writing-")).count()
    };
    std::fs::create_dir(elsewhere.path().join("writing-dead")).unwrap();
    let third = world_with(tempfile::tempdir().unwrap(), None, Some(elsewhere.path())).await;
    assert_eq!(writing(), 3);
    assert_eq!(third.get("k").await, "2");
    assert_eq!(std::fs::read_dir(third.s3.bucket_dir(BUCKET)).unwrap().count(), 1);
}

#[tokio::test]
async fn a_caller_without_list_bucket_is_not_told_whether_an_object_is_missing() {
    let world = world().await;
    let unlisting = client(&world.s3, "AKIAUNLISTING", "secret");
    world.put("there", "x").await;
    assert_eq!(status(unlisting.get_object().bucket(BUCKET).key("there").send().await), 200);
    assert_eq!(status(unlisting.head_object().bucket(BUCKET).key("missing").send().await), 403);
    assert_eq!(status(world.client.get_object().bucket(BUCKET).key("missing").send().await), 404);
    assert_eq!(status(unlisting.list_objects_v2().bucket(BUCKET).send().await), 403);

    let request = unlisting.get_object().bucket(BUCKET).key("missing").presigned(presigning(900)).await.unwrap();
    let answer = send(&request, "").await;
    assert_eq!(answer.status(), 403);
    let body = answer.text().await.unwrap();
    assert!(body.contains("<Code>AccessDenied</Code>") && body.contains("perform: s3:ListBucket on"), "{body}");
}
