//! The sandbox's ECS, asked by the real SDK and by hand.

mod definitions;
mod policies;
mod processes;
mod run_task;
mod simulated;
mod world;
mod wrong;
