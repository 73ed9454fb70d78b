//! Sends hooks: at most once, signed, with ten seconds to answer (gitlab-protocol.md §1.2 to §1.4).

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::faults::later;
use super::options::Hook;
use super::shared::Shared;
use super::state::{Delivered, Delivery, HookRow, State};
use super::status::Status;

/// `gitlab.webhook_timeout` (§1.4).
const TIMEOUT: Duration = Duration::from_secs(10);
/// The failure that disables a hook for a while, and the one that disables it for good (§1.4).
const DISABLED_FROM: u32 = 4;
const DISABLED_FOR_GOOD_FROM: u32 = 40;

/// Adds a hook and the task that sends for it, one after the other; returns the hook's id.
pub(super) fn add(shared: &Arc<Shared>, project: u64, spec: Hook) -> usize {
    let (queue, waiting) = unbounded_channel();
    let index = shared.change(|state| {
        state.hooks.push(HookRow { project, spec, failures: 0, disabled_until: None, queue });
        state.hooks.len() - 1
    });
    let sender = Arc::clone(shared);
    shared.runtime.spawn(async move {
        tokio::select! {
            () = sender.stop.cancelled() => {}
            () = send_all(&sender, index, waiting) => {}
        }
    });
    index + 1
}

impl State {
    pub fn fire_job_hook(&mut self, id: u64) {
        let Some(job) = self.jobs.get(&id) else { return };
        let (project, status) = (job.project, job.status);
        let body = self.job_hook_body(id);
        self.queue_hooks(project, "Job Hook", &body, Some((id, status)));
    }

    pub fn fire_pipeline_hook(&mut self, id: u64) {
        let Some(pipeline) = self.pipelines.get(&id) else { return };
        let project = pipeline.project;
        let body = self.pipeline_hook_body(id);
        self.queue_hooks(project, "Pipeline Hook", &body, None);
    }

    /// Sends a delivery again, as a manual resend does: same bytes, same key (§1.4).
    pub fn redeliver(&mut self, index: usize) -> Option<usize> {
        let delivery = self.deliveries.get(index)?.clone();
        Some(self.queue_one(Delivery { status: None, delivered: Delivered::Waiting, ..delivery }))
    }

    fn queue_hooks(&mut self, project: u64, event: &str, body: &Value, job: Option<(u64, Status)>) {
        let now = self.clock.now();
        for hook in 0..self.hooks.len() {
            let row = &self.hooks[hook];
            let listens = if event == "Job Hook" { row.spec.job_events } else { row.spec.pipeline_events };
            if row.project != project || !listens {
                continue;
            }
            let disabled = row.disabled_until.is_some_and(|until| now < until);
            let key = uuid::Uuid::new_v4().to_string();
            let waiting = Delivered::Waiting;
            let event = event.to_owned();
            let delivery = Delivery { event, status: None, body: body.to_string(), delivered: waiting, key, hook };
            if disabled || self.faults.lost_hooks > 0 {
                // §1.4: while a hook is disabled its events are lost.
                self.faults.lost_hooks = self.faults.lost_hooks.saturating_sub(usize::from(!disabled));
                self.deliveries.push(Delivery { delivered: Delivered::Lost, ..delivery });
                continue;
            }
            let doubled = self.faults.doubled_hooks > 0;
            self.faults.doubled_hooks = self.faults.doubled_hooks.saturating_sub(1);
            for _ in 0..=usize::from(doubled) {
                match job {
                    // E7: `running` overtakes `pending`.
                    Some((id, Status::Pending)) if self.faults.running_first => {
                        self.deliveries.push(delivery.clone());
                        self.held.push((id, self.deliveries.len() - 1));
                    }
                    _ => drop(self.queue_one(delivery.clone())),
                }
            }
        }
        if let Some((id, status)) = job
            && status != Status::Pending
            && status != Status::Created
        {
            self.release_held(id);
        }
    }

    fn queue_one(&mut self, delivery: Delivery) -> usize {
        let hook = delivery.hook;
        self.deliveries.push(delivery);
        let index = self.deliveries.len() - 1;
        self.send(hook, index);
        index
    }

    fn release_held(&mut self, job: u64) {
        let (released, held) = self.held.drain(..).partition(|(id, _)| *id == job);
        self.held = held;
        let released: Vec<(u64, usize)> = released;
        for (_, index) in released {
            self.send(self.deliveries[index].hook, index);
        }
    }

