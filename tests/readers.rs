//! What a warm function reads of AWS: it notices changes, and a reading that fails takes nothing away.
#![cfg(feature = "sandbox")]

#[path = "lambda/aws.rs"]
#[expect(dead_code, reason = "the functions' tests need more of it")]
mod aws;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aws::Aws;
use aws_credential_types::Credentials;
use aws_sdk_s3::config::{BehaviorVersion, Region};
use aws_sdk_s3::primitives::ByteStream;
use mayfly::config::Stack;
use mayfly::functions::{FleetReader, NotReady, PackedAgents, SecretReader, runner_tokens, signing_key};
use mayfly::sandbox::s3::{Options, S3};
use mayfly::sandbox::traffic::Traffic;
use secrecy::ExposeSecret;
use tempfile::TempDir;

const STACK: &str = r#"{
    "stack_id": "arn:aws:cloudformation:us-east-1:1:stack/ci/2f", "region": "us-east-1", "prefix": "ci",
    "tasks": {"cluster": "c", "subnets": ["subnet-1"], "execution_role": "arn:aws:iam::1:role/x", "launch_key": "arn"},
    "broker": {"agents_bucket": "configuration"}, "ledger": {"bucket": "ledger"}, "cache": {"bucket": "cache"}}"#;
const ONE: &str = "[[runners]]\nname = 'one'\nurl = 'https://gitlab.test'\n";
const TWO: &str =
    "[[runners]]\nname = 'one'\nurl = 'https://gitlab.test'\n[[runners]]\nname = 'two'\nurl = 'https://gitlab.test'\n";

struct World {
    s3: S3,
    client: aws_sdk_s3::Client,
    traffic: Traffic,
    _root: TempDir,
}

async fn world() -> World {
    let root = tempfile::tempdir().expect("a directory");
    let traffic = Traffic::default();
    let options = Options {
        clock: None,
        traffic: traffic.clone(),
        root: root.path().join("s3"),
        buckets: vec!["configuration".to_owned()],
        elsewhere: BTreeMap::new(),
        access_key: "AKIASANDBOX".to_owned(),
        secret_key: "secret".to_owned(),
        unlisting_key: None,
    };
    let s3 = S3::start(options).await.expect("S3 starts");
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(s3.url())
        .force_path_style(true)
        .credentials_provider(Credentials::new("AKIASANDBOX", "secret", None, None, "test"))
        .build();
    World { s3, client: aws_sdk_s3::Client::from_conf(config), traffic, _root: root }
}

impl World {
    fn reader(&self) -> FleetReader {
        let stack = Stack::read(STACK).expect("it is read");
        FleetReader::new(self.client.clone(), "s3://configuration/fleet.toml", stack).expect("a place")
    }

    async fn put(&self, text: &str) {
        let put = self.client.put_object().bucket("configuration").key("fleet.toml");
        put.body(ByteStream::from(text.as_bytes().to_vec())).send().await.expect("it is put");
    }

    async fn delete(&self) {
        let delete = self.client.delete_object().bucket("configuration").key("fleet.toml");
        delete.send().await.expect("it is deleted");
    }
}

/// Lets `seconds` pass for the readers, whose time is tokio's.
async fn pass(seconds: u64) {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(seconds)).await;
    tokio::time::resume();
}

fn names(fleet: &mayfly::config::Fleet) -> Vec<&str> {
    fleet.runners.iter().map(|runner| runner.name.as_str()).collect()
}

#[tokio::test]
async fn a_fleet_is_a_minute_old_at_most_and_is_read_only_where_it_changed() {
    let world = world().await;
    let reader = world.reader();
    let missing = reader.get().await.unwrap_err();
    assert!(matches!(&missing, NotReady::NotSetUp(why) if why.contains("aws s3 cp fleet.toml")), "{missing}");

    world.put(ONE).await;
    pass(3).await;
    let first = reader.get().await.expect("a fleet");
    assert_eq!((names(&first), first.prefix.as_str()), (vec!["one"], "ci"));
    let asked = world.traffic.seen().len();
    reader.get().await.expect("a fleet");
    assert_eq!(world.traffic.seen().len(), asked, "it is asked for once a minute");

    pass(61).await;
    assert!(Arc::ptr_eq(&reader.get().await.expect("a fleet"), &first), "an unchanged document is not read again");
    assert_eq!(world.traffic.seen().len(), asked + 1);

    world.put(TWO).await;
    assert_eq!(names(&reader.get().await.expect("a fleet")), ["one"]);
    pass(61).await;
    assert_eq!(names(&reader.get().await.expect("a fleet")), ["one", "two"]);
    world.s3.shutdown().await;
}

