//! A workload as a roll-out sees it: its containers, our annotations on it, who owns it, and how its own roll-out stands.
//!
//! Deployments only: the other kinds have no failure signal of their own or cannot be rolled back safely.
//! The rules of a finished roll-out are those of `kubectl rollout status`. Must not decide what is done with a workload.

use super::text::is_shown;
use super::{
    deployment::{Deployment, Spec},
    labels::Labels,
    moved::{LastWrite, Moved, Whose},
    ownership::{self, Owner},
    pod,
    template::{TemplateHash, TemplateShape},
    workload_annotations::WorkloadAnnotations,
};
use jiff::Timestamp;
use k8s_openapi::{
    api::apps::v1::{DeploymentCondition, DeploymentStatus},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use kube::core::Selector;
use std::{collections::BTreeMap, fmt, time::Duration};

pub use super::template::Container;

/// Annotation of the deployment controller: the number of the workload's present template.
pub const REVISION_ANNOTATION: &str = "deployment.kubernetes.io/revision";

/// Reason of the condition Progressing when the controller gave up waiting.
const TIMED_OUT: &str = "ProgressDeadlineExceeded";

/// What kind of workload it is. Only Deployments are rolled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WorkloadKind {
    /// A Deployment.
    Deployment,
    /// A `StatefulSet`.
    StatefulSet,
}

impl WorkloadKind {
    /// Its name in a manifest.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
        }
    }
}

/// Which workload: two of different kinds may have one name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkloadKey {
    /// Its kind.
    pub kind: WorkloadKind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl WorkloadKey {
    /// A Deployment.
    pub fn deployment(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            kind: WorkloadKind::Deployment,
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for WorkloadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind.as_str(), self.namespace, self.name)
    }
}

/// How a Deployment's own roll-out stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rollout {
    /// Every replica is updated and available, and no old one is left.
    Settled,
    /// On its way.
    Rolling {
        /// Whether Kubernetes will say so if it makes no progress; without, nobody but us watches the time.
        supervised: bool,
    },
    /// The roll-out was complete once, and replicas are missing now.
    Degraded {
        /// Since when fewer are available than the Deployment tolerates; `None` while it tolerates it.
        unavailable_since: Option<Timestamp>,
    },
    /// Kubernetes gave up waiting for progress.
    Unhealthy {
        /// What it says about that.
        reason: String,
    },
    /// A person paused it.
    Paused,
}

/// How the pods of a workload are found: its label selector as text, because it is kept of every workload and needed of few.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodSelector(Box<str>);

impl PodSelector {
    /// The selector; nothing for one that cannot be read.
    pub fn parse(&self) -> Option<Selector> {
        let selector: LabelSelector = serde_json::from_str(&self.0).ok()?;
        selector.try_into().ok()
    }
}

/// A Deployment, parsed once.
#[derive(Debug, Clone, PartialEq)]
pub struct Workload {
    /// Namespace and name.
    pub key: WorkloadKey,
    /// Its UID.
    pub uid: String,
    /// Its labels.
    pub labels: Labels,
    /// Its resource version.
    pub resource_version: String,
    /// Whether it has any annotations: a JSON patch must create the map otherwise.
    pub has_annotations: bool,
    /// All containers, init containers included.
    pub containers: Vec<Container>,
    /// Our annotations.
    pub annotations: WorkloadAnnotations,
    /// The tool that writes it, if there is one.
    pub owner: Option<Owner>,
    /// `metadata.generation`.
    pub generation: i64,
    /// Whether the deployment controller has seen this generation, or at least the one that wrote this template for us.
    pub observed: bool,
    /// The deployment controller's revision.
    pub revision: Option<i64>,
    /// Its pod template without the images.
    pub shape: TemplateShape,
    /// How its roll-out stands.
    pub rollout: Rollout,
    /// When its controller gave up waiting for progress, as the condition says, whosever roll-out that was.
    pub timed_out: Option<Timestamp>,
    /// Whether it wants no pods at all.
    pub without_pods: bool,
    /// Why its pods, or their ReplicaSet, may not be created, in the words of the API server.
    pub pods_refused: Option<String>,
    /// Its own `spec.minReadySeconds`: it counts nothing as available before.
    pub min_ready: Duration,
    /// How its pods are found.
    pub pod_selector: PodSelector,
}

