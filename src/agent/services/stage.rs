//! Makes the services ready before the script, and tells afterwards which of them ended.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use futures::future::join_all;
use secrecy::ExposeSecret;

use crate::agent::context::Context;
use crate::agent::link::Link;
use crate::agent::log::JobLog;
use crate::agent::metadata;
use crate::plan::{Readiness, ServiceFacts, ServiceFailure, service_facts, service_warning};

use super::hosts;
use super::ready::{Ready, wait};

/// As long as Kubernetes' pods may take to be ready (`poll_timeout`), where the job itself names the port.
const PATIENCE_IF_ASKED: Duration = Duration::from_secs(180);

/// One service, as the script meets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Watched {
    /// Its container in the task.
    pub(super) container: String,
    pub(super) facts: ServiceFacts,
    /// Its output stands in the log (`CI_DEBUG_SERVICES`).
    shown: bool,
}

/// Where the helper itself has to find AWS and nobody else.
const AWS: [&str; 3] = [".amazonaws.com", ".amazonaws.com.cn", ".on.aws"];

/// The services of one job.
#[derive(Clone, Debug, Default)]
pub(in crate::agent) struct Services {
    pub(super) all: Vec<Watched>,
    /// Hosts that the helper needs: no service may take their place there.
    needed: Vec<String>,
}

impl Services {
    /// Those of the job. Which aliases are no names has been said before: such a job was refused.
    pub(in crate::agent) fn of(context: &Context) -> Services {
        let facts = service_facts(&context.job, &context.variables).unwrap_or_default();
        let shown = context.variables.flag("CI_DEBUG_SERVICES", false);
        let watched = |(index, facts)| Watched { container: format!("svc-{index}"), facts, shown };
        let url = |text: &str| url::Url::parse(text).ok()?.host_str().map(str::to_owned);
        let sources =
            [url(context.job.git.repo_url.expose_secret()), context.settings.clone_url.as_deref().and_then(url)];
        let spoken = [context.gitlab.host(), context.broker.host()].map(str::to_owned);
        Services {
            all: facts.into_iter().enumerate().map(watched).collect(),
            needed: sources.into_iter().flatten().chain(spoken).collect(),
        }
    }

    /// Gives the services their names and waits for them, telling in `log` what it does. What it adds to the script's
    /// environment comes back.
    pub(in crate::agent) async fn prepare(&self, build: &mut Link, log: &JobLog) -> BTreeMap<String, String> {
        if self.all.is_empty() {
            return BTreeMap::new();
        }
        let names: Vec<String> = self.all.iter().flat_map(|service| service.facts.names.iter().cloned()).collect();
        let (own, taken): (Vec<String>, Vec<String>) = names.iter().cloned().partition(|name| !self.is_needed(name));
        if !taken.is_empty() {
            log.runner_warning(&format!(
                "the services' names {} lead to them in the job's container only: Mayfly itself needs these hosts",
                taken.join(", ")
            ));
        }
        if let Err(error) = hosts::add(Path::new("/etc/hosts"), &own) {
            tracing::warn!(%error, "the helper does not know the services' names");
        }
        let environment = name_in_build(&names, build, log).await;
        let waits = self.all.iter().filter(|service| !service.facts.readiness.ports().is_empty());
        if let Some(longest) = waits.map(Watched::patience).max() {
            let seconds = longest.as_secs();
            log.line(&format!("Waiting for services to be up and running (timeout {seconds} seconds)..."));
            join_all(self.all.iter().map(|service| service.wait(log))).await;
        }
        environment
    }

    fn is_needed(&self, name: &str) -> bool {
        self.needed.iter().any(|host| host == name) || AWS.iter().any(|end| name.ends_with(end))
    }

