//! Brings what two readers say to one shape: a keyword's short form becomes its long one, defaults are written out.
//!
//! Nothing here knows who said it, but for the notations at the end that only one of them has.

use mayfly::pipeline::{AllowFailure, Pipeline, When};
use serde_json::{Map, Value, json};

/// What was said, job by job, in the order of the file.
pub type Jobs = Map<String, Value>;

/// Where the keywords at the top of the file stand among the jobs.
pub const FILE: &str = "(file)";

/// A file with everything merged into its jobs.
pub fn expanded(file: Value) -> Jobs {
    let Value::Object(file) = file else { panic!("a map, not {file}") };
    let mut top = Map::new();
    let mut jobs = Jobs::new();
    for (key, value) in file {
        match key.as_str() {
            "stages" => drop(top.insert(key, stages(value))),
            "variables" => drop(top.insert(key, variables(value))),
            "workflow" => drop(top.insert(key, each(value, workflow))),
            "default" | "include" | "image" | "services" | "before_script" | "after_script" | "cache" => {}
            _ if key.starts_with('.') => {}
            _ => drop(jobs.insert(key, job(value))),
        }
    }
    jobs.insert(FILE.to_owned(), Value::Object(top));
    jobs
}

fn job(value: Value) -> Value {
    let Value::Object(mut job) = each(value, keyword) else { panic!("a job is a map") };
    // They have done their work.
    job.remove("extends");
    job.remove("inherit");
    job.entry("stage").or_insert_with(|| json!("test"));
    Value::Object(job)
}

/// `change` applied to each value of a map; what is null was never said.
fn each(value: Value, change: impl Fn(&str, Value) -> Value) -> Value {
    let Value::Object(map) = value else { return value };
    let map = map.into_iter().filter(|(_, value)| !value.is_null());
    let map = map.map(|(key, value)| {
        let value = change(&key, value);
        (key, value)
    });
    map.filter(|(_, value)| !value.is_null()).collect::<Map<_, _>>().into()
}

fn keyword(key: &str, value: Value) -> Value {
    match key {
        "script" | "before_script" | "after_script" | "tags" => flat(value),
        "hooks" => each(value, |_, script| flat(script)),
        "image" => named(value, image),
        "services" => list(value, |service| named(service, image)),
        "variables" => variables(value),
        "cache" => list(value, cache),
        "needs" => list(value, need),
        "artifacts" => each(value, artifacts),
        "retry" if value.is_number() => json!({ "max": value }),
        "retry" | "allow_failure" => each(value, |key, value| if key == "max" { value } else { flat(value) }),
        "parallel" => each(value, |_, rows| list(rows, |row| each(row, |_, values| texts(flat(values))))),
        "rules" => list(flat(value), |rule| each(rule, rule_keyword)),
        "only" | "except" if value.is_array() => json!({ "refs": value }),
        "environment" => named(value, |_, value| value),
        "trigger" => {
            each(value, |_, include| if include.is_string() { json!([{ "local": include }]) } else { include })
        }
        "id_tokens" | "secrets" | "release" | "pages" => each(value, |_, value| value),
        _ => value,
    }
}

fn image(key: &str, value: Value) -> Value {
    match key {
        "pull_policy" => flat(value),
        "variables" => variables(value),
        _ => value,
    }
}

fn cache(value: Value) -> Value {
    let Value::Object(mut cache) = each(value, |_, value| value) else { panic!("a cache is a map") };
    cache.entry("key").or_insert_with(|| json!("default"));
    cache.entry("policy").or_insert_with(|| json!("pull-push"));
    cache.entry("when").or_insert_with(|| json!("on_success"));
    cache.retain(|_, value| *value != json!(false) && *value != json!([]));
    Value::Object(cache)
}

fn need(value: Value) -> Value {
    let value = if value.is_string() { json!({ "job": value }) } else { value };
    let Value::Object(mut need) = each(value, keyword) else { panic!("a need is a map") };
    need.entry("artifacts").or_insert_with(|| json!(true));
    need.entry("optional").or_insert_with(|| json!(false));
    Value::Object(need)
}

fn artifacts(key: &str, value: Value) -> Value {
    match key {
        "reports" => each(value, |_, report| if report.is_object() { report } else { flat(report) }),
        _ => value,
    }
}

fn workflow(key: &str, value: Value) -> Value {
    if key == "rules" { list(flat(value), |rule| each(rule, rule_keyword)) } else { value }
}

fn rule_keyword(key: &str, value: Value) -> Value {
    match key {
        "changes" | "exists" if value.is_array() => json!({ "paths": value }),
        "changes" | "exists" => each(value, |_, value| value),
        _ => keyword(key, value),
    }
}