impl Workload {
    /// Reads a Deployment; `None` when it is being deleted or lacks what every stored one has.
    pub fn from_deployment(deployment: &Deployment) -> Option<Self> {
        let meta = &deployment.metadata;
        let spec = deployment.spec.as_ref()?;
        if meta.deletion_timestamp.is_some() {
            return None;
        }
        let generation = meta.generation?;
        let empty = BTreeMap::new();
        let annotations = meta.annotations.as_ref();
        let written = WorkloadAnnotations::parse(annotations.unwrap_or(&empty));
        let (containers, shape) = (spec.containers.clone(), spec.shape);
        let template = shape.with_images(containers.iter().map(|c| c.image.as_str()));
        let seen = deployment.status.as_ref().and_then(|s| s.observed_generation);
        // What the status says about the template that we wrote stays true while only other fields change.
        let uid = meta.uid.clone()?;
        let record = written.last_write.as_deref().and_then(LastWrite::record);
        let record = record.filter(|moved| moved.is_about(&uid));
        let judged = record.filter(|moved| moved.template == template && moved.generation < generation);
        let judged = judged.map_or(generation, |moved| moved.generation + 1);
        let revision = annotations.and_then(|map| map.get(REVISION_ANNOTATION)?.parse().ok());
        let ours = record.filter(|moved| moved.whose(generation, template, revision) == Whose::Ours);
        let timed_out = timed_out(deployment.status.as_ref());
        // The condition of the roll-out before stays until ours has a ReplicaSet: with strategy Recreate for a while.
        let stale = timed_out.is_some_and(|at| ours.is_some_and(|moved| moved.is_after_timeout(at)));
        let rollout = rollout(spec, deployment.status.as_ref(), judged, stale);
        Some(Self {
            key: WorkloadKey::deployment(meta.namespace.clone()?, meta.name.clone()?),
            uid,
            labels: meta.labels.clone().unwrap_or_default().into(),
            resource_version: meta.resource_version.clone()?,
            has_annotations: annotations.is_some_and(|map| !map.is_empty()),
            owner: ownership::owner(meta),
            generation,
            observed: seen.is_some_and(|seen| seen >= judged),
            revision,
            shape,
            rollout,
            timed_out,
            without_pods: spec.replicas == Some(0),
            min_ready: Duration::from_secs(u64::from(spec.min_ready_seconds.unwrap_or(0).max(0).unsigned_abs())),
            pods_refused: pods_refused(deployment.status.as_ref()),
            containers,
            annotations: written,
            pod_selector: PodSelector(spec.selector.clone()),
        })
    }
}

impl Workload {
    /// Its pod template as it is.
    pub fn template(&self) -> TemplateHash {
        self.template_with(&|container| &container.image)
    }

    /// Its pod template as it would be with other images.
    pub fn template_with<'a>(&'a self, image: &dyn Fn(&'a Container) -> &'a str) -> TemplateHash {
        self.shape.with_images(self.containers.iter().map(image))
    }

    /// Whose roll-out the present one is; `None` when we never wrote its template, or the record is gone.
    pub fn whose(&self) -> Option<Whose> {
        match self.annotations.last_write.as_deref()? {
            LastWrite::TimeOnly(_) => Some(Whose::Ours),
            LastWrite::Recorded(moved) if !moved.is_about(&self.uid) => Some(Whose::Others),
            LastWrite::Recorded(moved) => Some(moved.whose(self.generation, self.template(), self.revision)),
        }
    }

