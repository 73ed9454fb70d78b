//! The webhook behind its function URL. Its secret is one JSON text: `{"secret_tokens": [], "signing_tokens": []}`.

use std::sync::Arc;

use anyhow::Context;
use aws_config::SdkConfig;
use jiff::Timestamp;
use lambda_http::{Error, Request, Response, run, service_fn};
use mayfly::functions::{Refreshable, answer_hook};
use mayfly::gitlab::WebhookSecrets;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::secrets::SecretStore;
use super::variable;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HookSecret {
    #[serde(default)]
    secret_tokens: Vec<SecretString>,
    #[serde(default)]
    signing_tokens: Vec<SecretString>,
}

struct Webhook {
    store: SecretStore,
    secret: String,
    secrets: Refreshable<WebhookSecrets>,
    sqs: aws_sdk_sqs::Client,
    queue: String,
}

pub async fn serve(aws: &SdkConfig) -> Result<(), Error> {
    let webhook = Arc::new(Webhook {
        store: SecretStore::new(aws),
        secret: variable("MAYFLY_WEBHOOK_SECRET")?,
        secrets: Refreshable::default(),
        sqs: aws_sdk_sqs::Client::new(aws),
        queue: variable("MAYFLY_QUEUE_URL")?,
    });
    run(service_fn(move |request| {
        let webhook = Arc::clone(&webhook);
        async move { webhook.answer(request).await }
    }))
    .await
}

impl Webhook {
    /// The body is raw here: `lambda_http` has decoded what came as base64.
    async fn answer(&self, request: Request) -> Result<Response<String>, Error> {
        if self.store.is_stale() {
            // Without secrets nobody can be judged: an error makes GitLab show a failure, a 401 would blame the sender.
            self.secrets.replace(self.read_secrets().await?);
            self.store.refreshed();
        }
        let answer = answer_hook(&self.secrets.get(), request.headers(), request.body(), Timestamp::now());
        if let Some(event) = &answer.event {
            let body = serde_json::to_string(event)?;
            self.sqs.send_message().queue_url(&self.queue).message_body(body).send().await?;
        }
        Ok(Response::builder().status(answer.status).body(answer.message)?)
    }

    async fn read_secrets(&self) -> anyhow::Result<WebhookSecrets> {
        let text = self.store.text(&self.secret).await?;
        // The error of a wrong shape may quote the value: only its place is told.
        let secret: HookSecret = serde_json::from_str(text.expose_secret())
            .map_err(|error| anyhow::anyhow!("line {}, column {}", error.line(), error.column()))
            .context("the webhook's secret is not `{\"secret_tokens\": [], \"signing_tokens\": []}`")?;
        Ok(WebhookSecrets { tokens: secret.secret_tokens, signing_tokens: secret.signing_tokens })
    }
}
