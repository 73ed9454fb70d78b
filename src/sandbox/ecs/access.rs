//! Authorizes requests: checks the caller's policies, and those of a task's execution role, and records each decision.

use std::io;
use std::sync::Arc;

use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::permissions;
use super::policy::{Ask, Decided, Kind, Outcome, Policy, decide};
use super::refusal::Refusal;
use super::state::Shared;
use super::task::{Container, Task};

/// Which requests are authorized.
#[derive(Clone)]
pub enum Callers {
    /// All of them, with any access key.
    Anybody,
    /// Those that are signed with this access key; no policy is read.
    Key(String),
    /// Those that the caller's policies allow; execution roles are checked as well.
    Roles(Access),
}

/// The source of policies, and the record of decisions.
#[derive(Clone)]
pub struct Access {
    /// Reads the policies of one principal; `None` if there is no such principal.
    pub read: ReadPolicies,
    /// Reads the policy of the bucket with this name; `None` if it has none.
    pub read_bucket: ReadBucketPolicy,
    /// Records one decision.
    pub record: Record,
}

/// Reads the policies of one principal.
pub type ReadPolicies = Arc<dyn Fn(Asker) -> BoxFuture<'static, io::Result<Option<Principal>>> + Send + Sync>;
/// Reads the policy of one bucket.
pub type ReadBucketPolicy = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Option<String>>> + Send + Sync>;
/// Records one decision: `principal`, `action`, `resource`, `sid`, `policy`, `decision`, and `error` if there was one.
pub type Record = Arc<dyn Fn(Value) + Send + Sync>;

/// The principal whose policies are read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Asker {
    /// The owner of this access key.
    AccessKey(String),
    /// The role with this ARN.
    Role(String),
}

/// A role and its policies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The role's ARN.
    pub role: String,
    /// The name of its session, for error texts.
    pub session: String,
    /// Names and texts of its policies.
    pub policies: Vec<(String, String)>,
    /// Its trust policy.
    pub trust: String,
}

/// Refuses an access key that is not the configured one; the keys of roles are looked up later.
pub(super) fn check_key(shared: &Shared, key: &str) -> Result<(), Refusal> {
    match &shared.options.callers {
        Callers::Key(known) if known != key => Err(unknown_key()),
        _ => Ok(()),
    }
}

/// Refuses what the caller's policies do not allow.
pub(super) async fn check_caller(shared: &Shared, key: &str, operation: &str, body: &Value) -> Result<(), Refusal> {
    let Callers::Roles(access) = &shared.options.callers else { return Ok(()) };
    let asks = permissions::of_request(shared, operation, body);
    let principal = (access.read)(Asker::AccessKey(key.to_owned())).await;
    let principal = principal.and_then(|found| found.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound)));
    match principal {
        Ok(principal) => {
            check(access, &principal, &asks, None).map_err(|text| Refusal::bad_request("AccessDeniedException", text))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(unknown_key()),
        Err(error) => {
            asks.iter().for_each(|ask| record_error(access, key, ask, &error));
            let text = format!("The policies of the caller cannot be read: {error}");
            Err(Refusal::bad_request("AccessDeniedException", text))
        }
    }
}

/// Whether the trust policy of the execution role lets ECS assume it.
pub(super) async fn check_trust(shared: &Shared, task: &Task) -> Result<(), String> {
    let Some((access, role)) = execution_role(shared, task) else { return Ok(()) };
    let failed = |why: String| {
        format!(
            "ECS was unable to assume the role '{role}' that was provided for this task. Please verify that the role being passed has the proper trust relationship and permissions and that your IAM user has permissions to pass this role: {why}"
        )
    };
    let ask = permissions::of_trust(shared, task, &role);
    let principal = match read_role(access, &role).await {
        Ok(principal) => principal,
        Err(error) => {
            record_error(access, permissions::ECS_TASKS, &ask, &error);
            return Err(failed(error.to_string()));
        }
    };
    let decided = decide(&[Policy { kind: Kind::Trust, name: "trust".to_owned(), text: principal.trust }], &ask);
    (access.record)(line(permissions::ECS_TASKS, &ask, &decided));
    match decided.outcome {
        Outcome::Allow => Ok(()),
        Outcome::Error(error) => Err(failed(format!("the sandbox does not understand its trust: {error}"))),
        Outcome::Deny | Outcome::ImplicitDeny => Err(failed("its trust does not allow it".to_owned())),
    }
}

/// Whether the execution role of `task` may read the secret that `value_from` names.
pub(super) async fn check_secret(shared: &Shared, task: &Task, value_from: &str) -> Result<(), String> {
    check_role(shared, task, permissions::of_secret(value_from), None).await
}

/// Whether the execution role may read an environment file.
pub(super) async fn check_file(shared: &Shared, task: &Task, arn: &str) -> Result<(), String> {
    check_role(shared, task, permissions::of_file(arn), Some(permissions::bucket(arn))).await
}

/// Whether the execution role may pull the image of a container, with the credentials that it names.
pub(super) async fn check_image(shared: &Shared, task: &Task, container: &Container) -> Result<(), String> {
    let (definition, _) = task.container_definition(&container.name);
    check_role(shared, task, permissions::of_image(&container.image, definition), None).await
}

