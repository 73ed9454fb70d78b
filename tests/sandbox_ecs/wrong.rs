//! Hand-written requests that ECS refuses: how they are signed, what they ask, and what our own clients may not send.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::world::{World, client, code, container, world};

const SCOPE: &str = "AKIASANDBOX/20261121/eu-central-1/ecs/aws4_request";

struct Answer {
    status: StatusCode,
    code: String,
    message: String,
}

impl World {
    async fn ask(&self, operation: &str, body: Value) -> Answer {
        self.ask_as(
            "python-requests",
            &format!("AmazonEC2ContainerServiceV20141113.{operation}"),
            SCOPE,
            body.to_string(),
        )
        .await
    }

    async fn ask_as(&self, agent: &str, target: &str, scope: &str, body: String) -> Answer {
        let mut request = reqwest::Client::new()
            .post(self.ecs.url())
            .header("user-agent", agent)
            .header("content-type", "application/x-amz-json-1.1")
            .header("x-amz-date", "20261121T020000Z")
            .header("x-amz-target", target)
            .body(body);
        if !scope.is_empty() {
            let signature = "0".repeat(64);
            let fields = format!("Credential={scope}, SignedHeaders=host;x-amz-date, Signature={signature}");
            request = request.header("authorization", format!("AWS4-HMAC-SHA256 {fields}"));
        }
        let answer = request.send().await.unwrap();
        let status = answer.status();
        assert_eq!(answer.headers()["content-type"], "application/x-amz-json-1.1");
        let body: Value = answer.json().await.unwrap();
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        Answer { status, code: text("__type"), message: text("message") }
    }
}

fn run_task() -> Value {
    json!({
        "cluster": "mayfly", "taskDefinition": "mayfly-a", "launchType": "FARGATE",
        "networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-1"]}},
    })
}

#[tokio::test]
async fn a_request_has_to_be_signed_with_our_key_for_this_service() {
    let world = world().await;
    let target = "AmazonEC2ContainerServiceV20141113.ListTasks";
    let body = || json!({"cluster": "mayfly"}).to_string();
    let cases = [
        ("", "MissingAuthenticationToken"),
        ("AKIAOTHER/20261121/eu-central-1/ecs/aws4_request", "UnrecognizedClientException"),
        ("AKIASANDBOX/20261121/us-east-1/ecs/aws4_request", "InvalidSignatureException"),
        ("AKIASANDBOX/20261121/eu-central-1/s3/aws4_request", "InvalidSignatureException"),
    ];
    for (scope, code) in cases {
        let answer = world.ask_as("boto3", target, scope, body()).await;
        assert_eq!((answer.status, answer.code.as_str()), (StatusCode::BAD_REQUEST, code), "{scope}");
    }
    assert_eq!(world.ask_as("boto3", target, SCOPE, body()).await.status, StatusCode::OK);
    let elsewhere = client(world.ecs.url(), "AKIASANDBOX", "us-east-1");
    assert_eq!(code(elsewhere.list_tasks().cluster("mayfly").send().await), "InvalidSignatureException");
}

#[tokio::test]
async fn our_own_clients_get_a_501_for_what_ecs_does_not_have() {
    let world = world().await;
    let extra = json!({"cluster": "mayfly", "statusFilter": "RUNNING"});
    let target = |operation: &str| format!("AmazonEC2ContainerServiceV20141113.{operation}");
    for agent in ["mayfly/0.1", "aws-sdk-rust/1.3 os/linux app/mayfly"] {
        let operation = world.ask_as(agent, &target("CreateService"), SCOPE, "{}".to_owned()).await;
        let member = world.ask_as(agent, &target("ListTasks"), SCOPE, extra.to_string()).await;
        assert_eq!((operation.status, member.status), (StatusCode::NOT_IMPLEMENTED, StatusCode::NOT_IMPLEMENTED));
        assert!(member.message.contains("statusFilter"));
    }
    assert_eq!(world.ecs.violations().len(), 4);
    assert_eq!(code(world.client.list_services().cluster("mayfly").send().await), "NotImplementedBySandbox");

    let foreign = world.ask("CreateService", json!({})).await;
    assert_eq!((foreign.status, foreign.code.as_str()), (StatusCode::BAD_REQUEST, "UnknownOperationException"));
    assert_eq!(world.ask("ListTasks", extra).await.status, StatusCode::OK, "ECS ignores what it does not know");
    assert_eq!(world.ecs.violations().len(), 5);
}

