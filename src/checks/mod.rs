//! (see lib.rs)

pub mod native;
