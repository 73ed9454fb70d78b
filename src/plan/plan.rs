//! Turns a claimed job into a task plan.
//!
//! Pure: no clock, no network, no AWS types. The same job, labels and fleet always give the same plan, so that a
//! repeated `RunTask` repeats the first one exactly.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::config::{Fleet, JobSettings, Runner};
use crate::gitlab::{BuildPlace, Job, Variables, job_variables};

use super::ask::{Ask, AskError, ask};
use super::container::{BuildPlan, ContainerError, Rules, ServicePlan, build_container, platform, services};
use super::environment::{EnvironmentError, service_environment};
use super::host_socket::no_host_socket;
use super::labels::{LabelError, Labels};
use super::memory::{MemorySplit, split_memory};
use super::price::price_per_minute;
use super::registries::unused_credentials;
use super::size::TaskSize;

const NO_LOG_GROUP: &str = "\x1b[0;33mWARNING: CI_DEBUG_SERVICES shows nothing: this deployment keeps no logs (`log_group` in \
                            the fleet's `[tasks]`)\x1b[0;m";

/// A processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// x86-64.
    #[default]
    Amd64,
    /// Graviton.
    Arm64,
}

/// A task in our words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// A legal Fargate size.
    pub size: TaskSize,
    /// 21 to 200; `None` for the 20 GiB that come with every task.
    pub disk_gib: Option<u32>,
    /// The processor of every container.
    pub arch: Arch,
    /// Spot in the first attempt.
    pub spot: bool,
    /// Who gets how much of the memory.
    pub memory: MemorySplit,
    /// Where the scripts run.
    pub build: BuildPlan,
    /// What runs beside them.
    pub services: Vec<ServicePlan>,
    /// What the services write is kept, for the job's log: `CI_DEBUG_SERVICES`.
    #[serde(default)]
    pub service_logs: bool,
    /// Lines for the job's log: what was asked, what was given, why, and the price.
    pub words: Vec<String>,
}

/// Why a job cannot be planned: a sentence for its log.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PlanError {
    /// Its tags contradict each other.
    #[error(transparent)]
    Label(#[from] LabelError),
    /// Its size.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// Its image or services.
    #[error(transparent)]
    Container(#[from] ContainerError),
    /// What a service would be told.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// The services take it all.
    #[error("{services} services leave no memory for the script in {size}: ask for more with a `mem-` tag")]
    NoMemory {
        /// How many.
        services: usize,
        /// The task's size.
        size: TaskSize,
    },
    /// No agent was uploaded for this processor.
    #[error(
        "this deployment has no agent for {0} processors, for it was built without that target: ask for the other \
         processor, or deploy a release that was built with it"
    )]
    NoAgent(Arch),
}

/// Plans the Fargate task that will run `job`, which carries `tags` and was claimed by `runner`.
///
/// # Errors
/// See [`PlanError`]; the job fails with that sentence as its author's mistake.
pub fn plan(job: &Job, tags: &[String], fleet: &Fleet, runner: &Runner) -> Result<Plan, PlanError> {
    let settings = fleet.settings_for(runner);
    let variables = job_variables(job, &build_place(&settings, ""));
    let labels = Labels::read(tags.iter().map(String::as_str))?;
    let ask = ask(&labels, &variables, &job.services, &fleet.size_for(runner), &settings)?;
    let ask = with_platform(ask, &labels, job, &variables)?;
    let rules = Rules { images: &fleet.images, settings: &settings };
    let build = build_container(job, &variables, rules)?;
    let services = services(job, &variables, rules)?;
    no_host_socket(job, &variables)?;
    job.services.iter().try_for_each(|service| service_environment(&variables, service).map(drop))?;
    let memory = split_memory(ask.size, services.len(), ask.service_memory, ask.helper_memory.as_ref())
        .ok_or(PlanError::NoMemory { services: services.len(), size: ask.size })?;
    if !fleet.broker.agents.contains_key(&ask.arch.to_string()) {
        return Err(PlanError::NoAgent(ask.arch));
    }
    let without = services.iter().map(|service| (&service.image, &service.credentials));
    let without = without.chain([(&build.image, &build.credentials)]).filter(|(_, credentials)| credentials.is_none());
    let without: Vec<&str> = without.map(|(image, _)| image.as_str()).collect();
    let mut words = words(&ask, memory, &build, &fleet.region);
    let warnings = unused_credentials(job, &variables, &without).into_iter();
    words.extend(warnings.map(|warning| format!("\x1b[0;33mWARNING: {warning}\x1b[0;m")));
    let debug = variables.flag("CI_DEBUG_SERVICES", false) && !settings.debug_trace_disabled.unwrap_or_default();
    let wants_logs = debug && !services.is_empty();
    if wants_logs && fleet.tasks.log_group.is_none() {
        words.push(NO_LOG_GROUP.to_owned());
    }
    let service_logs = wants_logs && fleet.tasks.log_group.is_some();
    let Ask { size, disk_gib, arch, spot, .. } = ask;
    Ok(Plan { size, disk_gib, arch, spot, memory, build, services, service_logs, words })
}

