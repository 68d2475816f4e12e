//! `RepaveRun`: one bounded roll-out of one release to the targets of one plan. Written by the operator.

use super::repave_plan::{Health, OnFailure, Targets, Wave};
use crate::domain::{digest::Digest, duration::Span, image_ref::Repository};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// One release on its way to every workload of a plan.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[kube(
    group = "repave.dev",
    version = "v1alpha1",
    kind = "RepaveRun",
    namespaced,
    status = "RepaveRunStatus",
    shortname = "rr",
    category = "repave",
    derive = "PartialEq",
    printcolumn(name = "Target", type_ = "string", json_path = ".status.target"),
    printcolumn(name = "Wave", type_ = "string", json_path = ".status.wave"),
    printcolumn(name = "Done", type_ = "integer", json_path = ".status.counts.done"),
    printcolumn(name = "Failed", type_ = "integer", json_path = ".status.counts.failed"),
    printcolumn(name = "Held", type_ = "integer", json_path = ".status.counts.held"),
    printcolumn(name = "Total", type_ = "integer", json_path = ".status.counts.total"),
    printcolumn(
        name = "Status",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message"
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("self == oldSelf", "a RepaveRun is immutable: change its RepavePlan; the next release gets a new run"))]
pub struct RepaveRunSpec {
    /// The plan that it belongs to.
    #[schemars(length(max = 40))]
    pub plan: String,
    /// The base image.
    #[schemars(length(max = 40))]
    pub base_image: String,
    /// The candidate that holds the proof of the target.
    pub candidate: String,
    /// Production repository of the target.
    #[schemars(with = "String")]
    pub repository: Repository,
    /// The digest that everything is moved to.
    #[schemars(with = "String")]
    pub digest: Digest,
    /// Its immutable tag; for people.
    pub tag: String,
    /// Its place in the order of releases of the base image: workloads on a release with a smaller one are moved.
    #[serde(default)]
    pub sequence: u64,
    /// Which workloads.
    pub targets: Targets,
    /// On whose rights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub service_account_name: Option<String>,
    /// In which waves.
    #[schemars(length(max = 10))]
    pub waves: Vec<Wave>,
    /// What counts as healthy.
    pub health: Health,
    /// What happens otherwise.
    pub on_failure: OnFailure,
}

/// How far a run is.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RepaveRunStatus {
    /// Generation that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// First 12 hex digits of the target, for the table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// `half (2/3)`, for the table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wave: Option<String>,
    /// How many targets are in which state.
    #[serde(default)]
    pub counts: Counts,
    /// How many count against the failure budget, those that are not seen just now among them.
    #[serde(default, skip_serializing_if = "is_none")]
    pub failures: u32,
    /// The waves that have settled or passed: the soak counts from the first, and what was moved before the second is judged no
    /// more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub waves: Vec<WaveStatus>,
    /// What was moved until then has stayed healthy or is not on the target any more: a restart does not watch it for that again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steady_until: Option<Time>,
    /// Workloads that somebody set back after this run had moved them, each by a hash of its UID; at most 64. They are not moved
    /// again, whatever becomes of their annotations.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub set_back: Vec<String>,
    /// Workloads that failed, were rolled back, or are only reported; at most 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub attention: Vec<AttentionRow>,
    /// When the run began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Time>,
    /// When the last target came to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<Time>,
    /// Conditions: Ready, Reconciling, Stalled, Succeeded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

// Serde hands over a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_none(failures: &u32) -> bool {
    *failures == 0
}

/// How many targets are in which state. Every target is in exactly one.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// All targets.
    pub total: u32,
    /// Not begun.
    pub pending: u32,
    /// Rolling.
    pub rolling: u32,
    /// Healthy on the target.
    pub done: u32,
    /// Did not become healthy and were left.
    pub failed: u32,
    /// Rolled back to the old image and held, or held by a person.
    pub held: u32,
    /// Reported only, with the reason (derived images, paused workloads).
    pub skipped: u32,
}

/// How far a wave is.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct WaveStatus {
    /// Name of the wave.
    pub name: String,
    /// When all its targets had come to an end; absent while one that came late is on its way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled_at: Option<Time>,
    /// When its soak was over: the waves after it need not wait for it any more, whatever becomes of its workloads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soaked_at: Option<Time>,
    /// Whether this run moved something of it: then it passes only by what is healthy on the target, or by failures that the budget
    /// allows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub moved: bool,
    /// How much of its soak was watched, in steps: after a restart it goes on from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watched: Option<Span>,
}

/// A workload that a person wants to know of.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AttentionRow {
    /// `Deployment shop/payments`.
    pub workload: String,
    /// RolledBack, Failed, Held, Outdated or Skipped.
    pub state: String,
    /// Why, and what to do.
    pub reason: String,
}
