//! The names of a task's containers.

/// The container for sources, cache, artifacts, trace and outcome.
pub const HELPER: &str = "helper";
/// The container with the job's image.
pub const BUILD: &str = "build";

/// The name of service number `index`, counted from 0.
pub fn service_name(index: usize) -> String {
    format!("svc-{index}")
}
