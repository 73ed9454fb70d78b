//! Owns the job queue: who sees which job, in which order (gitlab-protocol.md §3.4, §3.7), and who is online (§9.3).

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::faults::later;
use super::options::Scope;
use super::state::{Job, Manager, Runner, State, random};
use super::status::Status;
use crate::pipeline::AllowFailure;

/// The database hears of a contact only when its column is older than 40 to 55 minutes (§2.4); here the latest.
const CONTACT_WRITTEN_EVERY: Duration = Duration::from_secs(55 * 60);
/// How long after its last written contact a runner is online (§9.1).
const ONLINE_FOR: Duration = Duration::from_secs(2 * 3600);

/// What a runner says about itself with a request.
#[derive(Clone, Debug, Default)]
pub(super) struct Contact {
    pub system_id: String,
    pub features: BTreeSet<String>,
    pub version: Option<String>,
}

impl State {
    /// Notes that a runner was here (§2.4: features are kept from the first contact on).
    pub fn contact(&mut self, runner: u64, contact: &Contact) {
        let now = self.clock.now();
        let Some(runner) = self.runners.iter_mut().find(|row| row.id == runner) else { return };
        if runner.contacted_at.is_none_or(|at| now >= later(at, CONTACT_WRITTEN_EVERY)) {
            runner.contacted_at = Some(now);
        }
        let known = runner.managers.iter_mut().find(|manager| manager.system_id == contact.system_id);
        match known {
            Some(manager) if now >= later(manager.contacted_at, CONTACT_WRITTEN_EVERY) => {
                manager.contacted_at = now;
                manager.features = contact.features.clone();
            }
            Some(_) => {}
            None => runner.managers.push(Manager {
                system_id: contact.system_id.clone(),
                features: contact.features.clone(),
                version: contact.version.clone(),
                contacted_at: now,
            }),
        }
    }

    /// PUT and PATCH keep the runner of the job online (§9.3).
    pub fn heartbeat(&mut self, job: u64) {
        let now = self.clock.now();
        let runner = self.jobs.get(&job).and_then(|job| job.runner);
        if let Some(runner) = self.runners.iter_mut().find(|row| Some(row.id) == runner)
            && runner.contacted_at.is_none_or(|at| now >= later(at, CONTACT_WRITTEN_EVERY))
        {
            runner.contacted_at = Some(now);
        }
    }

    pub fn is_online(&self, runner: &Runner) -> bool {
        runner.contacted_at.is_some_and(|at| self.clock.now() < later(at, ONLINE_FOR))
    }

    /// The waiting jobs that `runner` may have, best first.
    pub fn candidates(&self, runner: &Runner) -> Vec<u64> {
        let waiting = self.jobs.values().filter(|job| job.status == Status::Pending && self.fits(runner, job));
        let mut waiting: Vec<&Job> = waiting.collect();
        if runner.spec.scope == Scope::Instance {
            // Fair share between projects; the sort is stable, so ids stay in order within one count.
            let mut running = HashMap::new();
            let mut count =
                |project| *running.entry(project).or_insert_with(|| self.running_on_instance_runners(project));
            waiting.sort_by_key(|job| count(job.project));
        }
        waiting.into_iter().map(|job| job.id).collect()
    }

    /// E4: scope, protection, tags.
    pub fn fits(&self, runner: &Runner, job: &Job) -> bool {
        let Some(pipeline) = self.pipelines.get(&job.pipeline) else { return false };
        let scope = match runner.spec.scope {
            Scope::Instance => true,
            Scope::Project(project) => project == job.project,
        };
        let protection = !runner.spec.ref_protected || self.is_protected(job.project, &pipeline.ref_name);
        let tags = job.tags.iter().all(|tag| runner.spec.tags.contains(tag));
        let untagged = runner.spec.run_untagged || !job.tags.is_empty();
        scope && protection && tags && untagged
    }

    pub fn running_on_instance_runners(&self, project: u64) -> usize {
        let on_instance = |job: &&Job| {
            let runner = job.runner.and_then(|runner| self.runner(runner));
            runner.is_some_and(|runner| runner.spec.scope == Scope::Instance)
        };
        self.jobs.values().filter(|job| job.project == project && job.status.is_executing()).filter(on_instance).count()
    }

    /// Gives the best job that passes the checks of §3.7 to `runner`; those that do not, fail.
    pub fn assign(&mut self, runner: u64, contact: &Contact) -> Option<u64> {
        let size = self.candidates(self.runner(runner)?).len();
        for depth in 1.. {
            let job = self.candidates(self.runner(runner)?).into_iter().next()?;
            let Some(reason) = self.refusal(job, &contact.features) else {
                self.start(job, runner, contact, (size, depth));
                return Some(job);
            };
            self.drop_job(job, reason);
        }
        None
    }

    /// Every waiting job changes what `last_update` is compared with (§3.5).
    pub fn tick_queues(&mut self) {
        for runner in &mut self.runners {
            runner.queue_version = random(20);
        }
    }

    fn refusal(&self, job: u64, features: &BTreeSet<String>) -> Option<&'static str> {
        let job = self.jobs.get(&job)?;
        let for_merge_request =
            self.pipelines.get(&job.pipeline).is_some_and(|pipeline| pipeline.merge_request.is_some());
        let by_exit_code = matches!(job.definition.allow_failure, AllowFailure::ExitCodes(_))
            || !job.definition.retry.exit_codes.is_empty();
        if self.dependencies(job).iter().any(|dependency| dependency.erased_at.is_some()) {
            return Some("missing_dependency_failure");
        }
        let artifacts = job.definition.artifacts.as_ref();
        let needed = [
            ("refspecs", for_merge_request),
            ("return_exit_code", by_exit_code),
            ("upload_multiple_artifacts", artifacts.is_some_and(|artifacts| !artifacts.reports.is_empty())),
            ("artifacts_exclude", artifacts.is_some_and(|artifacts| !artifacts.exclude.is_empty())),
            ("multi_build_steps", self.releases && job.definition.release.is_some()),
            ("vault_secrets", !job.definition.secrets.is_empty() && !self.withholds_secrets),
            ("fallback_cache_keys", job.definition.cache.iter().any(|cache| !cache.fallback_keys.is_empty())),
        ];
        let missing = needed.into_iter().any(|(feature, needed)| needed && !features.contains(feature));
        missing.then_some("runner_unsupported")
    }

    fn start(&mut self, id: u64, runner: u64, contact: &Contact, queue: (usize, usize)) {
        let ceiling = self.runner(runner).and_then(|runner| runner.spec.maximum_timeout);
        if let Some(job) = self.jobs.get_mut(&id) {
            job.token = Some(format!("glcbt-64_{}", random(20)));
            job.runner = Some(runner);
            job.queue = queue;
            job.system_id = contact.system_id.clone();
            // §10.2: the smallest of job, project and runner.
            job.timeout = ceiling.map_or(job.timeout, |ceiling| ceiling.min(job.timeout));
        }
        let pipeline = self.jobs.get(&id).map(|job| job.pipeline);
        self.enter(id, Status::Running);
        if let Some(pipeline) = pipeline {
            self.process(pipeline);
        }
    }
}
