//! The pure core: what things are and what is decided about them.
//!
//! Nothing here knows a client, a clock or the environment; `now` is always a parameter.

pub mod digest;
pub mod duration;
pub mod image_ref;
pub mod report;
