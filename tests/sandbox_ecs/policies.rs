//! The sandbox's ECS asks the policies of who calls it, and of tasks' execution roles.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use aws_sdk_ecs::Client;
use aws_sdk_ecs::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_ecs::types::{Compatibility, NetworkMode, Secret, Tag, TaskOverride};
use futures::FutureExt;
use mayfly::sandbox::ecs::{Access, Asker, Callers, Principal};
use serde_json::{Value, json};

use crate::world::{World, arn, client, container, environment, world_with};

const KEY: &str = "ASIADISPATCHER00";
const DISPATCHER: &str = "arn:aws:iam::123456789012:role/stack/dispatcher";
const EXECUTION: &str = "arn:aws:iam::123456789012:role/execution";
const CLUSTER: &str = "arn:aws:ecs:eu-central-1:123456789012:cluster/mayfly";
/// Stands for the roles in the table of policies.
const BUCKET: &str = "services";
const TRUST: &str = "trust";
const LAUNCH_KEY: &str = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:launch-key-a1b2c3";

/// A world whose roles have the policies that are in `policies` now.
struct Guarded {
    world: World,
    client: Client,
    policies: Arc<Mutex<BTreeMap<&'static str, Value>>>,
    decisions: Arc<Mutex<Vec<Value>>>,
}

/// What a stack like ours gives its dispatcher.
fn dispatcher() -> Value {
    let in_cluster = json!({"ArnEquals": {"ecs:cluster": CLUSTER}});
    json!([
        {"Sid": "Describe", "Effect": "Allow", "Action": "ecs:DescribeTaskDefinition", "Resource": "*"},
        {"Sid": "Register", "Effect": "Allow", "Action": "ecs:RegisterTaskDefinition",
            "Resource": "arn:aws:ecs:eu-central-1:123456789012:task-definition/mayfly-*:*",
            "Condition": {"ForAllValues:StringEquals": {"ecs:compute-compatibility": ["FARGATE"]},
                "Null": {"ecs:compute-compatibility": "false"}, "Bool": {"ecs:privileged": "false"}}},
        {"Sid": "Run", "Effect": "Allow", "Action": "ecs:RunTask",
            "Resource": "arn:aws:ecs:eu-central-1:123456789012:task-definition/mayfly-*:*",
            "Condition": {"ArnEquals": {"ecs:cluster": CLUSTER}, "NumericLessThanEquals": {"ecs:task-cpu": "4096"}}},
        {"Sid": "NoShell", "Effect": "Deny", "Action": "ecs:RunTask", "Resource": "*",
            "Condition": {"Bool": {"ecs:enable-execute-command": "true"}}},
        {"Sid": "Tasks", "Effect": "Allow", "Action": ["ecs:StopTask", "ecs:DescribeTasks"],
            "Resource": "arn:aws:ecs:eu-central-1:123456789012:task/mayfly/*", "Condition": in_cluster},
        {"Sid": "Pass", "Effect": "Allow", "Action": "iam:PassRole", "Resource": EXECUTION,
            "Condition": {"StringEquals": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}}},
    ])
}

fn execution() -> Value {
    json!([
        {"Sid": "LaunchKey", "Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": LAUNCH_KEY},
        {"Sid": "Services", "Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::services/*"},
        {"Sid": "Where", "Effect": "Allow", "Action": "s3:GetBucketLocation", "Resource": "arn:aws:s3:::services"},
    ])
}

fn document(statements: &Value) -> String {
    json!({"Version": "2012-10-17", "Statement": statements}).to_string()
}

/// A trust as a stack gives its execution role.
fn trust() -> Value {
    json!([{"Sid": "Ecs", "Effect": "Allow", "Action": "sts:AssumeRole",
        "Principal": {"Service": "ecs-tasks.amazonaws.com"},
        "Condition": {"StringEquals": {"aws:SourceAccount": "123456789012"},
            "ArnLike": {"aws:SourceArn": "arn:aws:ecs:eu-central-1:123456789012:*"}}}])
}

