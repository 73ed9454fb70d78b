//! Sends the events of stopped tasks to the stack's queue, as the EventBridge rule of a deployment does (aws.md §3).
//!
//! EventBridge is left out, because `PutEvents` refuses the source `aws.ecs`, on AWS and in ministack.

use aws_sdk_sqs::error::DisplayErrorContext;
use serde_json::Value;
use tokio::sync::mpsc::UnboundedReceiver;

use super::clients::StackAws;

/// Sends each event of a stopped task to `queue` until `events` is closed, and calls `failed` for those that cannot be
/// sent.
pub async fn send_stops(
    aws: StackAws,
    queue: String,
    mut events: UnboundedReceiver<Value>,
    failed: impl Fn(String) + Send,
) {
    let sqs = aws.sqs();
    while let Some(event) = events.recv().await {
        if event["detail"]["lastStatus"] != "STOPPED" {
            continue;
        }
        if let Err(error) = sqs.send_message().queue_url(&queue).message_body(event.to_string()).send().await {
            let task = event["detail"]["taskArn"].as_str().unwrap_or_default();
            failed(format!(
                "the event of the stopped task `{task}` cannot be sent to `{queue}`: {}",
                DisplayErrorContext(error)
            ));
        }
    }
}
