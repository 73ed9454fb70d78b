//! Owns what ECS accepts as the containers of a Fargate task definition (aws.md §2.1 to §2.4).

use serde_json::Value;

use super::definition_rules::{given, unsupported};
use super::json::{is_name, list, number, pairs, text, texts};
use super::refusal::Refusal;
use super::size::Size;

/// Members of a container that Fargate does not have (aws.md §2.2).
const REFUSED: [&str; 10] = [
    "privileged",
    "disableNetworking",
    "dnsServers",
    "dnsSearchDomains",
    "dockerSecurityOptions",
    "extraHosts",
    "links",
    "hostname",
    "credentialSpecs",
    "resourceRequirements",
];

/// Members of `linuxParameters` that Fargate does not have (aws.md §2.2).
const REFUSED_LINUX: [&str; 5] = ["devices", "sharedMemorySize", "tmpfs", "maxSwap", "swappiness"];

/// Checks the containers of one definition against each other and against its size.
pub(super) fn check(definition: &Value, containers: &[Value], size: Size) -> Result<(), Refusal> {
    let mut names = Vec::new();
    for container in containers {
        let name = text(container, "name").unwrap_or_default();
        if !is_name(name, 255, "-_") {
            return Err(Refusal::client(format!(
                "Invalid container name `{name}`: 1 to 255 letters, digits, - and _."
            )));
        }
        if names.contains(&name) {
            return Err(Refusal::client(format!("Container names must be unique: `{name}`.")));
        }
        names.push(name);
        check_one(definition, container).map_err(|text| Refusal::client(format!("Container `{name}`: {text}")))?;
        let refused = REFUSED.iter().find(|member| given(container, member));
        let linux = &container["linuxParameters"];
        if let Some(member) = refused.or_else(|| REFUSED_LINUX.iter().find(|member| given(linux, member))) {
            return Err(unsupported(member));
        }
    }
    if !containers.iter().any(is_essential) {
        return Err(Refusal::client("A task definition must have at least one essential container."));
    }
    check_order(containers)?;
    check_sums(containers, size)
}

/// `essential` is true unless it is said (aws.md §2.3).
pub(super) fn is_essential(container: &Value) -> bool {
    container.get("essential").and_then(Value::as_bool).unwrap_or(true)
}

/// Whether each `environmentFiles` entry is an S3 object and there are at most 10 (aws.md §1.5).
pub(super) fn check_environment_files(owner: &Value) -> Result<(), String> {
    let files = list(owner, "environmentFiles");
    if files.len() > 10 {
        return Err("at most 10 environmentFiles".to_owned());
    }
    for file in files {
        let arn = text(file, "value").unwrap_or_default();
        let object = arn.strip_prefix("arn:aws:s3:::").and_then(|path| path.split_once('/'));
        let is_object = object.is_some_and(|(bucket, key)| !bucket.is_empty() && !key.is_empty());
        if text(file, "type") != Some("s3") || !is_object || !arn.ends_with(".env") {
            return Err(format!("environmentFiles must be of type s3 and name an .env object by ARN: `{arn}`"));
        }
    }
    Ok(())
}

/// Container memory, cpu and reservation as both definition and override give them.
pub(super) fn check_amounts(owner: &Value) -> Result<(), String> {
    if number(owner, "memory").is_some_and(|m| m < 6) || number(owner, "memoryReservation").is_some_and(|m| m < 6) {
        return Err("memory and memoryReservation must be at least 6 MiB".to_owned());
    }
    if number(owner, "cpu").is_some_and(|cpu| cpu < 0) {
        return Err("cpu must not be negative".to_owned());
    }
    Ok(())
}

