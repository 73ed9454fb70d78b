//! Where a job's time and money went: measured while it runs, written to the end of its log and to the helper's own log.

mod figures;
mod lines;
mod sampler;
mod usage;

pub(super) use figures::Figures;
pub(super) use sampler::Sampler;
