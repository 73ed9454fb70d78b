//! Builds the task definition of a plan.
//!
//! It holds what `RunTask` cannot override and nothing else: images, users, entry points, credentials, architecture.
//! Its family is named after the hash of its content, so that jobs with the same images share one, whatever their size.

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::config::Fleet;
use crate::plan::{Arch, BUILD, HELPER, Plan, service_name};

/// A task definition in our words; whatever stands here is part of the hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Definition {
    /// The processor.
    pub arch: Arch,
    /// Pulls images, reads the launch key and the services' environment files.
    pub execution_role: String,
    /// Helper, build, services.
    pub containers: Vec<ContainerDefinition>,
}

/// One container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ContainerDefinition {
    /// Its name in the task.
    pub name: String,
    /// What runs.
    pub image: String,
    /// As whom; the image's own user without it.
    pub user: Option<String>,
    /// The secret with the registry's credentials.
    pub credentials: Option<String>,
    /// The task ends with it.
    pub essential: bool,
    /// Replaces the image's.
    pub entrypoint: Vec<String>,
    /// Replaces the image's.
    pub command: Vec<String>,
    /// The same for all jobs.
    pub environment: Vec<(&'static str, String)>,
    /// Environment variables that ECS fills from secrets.
    pub secrets: Vec<(&'static str, String)>,
    /// Volume, path, read-only.
    pub mounts: Vec<(&'static str, &'static str, bool)>,
    /// Seconds between SIGTERM and SIGKILL.
    pub stop_timeout: i32,
    /// The log group of its own output.
    pub log_group: Option<(String, String)>,
}

/// Fetches the agent, checks it, moves it to where `build` waits for it, and becomes it.
///
/// POSIX sh, wget of GNU or busybox, sha256sum. The moved file is whole: the move is a rename within the volume. A new
/// volume is root's with mode 0755 (aws.md §2.3), and every uid must be able to build in it.
const FETCH_AGENT: &str = r#"set -eu
trap 'exit 13' TERM
umask 0000
chmod 0777 "$MAYFLY_BUILDS_DIR" "$MAYFLY_AGENT_DIR"
cd "$MAYFLY_AGENT_DIR"
tries=0
until wget -q -T 20 -O .agent "$MAYFLY_BROKER_URL/agent/$MAYFLY_AGENT_SHA256" \
  && echo "$MAYFLY_AGENT_SHA256  .agent" | sha256sum -c - >/dev/null 2>&1; do
  tries=$((tries + 1))
  if [ "$tries" -ge 10 ]; then echo "mayfly: the agent cannot be fetched from $MAYFLY_BROKER_URL" >&2; exit 70; fi
  sleep 1
done
chmod 0755 .agent
mv -f .agent agent
exec "$MAYFLY_AGENT_DIR/agent" helper
"#;

/// Waits for the agent and becomes it. Works in every image with a POSIX sh; `sleep 0.1` is no POSIX, hence the second.
const AWAIT_AGENT: &str = r#"trap 'exit 0' TERM
until [ -x "$MAYFLY_AGENT_DIR/agent" ]; do sleep 0.1 2>/dev/null || sleep 1; done
exec "$MAYFLY_AGENT_DIR/agent" build
"#;

/// The task definition that `plan` needs in `fleet`.
pub fn definition(plan: &Plan, fleet: &Fleet) -> Definition {
    let directories = [("MAYFLY_BUILDS_DIR", "/builds".to_owned()), ("MAYFLY_AGENT_DIR", "/mayfly".to_owned())];
    let log = |name: &str| fleet.tasks.log_group.clone().map(|group| (group, name.to_owned()));
    let shell = |script: &str| (vec!["sh".to_owned(), "-c".to_owned()], vec![script.to_owned()]);

    let (entrypoint, command) = shell(FETCH_AGENT);
    let helper = ContainerDefinition {
        name: HELPER.into(),
        image: match plan.arch {
            Arch::Amd64 => fleet.images.helper.clone(),
            Arch::Arm64 => fleet.images.helper_arm64.clone(),
        },
        // Whatever user the image has: volumes are made ready, and sources given away, by root.
        user: Some("0".into()),
        credentials: None,
        essential: true,
        entrypoint,
        command,
        environment: directories.to_vec(),
        secrets: vec![("MAYFLY_LAUNCH_KEY", fleet.tasks.launch_key.clone())],
        mounts: vec![("builds", "/builds", false), ("agent", "/mayfly", false)],
        stop_timeout: 120,
        log_group: log(HELPER),
    };
    let (entrypoint, command) = match &plan.build.entrypoint {
        None => shell(AWAIT_AGENT),
        // The image's entry point does its work, then becomes the command that it is given.
        Some(entrypoint) => (entrypoint.clone(), vec!["sh".into(), "-c".into(), AWAIT_AGENT.into()]),
    };
    let build = ContainerDefinition {
        name: BUILD.into(),
        image: plan.build.image.clone(),
        user: plan.build.user.clone(),
        credentials: plan.build.credentials.clone(),
        essential: true,
        entrypoint,
        command,
        environment: directories.to_vec(),
        secrets: Vec::new(),
        mounts: vec![("builds", "/builds", false), ("agent", "/mayfly", true)],
        stop_timeout: 5,
        log_group: log(BUILD),
    };
    let services = plan.services.iter().enumerate().map(|(index, service)| ContainerDefinition {
        name: service_name(index),
        image: service.image.clone(),
        user: service.user.clone(),
        credentials: service.credentials.clone(),
        essential: false,
        entrypoint: service.entrypoint.clone(),
        command: service.command.clone(),
        environment: Vec::new(),
        secrets: Vec::new(),
        // Kubernetes gives services the sources, too.
        mounts: vec![("builds", "/builds", false)],
        stop_timeout: 2,
        // Their output is not masked, so it is kept only where the job asks for it.
        log_group: plan.service_logs.then(|| log(&service_name(index))).flatten(),
    });
    Definition {
        arch: plan.arch,
        execution_role: fleet.tasks.execution_role.clone(),
        containers: [helper, build].into_iter().chain(services).collect(),
    }
}

impl Definition {
    /// `<prefix>-` and 26 characters of the content's hash.
    pub fn family(&self, prefix: &str) -> String {
        let json = serde_json::to_vec(self).expect("a definition is plain data");
        format!("{prefix}-{}", base32(&Sha256::digest(json), 26))
    }
}

fn base32(bytes: &[u8], length: usize) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let bit = |i: usize| bytes[i / 8] >> (7 - i % 8) & 1;
    let letter = |i: usize| (0..5).fold(0, |value, k| value << 1 | bit(i * 5 + k));
    (0..length).map(|i| char::from(ALPHABET[usize::from(letter(i))])).collect()
}
