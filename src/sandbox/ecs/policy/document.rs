//! Reads a policy document, strictly.

use serde_json::{Map, Value};

use super::condition::Condition;
use super::decide::Ask;
use super::pattern::{matches, matches_arn, parts};

/// They differ in policy variables, which are refused here.
const VERSIONS: [&str; 2] = ["2012-10-17", "2008-10-17"];

/// The kind of a policy decides which members its statements have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sandbox::ecs) enum Kind {
    /// Of a role: its statements have no principal.
    Identity,
    /// Of a bucket: its statements name principals and resources.
    Bucket,
    /// Of a role, for those that assume it: its statements name principals, and the role is the resource.
    Trust,
}

/// One statement of a policy.
#[derive(Clone, Debug)]
pub(super) struct Statement {
    pub(super) sid: Option<String>,
    pub(super) denies: bool,
    /// `*`, or `AWS:` and `Service:` with a name; none in an identity policy.
    principals: Option<Vec<String>>,
    actions: Actions,
    resources: Vec<String>,
    conditions: Vec<Condition>,
}

#[derive(Clone, Debug)]
enum Actions {
    Only(Vec<String>),
    Except(Vec<String>),
}

/// The statements of a policy's text.
///
/// # Errors
/// Says what is not understood.
pub(super) fn read(kind: Kind, text: &str) -> Result<Vec<Statement>, String> {
    let document: Value = serde_json::from_str(text).map_err(|error| format!("it is not JSON: {error}"))?;
    let document = document.as_object().ok_or("it is no object")?;
    only(document, &["Version", "Id", "Statement"])?;
    if let Some(version) = document.get("Version")
        && !VERSIONS.iter().any(|known| version == known)
    {
        return Err(format!("`Version` {version} is not known"));
    }
    let statements = match document.get("Statement") {
        Some(Value::Array(statements)) => statements.as_slice(),
        Some(statement @ Value::Object(_)) => std::slice::from_ref(statement),
        _ => return Err("it has no `Statement`".to_owned()),
    };
    let read = |(place, statement)| {
        let name = |error| match statement_sid(statement) {
            Some(sid) => format!("statement `{sid}`: {error}"),
            None => format!("statement {place}: {error}"),
        };
        self::statement(kind, statement).map_err(name)
    };
    (1..).zip(statements).map(read).collect()
}