    /// Says which services have failed: a script that found nobody wants to know why.
    pub(in crate::agent) async fn tell_ends(&self, log: &JobLog) {
        if self.all.is_empty() {
            return;
        }
        let containers = metadata::containers().await;
        for service in &self.all {
            let container = containers.iter().find(|container| container.name == service.container);
            if let Some(code) = container.and_then(|container| container.exit_code).filter(|code| *code != 0) {
                log.runner_warning(&format!("{}; {}", service.ended(code), service.where_its_output_is()));
            }
        }
    }
}

async fn name_in_build(names: &[String], build: &mut Link, log: &JobLog) -> BTreeMap<String, String> {
    match build.name_services(names).await {
        Ok(true) => return BTreeMap::new(),
        Ok(false) => {}
        // The script will meet a lost build, and say so.
        Err(error) => {
            tracing::warn!(%error, "build was not told the services' names");
            return BTreeMap::new();
        }
    }
    let variables = hosts::variables(names);
    // The last ones are aliases, which people know.
    let examples: Vec<&str> = variables.iter().rev().map(|(name, _)| name.as_str()).take(3).collect();
    log.runner_warning(&format!(
        "the image's user may not write /etc/hosts, so the services' names are not known there: they are at 127.0.0.1; \
         so says {}",
        examples.join(", ")
    ));
    variables.into_iter().collect()
}

impl Watched {
    fn is_asked(&self) -> bool {
        matches!(self.facts.readiness, Readiness::Asked(_))
    }

    fn patience(&self) -> Duration {
        if self.is_asked() { PATIENCE_IF_ASKED } else { Readiness::PATIENCE }
    }

    /// What people call it.
    pub(super) fn title(&self) -> &str {
        self.facts.aliases.first().or(self.facts.names.first()).unwrap_or(&self.facts.image)
    }

    fn where_its_output_is(&self) -> &'static str {
        match self.shown {
            true => "its output follows as lines that begin with `[service:`",
            false => "`CI_DEBUG_SERVICES: \"true\"` shows its output",
        }
    }

    fn ended(&self, code: i64) -> String {
        format!(
            "the container of service \"{}\" (image {}) ended with exit code {code}",
            self.title(),
            self.facts.image
        )
    }

    async fn wait(&self, log: &JobLog) {
        let ports = self.facts.readiness.ports();
        if ports.is_empty() {
            return;
        }
        let ended = || async {
            let all = metadata::containers().await;
            all.into_iter().find(|container| container.name == self.container)?.exit_code
        };
        let mut checks = String::new();
        // The lines of GitLab Runner's health check: told at once where the job asked for it, else only when it fails.
        let mut tell = |line: String| match self.is_asked() {
            true => log.line(&line),
            false => checks.push_str(&(line + "\n")),
        };
        let list: Vec<String> = ports.iter().map(u16::to_string).collect();
        tell(format!("waiting for TCP connection to localhost on [{}]...", list.join(" ")));
        let ready = wait(ports, self.patience(), ended, |port, answers| match answers {
            false => tell(format!("dialing localhost:{port}...")),
            true => tell(format!("dial succeeded on localhost:{port}. Exiting...")),
        });
        let error = match ready.await {
            Ready::Answers => return,
            Ready::Ended(code) => self.ended(code),
            Ready::TooLate(port) => {
                let seconds = self.patience().as_secs();
                format!("service \"{}\" timeout: nothing answers on port {port} after {seconds} seconds", self.title())
            }
        };
        let output = self.where_its_output_is();
        let failure = ServiceFailure { service: self.title(), error: &error, checks: checks.trim_end(), output };
        log.line(service_warning(failure).trim_end_matches('\n'));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_service_takes_the_place_of_a_host_that_the_helper_needs() {
        let services = Services { needed: vec!["gitlab.test".into()], ..Services::default() };
        for (name, needed) in [
            ("gitlab.test", true),
            ("s3.eu-central-1.amazonaws.com", true),
            ("abc.lambda-url.us-east-1.on.aws", true),
            ("db", false),
            ("my.gitlab.test", false),
        ] {
            assert_eq!(services.is_needed(name), needed, "{name}");
        }
    }
}
