//! Makes a job's [`Context`] of what the broker gave.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use reqwest::Client;
use secrecy::ExposeSecret;
use thiserror::Error;
use url::Url;

use crate::gitlab::{
    BuildPlace, DEFAULT_TIMEOUT_SECONDS, HttpError, Job, JobClient, Sender, Variable, Variables, http_client_with,
    job_variables, project_directory,
};
use crate::ledger::wire::{OpenAnswer, RunnerSettings};

use super::broker_client::BrokerClient;
use super::context::{Context, Place, User};
use super::file_variables;
use super::log::{JobLog, LogSettings};

/// Whom git and hook scripts run as where the helper is root: nobody whom an image knows.
const CHILD_USER: User = User { uid: 61_000, gid: 61_000 };

/// Uploads may take so long: while a body is sent nothing is read, so this is the limit of an upload as a whole.
const ARTIFACT_SILENCE: Duration = Duration::from_secs(3600);

/// Why an opened claim cannot become a job. Nobody can be told but our own log: there is no way to GitLab.
#[derive(Debug, Error)]
pub(super) enum SetupError {
    /// No JSON object with an id and a token.
    #[error("the claim is no job")]
    Claim,
    /// Not a URL.
    #[error("GitLab's URL cannot be read")]
    Url(#[from] url::ParseError),
    /// No TLS.
    #[error(transparent)]
    Http(#[from] HttpError),
}

/// A job with all that its stages need, and its timeout.
pub(super) struct Setup {
    pub context: Context,
    pub timeout: Duration,
    /// A sentence, where the job asks for a place that it cannot have.
    pub refusal: Option<String>,
}

/// Makes the job of `answer`.
pub(super) fn set_up(answer: &OpenAnswer, broker: &BrokerClient, builds_dir: &Path) -> Result<Setup, SetupError> {
    let job = Job::read(answer.claim.get().as_bytes()).ok_or(SetupError::Claim)?;
    let build_place = BuildPlace {
        builds_dir: builds_dir.to_string_lossy().into_owned(),
        short_token: answer.runner.short_token.clone(),
        environment: answer.settings.environment.clone(),
        feature_flags: answer.settings.feature_flags.clone(),
    };
    let mut variables = job_variables(&job, &build_place);
    let warnings = apply(&answer.settings, &mut variables);
    let (place, refusal) = place(&job, &mut variables, builds_dir);
    let environment = environment(&variables, &place.temp_dir);
    let log = JobLog::new(log_settings(&job, &variables, &place.temp_dir, answer));
    warnings.iter().for_each(|warning| log.runner_warning(warning));

    let instance: Url = answer.gitlab.parse()?;
    let client = |silence| http(&variables, silence);
    let gitlab = JobClient::new(client(None)?, &instance, job.id, job.token.clone());
    let gitlab_artifacts = JobClient::new(client(Some(ARTIFACT_SILENCE))?, &instance, job.id, job.token.clone());
    let timeout = Duration::from_secs(job.runner.timeout.unwrap_or(DEFAULT_TIMEOUT_SECONDS));
    let child_user = rustix::process::geteuid().is_root().then_some(CHILD_USER);
    let broker = broker.clone().with_grant(answer.grant.clone());
    let settings = answer.settings.clone();
    let context =
        Context { job, variables, environment, place, log, gitlab, gitlab_artifacts, broker, child_user, settings };
    Ok(Setup { context, timeout, refusal })
}

/// Lets the owner's settings win over the job's variables; returns what to warn of.
fn apply(settings: &RunnerSettings, variables: &mut Variables) -> Vec<String> {
    let mut warnings = Vec::new();
    if settings.debug_trace_disabled {
        for name in ["CI_DEBUG_TRACE", "CI_DEBUG_SERVICES"] {
            if variables.flag(name, false) {
                warnings.push(format!("{name}: usage is disabled on this Runner"));
                variables.push(Variable::public(name, "false"));
            }
        }
    }
    if let Some(size) = settings.max_uploaded_archive_size {
        variables.push(Variable::public("CACHE_MAX_UPLOADED_ARCHIVE_SIZE", size.to_string()));
    }
    warnings
}

/// Where the job lies; `GIT_CLONE_PATH` may name another place in the builds directory (runner-behaviour.md §4.1).
fn place(job: &Job, variables: &mut Variables, builds_dir: &Path) -> (Place, Option<String>) {
    let mut directory = PathBuf::from(project_directory(job, &builds_dir.to_string_lossy()));
    let mut refusal = None;
    let wish = variables.get("GIT_CLONE_PATH").map(|path| variables.expand(path)).filter(|path| !path.is_empty());
    if let Some(wish) = wish {
        match below(&wish, builds_dir) {
            Some(path) => directory = path,
            None => {
                refusal = Some(format!(
                    "`GIT_CLONE_PATH` `{wish}` is not below the builds directory `{}`",
                    builds_dir.display()
                ));
            }
        }
    }
    let mut temp_dir = directory.clone().into_os_string();
    temp_dir.push(".tmp");
    let place = Place { builds_dir: builds_dir.to_owned(), project_dir: directory, temp_dir: temp_dir.into() };
    let text = |path: &Path| path.to_string_lossy().into_owned();
    variables.push(Variable::public("CI_PROJECT_DIR", text(&place.project_dir)));
    variables.push(Variable::public("RUNNER_TEMP_PROJECT_DIR", text(&place.temp_dir)));
    variables.push(Variable::public("GITLAB_ENV", file_variables::gitlab_env_path(&place.temp_dir)));
    (place, refusal)
}

/// `path` without detours, if it is absolute and really below `directory`.
fn below(path: &str, directory: &Path) -> Option<PathBuf> {
    let mut clean = PathBuf::new();
    for part in Path::new(path).components() {
        match part {
            Component::ParentDir => {
                clean.pop();
            }
            Component::CurDir => {}
            part => clean.push(part),
        }
    }
    (clean.starts_with(directory) && clean != directory && !path.contains('\0')).then_some(clean)
}

/// Every variable expanded, file variables as paths.
pub(super) fn environment(variables: &Variables, temp_dir: &Path) -> BTreeMap<String, String> {
    let expanded = variables.expanded(|key| file_variables::path(temp_dir, key));
    let value = |variable: &Variable| match variable.file {
        true => file_variables::path(temp_dir, &variable.key),
        false => variable.value.clone(),
    };
    expanded.iter().map(|variable| (variable.key.clone(), value(variable))).collect()
}

fn log_settings(job: &Job, variables: &Variables, temp_dir: &Path, answer: &OpenAnswer) -> LogSettings {
    let mut masked = variables.masked_values();
    masked.extend(variables.expanded(|key| file_variables::path(temp_dir, key)).masked_values());
    masked.push(job.token.expose_secret().to_owned());
    masked.retain(|value| !value.is_empty());
    LogSettings {
        masked,
        all_token_prefixes: variables.flag("FF_MASK_ALL_DEFAULT_TOKENS", true),
        token_prefixes: job.features.token_mask_prefixes.clone(),
        sections: job.features.trace_sections,
        timestamps: variables.flag("FF_TIMESTAMPS", true),
        begun: answer.trace.as_bytes().to_vec(),
        limit: answer.settings.output_limit.map(|kib| usize::try_from(kib << 10).unwrap_or(usize::MAX)),
    }
}

/// Trusts what GitLab's own jobs trust: a CA in `CI_SERVER_TLS_CA_FILE`.
fn http(variables: &Variables, silence: Option<Duration>) -> Result<Client, HttpError> {
    let trust = variables.get("CI_SERVER_TLS_CA_FILE").unwrap_or_default().as_bytes();
    http_client_with(Sender::Helper, trust, |builder| match silence {
        Some(silence) => builder.read_timeout(silence),
        None => builder,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gitlab::http_client;
    use serde_json::json;

    fn set_up_with(variables: serde_json::Value) -> Setup {
        set_up_by(RunnerSettings::default(), variables)
    }

    fn set_up_by(settings: RunnerSettings, variables: serde_json::Value) -> Setup {
        let claim = json!({
            "id": 7, "token": "glcbt-secret", "variables": variables,
            "git_info": {"repo_url": "https://gitlab.test/group/app.git"}, "runner_info": {"timeout": 60},
        });
        let answer = OpenAnswer {
            gitlab: "https://gitlab.test/".into(),
            claim: serde_json::value::to_raw_value(&claim).unwrap(),
            runner: Default::default(),
            claimed_ms_ago: 0,
            trace: "before\n".into(),
            grant: "g".into(),
            settings,
        };
        let broker = BrokerClient::new(http_client(Sender::Helper).unwrap(), "http://127.0.0.1:1".parse().unwrap());
        set_up(&answer, &broker, Path::new("/builds")).unwrap()
    }

    #[test]
    fn a_job_knows_its_place_and_its_variables() {
        let setup = set_up_with(json!([
            {"key": "CERT", "value": "pem $A", "file": true}, {"key": "A", "value": "$B"}, {"key": "B", "value": "b"},
            {"key": "SECRET", "value": "hunter2$B", "masked": true}, {"key": "CI_PROJECT_DIR", "value": "/etc"},
        ]));
        let environment = &setup.context.environment;
        let get = |key: &str| environment.get(key).map(String::as_str);
        assert_eq!(get("CI_PROJECT_DIR"), Some("/builds/group/app"));
        assert_eq!(get("RUNNER_TEMP_PROJECT_DIR"), Some("/builds/group/app.tmp"));
        assert_eq!(get("GITLAB_ENV"), Some("/builds/group/app.tmp/gitlab_runner_env"));
        assert_eq!(get("CERT"), Some("/builds/group/app.tmp/CERT"));
        assert_eq!((get("A"), get("SECRET")), (Some("b"), Some("hunter2b")));
        assert_eq!((setup.timeout, setup.refusal), (Duration::from_secs(60), None));
        setup.context.log.line("hunter2b hunter2$B glcbt-secret");
        let log = String::from_utf8(setup.context.log.contents().to_vec()).unwrap();
        assert!(log.starts_with("before\n") && log.ends_with(" [MASKED] [MASKED] [MASKED]\n"), "{log}");
    }

    #[test]
    fn the_owners_settings_win_over_the_jobs_variables() {
        let settings = RunnerSettings {
            debug_trace_disabled: true,
            max_uploaded_archive_size: Some(7),
            environment: vec!["A=1".into(), "B=2".into()],
            ..RunnerSettings::default()
        };
        let setup = set_up_by(
            settings,
            json!([
                {"key": "CI_DEBUG_TRACE", "value": "true"}, {"key": "CI_DEBUG_SERVICES", "value": "no"},
                {"key": "CACHE_MAX_UPLOADED_ARCHIVE_SIZE", "value": "9"}, {"key": "B", "value": "job"},
            ]),
        );
        let context = &setup.context;
        assert!(!context.variables.flag("CI_DEBUG_TRACE", false));
        let get = |key: &str| context.environment[key].as_str();
        assert_eq!((get("CACHE_MAX_UPLOADED_ARCHIVE_SIZE"), get("A"), get("B")), ("7", "1", "job"));
        let log = String::from_utf8(context.log.contents().to_vec()).unwrap();
        assert!(log.ends_with("WARNING: CI_DEBUG_TRACE: usage is disabled on this Runner\x1b[0;m\n"), "{log}");
        assert!(!log.contains("CI_DEBUG_SERVICES"), "{log}");
    }

    #[test]
    fn a_clone_path_lies_below_the_builds_directory() {
        for (wish, expected) in [
            ("$CI_BUILDS_DIR/go/src/app", Some("/builds/go/src/app")),
            ("/builds/a/../b/./c", Some("/builds/b/c")),
            ("/builds/../etc", None),
            ("/builds", None),
            ("relative", None),
            ("/buildsx/a", None),
        ] {
            let setup = set_up_with(json!([{"key": "GIT_CLONE_PATH", "value": wish}]));
            assert_eq!(setup.refusal.is_none(), expected.is_some(), "{wish}");
            if let Some(expected) = expected {
                assert_eq!(setup.context.environment["CI_PROJECT_DIR"], expected);
                assert_eq!(setup.context.place.temp_dir, PathBuf::from(format!("{expected}.tmp")));
            }
        }
    }
}
