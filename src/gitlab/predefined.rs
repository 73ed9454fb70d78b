//! Owns the variables that a runner adds to a job, in GitLab Runner's order (runner-behaviour.md §3.7).

use std::collections::BTreeMap;

use secrecy::ExposeSecret;
use url::Url;

use super::feature_flags::{is_flag, resolved};
use super::{Job, Variable, Variables};

/// Where a job is built, and by whom.
#[derive(Clone, Debug, Default)]
pub struct BuildPlace {
    /// The volume for all projects: `/builds` in a task.
    pub builds_dir: String,
    /// The runner's short token.
    pub short_token: String,
    /// `KEY=VALUE` of the runner's configuration.
    pub environment: Vec<String>,
    /// Flags of the runner's configuration: no job can change them.
    pub feature_flags: BTreeMap<String, bool>,
}

impl BuildPlace {
    /// The configuration's variables, for all to see as a container's environment is.
    fn environment(&self) -> impl Iterator<Item = Variable> {
        let pairs = self.environment.iter().filter_map(|entry| entry.split_once('='));
        pairs.map(|(key, value)| Variable { raw: false, ..Variable::public(key, value) })
    }
}

/// The directory that a job is built in: `<builds_dir>/<namespace>/<project>`.
///
/// The path comes from the clone URL, which GitLab makes; parts that could lead elsewhere are left out.
pub fn project_directory(job: &Job, builds_dir: &str) -> String {
    let url = Url::parse(job.git.repo_url.expose_secret()).ok();
    let path = url.as_ref().map(Url::path).unwrap_or_default().trim_end_matches('/').trim_end_matches(".git");
    let safe = |part: &&str| !part.is_empty() && !part.starts_with('.') && part.bytes().all(is_path_byte);
    let parts: Vec<&str> = path.split('/').filter(safe).collect();
    let parts = if parts.is_empty() { format!("project-{}", job.info.project_id) } else { parts.join("/") };
    format!("{}/{parts}", builds_dir.trim_end_matches('/'))
}

/// All variables of `job` as they are looked up, expanded: the flags, the runner's, the job's, and those that a job cannot
/// replace.
pub fn job_variables(job: &Job, place: &BuildPlace) -> Variables {
    job_variables_in(job, place, &project_directory(job, &place.builds_dir))
}

/// The same for a job that is built in `directory` (`GIT_CLONE_PATH`).
pub fn job_variables_in(job: &Job, place: &BuildPlace, directory: &str) -> Variables {
    let said = unexpanded(job, place, directory);
    // Of each flag there is one definition, and that is a bool.
    let others = said.iter().filter(|variable| !is_flag(&variable.key)).cloned();
    let all: Variables = resolved(&said.expanded()).chain(others).collect();
    all.expanded()
}

fn unexpanded(job: &Job, place: &BuildPlace, directory: &str) -> Variables {
    let timeout = job.runner.timeout.unwrap_or(DEFAULT_TIMEOUT_SECONDS);
    let mut all = Variables::default();
    let mut add = |key: &str, value: &str| all.push(Variable::public(key, value));
    add("CI_RUNNER_SHORT_TOKEN", &place.short_token);
    place.environment().for_each(|variable| all.push(variable));
    let mut add = |key: &str, value: &str| all.push(Variable::public(key, value));
    add("CI_BUILDS_DIR", &place.builds_dir);
    add("CI_PROJECT_DIR", directory);
    add("CI_CONCURRENT_ID", "0");
    add("CI_CONCURRENT_PROJECT_ID", "0");
    add("CI_SERVER", "yes");
    add("CI_JOB_STATUS", "running");
    add("CI_JOB_TIMEOUT", &timeout.to_string());

    for variable in job.variables.iter() {
        all.push(variable.clone());
    }

    let mut add = |key: &str, value: &str| all.push(Variable::public(key, value));
    add("CI_DISPOSABLE_ENVIRONMENT", "true");
    add("CI_RUNNER_VERSION", env!("CARGO_PKG_VERSION"));
    add("CI_RUNNER_REVISION", "mayfly");
    add("CI_RUNNER_EXECUTABLE_ARCH", executable_arch());
    add("RUNNER_TEMP_PROJECT_DIR", &format!("{directory}.tmp"));
    place.feature_flags.iter().for_each(|(flag, on)| add(flag, if *on { "true" } else { "false" }));
    let Some(image) = &job.image else { return all };
    // The image's name sees the values of variables, not what these are made of.
    let image = Variable::public("CI_JOB_IMAGE", all.expanded().expand(&image.name));
    [image].into_iter().chain(all.iter().cloned()).collect()
}

