//! Owns what a test can make go wrong in ECS.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// On which side of the operation's effect an error strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Nothing has happened.
    BeforeEffect,
    /// It has happened, and the caller does not hear so.
    AfterEffect,
}

/// The faults of one ECS; clones share them. All are off at first.
#[derive(Clone, Default)]
pub struct Faults {
    plan: Arc<Mutex<Plan>>,
}

#[derive(Default)]
struct Plan {
    capacity_unavailable: u32,
    vcpus: HashMap<bool, u32>,
    launches: Option<(f64, f64)>,
    throttle: HashMap<String, u32>,
    server_error: Vec<(String, u32, When)>,
    pulls: Vec<(String, String)>,
    starts: Vec<String>,
    delay: Duration,
    disk: Option<u64>,
    missing: u32,
    lost_events: u32,
    doubled_events: u32,
}

/// What the sandbox allows where AWS starts with 6 (aws.md §1.4).
const VCPUS: u32 = 4000;

impl Faults {
    /// The next `n` calls of RunTask find no capacity.
    pub fn capacity_unavailable(&self, n: u32) {
        self.plan().capacity_unavailable = n;
    }

    /// From now on `n` On-Demand vCPUs may run at once.
    pub fn vcpu_limit(&self, n: u32) {
        self.plan().vcpus.insert(false, n);
    }

    /// From now on `n` Spot vCPUs may run at once.
    pub fn spot_vcpu_limit(&self, n: u32) {
        self.plan().vcpus.insert(true, n);
    }

    /// From now on so many tasks may be launched at once, and so many in a second after that; 100 and 20 at first
    /// (aws.md §1.4).
    pub fn launch_rate(&self, burst: f64, per_second: f64) {
        self.plan().launches = Some((burst, per_second));
    }

    /// The next `n` calls of `operation` are throttled.
    pub fn throttle(&self, operation: &str, n: u32) {
        self.plan().throttle.insert(operation.to_owned(), n);
    }

    /// The next `n` calls of `operation` answer with a 500.
    pub fn server_error(&self, operation: &str, n: u32, when: When) {
        self.plan().server_error.push((operation.to_owned(), n, when));
    }

    /// Images whose name has `image` in it cannot be pulled, with `text` as the reason.
    pub fn fail_pull(&self, image: &str, text: &str) {
        self.plan().pulls.push((image.to_owned(), text.to_owned()));
    }

    /// From now on the volumes of a task lie on a disk of so many bytes; needs root.
    pub fn small_disk(&self, bytes: u64) {
        self.plan().disk = Some(bytes);
    }

    /// The next task fails to start with `reason`; call it again for the one after.
    pub fn fail_start(&self, reason: &str) {
        self.plan().starts.push(reason.to_owned());
    }

    /// Every task waits this long, on the sandbox's clock, in PROVISIONING.
    pub fn delay_start(&self, delay: Duration) {
        self.plan().delay = delay;
    }

    /// The next `n` calls of DescribeTasks say MISSING for every task (aws.md §1.5).
    pub fn missing_after_run(&self, n: u32) {
        self.plan().missing = n;
    }

    /// The next `n` events never arrive.
    pub fn lose_events(&self, n: u32) {
        self.plan().lost_events = n;
    }

    /// The next `n` events arrive twice, with the same version.
    pub fn double_events(&self, n: u32) {
        self.plan().doubled_events = n;
    }

    /// Takes back everything.
    pub fn clear(&self) {
        *self.plan() = Plan::default();
    }

    pub(super) fn no_capacity(&self) -> bool {
        take(&mut self.plan().capacity_unavailable)
    }

    pub(super) fn vcpus(&self, spot: bool) -> u32 {
        self.plan().vcpus.get(&spot).copied().unwrap_or(VCPUS)
    }

    pub(super) fn launches(&self) -> (f64, f64) {
        self.plan().launches.unwrap_or((100.0, 20.0))
    }

    pub(super) fn throttled(&self, operation: &str) -> bool {
        self.plan().throttle.get_mut(operation).is_some_and(take)
    }

    pub(super) fn server_fails(&self, operation: &str, when: When) -> bool {
        let mut plan = self.plan();
        let mut mine = plan.server_error.iter_mut().filter(|(name, _, at)| name == operation && *at == when);
        mine.any(|(_, left, _)| take(left))
    }

    pub(super) fn pull_failure(&self, image: &str) -> Option<String> {
        self.plan().pulls.iter().find(|(part, _)| image.contains(part)).map(|(_, text)| text.clone())
    }

    pub(super) fn start_failure(&self) -> Option<String> {
        let mut plan = self.plan();
        (!plan.starts.is_empty()).then(|| plan.starts.remove(0))
    }

    pub(super) fn start_delay(&self) -> Duration {
        self.plan().delay
    }

    pub(super) fn disk(&self) -> Option<u64> {
        self.plan().disk
    }

    pub(super) fn is_missing(&self) -> bool {
        take(&mut self.plan().missing)
    }

    /// How often the next event is delivered.
    pub(super) fn deliveries(&self) -> usize {
        let mut plan = self.plan();
        if take(&mut plan.lost_events) {
            0
        } else if take(&mut plan.doubled_events) {
            2
        } else {
            1
        }
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn take(left: &mut u32) -> bool {
    let any = *left > 0;
    *left = left.saturating_sub(1);
    any
}
