//! Takes batches of events apart: hints first, then what needs the lease.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use tracing::error;
use url::Url;

use crate::config::{Fleet, Runner};
use crate::gitlab::{HttpClients, Identity, JobClient};
use crate::launch::Ecs;
use crate::ledger::{JobKey, Ledger};

use crate::functions::{DispatcherSecrets, Event, Later, Message, Now, Refreshable};

/// What came of a batch of events.
#[derive(Debug, Default)]
pub struct Handled {
    /// Messages to send.
    pub later: Vec<Later>,
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
    /// Looks at one runner begin so far apart: [`LOOK_SPACING`](crate::ledger::LOOK_SPACING) for a GitLab of others.
    pub look_spacing: SignedDuration,
}

/// Jobs that are handled at one time.
pub(super) const AT_ONCE: usize = 16;

/// What a holder of the lease has to do.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// Runners to look at, with how often they were looked at in vain before.
    pub(super) looks: BTreeMap<String, u8>,
    /// Jobs to bring on.
    pub(super) drive: Vec<JobKey>,
}

impl Dispatcher {
    /// Handles a batch of messages; no work is begun that may not end before `deadline`.
    pub async fn handle(&self, messages: &[Message], deadline: Timestamp) -> Handled {
        let mut handled = Handled::default();
        let mut wanted = Wanted::default();
        // Stopped tasks first: they free capacity, and people wait to hear of them.
        let (stopped, others): (Vec<_>, Vec<_>) =
            messages.iter().enumerate().partition(|(_, message)| matches!(message.event, Event::Stopped(_)));
        for batch in [stopped, others] {
            let hints: Vec<BoxFuture<'_, _>> = batch
                .into_iter()
                .map(|(place, message)| async move { (place, self.hint(&message.event).await) }.boxed())
                .collect();
            let mut results = stream::iter(hints).buffer_unordered(AT_ONCE);
            while let Some((place, result)) = results.next().await {
                match result {
                    Ok(hint) => {
                        handled.later.extend(hint.later.into_iter().filter_map(|l| l.behind(messages[place].hops)));
                        wanted.add(hint.wanted);
                    }
                    Err(error) => {
                        error!(error = %error, "an event could not be handled and comes again");
                        handled.failed.push(place);
                    }
                }
            }
        }
        if !wanted.is_empty() {
            match self.with_lease(wanted, deadline).await {
                Ok(later) => {
                    // What was done under the lease was asked for by all of them.
                    let hops = messages.iter().map(|message| message.hops).max().unwrap_or_default();
                    handled.later.extend(later.into_iter().filter_map(|later| later.behind(hops)));
                }
                Err(error) => {
                    error!(error = %error, "the lease could not be used; the events come again");
                    handled.failed = (0..messages.len()).collect();
                }
            }
        }
        handled
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

    pub(super) fn now(&self) -> Timestamp {
        (self.now)()
    }
}

impl Wanted {
    fn is_empty(&self) -> bool {
        self.looks.is_empty() && self.drive.is_empty()
    }

    fn add(&mut self, other: Wanted) {
        for (runner, in_vain) in other.looks {
            let known = self.looks.entry(runner).or_insert(in_vain);
            *known = (*known).min(in_vain);
        }
        for job in other.drive {
            if !self.drive.contains(&job) {
                self.drive.push(job);
            }
        }
    }
}

fn is_same_instance(one: &Url, other: &Url) -> bool {
    let place = |url: &Url| {
        let path = url.path().trim_end_matches('/').to_owned();
        (url.host_str().map(str::to_owned), url.port_or_known_default(), path)
    };
    place(one) == place(other)
}
