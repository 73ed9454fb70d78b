//! Owns what one ECS knows: definitions, tasks, tokens and events, and the one way to change a task.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::watch;
use uuid::Uuid;

use super::definitions::Definitions;
use super::faults::Faults;
use super::host::Host;
use super::options::Options;
use super::task::{Stamps, Status, StopCause, Task, Wish, stamp};
use super::throttle::Buckets;

/// What everybody in one ECS shares.
pub(super) struct Shared {
    pub(super) options: Options,
    pub(super) faults: Faults,
    pub(super) metadata_url: String,
    pub(super) host: Host,
    keep_volumes: AtomicBool,
    pub(super) changed: watch::Sender<()>,
    state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) definitions: Definitions,
    pub(super) buckets: Buckets,
    pub(super) tokens: HashMap<String, Token>,
    pub(super) violations: Vec<String>,
    told: Vec<Told>,
    tasks: BTreeMap<u64, Task>,
    by_id: HashMap<String, u64>,
    live: usize,
    cpu_units: HashMap<bool, u64>,
}

/// What a client token stands for (aws.md §1.5).
pub(super) struct Token {
    pub(super) request: Value,
    pub(super) arns: Vec<String>,
    pub(super) since: Timestamp,
}

/// What one event tells. Ten thousand tasks have ninety thousand of them, so they are only written when somebody reads.
#[derive(Clone)]
struct Told {
    id: Uuid,
    time: Timestamp,
    task: Task,
}

impl Shared {
    pub(super) fn new(options: Options, metadata_url: String, host: Host) -> Shared {
        Shared {
            options,
            faults: Faults::default(),
            metadata_url,
            host,
            keep_volumes: AtomicBool::new(false),
            changed: watch::Sender::new(()),
            state: Mutex::default(),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now(&self) -> Timestamp {
        self.options.clock.now()
    }

    pub(super) fn keeps_volumes(&self) -> bool {
        self.keep_volumes.load(Ordering::SeqCst)
    }

    pub(super) fn keep_volumes(&self, keep: bool) {
        self.keep_volumes.store(keep, Ordering::SeqCst);
    }

    /// Adds a new task and says so.
    pub(super) fn add(&self, state: &mut State, task: Task) {
        let number = state.tasks.last_key_value().map_or(0, |(number, _)| number + 1);
        let told = self.told(&task);
        state.by_id.insert(task.id.clone(), number);
        state.live += 1;
        *state.cpu_units.entry(task.is_spot()).or_default() += u64::from(task.size.cpu);
        state.tasks.insert(number, task);
        self.tell(state, told);
    }

    /// Reads one task, stopped or not.
    pub(super) fn look<R>(&self, name: &str, read: impl FnOnce(&Task) -> R) -> Option<R> {
        self.state().task(name).map(read)
    }

    /// Changes one task: its version rises and an event says so (aws.md §3).
    pub(super) fn change<R>(&self, name: &str, change: impl FnOnce(&mut Task) -> R) -> Option<R> {
        let mut state = self.state();
        self.change_in(&mut state, name, change)
    }

    /// [`Self::change`], for who already holds the state.
    pub(super) fn change_in<R>(&self, state: &mut State, name: &str, change: impl FnOnce(&mut Task) -> R) -> Option<R> {
        let task = state.task_mut(name)?;
        let was = task.last_status;
        let result = change(task);
        task.version += 1;
        let told = self.told(task);
        if task.last_status == Status::Stopped && was != Status::Stopped {
            let (is_spot, cpu) = (task.is_spot(), u64::from(task.size.cpu));
            state.live -= 1;
            *state.cpu_units.entry(is_spot).or_default() -= cpu;
        }
        self.tell(state, told);
        Some(result)
    }

    /// Changes a detail that no event speaks of.
    pub(super) fn note(&self, name: &str, change: impl FnOnce(&mut Task)) {
        if let Some(task) = self.state().task_mut(name) {
            change(task);
        }
        self.changed.send_replace(());
    }

    /// Wants a task stopped; the first cause stays.
    pub(super) fn stop(&self, state: &mut State, name: &str, cause: StopCause, wish: Wish) {
        let now = self.now();
        if state.task(name).is_none_or(|task| task.stop.is_some()) {
            return;
        }
        self.change_in(state, name, |task| {
            task.stop = Some(cause);
            task.times.stopping = Some(now);
            task.wish.send_replace(wish);
        });
    }

    /// Wants every task stopped, without grace.
    pub(super) fn stop_all(&self) {
        let mut state = self.state();
        let live = state.tasks().filter(|task| task.last_status != Status::Stopped);
        let arns: Vec<String> = live.map(|task| task.arn.clone()).collect();
        for arn in arns {
            let cause = StopCause { code: "UserInitiated", reason: "the sandbox shut down".to_owned() };
            self.stop(&mut state, &arn, cause, Wish::Interrupt);
        }
    }

    /// Every event ever sent.
    pub(super) fn events(&self) -> Vec<Value> {
        let told = self.state().told.clone();
        told.iter().map(|told| self.event(told)).collect()
    }

    fn told(&self, task: &Task) -> Told {
        Told { id: Uuid::new_v4(), time: self.now(), task: task.clone() }
    }

    fn tell(&self, state: &mut State, told: Told) {
        for _ in 0..self.faults.deliveries() {
            if !self.options.events.is_closed() {
                // A receiver that goes away just now misses nothing that it would have read.
                let _ = self.options.events.send(self.event(&told));
            }
            state.told.push(told.clone());
        }
        self.changed.send_replace(());
    }

    /// The EventBridge event about a task as it was then (aws.md §3).
    fn event(&self, told: &Told) -> Value {
        let Told { id, time, task } = told;
        let time = stamp(*time, Stamps::Text);
        let mut detail = task.to_json(Stamps::Text);
        detail["updatedAt"] = time.clone();
        json!({
            "version": "0", "id": id.to_string(), "detail-type": "ECS Task State Change",
            "source": "aws.ecs", "account": self.options.account, "time": time, "region": self.options.region,
            "resources": [task.arn], "detail": detail,
        })
    }
}

impl State {
    /// The task with this ARN or id.
    pub(super) fn task(&self, name: &str) -> Option<&Task> {
        self.tasks.get(self.by_id.get(id_of(name))?)
    }

    /// Every task in the order of launch.
    pub(super) fn tasks(&self) -> impl Iterator<Item = &Task> {
        self.tasks.values()
    }

    /// The tasks that the API still shows at `now`, with a key that sorts them.
    pub(super) fn visible_tasks(&self, now: Timestamp) -> impl Iterator<Item = (String, &Task)> {
        self.tasks
            .iter()
            .filter(move |(_, task)| task.is_visible(now))
            .map(|(number, task)| (format!("{number:020}"), task))
    }

    /// The CPU units of all tasks that are not STOPPED; On-Demand and Spot are counted apart (aws.md §1.4).
    pub(super) fn cpu_units(&self, spot: bool) -> u64 {
        self.cpu_units.get(&spot).copied().unwrap_or(0)
    }

    /// Takes the tags off a task.
    pub(super) fn untag(&mut self, name: &str) {
        if let Some(task) = self.task_mut(name) {
            task.tags = json!([]);
        }
    }

    /// Tasks that are not STOPPED.
    pub(super) fn live(&self) -> usize {
        self.live
    }

    fn task_mut(&mut self, name: &str) -> Option<&mut Task> {
        self.tasks.get_mut(self.by_id.get(id_of(name))?)
    }
}

/// The last part of an ARN, or the id itself.
pub(super) fn id_of(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}
