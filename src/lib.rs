//! Repave: follows an upstream base image, proves a customised build of it, and moves every workload to it.
//!
//! The map of the house, in reading order:
//!
//! | module | what lives there | may touch the outside |
//! |---|---|---|
//! | [`api`] | the custom resources: types, schema, CEL; no logic | no |
//! | [`domain`] | digests, references, reports, verdicts, lineage, waves: pure functions over data | no |
//! | [`checks`] | one file per tool: how to run it and how to read its report | no (the runner runs it) |
//! | [`registry`] | our OCI distribution client | registries |
//! | [`report`] | the reports as SARIF, as one web page, and their schema | no |
//! | [`evidence`] | signatures, attestations, report artifacts | through `registry` |
//! | [`controllers`] | one folder per kind: validate, observe, plan, apply, status | the Kubernetes API |
//! | [`runner`] | what runs inside Job pods: pull, run a tool, frame its report | the pod it runs in |
//! | [`runtime`] | arguments, telemetry, metrics, health endpoints, lease, shutdown | the process |
//! | [`cli`] | the kubectl plugin, one file per command; `repave check` | the Kubernetes API (read only); files, registries |
//!
//! Where a wave is decided: `controllers/repave_run/plan.rs` over `domain/wave.rs`.
//! Where a gate is decided: `domain/verdict.rs`.

pub mod api;
pub mod checks;
pub mod cli;
pub mod controllers;
pub mod domain;
pub mod evidence;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzz;
pub mod registry;
pub mod report;
pub mod runner;
pub mod runtime;
