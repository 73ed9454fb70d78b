//! Owns our own log: JSON for CloudWatch, readable lines on a terminal. Never a token, never a variable's value.

use tracing_subscriber::EnvFilter;

/// Which form the log has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogForm {
    /// One JSON object a line, to standard output.
    Json,
    /// For people, to standard error.
    Text,
}

/// Sets the log up, once a process; `RUST_LOG` says more or less than `default` (for example `info`).
pub fn init(form: LogForm, default: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_target(false);
    // A second call, in a test say, leaves the first one's log as it is.
    let _ = match form {
        LogForm::Json => builder.json().flatten_event(true).without_time().try_init(),
        LogForm::Text => builder.with_writer(std::io::stderr).compact().try_init(),
    };
}
