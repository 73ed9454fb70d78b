//! Takes batches of events apart: what each needs by itself, and what only the holder of the lease may do.

use std::sync::Arc;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tracing::error;
use url::Url;

use crate::config::{Fleet, Runner};
use crate::functions::follow_ups::FollowUps;
use crate::functions::{DispatcherSecrets, Message, Now, Refreshable, SendLater};
use crate::gitlab::{HttpClients, Identity, JobClient};
use crate::launch::Ecs;
use crate::ledger::{JobKey, LaunchQuota, Ledger};

use super::error::DispatchError;
use super::wants::Wants;

/// What came of a batch of events.
#[derive(Debug, Default)]
pub struct Handled {
    /// Which events failed and must come again, by their place in the batch.
    pub failed: Vec<usize>,
}

/// The dispatcher.
#[derive(Clone)]
pub struct Dispatcher {
    /// The fleet.
    pub fleet: Arc<Fleet>,
    /// Claims, records, lease.
    pub ledger: Ledger,
    /// The cluster.
    pub ecs: Ecs,
    /// For requests about jobs.
    pub http: HttpClients,
    /// Its secrets.
    pub secrets: Refreshable<DispatcherSecrets>,
    /// The time.
    pub now: Now,
    /// Sends follow-up messages.
    pub send: SendLater,
    /// Empty polls of one runner are so far apart: [`POLL_SPACING`](crate::ledger::POLL_SPACING) for a GitLab of others.
    pub poll_spacing: SignedDuration,
}

/// Jobs and events that are handled at one time.
pub(super) const AT_ONCE: usize = 16;

/// One batch of messages on its way.
pub(super) struct Batch<'a> {
    pub(super) follow_ups: FollowUps<'a>,
    pub(super) deadline: Timestamp,
    /// How many messages led to the longest chain in the batch.
    pub(super) hops: u8,
}

impl Dispatcher {
    /// Handles a batch of messages; no work is begun that may not end before `deadline`.
    pub async fn handle(&self, messages: &[Message], deadline: Timestamp) -> Handled {
        let hops = messages.iter().map(|message| message.hops).max().unwrap_or_default();
        let batch = Batch { follow_ups: FollowUps::new(&self.send), deadline, hops };
        let (wants, wanted) = unbounded_channel();
        let events = async {
            let events: Vec<BoxFuture<'_, _>> = messages
                .iter()
                .enumerate()
                .map(|(place, message)| {
                    let (batch, wants) = (&batch, wants.clone());
                    async move { (place, self.event(message, batch, &wants).await) }.boxed()
                })
                .collect();
            drop(wants);
            let mut failed = Vec::new();
            let mut results = stream::iter(events).buffer_unordered(AT_ONCE);
            while let Some((place, result)) = results.next().await {
                if let Err(error) = result {
                    error!(error = %error, "an event could not be handled and comes again");
                    failed.push(place);
                }
            }
            failed
        };
        let (mut failed, served) = tokio::join!(events, self.serve(wanted, &batch));
        if let Err(error) = &served {
            error!(error = %error, "the lease could not be used; the events come again");
        }
        if served.is_err() || batch.follow_ups.have_failed() {
            failed = (0..messages.len()).collect();
        }
        Handled { failed }
    }

    /// Does under the lease what the events of a batch want, until they want no more.
    async fn serve(&self, mut wanted: UnboundedReceiver<Wants>, batch: &Batch<'_>) -> Result<(), DispatchError> {
        let mut result = Ok(());
        while let Some(mut wants) = wanted.recv().await {
            while let Ok(more) = wanted.try_recv() {
                wants.add(more);
            }
            if let Err(error) = self.with_lease(wants, &mut wanted, batch).await {
                result = Err(error);
            }
        }
        result
    }

    /// The runners of the GitLab that a hook came from; all, where none has its URL (as behind an internal one).
    pub(super) fn runners_of(&self, instance: Option<&str>) -> Vec<&Runner> {
        let given = instance.and_then(|text| text.parse::<Url>().ok());
        let same = |runner: &&Runner| given.as_ref().is_some_and(|url| is_same_instance(url, &runner.url));
        let named: Vec<&Runner> = self.fleet.runners.iter().filter(same).collect();
        if named.is_empty() { self.fleet.runners.iter().collect() } else { named }
    }

    /// What a job may be called in the ledger when a hook names it.
    pub(super) fn jobs_named(&self, instance: Option<&str>, job: u64) -> Vec<JobKey> {
        let mut keys: Vec<JobKey> =
            self.runners_of(instance).into_iter().map(|runner| JobKey::new(&runner.url, job)).collect();
        keys.sort();
        keys.dedup();
        keys
    }

    /// A client for a job of the GitLab at `gitlab`; `None`, and a line in the log, where there can be none.
    pub(super) fn job_client(&self, gitlab: &str, identity: &Identity) -> Option<JobClient> {
        let url: Url = gitlab.parse().inspect_err(|error| error!(error = %error, "`{gitlab}` is not a URL")).ok()?;
        let http = self.http.trusting(self.fleet.tls_ca(&url));
        let http = http.inspect_err(|error| error!(error = %error, "`{gitlab}` cannot be asked: {error}")).ok()?;
        Some(JobClient::new(http, &url, identity.id, identity.token.clone()))
    }

    /// How fast tasks may be launched.
    pub(super) fn launch_quota(&self) -> LaunchQuota {
        let launch = &self.fleet.launch;
        LaunchQuota { burst: launch.burst.into(), per_second: launch.per_second.into() }
    }

    pub(super) fn now(&self) -> Timestamp {
        (self.now)()
    }
}

fn is_same_instance(one: &Url, other: &Url) -> bool {
    let place = |url: &Url| {
        let path = url.path().trim_end_matches('/').to_owned();
        (url.host_str().map(str::to_owned), url.port_or_known_default(), path)
    };
    place(one) == place(other)
}
