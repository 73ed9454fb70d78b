//! The dispatcher behind its queue: batches with partial failures.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_config::SdkConfig;
use jiff::Timestamp;
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use mayfly::config::Fleet;
use mayfly::functions::{Dispatcher, DispatcherSecrets, Event, Later, Refreshable};
use mayfly::gitlab::{Sender, http_client};
use mayfly::launch::Ecs;
use mayfly::ledger::{LOOK_SPACING, Ledger, Store};
use serde::{Deserialize, Serialize};

use super::fleet::fleet;
use super::secrets::SecretStore;
use super::variable;

#[derive(Deserialize)]
struct SqsEvent {
    #[serde(rename = "Records")]
    records: Vec<SqsRecord>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SqsRecord {
    message_id: String,
    #[serde(default)]
    body: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BatchResponse {
    batch_item_failures: Vec<BatchItemFailure>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BatchItemFailure {
    item_identifier: String,
}

struct Function {
    dispatcher: Dispatcher,
    store: SecretStore,
    sqs: aws_sdk_sqs::Client,
    queue: String,
}

pub async fn serve(aws: &SdkConfig) -> Result<(), Error> {
    let store = SecretStore::new(aws);
    let fleet = Arc::new(fleet(aws).await?);
    let secrets = Refreshable::new(secrets(&store, &fleet).await?);
    store.refreshed();
    let dispatcher = Dispatcher {
        ledger: Ledger::new(Store::new(aws_sdk_s3::Client::new(aws), &fleet.ledger.bucket)),
        ecs: Ecs::new(aws_sdk_ecs::Client::new(aws), &fleet.tasks.cluster, &fleet.region),
        http: http_client(Sender::Dispatcher)?,
        fleet,
        secrets,
        now: Arc::new(Timestamp::now),
        look_spacing: LOOK_SPACING,
    };
    let queue = variable("MAYFLY_QUEUE_URL")?;
    let function = Arc::new(Function { dispatcher, store, sqs: aws_sdk_sqs::Client::new(aws), queue });
    run(service_fn(move |event| {
        let function = Arc::clone(&function);
        async move { function.handle(event).await }
    }))
    .await
}

impl Function {
    async fn handle(&self, event: LambdaEvent<SqsEvent>) -> Result<BatchResponse, Error> {
        if self.store.is_stale() {
            self.dispatcher.secrets.replace(secrets(&self.store, &self.dispatcher.fleet).await?);
            self.store.refreshed();
        }
        let deadline = i64::try_from(event.context.deadline).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
        let deadline = deadline.unwrap_or_else(Timestamp::now);
        // What we do not know is not ours to keep: it is taken from the queue.
        let read = |record: SqsRecord| Some((record.message_id, Event::read(&record.body)?));
        let (ids, events): (Vec<_>, Vec<_>) = event.payload.records.into_iter().filter_map(read).unzip();
        let handled = self.dispatcher.handle(&events, deadline).await;
        for later in &handled.later {
            self.send(later).await?;
        }
        let failed = handled.failed.into_iter().filter_map(|place| ids.get(place).cloned());
        let failures = failed.map(|item_identifier| BatchItemFailure { item_identifier });
        Ok(BatchResponse { batch_item_failures: failures.collect() })
    }

    async fn send(&self, later: &Later) -> Result<(), Error> {
        let delay = i32::try_from(later.delay.as_secs().min(900))?;
        let body = serde_json::to_string(&later.event)?;
        let message = self.sqs.send_message().queue_url(&self.queue).message_body(body);
        message.delay_seconds(delay).send().await?;
        Ok(())
    }
}

async fn secrets(store: &SecretStore, fleet: &Fleet) -> anyhow::Result<DispatcherSecrets> {
    let mut runner_tokens = BTreeMap::new();
    for runner in &fleet.runners {
        runner_tokens.insert(runner.name.clone(), store.text(&runner.token).await?);
    }
    Ok(DispatcherSecrets { runner_tokens, ticket_key: store.text(&variable("MAYFLY_TICKET_KEY")?).await? })
}