/// Where the job of a runner with these settings is built.
pub fn build_place(settings: &JobSettings, short_token: &str) -> BuildPlace {
    BuildPlace {
        builds_dir: "/builds".into(),
        short_token: short_token.into(),
        environment: settings.environment.clone().unwrap_or_default(),
        feature_flags: settings.feature_flags.clone().unwrap_or_default(),
    }
}

impl PlanError {
    /// What the log says before the job's last line.
    pub fn words(&self) -> Vec<String> {
        match self {
            PlanError::Container(ContainerError::Disallowed(error)) => error.words(),
            _ => Vec::new(),
        }
    }
}

/// `image:docker:platform` decides where neither a tag nor a variable does.
fn with_platform(ask: Ask, labels: &Labels, job: &Job, variables: &Variables) -> Result<Ask, ContainerError> {
    let Some(platform) = platform(job, variables)? else { return Ok(ask) };
    let is_selector = |key: &str| key == "MAYFLY_ARCH" || key.starts_with("KUBERNETES_NODE_SELECTOR_");
    let said = labels.arch.is_some() || variables.iter().any(|variable| is_selector(&variable.key));
    match said && ask.arch != platform {
        true => Err(ContainerError::TwoPlatforms { platform, asked: ask.arch }),
        false => Ok(Ask { arch: platform, ..ask }),
    }
}

fn words(ask: &Ask, memory: MemorySplit, build: &BuildPlan, region: &str) -> Vec<String> {
    let disk = ask.disk_gib.map(|gib| format!(", {gib} GB of disk")).unwrap_or_default();
    let arch = if ask.arch == Arch::default() { String::new() } else { format!(", {}", ask.arch) };
    let spot = if ask.spot { ", on spot capacity" } else { "" };
    let mut words = ask.words.clone();
    words.extend([
        format!("Size: {}{disk}{arch}{spot} ({})", ask.size, ask.why),
        format!("Memory: {} MB for the script, {}", memory.build_mib, helper_words(ask, memory.helper_mib)),
    ]);
    if let Some(price) = price_per_minute(region, ask.size, ask.arch, ask.disk_gib) {
        let most = if ask.spot { "at most " } else { "" };
        words.push(format!(
            "Price: {most}${:.5} a minute on Fargate ({region}, prices of {})",
            price.per_minute, price.as_of
        ));
    }
    if build.is_default {
        words.push("Using default image".into());
    }
    words.push(format!("Image: {}", build.image));
    words
}

fn helper_words(ask: &Ask, given_mib: u32) -> String {
    let given = format!("{given_mib} MB for the helper");
    match &ask.helper_memory {
        None => given,
        Some(helper) if helper.figure.0 == u64::from(given_mib) => format!("{given} ({})", helper.given_by),
        Some(helper) => format!("{given} ({} asks for {}, less than the helper needs)", helper.given_by, helper.figure),
    }
}

impl Arch {
    /// Reads `amd64` or `arm64`.
    pub fn read(word: &str) -> Option<Arch> {
        match word {
            "amd64" => Some(Arch::Amd64),
            "arm64" => Some(Arch::Arm64),
            _ => None,
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Arch::Amd64 => "amd64",
            Arch::Arm64 => "arm64",
        })
    }
}
