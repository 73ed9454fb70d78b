//! Decides which waiting job is launched next: the oldest first, as capacity and the launch rate allow.

use std::collections::BTreeSet;

use futures::FutureExt;
use jiff::{SignedDuration, Timestamp};
use tracing::warn;

use crate::gitlab::FailureReason;
use crate::launch::RefusalKind;
use crate::ledger::{Admission, Claim, Class, JobKey, WaitingJob};

use super::Dispatcher;
use super::error::DispatchError;
use super::launching::Launch;
use super::lines::Lines;
use super::planning::{Draft, DraftRecord, Prepared};
use super::work::{LONGEST_PAUSE, Step, Work};

/// Launches that are not answered yet.
const LAUNCHES_AT_ONCE: usize = 40;
/// Jobs that are prepared at one time.
const PREPARED_AT_ONCE: usize = 40;
/// A job that could not be prepared or launched is tried again after this time.
const AFTER_ERROR: SignedDuration = SignedDuration::from_secs(5);
/// A job that GitLab does not know is looked at again after this time.
const AFTER_UNKNOWN: SignedDuration = SignedDuration::from_secs(30);
/// A job that the vCPU quota refuses for so long, while smaller ones are launched, fails.
const STARVES_AFTER: SignedDuration = SignedDuration::from_mins(8);

impl<'a> Work<'a> {
    /// Begins to prepare a job for its launch.
    pub(super) fn prepare(&mut self, job: JobKey, new: Option<Claim>) {
        let dispatcher = self.dispatcher;
        self.busy.insert(job.clone());
        self.preparing.insert(job.clone());
        let step = async move { Step::Prepared { prepared: dispatcher.prepare(&job, new).await, job } };
        self.steps.push(step.boxed());
    }

    /// A job was prepared.
    pub(super) fn prepared(&mut self, job: JobKey, prepared: Result<Prepared, DispatchError>) {
        self.busy.remove(&job);
        self.preparing.remove(&job);
        match prepared {
            Ok(Prepared::Ready(draft)) => {
                let record = draft.record.value();
                let (class, cpu_units) = next_class(record);
                self.lock.with(|lease| lease.waiting.planned(&job, class, cpu_units, record.claimed_at));
                self.drafts.insert(job, draft);
            }
            Ok(Prepared::Done) => self.lock.with(|lease| lease.waiting.remove(&job)),
            Ok(Prepared::Unknown) => self.wait(&job, AFTER_UNKNOWN),
            Err(error) => {
                warn!(job.id = job.id, error = %error, "job {} waits in the ledger", job.id);
                self.wait(&job, AFTER_ERROR);
            }
        }
    }

    /// Begins the launches that are possible now; when the next one is, if jobs wait for a time.
    pub(super) fn start_launches(&mut self) -> Option<Timestamp> {
        let now = self.dispatcher.now();
        if !self.lock.may_launch(now) {
            return None;
        }
        let quota = self.dispatcher.launch_quota();
        let waiting: Vec<WaitingJob> = self.lock.with(|lease| lease.waiting.iter().cloned().collect());
        let mut next: Option<Timestamp> = None;
        let mut sooner = |at: Timestamp| next = Some(next.map_or(at, |next| next.min(at)));
        for job in waiting.into_iter().filter(|waiting| !self.busy.contains(&waiting.job)).collect::<Vec<_>>() {
            if let Some(at) = job.not_before.filter(|at| *at > now) {
                sooner(at);
                continue;
            }
            let Some(class) = job.class else {
                if self.preparing.len() < PREPARED_AT_ONCE {
                    self.prepare(job.job, None);
                }
                continue;
            };
            let class = self.with_spot_or_not(class, job.cpu_units, now);
            match self.lock.with(|lease| lease.holds.admission(class, job.cpu_units, now)) {
                Admission::Free => {}
                // One answer is enough to see whether there is capacity again.
                Admission::Probe if !self.is_probed(class, now) => {}
                Admission::Probe => {
                    self.put_aside(&job.job);
                    continue;
                }
                Admission::NotBefore(at) => {
                    sooner(at);
                    self.put_aside(&job.job);
                    continue;
                }
            }
            if self.launching.len() >= LAUNCHES_AT_ONCE {
                break;
            }
            if let Err(at) = self.lock.with(|lease| lease.rate.take(quota, now)) {
                sooner(at);
                if at > now + LONGEST_PAUSE {
                    self.put_aside(&job.job);
                    continue;
                }
                break;
            }
            self.launch(job.job, class, job.cpu_units);
        }
        next
    }