/// The statements of `all` but those called `sid`.
fn without(all: &Value, sid: &str) -> Value {
    let statements = all.as_array().expect("a list").iter().filter(|one| one["Sid"] != sid);
    statements.cloned().collect()
}

async fn guarded() -> Guarded {
    let policies =
        Arc::new(Mutex::new(BTreeMap::from([(DISPATCHER, dispatcher()), (EXECUTION, execution()), (TRUST, trust())])));
    let decisions = Arc::<Mutex<Vec<Value>>>::default();
    let (read, buckets, kept) = (Arc::clone(&policies), Arc::clone(&policies), Arc::clone(&decisions));
    let world = world_with(move |options| {
        options.secrets.insert(LAUNCH_KEY.to_owned(), "s3cret".to_owned());
        let read = Arc::new(move |asker: Asker| {
            let role = match &asker {
                Asker::AccessKey(key) if key == KEY => DISPATCHER,
                Asker::Role(role) if role == EXECUTION => EXECUTION,
                _ => return async { Ok(None) }.boxed(),
            };
            let policies = read.lock().unwrap();
            let found = match policies.get(role) {
                Some(Value::Null) => Err(io::Error::other("IAM does not answer")),
                Some(statements) => Ok(Some(Principal {
                    role: role.to_owned(),
                    session: "dispatcher-fn".to_owned(),
                    policies: vec![("inline".to_owned(), document(statements))],
                    trust: document(&policies[TRUST]),
                })),
                None => Ok(None),
            };
            async move { found }.boxed()
        });
        let record = Arc::new(move |decision| kept.lock().unwrap().push(decision));
        let read_bucket = Arc::new(move |bucket: String| {
            assert_eq!(bucket, BUCKET);
            let found = buckets.lock().unwrap().get(BUCKET).map(document);
            async move { Ok(found) }.boxed()
        });
        options.callers = Callers::Roles(Access { read, read_bucket, record });
    })
    .await;
    let client = client(world.ecs.url(), KEY, "eu-central-1");
    let world = World { client: client.clone(), ..world };
    Guarded { world, client, policies, decisions }
}

impl Guarded {
    fn set(&self, role: &'static str, statements: Value) {
        self.policies.lock().unwrap().insert(role, statements);
    }

    /// `action`, `sid` and `decision` of each decision since the last look.
    fn decided(&self) -> Vec<(String, Option<String>, String)> {
        let text = |line: &Value, name: &str| line[name].as_str().map(str::to_owned);
        let lines = std::mem::take(&mut *self.decisions.lock().unwrap());
        let row = |line: &Value| {
            (text(line, "action").expect("an action"), text(line, "sid"), text(line, "decision").expect("a decision"))
        };
        lines.iter().map(row).collect()
    }

    fn allowed(&self) -> Vec<(String, String)> {
        let allowed = self.decided().into_iter().filter(|(_, _, decision)| decision == "Allow");
        allowed.map(|(action, sid, _)| (action, sid.unwrap_or_default())).collect()
    }

    async fn mayfly_task(&self) -> String {
        self.world.register("mayfly-a", vec![container("build", "exit 0")]).await
    }
}

fn refusal<T, E: ProvideErrorMetadata + std::error::Error + 'static>(
    result: Result<T, SdkError<E>>,
) -> (String, String) {
    match result {
        Ok(_) => panic!("it is not refused"),
        Err(error) if error.code().is_none() => panic!("{}", DisplayErrorContext(error)),
        Err(error) => (error.code().unwrap_or_default().to_owned(), error.message().unwrap_or_default().to_owned()),
    }
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(action, sid)| ((*action).to_owned(), (*sid).to_owned())).collect()
}

