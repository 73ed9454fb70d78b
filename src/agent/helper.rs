//! `agent helper`: opens the ticket, runs the job, and ends well only when GitLab knows how it went.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use rustix::fs::Mode;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tracing::{error, info};
use url::Url;

use crate::gitlab::{FailureReason, Outcome, Sender, http_client, unsupported};
use crate::ledger::keys::proof;
use crate::ledger::wire::{OpenAnswer, OpenRequest};

use super::broker_client::{BrokerClient, BrokerError};
use super::flow::Flow;
use super::link::{Link, Listener};
use super::secrets_pipe::LaunchSecrets;
use super::setup::{Setup, set_up};
use super::signals::Signals;
use super::summary::{Figures, Sampler};
use super::timeouts::Timeouts;
use super::trace::{Finished, Trace, TraceSettings};
use super::tree::adopt_orphans;
use crate::ledger::wire::HelperExit;

/// So long the image of the job may need until its first process is there.
const BUILD_PATIENCE: Duration = Duration::from_secs(10 * 60);

/// Where `helper` finds things.
#[derive(Clone, Debug)]
pub struct HelperSettings {
    /// `MAYFLY_BROKER_URL`.
    pub broker_url: Url,
    /// `MAYFLY_BUILDS_DIR`.
    pub builds_dir: PathBuf,
    /// `MAYFLY_AGENT_DIR`.
    pub agent_dir: PathBuf,
}

/// Runs the job behind the ticket.
pub async fn helper(settings: HelperSettings, secrets: LaunchSecrets) -> HelperExit {
    // What we make is used by whatever user the image has, as in Kubernetes.
    rustix::process::umask(Mode::empty());
    let interrupted = match interrupted() {
        Ok(interrupted) => interrupted,
        Err(error) => {
            error!(%error, "cannot listen for SIGTERM");
            return HelperExit::Misconfigured;
        }
    };
    if let Err(error) = adopt_orphans() {
        error!(%error, "cannot look after what hook scripts leave running");
        return HelperExit::Misconfigured;
    }
    let mut build = match wait_for_build(&settings, interrupted.clone()).await {
        Ok(build) => build,
        Err(exit) => return exit,
    };
    let broker = match http_client(Sender::Helper) {
        Ok(http) => BrokerClient::new(http, settings.broker_url.clone()),
        Err(error) => {
            error!(%error, "cannot ask the broker");
            return HelperExit::Misconfigured;
        }
    };
    let answer = match open(&broker, &secrets).await {
        Ok(answer) => answer,
        Err(exit) => return exit,
    };
    let opened = Instant::now();
    let setup = match set_up(&answer, &broker, &settings.builds_dir) {
        Ok(setup) => setup,
        Err(error) => {
            error!(%error, "the claim cannot be run");
            return HelperExit::Unsaid;
        }
    };
    let exit = run(setup, &answer, &mut build, interrupted, opened).await;
    build.bye().await;
    exit
}

async fn wait_for_build(settings: &HelperSettings, mut interrupted: watch::Receiver<bool>) -> Result<Link, HelperExit> {
    let connected = async {
        let listener = Listener::bind(&settings.agent_dir)?;
        info!("waiting for build");
        listener.accept().await
    };
    tokio::select! {
        build = timeout(BUILD_PATIENCE, connected) => match build {
            Ok(Ok(build)) => Ok(build),
            Ok(Err(error)) => {
                error!(%error, "build cannot be used");
                Err(HelperExit::NoBuild)
            }
            Err(_) => {
                error!("build did not come within {BUILD_PATIENCE:?}");
                Err(HelperExit::NoBuild)
            }
        },
        _ = interrupted.wait_for(|interrupted| *interrupted) => {
            error!("the task was stopped before build came");
            Err(HelperExit::StoppedEarly)
        }
    }
}

async fn open(broker: &BrokerClient, secrets: &LaunchSecrets) -> Result<OpenAnswer, HelperExit> {
    let nonce = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
    let proof = proof(&secrets.launch_key, &secrets.ticket, &nonce);
    let request = OpenRequest { ticket: secrets.ticket.clone(), nonce, proof };
    broker.open(&request).await.map_err(|error| {
        error!(%error, "the ticket was not opened");
        match error {
            BrokerError::Refused(_) => HelperExit::Refused,
            BrokerError::Unreachable(_) => HelperExit::NoBroker,
        }
    })
}

async fn run(
    setup: Setup,
    answer: &OpenAnswer,
    build: &mut Link,
    interrupted: watch::Receiver<bool>,
    opened: Instant,
) -> HelperExit {
    let Setup { mut context, timeout, refusal, warnings } = setup;
    let (timeouts, more) = Timeouts::read(timeout, &context.variables);
    let used = Duration::from_millis(answer.claimed_ms_ago);
    for warning in warnings.into_iter().chain(more) {
        context.log.runner_warning(&warning);
    }
    let debug = context.variables.flag("CI_DEBUG_TRACE", false);
    let dynamic_keep_alive = context.variables.flag("FF_USE_DYNAMIC_TRACE_FORCE_SEND_INTERVAL", false);
    let settings = TraceSettings { debug, dynamic_keep_alive, ..TraceSettings::default() };
    let trace = Trace::start(context.log.clone(), context.gitlab.clone(), answer.trace.len() as u64, settings);
    let signals = Signals { wish: trace.wish(), interrupted, deadline: opened + timeout.saturating_sub(used) };
    let refusal = refusal.map(|message| Outcome::failed(FailureReason::RunnerConfigurationError, message));
    let outcome = match unsupported(&context.job).or(refusal) {
        Some(refused) => refused,
        None => {
            let (sampler, began) = (Sampler::start(), Timestamp::now());
            let flow = Flow { context: &mut context, build, signals: &signals, timeouts: &timeouts };
            let outcome = flow.run().await;
            let (seen, stages) = (sampler.finish().await, context.log.section_times());
            let figures = Figures::new(answer.timeline, answer.task.clone(), seen, stages, began, Timestamp::now());
            info!(job.id = %context.job.id, "summary of job {}: {}", context.job.id, figures.json());
            figures.write_to(&context.log);
            outcome
        }
    };
    info!(job.id = %context.job.id, "job {} ended: {}", context.job.id, outcome.state());
    context.log.end(&outcome);
    match trace.finish(&outcome.for_server(&context.job.features.failure_reasons)).await {
        Finished::Accepted | Finished::JobOver => HelperExit::Done,
        Finished::GaveUp => HelperExit::Unsaid,
    }
}

/// Becomes true when SIGTERM comes.
fn interrupted() -> std::io::Result<watch::Receiver<bool>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let (interrupt, interrupted) = watch::channel(false);
    tokio::spawn(async move {
        while terminate.recv().await.is_some() {
            info!("the task is being stopped");
            interrupt.send_replace(true);
        }
    });
    Ok(interrupted)
}
