//! What the stand-in for ECS uses of the AWS that a stack is deployed to: policies, secrets, environment files, the queue
//! of stopped tasks, function URLs.

mod clients;
mod function_url;
mod policies;
mod stops;
mod task_files;

pub use clients::{StackAws, own_keys};
pub use function_url::reachable;
pub use policies::{Caller, bucket_policies, policies};
pub use stops::send_stops;
pub use task_files::{environment_files, secrets};