    fn send(&self, hook: usize, index: usize) {
        // A closed queue means that the server has stopped.
        if let Some(row) = self.hooks.get(hook) {
            let _ = row.queue.send(index);
        }
    }

    fn delivered(&mut self, index: usize, status: Option<u16>) {
        let now = self.clock.now();
        let Some(delivery) = self.deliveries.get_mut(index) else { return };
        delivery.status = status;
        delivery.delivered = if status.is_some() { Delivered::Answered } else { Delivered::Failed };
        let Some(row) = self.hooks.get_mut(delivery.hook) else { return };
        // §1.4: any 2xx or 3xx is a success and resets the counter.
        if status.is_some_and(|status| (200..400).contains(&status)) {
            row.failures = 0;
            row.disabled_until = None;
            return;
        }
        row.failures += 1;
        if row.failures >= DISABLED_FOR_GOOD_FROM {
            row.disabled_until = Some(jiff::Timestamp::MAX);
        } else if row.failures >= DISABLED_FROM {
            let minutes = 1_u64 << (row.failures - DISABLED_FROM).min(11);
            row.disabled_until = Some(later(now, Duration::from_secs(60 * minutes.min(24 * 60))));
        }
    }
}

async fn send_all(shared: &Arc<Shared>, hook: usize, mut waiting: UnboundedReceiver<usize>) {
    while let Some(index) = waiting.recv().await {
        let found = shared.read(|state| {
            let row = state.hooks.get(hook)?;
            Some((row.spec.clone(), state.deliveries.get(index)?.clone(), state.url.clone()))
        });
        let Some((spec, delivery, instance)) = found else { continue };
        let status = tokio::select! {
            status = send(shared, &spec, delivery, &instance) => status,
            () = shared.clock.sleep(TIMEOUT) => None,
        };
        shared.change(|state| state.delivered(index, status));
    }
}

async fn send(shared: &Arc<Shared>, spec: &Hook, delivery: Delivery, instance: &str) -> Option<u16> {
    let mut request = shared
        .http
        .post(&spec.url)
        .header("Content-Type", "application/json")
        .header("User-Agent", "GitLab/19.4.0")
        .header("X-Gitlab-Event", &delivery.event)
        .header("X-Gitlab-Webhook-UUID", uuid::Uuid::new_v4().to_string())
        .header("X-Gitlab-Event-UUID", uuid::Uuid::new_v4().to_string())
        .header("X-Gitlab-Instance", instance)
        .header("Idempotency-Key", &delivery.key);
    if let Some(token) = &spec.secret_token {
        request = request.header("X-Gitlab-Token", token.replace(['\r', '\n'], ""));
    }
    if let Some(token) = &spec.signing_token {
        let timestamp = shared.clock.now().as_second();
        let Some(signature) = sign(token, &delivery.key, timestamp, &delivery.body) else {
            tracing::error!("a signing token is not `whsec_` and base64 of 32 bytes: nothing is sent");
            return None;
        };
        request = request
            .header("webhook-id", &delivery.key)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature);
    }
    match request.body(delivery.body).send().await {
        Ok(response) => Some(response.status().as_u16()),
        Err(error) => {
            tracing::debug!("a hook was not delivered: {error}");
            None
        }
    }
}

/// The Standard Webhooks signature (§1.3).
fn sign(token: &str, id: &str, timestamp: i64, body: &str) -> Option<String> {
    let key = BASE64_STANDARD.decode(token.strip_prefix("whsec_")?).ok().filter(|key| key.len() == 32)?;
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).ok()?;
    mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
    Some(format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_the_one_that_openssl_makes() {
        // printf 'id.1700000000.{}' | openssl dgst -sha256 -hmac "$(printf '%032d' 0)" -binary | base64
        let token = format!("whsec_{}", BASE64_STANDARD.encode("0".repeat(32)));

        let signature = sign(&token, "id", 1_700_000_000, "{}").expect("a key");

        assert_eq!(signature, "v1,TreL+5g8kycwCvVQU4bfHvWVx/0ZN8WAHOzSeiFa5No=");
        assert_eq!(sign("whsec_c2hvcnQ=", "id", 1, "{}"), None);
        assert_eq!(sign("plain", "id", 1, "{}"), None);
    }
}