fn check_one(definition: &Value, container: &Value) -> Result<(), String> {
    let image = text(container, "image").unwrap_or_default();
    let before_digest = image.split('@').next().unwrap_or_default();
    if before_digest.is_empty() || before_digest.len() > 255 || image.chars().any(char::is_whitespace) {
        return Err(format!("image must be 1 to 255 characters without white space: `{image}`"));
    }
    check_amounts(container)?;
    if let (Some(hard), Some(soft)) = (number(container, "memory"), number(container, "memoryReservation"))
        && soft > hard
    {
        return Err("memoryReservation must not exceed memory".to_owned());
    }
    for name in ["stopTimeout", "startTimeout"] {
        if number(container, name).is_some_and(|s| !(2..=120).contains(&s)) {
            return Err(format!("{name} must be 2 to 120 seconds"));
        }
    }
    check_linux(container)?;
    check_environment(definition, container)?;
    check_mounts(definition, container)?;
    check_log(definition, container)?;
    check_health(container)?;
    for port in list(container, "portMappings") {
        let (inner, outer) = (number(port, "containerPort"), number(port, "hostPort"));
        if inner.is_some_and(|p| !(1..=65535).contains(&p)) || outer.is_some_and(|p| Some(p) != inner) {
            return Err("containerPort must be 1 to 65535, and hostPort the same or left out with awsvpc".to_owned());
        }
    }
    for limit in list(container, "ulimits") {
        let values = (number(limit, "softLimit"), number(limit, "hardLimit"));
        if text(limit, "name") != Some("nofile") || values.0 > values.1 || values.1 > Some(1_048_576) {
            return Err("Fargate has the nofile ulimit only, at most 1048576".to_owned());
        }
    }
    Ok(())
}

fn check_linux(container: &Value) -> Result<(), String> {
    let capabilities = &container["linuxParameters"]["capabilities"];
    match texts(capabilities, "add").find(|capability| *capability != "SYS_PTRACE") {
        Some(other) => Err(format!("Fargate adds the capability SYS_PTRACE only, not `{other}`")),
        None => Ok(()),
    }
}

fn check_environment(definition: &Value, container: &Value) -> Result<(), String> {
    check_environment_files(container)?;
    if pairs(container, "environment").any(|(name, _)| name.is_empty()) {
        return Err("environment variable names must not be empty".to_owned());
    }
    let secrets = list(container, "secrets");
    for secret in secrets {
        let name = text(secret, "name").unwrap_or_default();
        let shared = pairs(container, "environment").any(|(other, _)| other == name);
        let twice = secrets.iter().filter(|other| text(other, "name") == Some(name)).count() > 1;
        if name.is_empty() || shared || twice {
            return Err(format!(
                "The secret name must be unique and not shared with any new or existing environment variables set on the container, such as '{name}'."
            ));
        }
        if text(secret, "valueFrom").is_none_or(str::is_empty) {
            return Err(format!("the secret `{name}` has no valueFrom"));
        }
    }
    let needs_role = !secrets.is_empty()
        || !list(container, "environmentFiles").is_empty()
        || given(container, "repositoryCredentials");
    if needs_role && !given(definition, "executionRoleArn") {
        return Err("Fargate requires task definition to have execution role ARN to support secrets, environmentFiles and repositoryCredentials.".to_owned());
    }
    Ok(())
}

fn check_mounts(definition: &Value, container: &Value) -> Result<(), String> {
    let mut places = Vec::new();
    for mount in list(container, "mountPoints") {
        let volume = text(mount, "sourceVolume").unwrap_or_default();
        if !list(definition, "volumes").iter().any(|v| text(v, "name") == Some(volume)) {
            return Err(format!("Unknown volume '{volume}'."));
        }
        let place = text(mount, "containerPath").unwrap_or_default();
        if !place.starts_with('/') || places.contains(&place) {
            return Err(format!("containerPath must be absolute and used once: `{place}`"));
        }
        places.push(place);
    }
    Ok(())
}

fn check_log(definition: &Value, container: &Value) -> Result<(), String> {
    let Some(log) = container.get("logConfiguration").filter(|log| !log.is_null()) else { return Ok(()) };
    let driver = text(log, "logDriver").unwrap_or_default();
    if !["awslogs", "splunk", "awsfirelens"].contains(&driver) {
        return Err(format!("Fargate has the log drivers awslogs, splunk and awsfirelens, not `{driver}`"));
    }
    if driver != "awslogs" {
        return Ok(());
    }
    if !given(definition, "executionRoleArn") {
        return Err(
            "Fargate requires task definition to have execution role ARN to support log driver awslogs.".to_owned()
        );
    }
    let missing = ["awslogs-group", "awslogs-region", "awslogs-stream-prefix"]
        .into_iter()
        .find(|option| text(&log["options"], option).is_none_or(str::is_empty));
    match missing {
        Some(option) => Err(format!("Log driver awslogs requires option: {option}.")),
        None => Ok(()),
    }
}

