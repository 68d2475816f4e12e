//! The controllers: one folder per kind, each with the same files in the same order.
//!
//! ```text
//! observe (IO, read only) -> validate (pure) -> plan (pure) -> apply (IO, writes) -> summarize (pure) -> one status patch
//! ```
//!
//! `plan` never sees a client, a clock or the environment. Only `apply` writes, and only the driver in `driver.rs` writes
//! a status, once at the end of a reconcile.

pub mod backoff;
pub mod base_image;
pub mod candidate;
pub mod conditions;
pub mod context;
pub mod driver;
pub mod error;
pub mod inputs;
pub mod repave_plan;
pub mod repave_run;
