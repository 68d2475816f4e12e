//! The end-to-end tests and the demo: one story, played on a real cluster with real images and real tools.
//!
//! Runs inside `e2e/cluster/cluster run`, which gives it a kubeconfig, the tools, and the registry's name. Must not
//! know how the cluster was made, and must not use anything of the operator that a user could not see.

pub mod checks;
pub mod command;
pub mod estate;
pub mod light;
pub mod local;
pub mod missing;
pub mod operator;
pub mod platform;
pub mod proxy;
pub mod rights;
pub mod scale;
pub mod shop;
pub mod story;
pub mod wait;
pub mod world;
