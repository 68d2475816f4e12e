//! How what a Job pod found travels to the operator: a framed report in the pod's log, and a termination message.
//!
//! Below both sides: the runner writes, the controllers read. Must not read a pod or a file itself, and must not believe
//! what it decodes.

mod error;
pub mod frame;
pub mod termination;

pub use error::FrameError;
