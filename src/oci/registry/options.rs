//! How the client behaves, which registries it may talk to, and who hears about it.
//!
//! Belongs to whoever runs the operator; must not be filled from a custom resource.

use super::error::Error;
use std::{collections::BTreeSet, sync::Arc, time::Duration};

/// Hears about every request; must be quick and must not fail.
pub trait Observer: Send + Sync {
    /// One request ended: `code` is the HTTP status, 0 when there was no answer.
    fn request(&self, host: &str, verb: &'static str, code: u16);
}

/// How the client behaves; the same for all registries.
#[derive(Clone)]
pub struct ClientOptions {
    /// Registries (host with port as in a reference) that are spoken to by plain http. They count as local.
    pub insecure_hosts: BTreeSet<String>,
    /// Registries that may be used at all: hosts, or `*.example.com` for all hosts below; empty allows every one.
    /// A host that is listed in full may also have a local address.
    pub allowed_hosts: BTreeSet<String>,
    /// For TCP and TLS.
    pub connect_timeout: Duration,
    /// Longest silence within a blob.
    pub read_timeout: Duration,
    /// For a whole call with a small body.
    pub call_timeout: Duration,
    /// For sending one blob.
    pub transfer_timeout: Duration,
    /// Sent as `User-Agent`.
    pub user_agent: String,
    /// More root certificates (PEM), added to those of the system.
    pub ca_bundle_pem: Vec<u8>,
    /// Told about every request.
    pub observer: Option<Arc<dyn Observer>>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            insecure_hosts: BTreeSet::new(),
            allowed_hosts: BTreeSet::new(),
            connect_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(30),
            call_timeout: Duration::from_secs(60),
            transfer_timeout: Duration::from_secs(1800),
            user_agent: concat!("repave/", env!("CARGO_PKG_VERSION")).to_owned(),
            ca_bundle_pem: Vec::new(),
            observer: None,
        }
    }
}

impl ClientOptions {
    /// Whether the configuration names this host: then it may stand in a local network.
    pub(crate) fn is_local(&self, host: &str) -> bool {
        self.insecure_hosts.contains(host) || self.allowed_hosts.contains(host)
    }

    /// Whether this registry may be used at all. A wildcard stands for whole labels: `*.example.com`.
    pub(crate) fn allow(&self, host: &str) -> Result<(), Error> {
        let below = |pattern: &String| {
            pattern
                .strip_prefix('*')
                .is_some_and(|end| end.starts_with('.') && host.ends_with(end))
        };
        if self.allowed_hosts.is_empty() || self.is_local(host) || self.allowed_hosts.iter().any(below) {
            return Ok(());
        }
        Err(forbidden(host, "it is not in the list of allowed registries"))
    }
}

pub(crate) fn forbidden(host: &str, why: &'static str) -> Error {
    Error::HostNotAllowed {
        host: host.to_owned(),
        why,
    }
}
