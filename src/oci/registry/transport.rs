//! The HTTP clients below everything: which one may go where, in which time, and who observes.
//!
//! Must not know a credential.

use super::{address, answer::setup, error::Error, options::ClientOptions};
use reqwest::Response;
use std::{sync::Arc, time::Duration};

/// Calls to one host at the same time, and connections to it that are kept.
pub(crate) const CALLS_PER_HOST: usize = 8;

/// What sends a request.
pub(crate) struct Transport {
    pub options: ClientOptions,
    /// For the registries that the operator's configuration names.
    plain: reqwest::Client,
    /// For everything else, named by a user or by a registry: resolves to allowed addresses only.
    guarded: reqwest::Client,
}

impl Transport {
    /// Fails only on an unreadable CA bundle or a system without certificates.
    pub(crate) fn new(options: ClientOptions) -> Result<Self, Error> {
        // An error means that the process has a provider already, which is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        let roots = reqwest::Certificate::from_pem_bundle(&options.ca_bundle_pem).map_err(|error| setup(&error))?;
        let builder = || {
            reqwest::Client::builder()
                .user_agent(&options.user_agent)
                .connect_timeout(options.connect_timeout)
                .pool_idle_timeout(Duration::from_secs(60))
                .pool_max_idle_per_host(CALLS_PER_HOST)
                .referer(false)
                .redirect(reqwest::redirect::Policy::none())
                .tls_certs_merge(roots.clone())
        };
        let plain = builder().build().map_err(|error| setup(&error))?;
        let guarded = builder()
            .dns_resolver(Arc::new(address::GuardedResolver))
            .build()
            .map_err(|error| setup(&error))?;
        Ok(Self {
            options,
            plain,
            guarded,
        })
    }

    pub(crate) fn is_insecure(&self, host: &str) -> bool {
        self.options.insecure_hosts.contains(host)
    }

    pub(crate) fn http(&self, trusted: bool) -> &reqwest::Client {
        if trusted { &self.plain } else { &self.guarded }
    }

    /// Tells the observer about one request; 0 is one without an answer.
    pub(crate) fn observe(&self, host: &str, verb: &'static str, sent: &reqwest::Result<Response>) {
        if let Some(observer) = &self.options.observer {
            observer.request(
                host,
                verb,
                sent.as_ref().map_or(0, |response| response.status().as_u16()),
            );
        }
    }
}