#[tokio::test]
async fn what_the_policies_allow_goes_through_and_each_decision_is_recorded() {
    let guarded = guarded().await;
    let definition = guarded.mayfly_task().await;
    assert_eq!(guarded.allowed(), pairs(&[("ecs:RegisterTaskDefinition", "Register"), ("iam:PassRole", "Pass")]));
    let task = arn(&guarded.world.run(&definition).send().await.unwrap());
    assert_eq!(
        guarded.decided()[..2].iter().map(|row| row.0.as_str()).collect::<Vec<_>>(),
        ["ecs:RunTask", "iam:PassRole"]
    );
    guarded.world.stopped(&task).await;
    guarded.decided();
    guarded.client.describe_tasks().cluster("mayfly").tasks(&task).send().await.unwrap();
    guarded.client.stop_task().cluster(CLUSTER).task(&task).send().await.unwrap();
    guarded.client.describe_task_definition().task_definition("mayfly-a").send().await.unwrap();
    let expected =
        [("ecs:DescribeTasks", "Tasks"), ("ecs:StopTask", "Tasks"), ("ecs:DescribeTaskDefinition", "Describe")];
    assert_eq!(guarded.allowed(), pairs(&expected));
}

#[tokio::test]
async fn a_decision_names_who_asked_for_what() {
    let guarded = guarded().await;
    guarded.mayfly_task().await;
    let lines = guarded.decisions.lock().unwrap().clone();
    let register = json!({
        "principal": DISPATCHER, "action": "ecs:RegisterTaskDefinition",
        "resource": "arn:aws:ecs:eu-central-1:123456789012:task-definition/mayfly-a:*",
        "sid": "Register", "policy": "inline", "decision": "Allow",
    });
    assert_eq!(lines[0], register);
    assert_eq!((&lines[1]["resource"], &lines[1]["principal"]), (&json!(EXECUTION), &json!(DISPATCHER)));
}

#[tokio::test]
async fn a_statement_that_is_gone_shows_as_a_refusal_at_once() {
    let guarded = guarded().await;
    let definition = guarded.mayfly_task().await;
    let run = || guarded.world.run(&definition).send();

    guarded.set(DISPATCHER, without(&dispatcher(), "Run"));
    let (code, message) = refusal(run().await);
    assert_eq!(code, "AccessDeniedException");
    assert_eq!(
        message,
        format!(
            "User: arn:aws:sts::123456789012:assumed-role/dispatcher/dispatcher-fn is not authorized to perform: \
             ecs:RunTask on resource: {definition} because no identity-based policy allows the ecs:RunTask action"
        )
    );
    guarded.decided();

    guarded.set(DISPATCHER, without(&dispatcher(), "Pass"));
    let (code, message) = refusal(run().await);
    assert_eq!(code, "AccessDeniedException");
    assert!(message.contains(&format!("iam:PassRole on resource: {EXECUTION} because")), "{message}");
    let run_then_pass = [("ecs:RunTask", Some("Run"), "Allow"), ("iam:PassRole", None, "ImplicitDeny")];
    let run_then_pass =
        run_then_pass.map(|(action, sid, decision)| (action.to_owned(), sid.map(str::to_owned), decision.to_owned()));
    assert_eq!(guarded.decided(), run_then_pass);
    assert!(guarded.world.ecs.tasks().is_empty());

    guarded.set(DISPATCHER, dispatcher());
    run().await.unwrap();
}

