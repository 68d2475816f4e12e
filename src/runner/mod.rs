//! What runs inside Job pods: pull, run a tool, frame its report.

pub mod frame;
mod termination;
