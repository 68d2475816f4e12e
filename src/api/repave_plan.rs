//! `RepavePlan`: what is wanted of an estate. Move these workloads to whatever release of these base images is newest, in waves.

use super::refs::LocalRef;
use crate::domain::duration::Span;
use k8s_openapi::apimachinery::pkg::{
    apis::meta::v1::{Condition, LabelSelector},
    util::intstr::IntOrString,
};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema as _;
use serde::{Deserialize, Serialize};

/// Moves every workload that runs on an older release of the base images to the newest one, wave by wave.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[kube(
    group = "repave.dev",
    version = "v1alpha1",
    kind = "RepavePlan",
    namespaced,
    status = "RepavePlanStatus",
    shortname = "rp",
    category = "repave",
    derive = "PartialEq",
    validation = Rule::new("self.metadata.name.size() <= 40").message("metadata.name: at most 40 characters, because the names of its runs are made from it"),
    printcolumn(name = "Run", type_ = "string", json_path = ".status.run"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message")
)]
#[serde(rename_all = "camelCase")]
pub struct RepavePlanSpec {
    /// The base images whose releases are rolled out.
    #[schemars(length(max = 16))]
    #[x_kube(validation = ("self.size() > 0", "baseImageRefs is empty: name at least one BaseImage of this namespace, for example [{name: debian-12}]"))]
    pub base_image_refs: Vec<LocalRef>,
    /// Which workloads may be moved.
    pub targets: Targets,
    /// The waves, in order. What no wave takes is never moved; without any, one wave takes everything.
    #[serde(default = "default_waves")]
    #[schemars(length(max = 10))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[x_kube(validation = ("self.size() > 0", "waves is empty: leave it out for one wave with everything, or name at least one"))]
    pub waves: Vec<Wave>,
    /// What counts as healthy.
    #[serde(default)]
    pub health: Health,
    /// What happens when a workload does not become healthy.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// ServiceAccount of this namespace on whose rights the plan acts: it moves workloads only in namespaces where that
    /// account may patch Deployments, and shows them only where it may list them. Without it, the plan is at home in its own
    /// namespace only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub service_account_name: Option<String>,
    /// Stops: nothing new is started; roll-outs that run are finished.
    #[serde(default)]
    pub suspend: bool,
}

/// Which workloads may be moved.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Targets {
    /// Namespaces that are opted in, by a label that somebody gave them. A selector that is empty, or only says what a
    /// namespace must not have, would opt in every namespace and is refused.
    #[schemars(schema_with = "selector_schema")]
    #[x_kube(validation = ("(has(self.matchLabels) && self.matchLabels.size() > 0) || (has(self.matchExpressions) && self.matchExpressions.size() > 0)", "targets.namespaceSelector is empty, which would opt in every namespace: name a label, for example matchLabels: {repave: auto}"))]
    #[x_kube(validation = ("!has(self.matchExpressions) || self.matchExpressions.size() == 0 || (has(self.matchLabels) && self.matchLabels.size() > 0) || self.matchExpressions.exists(e, (e.operator == 'In' && has(e.values) && e.values.size() > 0) || (e.operator == 'Exists' && e.key != 'kubernetes.io/metadata.name'))", "targets.namespaceSelector would opt in every namespace: name a label that a namespace must have, for example matchLabels: {repave: auto}"))]
    pub namespace_selector: LabelSelector,
    /// Workloads in them, by label; all of them unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
    /// Workloads beyond which the plan does nothing: a selector that takes more than was thought of is a mistake.
    #[serde(default = "default_max_targets")]
    #[x_kube(validation = ("self >= 1 && self <= 50000", "targets.maxTargets is a number from 1 to 50000; the default is 10000"))]
    pub max_targets: i32,
}

fn default_max_targets() -> i32 {
    10_000
}

/// A label selector, bounded so that the cost of its rule is.
fn selector_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let mut schema = LabelSelector::json_schema(generator);
    if let Some(expressions) = schema
        .pointer_mut("/properties/matchExpressions")
        .and_then(|s| s.as_object_mut())
    {
        expressions.insert("maxItems".to_owned(), 16.into());
        for (field, longest) in [("key", 317), ("operator", 12)] {
            let path = format!("/properties/{field}");
            let text = expressions.get_mut("items").and_then(|items| items.pointer_mut(&path));
            if let Some(text) = text.and_then(|text| text.as_object_mut()) {
                text.insert("maxLength".to_owned(), longest.into());
            }
        }
    }
    schema
}

/// One wave. A workload belongs to the first wave that takes it.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("!(has(self.selector) && has(self.percent))", "a wave names selector or percent, not both; with neither it takes all that is left"))]
pub struct Wave {
    /// Name of the wave.
    #[schemars(length(max = 30), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Workloads with these labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
    /// This share of all targets, chosen by a stable hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = ("self >= 1 && self <= 100", "percent is between 1 and 100: a wave of 0 percent would take nothing; leave it out to take all that is left"))]
    pub percent: Option<i32>,
    /// How many workloads roll at the same time: a number, or a percentage of the wave (rounded up), of which those that are scaled to 0
    /// are no part. The default is 10%.
    #[serde(default = "default_concurrent")]
    #[schemars(schema_with = "amount_schema")]
    #[x_kube(validation = ("type(self) == int ? self >= 1 && self <= 100000 : self.matches('^([1-9][0-9]?|100)%$')", "maxConcurrent is a number from 1 to 100000, or a percentage from 1% to 100%"))]
    pub max_concurrent: IntOrString,
    /// How long the wave must stay healthy before the next one begins.
    #[serde(default = "default_soak")]
    pub soak: Span,
}

