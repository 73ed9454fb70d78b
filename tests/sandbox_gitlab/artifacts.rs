//! Uploads and downloads (gitlab-protocol.md §7, §11.3 jobs_artifacts).

use std::io::Write;

use reqwest::multipart::{Form, Part};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Response};
use serde_json::json;

use crate::support::{Claim, World, header};

const TWO_STAGES: &str = "a: {stage: build, script: x, artifacts: {paths: [o]}}\nb: {stage: test, script: x}\n";

async fn upload(world: &World, claim: &Claim, query: &str, bytes: &[u8]) -> Response {
    let form = Form::new().part("file", Part::bytes(bytes.to_vec()).file_name("artifacts.zip"));
    world
        .own(Method::POST, &format!("/api/v4/jobs/{}/artifacts?{query}", claim.id))
        .header("JOB-TOKEN", &claim.token)
        .multipart(form)
        .send()
        .await
        .unwrap()
}

async fn download(world: &World, job: u64, token: &str) -> Response {
    world.own(Method::GET, &format!("/api/v4/jobs/{job}/artifacts")).header("JOB-TOKEN", token).send().await.unwrap()
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn an_archive_goes_from_job_to_job() {
    let world = World::new(TWO_STAGES).await;
    world.run();
    let a = world.claim().await;
    let query = "artifact_type=archive&artifact_format=zip&expire_in=1+week";
    assert_eq!(upload(&world, &a, query, b"zip bytes").await.status(), 201);
    world.succeed(&a).await;

    let b = world.claim().await;

    assert_eq!(b.body["dependencies"][0]["artifacts_file"], json!({ "filename": "artifacts.zip", "size": 9 }));
    assert_eq!(b.body["dependencies"][0]["token"], json!(b.token));
    let got = download(&world, a.id, &b.token).await;
    assert_eq!(got.status(), 200);
    assert_eq!(got.bytes().await.unwrap().as_ref(), b"zip bytes");
    let view = world.job(&a).artifacts().remove(0);
    assert_eq!(
        (view.kind.as_str(), view.format.as_str(), view.expire_in.as_deref()),
        ("archive", "zip", Some("1 week"))
    );
    assert_eq!((view.filename.as_str(), view.bytes.as_slice()), ("artifacts.zip", b"zip bytes".as_slice()));
    world.assert_strict();
}

#[tokio::test]
async fn a_file_of_the_wrong_format_is_refused() {
    let world = World::new(TWO_STAGES).await;
    world.run();
    let claim = world.claim().await;
    let wrong = [("archive", "gzip"), ("archive", "raw"), ("junit", "raw"), ("dotenv", "raw"), ("poetry", "zip")];

    for (kind, format) in wrong {
        let query = format!("artifact_type={kind}&artifact_format={format}");
        assert_eq!(upload(&world, &claim, &query, b"x").await.status(), 400, "{kind} {format}");
    }
    let path = format!("/api/v4/jobs/{}/artifacts", claim.id);
    let empty = world.own(Method::POST, &path).header("JOB-TOKEN", &claim.token).multipart(Form::new());
    assert_eq!(empty.send().await.unwrap().status(), 400);
    let no_form = world.own(Method::POST, &path).header("JOB-TOKEN", &claim.token).body("x");
    assert_eq!(no_form.send().await.unwrap().status(), 400);
    assert!(world.job(&claim).artifacts().is_empty());
}

#[tokio::test]
async fn the_same_file_may_come_twice_and_another_may_not() {
    let world = World::new(TWO_STAGES).await;
    world.run();
    let claim = world.claim().await;

    assert_eq!(upload(&world, &claim, "", b"one").await.status(), 201);
    assert_eq!(upload(&world, &claim, "", b"one").await.status(), 201);
    assert_eq!(upload(&world, &claim, "", b"two").await.status(), 400);
    assert_eq!(upload(&world, &claim, "artifact_type=junit&artifact_format=gzip", &gzip("<x/>")).await.status(), 201);
    assert_eq!(world.job(&claim).artifacts().len(), 2);
}

#[tokio::test]
async fn a_file_over_the_limit_is_413_with_a_message() {
    let world = World::new(TWO_STAGES).await;
    world.run();
    let claim = world.claim().await;
    world.gitlab.set_artifact_limit(1000);

    let answer = upload(&world, &claim, "", &[0; 2000]).await;

    assert_eq!(answer.status(), 413);
    assert!(answer.text().await.unwrap().contains("file size has reached maximum size limit"));
}

#[tokio::test]
async fn only_the_running_job_itself_may_upload() {
    let world = World::new(TWO_STAGES).await;
    world.run();
    let claim = world.claim().await;
    let thief = Claim { token: world.runner.clone(), ..Claim::new(claim.body.clone()) };
    assert_eq!(upload(&world, &thief, "", b"x").await.status(), 403);
    let nobody = Claim { id: 1, ..Claim::new(claim.body.clone()) };
    assert_eq!(upload(&world, &nobody, "", b"x").await.status(), 403);
    world.succeed(&claim).await;
    assert_eq!(upload(&world, &claim, "", b"x").await.status(), 403);
}

#[tokio::test]
async fn downloads_need_a_token_that_still_runs() {
    let world = World::new(TWO_STAGES).await;
    world.run();
    let a = world.claim().await;
    assert_eq!(download(&world, a.id, &a.token).await.status(), 404);
    upload(&world, &a, "", b"x").await;
    world.succeed(&a).await;
    assert_eq!(download(&world, a.id, &a.token).await.status(), 401);
    assert_eq!(download(&world, a.id, &world.runner).await.status(), 401);
    let b = world.claim().await;
    assert_eq!(download(&world, 1, &b.token).await.status(), 403);

    let stranger = world.gitlab.add_project("other/app", world.repository.path());
    world.gitlab.run_pipeline(stranger, "main").unwrap();
    let c = world.claim().await;
    assert_eq!(download(&world, a.id, &c.token).await.status(), 403);
}

#[tokio::test]
async fn an_upload_can_be_sent_elsewhere_and_a_download_to_a_storage_that_takes_no_job_token() {
    let world = World::new(TWO_STAGES).await;
    world.run();
    let claim = world.claim().await;
    world.gitlab.faults().redirect_uploads(1);
    world.gitlab.faults().direct_download(true);
    let path = format!("/api/v4/jobs/{}/artifacts", claim.id);
    let client = Client::builder().redirect(Policy::none()).build().unwrap();

    let form = Form::new().part("file", Part::bytes(b"x".to_vec()).file_name("a.zip"));
    let to = client.post(format!("{}{path}", world.gitlab.url())).header("JOB-TOKEN", &claim.token).multipart(form);
    let to = to.send().await.unwrap();
    assert_eq!(to.status(), 307);
    let form = Form::new().part("file", Part::bytes(b"x".to_vec()).file_name("a.zip"));
    let there = client.post(header(&to, "location").unwrap()).header("JOB-TOKEN", &claim.token).multipart(form);
    assert_eq!(there.send().await.unwrap().status(), 201);

    let from = client.get(format!("{}{path}?direct_download=true", world.gitlab.url()));
    let from = from.header("JOB-TOKEN", &claim.token).send().await.unwrap();
    assert_eq!(from.status(), 302);
    let storage = header(&from, "location").unwrap().to_owned();
    assert_eq!(client.get(&storage).send().await.unwrap().bytes().await.unwrap().as_ref(), b"x");
    let leaking = client.get(&storage).header("User-Agent", "mayfly/0.1").header("JOB-TOKEN", &claim.token);
    assert_eq!(leaking.send().await.unwrap().status(), 501);
    assert_eq!(world.gitlab.violations().len(), 1);
}

#[tokio::test]
async fn a_dotenv_report_becomes_variables_of_later_jobs() {
    let world = World::new(TWO_STAGES).await;
    world.run();
    let a = world.claim().await;
    let query = "artifact_type=dotenv&artifact_format=gzip";
    let broken = [gzip("no pair"), b"no gzip".to_vec(), gzip(&"A=1\n".repeat(5000))];
    for bytes in broken {
        assert_eq!(upload(&world, &a, query, &bytes).await.status(), 400);
    }
    assert_eq!(upload(&world, &a, query, &gzip("A=1\nB=\"two\"\n")).await.status(), 201);
    world.succeed(&a).await;

    let b = world.claim().await;

    assert_eq!((b.value("A"), b.value("B")), (Some("1"), Some("two")));
    assert_eq!(b.variable("A").unwrap()["public"], false);
}
