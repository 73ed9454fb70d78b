//! The webhook behind its function URL.

use std::sync::Arc;

use aws_config::SdkConfig;
use jiff::Timestamp;
use lambda_http::{Error, Request, Response, run, service_fn};
use mayfly::functions::{Message, SecretReader, answer_hook, webhook_secrets};
use mayfly::gitlab::WebhookSecrets;
use tracing::error;

use super::environment::variable;

struct Webhook {
    secrets: SecretReader<WebhookSecrets>,
    sqs: aws_sdk_sqs::Client,
    queue: String,
}

pub async fn serve(aws: &SdkConfig) -> Result<(), Error> {
    let secret = variable("MAYFLY_WEBHOOK_SECRET")?;
    let webhook = Arc::new(Webhook {
        secrets: SecretReader::new(aws_sdk_secretsmanager::Client::new(aws), secret, webhook_secrets),
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
        let secrets = match self.secrets.get().await {
            Ok(secrets) => secrets,
            // Without secrets no sender can be judged: a 401 would blame the sender.
            Err(why) => {
                error!("{why}");
                return Ok(Response::builder().status(503).body(why.public())?);
            }
        };
        let answer = answer_hook(&secrets, request.headers(), request.body(), Timestamp::now());
        if let Some(event) = answer.event {
            let body = serde_json::to_string(&Message::new(event))?;
            self.sqs.send_message().queue_url(&self.queue).message_body(body).send().await?;
        }
        Ok(Response::builder().status(answer.status).body(answer.message)?)
    }
}
