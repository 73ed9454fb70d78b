//! The permissions that a request needs, and its condition keys (aws.md §9).
//!
//! A key is absent where the request has no value for it, as in IAM: a `RunTask` with a launch type has no
//! `ecs:capacity-provider`, and one without `enableExecuteCommand` has no `ecs:enable-execute-command`.

use serde_json::Value;

use super::definition_rules::given;
use super::json::{list, text, texts};
use super::policy::{Ask, Keys};
use super::state::{Shared, id_of};
use super::task::{Container, Task};

/// The permissions that an operation needs, in the order in which they are checked.
pub(super) fn of_request(shared: &Shared, operation: &str, body: &Value) -> Vec<Ask> {
    let request = Request { shared, body };
    let action = format!("ecs:{operation}");
    match operation {
        "RunTask" => request.run_task(),
        "RegisterTaskDefinition" => request.register(),
        "StopTask" => vec![ask(&action, request.task(text(body, "task").unwrap_or_default()), request.of_cluster())],
        "DescribeTasks" => {
            let tasks = texts(body, "tasks").map(|name| request.task(name));
            tasks.map(|task| ask(&action, task, request.of_cluster())).collect()
        }
        "ListTasks" => vec![ask(&action, "*".to_owned(), request.of_cluster())],
        "DescribeClusters" => {
            let arn = |name| shared.options.arn(&format!("cluster/{}", id_of(name)));
            let named: Vec<&str> = texts(body, "clusters").collect();
            let named = if named.is_empty() { vec!["default"] } else { named };
            named.into_iter().map(|name| ask(&action, arn(name), Keys::new())).collect()
        }
        "DeleteTaskDefinitions" => {
            let names = texts(body, "taskDefinitions");
            names.map(|name| ask(&action, request.definition_arn(name), Keys::new())).collect()
        }
        "GetLogEvents" => {
            let group = text(body, "logGroupName").or(text(body, "logGroupIdentifier")).unwrap_or_default();
            let group = group.rsplit_once(":log-group:").map_or(group, |(_, name)| name);
            let stream = text(body, "logStreamName").unwrap_or_default();
            vec![ask("logs:GetLogEvents", log_stream(shared, group, stream), Keys::new())]
        }
        // These have no resource (aws.md §9).
        _ => vec![ask(&action, "*".to_owned(), Keys::new())],
    }
}

/// The service that assumes a task's roles.
pub(super) const ECS_TASKS: &str = "ecs-tasks.amazonaws.com";

/// Assuming the execution role of a task.
pub(super) fn of_trust(shared: &Shared, task: &Task, role: &str) -> Ask {
    let keys = keys([("aws:sourceaccount", shared.options.account.as_str()), ("aws:sourcearn", task.arn.as_str())]);
    Ask { names: vec![format!("Service:{ECS_TASKS}")], ..ask("sts:AssumeRole", role.to_owned(), keys) }
}

/// The name of the bucket of an object.
pub(super) fn bucket(arn: &str) -> &str {
    let path = arn.split(":::").nth(1).unwrap_or_default();
    path.split_once('/').map_or(path, |(bucket, _)| bucket)
}

/// Reading one secret: `<secret ARN>:<JSON key>:<stage>:<version>`, where an ARN has seven parts.
pub(super) fn of_secret(value_from: &str) -> Vec<Ask> {
    let arn: Vec<&str> = value_from.split(':').take(7).collect();
    vec![ask("secretsmanager:GetSecretValue", arn.join(":"), Keys::new())]
}

/// Reading one environment file.
pub(super) fn of_file(arn: &str) -> Vec<Ask> {
    let of_bucket = arn.split_once('/').map_or(arn, |(bucket, _)| bucket).to_owned();
    vec![ask("s3:GetBucketLocation", of_bucket, Keys::new()), ask("s3:GetObject", arn.to_owned(), Keys::new())]
}