/// The timeout of a job whose claim names none (runner-behaviour.md §1.1).
pub(crate) const DEFAULT_TIMEOUT_SECONDS: u64 = 7200;

fn executable_arch() -> &'static str {
    if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" }
}

fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(repo_url: &str) -> Job {
        let body = serde_json::json!({
            "id": 1, "token": "t", "git_info": {"repo_url": repo_url}, "job_info": {"project_id": 9},
            "variables": [{"key": "CI_PROJECT_DIR", "value": "/mine"}, {"key": "CI_RUNNER_VERSION", "value": "mine"}],
        });
        Job::read(body.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn a_project_lies_below_the_builds_directory_whatever_its_url_says() {
        for (url, expected) in [
            ("https://gitlab-ci-token:x@gitlab.test/group/sub/app.git", "/builds/group/sub/app"),
            ("https://gitlab.test/../../etc/passwd.git", "/builds/etc/passwd"),
            ("https://gitlab.test/a/b;c/.git", "/builds/a"),
            ("no url", "/builds/project-9"),
        ] {
            assert_eq!(project_directory(&job(url), "/builds"), expected, "{url}");
        }
    }

    #[test]
    fn a_job_can_replace_the_first_variables_and_not_the_last() {
        let place = BuildPlace { builds_dir: "/builds".into(), short_token: "abc".into(), ..BuildPlace::default() };
        let all = job_variables(&job("https://gitlab.test/g/p.git"), &place);
        assert_eq!(all.get("CI_PROJECT_DIR"), Some("/mine"));
        assert_eq!(all.get("CI_RUNNER_VERSION"), Some(env!("CARGO_PKG_VERSION")));
        assert_eq!(all.get("RUNNER_TEMP_PROJECT_DIR"), Some("/builds/g/p.tmp"));
        assert_eq!(all.get("FF_TIMESTAMPS"), Some("true"));
    }

    #[test]
    fn what_is_looked_up_is_expanded_once_flags_included() {
        let body = serde_json::json!({
            "id": 1, "token": "t", "git_info": {"repo_url": "https://gitlab.test/g/p.git"},
            "image": {"name": "alpine:$TAG"}, "variables": [
                {"key": "TAG", "value": "$CI_COMMIT_REF_SLUG"}, {"key": "CI_COMMIT_REF_SLUG", "value": "main"},
                {"key": "NO", "value": "false"}, {"key": "FF_TIMESTAMPS", "value": "$NO"},
                {"key": "CERT", "value": "pem", "file": true}, {"key": "WHERE", "value": "$CERT in $CI_BUILDS_DIR"},
            ],
        });
        let job = Job::read(body.to_string().as_bytes()).unwrap();
        let all = job_variables(&job, &BuildPlace { builds_dir: "/builds".into(), ..BuildPlace::default() });
        for (key, value) in [
            ("CI_JOB_IMAGE", "alpine:main"),
            ("FF_TIMESTAMPS", "false"),
            ("CERT", "pem"),
            ("WHERE", "/builds/g/p.tmp/CERT in /builds"),
        ] {
            assert_eq!(all.get(key), Some(value), "{key}");
        }
        assert_eq!(all.expand("$TAG $CERT"), "main /builds/g/p.tmp/CERT");
        assert_eq!(all.iter().filter(|variable| variable.key == "FF_TIMESTAMPS").count(), 1);
    }

    #[test]
    fn a_job_wins_over_the_runners_variables_and_never_over_its_flags() {
        let mut job = job("https://gitlab.test/g/p.git");
        for (key, value) in [("MINE", "job"), ("FF_TIMESTAMPS", "true")] {
            job.variables.push(Variable::public(key, value));
        }
        let environment = ["MINE=runner", "OTHER=$MINE=x", "CI_SERVER=no", "FF_USE_DIRECT_DOWNLOAD=0"];
        let place = BuildPlace {
            builds_dir: "/builds".into(),
            environment: environment.map(str::to_owned).to_vec(),
            feature_flags: BTreeMap::from([("FF_TIMESTAMPS".to_owned(), false)]),
            ..BuildPlace::default()
        };
        let all = job_variables(&job, &place);
        for (key, value) in [
            ("MINE", "job"),
            ("OTHER", "job=x"),
            ("CI_SERVER", "yes"),
            ("FF_USE_DIRECT_DOWNLOAD", "false"),
            ("FF_TIMESTAMPS", "false"),
        ] {
            assert_eq!(all.get(key), Some(value), "{key}");
        }
    }
}