#[tokio::test]
async fn requests_beside_what_is_allowed_are_refused() {
    let guarded = guarded().await;
    let definition = guarded.mayfly_task().await;
    let denied = |(code, message): (String, String), what: &str| {
        assert_eq!(code, "AccessDeniedException", "{message}");
        assert!(message.contains(what), "{message}");
    };
    let run = || guarded.world.run(&definition);

    denied(refusal(run().cluster("other").send().await), "ecs:RunTask");
    denied(refusal(run().task_definition("other-family").send().await), "task-definition/other-family:*");
    let large = TaskOverride::builder().cpu("8192").memory("16384").build();
    denied(refusal(run().overrides(large).send().await), "ecs:RunTask");
    denied(refusal(run().enable_execute_command(true).send().await), "with an explicit deny");
    let role = TaskOverride::builder().task_role_arn("arn:aws:iam::123456789012:role/admin").build();
    denied(
        refusal(run().overrides(role).send().await),
        "iam:PassRole on resource: arn:aws:iam::123456789012:role/admin",
    );
    let tag = Tag::builder().key("a").value("b").build();
    denied(refusal(run().tags(tag).send().await), "ecs:TagResource");
    denied(refusal(guarded.client.list_tasks().cluster("mayfly").send().await), "ecs:ListTasks");
    denied(refusal(guarded.client.stop_task().cluster("other").task("0a1b").send().await), "task/other/0a1b");

    let register = |family: &str, compatibility: Compatibility| {
        guarded
            .client
            .register_task_definition()
            .family(family)
            .network_mode(NetworkMode::Awsvpc)
            .requires_compatibilities(compatibility)
            .cpu("1024")
            .memory("2048")
            .container_definitions(container("build", "true"))
    };
    denied(refusal(register("other", Compatibility::Fargate).send().await), "task-definition/other:*");
    denied(refusal(register("mayfly-b", Compatibility::Ec2).send().await), "ecs:RegisterTaskDefinition");
    let named = register("mayfly-b", Compatibility::Fargate).execution_role_arn("admin");
    denied(refusal(named.send().await), "role/admin");
    let mut privileged = container("build", "true");
    privileged.privileged = Some(true);
    let privileged = register("mayfly-b", Compatibility::Fargate).set_container_definitions(Some(vec![privileged]));
    denied(refusal(privileged.send().await), "ecs:RegisterTaskDefinition");
    assert!(guarded.world.ecs.tasks().is_empty());
}

#[tokio::test]
async fn an_unknown_key_and_unreadable_policies_are_refused() {
    let guarded = guarded().await;
    let stranger = client(guarded.world.ecs.url(), "ASIASTRANGER0000", "eu-central-1");
    let list = |client: &Client| client.describe_task_definition().task_definition("mayfly-a").send();
    assert_eq!(refusal(list(&stranger).await).0, "UnrecognizedClientException");
    assert!(guarded.decided().is_empty());

    guarded.set(DISPATCHER, Value::Null);
    let (code, message) = refusal(list(&guarded.client).await);
    assert_eq!((code.as_str(), message.contains("IAM does not answer")), ("AccessDeniedException", true));
    guarded.set(DISPATCHER, json!([{"Effect": "Allow", "Action": "*", "Resource": "*", "NotPrincipal": "x"}]));
    let (code, message) = refusal(list(&guarded.client).await);
    assert_eq!((code.as_str(), message.contains("`NotPrincipal`")), ("AccessDeniedException", true));
    let errors: Vec<Value> = guarded.decisions.lock().unwrap().iter().map(|line| line["decision"].clone()).collect();
    assert_eq!(errors, ["Deny", "Deny"]);
}

