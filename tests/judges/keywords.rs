//! The keywords that something is done with when a job runs here, and which of them a set of files uses.

use std::collections::BTreeSet;

use serde_json::Value;

/// As they stand in a file whose jobs have everything merged into them; lists are passed over.
pub const MERGED: &[&str] = &[
    "after_script",
    "allow_failure",
    "allow_failure.exit_codes",
    "artifacts.access",
    "artifacts.exclude",
    "artifacts.expire_in",
    "artifacts.expose_as",
    "artifacts.name",
    "artifacts.paths",
    "artifacts.public",
    "artifacts.reports.coverage_report.coverage_format",
    "artifacts.reports.coverage_report.path",
    "artifacts.reports.dotenv",
    "artifacts.reports.junit",
    "artifacts.untracked",
    "artifacts.when",
    "before_script",
    "cache.fallback_keys",
    "cache.key",
    "cache.key.files",
    "cache.key.files_commits",
    "cache.key.prefix",
    "cache.paths",
    "cache.policy",
    "cache.unprotect",
    "cache.untracked",
    "cache.when",
    "dependencies",
    "except",
    "except.refs",
    "except.variables",
    "except.changes",
    "hooks.pre_get_sources_script",
    "image",
    "image.docker.platform",
    "image.docker.user",
    "image.entrypoint",
    "image.kubernetes.user",
    "image.name",
    "image.pull_policy",
    "needs",
    "needs.artifacts",
    "needs.job",
    "needs.optional",
    "needs.parallel.matrix",
    "only",
    "only.changes",
    "only.refs",
    "only.variables",
    "parallel",
    "parallel.matrix",
    "retry",
    "retry.exit_codes",
    "retry.max",
    "retry.when",
    "rules.allow_failure",
    "rules.changes",
    "rules.changes.compare_to",
    "rules.changes.paths",
    "rules.exists",
    "rules.exists.paths",
    "rules.if",
    "rules.interruptible",
    "rules.needs",
    "rules.start_in",
    "rules.variables",
    "rules.when",
    "script",
    "services",
    "services.alias",
    "services.command",
    "services.docker.platform",
    "services.docker.user",
    "services.entrypoint",
    "services.kubernetes.user",
    "services.name",
    "services.pull_policy",
    "services.variables",
    "stage",
    "start_in",
    "tags",
    "timeout",
    "trigger",
    "variables",
    "when",
    // Of the file, and what jobs have for GitLab itself.
    "(file).stages",
    "(file).variables",
    "(file).variables.description",
    "(file).variables.expand",
    "(file).variables.options",
    "(file).variables.value",
    "(file).workflow.auto_cancel",
    "(file).workflow.name",
    "(file).workflow.rules.changes",
    "(file).workflow.rules.if",
    "(file).workflow.rules.variables",
    "(file).workflow.rules.when",
    "coverage",
    "environment",
    "environment.action",
    "environment.name",
    "id_tokens",
    "interruptible",
    "manual_confirmation",
    "pages",
    "release",
    "resource_group",
    "secrets",
];

/// As they stand in the files; nothing is left of them when they have done their work.
pub const WRITTEN: &[&str] = &[
    "\ndefault:",
    "\nimage:",
    "\nservices:",
    "\ncache:",
    "\nbefore_script:",
    "\nafter_script:",
    "\ninclude:",
    "\n  - local:",
    "    inputs:\n",
    "  extends: .",
    "  extends: [.",
    "  extends:\n    - .",
    "inherit:\n    default: false",
    "    default: [",
    "    variables: false",
    "    variables: [",
    "!reference [",
    "<<: *",
    "<<: [*",
    "\nspec:\n  inputs:",
    "type: string",
    "type: number",
    "type: boolean",
    "type: array",
    "      options: [",
    "      regex: ",
    "      description: ",
    "| truncate(",
    "| expand_vars",
    "| posix_escape",
    "stage: .pre",
    "stage: .post",
];

/// The keywords of a merged file, in the notation of [`MERGED`].
pub fn used(file: &Value) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for (name, value) in file.as_object().expect("a map") {
        match name.as_str() {
            "stages" | "workflow" => collect(&format!("(file).{name}"), value, &mut used),
            "variables" => {
                let variables = value.as_object().expect("variables").values();
                variables.for_each(|variable| collect("(file).variables", variable, &mut used));
            }
            _ => value.as_object().expect("a job").iter().for_each(|(key, value)| collect(key, value, &mut used)),
        }
    }
    used
}

fn collect(path: &str, value: &Value, used: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            used.insert(path.to_owned());
            for (key, value) in map {
                collect(&format!("{path}.{key}"), value, used);
            }
        }
        Value::Array(items) => {
            used.insert(path.to_owned());
            items.iter().for_each(|item| collect(path, item, used));
        }
        _ => drop(used.insert(path.to_owned())),
    }
}
