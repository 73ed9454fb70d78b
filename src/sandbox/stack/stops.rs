//! Tells the stack of stopped tasks, as the rule of a deployment does (aws.md §3).
//!
//! The event goes straight into the rule's queue: `PutEvents` refuses the source `aws.ecs`, on AWS and on ministack.

use aws_sdk_sqs::error::DisplayErrorContext;
use serde_json::Value;
use tokio::sync::mpsc::UnboundedReceiver;

use super::clients::StackAws;

/// Sends every event of a stopped task to `queue` until there are no more; `failed` hears of those that were not taken.
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
            failed(format!("`{queue}` does not take the end of task `{task}`: {}", DisplayErrorContext(error)));
        }
    }
}
