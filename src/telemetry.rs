//! Sets up our own log: JSON for CloudWatch, readable lines on a terminal. Never a token, never a variable's value.

use tracing_subscriber::EnvFilter;

/// Which form the log has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogForm {
    /// One JSON object a line, to standard output.
    Json,
    /// For people, to standard error.
    Text,
}

/// The log level that is set for a function in Lambda, as its environment tells it.
const LAMBDA_LEVEL: &str = "AWS_LAMBDA_LOG_LEVEL";

/// Sets up the log, once per process. `RUST_LOG` replaces `default` (for example `info`), as does Lambda's own setting.
///
/// Each JSON line carries `level` and an RFC 3339 `timestamp`: by these two Lambda filters a function's log.
pub fn init(form: LogForm, default: &str) {
    let lambda = std::env::var(LAMBDA_LEVEL).unwrap_or_default().to_lowercase();
    let level = match lambda.as_str() {
        "trace" | "debug" | "info" | "warn" | "error" => &lambda,
        "fatal" => "error",
        _ => default,
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_target(false);
    // A second call, in a test say, leaves the first one's log as it is.
    let _ = match form {
        LogForm::Json => builder.json().flatten_event(true).try_init(),
        LogForm::Text => builder.with_writer(std::io::stderr).compact().try_init(),
    };
}
