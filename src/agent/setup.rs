//! Makes a job's [`Context`] of what the broker gave.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use reqwest::Client;
use thiserror::Error;
use url::Url;

use crate::cache::object::{CacheSettings, cache_objects};
use crate::gitlab::masking::Masking;
use crate::gitlab::{
    BuildPlace, DEFAULT_TIMEOUT_SECONDS, HttpError, Job, JobClient, Sender, Variable, Variables, holds_certificates,
    http_client_with, job_variables, job_variables_in, job_warnings, project_directory,
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

/// What people sign their GitLab's certificate with, in PEM.
const CA_FILE: &str = "CI_SERVER_TLS_CA_FILE";

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
    /// What is not as the job asks; it goes on.
    pub warnings: Vec<String>,
}

/// Makes the job of `answer`.
pub(super) fn set_up(answer: &OpenAnswer, broker: &BrokerClient, builds_dir: &Path) -> Result<Setup, SetupError> {
    let mut job = Job::read(answer.claim.get().as_bytes()).ok_or(SetupError::Claim)?;
    if let Some(pem) = &answer.settings.tls_ca {
        // As GitLab Runner does with its `tls-ca-file`. The job's own definition comes behind it and wins.
        let variable = Variable { file: true, ..Variable::public(CA_FILE, pem) };
        job.variables = [variable].into_iter().chain(job.variables.iter().cloned()).collect();
    }
    let build_place = BuildPlace {
        builds_dir: builds_dir.to_string_lossy().into_owned(),
        short_token: answer.runner.short_token.clone(),
        environment: answer.settings.environment.clone(),
        feature_flags: answer.settings.feature_flags.clone(),
    };
    let (mut variables, place, refusal) = place(&job, &build_place);
    let by_owner = apply(&answer.settings, &mut variables);
    let environment = environment(&variables, &place.temp_dir);
    let log = JobLog::new(log_settings(&job, &variables, answer));
    by_owner.iter().for_each(|warning| log.runner_warning(warning));

    let instance: Url = answer.gitlab.parse()?;
    let (trust, damaged) = trust(&variables);
    let client = |silence| http(&trust, silence);
    let gitlab = JobClient::new(client(None)?, &instance, job.id, job.token.clone());
    let gitlab_artifacts = JobClient::new(client(Some(ARTIFACT_SILENCE))?, &instance, job.id, job.token.clone());
    let settings = job_warnings(&job, &variables);
    let settings = (!settings.is_empty()).then(|| settings.join("\n"));
    let timeout = Duration::from_secs(job.runner.timeout.unwrap_or(DEFAULT_TIMEOUT_SECONDS));
    let child_user = rustix::process::geteuid().is_root().then_some(CHILD_USER);
    let broker = broker.clone().with_grant(answer.grant.clone());
    let warnings = settings.into_iter().chain(damaged).collect();
    let settings = answer.settings.clone();
    let cache = cache_objects(&job, &variables, &answer.runner.short_token, &CacheSettings::default());
    let context = Context {
        job,
        variables,
        environment,
        place,
        cache,
        log,
        gitlab,
        gitlab_artifacts,
        broker,
        child_user,
        settings,
    };
    Ok(Setup { context, timeout, refusal, warnings })
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

/// Where the job lies, and its variables; `GIT_CLONE_PATH` may name another place in the builds directory
/// (runner-behaviour.md §4.1).
fn place(job: &Job, build_place: &BuildPlace) -> (Variables, Place, Option<String>) {
    let builds_dir = Path::new(&build_place.builds_dir);
    let mut variables = job_variables(job, build_place);
    let mut directory = PathBuf::from(project_directory(job, &build_place.builds_dir));
    let mut refusal = None;
    if let Some(wish) = variables.get("GIT_CLONE_PATH").filter(|path| !path.is_empty()) {
        match below(wish, builds_dir) {
            Some(path) => {
                directory = path;
                variables = job_variables_in(job, build_place, &directory.to_string_lossy());
            }
            None => {
                let builds_dir = &build_place.builds_dir;
                refusal = Some(format!("the GIT_CLONE_PATH={wish:?} has to be within {builds_dir:?}"));
            }
        }
    }
    let mut temp_dir = directory.clone().into_os_string();
    temp_dir.push(".tmp");
    let place = Place { builds_dir: builds_dir.to_owned(), project_dir: directory, temp_dir: temp_dir.into() };
    (variables, place, refusal)
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

/// Adds variables that were learned on the way, secrets say: values that name them hold them, too.
pub(super) fn learn(context: &mut Context, learned: Vec<Variable>) {
    learned.into_iter().for_each(|variable| context.job.variables.push(variable));
    // The first is ours; a job may have set it anew behind that.
    let short_token = context.variables.iter().find(|variable| variable.key == "CI_RUNNER_SHORT_TOKEN");
    let build_place = BuildPlace {
        builds_dir: context.place.builds_dir.to_string_lossy().into_owned(),
        short_token: short_token.map(|variable| variable.value.clone()).unwrap_or_default(),
        environment: context.settings.environment.clone(),
        feature_flags: context.settings.feature_flags.clone(),
    };
    let directory = context.place.project_dir.to_string_lossy();
    context.variables = job_variables_in(&context.job, &build_place, &directory);
    // What is to be warned of was told before.
    apply(&context.settings, &mut context.variables);
    context.environment = environment(&context.variables, &context.place.temp_dir);
}

/// Every variable, file variables as paths.
fn environment(variables: &Variables, temp_dir: &Path) -> BTreeMap<String, String> {
    let pairs = variables.iter().map(|variable| match variable.file {
        true => (variable.key.clone(), file_variables::path(temp_dir, &variable.key)),
        false => (variable.key.clone(), variable.value.clone()),
    });
    // Nobody replaces this one: it is exported behind all others.
    let gitlab_env = ("GITLAB_ENV".to_owned(), file_variables::gitlab_env_path(temp_dir));
    pairs.chain([gitlab_env]).collect()
}

fn log_settings(job: &Job, variables: &Variables, answer: &OpenAnswer) -> LogSettings {
    LogSettings {
        masking: Masking::of(job, variables),
        sections: job.features.trace_sections,
        timestamps: variables.flag("FF_TIMESTAMPS", true),
        begun: answer.trace.as_bytes().to_vec(),
        limit: answer.settings.output_limit.map(|kib| usize::try_from(kib << 10).unwrap_or(usize::MAX)),
    }
}

/// The certificates of every `CI_SERVER_TLS_CA_FILE`, since whoever sets it anew must not cut us off from GitLab; and a
/// sentence for each that is damaged.
pub(super) fn trust(variables: &Variables) -> (Vec<u8>, Vec<String>) {
    let (mut trust, mut warnings) = (Vec::new(), Vec::new());
    for file in
        variables.iter().filter(|variable| variable.key == CA_FILE && variable.file && !variable.value.is_empty())
    {
        match holds_certificates(file.value.as_bytes()) {
            true => trust.extend_from_slice(format!("{}\n", file.value).as_bytes()),
            false => {
                warnings.push(format!("`{CA_FILE}` holds no certificate in PEM that can be read: it is not trusted"))
            }
        }
    }
    (trust, warnings)
}

/// Trusts what GitLab's own jobs trust.
fn http(trust: &[u8], silence: Option<Duration>) -> Result<Client, HttpError> {
    http_client_with(Sender::Helper, trust, |builder| match silence {
        Some(silence) => builder.read_timeout(silence),
        None => builder,
    })
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;

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
            timeline: Default::default(),
            task: None,
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
        // The text is the job's to change, the directory is not.
        assert_eq!(get("CI_PROJECT_DIR"), Some("/etc"));
        assert_eq!(setup.context.place.project_dir, PathBuf::from("/builds/group/app"));
        assert_eq!(get("RUNNER_TEMP_PROJECT_DIR"), Some("/builds/group/app.tmp"));
        assert_eq!(get("GITLAB_ENV"), Some("/builds/group/app.tmp/gitlab_runner_env"));
        assert_eq!(get("CERT"), Some("/builds/group/app.tmp/CERT"));
        assert_eq!((get("A"), get("SECRET")), (Some("b"), Some("hunter2b")));
        assert_eq!((setup.timeout, setup.refusal), (Duration::from_secs(60), None));
        let encoded = BASE64_STANDARD.encode("gitlab-ci-token:glcbt-secret");
        setup.context.log.line(&format!("hunter2b hunter2$B glcbt-secret {encoded}"));
        let log = String::from_utf8(setup.context.log.contents().to_vec()).unwrap();
        assert!(log.starts_with("before\n") && log.ends_with(" [MASKED] [MASKED] [MASKED] [MASKED]\n"), "{log}");
    }

    #[test]
    fn a_damaged_certificate_is_told_and_not_trusted() {
        let good = include_str!("testing/ca.pem");
        let file = |value: &str| json!({"key": CA_FILE, "value": value, "file": true});
        for (definitions, damaged) in [
            (json!([file(good)]), 0),
            (json!([file(good), {"key": CA_FILE, "value": "/etc/ssl/mine.pem"}]), 0),
            (json!([file("rubbish"), file(good)]), 1),
            (json!([file(&good.replace("MII", "AAA"))]), 1),
            (json!([file("")]), 0),
        ] {
            let setup = set_up_with(definitions.clone());
            assert_eq!(setup.warnings.len(), damaged, "{definitions}: {:?}", setup.warnings);
        }
        let (trust, _) = trust(&set_up_with(json!([file(good), file("rubbish")])).context.variables);
        assert_eq!(String::from_utf8(trust).unwrap().trim(), good.trim());
    }

    #[test]
    fn the_runners_certificates_are_trusted_and_the_job_gets_them_as_a_file() {
        let good = include_str!("testing/ca.pem");
        let settings = || RunnerSettings { tls_ca: Some(good.into()), ..RunnerSettings::default() };
        for (variables, environment) in [
            (json!([]), "/builds/group/app.tmp/CI_SERVER_TLS_CA_FILE"),
            (json!([{"key": CA_FILE, "value": "/etc/ssl/mine.pem"}]), "/etc/ssl/mine.pem"),
        ] {
            let setup = set_up_by(settings(), variables);
            let (trust, warnings) = trust(&setup.context.variables);
            assert_eq!((String::from_utf8(trust).unwrap().trim(), warnings.len()), (good.trim(), 0));
            assert_eq!(setup.context.environment[CA_FILE], environment);
        }
    }

    #[test]
    fn settings_that_cannot_be_read_are_one_warning() {
        let setup = set_up_with(json!([{"key": "GIT_CHECKOUT", "value": "x"}, {"key": "FF_CONCRETE", "value": "x"}]));
        assert_eq!(setup.warnings.len(), 1);
        assert_eq!(setup.warnings[0].lines().count(), 2, "{:?}", setup.warnings);
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