fn check_health(container: &Value) -> Result<(), String> {
    let Some(check) = container.get("healthCheck").filter(|check| !check.is_null()) else { return Ok(()) };
    let first = texts(check, "command").next().unwrap_or_default();
    if !["CMD", "CMD-SHELL", "NONE"].contains(&first) {
        return Err("healthCheck.command must start with CMD or CMD-SHELL".to_owned());
    }
    let limits = [("interval", 5..=300), ("timeout", 2..=60), ("retries", 1..=10), ("startPeriod", 0..=300)];
    match limits.iter().find(|(name, range)| number(check, name).is_some_and(|n| !range.contains(&n))) {
        Some((name, range)) => Err(format!("healthCheck.{name} must be {} to {}", range.start(), range.end())),
        None => Ok(()),
    }
}

fn check_order(containers: &[Value]) -> Result<(), Refusal> {
    let find = |name: &str| containers.iter().find(|c| text(c, "name") == Some(name));
    for container in containers {
        let name = text(container, "name").unwrap_or_default();
        for dependency in list(container, "dependsOn") {
            let other = text(dependency, "containerName").unwrap_or_default();
            let Some(target) = find(other).filter(|_| other != name) else {
                return Err(Refusal::client(format!(
                    "Container `{name}` depends on `{other}`, which is no other container."
                )));
            };
            let text = match text(dependency, "condition").unwrap_or_default() {
                "START" => continue,
                "COMPLETE" | "SUCCESS" if !is_essential(target) => continue,
                "COMPLETE" | "SUCCESS" => {
                    format!("COMPLETE and SUCCESS cannot be set on the essential container `{other}`.")
                }
                "HEALTHY" if target.get("healthCheck").is_some_and(|check| !check.is_null()) => continue,
                "HEALTHY" => format!("HEALTHY needs a healthCheck in the definition of `{other}`."),
                other => format!("Unknown dependsOn condition `{other}`."),
            };
            return Err(Refusal::client(text));
        }
    }
    if has_cycle(containers) {
        return Err(Refusal::client("The dependencies between the containers form a cycle."));
    }
    Ok(())
}

/// Takes away containers that depend on nothing left, until none is left or none can go.
fn has_cycle(containers: &[Value]) -> bool {
    let mut left: Vec<&Value> = containers.iter().collect();
    loop {
        let names: Vec<_> = left.iter().filter_map(|c| text(c, "name")).collect();
        let waits = |c: &&Value| {
            list(c, "dependsOn").iter().filter_map(|d| text(d, "containerName")).any(|n| names.contains(&n))
        };
        let still: Vec<_> = left.iter().copied().filter(waits).collect();
        if still.len() == left.len() {
            return !left.is_empty();
        }
        left = still;
    }
}

