//! Owns how git reaches the job's repositories: by configuration in the environment, so that no file ever holds a token
//! (runner-behaviour.md §4.4).

use std::collections::BTreeMap;

use secrecy::ExposeSecret;
use url::Url;

use super::context::Context;

/// Answers git with the job token from the environment. Needs a POSIX shell, as git itself does.
const CREDENTIAL_HELPER: &str =
    r#"!f() { if test "$1" = get; then printf 'username=gitlab-ci-token\npassword=%s\n' "$CI_JOB_TOKEN"; fi; }; f"#;

/// Git configuration that stands in a child's environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Configuration(Vec<(String, String)>);

/// The job's repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Remote {
    /// Without user and password.
    pub url: String,
    /// `scheme://host[:port]` of an HTTP URL.
    pub origin: Option<String>,
    /// Where the instance is: the origin, and the path below which it has its projects.
    base: Option<String>,
}

impl Remote {
    /// Of `context`'s job; `None` when GitLab sent no URL.
    pub(super) fn of(context: &Context) -> Option<Remote> {
        let mut url: Url = context.job.git.repo_url.expose_secret().parse().ok()?;
        // Only a URL without a host cannot have its user taken away, and it has none.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        if let Some(base) = &context.settings.clone_url {
            url = format!("{}{}", base.trim_end_matches('/'), url.path()).parse().ok()?;
        }
        let is_http = matches!(url.scheme(), "http" | "https");
        let origin = is_http.then(|| url.origin().ascii_serialization());
        // The first is GitLab's own.
        let project = context.job.variables.iter().find(|variable| variable.key == "CI_PROJECT_PATH");
        let project = project.map(|variable| format!("/{}.git", variable.value));
        let below = project.and_then(|project| url.path().strip_suffix(&project)).unwrap_or_default();
        let base = origin.as_ref().map(|origin| format!("{origin}{below}"));
        Some(Remote { url: url.into(), origin, base })
    }
}

impl Configuration {
    /// What every git of the job needs, the helper's and the scripts'.
    pub(super) fn shared(context: &Context) -> Self {
        let mut all = Configuration::default();
        let directory = context.place.project_dir.display();
        all.add("safe.directory", directory.to_string());
        all.add("safe.directory", format!("{directory}/*"));
        let Some(Remote { origin: Some(origin), base: Some(base), .. }) = Remote::of(context) else { return all };
        let url = context.job.git.repo_url.expose_secret().parse().ok();
        let gitlab = url.map(|url: Url| url.origin().ascii_serialization()).filter(|other| *other != origin);
        // With a `clone_url` submodules may still lie where GitLab says.
        for origin in gitlab.iter().chain([&origin]) {
            all.add(&format!("credential.{origin}.helper"), CREDENTIAL_HELPER);
            all.add(&format!("credential.{origin}.useHttpPath"), "false");
        }
        for (variable, key) in [
            ("CI_SERVER_TLS_CA_FILE", "sslCAInfo"),
            ("CI_SERVER_TLS_CERT_FILE", "sslCert"),
            ("CI_SERVER_TLS_KEY_FILE", "sslKey"),
        ] {
            if let Some(path) = context.environment.get(variable).filter(|path| !path.is_empty()) {
                all.add(&format!("http.{origin}.{key}"), path);
            }
        }
        if context.variables.flag("GIT_SUBMODULE_FORCE_HTTPS", false) {
            all.force_https(context, &origin, &base);
        }
        all
    }

    /// Adds a value; of two with one key both count where git reads all, else the last.
    pub(super) fn add(&mut self, key: &str, value: impl Into<String>) {
        self.0.push((key.to_owned(), value.into()));
    }

    /// What to add to `environment`; entries that the job's own variables make this way stay.
    pub(super) fn environment(&self, environment: &BTreeMap<String, String>) -> Vec<(String, String)> {
        let own = environment.get("GIT_CONFIG_COUNT").and_then(|count| count.parse::<usize>().ok());
        // A count without its keys is an error to git: it is no count of ours.
        let has = |kind: &str, i: usize| environment.contains_key(&format!("GIT_CONFIG_{kind}_{i}"));
        let is_whole = |count: &usize| *count <= 1000 && (0..*count).all(|i| has("KEY", i) && has("VALUE", i));
        let first = own.filter(is_whole).unwrap_or(0);
        let mut environment = vec![("GIT_CONFIG_COUNT".to_owned(), (first + self.0.len()).to_string())];
        for (i, (key, value)) in self.0.iter().enumerate() {
            environment.push((format!("GIT_CONFIG_KEY_{}", first + i), key.clone()));
            environment.push((format!("GIT_CONFIG_VALUE_{}", first + i), value.clone()));
        }
        environment
    }

    /// `git@host:` and `ssh://git@host/` become `https://host/`; where SSH has a port of its own, `ssh://git@host:port/`
    /// alone.
    fn force_https(&mut self, context: &Context, origin: &str, base: &str) {
        let value = |name: &str| context.variables.get(name).filter(|value| !value.is_empty());
        let host = match value("CI_SERVER_SHELL_SSH_HOST").or_else(|| value("CI_SERVER_HOST")) {
            Some(host) => host.to_owned(),
            None => origin.parse::<Url>().ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default(),
        };
        let key = format!("url.{base}/.insteadOf");
        match value("CI_SERVER_SHELL_SSH_PORT").filter(|port| *port != "22") {
            Some(port) => self.add(&key, format!("ssh://git@{host}:{port}/")),
            None => {
                self.add(&key, format!("git@{host}:"));
                self.add(&key, format!("ssh://git@{host}/"));
            }
        }
    }
}

