//! Stages, attempts, timeouts, cancelling, and how a job ends.