#[tokio::test]
async fn a_wrong_document_leaves_the_last_good_fleet_in_force() {
    let world = world().await;
    let reader = world.reader();
    world.put("[[runners]]\nname = 'one'\nurl = 'https://gitlab.test'\ntokn = 'glrt-secret'").await;
    let wrong = reader.get().await.unwrap_err().to_string();
    assert!(wrong.contains("line 4: unknown field `tokn`") && !wrong.contains("glrt-secret"), "{wrong}");

    world.put(ONE).await;
    pass(3).await;
    assert_eq!(names(&reader.get().await.expect("a fleet")), ["one"]);
    for wrong in ["not TOML", "", "[ledger]\nbucket = 'x'", "[[runners]]\nname = 'x'\nurl = 'ftp://x'"] {
        world.put(wrong).await;
        pass(61).await;
        assert_eq!(names(&reader.get().await.expect("the last good one")), ["one"], "{wrong}");
    }
    world.delete().await;
    pass(61).await;
    assert_eq!(names(&reader.get().await.expect("the last good one")), ["one"]);
    let fresh = world.reader().get().await.unwrap_err();
    assert!(matches!(fresh, NotReady::NotSetUp(_)), "{fresh}");
    world.s3.shutdown().await;
    pass(61).await;
    assert_eq!(names(&reader.get().await.expect("the last good one")), ["one"]);
}

fn secrets_of(aws: &Aws) -> aws_sdk_secretsmanager::Client {
    let config = aws_sdk_secretsmanager::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(aws.url())
        .retry_config(aws_sdk_secretsmanager::config::retry::RetryConfig::disabled())
        .credentials_provider(Credentials::new("AKIASANDBOX", "secret", None, None, "test"))
        .build();
    aws_sdk_secretsmanager::Client::from_conf(config)
}

#[tokio::test]
async fn a_secret_that_cannot_be_read_leaves_its_last_good_value_in_force() {
    let aws = Aws::start(&[("tokens", "{\"one\": \"glrt-1\"}")]).await;
    let reader = SecretReader::new(secrets_of(&aws), "tokens", runner_tokens);
    assert_eq!(reader.get().await.expect("tokens")["one"].expose_secret(), "glrt-1");
    for (text, fails) in [("not JSON", false), ("{\"one\": \"\"}", false), ("{\"one\": \"glrt-2\"}", true)] {
        aws.put_secret("tokens", text);
        aws.fail(fails);
        pass(301).await;
        assert_eq!(reader.get().await.expect("the last good ones")["one"].expose_secret(), "glrt-1", "{text}");
    }
    aws.fail(false);
    pass(31).await;
    assert_eq!(reader.get().await.expect("the new ones")["one"].expose_secret(), "glrt-2");

    let missing = SecretReader::new(secrets_of(&aws), "nothing", runner_tokens).get().await.unwrap_err();
    assert!(matches!(&missing, NotReady::NotSetUp(why) if why.contains("`nothing` has no value")), "{missing}");
    aws.fail(true);
    let failing = SecretReader::new(secrets_of(&aws), "tokens", runner_tokens).get().await.unwrap_err();
    assert!(matches!(failing, NotReady::Unavailable(_)), "{failing}");
}

#[tokio::test]
async fn a_key_is_read_again_once_a_second_when_something_does_not_fit() {
    let key = |digit: char| digit.to_string().repeat(32);
    let aws = Aws::start(&[("key", &key('1'))]).await;
    let reader = SecretReader::new(secrets_of(&aws), "key", signing_key);
    let held = reader.get().await.expect("a key");
    assert_eq!((held.current.expose_secret(), held.previous.is_none()), (key('1').as_str(), true));

    aws.put_secret("key", &key('2'));
    reader.reread().await;
    let held = reader.get().await.expect("a key");
    assert_eq!(held.current.expose_secret(), key('2'));
    assert_eq!(held.previous.as_ref().expect("the key before").expose_secret(), key('1'));

    let reads = aws.reads();
    for _ in 0..50 {
        reader.reread().await;
    }
    assert!(aws.reads() <= reads + 4, "strangers cannot make it ask without end");
    aws.put_secret("key", "short");
    pass(2).await;
    reader.reread().await;
    assert_eq!(reader.get().await.expect("a key").current.expose_secret(), key('2'));
    let short = SecretReader::new(secrets_of(&aws), "key", signing_key).get().await.map(drop).unwrap_err();
    assert!(short.to_string().contains("holds no key"), "{short}");
}

#[test]
fn agents_are_those_of_the_list_in_the_package() {
    let package = tempfile::tempdir().expect("a directory");
    assert!(PackedAgents::read(package.path()).by_architecture().is_empty());
    let sha256 = "0123456789abcdef".repeat(4);
    let list = format!("{{\"amd64\": \"{sha256}\", \"arm64\": \"../../etc/passwd\"}}");
    std::fs::write(package.path().join("agents.json"), list).expect("a file");
    let agents = PackedAgents::read(package.path());
    assert_eq!(agents.by_architecture().keys().collect::<Vec<_>>(), ["amd64"]);
    assert_eq!(agents.path(&sha256), Some(package.path().join("agents").join(&sha256)));
    assert_eq!(agents.path("../../etc/passwd"), None);
}