/// A number, or a percentage as text; bounded, so that the cost of its rule is.
fn amount_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"x-kubernetes-int-or-string": true, "maxLength": 4})
}

fn default_concurrent() -> IntOrString {
    IntOrString::String("10%".to_owned())
}

fn default_soak() -> Span {
    Span::seconds(0)
}

fn default_waves() -> Vec<Wave> {
    vec![Wave {
        name: "all".to_owned(),
        selector: None,
        percent: None,
        max_concurrent: default_concurrent(),
        soak: default_soak(),
    }]
}

/// What counts as healthy.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// How long one workload may take to become healthy on the new image.
    #[serde(default = "default_rollout_deadline")]
    #[x_kube(validation = ("duration(self) >= duration('5s')", "health.rolloutDeadline is shorter than 5s: no workload rolls that fast; the default is 10m"))]
    pub rollout_deadline: Span,
    /// How many seconds a workload must stay healthy on the new image, without that a container is started again, before it
    /// is done. It keeps its place in maxConcurrent until then. Like minReadySeconds of a Deployment: the larger one counts.
    #[serde(default = "default_min_ready_seconds")]
    #[x_kube(validation = ("self >= 0 && self <= 3600", "health.minReadySeconds is a number from 0 to 3600; the default is 10"))]
    pub min_ready_seconds: i32,
}

fn default_min_ready_seconds() -> i32 {
    10
}

fn default_rollout_deadline() -> Span {
    Span::seconds(600)
}

impl Default for Health {
    fn default() -> Self {
        Self {
            rollout_deadline: default_rollout_deadline(),
            min_ready_seconds: default_min_ready_seconds(),
        }
    }
}

/// What happens when a workload does not become healthy.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct OnFailure {
    /// How many workloads may fail before the run stops: a number, or a percentage of all targets that are not scaled to 0 (rounded
    /// down).
    #[serde(default = "default_budget")]
    #[schemars(schema_with = "amount_schema")]
    #[x_kube(validation = ("type(self) == int ? self >= 0 && self <= 100000 : self.matches('^([0-9]|[1-9][0-9]|100)%$')", "onFailure.budget is a number from 0 to 100000, or a percentage from 0% to 100%"))]
    pub budget: IntOrString,
    /// What is done with the workload.
    #[serde(default)]
    pub action: FailureAction,
    /// Whether a workload that the API server refuses to change (admission, quota, rights) counts as failed. It is skipped
    /// with the reason either way.
    #[serde(default)]
    pub count_refused: bool,
}

fn default_budget() -> IntOrString {
    IntOrString::String("5%".to_owned())
}

impl Default for OnFailure {
    fn default() -> Self {
        Self {
            budget: default_budget(),
            action: FailureAction::default(),
            count_refused: false,
        }
    }
}

/// What is done with a workload that does not become healthy.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, schemars::JsonSchema)]
pub enum FailureAction {
    /// It gets its old image back and is held there.
    #[default]
    RollbackWorkload,
    /// It is left as it is, on the new image, and counts against the budget; with `budget: 0` the first one stops the run.
    Pause,
}

/// What is known of a plan.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RepavePlanStatus {
    /// Generation that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The newest run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// How the workloads that the plan selects, and its account may see, stand; a sum over its base images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<PlanCounts>,
    /// Objects of kinds that cannot be rolled yet and may run an older release: an image by its digest, or by a tag of the
    /// production repository. One entry a kind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["kind".into()]))]
    pub not_rollable: Vec<NotRollable>,
    /// Selected namespaces that are left out, with the reason; by number only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces_left_out: Option<LeftOut>,
    /// Conditions: Ready, Reconciling, Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// How many workloads stand how to the newest release of their base image. Every one that runs a release, or is built on
/// one, is in exactly one of `current` and `outdated`.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanCounts {
    /// On the newest release, or on their way to it.
    pub current: u32,
    /// On an older one.
    pub outdated: u32,
    /// Of the outdated ones: can be moved, now or when their own roll-out is over.
    pub movable: u32,
    /// Of the outdated ones: held.
    pub held: u32,
    /// Of the outdated ones: only reported, because of what they are (owned by a tool, derived images, not allowed).
    pub reported: u32,
    /// Containers whose image has no known ancestry.
    pub unknown: u32,
}

/// Objects of one kind that cannot be rolled yet.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NotRollable {
    /// Their kind.
    pub kind: String,
    /// How many.
    pub count: u32,
    /// One of them, `namespace/name`.
    pub example: String,
}

/// Namespaces that are selected and left out.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeftOut {
    /// The plan's account may not list Deployments there.
    #[serde(default)]
    pub not_allowed: u32,
    /// The operator was told to leave them alone (the chart's `estate.namespaces`).
    #[serde(default)]
    pub not_in_estate: u32,
    /// The operator itself may not list Deployments there.
    #[serde(default)]
    pub forbidden: u32,
    /// The operator itself may not list pods there, and workloads name images of ours by tag: what they run is not known.
    #[serde(default)]
    pub without_pods: u32,
}
