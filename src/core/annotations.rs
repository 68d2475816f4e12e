//! The keys of our annotations on a workload; `marks.rs` reads and writes what they hold.
//!
//! Must not name what is on our own resources: those keys are in `src/api/refs.rs`, which has these too.

/// Annotation on a workload: which run moved it (`namespace/name`).
pub const ANNOTATION_RUN: &str = "repave.dev/run";
/// Annotation on a workload: JSON of what it ran before, per container.
pub const ANNOTATION_PREVIOUS: &str = "repave.dev/previous-images";
/// Annotation on a workload: when it was moved, RFC 3339.
pub const ANNOTATION_MOVED_AT: &str = "repave.dev/moved-at";
/// Annotation on a workload: JSON of a hold (reason, digest, since, until); present means: do not touch.
pub const ANNOTATION_HOLD: &str = "repave.dev/hold";
