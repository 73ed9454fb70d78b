//! The time limits of every AWS client, the same in production and in the sandbox.

use std::time::Duration;

use aws_config::timeout::TimeoutConfig;

/// To connect, to wait for a byte, and for one attempt; the SDK repeats an attempt that failed.
///
/// Without them a connection that hangs would hold a function until its own timeout.
pub fn aws_timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(3))
        .read_timeout(Duration::from_secs(20))
        .operation_attempt_timeout(Duration::from_secs(20))
        .build()
}