/// What to add to a script's `environment`: with it git there reaches the job's repositories, as git in the helper does.
pub fn git_environment(context: &Context, environment: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let mut added = Configuration::shared(context).environment(environment);
    if !environment.contains_key("CI_JOB_TOKEN") {
        added.push(("CI_JOB_TOKEN".to_owned(), context.job.token.expose_secret().to_owned()));
    }
    added
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::testing::{Job, context};
    use serde_json::json;

    fn configuration(job: Job) -> Vec<(String, String)> {
        Configuration::shared(&context(job)).0
    }

    #[test]
    fn the_remote_has_no_token_and_the_helper_is_for_its_host_alone() {
        let job =
            Job::new(json!({"git_info": {"repo_url": "https://gitlab-ci-token:glcbt-1@gitlab.test:8443/g/p.git"}}));
        let context = context(job);
        let remote = Remote::of(&context).unwrap();
        assert_eq!(remote.url, "https://gitlab.test:8443/g/p.git");
        let environment = git_environment(&context, &context.environment);
        let helper = environment.iter().find(|(_, value)| value == "credential.https://gitlab.test:8443.helper");
        assert!(helper.is_some(), "{environment:?}");
        let held: Vec<_> = environment.iter().filter(|(_, value)| value.contains("glcbt-1")).collect();
        assert!(held.iter().all(|(key, _)| key == "CI_JOB_TOKEN") && held.len() <= 1);
    }

    #[test]
    fn a_clone_url_replaces_host_and_scheme_and_both_hosts_get_the_token() {
        let job = Job::new(json!({"git_info": {"repo_url": "https://gitlab-ci-token:glcbt-1@gitlab.test/g/p.git"}}));
        let mut context = context(job);
        context.settings.clone_url = Some("http://10.0.0.1:8080/git/".into());
        assert_eq!(Remote::of(&context).unwrap().url, "http://10.0.0.1:8080/git/g/p.git");
        let all = Configuration::shared(&context).0;
        for origin in ["http://10.0.0.1:8080", "https://gitlab.test"] {
            assert!(all.iter().any(|(key, _)| *key == format!("credential.{origin}.helper")), "{all:?}");
        }
    }

    #[test]
    fn the_jobs_own_git_configuration_stays() {
        let job = Job::new(json!({}))
            .variable("GIT_CONFIG_COUNT", "1")
            .variable("GIT_CONFIG_KEY_0", "user.name")
            .variable("GIT_CONFIG_VALUE_0", "me");
        let context_of = context;
        let context = context_of(job);
        let environment = git_environment(&context, &context.environment);
        assert!(environment.contains(&("GIT_CONFIG_KEY_1".into(), "safe.directory".into())), "{environment:?}");
        assert!(!environment.iter().any(|(key, _)| key == "GIT_CONFIG_KEY_0"));
        let context = context_of(Job::new(json!({})).variable("GIT_CONFIG_COUNT", "3"));
        assert!(git_environment(&context, &context.environment).iter().any(|(key, _)| key == "GIT_CONFIG_KEY_0"));
    }

    #[test]
    fn submodules_over_ssh_become_https_when_the_job_says_so() {
        let job = |url: &str| {
            let path = json!([{"key": "CI_PROJECT_PATH", "value": "g/p"}]);
            Job::new(json!({"git_info": {"repo_url": url}, "variables": path}))
        };
        assert!(!configuration(job("https://gitlab.test/g/p.git")).iter().any(|(key, _)| key.contains("insteadOf")));
        let both = &["git@gitlab.test:", "ssh://git@gitlab.test/"][..];
        for (url, variables, base, expected) in [
            ("https://gitlab.test/g/p.git", &[][..], "https://gitlab.test/", both),
            ("https://gitlab.test/g/p.git", &[("CI_SERVER_SHELL_SSH_PORT", "22")], "https://gitlab.test/", both),
            (
                "https://gitlab.test:8443/git/lab/g/p.git",
                &[("CI_SERVER_SHELL_SSH_PORT", "2222"), ("CI_SERVER_HOST", "no")],
                "https://gitlab.test:8443/git/lab/",
                &["ssh://git@no:2222/"],
            ),
            (
                "https://gitlab.test/g/p.git",
                &[("CI_SERVER_SHELL_SSH_HOST", "ssh.test")],
                "https://gitlab.test/",
                &["git@ssh.test:", "ssh://git@ssh.test/"],
            ),
        ] {
            let forced = job(url).variable("GIT_SUBMODULE_FORCE_HTTPS", "true");
            let forced = variables.iter().fold(forced, |job, (key, value)| job.variable(key, value));
            let all = configuration(forced);
            let rules: Vec<_> = all.iter().filter(|(key, _)| key.contains("insteadOf")).collect();
            assert!(rules.iter().all(|(key, _)| *key == format!("url.{base}.insteadOf")), "{rules:?}");
            let from: Vec<_> = rules.iter().map(|(_, value)| value.as_str()).collect();
            assert_eq!(from, expected, "{variables:?}");
        }
    }

    #[test]
    fn the_servers_certificate_is_trusted_for_the_server_alone() {
        let job = Job::new(json!({"git_info": {"repo_url": "https://gitlab.test/g/p.git"}}))
            .variable("CI_SERVER_TLS_CA_FILE", "/builds/g/p.tmp/CI_SERVER_TLS_CA_FILE");
        let all = configuration(job);
        let expected = "/builds/g/p.tmp/CI_SERVER_TLS_CA_FILE";
        assert!(all.contains(&("http.https://gitlab.test.sslCAInfo".into(), expected.into())), "{all:?}");
    }
}