#[tokio::test]
async fn a_task_gets_only_what_its_execution_role_may_read() {
    let guarded = guarded().await;
    let build = || {
        let mut build = container("build", r#"test "$LAUNCH_KEY$FROM_FILE" = s3cret1"#);
        build.secrets = Some(vec![Secret::builder().name("LAUNCH_KEY").value_from(LAUNCH_KEY).build().unwrap()]);
        build
    };
    let definition = guarded.world.register("mayfly-a", vec![build()]).await;
    let start = || async {
        let file = aws_sdk_ecs::types::EnvironmentFile::builder()
            .value("arn:aws:s3:::services/a.env")
            .r#type(aws_sdk_ecs::types::EnvironmentFileType::S3)
            .build()
            .unwrap();
        let mut overrides = environment("build", &[]);
        if let Some(build) = overrides.container_overrides.as_mut().and_then(|all| all.first_mut()) {
            build.environment_files = Some(vec![file]);
        }
        guarded.decided();
        let task = arn(&guarded.world.run(&definition).overrides(overrides).send().await.unwrap());
        guarded.world.stopped(&task).await
    };

    let task = start().await;
    assert_eq!(task.containers[0].exit_code, Some(0), "{task:?}");
    let asked: Vec<(String, String)> = guarded
        .allowed()
        .into_iter()
        .filter(|(action, _)| !action.starts_with("ecs:") && !action.starts_with("iam:"))
        .collect();
    let expected = [
        ("sts:AssumeRole", "Ecs"),
        ("s3:GetBucketLocation", "Where"),
        ("s3:GetObject", "Services"),
        ("secretsmanager:GetSecretValue", "LaunchKey"),
    ];
    assert_eq!(asked, pairs(&expected));

    for (sid, action) in [
        ("LaunchKey", "secretsmanager:GetSecretValue"),
        ("Services", "s3:GetObject"),
        ("Where", "s3:GetBucketLocation"),
    ] {
        guarded.set(EXECUTION, without(&execution(), sid));
        let task = start().await;
        assert_eq!(task.stop_code.as_deref(), Some("TaskFailedToStart"), "{sid}");
        let reason = task.stopped_reason.unwrap_or_default();
        assert!(reason.starts_with("ResourceInitializationError") && reason.contains(action), "{reason}");
        assert!(guarded.decided().iter().any(|row| row.0 == action && row.2 == "ImplicitDeny"));
    }
}

#[tokio::test]
async fn a_role_that_does_not_trust_ecs_and_a_bucket_that_denies_it_stop_the_task() {
    let guarded = guarded().await;
    let mut build = container("build", "exit 0");
    build.environment_files = Some(vec![
        aws_sdk_ecs::types::EnvironmentFile::builder()
            .value("arn:aws:s3:::services/a.env")
            .r#type(aws_sdk_ecs::types::EnvironmentFileType::S3)
            .build()
            .unwrap(),
    ]);
    let definition = guarded.world.register("mayfly-a", vec![build]).await;
    let reason = || async {
        let task = arn(&guarded.world.run(&definition).send().await.unwrap());
        guarded.world.stopped(&task).await.stopped_reason.unwrap_or_default()
    };
    let but = |role: &str| {
        json!([{"Sid": "Ours", "Effect": "Deny", "Principal": "*", "Action": "s3:*",
            "Resource": ["arn:aws:s3:::services", "arn:aws:s3:::services/*"],
            "Condition": {"ArnNotLike": {"aws:PrincipalArn": role}}}])
    };

    guarded.set(BUCKET, but(EXECUTION));
    assert_eq!(reason().await, "Essential container in task exited");
    guarded.decided();
    guarded.set(BUCKET, but(DISPATCHER));
    let denied = reason().await;
    assert!(denied.contains("s3:GetBucketLocation") && denied.contains("in a resource-based policy"), "{denied}");
    assert!(guarded.decided().contains(&("s3:GetBucketLocation".into(), Some("Ours".into()), "Deny".into())));

    let mut trust = trust();
    trust[0]["Principal"] = json!({"Service": "lambda.amazonaws.com"});
    guarded.set(TRUST, trust);
    let denied = reason().await;
    assert!(denied.starts_with(&format!("ECS was unable to assume the role '{EXECUTION}'")), "{denied}");
    assert!(guarded.decided().contains(&("sts:AssumeRole".into(), None, "ImplicitDeny".into())));
}

#[tokio::test]
async fn images_and_logs_need_the_execution_role_as_well() {
    let guarded = guarded().await;
    let mut build = container("build", "echo out; exit 0");
    build.image = Some("123456789012.dkr.ecr.eu-central-1.amazonaws.com/team/tool:1".to_owned());
    build.log_configuration = Some(
        aws_sdk_ecs::types::LogConfiguration::builder()
            .log_driver(aws_sdk_ecs::types::LogDriver::Awslogs)
            .options("awslogs-group", "/mayfly/tasks")
            .options("awslogs-region", "eu-central-1")
            .options("awslogs-stream-prefix", "build")
            .build()
            .unwrap(),
    );
    let definition = guarded.world.register("mayfly-a", vec![build]).await;
    let start = || async {
        let task = arn(&guarded.world.run(&definition).send().await.unwrap());
        guarded.world.stopped(&task).await
    };
    let repository = "arn:aws:ecr:eu-central-1:123456789012:repository/team/tool";
    let stream = "arn:aws:logs:eu-central-1:123456789012:log-group:/mayfly/tasks:log-stream:build/build/*";
    let token = json!({"Effect": "Allow", "Action": "ecr:GetAuthorizationToken", "Resource": "*"});
    let pull = json!({"Effect": "Allow", "Action": ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
        "Resource": repository});
    let create = json!({"Effect": "Allow", "Action": "logs:CreateLogStream", "Resource": stream});
    let write = json!({"Effect": "Allow", "Action": "logs:PutLogEvents", "Resource": stream});

    let refused = [
        (json!([]), "CannotPullContainerError", "ecr:GetAuthorizationToken on resource: *"),
        (json!([token]), "CannotPullContainerError", "ecr:BatchGetImage"),
        (json!([token, pull]), "ResourceInitializationError", "logs:CreateLogStream"),
    ];
    for (statements, start_of_reason, action) in refused {
        guarded.set(EXECUTION, statements);
        let reason = start().await.stopped_reason.unwrap_or_default();
        assert!(reason.starts_with(start_of_reason) && reason.contains(action), "{reason}");
    }
    let mut may_read = dispatcher();
    may_read
        .as_array_mut()
        .unwrap()
        .push(json!({"Effect": "Allow", "Action": "logs:GetLogEvents", "Resource": stream}));
    guarded.set(DISPATCHER, may_read);
    for (statements, lines) in [(json!([token, pull, create]), 0), (json!([token, pull, create, write]), 1)] {
        guarded.set(EXECUTION, statements);
        let task = start().await;
        assert_eq!(task.containers[0].exit_code, Some(0), "{task:?}");
        let id = task.arn.rsplit('/').next().unwrap_or_default().to_owned();
        assert_eq!(guarded.log_lines(&format!("build/build/{id}")).await, Some(lines));
    }
    guarded.set(DISPATCHER, dispatcher());
    assert_eq!(guarded.log_lines("build/build/x").await, None);
}

impl Guarded {
    /// How many lines GetLogEvents gives of a stream, 0 if there is none; `None` if the caller may not ask.
    async fn log_lines(&self, stream: &str) -> Option<usize> {
        let scope = format!("{KEY}/20261121/eu-central-1/logs/aws4_request");
        let fields = format!("Credential={scope}, SignedHeaders=host;x-amz-date, Signature={}", "0".repeat(64));
        let body = json!({"logGroupName": "/mayfly/tasks", "logStreamName": stream, "startFromHead": true});
        let answer = reqwest::Client::new()
            .post(self.world.ecs.url())
            .header("content-type", "application/x-amz-json-1.1")
            .header("x-amz-date", "20261121T020000Z")
            .header("x-amz-target", "Logs_20140328.GetLogEvents")
            .header("authorization", format!("AWS4-HMAC-SHA256 {fields}"))
            .body(body.to_string())
            .send()
            .await
            .unwrap();
        let answer: Value = answer.json().await.unwrap();
        match answer["__type"].as_str() {
            Some("AccessDeniedException") => None,
            Some("ResourceNotFoundException") => Some(0),
            Some(other) => panic!("{other}"),
            None => answer["events"].as_array().map(Vec::len),
        }
    }
}
