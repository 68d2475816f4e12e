//! The operator: the controllers, and the process around them.
//!
//! | module | what lives there | may touch the outside |
//! |---|---|---|
//! | [`controllers`] | one folder per kind: validate, observe, plan, apply, status | the Kubernetes API, registries |
//! | [`runtime`] | arguments, telemetry, metrics, health endpoints, lease, shutdown | the process |
//!
//! Where a wave is decided: `controllers/repave_run/plan.rs` over `src/core/wave.rs`.
//! Where a gate is decided: `src/core/verdict.rs`.

pub mod controllers;
pub mod runtime;
#[cfg(test)]
pub(crate) mod testing;

// The names by which the files of this crate say where something comes from.
use repave_api as api;
use repave_cluster::readable;
use repave_core as domain;
use repave_oci::{evidence, registry};
use repave_report as report;

/// What the other side of a Job's log speaks; the runner itself is another program.
mod runner {
    pub use repave_core::transport::frame;
    #[cfg(test)]
    pub use repave_runner::Args;
}