/// Whether the execution role may create the container's log stream.
pub(super) async fn check_log_stream(shared: &Shared, task: &Task, container: &Container) -> Result<(), String> {
    check_role(shared, task, permissions::of_log(shared, task, container, "logs:CreateLogStream"), None).await
}

/// Whether it may write to it.
pub(super) async fn check_log(shared: &Shared, task: &Task, container: &Container) -> Result<(), String> {
    check_role(shared, task, permissions::of_log(shared, task, container, "logs:PutLogEvents"), None).await
}

fn execution_role<'a>(shared: &'a Shared, task: &Task) -> Option<(&'a Access, String)> {
    let Callers::Roles(access) = &shared.options.callers else { return None };
    let role = permissions::role(shared, &task.overrides, &task.definition, "executionRoleArn")?;
    Some((access, role))
}

async fn read_role(access: &Access, role: &str) -> io::Result<Principal> {
    let found = (access.read)(Asker::Role(role.to_owned())).await?;
    found.ok_or_else(|| io::Error::other(format!("there is no role `{role}`")))
}

/// Checks the policies of the execution role together with the policy of `bucket`.
async fn check_role(shared: &Shared, task: &Task, asks: Vec<Ask>, bucket: Option<&str>) -> Result<(), String> {
    let Some((access, role)) = execution_role(shared, task).filter(|_| !asks.is_empty()) else { return Ok(()) };
    let read = async {
        let of_bucket = match bucket {
            Some(bucket) => (access.read_bucket)(bucket.to_owned()).await?,
            None => None,
        };
        Ok((Principal { session: task.id.clone(), ..read_role(access, &role).await? }, of_bucket))
    };
    match read.await {
        Ok((principal, of_bucket)) => {
            let of_bucket = of_bucket.map(|text| Policy { kind: Kind::Bucket, name: "bucket".to_owned(), text });
            check(access, &principal, &asks, of_bucket).map_err(|text| format!("AccessDeniedException: {text}"))
        }
        Err(error) => {
            asks.iter().for_each(|ask| record_error(access, &role, ask, &error));
            Err(format!("the policies cannot be read: {error}"))
        }
    }
}

/// Stops at the first permission that is not allowed, as AWS does.
fn check(access: &Access, principal: &Principal, asks: &[Ask], of_bucket: Option<Policy>) -> Result<(), String> {
    let user = session_arn(principal);
    let own = principal.policies.iter().cloned();
    let own = own.map(|(name, text)| Policy { kind: Kind::Identity, name, text });
    let policies: Vec<Policy> = own.chain(of_bucket).collect();
    for ask in asks {
        let mut ask = ask.clone();
        ask.keys.extend(permissions::global_keys(&principal.role));
        ask.names = permissions::names(&principal.role, &user);
        let decided = decide(&policies, &ask);
        (access.record)(line(&principal.role, &ask, &decided));
        let by = policies.iter().find(|policy| Some(&policy.name) == decided.policy.as_ref()).map(|policy| policy.kind);
        let kind = if by == Some(Kind::Bucket) { "a resource-based policy" } else { "an identity-based policy" };
        let why = match &decided.outcome {
            Outcome::Allow => continue,
            Outcome::Deny => format!("with an explicit deny in {kind}"),
            Outcome::ImplicitDeny => format!("because no identity-based policy allows the {} action", ask.action),
            Outcome::Error(error) => {
                let policy = decided.policy.as_deref().unwrap_or_default();
                format!("because the sandbox does not understand the policy `{policy}`: {error}")
            }
        };
        let Ask { action, resource, .. } = &ask;
        return Err(format!("User: {user} is not authorized to perform: {action} on resource: {resource} {why}"));
    }
    Ok(())
}

fn line(role: &str, ask: &Ask, decided: &Decided) -> Value {
    let decision = match &decided.outcome {
        Outcome::Allow => "Allow",
        Outcome::Deny | Outcome::Error(_) => "Deny",
        Outcome::ImplicitDeny => "ImplicitDeny",
    };
    let mut line = json!({
        "principal": role, "action": ask.action, "resource": ask.resource, "sid": decided.sid,
        "policy": decided.policy, "decision": decision,
    });
    if let Outcome::Error(error) = &decided.outcome {
        line["error"] = json!(error);
    }
    line
}

fn record_error(access: &Access, principal: &str, ask: &Ask, error: &io::Error) {
    (access.record)(json!({
        "principal": principal, "action": ask.action, "resource": ask.resource, "sid": null, "policy": null,
        "decision": "Deny", "error": error.to_string(),
    }));
}

/// `arn:aws:sts::<account>:assumed-role/<role>/<session>`.
fn session_arn(principal: &Principal) -> String {
    let role = principal.role.replacen(":iam:", ":sts:", 1);
    match role.split_once(":role/") {
        // A role's path is not in its sessions' ARNs.
        Some((account, name)) => {
            let name = name.rsplit('/').next().unwrap_or(name);
            format!("{account}:assumed-role/{name}/{}", principal.session)
        }
        None => role,
    }
}

fn unknown_key() -> Refusal {
    Refusal::bad_request("UnrecognizedClientException", "The security token included in the request is invalid.")
}
