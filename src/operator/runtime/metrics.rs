//! The metrics of the operator, as typed methods.
//!
//! Must not have an unbounded label: every label is a closed set, or a set that stops growing ([`HOSTS`], [`BASES`]).
//! No object name is a label except the base image's, which is what the estate is counted by.

mod labels;
mod process;

pub use labels::{ApiVerb, CandidateState, Kind, ReconcileResult, Step, StepResult, WorkloadState};

use super::lease::Leader;
use labels::{
    ApiWriteLabels, BaseLabels, CandidateLabels, KindLabels, ReconcileLabels, RegistryLabels, StepLabels,
    WorkloadLabels, code_label,
};
use prometheus_client::{
    encoding::text::encode,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Metric, Registry},
};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, OnceLock, PoisonError, atomic::AtomicU64},
    time::Duration,
};

/// Registry hosts with a label of their own; further ones share `other`.
pub const HOSTS: usize = 64;
/// Base images whose workloads are exported; further ones are counted in `repave_bases_not_exported`.
pub const BASES: usize = 1_000;
/// The media type of `/metrics`.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Durations<L> = Family<L, Histogram, fn() -> Histogram>;
type Seconds = Gauge<f64, AtomicU64>;

/// All metrics. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    leader: Arc<OnceLock<Leader>>,
    hosts: Mutex<BTreeSet<String>>,
    bases: Mutex<BTreeSet<String>>,
    families: Families,
}

#[derive(Debug)]
struct Families {
    step_duration: Durations<StepLabels>,
    candidates: Family<CandidateLabels, Gauge>,
    workloads: Family<WorkloadLabels, Gauge>,
    base_age: Family<BaseLabels, Seconds>,
    bases_not_exported: Counter,
    time_to_repave: Histogram,
    registry_requests: Family<RegistryLabels, Counter>,
    self_test_failed: Gauge,
    reconciles: Family<ReconcileLabels, Counter>,
    reconcile_duration: Durations<KindLabels>,
    api_writes: Family<ApiWriteLabels, Counter>,
    watch_failures: Family<KindLabels, Counter>,
}

/// 100 ms to 55 minutes.
fn step_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.1, 2.0, 16))
}

/// 1 ms to 33 s.
fn reconcile_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 16))
}

/// 1 minute to 45 days.
fn repave_histogram() -> Histogram {
    Histogram::new(exponential_buckets(60.0, 2.0, 17))
}

impl Default for Families {
    fn default() -> Self {
        Self {
            step_duration: Family::new_with_constructor(step_histogram),
            candidates: Family::default(),
            workloads: Family::default(),
            base_age: Family::default(),
            bases_not_exported: Counter::default(),
            time_to_repave: repave_histogram(),
            registry_requests: Family::default(),
            self_test_failed: Gauge::default(),
            reconciles: Family::default(),
            reconcile_duration: Family::new_with_constructor(reconcile_histogram),
            api_writes: Family::default(),
            watch_failures: Family::default(),
        }
    }
}

impl Families {
    fn register(&self, registry: &mut Registry) {
        fn add<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: &M) {
            registry.register(name, help, metric.clone());
        }
        // Counters get their suffix `_total` when they are written.
        add(
            registry,
            "repave_step_duration_seconds",
            "Time one step of a candidate took",
            &self.step_duration,
        );
        add(registry, "repave_candidates", "Candidates by state", &self.candidates);
        add(
            registry,
            "repave_workloads",
            "Workloads by base image and state",
            &self.workloads,
        );
        add(
            registry,
            "repave_base_age_seconds",
            "Time since the released digest of a base image was promoted",
            &self.base_age,
        );
        add(
            registry,
            "repave_bases_not_exported",
            "Updates of base images beyond the first 1000, which have no series of their own",
            &self.bases_not_exported,
        );
        add(
            registry,
            "repave_time_to_repave_seconds",
            "Time from when the run of a release was made to each workload that is healthy on it",
            &self.time_to_repave,
        );
        add(
            registry,
            "repave_registry_requests",
            "Requests to registries by host, verb and answer",
            &self.registry_requests,
        );
        add(
            registry,
            "repave_self_test_failed",
            "1 while the self-test of the gate fails and nothing is promoted",
            &self.self_test_failed,
        );
        add(
            registry,
            "repave_reconcile",
            "Reconciles by kind and result",
            &self.reconciles,
        );
        add(
            registry,
            "repave_reconcile_duration_seconds",
            "Time one reconcile took",
            &self.reconcile_duration,
        );
        add(
            registry,
            "repave_api_writes",
            "Writes to the Kubernetes API by kind and verb, the renewals of the lease left out",
            &self.api_writes,
        );
        add(
            registry,
            "repave_watch_failures",
            "Failures of watches by the kind whose controller needs them; each is tried again",
            &self.watch_failures,
        );
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All metrics at zero.
    pub fn new() -> Self {
        let (families, leader) = (Families::default(), Arc::new(OnceLock::new()));
        let mut registry = Registry::default();
        families.register(&mut registry);
        registry.register_collector(Box::new(process::Process::new(leader.clone())));
        Self(Arc::new(Inner {
            registry,
            leader,
            hosts: Mutex::default(),
            bases: Mutex::default(),
            families,
        }))
    }