impl Statement {
    /// Whether it applies to this request.
    ///
    /// # Errors
    /// Says what is not understood.
    pub(super) fn applies(&self, ask: &Ask) -> Result<bool, String> {
        let Ask { action, resource, keys, names: callers } = ask;
        let names = |patterns: &[String]| {
            patterns.iter().any(|pattern| matches(&pattern.to_ascii_lowercase(), &action.to_ascii_lowercase()))
        };
        let acts = match &self.actions {
            Actions::Only(actions) => names(actions),
            Actions::Except(actions) => !names(actions),
        };
        let is_asker = |name: &String| name == "*" || callers.contains(name);
        if !self.principals.as_ref().is_none_or(|principals| principals.iter().any(is_asker)) {
            return Ok(false);
        }
        if !acts || !self.resources.iter().any(|pattern| pattern == "*" || matches_arn(pattern, resource)) {
            return Ok(false);
        }
        for condition in &self.conditions {
            if !condition.holds(keys)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn statement(kind: Kind, value: &Value) -> Result<Statement, String> {
    let value = value.as_object().ok_or("it is no object")?;
    // `NotResource` and `NotPrincipal` allow more than a reader expects.
    let members = match kind {
        Kind::Identity => &["Sid", "Effect", "Action", "NotAction", "Resource", "Condition"][..],
        Kind::Bucket => &["Sid", "Effect", "Action", "NotAction", "Resource", "Condition", "Principal"],
        Kind::Trust => &["Sid", "Effect", "Action", "NotAction", "Condition", "Principal"],
    };
    only(value, members)?;
    let denies = match value.get("Effect").and_then(Value::as_str) {
        Some("Allow") => false,
        Some("Deny") => true,
        _ => return Err("`Effect` is neither `Allow` nor `Deny`".to_owned()),
    };
    let sid = match value.get("Sid") {
        None => None,
        Some(Value::String(sid)) => Some(sid.clone()),
        Some(other) => return Err(format!("`Sid` is {other}")),
    };
    let actions = match (value.get("Action"), value.get("NotAction")) {
        (Some(actions), None) => Actions::Only(checked(actions, is_action, "action")?),
        (None, Some(actions)) => Actions::Except(checked(actions, is_action, "action")?),
        _ => return Err("it needs either `Action` or `NotAction`".to_owned()),
    };
    let is_resource = |resource: &str| resource == "*" || parts(resource).is_some();
    let resources = match kind {
        Kind::Trust => vec!["*".to_owned()],
        _ => checked(value.get("Resource").ok_or("it has no `Resource`")?, is_resource, "resource")?,
    };
    let principals = match kind {
        Kind::Identity => None,
        _ => Some(principals(value.get("Principal").ok_or("it has no `Principal`")?)?),
    };
    Ok(Statement { sid, denies, principals, actions, resources, conditions: conditions(value.get("Condition"))? })
}

fn principals(value: &Value) -> Result<Vec<String>, String> {
    if value == "*" {
        return Ok(vec!["*".to_owned()]);
    }
    let mut all = Vec::new();
    for (kind, names) in value.as_object().ok_or("`Principal` is no object")? {
        let is_name = match kind.as_str() {
            "AWS" => {
                |name: &str| name == "*" || parts(name).is_some() || name.bytes().all(|byte| byte.is_ascii_digit())
            }
            "Service" => |name: &str| name.ends_with(".amazonaws.com"),
            _ => return Err(format!("`{kind}` is no kind of principal that is known here")),
        };
        let names = checked(names, is_name, "principal")?;
        all.extend(names.into_iter().map(|name| format!("{kind}:{name}")));
    }
    Ok(all)
}

fn conditions(value: Option<&Value>) -> Result<Vec<Condition>, String> {
    let Some(value) = value else { return Ok(Vec::new()) };
    let mut all = Vec::new();
    for (operator, keys) in value.as_object().ok_or("`Condition` is no object")? {
        for (key, values) in keys.as_object().ok_or_else(|| format!("`{operator}` is no object"))? {
            let values = scalars(values).ok_or_else(|| format!("`{operator}` of `{key}` has no plain values"))?;
            all.push(Condition::new(operator, key, values)?);
        }
    }
    Ok(all)
}

fn checked(value: &Value, is_right: fn(&str) -> bool, what: &str) -> Result<Vec<String>, String> {
    let texts = match value {
        Value::String(text) => Some(vec![text.clone()]),
        Value::Array(items) => items.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
        _ => None,
    };
    let texts = texts.filter(|texts| !texts.is_empty()).ok_or_else(|| format!("it has no {what}"))?;
    match texts.iter().find(|text| !is_right(text) || text.contains("${")) {
        Some(wrong) => Err(format!("`{wrong}` is no {what} that is known here")),
        None => Ok(texts),
    }
}

/// `*`, or a service and a name.
fn is_action(action: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || "*?-".contains(c);
    let is_name = |name: &str| !name.is_empty() && name.chars().all(legal);
    action == "*" || action.split_once(':').is_some_and(|(service, name)| is_name(service) && is_name(name))
}

/// One value or several; numbers and booleans are written as text.
fn scalars(value: &Value) -> Option<Vec<String>> {
    let scalar = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        _ => None,
    };
    match value {
        Value::Array(values) => values.iter().map(scalar).collect(),
        value => scalar(value).map(|value| vec![value]),
    }
}

fn only(object: &Map<String, Value>, known: &[&str]) -> Result<(), String> {
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(format!("`{key}` is not known here")),
        None => Ok(()),
    }
}

fn statement_sid(statement: &Value) -> Option<&str> {
    statement.get("Sid")?.as_str()
}