    /// The record of our last write to this very object.
    pub fn record(&self) -> Option<&Moved> {
        let record = self.annotations.last_write.as_ref()?.record()?;
        record.is_about(&self.uid).then_some(record)
    }

    /// Whether the run of this reference wrote it last. A copy of what a run wrote is nothing of that run.
    pub fn is_of_run(&self, run_ref: &str) -> bool {
        let record = self.annotations.last_write.as_deref().and_then(LastWrite::record);
        self.annotations.run.as_deref() == Some(run_ref) && record.is_none_or(|moved| moved.is_about(&self.uid))
    }

    /// Our last write, if the present roll-out is the one that it caused.
    pub fn our_rollout(&self) -> Option<&Moved> {
        self.record().filter(|_| self.whose() == Some(Whose::Ours))
    }
}

fn timed_out(status: Option<&DeploymentStatus>) -> Option<Timestamp> {
    let condition = progressing(status?).filter(|c| c.reason.as_deref() == Some(TIMED_OUT))?;
    let at = condition
        .last_update_time
        .as_ref()
        .or(condition.last_transition_time.as_ref())?;
    Some(at.0)
}

fn progressing(status: &DeploymentStatus) -> Option<&DeploymentCondition> {
    status.conditions.iter().flatten().find(|c| c.type_ == "Progressing")
}

/// `stale`: the controller's own timeout is one from before the roll-out in question.
fn rollout(spec: &Spec, status: Option<&DeploymentStatus>, generation: i64, stale: bool) -> Rollout {
    if spec.paused {
        return Rollout::Paused;
    }
    let Some(status) = status.filter(|s| s.observed_generation.is_some_and(|seen| seen >= generation)) else {
        return Rollout::Rolling { supervised: true };
    };
    let find = |type_: &str| status.conditions.iter().flatten().find(|c| c.type_ == type_);
    let progressing = progressing(status);
    let says = |reason: &str| progressing.is_some_and(|c| c.reason.as_deref() == Some(reason));
    if says(TIMED_OUT) && !stale {
        return Rollout::Unhealthy {
            reason: words(progressing),
        };
    }
    let wanted = spec.replicas.unwrap_or(1);
    let updated = status.updated_replicas.unwrap_or(0);
    let total = status.replicas.unwrap_or(0);
    let available = status.available_replicas.unwrap_or(0);
    if updated >= wanted && total <= updated && available >= updated {
        return Rollout::Settled;
    }
    // Kubernetes keeps this reason until the next change of the template: the roll-out was complete once. While a new
    // one begins, old replicas are there or none is updated.
    if says("NewReplicaSetAvailable") && updated > 0 && total == updated {
        let unavailable = find("Available").filter(|c| c.status == "False");
        return Rollout::Degraded {
            unavailable_since: unavailable
                .and_then(|c| c.last_transition_time.as_ref())
                .map(|time| time.0),
        };
    }
    Rollout::Rolling {
        supervised: progressing.is_some(),
    }
}

fn words(condition: Option<&DeploymentCondition>) -> String {
    let message = condition.and_then(|c| c.message.as_deref()).unwrap_or("no progress");
    message.chars().filter(|c| is_shown(*c)).take(200).collect()
}

fn pods_refused(status: Option<&DeploymentStatus>) -> Option<String> {
    let failed = status?.conditions.iter().flatten().find(|c| match c.type_.as_str() {
        "ReplicaFailure" => c.status == "True",
        "Progressing" => c.status == "False" && c.reason.as_deref() == Some("ReplicaSetCreateError"),
        _ => false,
    })?;
    let message = failed.message.as_deref().unwrap_or("no reason is given");
    // What comes before has the name of one pod, which is another one at each try.
    let message = message.split_once("is forbidden: ").map_or(message, |(_, rest)| rest);
    Some(pod::words(message))
}

#[cfg(test)]
mod tests;
