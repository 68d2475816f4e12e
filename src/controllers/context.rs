//! What every reconcile may use: the clients, the settings, and the memory that a restart may lose.

use super::backoff::Backoff;
use crate::{
    domain::{image_ref::ImageRef, report::ToolName},
    registry,
    runtime::{args::ControllerArgs, client::Clients, metrics::Metrics},
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
    /// Where the scanners' databases are, by tag: what the tag points to is looked up before a scan.
    pub vulnerability_databases: Databases,
}

/// The images of the scanners' databases; a scanner without one uses what the tools image brings along.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Databases {
    /// Grype's: a file system with `/6/vulnerability.db`.
    pub grype: Option<ImageRef>,
    /// Trivy's: a file system with `/db/trivy.db`.
    pub trivy: Option<ImageRef>,
}

impl Databases {
    /// The database of a tool, if it is a scanner and has one.
    pub fn of(&self, tool: ToolName) -> Option<&ImageRef> {
        match tool {
            ToolName::Grype => self.grype.as_ref(),
            ToolName::Trivy => self.trivy.as_ref(),
            ToolName::Native | ToolName::Goss | ToolName::Openscap | ToolName::Container => None,
        }
    }
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
            vulnerability_databases: Databases {
                grype: args.grype_database.clone(),
                trivy: args.trivy_database.clone(),
            },
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
