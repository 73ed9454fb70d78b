//! The dispatcher behind its queues: batches with partial failures.

use std::sync::Arc;

use anyhow::Context;
use aws_config::SdkConfig;
use jiff::Timestamp;
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use mayfly::functions::{
    Dispatcher, DispatcherSecrets, FleetReader, Handled, Later, Message, NotReady, Refreshable, RunnerTokens,
    SecretReader, SendLater, runner_tokens, signing_key,
};
use mayfly::gitlab::{HttpClients, Sender};
use mayfly::launch::Ecs;
use mayfly::ledger::keys::SigningKey;
use mayfly::ledger::{Ledger, POLL_SPACING, Store};
use serde::{Deserialize, Serialize};
use tracing::{error, warn};

use super::environment::{FLEET, ledger_bucket, packed_agents, stack, variable};

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
    fleet: FleetReader,
    tokens: SecretReader<RunnerTokens>,
    ticket_key: SecretReader<SigningKey>,
    ledger: Ledger,
    ecs: Ecs,
    http: HttpClients,
    send: SendLater,
}

pub async fn serve(aws: &SdkConfig) -> Result<(), Error> {
    let secrets = aws_sdk_secretsmanager::Client::new(aws);
    let s3 = aws_sdk_s3::Client::new(aws);
    let broker = variable("MAYFLY_BROKER_URL")?.parse().context("`MAYFLY_BROKER_URL` is not a URL")?;
    let stack = stack()?.with_broker(Some(broker), packed_agents().by_architecture());
    let (Some(tasks), Some(region)) = (&stack.tasks, &stack.region) else {
        return Err("`MAYFLY_STACK` names no cluster or no region".into());
    };
    let function = Arc::new(Function {
        ledger: Ledger::new(Store::new(s3.clone(), ledger_bucket(&stack)?)),
        ecs: Ecs::new(aws_sdk_ecs::Client::new(aws), &tasks.cluster, region),
        fleet: FleetReader::new(s3, &variable(FLEET)?, stack)?,
        tokens: SecretReader::new(secrets.clone(), variable("MAYFLY_RUNNER_TOKENS")?, runner_tokens),
        ticket_key: SecretReader::new(secrets, variable("MAYFLY_TICKET_KEY")?, signing_key),
        http: HttpClients::new(Sender::Dispatcher),
        send: send_to(aws_sdk_sqs::Client::new(aws), variable("MAYFLY_QUEUE_URL")?),
    });
    run(service_fn(move |event| {
        let function = Arc::clone(&function);
        async move { function.handle(event).await }
    }))
    .await
}

impl Function {
    async fn handle(&self, event: LambdaEvent<SqsEvent>) -> Result<BatchResponse, Error> {
        let deadline = i64::try_from(event.context.deadline).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
        let deadline = deadline.unwrap_or_else(Timestamp::now);
        // A message of a shape that we do not know is taken from the queue.
        let read = |record: SqsRecord| Some((record.message_id, Message::read(&record.body)?));
        let (ids, messages): (Vec<_>, Vec<_>) = event.payload.records.into_iter().filter_map(read).unzip();
        let handled = match self.dispatcher().await {
            Ok(dispatcher) => dispatcher.handle(&messages, deadline).await,
            Err(why) => {
                warn!("{why}");
                Handled { failed: why.come_again(&messages) }
            }
        };
        let failed = handled.failed.into_iter().filter_map(|place| ids.get(place).cloned());
        let failures = failed.map(|item_identifier| BatchItemFailure { item_identifier });
        Ok(BatchResponse { batch_item_failures: failures.collect() })
    }

    /// The dispatcher as the fleet and the secrets are now.
    async fn dispatcher(&self) -> Result<Dispatcher, NotReady> {
        let (fleet, key) = tokio::try_join!(self.fleet.get(), self.ticket_key.get())?;
        // A runner that is new in the fleet has its token a moment before or after.
        let is_missing = |tokens: &RunnerTokens| fleet.runners.iter().any(|runner| !tokens.contains_key(&runner.name));
        // Tasks that stop need no runner token: their jobs are ended all the same.
        let tokens = self.tokens.get_unless(is_missing).await.unwrap_or_else(|why| {
            error!("no job can be claimed: {why}");
            Arc::default()
        });
        let secrets = DispatcherSecrets { runner_tokens: (*tokens).clone(), ticket_key: key.current.clone() };
        Ok(Dispatcher {
            fleet,
            ledger: self.ledger.clone(),
            ecs: self.ecs.clone(),
            http: self.http.clone(),
            secrets: Refreshable::new(secrets),
            now: Arc::new(Timestamp::now),
            send: Arc::clone(&self.send),
            poll_spacing: POLL_SPACING,
        })
    }
}

/// Sends follow-up messages to the queue at `url`.
fn send_to(sqs: aws_sdk_sqs::Client, url: String) -> SendLater {
    Arc::new(move |later: Later| {
        let request = sqs.send_message().queue_url(&url);
        Box::pin(async move {
            let delay = i32::try_from(later.delay.as_secs().min(900))?;
            let body = serde_json::to_string(&later.message)?;
            request.message_body(body).delay_seconds(delay).send().await.context("sending a message to the queue")?;
            Ok(())
        })
    })
}
