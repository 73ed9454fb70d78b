//! One responder per endpoint (gitlab-protocol.md §11.1).

mod authenticate;
pub(super) mod claim;
pub(super) mod control;
pub(super) mod download;
pub(super) mod lookup;
pub(super) mod pipelines;
pub(super) mod runners;
pub(super) mod setup;
pub(super) mod trace;
pub(super) mod update;
pub(super) mod upload;
