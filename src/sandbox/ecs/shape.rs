//! Owns the members that a request may have: `shapes.txt`, the input shapes of botocore, written by
//! `tests/judges/ecs_shapes.py`.
//!
//! Each line is a structure and its members, `name=type`, with `!` after a required one. ECS ignores members that it does
//! not know; our own clients must not send any, so the two kinds of misfit are told apart.

use std::collections::HashMap;
use std::sync::OnceLock;

use serde_json::Value;

/// Where a request does not fit its shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Misfit {
    /// A member that ECS does not have.
    Unknown(String),
    /// A member of the wrong JSON type.
    Type(String),
    /// A required member that is not there.
    Missing(String),
}

/// Everything in `body` that does not fit the request of `operation`; `None` if there is no such operation.
pub(super) fn misfits(operation: &str, body: &Value) -> Option<Vec<Misfit>> {
    let name = format!("{operation}Request");
    if !shapes().contains_key(name.as_str()) {
        return None;
    }
    let mut found = Vec::new();
    check(&name, body, "", &mut found);
    Some(found)
}

struct Member {
    kind: &'static str,
    required: bool,
}

type Structure = HashMap<&'static str, Member>;

fn shapes() -> &'static HashMap<&'static str, Structure> {
    static SHAPES: OnceLock<HashMap<&str, Structure>> = OnceLock::new();
    SHAPES.get_or_init(|| include_str!("shapes.txt").lines().filter_map(structure).collect())
}

fn structure(line: &'static str) -> Option<(&'static str, Structure)> {
    let (name, members) = line.split_once(':')?;
    let members = members.split_whitespace().filter_map(|member| {
        let (name, kind) = member.split_once('=')?;
        let required = name.ends_with('!');
        Some((name.trim_end_matches('!'), Member { kind, required }))
    });
    Some((name, members.collect()))
}

fn check(kind: &str, value: &Value, path: &str, found: &mut Vec<Misfit>) {
    let fits = match (kind, value) {
        ("string", Value::String(_)) | ("boolean", Value::Bool(_)) | ("number", Value::Number(_)) => true,
        ("integer", Value::Number(number)) => number.is_i64() || number.is_u64(),
        (_, Value::Array(items)) if kind.starts_with('[') => {
            let item = kind.trim_start_matches('[').trim_end_matches(']');
            items.iter().enumerate().for_each(|(i, value)| check(item, value, &format!("{path}[{i}]"), found));
            true
        }
        (_, Value::Object(entries)) if kind.starts_with('{') => {
            let entry = kind.trim_start_matches('{').trim_end_matches('}');
            entries.iter().for_each(|(key, value)| check(entry, value, &format!("{path}.{key}"), found));
            true
        }
        (_, Value::Object(entries)) => match shapes().get(kind) {
            Some(structure) => {
                check_members(structure, entries, path, found);
                true
            }
            None => false,
        },
        _ => false,
    };
    if !fits {
        found.push(Misfit::Type(path.trim_start_matches('.').to_owned()));
    }
}

fn check_members(structure: &Structure, entries: &serde_json::Map<String, Value>, path: &str, found: &mut Vec<Misfit>) {
    for (name, value) in entries {
        let path = format!("{path}.{name}");
        match structure.get(name.as_str()) {
            None => found.push(Misfit::Unknown(path.trim_start_matches('.').to_owned())),
            // AWS clients leave out what is null; the service takes it as left out.
            Some(_) if value.is_null() => {}
            Some(member) => check(member.kind, value, &path, found),
        }
    }
    let mut missing: Vec<_> =
        structure.iter().filter(|(name, m)| m.required && entries.get(**name).is_none_or(Value::is_null)).collect();
    missing.sort_by_key(|(name, _)| **name);
    let missing = missing.iter().map(|(name, _)| Misfit::Missing(format!("{path}.{name}")));
    found.extend(missing.map(|m| match m {
        Misfit::Missing(path) => Misfit::Missing(path.trim_start_matches('.').to_owned()),
        other => other,
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_member_that_ecs_does_not_have_is_found_at_any_depth() {
        let body = json!({"taskDefinition": "a", "overrides": {"containerOverrides": [{"name": "b", "image": "c"}]}});

        let found = misfits("RunTask", &body);

        assert_eq!(found, Some(vec![Misfit::Unknown("overrides.containerOverrides[0].image".to_owned())]));
    }

    #[test]
    fn a_wrong_type_and_a_missing_member_are_found() {
        let found = misfits("RunTask", &json!({"count": "1"}));

        let expected = [Misfit::Type("count".to_owned()), Misfit::Missing("taskDefinition".to_owned())];
        assert_eq!(found, Some(expected.to_vec()));
    }

    #[test]
    fn every_type_that_a_member_names_is_there() {
        for (name, structure) in shapes() {
            for (member, Member { kind, .. }) in structure {
                let kind = kind.trim_matches(|c| "[]{}".contains(c));
                let known = ["string", "integer", "boolean", "number"].contains(&kind) || shapes().contains_key(kind);
                assert!(known, "`{name}.{member}` has the type `{kind}`");
            }
        }
    }
}
