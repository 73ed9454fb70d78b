//! Owns what ECS accepts as a Fargate task definition (aws.md §1.1 to §1.4, §2.1 to §2.3), without its containers.

use serde_json::Value;

use super::container_rules;
use super::json::{is_name, list, number, text, texts};
use super::refusal::Refusal;
use super::size::Size;

/// 64 KiB (aws.md §1.4).
const MOST_BYTES: usize = 64 * 1024;
/// Containers per definition (aws.md §1.4).
const MOST_CONTAINERS: usize = 10;

/// Checks one request to register a task definition.
pub(super) fn check(request: &Value) -> Result<(), Refusal> {
    let family = text(request, "family").unwrap_or_default();
    if !is_name(family, 255, "-_") {
        return Err(Refusal::client(format!("Invalid family name `{family}`: 1 to 255 letters, digits, - and _.")));
    }
    if request.to_string().len() > MOST_BYTES {
        return Err(Refusal::client("Task definition exceeds the limit of 64 KiB."));
    }
    check_fargate(request)?;
    let size = Size::parse(text(request, "cpu"), text(request, "memory"))?;
    check_storage(request)?;
    check_volumes(request)?;
    check_tags(request)?;
    let containers = list(request, "containerDefinitions");
    if containers.is_empty() || containers.len() > MOST_CONTAINERS {
        return Err(Refusal::client("A task definition has 1 to 10 containers."));
    }
    container_rules::check(request, containers, size)
}

/// At most 50 tags, unique keys (aws.md §1.4).
pub(super) fn check_tags(request: &Value) -> Result<(), Refusal> {
    let tags = list(request, "tags");
    let mut keys: Vec<_> = tags.iter().map(|tag| text(tag, "key").unwrap_or_default()).collect();
    keys.sort_unstable();
    keys.dedup();
    let long = |tag: &&Value| {
        let length = |name| text(tag, name).unwrap_or_default().chars().count();
        !(1..=128).contains(&length("key")) || length("value") > 256
    };
    if tags.len() > 50 || keys.len() != tags.len() || tags.iter().any(|tag| long(&tag)) {
        return Err(Refusal::parameter("At most 50 tags, unique keys of 1 to 128 characters, values of at most 256."));
    }
    if keys.iter().any(|key| key.to_ascii_lowercase().starts_with("aws:")) {
        return Err(Refusal::parameter("Tag keys must not start with aws:."));
    }
    Ok(())
}

/// 21 to 200 GiB where a size is given (aws.md §1.2).
pub(super) fn check_storage(owner: &Value) -> Result<(), Refusal> {
    let Some(storage) = owner.get("ephemeralStorage").filter(|s| !s.is_null()) else { return Ok(()) };
    match number(storage, "sizeInGiB") {
        Some(21..=200) => Ok(()),
        _ => Err(Refusal::client("The ephemeral storage size must be between 21 and 200 GiB.")),
    }
}

fn check_fargate(request: &Value) -> Result<(), Refusal> {
    if !texts(request, "requiresCompatibilities").any(|c| c == "FARGATE") {
        return Err(Refusal::client("This sandbox has Fargate only: requiresCompatibilities must list FARGATE."));
    }
    if text(request, "networkMode") != Some("awsvpc") {
        return Err(Refusal::client("Fargate only supports network mode ‘awsvpc’."));
    }
    for name in ["ipcMode", "placementConstraints", "inferenceAccelerators"] {
        if given(request, name) {
            return Err(unsupported(name));
        }
    }
    if text(request, "pidMode").is_some_and(|mode| mode != "task") {
        return Err(Refusal::client("Fargate only supports pidMode ‘task’."));
    }
    let platform = &request["runtimePlatform"];
    if text(platform, "cpuArchitecture").is_some_and(|cpu| !["X86_64", "ARM64"].contains(&cpu)) {
        return Err(Refusal::client("cpuArchitecture must be X86_64 or ARM64."));
    }
    if text(platform, "operatingSystemFamily").is_some_and(|os| os != "LINUX") {
        return Err(Refusal::client("This sandbox has Linux only: operatingSystemFamily must be LINUX."));
    }
    Ok(())
}

