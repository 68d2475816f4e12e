//! What every reconcile may use: the clients, the settings, and the memory that a restart may lose.

pub use super::settings::Settings;

use super::{
    access::Answers, backoff::Backoff, caches::Caches, databases::Databases, desired::known::BaseImages,
    inventory::Inventory, self_test_results::SelfTestResults, slots::Slots,
};
use crate::{
    domain::queue,
    registry,
    runtime::{args::ControllerArgs, client::Clients, lease::Leader, metrics::Metrics, readiness::Readiness},
};
use jiff::Timestamp;
use kube::runtime::events::{Recorder, Reporter};
use std::{collections::BTreeSet, sync::Arc};
use tokio::sync::broadcast;

/// What every reconcile may use.
#[derive(Clone)]
pub struct Context {
    /// The Kubernetes API, for reads and writes.
    pub client: kube::Client,
    /// The Kubernetes API, for watches only: silence is normal there.
    pub watches: kube::Client,
    /// Whether this process may still act: asked right before each write.
    pub leader: Leader,
    /// Which caches are not filled yet.
    pub caches: Caches,
    /// What is counted and measured.
    pub metrics: Metrics,
    /// Registries.
    pub registry: registry::Client,
    /// How the operator was told to work.
    pub settings: Arc<Settings>,
    /// Failures in a row, per object.
    pub backoff: Arc<Backoff>,
    /// Which vulnerability database is current.
    pub databases: Databases,
    /// Which tools are believed.
    pub self_tests: Arc<SelfTestResults>,
    /// Who claims which repository.
    pub base_images: Arc<BaseImages>,
    /// Where Jobs wait for their turn.
    pub slots: Arc<Slots>,
    /// The estate, once for all plans and runs.
    pub inventory: Inventory,
    /// Finished runs (namespace, name) that a plan has found work for.
    pub reopened: broadcast::Sender<(String, String)>,
    /// What service accounts may do, for a short time.
    pub access: Arc<Answers>,
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
    pub fn new(
        args: &ControllerArgs,
        clients: &Clients,
        metrics: &Metrics,
        leader: Leader,
        readiness: Readiness,
    ) -> Result<Self, registry::Error> {
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
            grype_database: args.grype_database.clone(),
            trivy_database: args.trivy_database.clone(),
            database_interval: args.database_interval.get(),
            insecure_registries: insecure,
            candidate_root: args.candidate_root,
            namespace: args.pod_namespace.clone(),
            pull_secrets: args.pull_secrets.clone(),
            concurrency: args.concurrency,
        };
        Ok(Self {
            client: clients.requests.clone(),
            watches: clients.watches.clone(),
            leader,
            caches: Caches::new(readiness),
            registry: registry::Client::new(options)?,
            settings: Arc::new(settings),
            backoff: Arc::default(),
            databases: Databases::default(),
            self_tests: Arc::default(),
            base_images: Arc::default(),
            slots: Arc::new(Slots::new(
                queue::Limits {
                    total: args.max_jobs.into(),
                    per_namespace: args.max_jobs_per_namespace.into(),
                },
                &args.pod_namespace,
            )),
            inventory: Inventory::new(&args.estate_namespaces),
            reopened: broadcast::channel(256).0,
            access: Arc::default(),
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