/// What all containers ask for has to fit the task (aws.md §2.3).
fn check_sums(containers: &[Value], size: Size) -> Result<(), Refusal> {
    let memory: i64 = containers.iter().filter_map(|c| number(c, "memory").or(number(c, "memoryReservation"))).sum();
    let cpu: i64 = containers.iter().filter_map(|c| number(c, "cpu")).sum();
    if memory > size.memory.into() {
        return Err(Refusal::client(
            "Invalid setting for container memory: the containers' sum is greater than the task's 'memory'.",
        ));
    }
    if cpu > size.cpu.into() {
        return Err(Refusal::client(
            "Invalid setting for container cpu: the containers' sum is greater than the task's 'cpu'.",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::definition_rules::check;
    use super::super::definition_rules::tests::{good, with};
    use serde_json::{Value, json};

    fn assert_refused(cases: &[(&str, Value)]) {
        for (member, value) in cases {
            let request = with(&format!("/containerDefinitions/0/{member}"), value.clone());
            assert!(check(&request).is_err(), "{member} = {value} should be refused");
        }
    }

    #[test]
    fn what_fargate_refuses_is_refused_by_name() {
        let cases = [
            ("privileged", json!(true)),
            ("disableNetworking", json!(true)),
            ("dnsServers", json!(["1.1.1.1"])),
            ("dnsSearchDomains", json!(["local"])),
            ("dockerSecurityOptions", json!(["x"])),
            ("extraHosts", json!([{"hostname": "db", "ipAddress": "127.0.0.1"}])),
            ("links", json!(["db"])),
            ("hostname", json!("here")),
            ("resourceRequirements", json!([{"type": "GPU", "value": "1"}])),
            ("linuxParameters", json!({"devices": [{"hostPath": "/dev/kvm"}]})),
            ("linuxParameters", json!({"sharedMemorySize": 128})),
            ("linuxParameters", json!({"tmpfs": [{"containerPath": "/t", "size": 1}]})),
            ("linuxParameters", json!({"maxSwap": 1})),
            ("linuxParameters", json!({"capabilities": {"add": ["SYS_ADMIN"]}})),
        ];
        assert_refused(&cases);
        let name = check(&with("/containerDefinitions/0/privileged", json!(true))).unwrap_err();
        assert!(name.message().contains("privileged"), "{}", name.message());
        let fine = json!({"capabilities": {"add": ["SYS_PTRACE"], "drop": ["NET_RAW"]}, "initProcessEnabled": true});
        check(&with("/containerDefinitions/0/linuxParameters", fine)).unwrap();
    }

    #[test]
    fn members_out_of_their_bounds_are_refused() {
        assert_refused(&[
            ("name", json!("a.b")),
            ("name", json!("db")),
            ("image", json!("")),
            ("image", json!("a b")),
            ("image", json!("x".repeat(256))),
            ("memory", json!(4)),
            ("memory", json!(1600)),
            ("cpu", json!(2048)),
            ("stopTimeout", json!(1)),
            ("stopTimeout", json!(121)),
            ("mountPoints", json!([{"sourceVolume": "other", "containerPath": "/x"}])),
            ("mountPoints", json!([{"sourceVolume": "builds", "containerPath": "x"}])),
            ("ulimits", json!([{"name": "nproc", "softLimit": 1, "hardLimit": 1}])),
            ("portMappings", json!([{"containerPort": 80, "hostPort": 8080}])),
            ("healthCheck", json!({"command": ["true"]})),
            ("healthCheck", json!({"command": ["CMD", "true"], "interval": 1})),
            ("environment", json!([{"name": "", "value": "x"}])),
            ("environmentFiles", json!([{"type": "s3", "value": "https://bucket/x.env"}])),
            ("environmentFiles", json!([{"type": "s3", "value": "arn:aws:s3:::bucket/x.txt"}])),
        ]);
    }

    #[test]
    fn logs_and_secrets_need_an_execution_role_and_awslogs_its_options() {
        let options = json!({"awslogs-group": "g", "awslogs-region": "r", "awslogs-stream-prefix": "p"});
        let log = json!({"logDriver": "awslogs", "options": options});
        let secret = json!([{"name": "KEY", "valueFrom": "arn:aws:secretsmanager:r:1:secret:a"}]);
        for (member, value) in [("logConfiguration", log.clone()), ("secrets", secret.clone())] {
            let mut request = with(&format!("/containerDefinitions/0/{member}"), value);
            check(&request).unwrap();
            request.as_object_mut().unwrap().remove("executionRoleArn");
            assert!(check(&request).is_err(), "{member} without execution role");
        }
        for option in ["awslogs-group", "awslogs-region", "awslogs-stream-prefix"] {
            let mut log = log.clone();
            log["options"].as_object_mut().unwrap().remove(option);
            assert_refused(&[("logConfiguration", log)]);
        }
        assert_refused(&[("logConfiguration", json!({"logDriver": "json-file"}))]);
        let mut request = with("/containerDefinitions/0/secrets", secret);
        request["containerDefinitions"][0]["environment"] = json!([{"name": "KEY", "value": "x"}]);
        assert!(check(&request).unwrap_err().message().contains("must be unique"));
    }

    #[test]
    fn dependencies_have_to_make_sense() {
        assert_refused(&[
            ("dependsOn", json!([{"containerName": "nobody", "condition": "START"}])),
            ("dependsOn", json!([{"containerName": "build", "condition": "START"}])),
            ("dependsOn", json!([{"containerName": "db", "condition": "HEALTHY"}])),
            ("dependsOn", json!([{"containerName": "db", "condition": "LATER"}])),
        ]);
        check(&with("/containerDefinitions/0/dependsOn", json!([{"containerName": "db", "condition": "COMPLETE"}])))
            .unwrap();
        let on_essential = json!([{"containerName": "build", "condition": "SUCCESS"}]);
        assert!(check(&with("/containerDefinitions/1/dependsOn", on_essential)).is_err());
        let mut cycle = good();
        cycle["containerDefinitions"][0]["dependsOn"] = json!([{"containerName": "db", "condition": "START"}]);
        cycle["containerDefinitions"][1]["dependsOn"] = json!([{"containerName": "build", "condition": "START"}]);
        assert!(check(&cycle).unwrap_err().message().contains("cycle"));
    }

    #[test]
    fn one_container_has_to_be_essential() {
        assert_refused(&[("essential", json!(false))]);
    }
}
