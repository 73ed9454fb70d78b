//! Stands before all servers, counts who sends, and kills.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use mayfly::sandbox::clock::Clock;
use mayfly::sandbox::ecs::Ecs;
use mayfly::sandbox::gitlab::GitLab;
use mayfly::sandbox::s3::S3;
use mayfly::sandbox::traffic::{Moment, Seen, Verdict};

use crate::outcome::Killed;
use crate::plot::Plot;
use crate::sender::Sender;
use crate::support::Story;

/// Counts requests and kills at most one sender, besides the helper of the plot.
#[derive(Clone)]
pub struct Gatekeeper(Arc<Mutex<State>>);

/// Kills the dispatcher or the broker.
pub type KillFunction = Arc<dyn Fn(Sender) + Send + Sync>;

struct State {
    plot: Plot,
    order: Option<(Sender, usize, Moment)>,
    /// The sender is held up for so long instead of killed.
    pause: Option<(Clock, Duration)>,
    paused: bool,
    world: World,
    /// The plot's own death has happened, or there is none.
    armed: bool,
    counts: HashMap<&'static str, usize>,
    /// The n-th request, on its way to its answer.
    marked: Option<Seen>,
    opened: bool,
    killed: Option<Killed>,
}

struct World {
    kill_function: KillFunction,
    ecs: Ecs,
    gitlab: GitLab,
    s3: S3,
}

impl Gatekeeper {
    /// Stands before the servers of `story`; `order` says whom to kill, at which request, before or after.
    pub fn stand(story: &Story, plot: Plot, order: Option<(Sender, usize, Moment)>) -> Gatekeeper {
        let deployment = story.sandbox.deployment.clone();
        let kill_function = Arc::new(move |sender| match sender {
            Sender::Dispatcher => deployment.kill_dispatcher(),
            _ => deployment.kill_broker(),
        });
        Gatekeeper::stand_with(story, plot, order, None, kill_function)
    }

    /// The same, where the sender is held up for `pause` and then goes on.
    pub fn hold_up(story: &Story, order: Option<(Sender, usize, Moment)>, pause: Duration) -> Gatekeeper {
        let pause = Some((story.sandbox.clock.clone(), pause));
        Gatekeeper::stand_with(story, Plot::Undisturbed, order, pause, Arc::new(|_| {}))
    }

    /// The same, where dispatcher and broker are killed by `kill_function`.
    pub fn stand_with(
        story: &Story,
        plot: Plot,
        order: Option<(Sender, usize, Moment)>,
        pause: Option<(Clock, Duration)>,
        kill_function: KillFunction,
    ) -> Gatekeeper {
        let sandbox = &story.sandbox;
        let world =
            World { kill_function, ecs: sandbox.ecs.clone(), gitlab: sandbox.gitlab.clone(), s3: sandbox.s3.clone() };
        let armed = plot.helper_dies().is_none();
        let counts = HashMap::new();
        let state = State {
            plot,
            order,
            pause,
            paused: false,
            world,
            armed,
            counts,
            marked: None,
            opened: false,
            killed: None,
        };
        let keeper = Gatekeeper(Arc::new(Mutex::new(state)));
        let gate = keeper.clone();
        sandbox.traffic.set_gate(move |seen, moment| {
            let keeper = gate.clone();
            let verdict = gate.lock().judge(&seen, moment);
            async move {
                let pause = keeper.lock().pause.clone().filter(|_| verdict == Verdict::Cut);
                let Some((clock, pause)) = pause else { return verdict };
                let _paused = Paused::begin(&keeper);
                clock.sleep(pause).await;
                Verdict::Pass
            }
            .boxed()
        });
        keeper
    }

    /// How many requests `sender` has made since the plot's own death.
    pub fn count(&self, sender: Sender) -> usize {
        self.lock().counts.get(sender.name()).copied().unwrap_or(0)
    }

    /// Whether the sender is held up now.
    pub fn is_paused(&self) -> bool {
        self.lock().paused
    }

    /// Who was killed, if the request came.
    pub fn killed(&self) -> Option<Killed> {
        self.lock().killed.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is held up, until it goes on or its sender no longer waits for it.
struct Paused(Gatekeeper);

impl Paused {
    fn begin(keeper: &Gatekeeper) -> Paused {
        keeper.lock().paused = true;
        Paused(keeper.clone())
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        self.0.lock().paused = false;
    }
}

impl State {
    fn judge(&mut self, seen: &Seen, moment: Moment) -> Verdict {
        let is_open = seen.server == "broker" && seen.path == "/open";
        self.opened |= is_open && moment == Moment::Answered;
        if !self.armed {
            self.armed = is_open && self.plot.helper_dies() == Some(moment);
            if self.armed {
                self.kill(Sender::Helper);
                return Verdict::Cut;
            }
            return Verdict::Pass;
        }
        let Some(sender) = Sender::of(seen) else { return Verdict::Pass };
        if moment == Moment::Arrived {
            *self.counts.entry(sender.name()).or_default() += 1;
        }
        if self.killed.is_some() || !self.is_hit(sender, seen, moment) {
            return Verdict::Pass;
        }
        let status = self.world.gitlab.jobs().first().map(|job| job.status()).unwrap_or_default();
        let stored = self.world.s3.keys("ledger").iter().any(|key| key.starts_with("claims/"));
        self.killed = Some(Killed { sender, request: seen.clone(), opened: self.opened, stored, status });
        if self.pause.is_none() {
            self.kill(sender);
        }
        Verdict::Cut
    }

    fn is_hit(&mut self, sender: Sender, seen: &Seen, moment: Moment) -> bool {
        let Some((whom, n, when)) = self.order else { return false };
        if sender != whom {
            return false;
        }
        if moment == Moment::Arrived && self.counts.get(sender.name()) == Some(&n) {
            self.marked = Some(seen.clone());
            return when == Moment::Arrived;
        }
        moment == Moment::Answered && when == Moment::Answered && self.marked.as_ref() == Some(seen)
    }

    fn kill(&self, sender: Sender) {
        match sender {
            Sender::Dispatcher | Sender::Broker => (self.world.kill_function)(sender),
            Sender::Helper => {
                for task in self.world.ecs.tasks() {
                    self.world.ecs.kill_container(&task.arn, "helper");
                }
            }
        }
    }
}
