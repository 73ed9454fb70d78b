//! Pure: a job, its labels and the fleet become a task. No clock, no network, no AWS types.

mod allowed;
mod ask;
mod container;
mod container_names;
mod environment;
mod fit;
mod host_socket;
mod labels;
mod memory;
#[expect(clippy::module_inception, reason = "the plan is what this module makes")]
mod plan;
mod pod;
mod price;
mod quantity;
mod registries;
mod service_log;
mod service_ports;
mod services;
mod size;

pub use allowed::Disallowed;
pub use ask::{Ask, AskError, ask};
pub use container::{BuildPlan, ContainerError, ServicePlan};
pub use container_names::{BUILD, HELPER, service_name};
pub use environment::{EnvironmentError, service_environment};
pub use fit::{Advice, Peaks, advice, size_labels};
pub use labels::{LabelError, Labels, VOCABULARY, nearest_label};
pub use memory::{HelperMemory, MemorySplit, split_memory};
pub use plan::{Arch, Plan, PlanError, build_place, plan};
pub use price::{Price, price_per_minute};
pub use quantity::{Mib, Millicpu, QuantityError};
pub use service_log::{ServiceFailure, service_warning};
pub use service_ports::{Readiness, readiness};
pub use services::{AliasError, ServiceFacts, service_facts, service_names};
pub use size::{TaskSize, smallest_size};
