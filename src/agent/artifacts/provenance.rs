//! States what is in an archive and how it came about: `RUNNER_GENERATE_ARTIFACTS_METADATA` (runner-behaviour.md §6.4).
//!
//! An in-toto statement 0.1 with a SLSA provenance 1.0, in the fields that GitLab Runner fills in. It goes into the
//! archive, and nowhere on the disk.

use std::io::{self, Read};
use std::path::PathBuf;

use cap_std::fs::Dir;
use jiff::Timestamp;
use secrecy::ExposeSecret;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use url::Url;

use crate::agent::context::{Context, StageError};
use crate::agent::files::{HelperLine, Selection, say};
use crate::cache::Extra;
use crate::cache::found::{Found, look};
use crate::gitlab::FailureReason;

/// The description of the format: GitLab Runner's, whose fields these are.
const BUILD_TYPE: &str = "https://gitlab.com/gitlab-org/gitlab-runner/-/blob/v19.4.0/PROVENANCE.md";

/// The only version that there is of the predicate.
const SCHEMA_VERSION: &str = "v1";

/// The statement about what is selected for the archive that is called `name`.
pub(super) async fn provenance(context: &Context, selection: &Selection, name: &str) -> Result<Extra, StageError> {
    say(&context.log, &HelperLine::Info("Generating artifacts statement".to_owned()));
    let version = context.environment.get("SLSA_PROVENANCE_SCHEMA_VERSION").map(String::as_str);
    let version = version.filter(|version| !version.is_empty()).unwrap_or("unknown");
    if version != SCHEMA_VERSION {
        let text = format!("Unknown SLSA provenance version {version}, defaulting to {SCHEMA_VERSION}");
        say(&context.log, &HelperLine::Warning(text));
    }
    let failed = |error: &dyn std::fmt::Display| {
        let message = format!("the provenance of the artifacts cannot be stated: {error}");
        StageError { exit_code: Some(1), ..StageError::new(FailureReason::ScriptFailure, message) }
    };
    let root = selection.root.try_clone().map_err(|error| failed(&error))?;
    let paths = selection.paths.clone();
    let subjects = tokio::task::spawn_blocking(move || subjects(&root, &paths));
    let subjects = subjects.await.map_err(io::Error::other).and_then(|subjects| subjects);
    let now = Timestamp::now();
    let statement = statement(context, subjects.map_err(|error| failed(&error))?, now);
    let content = serde_json::to_vec_pretty(&statement).map_err(|error| failed(&error))?;
    Ok(Extra { path: format!("{name}-metadata.json"), content, modified: now.as_second() })
}

/// Name and hash of each regular file.
fn subjects(root: &Dir, paths: &[PathBuf]) -> io::Result<Vec<Value>> {
    let mut subjects = Vec::new();
    for path in paths {
        let Found::File(mut file, metadata) = look(root, path)? else { continue };
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 128 << 10];
        // No more than is packed: a file that somebody writes to would never end.
        let mut content = (&mut file).take(metadata.len());
        loop {
            match content.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => hash.update(&buffer[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        subjects.push(json!({"name": path.to_string_lossy(), "digest": {"sha256": hex::encode(hash.finalize())}}));
    }
    Ok(subjects)
}

fn statement(context: &Context, subjects: Vec<Value>, now: Timestamp) -> Value {
    let job = &context.job;
    // GitLab's own values come first; a job may have set them anew behind that.
    let given = |key: &str| {
        let variable = context.variables.iter().find(|variable| variable.key == key);
        variable.map(|variable| variable.value.as_str()).unwrap_or_default()
    };
    let source = source(job.git.repo_url.expose_secret());
    // Their names alone: values may be secrets.
    let mut parameters: Map<String, Value> =
        job.variables.iter().map(|variable| (variable.key.clone(), "".into())).collect();
    parameters.insert("entryPoint".to_owned(), job.info.name.as_str().into());
    parameters.insert("source".to_owned(), source.as_str().into());
    let started = given("CI_JOB_STARTED_AT").parse().unwrap_or(now);
    json!({
        "_type": "https://in-toto.io/Statement/v0.1",
        "subject": subjects,
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": parameters,
                "internalParameters": {
                    "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
                    "executor": "kubernetes",
                    "job": job.id.to_string(),
                    "name": given("CI_RUNNER_DESCRIPTION"),
                },
                "resolvedDependencies": [{"uri": source, "digest": {"sha256": job.git.sha}}],
            },
            "runDetails": {
                "builder": {
                    "id": format!("{source}/-/runners/{}", given("CI_RUNNER_ID")),
                    "version": {"mayfly": env!("CARGO_PKG_VERSION")},
                },
                "metadata": {
                    "invocationId": job.id.to_string(),
                    "startedOn": seconds(started),
                    "finishedOn": seconds(now),
                },
            },
        },
    })
}

/// The project's URL without the token and without `.git`.
fn source(repo_url: &str) -> String {
    let Ok(mut url) = Url::parse(repo_url) else { return String::new() };
    // A URL that cannot have a user has none.
    let _ = url.set_username("").and_then(|()| url.set_password(None));
    url.as_str().trim_end_matches(".git").to_owned()
}

fn seconds(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::testing::{Job, context};

    #[test]
    fn a_statement_names_the_variables_and_no_value_of_them() {
        let job = Job::new(json!({
            "git_info": {"repo_url": "https://gitlab-ci-token:glcbt-x@gitlab.test/g/p.git", "sha": "c0ffee"},
            "variables": [
                {"key": "CI_RUNNER_ID", "value": "12"},
                {"key": "CI_RUNNER_DESCRIPTION", "value": "our runner"},
                {"key": "CI_JOB_STARTED_AT", "value": "2026-01-02T03:04:05Z"},
                {"key": "SECRET", "value": "hidden", "masked": true},
                {"key": "CI_RUNNER_ID", "value": "forged"},
            ],
        }));
        let context = context(job);
        let subjects = vec![json!({"name": "a", "digest": {"sha256": "00"}})];
        let statement = statement(&context, subjects, "2026-01-02T03:05:06.789Z".parse().unwrap());
        assert_eq!(
            statement,
            json!({
                "_type": "https://in-toto.io/Statement/v0.1",
                "subject": [{"name": "a", "digest": {"sha256": "00"}}],
                "predicateType": "https://slsa.dev/provenance/v1",
                "predicate": {
                    "buildDefinition": {
                        "buildType": BUILD_TYPE,
                        "externalParameters": {
                            "CI_RUNNER_ID": "", "CI_RUNNER_DESCRIPTION": "", "CI_JOB_STARTED_AT": "", "SECRET": "",
                            "entryPoint": "test", "source": "https://gitlab.test/g/p",
                        },
                        "internalParameters": {
                            "architecture": "amd64", "executor": "kubernetes", "job": "7", "name": "our runner",
                        },
                        "resolvedDependencies": [
                            {"uri": "https://gitlab.test/g/p", "digest": {"sha256": "c0ffee"}},
                        ],
                    },
                    "runDetails": {
                        "builder": {
                            "id": "https://gitlab.test/g/p/-/runners/12",
                            "version": {"mayfly": env!("CARGO_PKG_VERSION")},
                        },
                        "metadata": {
                            "invocationId": "7",
                            "startedOn": "2026-01-02T03:04:05Z",
                            "finishedOn": "2026-01-02T03:05:06Z",
                        },
                    },
                },
            })
        );
    }
}
