//! Where a job's time and money went: measured while it runs, told at the end of its log and to the deployment's owner.

mod figures;
mod lines;
mod sampler;
mod usage;

pub(super) use figures::Figures;
pub(super) use sampler::Sampler;
