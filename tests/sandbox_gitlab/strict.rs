//! Every word that GitLab does not declare, said once wrongly by a client of ours (501) and by a stranger (ignored).

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{ONE_JOB, World, claim_body};

async fn refused(world: &World, request: reqwest::RequestBuilder, what: &str) {
    let before = world.gitlab.violations().len();
    assert_eq!(request.send().await.unwrap().status(), 501, "{what}");
    let violations = world.gitlab.violations();
    assert_eq!(violations.len(), before + 1, "{what}");
    assert!(violations[before].contains(what), "{violations:?}");
}

#[tokio::test]
async fn undeclared_fields_of_a_claim_are_refused_from_us_alone() {
    let world = World::new(ONE_JOB).await;
    let wrong: [(&str, Value); 4] = [
        ("last_update", json!("x")),
        ("job_id", json!(1)),
        ("info", json!({ "fleeting": true })),
        ("info", json!({ "features": { "teleport": true } })),
    ];
    for (field, value) in wrong {
        let mut body = claim_body(&world.runner, &[]);
        body[field] = value;
        let request = world.own(Method::POST, "/api/v4/jobs/request").json(&body);
        refused(&world, request, field).await;
        let stranger = world.call(Method::POST, "/api/v4/jobs/request").json(&body).send().await.unwrap();
        assert_eq!(stranger.status(), 204);
    }
}

#[tokio::test]
async fn tokens_in_the_wrong_place_are_refused() {
    let world = World::new(ONE_JOB).await;
    world.run();
    let claim = world.claim().await;
    let job = format!("/api/v4/jobs/{}", claim.id);
    let body = claim_body(&world.runner, &[]);
    let ask = || world.own(Method::POST, "/api/v4/jobs/request").json(&body);
    let patch = || world.own(Method::PATCH, &format!("{job}/trace")).header("JOB-TOKEN", &claim.token);

    refused(&world, ask().header("X-Gitlab-Event-UUID", "1"), "x-gitlab-event-uuid").await;
    refused(&world, ask().header("JOB-TOKEN", "x"), "job-token").await;
    refused(&world, ask().header("RUNNER-TOKEN", "other"), "runner-token").await;
    refused(&world, ask().header("Accept", "text/html"), "accept").await;
    refused(&world, patch().header("RUNNER-TOKEN", &world.runner), "runner-token").await;
    refused(&world, patch().header("Authorization", "Bearer x"), "authorization").await;
    let lookup = world.own(Method::GET, "/api/v4/job").header("PRIVATE-TOKEN", "x");
    refused(&world, lookup, "private-token").await;
    let good = ask().header("RUNNER-TOKEN", &world.runner).header("X-Request-Id", "7").send().await.unwrap();
    assert_eq!((good.status().as_u16(), good.headers()["x-request-id"].to_str().unwrap()), (204, "7"));
}

#[tokio::test]
async fn undeclared_fields_of_an_update_a_trace_and_an_upload_are_refused() {
    let world = World::new(ONE_JOB).await;
    world.run();
    let claim = world.claim().await;
    let job = format!("/api/v4/jobs/{}", claim.id);
    let update = json!({ "token": claim.token, "state": "running", "trace": "all of it" });
    let token = |request: reqwest::RequestBuilder| request.header("JOB-TOKEN", &claim.token);

    refused(&world, world.own(Method::PUT, &job).json(&update), "trace").await;
    let output = json!({ "token": claim.token, "state": "running", "output": { "sha": "x" } });
    refused(&world, world.own(Method::PUT, &job).json(&output), "output.sha").await;
    let patch = world.own(Method::PATCH, &format!("{job}/trace?offset=0"));
    refused(&world, token(patch), "offset").await;
    let upload = world.own(Method::POST, &format!("{job}/artifacts?name=x"));
    refused(&world, token(upload), "name").await;
    let form = reqwest::multipart::Form::new().text("artifact_name", "x");
    let upload = world.own(Method::POST, &format!("{job}/artifacts")).multipart(form);
    refused(&world, token(upload), "artifact_name").await;
    let download = world.own(Method::GET, &format!("{job}/artifacts?direct=1"));
    refused(&world, token(download), "direct").await;
    let stranger = world.call(Method::PUT, &job).json(&update).send().await.unwrap();
    assert_eq!(stranger.status(), 200);
}

#[tokio::test]
async fn endpoints_that_gitlab_does_not_have_are_refused() {
    let world = World::new(ONE_JOB).await;
    let wrong = [
        (Method::POST, "/api/v4/jobs/1/release"),
        (Method::GET, "/api/v4/jobs/request"),
        (Method::PUT, "/api/v4/runners/managers"),
        (Method::POST, "/api/v4/jobs/1/artifacts/authorize"),
        (Method::GET, "/"),
    ];
    for (method, path) in wrong {
        refused(&world, world.own(method.clone(), path), path).await;
        let stranger = world.call(method, path).send().await.unwrap();
        assert!([403, 404].contains(&stranger.status().as_u16()), "{path}");
    }
    assert!(world.traffic.seen().iter().any(|seen| seen.user_agent == "mayfly/0.1"));
}

#[tokio::test]
async fn runners_manage_themselves_with_their_token_alone() {
    let world = World::new(ONE_JOB).await;
    let token = || json!({ "token": world.runner });
    let send = |method: Method, path: &str, body: Value| world.own(method, path).json(&body).send();
    let verify = |body: Value| send(Method::POST, "/api/v4/runners/verify", body);

    let verified: Value = verify(token()).await.unwrap().json().await.unwrap();
    assert_eq!(
        (verified["token"].as_str(), &verified["token_expires_at"]),
        (Some(world.runner.as_str()), &Value::Null)
    );
    assert_eq!(verify(json!({ "token": "wrong" })).await.unwrap().status(), 403);
    assert_eq!(verify(json!({})).await.unwrap().status(), 400);
    assert_eq!(send(Method::POST, "/api/v4/runners", token()).await.unwrap().status(), 410);
    let discovery = world.own(Method::GET, "/api/v4/runners/router/discovery");
    assert_eq!(discovery.header("Runner-Token", &world.runner).send().await.unwrap().status(), 501);
    assert_eq!(world.gitlab.violations(), Vec::<String>::new());

    let manager = |id: &str| json!({ "token": world.runner, "system_id": id });
    let forget = |body: Value| send(Method::DELETE, "/api/v4/runners/managers", body);
    assert_eq!(forget(token()).await.unwrap().status(), 400);
    assert_eq!(forget(manager("r_none")).await.unwrap().status(), 404);
    assert_eq!(forget(manager("<legacy>")).await.unwrap().status(), 204);
    assert_eq!(send(Method::DELETE, "/api/v4/runners", token()).await.unwrap().status(), 204);

    let reset = send(Method::POST, "/api/v4/runners/reset_authentication_token", token()).await.unwrap();
    assert_eq!(reset.status(), 201);
    let fresh: Value = reset.json().await.unwrap();
    assert_eq!(verify(token()).await.unwrap().status(), 403);
    assert_eq!(verify(json!({ "token": fresh["token"] })).await.unwrap().status(), 200);
    let extra = json!({ "token": "x", "tag_list": "a" });
    refused(&world, world.own(Method::DELETE, "/api/v4/runners").json(&extra), "tag_list").await;
}
