//! All figures of one job that its summary is made of.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::sampler::Seen;
use super::usage::{BUILD, HELPER, Usage};
use crate::agent::log::JobLog;
use crate::ledger::wire::{TaskFacts, Timeline};
use crate::plan::{Advice, Price, advice, price_per_minute};

/// A span of time and its name.
pub(super) type Step = (String, Duration);

/// The figures of one job.
#[derive(Clone, Debug, Default)]
pub(in crate::agent) struct Figures {
    /// From the hook to the job's first stage; a step whose ends are not both known is left out.
    pub(super) before: Vec<Step>,
    /// The job's stages.
    pub(super) stages: Vec<Step>,
    /// From the start of the image pull to the end of the job, the time that Fargate bills.
    pub(super) billed: Option<Duration>,
    pub(super) usage: Usage,
    pub(super) task: Option<TaskFacts>,
}

/// What the task costs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cost {
    pub(super) price: Price,
    pub(super) dollars: f64,
    /// With the size that would fit.
    pub(super) advised: Option<f64>,
}

impl Figures {
    /// Of a job whose helper got its claim at `opened` and whose stages ended at `ended`.
    pub(in crate::agent) fn new(
        timeline: Timeline,
        task: Option<TaskFacts>,
        seen: Seen,
        stages: Vec<Step>,
        opened: Timestamp,
        ended: Timestamp,
    ) -> Self {
        let Seen { usage, task: metadata } = seen;
        let metadata = metadata.unwrap_or_default();
        let (pulling, pulled) = (metadata.pull_started(), metadata.pull_stopped());
        let started = metadata.started(&[HELPER, BUILD]);
        let steps = [
            ("hook to claim", timeline.hook_at, timeline.claimed_at),
            ("claim to RunTask", timeline.claimed_at, timeline.launched_at),
            ("provisioning", timeline.launched_at, pulling),
            ("image pull", pulling, pulled),
            ("start of the containers", pulled, started),
            ("start of the agent", started, Some(opened)),
        ];
        let before = steps.into_iter().filter_map(|(name, from, to)| Some((name.to_owned(), between(from?, to?))));
        let billed = pulling.or(timeline.launched_at).map(|from| between(from, ended));
        Figures { before: before.collect(), stages, billed, usage, task }
    }

    /// What the job's size should have been.
    pub(super) fn advice(&self) -> Option<Advice> {
        let task = self.task.as_ref().filter(|_| self.usage.is_measured() && self.usage.is_enough())?;
        advice(task.size, task.memory, &self.usage.peaks())
    }

    /// `None` where the region's prices are not known.
    pub(super) fn cost(&self) -> Option<Cost> {
        let (task, billed) = (self.task.as_ref()?, self.billed?.as_secs_f64());
        let price = |size| price_per_minute(&task.region, size, task.arch, task.disk_gib);
        let of = |price: Price| price.of_run(billed, task.public_address);
        let own = price(task.size)?;
        let advised = match self.advice() {
            Some(Advice::Smaller { size }) => price(size).map(of),
            _ => None,
        };
        Some(Cost { price: own, dollars: of(own), advised })
    }

    /// Writes them to the job's log as a folded section; a server without sections gets none.
    pub(in crate::agent) fn write_to(&self, log: &JobLog) {
        let lines = self.lines();
        if lines.is_empty() || !log.has_sections() {
            return;
        }
        let _section = log.folded_section("mayfly_summary", "Where time and money went");
        lines.iter().for_each(|line| log.line(line));
    }

    /// The same for machines; without variables, scripts or other text of the job.
    pub(in crate::agent) fn json(&self) -> Value {
        let seconds = |steps: &[Step]| -> Value {
            steps.iter().map(|(name, span)| (name.clone(), json!(span.as_millis() as f64 / 1000.0))).collect()
        };
        let cost = self.cost();
        let (memory_mean, memory_peak) = self.usage.memory_mib();
        json!({
            "before_s": seconds(&self.before), "stages_s": seconds(&self.stages),
            "billed_s": self.billed.map(|billed| billed.as_secs_f64().max(60.0).round()),
            "size": self.task.as_ref().map(|task| task.size), "peaks": self.usage.peaks(),
            "memory_mean_mib": memory_mean, "memory_peak_mib": memory_peak, "disk_peak_mib": self.usage.disk_peak_mib(),
            "dollars": cost.map(|cost| cost.dollars),
            "saved_dollars": cost.and_then(|cost| Some(cost.dollars - cost.advised?)), "advice": self.advice(),
        })
    }
}

/// The clocks of Lambda, Fargate and this container differ a little: nothing takes less than no time.
fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}