    /// A job that wants spot capacity goes on-demand while there is none.
    fn with_spot_or_not(&self, class: Class, cpu_units: u32, now: Timestamp) -> Class {
        let is_held = |lease: &mut crate::ledger::Lease| {
            matches!(lease.holds.admission(class, cpu_units, now), Admission::NotBefore(_))
        };
        Class { spot: class.spot && !self.lock.with(is_held), ..class }
    }

    fn is_probed(&self, class: Class, now: Timestamp) -> bool {
        self.launching.iter().any(|(other, cpu_units)| {
            let admission = self.lock.with(|lease| lease.holds.admission(class, *cpu_units, now));
            *other == class && admission != Admission::Free
        })
    }

    fn launch(&mut self, job: JobKey, class: Class, cpu_units: u32) {
        let dispatcher = self.dispatcher;
        let draft = self.drafts.remove(&job);
        self.busy.insert(job.clone());
        self.launching.push((class, cpu_units));
        let step = async move {
            let launch = dispatcher.launch(&job, draft, class).await;
            Step::Launched { job, class, cpu_units, launch }
        };
        self.steps.push(step.boxed());
    }

    /// A job that must wait goes to the ledger, and its trace says why.
    fn put_aside(&mut self, job: &JobKey) {
        let Some(draft) = self.drafts.remove(job) else { return };
        let DraftRecord::New(_) = draft.record else { return };
        self.window.held();
        let (dispatcher, job) = (self.dispatcher, job.clone());
        self.busy.insert(job.clone());
        let step = async move {
            if let Err(error) = dispatcher.put_aside(*draft).await {
                warn!(job.id = job.id, error = %error, "job {} waits in the ledger without its plan", job.id);
            }
            Step::PutAside { job }
        };
        self.steps.push(step.boxed());
    }

    /// A launch was answered.
    pub(super) fn launched(
        &mut self,
        job: JobKey,
        class: Class,
        cpu_units: u32,
        launch: Result<Launch, DispatchError>,
    ) {
        let now = self.dispatcher.now();
        let quota = self.dispatcher.launch_quota();
        self.busy.remove(&job);
        if let Some(place) = self.launching.iter().position(|launching| *launching == (class, cpu_units)) {
            self.launching.swap_remove(place);
        }
        match launch {
            Ok(Launch::Launched) => {
                self.window.launched(quota);
                self.is_fruitful = true;
                self.lock.with(|lease| {
                    lease.rate.launched(quota);
                    lease.holds.launched(class, cpu_units, now);
                    lease.waiting.remove(&job);
                });
            }
            Ok(Launch::NotNeeded) => self.lock.with(|lease| lease.waiting.remove(&job)),
            Ok(Launch::Throttled) => {
                self.window.throttled();
                self.lock.with(|lease| lease.rate.throttled(quota, now));
            }
            Ok(Launch::OnDemand) => self.lock.with(|lease| {
                lease.holds.refused(class, cpu_units, now);
                if let Some(waiting) = lease.waiting.get_mut(&job) {
                    waiting.class = Some(Class { spot: false, ..class });
                }
            }),
            Ok(Launch::NoRoom(kind)) => self.refused(job, class, cpu_units, kind, now),
            Ok(Launch::Again(after)) => self.wait(&job, SignedDuration::try_from(after).unwrap_or(AFTER_ERROR)),
            Err(error) => {
                warn!(job.id = job.id, error = %error, "job {} waits in the ledger", job.id);
                self.wait(&job, AFTER_ERROR);
            }
        }
    }

    /// There was no capacity. A job that can never have any must not wait for its timeout.
    fn refused(&mut self, job: JobKey, class: Class, cpu_units: u32, kind: RefusalKind, now: Timestamp) {
        let (starves, waiting) = self.lock.with(|lease| {
            lease.holds.refused(class, cpu_units, now);
            let since = lease.waiting.get_mut(&job).map(|waiting| *waiting.refused_since.get_or_insert(now));
            let starves = since
                .is_some_and(|since| since + STARVES_AFTER <= now && lease.holds.smaller_launched_since(class, since));
            (starves, lease.waiting.jobs())
        });
        if kind != RefusalKind::VcpuQuota {
            return;
        }
        let is_alone = self.launching.iter().all(|(other, _)| *other != class);
        let dispatcher = self.dispatcher;
        self.busy.insert(job.clone());
        let step = async move {
            let ended = dispatcher.fail_if_it_never_fits(&job, cpu_units, &waiting, is_alone, starves).await;
            Step::NeverFits { job, ended }
        };
        self.steps.push(step.boxed());
    }

