//! `make bench-scale`: what thousands of workloads and base images cost, on a real control plane with pods that cost
//! nothing.
//!
//! `rig.rs` is the control plane and the operator as a process, `objects.rs` the estate and its releases, `roll.rs` a roll-out
//! by Repave and by a naive loop, `audit.rs` who asked the API server for what. No release is built here: its proof is
//! written into statuses, and only the plan, the run and the look at upstream are real.

pub mod audit;
pub mod objects;
pub mod page;
pub mod rig;
pub mod roll;