#[tokio::test]
async fn broken_bodies_are_refused() {
    let world = world().await;
    let target = "AmazonEC2ContainerServiceV20141113.RunTask";
    for body in
        ["", "{", "[]", "\"x\"", "null", "{\"count\": \"1\", \"taskDefinition\": \"a\"}", "{\"taskDefinition\": 1}"]
    {
        let answer = world.ask_as("boto3", target, SCOPE, body.to_owned()).await;
        assert_eq!(
            (answer.status, answer.code.as_str()),
            (StatusCode::BAD_REQUEST, "SerializationException"),
            "{body}"
        );
    }
    let missing = world.ask("RunTask", json!({"cluster": "mayfly"})).await;
    assert_eq!(missing.code, "InvalidParameterException");
    let huge = json!({"taskDefinition": "x".repeat(2 * 1024 * 1024)});
    assert_eq!(world.ask("RunTask", huge).await.status, StatusCode::BAD_REQUEST);
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(world.ask_as("boto3", target, SCOPE, deep).await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn run_task_refuses_what_ecs_refuses() {
    let world = world().await;
    world.register("mayfly-a", vec![container("build", "true")]).await;
    let long = "x".repeat(8200);
    let strategy = json!([{"capacityProvider": "FARGATE_SPOT", "weight": 1}]);
    let cases = [
        ("cluster", json!("other"), "ClusterNotFoundException"),
        ("cluster", json!(null), "ClusterNotFoundException"),
        ("taskDefinition", json!("mayfly-b"), "ClientException"),
        ("taskDefinition", json!("mayfly-a:9"), "ClientException"),
        ("count", json!(0), "InvalidParameterException"),
        ("count", json!(11), "InvalidParameterException"),
        ("launchType", json!("EC2"), "ClientException"),
        ("capacityProviderStrategy", strategy, "InvalidParameterException"),
        ("networkConfiguration", json!(null), "InvalidParameterException"),
        ("networkConfiguration", json!({"awsvpcConfiguration": {"subnets": []}}), "InvalidParameterException"),
        ("startedBy", json!("a b"), "InvalidParameterException"),
        ("startedBy", json!("x".repeat(129)), "InvalidParameterException"),
        ("clientToken", json!("x".repeat(65)), "InvalidParameterException"),
        ("clientToken", json!("a b"), "InvalidParameterException"),
        ("propagateTags", json!("SERVICE"), "InvalidParameterException"),
        ("enableExecuteCommand", json!(true), "InvalidParameterException"),
        ("platformVersion", json!("1.9.0"), "PlatformUnknownException"),
        ("placementStrategy", json!([{"type": "spread"}]), "InvalidParameterException"),
        (
            "tags",
            json!((0..51).map(|n| json!({"key": n.to_string()})).collect::<Vec<_>>()),
            "InvalidParameterException",
        ),
        ("overrides", json!({"cpu": "300", "memory": "512"}), "ClientException"),
        ("overrides", json!({"ephemeralStorage": {"sizeInGiB": 20}}), "ClientException"),
        ("overrides", json!({"containerOverrides": [{"name": "nobody"}]}), "InvalidParameterException"),
        (
            "overrides",
            json!({"containerOverrides": [{"name": "build", "command": [long]}]}),
            "InvalidParameterException",
        ),
    ];
    for (member, value, code) in cases {
        let mut request = run_task();
        request[member] = value.clone();
        world.clock.advance(std::time::Duration::from_secs(1));
        let answer = world.ask("RunTask", request).await;
        assert_eq!((answer.status, answer.code.as_str()), (StatusCode::BAD_REQUEST, code), "{member} = {value}");
    }
    assert!(world.ecs.tasks().is_empty());
    assert_eq!(world.ask("RunTask", run_task()).await.status, StatusCode::OK);
}

#[tokio::test]
async fn what_cannot_be_overridden_is_a_violation_of_ours() {
    let world = world().await;
    world.register("mayfly-a", vec![container("build", "true")]).await;
    for member in ["image", "entryPoint", "user", "secrets", "mountPoints", "dependsOn", "stopTimeout"] {
        let mut request = run_task();
        request["overrides"] = json!({"containerOverrides": [{"name": "build", member: "x"}]});
        let target = "AmazonEC2ContainerServiceV20141113.RunTask";
        let answer = world.ask_as("mayfly/0.1", target, SCOPE, request.to_string()).await;
        assert_eq!(answer.status, StatusCode::NOT_IMPLEMENTED, "{member}");
        assert!(answer.message.contains(member));
    }
}

#[tokio::test]
async fn descriptions_and_lists_have_their_limits() {
    let world = world().await;
    let many: Vec<_> = (0..101).map(|n| format!("task-{n}")).collect();

    let described = world.ask("DescribeTasks", json!({"cluster": "mayfly", "tasks": many})).await;
    let none = world.ask("DescribeTasks", json!({"cluster": "mayfly", "tasks": []})).await;
    let page = world.ask("ListTasks", json!({"cluster": "mayfly", "maxResults": 101})).await;
    let status =
        world.ask("ListTasks", json!({"cluster": "mayfly", "startedBy": "a", "desiredStatus": "STOPPED"})).await;
    let stop = world.ask("StopTask", json!({"cluster": "mayfly", "task": "nobody"})).await;
    let delete = world.ask("DeleteTaskDefinitions", json!({"taskDefinitions": vec!["a:1"; 11]})).await;

    for answer in [described, none, page, status, stop, delete] {
        assert_eq!((answer.status, answer.code.as_str()), (StatusCode::BAD_REQUEST, "InvalidParameterException"));
    }
    let register = world.ask("RegisterTaskDefinition", json!({"family": "a", "containerDefinitions": []})).await;
    assert_eq!(register.code, "ClientException");
}

#[tokio::test]
async fn container_logs_are_read_as_from_cloudwatch() {
    let world = world().await;
    let options = json!({"awslogs-group": "mayfly", "awslogs-region": "eu-central-1", "awslogs-stream-prefix": "job"});
    let definition = json!({
        "family": "mayfly-logs", "networkMode": "awsvpc", "requiresCompatibilities": ["FARGATE"], "cpu": "256",
        "memory": "512", "executionRoleArn": "arn:aws:iam::123456789012:role/execution",
        "containerDefinitions": [{
            "name": "helper", "image": "helper:1", "entryPoint": ["sh", "-c"], "command": ["echo one; echo two >&2"],
            "logConfiguration": {"logDriver": "awslogs", "options": options},
        }],
    });
    assert_eq!(world.ask("RegisterTaskDefinition", definition).await.status, StatusCode::OK);
    let mut request = run_task();
    request["taskDefinition"] = json!("mayfly-logs");
    assert_eq!(world.ask("RunTask", request).await.status, StatusCode::OK);
    let arn = world.ecs.tasks()[0].arn.clone();
    world.stopped(&arn).await;
    let stream = format!("job/helper/{}", arn.rsplit('/').next().unwrap());
    let ask = |group: &str| {
        let body = json!({"logGroupName": group, "logStreamName": stream, "startFromHead": true});
        reqwest::Client::new()
            .post(world.ecs.url())
            .header("content-type", "application/x-amz-json-1.1")
            .header("x-amz-date", "20261121T020000Z")
            .header("x-amz-target", "Logs_20140328.GetLogEvents")
            .header(
                "authorization",
                format!(
                    "AWS4-HMAC-SHA256 Credential={}, SignedHeaders=host, Signature={}",
                    SCOPE.replace("/ecs/", "/logs/"),
                    "0".repeat(64)
                ),
            )
            .body(body.to_string())
            .send()
    };

    let logs: Value = ask("mayfly").await.unwrap().json().await.unwrap();
    let other: Value = ask("other").await.unwrap().json().await.unwrap();

    let lines: Vec<_> = logs["events"].as_array().unwrap().iter().map(|event| &event["message"]).collect();
    assert_eq!(lines, ["one", "two"]);
    assert_eq!(other["__type"], "ResourceNotFoundException");
}
