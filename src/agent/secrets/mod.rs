//! The stage resolve_secrets: asks Vault and AWS Secrets Manager for the job's secrets, with the job's own tokens.

mod aws;
mod error;
mod reply;
mod sigv4;
mod stage;
mod vault;

pub(super) use stage::resolve_secrets;
