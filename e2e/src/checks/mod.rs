//! `make bench-checks`: what the checks cost, and what they find, measured without a cluster.
//!
//! In reading order: `place` (the tools, unpacked) -> `image` (images made for this) -> `measure` -> the four
//! measurements -> `page` (into the documentation). Must not touch anything outside of `target/bench` and `docs`.

pub mod defects;
pub mod detection;
pub mod image;
pub mod measure;
pub mod native_cost;
pub mod overhead;
pub mod page;
pub mod parsers;
pub mod place;
pub mod programs;