/// Pulling one image: from ECR with the role itself, from elsewhere with a secret if the container names one.
pub(super) fn of_image(image: &str, definition: &Value) -> Vec<Ask> {
    let secret = text(&definition["repositoryCredentials"], "credentialsParameter");
    let mut asks: Vec<Ask> = secret.map(of_secret).unwrap_or_default();
    let Some((registry, repository)) = image.split_once('/') else { return asks };
    // `<account>.dkr.ecr.<region>.amazonaws.com`
    let parts: Vec<&str> = registry.split('.').collect();
    let [account, "dkr", "ecr", region, "amazonaws", ..] = parts[..] else { return asks };
    let repository = repository.split(['@', ':']).next().unwrap_or(repository);
    let arn = format!("arn:aws:ecr:{region}:{account}:repository/{repository}");
    asks.push(ask("ecr:GetAuthorizationToken", "*".to_owned(), Keys::new()));
    asks.extend(
        ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"].map(|action| ask(action, arn.clone(), Keys::new())),
    );
    asks
}

/// `action` on the log stream of a container that has the log driver awslogs.
pub(super) fn of_log(shared: &Shared, task: &Task, container: &Container, action: &str) -> Vec<Ask> {
    let (definition, _) = task.container_definition(&container.name);
    let log = &definition["logConfiguration"];
    let option = |name| text(&log["options"], name).unwrap_or_default();
    if text(log, "logDriver") != Some("awslogs") {
        return Vec::new();
    }
    let stream = format!("{}/{}/{}", option("awslogs-stream-prefix"), container.name, task.id);
    vec![ask(action, log_stream(shared, option("awslogs-group"), &stream), Keys::new())]
}

/// The ARN of the role that `over` or else `definition` names in `member`.
pub(super) fn role(shared: &Shared, over: &Value, definition: &Value, member: &str) -> Option<String> {
    let name = text(over, member).or(text(definition, member)).filter(|name| !name.is_empty())?;
    let is_arn = name.starts_with("arn:");
    Some(if is_arn { name.to_owned() } else { format!("arn:aws:iam::{}:role/{name}", shared.options.account) })
}

/// The keys of every request by a role. The sandbox stands in for endpoints that have TLS.
pub(super) fn global_keys(role: &str) -> Keys {
    let account = role.split(':').nth(4).unwrap_or_default();
    keys([
        ("aws:principalarn", role),
        ("aws:principalaccount", account),
        ("aws:principaltype", "AssumedRole"),
        ("aws:securetransport", "true"),
        ("aws:viaawsservice", "false"),
    ])
}

/// The names by which a bucket policy may mean the session of a role.
pub(super) fn names(role: &str, session: &str) -> Vec<String> {
    let account = role.split(':').nth(4).unwrap_or_default();
    let root = format!("arn:aws:iam::{account}:root");
    [role, session, account, root.as_str(), "*"].map(|name| format!("AWS:{name}")).to_vec()
}

struct Request<'a> {
    shared: &'a Shared,
    body: &'a Value,
}

