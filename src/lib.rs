//! Repave: follows an upstream base image, proves a customised build of it, and moves every workload to it.
//!
//! The map of the house, in reading order. Each row is a crate of the folder `src/<name>`, and sees only what stands
//! above it in the table; cargo holds that.
//!
//! | crate | what lives there | may touch the outside |
//! |---|---|---|
//! | [`core`](domain) | digests, references, reports, verdicts, lineage, waves: pure functions over data | no |
//! | [`api`] | the custom resources: types, schema, CEL; no logic | no |
//! | [`report`] | the reports as SARIF, as one web page, and their schema | no |
//! | [`checks`] | one file per tool: how to run it and how to read its report | files of an image |
//! | [`policy`] | what a policy means for one image: checks, gates, rules, exceptions | no |
//! | `oci` | [`registry`]: our OCI distribution client; [`evidence`]: signatures, attestations, report artifacts | registries |
//! | [`cluster`] | Kubernetes clients without silent retries and with time limits | the Kubernetes API |
//! | [`runner`] | what runs inside Job pods: pull, run a tool, frame its report | the pod it runs in |
//! | [`cli`] | the kubectl plugin, one file per command; `repave check` | the Kubernetes API (read only); files, registries |
//! | `operator` | [`controllers`]: one folder per kind; [`runtime`]: the process around them | the Kubernetes API, registries |
//!
//! This crate is the two programs, and the names under which tests reach the others.
//!
//! Where a wave is decided: `operator/controllers/repave_run/plan.rs` over `core/wave.rs`.
//! Where a gate is decided: `core/verdict.rs`.

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzz;

pub use repave_api as api;
pub use repave_checks as checks;
pub use repave_cli as cli;
pub use repave_cluster as cluster;
pub use repave_core as domain;
pub use repave_oci::{evidence, registry};
pub use repave_operator::{controllers, runtime};
pub use repave_policy as policy;
pub use repave_report as report;
pub use repave_runner as runner;
