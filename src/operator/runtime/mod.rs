//! The process around the controllers: arguments, telemetry, metrics, health endpoints, leader lease, shutdown.
//!
//! | file | what it gives |
//! |---|---|
//! | [`args`] | [`args::ControllerArgs`]: every flag with its `REPAVE_*` variable, checked before anything starts |
//! | [`telemetry`] | logs to standard error, as text or JSON; never bodies or headers of requests |
//! | [`metrics`] | [`metrics::Metrics`]: typed methods, labels from closed sets |
//! | [`readiness`] | named gates; what is missing is told, not only that something is |
//! | [`http`] | `/livez`, `/readyz`, `/metrics` |
//! | [`client`] | Kubernetes clients without silent retries and with time limits |
//! | [`crds`] | waits for our CustomResourceDefinitions and names the missing ones |
//! | [`lease`] | the leader lease: at most one replica acts |
//! | [`shutdown`] | first signal drains, second one aborts |
//! | [`supervise`] | ties the last two together: lead, work, drain, release |
//! | [`panics`] | a panic in the work on one object stops nothing else |
//! | [`clock`] | time as a parameter |
//!
//! A start in order: `ControllerArgs::parse`, `telemetry::init`, `Metrics::new`, `Readiness`, `Shutdown::install`,
//! spawn `http::serve`, `client::Clients::connect`, `crds::crds_established`, `lease::Elector::new`,
//! `supervise::lead(.., controllers)`. A process that loses the lease ends with an error: its successor starts clean.
//!
//! Must not know any resource kind beyond its name, nor decide anything about images or workloads.

pub mod args;
pub mod clock;
pub mod crds;
pub mod http;
pub mod lease;
pub mod metrics;
pub mod panics;
pub mod readiness;
pub mod shutdown;
pub mod supervise;
pub mod telemetry;
#[cfg(test)]
pub(crate) mod virtual_clock;

pub use crds::crds_established;
pub use repave_cluster as client;
