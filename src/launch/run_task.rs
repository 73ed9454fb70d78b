//! Builds the literal input of `RunTask`: written into the record before the call, replayed as it stands.

use serde::{Deserialize, Serialize};
use url::Url;

use crate::config::Fleet;
use crate::ledger::JobKey;
use crate::plan::{BUILD, HELPER, Plan, service_name};

/// A `RunTask` call, whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunTask {
    /// The cluster.
    pub cluster: String,
    /// Family and revision, as an ARN.
    pub task_definition: String,
    /// The same for every repetition of this attempt, another for each attempt.
    pub client_token: String,
    /// Names the job and the attempt; events carry it.
    pub started_by: String,
    /// `FARGATE` or `FARGATE_SPOT`.
    pub capacity_provider: String,
    /// Where.
    pub subnets: Vec<String>,
    /// Where.
    pub security_groups: Vec<String>,
    /// Where.
    pub assign_public_ip: bool,
    /// CPU units.
    pub cpu: u32,
    /// MiB.
    pub memory: u32,
    /// GiB above the free 20.
    pub disk_gib: Option<u32>,
    /// What this job changes in the containers.
    pub containers: Vec<ContainerOverride>,
}

/// What this job changes in one container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerOverride {
    /// The container.
    pub name: String,
    /// Nothing secret: whoever may describe tasks can read it.
    pub environment: Vec<(String, String)>,
    /// ARNs of objects with more environment, read by the execution role.
    pub environment_files: Vec<String>,
    /// Hard limit, in MiB.
    pub memory: Option<u32>,
    /// Soft limit, in MiB.
    pub memory_reservation: Option<u32>,
}

/// What differs from launch to launch of one plan.
#[derive(Clone, Copy, Debug)]
pub struct LaunchFacts<'a> {
    /// Whose task.
    pub job: &'a JobKey,
    /// From 1.
    pub attempt: u32,
    /// Opens the claim for this attempt.
    pub ticket: &'a str,
    /// The registered definition.
    pub task_definition: &'a str,
    /// Keys of the services' environment files in the ledger's bucket, in the services' order.
    pub service_files: &'a [String],
    /// On spot capacity.
    pub spot: bool,
}

/// The `RunTask` of one attempt at `plan`.
pub fn run_task(plan: &Plan, facts: LaunchFacts<'_>, fleet: &Fleet) -> RunTask {
    // One subnet by turns: an attempt that finds no capacity or address is followed by one in the next zone.
    let subnets = &fleet.tasks.subnets;
    let turn = facts.job.id.wrapping_add(u64::from(facts.attempt)) % (subnets.len().max(1) as u64);
    let sha256 = fleet.broker.agents.get(&plan.arch.to_string()).cloned().unwrap_or_default();
    let broker = fleet.broker.url.as_ref().map(Url::as_str).unwrap_or_default();
    let helper = ContainerOverride {
        name: HELPER.into(),
        environment: vec![
            ("MAYFLY_TICKET".into(), facts.ticket.to_owned()),
            ("MAYFLY_BROKER_URL".into(), broker.trim_end_matches('/').to_owned()),
            ("MAYFLY_AGENT_SHA256".into(), sha256),
        ],
        memory: Some(plan.memory.helper_mib),
        ..ContainerOverride::default()
    };
    let build = ContainerOverride { name: BUILD.into(), memory: Some(plan.memory.build_mib), ..Default::default() };
    let bucket = &fleet.ledger.bucket;
    let partition = fleet.tasks.execution_role.split(':').nth(1).unwrap_or("aws");
    let services = facts.service_files.iter().enumerate().map(|(index, key)| ContainerOverride {
        name: service_name(index),
        environment_files: vec![format!("arn:{partition}:s3:::{bucket}/{key}")],
        memory: plan.memory.service_is_limit.then_some(plan.memory.service_mib),
        memory_reservation: (!plan.memory.service_is_limit).then_some(plan.memory.service_mib),
        ..ContainerOverride::default()
    });
    RunTask {
        cluster: fleet.tasks.cluster.clone(),
        task_definition: facts.task_definition.to_owned(),
        client_token: facts.job.client_token(facts.attempt),
        started_by: facts.job.started_by(facts.attempt),
        capacity_provider: if facts.spot { "FARGATE_SPOT" } else { "FARGATE" }.into(),
        subnets: subnets.get(turn as usize).cloned().into_iter().collect(),
        security_groups: fleet.tasks.security_groups.clone(),
        assign_public_ip: fleet.tasks.assign_public_ip,
        cpu: plan.size.cpu_units,
        memory: plan.size.memory_mib,
        disk_gib: plan.disk_gib,
        containers: [helper, build].into_iter().chain(services).collect(),
    }
}