    /// It was checked whether a refused job can ever be launched.
    pub(super) fn checked_fit(&mut self, job: &JobKey, ended: Result<bool, DispatchError>) {
        self.busy.remove(job);
        match ended {
            Ok(true) => self.lock.with(|lease| lease.waiting.remove(job)),
            Ok(false) => {}
            Err(error) => warn!(job.id = job.id, error = %error, "job {} waits in the ledger", job.id),
        }
    }

    fn wait(&self, job: &JobKey, pause: SignedDuration) {
        let at = self.dispatcher.now() + pause;
        self.lock.with(|lease| {
            if let Some(waiting) = lease.waiting.get_mut(job) {
                waiting.not_before = Some(at);
            }
        });
    }
}

impl Dispatcher {
    /// Writes the record of a job that waits for capacity, with a line in its trace.
    async fn put_aside(&self, draft: Draft) -> Result<(), DispatchError> {
        let stored = self.store_draft(draft.record).await?;
        let stored = self.say_once(stored, &draft.job, Lines::waits_behind).await?;
        self.show_trace(&stored.value, &draft.job).await;
        Ok(())
    }

    /// Fails a job that the account's vCPU quota refuses although nothing of ours runs, or that smaller jobs overtake for
    /// too long; whether it did.
    async fn fail_if_it_never_fits(
        &self,
        key: &JobKey,
        cpu_units: u32,
        waiting: &BTreeSet<JobKey>,
        is_alone: bool,
        starves: bool,
    ) -> Result<bool, DispatchError> {
        let runs = |live: &[JobKey]| live.iter().any(|job| !waiting.contains(job));
        let never_fits = is_alone && !runs(&self.ledger.live_jobs().await?);
        if !never_fits && !starves {
            return Ok(false);
        }
        let Prepared::Ready(draft) = self.prepare(key, None).await? else { return Ok(true) };
        let spot = draft.record.value().plan.as_ref().is_some_and(|plan| plan.spot);
        let message = quota_message(cpu_units, never_fits, spot);
        let stored = self.store_draft(draft.record).await?;
        self.fail(stored, &draft.job, &draft.claim, FailureReason::RunnerSystemFailure, message).await?;
        Ok(true)
    }
}

/// Where the next launch of a job goes, and its size in CPU units.
fn next_class(record: &crate::ledger::Record) -> (Class, u32) {
    let plan = record.plan.as_ref();
    // Spot once: a job that was interrupted or found no capacity is not sent there again.
    let is_first = record.next_attempt().is_none_or(|number| number == 1) && record.attempt.is_none();
    let spot = is_first && plan.is_some_and(|plan| plan.spot);
    let arch = plan.map(|plan| plan.arch).unwrap_or_default();
    (Class { spot, arch }, plan.map_or(0, |plan| plan.size.cpu_units))
}

/// The sentence for the author of a job that the vCPU quota does not allow.
fn quota_message(cpu_units: u32, never_fits: bool, spot: bool) -> String {
    let vcpus = f64::from(cpu_units) / 1024.0;
    let why = match never_fits {
        true => "although no other task of Mayfly runs",
        false => "for over 8 minutes, while smaller jobs were launched",
    };
    let more = if spot { " (spot: L-36FBB829)" } else { "" };
    format!(
        "the job needs {vcpus} vCPU, and AWS refuses them {why}: the account's quota \"Fargate On-Demand vCPU resource \
         count\" (L-3032A538{more}) is too small. Ask for a smaller size with a `cpu-` tag, or let the owner of the AWS \
         account raise the quota in Service Quotas; new accounts have 6 vCPU"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_about_the_quota_names_size_quota_and_both_ways_out() {
        let alone = quota_message(8192, true, false);
        for part in ["8 vCPU", "L-3032A538", "`cpu-` tag", "Service Quotas", "no other task"] {
            assert!(alone.contains(part), "{alone}");
        }
        assert!(quota_message(256, false, false).contains("0.25 vCPU"));
        assert!(quota_message(256, false, true).contains("L-36FBB829"));
    }
}
