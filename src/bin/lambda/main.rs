//! One bootstrap for the three functions; `_HANDLER` picks `webhook`, `dispatcher` or `broker`.
//!
//! Only wiring: AWS' events become ours here, secrets and messages go through AWS here, and nothing is decided.

mod broker;
mod dispatcher;
mod environment;
mod webhook;

use anyhow::{Context, bail};
use aws_config::{AppName, BehaviorVersion, SdkConfig};
use mayfly::functions::aws_timeouts;
use mayfly::telemetry::{self, LogForm};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    telemetry::init(LogForm::Json, "info");
    let handler = std::env::var("_HANDLER").context("`_HANDLER` is not set: this program runs in AWS Lambda")?;
    let name = match handler.as_str() {
        "webhook" => "mayfly-webhook",
        "dispatcher" => "mayfly-dispatcher",
        "broker" => "mayfly-broker",
        other => bail!("the handler `{other}` is none of `webhook`, `dispatcher`, `broker`"),
    };
    let aws = sdk(name).await?;
    let run = match handler.as_str() {
        "webhook" => webhook::serve(&aws).await,
        "dispatcher" => dispatcher::serve(&aws).await,
        _ => broker::serve(&aws).await,
    };
    run.map_err(|error| anyhow::anyhow!("{error}"))
}

async fn sdk(name: &'static str) -> anyhow::Result<SdkConfig> {
    let name = AppName::new(name)?;
    let config = aws_config::defaults(BehaviorVersion::latest()).app_name(name);
    Ok(config.timeout_config(aws_timeouts()).load().await)
}