fn check_volumes(request: &Value) -> Result<(), Refusal> {
    let mut seen = Vec::new();
    for volume in list(request, "volumes") {
        let name = text(volume, "name").unwrap_or_default();
        if !is_name(name, 255, "-_") || seen.contains(&name) {
            return Err(Refusal::client(format!("Invalid or repeated volume name `{name}`.")));
        }
        seen.push(name);
        if given(&volume["host"], "sourcePath") {
            return Err(unsupported("host.sourcePath"));
        }
        for kind in ["dockerVolumeConfiguration", "fsxWindowsFileServerVolumeConfiguration"] {
            if given(volume, kind) {
                return Err(unsupported(kind));
            }
        }
        for kind in ["efsVolumeConfiguration", "s3filesVolumeConfiguration"] {
            if given(volume, kind) {
                return Err(Refusal::client(format!("This sandbox has no {kind}.")));
            }
        }
    }
    Ok(())
}

/// Whether `name` has a value that says something: not null, false or empty.
pub(super) fn given(owner: &Value, name: &str) -> bool {
    match owner.get(name) {
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(Value::Array(items)) => !items.is_empty(),
        Some(_) => true,
    }
}

/// The refusals of aws.md §2.2.
pub(super) fn unsupported(name: &str) -> Refusal {
    Refusal::client(format!("Fargate does not support {name}: the setting must be removed."))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::json;

    pub(crate) fn good() -> Value {
        json!({
            "family": "mayfly-abc", "networkMode": "awsvpc", "requiresCompatibilities": ["FARGATE"],
            "cpu": "1024", "memory": "2048", "executionRoleArn": "arn:aws:iam::123456789012:role/exec",
            "volumes": [{"name": "builds"}],
            "containerDefinitions": [
                {"name": "build", "image": "alpine:3", "essential": true, "entryPoint": ["sh"], "stopTimeout": 5,
                 "mountPoints": [{"sourceVolume": "builds", "containerPath": "/builds"}]},
                {"name": "db", "image": "postgres:17", "essential": false, "memory": 512},
            ],
        })
    }

    /// `good()` with the value at `pointer` set.
    pub(crate) fn with(pointer: &str, value: Value) -> Value {
        let mut request = good();
        let (owner, name) = pointer.rsplit_once('/').unwrap();
        let owner = request.pointer_mut(owner).expect("the pointer names an owner");
        match owner {
            Value::Array(items) => items[name.parse::<usize>().unwrap()] = value,
            owner => owner[name] = value,
        }
        request
    }

    #[test]
    fn an_ordinary_definition_is_taken() {
        check(&good()).unwrap();
    }

    #[test]
    fn what_fargate_does_not_have_is_refused() {
        let wrong = [
            ("/family", json!("a b")),
            ("/family", json!("")),
            ("/networkMode", json!("bridge")),
            ("/requiresCompatibilities", json!(["EC2"])),
            ("/cpu", json!("1000")),
            ("/memory", json!(null)),
            ("/ipcMode", json!("host")),
            ("/pidMode", json!("host")),
            ("/placementConstraints", json!([{"type": "memberOf"}])),
            ("/runtimePlatform", json!({"cpuArchitecture": "RISCV"})),
            ("/runtimePlatform", json!({"operatingSystemFamily": "WINDOWS_SERVER_2022_CORE"})),
            ("/ephemeralStorage", json!({"sizeInGiB": 20})),
            ("/ephemeralStorage", json!({"sizeInGiB": 201})),
            ("/volumes", json!([{"name": "builds"}, {"name": "builds"}])),
            ("/volumes", json!([{"name": "builds", "host": {"sourcePath": "/var"}}])),
            ("/volumes", json!([{"name": "builds", "dockerVolumeConfiguration": {"driver": "local"}}])),
            ("/containerDefinitions", json!([])),
            ("/tags", json!([{"key": "a"}, {"key": "a"}])),
            ("/tags", json!([{"key": "aws:x", "value": "y"}])),
            ("/containerDefinitions/0/command", json!(["x".repeat(70_000)])),
        ];
        for (pointer, value) in wrong {
            assert!(check(&with(pointer, value.clone())).is_err(), "{pointer} = {value} should be refused");
        }
        check(&with("/ephemeralStorage", json!({"sizeInGiB": 21}))).unwrap();
        check(&with("/pidMode", json!("task"))).unwrap();
    }
}
