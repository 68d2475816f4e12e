//! What a policy says about each kind of check: one file per kind. Types and schema only, no logic.

mod container;
mod goss;
mod native;
mod openscap;
mod vulnerabilities;

pub use container::{ContainerCheck, ResultFormat};
pub use goss::{GossCheck, GossMode};
pub use native::NativeCheck;
pub use openscap::OpenscapCheck;
pub use vulnerabilities::{Scanner, VulnerabilityCheck};