impl Request<'_> {
    fn run_task(&self) -> Vec<Ask> {
        let (shared, body) = (self.shared, self.body);
        let name = text(body, "taskDefinition").unwrap_or_default();
        let found = shared.state().definitions.find(name).map(|definition| definition.json.clone());
        let definition = found.as_deref().unwrap_or(&Value::Null);
        let overrides = body.get("overrides").unwrap_or(&Value::Null);
        let mut run = self.of_cluster();
        for (key, member) in [("ecs:task-cpu", "cpu"), ("ecs:task-memory", "memory")] {
            insert(&mut run, key, text(overrides, member).or(text(definition, member)));
        }
        let providers = list(body, "capacityProviderStrategy").iter().filter_map(|one| text(one, "capacityProvider"));
        let providers = providers.map(|name| shared.options.arn(&format!("capacity-provider/{name}"))).collect();
        run.insert("ecs:capacity-provider".to_owned(), providers);
        insert(&mut run, "ecs:enable-execute-command", flag(body, "enableExecuteCommand"));
        insert(&mut run, "ecs:enable-ebs-volumes", given(body, "volumeConfigurations").then_some("true"));
        run.extend(self.tags());
        let arn = text(definition, "taskDefinitionArn").map(str::to_owned);
        let mut asks = vec![ask("ecs:RunTask", arn.unwrap_or_else(|| self.definition_arn(name)), run)];
        let tasks = shared.options.arn(&format!("task/{}/*", id_of(&self.cluster())));
        asks.extend(self.tagging(tasks, "RunTask"));
        asks.extend(self.passing(overrides, definition));
        asks
    }

    fn register(&self) -> Vec<Ask> {
        let body = self.body;
        let mut register = self.tags();
        for (key, member) in [("ecs:task-cpu", "cpu"), ("ecs:task-memory", "memory")] {
            insert(&mut register, key, text(body, member));
        }
        let compatibilities = texts(body, "requiresCompatibilities").map(str::to_owned).collect();
        register.insert("ecs:compute-compatibility".to_owned(), compatibilities);
        let privileged = list(body, "containerDefinitions").iter().any(|one| flag(one, "privileged") == Some("true"));
        insert(&mut register, "ecs:privileged", Some(if privileged { "true" } else { "false" }));
        let arn = self.definition_arn(text(body, "family").unwrap_or_default());
        let mut asks = vec![ask("ecs:RegisterTaskDefinition", arn.clone(), register)];
        asks.extend(self.tagging(arn, "RegisterTaskDefinition"));
        asks.extend(self.passing(&Value::Null, body));
        asks
    }

    /// Both calls pass both roles; a `RunTask` also passes those of the definition that it names.
    fn passing(&self, over: &Value, definition: &Value) -> Vec<Ask> {
        let roles = ["executionRoleArn", "taskRoleArn"];
        let roles = roles.into_iter().filter_map(|member| role(self.shared, over, definition, member));
        let keys = keys([("iam:passedtoservice", ECS_TASKS)]);
        roles.map(|role| ask("iam:PassRole", role, keys.clone())).collect()
    }

    /// Tagging on creation needs a permission of its own.
    fn tagging(&self, resource: String, call: &str) -> Option<Ask> {
        let tags = self.tags();
        let mut keys = tags.clone();
        insert(&mut keys, "ecs:createaction", Some(call));
        (!tags.is_empty()).then(|| ask("ecs:TagResource", resource, keys))
    }

    fn tags(&self) -> Keys {
        let mut keys = Keys::new();
        for tag in list(self.body, "tags") {
            let key = text(tag, "key").unwrap_or_default();
            insert(&mut keys, &format!("aws:requesttag/{}", key.to_ascii_lowercase()), text(tag, "value").or(Some("")));
            keys.entry("aws:tagkeys".to_owned()).or_default().push(key.to_owned());
        }
        keys
    }

    fn cluster(&self) -> String {
        self.shared.options.arn(&format!("cluster/{}", id_of(text(self.body, "cluster").unwrap_or("default"))))
    }

    fn of_cluster(&self) -> Keys {
        keys([("ecs:cluster", self.cluster().as_str())])
    }

    fn task(&self, name: &str) -> String {
        self.shared.options.arn(&format!("task/{}/{}", id_of(&self.cluster()), id_of(name)))
    }

    /// The ARN of a revision, or of all revisions of a family.
    fn definition_arn(&self, name: &str) -> String {
        match name.split_once(':') {
            Some(("arn", _)) => name.to_owned(),
            Some(_) => self.shared.options.arn(&format!("task-definition/{name}")),
            None => self.shared.options.arn(&format!("task-definition/{name}:*")),
        }
    }
}

fn ask(action: &str, resource: String, keys: Keys) -> Ask {
    Ask { action: action.to_owned(), resource, keys, names: Vec::new() }
}

fn keys<const N: usize>(pairs: [(&str, &str); N]) -> Keys {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), vec![value.to_owned()])).collect()
}

fn insert(keys: &mut Keys, key: &str, value: Option<&str>) {
    if let Some(value) = value {
        keys.insert(key.to_owned(), vec![value.to_owned()]);
    }
}

fn flag(owner: &Value, member: &str) -> Option<&'static str> {
    owner.get(member)?.as_bool().map(|flag| if flag { "true" } else { "false" })
}

fn log_stream(shared: &Shared, group: &str, stream: &str) -> String {
    let (region, account) = (&shared.options.region, &shared.options.account);
    format!("arn:aws:logs:{region}:{account}:log-group:{group}:log-stream:{stream}")
}
