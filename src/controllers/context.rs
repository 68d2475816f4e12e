//! What every reconcile may use: the clients, the settings, and the memory that a restart may lose.

use super::backoff::Backoff;
use crate::{
    domain::image_ref::ImageRef,
    registry,
    runtime::{
        args::{CandidateRoot, ControllerArgs},
        client::Clients,
        metrics::Metrics,
    },
};
use jiff::Timestamp;
use kube::runtime::events::{Recorder, Reporter};
use std::{collections::BTreeSet, sync::Arc};

/// How the operator was told to work; the same for every object.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Image with the check tools, by digest.
    pub tools_image: ImageRef,
    /// Image with buildah, by digest.
    pub builder_image: ImageRef,
    /// Image with the runner (the operator's own), by digest.
    pub runner_image: ImageRef,
    /// Registries that are spoken to without TLS.
    pub insecure_registries: BTreeSet<String>,
    /// How OpenSCAP sees the candidate's files.
    pub candidate_root: CandidateRoot,
}

/// What every reconcile may use.
#[derive(Clone)]
pub struct Context {
    /// The Kubernetes API, for reads and writes.
    pub client: kube::Client,
    /// The Kubernetes API, for watches only: silence is normal there.
    pub watches: kube::Client,
    /// What is counted and measured.
    pub metrics: Metrics,
    /// Registries.
    pub registry: registry::Client,
    /// How the operator was told to work.
    pub settings: Arc<Settings>,
    /// Failures in a row, per object.
    pub backoff: Arc<Backoff>,
    /// Publishes Kubernetes events; one per process, so that repeats are folded.
    pub recorder: Recorder,
}

/// Counts every request to a registry.
struct CountRequests(Metrics);

impl registry::Observer for CountRequests {
    fn request(&self, host: &str, verb: &'static str, code: u16) {
        self.0.registry_request(host, verb, (code > 0).then_some(code));
    }
}

impl Context {
    /// The context of a process with these arguments.
    pub fn new(args: &ControllerArgs, clients: &Clients, metrics: &Metrics) -> Result<Self, registry::Error> {
        let insecure: BTreeSet<String> = args.insecure_registries.iter().cloned().collect();
        let options = registry::ClientOptions {
            insecure_hosts: insecure.clone(),
            user_agent: format!("repave/{}", env!("CARGO_PKG_VERSION")),
            observer: Some(Arc::new(CountRequests(metrics.clone()))),
            ..registry::ClientOptions::default()
        };
        let reporter = Reporter {
            controller: "repave".to_owned(),
            instance: Some(args.pod_name.clone()),
        };
        let settings = Settings {
            tools_image: args.tools_image.clone(),
            builder_image: args.builder_image.clone(),
            runner_image: args.runner_image.clone(),
            insecure_registries: insecure,
            candidate_root: args.candidate_root,
        };
        Ok(Self {
            client: clients.requests.clone(),
            watches: clients.watches.clone(),
            registry: registry::Client::new(options)?,
            settings: Arc::new(settings),
            backoff: Arc::default(),
            recorder: Recorder::new(clients.requests.clone(), reporter),
            metrics: metrics.clone(),
        })
    }

    /// The time now. The only clock of the controllers: steps get it as a parameter.
    pub fn now(&self) -> Timestamp {
        // Conditions and annotations carry whole seconds.
        let now = Timestamp::now();
        Timestamp::from_second(now.as_second()).unwrap_or(now)
    }
}
