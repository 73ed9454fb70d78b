//! Owns what a `RunTask` may override (aws.md §1.5). Members that cannot be overridden are not in the shape at all.

use serde_json::Value;

use super::container_rules::{check_amounts, check_environment_files};
use super::definition_rules::{check_storage, given};
use super::json::{list, number, pairs, text};
use super::refusal::Refusal;
use super::size::Size;

/// The whole `overrides` JSON (aws.md §1.5).
const MOST_CHARACTERS: usize = 8192;

/// Checks `overrides` for a task of `definition` and gives the size that the task will have.
pub(super) fn check(overrides: &Value, definition: &Value) -> Result<Size, Refusal> {
    if !overrides.is_null() && overrides.to_string().chars().count() > MOST_CHARACTERS {
        return Err(Refusal::parameter("Overrides: the total number of characters must not exceed 8192."));
    }
    let cpu = text(overrides, "cpu").or(text(definition, "cpu"));
    let memory = text(overrides, "memory").or(text(definition, "memory"));
    let size = Size::parse(cpu, memory)?;
    check_storage(overrides)?;
    if !list(overrides, "inferenceAcceleratorOverrides").is_empty() {
        return Err(Refusal::parameter("Fargate has no inference accelerators."));
    }
    let mut named = Vec::new();
    for container in list(overrides, "containerOverrides") {
        let name = text(container, "name").unwrap_or_default();
        let Some(target) = container_named(definition, name) else {
            return Err(Refusal::parameter(format!(
                "Override for container named {name} is not a container in the TaskDefinition."
            )));
        };
        if named.contains(&name) {
            return Err(Refusal::parameter(format!("Container {name} is overridden twice.")));
        }
        named.push(name);
        check_container(container, target).map_err(|text| Refusal::parameter(format!("Container {name}: {text}")))?;
    }
    let has_files = |container: &Value| !list(container, "environmentFiles").is_empty();
    let has_role = given(overrides, "executionRoleArn") || given(definition, "executionRoleArn");
    if !has_role && list(overrides, "containerOverrides").iter().any(has_files) {
        return Err(Refusal::client("environmentFiles need an execution role ARN, which reads them."));
    }
    check_memory(overrides, definition, size)?;
    Ok(size)
}

/// The override of the container `name`, if there is one.
pub(super) fn of_container<'a>(overrides: &'a Value, name: &str) -> Option<&'a Value> {
    list(overrides, "containerOverrides").iter().find(|c| text(c, "name") == Some(name))
}

fn container_named<'a>(definition: &'a Value, name: &str) -> Option<&'a Value> {
    list(definition, "containerDefinitions").iter().find(|c| text(c, "name") == Some(name))
}

fn check_container(container: &Value, target: &Value) -> Result<(), String> {
    check_amounts(container)?;
    check_environment_files(container)?;
    if !list(container, "resourceRequirements").is_empty() {
        return Err("Fargate has no GPU".to_owned());
    }
    for (name, _) in pairs(container, "environment") {
        if name.is_empty() {
            return Err("environment variable names must not be empty".to_owned());
        }
        if list(target, "secrets").iter().any(|secret| text(secret, "name") == Some(name)) {
            return Err(format!(
                "The secret name must be unique and not shared with any new or existing environment variables set on the container, such as '{name}'."
            ));
        }
    }
    Ok(())
}

fn check_memory(overrides: &Value, definition: &Value, size: Size) -> Result<(), Refusal> {
    let memory = |container: &Value| {
        let name = text(container, "name").unwrap_or_default();
        let given = |owner: &Value| number(owner, "memory").or(number(owner, "memoryReservation"));
        of_container(overrides, name).and_then(given).or(given(container)).unwrap_or(0)
    };
    let sum: i64 = list(definition, "containerDefinitions").iter().map(memory).sum();
    if sum > size.memory.into() {
        let text = "Invalid setting for container memory: the containers' sum is greater than the task's 'memory'.";
        return Err(Refusal::client(text));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::ecs::definition_rules::tests::good;
    use serde_json::json;

    fn one(member: &str, value: Value) -> Value {
        json!({"containerOverrides": [{"name": "build", member: value}]})
    }

    #[test]
    fn the_size_of_a_task_is_overridden_by_legal_pairs_only() {
        let size = check(&json!({"cpu": "4096", "memory": "8192"}), &good()).unwrap();
        assert_eq!(size, Size { cpu: 4096, memory: 8192 });

        // 4096 units do not go with the definition's 2048 MiB.
        assert!(check(&json!({"cpu": "4096"}), &good()).is_err());
    }

    #[test]
    fn more_than_8192_characters_are_refused() {
        let of = |characters: usize| one("command", json!(["é".repeat(characters)]));
        let frame = of(0).to_string().chars().count();

        check(&of(8192 - frame), &good()).unwrap();
        assert!(check(&of(8193 - frame), &good()).unwrap_err().message().contains("8192"));
    }

    #[test]
    fn wrong_overrides_are_refused() {
        let file = json!({"type": "s3", "value": "arn:aws:s3:::b/k.env"});
        let wrong = [
            json!({"containerOverrides": [{"name": "nobody"}]}),
            json!({"containerOverrides": [{"name": "build"}, {"name": "build"}]}),
            json!({"containerOverrides": [{"command": ["x"]}]}),
            json!({"ephemeralStorage": {"sizeInGiB": 20}}),
            json!({"ephemeralStorage": {"sizeInGiB": 201}}),
            one("environmentFiles", json!(vec![file.clone(); 11])),
            one("environmentFiles", json!([{"type": "ssm", "value": "arn:aws:s3:::b/k.env"}])),
            one("memory", json!(2000)),
            one("memory", json!(1)),
        ];
        for overrides in wrong {
            assert!(check(&overrides, &good()).is_err(), "{overrides}");
        }
        check(&one("environmentFiles", json!(vec![file; 10])), &good()).unwrap();
        check(&one("memory", json!(1536)), &good()).unwrap();
    }

    #[test]
    fn environment_files_need_a_role_that_reads_them() {
        let mut definition = good();
        definition.as_object_mut().unwrap().remove("executionRoleArn");
        let mut overrides = one("environmentFiles", json!([{"type": "s3", "value": "arn:aws:s3:::b/k.env"}]));

        assert!(check(&overrides, &definition).is_err());
        overrides["executionRoleArn"] = json!("arn:aws:iam::123456789012:role/exec");
        check(&overrides, &definition).unwrap();
    }

    #[test]
    fn an_override_must_not_shadow_a_secret() {
        let mut definition = good();
        definition["containerDefinitions"][0]["secrets"] = json!([{"name": "KEY", "valueFrom": "arn"}]);

        let refusal = check(&one("environment", json!([{"name": "KEY", "value": "x"}])), &definition).unwrap_err();

        assert!(refusal.message().contains("KEY"));
    }
}
