//! What is at registries: images, and the evidence that is attached to them.
//!
//! | module | what it does |
//! |---|---|
//! | [`registry`] | the OCI distribution client |
//! | [`evidence`] | signatures, the verification summary, reports and pages as artifacts |
//!
//! Must not know Kubernetes, nor decide anything about an image: it reads, checks and writes bytes.

pub mod evidence;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzz;
pub mod registry;