    /// From now on `repave_leader` tells whether this replica leads, at the moment it is asked.
    pub fn follow_leader(&self, leader: Leader) {
        // A second call would be another election in the same process; the first one stays.
        if self.0.leader.set(leader).is_err() {
            tracing::warn!("the leader is followed already; the second handle is ignored");
        }
    }

    /// A step of a candidate ended.
    pub fn step(&self, step: Step, result: StepResult, took: Duration) {
        let labels = StepLabels { step, result };
        self.0
            .families
            .step_duration
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
    }

    /// How many candidates are in that state now.
    pub fn candidates(&self, state: CandidateState, count: u32) {
        let labels = CandidateLabels { state };
        self.0.families.candidates.get_or_create(&labels).set(count.into());
    }

    /// How many workloads of that base image (`namespace/name`) are in each state now.
    pub fn workloads(&self, base: &str, counts: &[(WorkloadState, u32)]) {
        if !self.is_exported(base) {
            return;
        }
        for (state, count) in counts {
            let labels = WorkloadLabels {
                base: base.to_owned(),
                state: *state,
            };
            self.0.families.workloads.get_or_create(&labels).set((*count).into());
        }
    }

    /// How long ago the released digest of that base image was promoted.
    pub fn base_age(&self, base: &str, age: Duration) {
        if self.is_exported(base) {
            let labels = BaseLabels { base: base.to_owned() };
            self.0.families.base_age.get_or_create(&labels).set(age.as_secs_f64());
        }
    }

    /// That base image was deleted: its series end.
    pub fn forget_base(&self, base: &str) {
        for state in WorkloadState::ALL {
            let labels = WorkloadLabels {
                base: base.to_owned(),
                state: *state,
            };
            self.0.families.workloads.remove(&labels);
        }
        self.0.families.base_age.remove(&BaseLabels { base: base.to_owned() });
        self.0.bases.lock().unwrap_or_else(PoisonError::into_inner).remove(base);
    }

    fn is_exported(&self, base: &str) -> bool {
        let exported = is_known(&self.0.bases, base, BASES);
        if !exported {
            self.0.families.bases_not_exported.inc();
        }
        exported
    }

    /// A workload came to be healthy on a release whose run was made so long ago.
    pub fn repaved(&self, after: Duration) {
        self.0.families.time_to_repave.observe(after.as_secs_f64());
    }

    /// A registry answered with that status; `None` when it did not answer.
    pub fn registry_request(&self, host: &str, verb: &'static str, code: Option<u16>) {
        let known = is_known(&self.0.hosts, host, HOSTS);
        let labels = RegistryLabels {
            host: if known { host.to_owned() } else { "other".to_owned() },
            verb,
            code: code_label(code),
        };
        self.0.families.registry_requests.get_or_create(&labels).inc();
    }

    /// Whether the self-test of the gate fails.
    pub fn self_test_failed(&self, untrusted: bool) {
        self.0.families.self_test_failed.set(untrusted.into());
    }

    /// A reconcile ended.
    pub fn reconcile(&self, kind: Kind, result: ReconcileResult, took: Duration) {
        let families = &self.0.families;
        families
            .reconciles
            .get_or_create(&ReconcileLabels { kind, result })
            .inc();
        families
            .reconcile_duration
            .get_or_create(&KindLabels { kind })
            .observe(took.as_secs_f64());
    }

    /// The Kubernetes API was written to.
    pub fn api_write(&self, kind: Kind, verb: ApiVerb) {
        self.0
            .families
            .api_writes
            .get_or_create(&ApiWriteLabels { kind, verb })
            .inc();
    }

    /// A watch that the controller of this kind needs failed; it is tried again.
    pub fn watch_failed(&self, controller: Kind) {
        let labels = KindLabels { kind: controller };
        self.0.families.watch_failures.get_or_create(&labels).inc();
    }

    /// Everything as text, for `/metrics`.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.0.registry)?;
        Ok(text)
    }
}

/// Whether `name` is one of the first `limit` names.
fn is_known(names: &Mutex<BTreeSet<String>>, name: &str, limit: usize) -> bool {
    let mut names = names.lock().unwrap_or_else(PoisonError::into_inner);
    if names.contains(name) {
        return true;
    }
    let fits = names.len() < limit;
    if fits {
        names.insert(name.to_owned());
    }
    fits
}

#[cfg(test)]
mod tests;