fn stages(value: Value) -> Value {
    let Value::Array(mut stages) = value else { panic!("stages are a list") };
    stages.retain(|stage| stage != ".pre" && stage != ".post");
    stages.insert(0, json!(".pre"));
    stages.push(json!(".post"));
    Value::Array(stages)
}

/// Variables as texts; one that is not expanded is written with `$$` for each `$`, as gitlab-ci-local does.
fn variables(value: Value) -> Value {
    each(value, |_, value| match value {
        Value::Object(variable) => {
            let text = variable.get("value").cloned().map_or_else(String::new, as_text);
            let raw = variable.get("expand") == Some(&json!(false));
            json!(if raw { text.replace('$', "$$") } else { text })
        }
        simple => json!(as_text(simple)),
    })
}

fn named(value: Value, change: impl Fn(&str, Value) -> Value) -> Value {
    if value.is_string() { json!({ "name": value }) } else { each(value, change) }
}

fn list(value: Value, change: impl Fn(Value) -> Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(change).collect(),
        one => json!([change(one)]),
    }
}

fn flat(value: Value) -> Value {
    let Value::Array(items) = value else { return if value.is_object() { value } else { json!([value]) } };
    let items = items.into_iter().flat_map(|item| match flat(item) {
        Value::Array(items) => items,
        one => vec![one],
    });
    items.collect()
}

fn texts(value: Value) -> Value {
    list(value, |value| json!(as_text(value)))
}

fn as_text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// The jobs of ours.
pub fn created(pipeline: &Pipeline) -> Jobs {
    let jobs = pipeline.jobs.iter().map(|job| {
        let when = match job.when {
            When::OnSuccess => "on_success",
            When::OnFailure => "on_failure",
            When::Always => "always",
            When::Manual => "manual",
            When::Delayed(_) => "delayed",
        };
        let allow_failure = match &job.allow_failure {
            AllowFailure::No => json!(false),
            AllowFailure::Yes => json!(true),
            AllowFailure::ExitCodes(codes) => json!({ "exit_codes": codes }),
        };
        let needs = job.needs.as_ref().map(|needs| {
            sorted(needs.iter().map(|need| json!({ "job": need.job, "artifacts": need.artifacts })).collect())
        });
        let said = json!({ "stage": job.stage, "when": when, "allow_failure": allow_failure, "needs": needs });
        (job.name.clone(), said)
    });
    jobs.collect()
}

/// The jobs of `gitlab-ci-local --list-json`: it lists those that no rule adds, writes `[a,b]` for `[a, b]` and
/// `[1/2]` for `1/2`, and names parallel jobs in `needs` all at once.
pub fn listed(list: &Value) -> Jobs {
    let list = list.as_array().expect("a list").iter().filter(|job| job["when"] != "never");
    let list: Vec<(String, &Value)> = list.map(|job| (gitlab_name(&job["name"]), job)).collect();
    let named = |base: &str| -> Vec<String> {
        let names = list.iter().map(|(name, _)| name);
        names.filter(|name| name.strip_prefix(base).is_some_and(is_parallel_end)).cloned().collect()
    };
    let jobs = list.iter().map(|(name, job)| {
        let needs = job.get("needs").and_then(Value::as_array).map(|needs| {
            let needs = needs.iter().flat_map(|need| {
                let names = named(need["job"].as_str().expect("a name"));
                names.into_iter().map(|name| json!({ "job": name, "artifacts": need["artifacts"] }))
            });
            sorted(needs.collect())
        });
        let allow_failure = keyword("allow_failure", job["allow_failure"].clone());
        let said =
            json!({ "stage": job["stage"], "when": job["when"], "allow_failure": allow_failure, "needs": needs });
        (name.clone(), said)
    });
    jobs.collect()
}

fn gitlab_name(name: &Value) -> String {
    let name = name.as_str().expect("a name");
    match name.split_once(": [").and_then(|(base, rest)| Some((base, rest.strip_suffix(']')?))) {
        Some((base, place)) if place.contains('/') && place.bytes().all(|b| b.is_ascii_digit() || b == b'/') => {
            format!("{base} {place}")
        }
        Some((base, values)) => format!("{base}: [{}]", values.replace(',', ", ")),
        None => name.to_owned(),
    }
}

fn is_parallel_end(end: &str) -> bool {
    let place = end.strip_prefix(' ').and_then(|place| place.split_once('/'));
    let is_place = place.is_some_and(|(index, total)| index.parse::<u8>().is_ok() && total.parse::<u8>().is_ok());
    end.is_empty() || is_place || end.starts_with(": [")
}

fn sorted(mut values: Vec<Value>) -> Value {
    values.sort_by_key(Value::to_string);
    Value::Array(values)
}
