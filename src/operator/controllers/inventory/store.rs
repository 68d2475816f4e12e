//! What is known of the estate, in memory: pure data with the rules of how events change it.
//!
//! An older version of an object never replaces a newer one, because our own writes are learned from their answers and the
//! watch is behind them. Must not read anything and must not decide what is outdated.

use super::objects::Consumer;
use crate::domain::{
    digest::Digest,
    image_ref::ImageRef,
    workload::{Rollout, Workload, WorkloadKey, WorkloadKind},
};
use jiff::Timestamp;
use kube::core::{Selector, SelectorExt};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// A namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamespaceEntry {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it is being deleted.
    pub terminating: bool,
}

/// Which digests the pods of a workload run, as far as its template names none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodDigests {
    /// When the pods were read.
    pub read: Timestamp,
    /// One entry a container, in the order of the workload; `None` where its pods do not agree or are not there.
    pub digests: Vec<Option<Digest>>,
}

/// A Deployment.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The Deployment, parsed.
    pub workload: Arc<Workload>,
    /// What its pods run.
    pub pods: Option<Arc<PodDigests>>,
}

/// A kind that is counted and not moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CountedKind {
    /// `apps/v1` StatefulSet.
    StatefulSet,
    /// `apps/v1` DaemonSet.
    DaemonSet,
    /// `batch/v1` CronJob.
    CronJob,
    /// `apps/v1` ReplicaSet without a controller.
    ReplicaSet,
    /// Pod without a controller.
    Pod,
}

impl CountedKind {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::StatefulSet,
        Self::DaemonSet,
        Self::CronJob,
        Self::ReplicaSet,
        Self::Pod,
    ];

    /// Its group and plural.
    pub const fn resource(self) -> (&'static str, &'static str) {
        match self {
            Self::StatefulSet => ("apps", "statefulsets"),
            Self::DaemonSet => ("apps", "daemonsets"),
            Self::CronJob => ("batch", "cronjobs"),
            Self::ReplicaSet => ("apps", "replicasets"),
            Self::Pod => ("", "pods"),
        }
    }

    /// The kind as Kubernetes writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
            Self::CronJob => "CronJob",
            Self::ReplicaSet => "ReplicaSet",
            Self::Pod => "Pod",
        }
    }
}

/// An object of a counted kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its images, as far as they are references.
    pub images: Vec<ImageRef>,
}

/// What changed.
#[derive(Debug, Clone)]
pub enum Change {
    /// A Deployment: before and after; one of them at least is there.
    Workload {
        /// Before.
        before: Option<Arc<Workload>>,
        /// After.
        after: Option<Arc<Workload>>,
    },
    /// Labels or end of a namespace: before and after.
    Namespace {
        /// Before.
        before: NamespaceEntry,
        /// After.
        after: NamespaceEntry,
    },
    /// A counted object of this namespace.
    Counted {
        /// Where it is.
        namespace: String,
    },
}

/// What is known.
#[derive(Debug, Default)]
pub struct Store {
    /// With the version that each was seen in.
    namespaces: BTreeMap<String, (String, NamespaceEntry)>,
    workloads: BTreeMap<WorkloadKey, Entry>,
    counted: BTreeMap<(CountedKind, String, String), Counted>,
}

/// Whether version `new` of an object may replace `old`. Versions that are no numbers cannot be compared: then the later
/// word counts.
fn may_replace(old: &str, new: &str) -> bool {
    match (old.parse::<u128>(), new.parse::<u128>()) {
        (Ok(old), Ok(new)) => new >= old,
        (Err(_), _) | (_, Err(_)) => true,
    }
}

/// Whether version `new` is certain to be newer than `old`.
fn is_newer(old: &str, new: &str) -> bool {
    matches!((old.parse::<u128>(), new.parse::<u128>()), (Ok(old), Ok(new)) if new > old)
}

/// Whether a workload still has the pods that it had: nothing about its images has changed and it was not rolled.
fn same_pods(old: &Workload, new: &Workload) -> bool {
    let settled = |workload: &Workload| workload.rollout == Rollout::Settled;
    old.uid == new.uid && old.containers == new.containers && settled(old) && settled(new)
}

impl Store {
    /// A namespace was seen in this version. An older one than is known says nothing.
    pub fn namespace(&mut self, name: String, version: &str, after: NamespaceEntry) -> Option<Change> {
        let known = self.namespaces.get(&name);
        if known.is_some_and(|(known, _)| !may_replace(known, version)) {
            return None;
        }
        let (_, before) = self
            .namespaces
            .insert(name, (version.to_owned(), after.clone()))
            .unwrap_or_default();
        (before != after).then_some(Change::Namespace { before, after })
    }

    /// A namespace that we read ourselves: only where one is known of its name, so that a late answer brings nothing back.
    pub fn learn_namespace(&mut self, name: &str, version: &str, after: NamespaceEntry) -> Option<Change> {
        self.namespaces.contains_key(name).then_some(())?;
        self.namespace(name.to_owned(), version, after)
    }

    /// A namespace is gone.
    pub fn namespace_gone(&mut self, name: &str) {
        self.namespaces.remove(name);
    }

    /// A Deployment was seen.
    pub fn workload(&mut self, workload: Workload) -> Option<Change> {
        let old = self.workloads.get(&workload.key);
        // One that was made anew under its name is newer, too, and the watch may still be at the old one.
        if let Some(old) = old
            && !may_replace(&old.workload.resource_version, &workload.resource_version)
        {
            return None;
        }
        let before = old.map(|entry| entry.workload.clone());
        let pods = old
            .filter(|old| same_pods(&old.workload, &workload))
            .and_then(|entry| entry.pods.clone());
        let after = Arc::new(workload);
        let entry = Entry {
            workload: after.clone(),
            pods,
        };
        self.workloads.insert(after.key.clone(), entry);
        Some(Change::Workload {
            before,
            after: Some(after),
        })
    }

    /// A Deployment that we read or wrote ourselves: only where one is known of its name, so that a late answer brings nothing back.
    pub fn learn(&mut self, workload: Workload) -> Option<Change> {
        let known = &self.workloads.get(&workload.key)?.workload;
        if known.uid != workload.uid && !is_newer(&known.resource_version, &workload.resource_version) {
            return None;
        }
        self.workload(workload)
    }

    /// A Deployment is gone: the one with this UID, and no other of that name.
    pub fn workload_gone(&mut self, key: &WorkloadKey, uid: Option<&str>) -> Option<Change> {
        let known = self.workloads.get(key)?;
        if uid.is_some_and(|uid| uid != known.workload.uid) {
            return None;
        }
        let gone = self.workloads.remove(key)?;
        Some(Change::Workload {
            before: Some(gone.workload),
            after: None,
        })
    }

    /// What the pods of a workload run.
    pub fn pods(&mut self, key: &WorkloadKey, uid: &str, pods: PodDigests) {
        if let Some(entry) = self.workloads.get_mut(key).filter(|entry| entry.workload.uid == uid) {
            entry.pods = Some(Arc::new(pods));
        }
    }

    /// An object of a counted kind was seen.
    pub fn consumer(&mut self, kind: CountedKind, consumer: Consumer) -> Option<Change> {
        let (namespace, name) = (consumer.metadata.namespace?, consumer.metadata.name?);
        if consumer.owned {
            return self.consumer_gone(kind, &namespace, &name);
        }
        let counted = Counted {
            labels: consumer.metadata.labels.unwrap_or_default(),
            images: consumer.images.iter().filter_map(|image| image.parse().ok()).collect(),
        };
        let before = self.counted.insert((kind, namespace.clone(), name), counted.clone());
        (before.as_ref() != Some(&counted)).then_some(Change::Counted { namespace })
    }

    /// An object of a counted kind is gone.
    pub fn consumer_gone(&mut self, kind: CountedKind, namespace: &str, name: &str) -> Option<Change> {
        let gone = self.counted.remove(&(kind, namespace.to_owned(), name.to_owned()));
        gone.map(|_| Change::Counted {
            namespace: namespace.to_owned(),
        })
    }

    /// Keeps of the Deployments of `namespace` (of all without one) those that a list has shown.
    pub fn keep_workloads(&mut self, namespace: Option<&str>, shown: &BTreeSet<WorkloadKey>) -> Vec<Change> {
        let gone: Vec<WorkloadKey> = self
            .workloads
            .keys()
            .filter(|key| namespace.is_none_or(|namespace| key.namespace == namespace) && !shown.contains(*key))
            .cloned()
            .collect();
        gone.iter().filter_map(|key| self.workload_gone(key, None)).collect()
    }

    /// The same for a counted kind.
    pub fn keep_consumers(&mut self, kind: CountedKind, namespace: Option<&str>, shown: &BTreeSet<(String, String)>) {
        self.counted.retain(|(of, at, name), _| {
            *of != kind
                || namespace.is_some_and(|namespace| at != namespace)
                || shown.contains(&(at.clone(), name.clone()))
        });
    }

    /// The same for namespaces.
    pub fn keep_namespaces(&mut self, shown: &BTreeSet<String>) {
        self.namespaces.retain(|name, _| shown.contains(name));
    }

    /// A namespace.
    pub fn get_namespace(&self, name: &str) -> Option<&NamespaceEntry> {
        self.namespaces.get(name).map(|(_, namespace)| namespace)
    }

    /// The living namespaces that a selector opts in.
    pub fn namespaces(&self, selector: &Selector) -> Vec<String> {
        let all = self.namespaces.iter().map(|(name, (_, namespace))| (name, namespace));
        all.filter(|(_, namespace)| !namespace.terminating)
            .filter(|(_, namespace)| selector.matches(&namespace.labels))
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// The Deployments of a namespace with these labels, sorted by name.
    pub fn workloads<'a>(&'a self, namespace: &'a str, selector: &'a Selector) -> impl Iterator<Item = &'a Entry> {
        let first = WorkloadKey::deployment(namespace, "");
        let of_namespace = self
            .workloads
            .range(first..)
            .take_while(move |(key, _)| key.kind == WorkloadKind::Deployment && key.namespace == namespace);
        of_namespace
            .map(|(_, entry)| entry)
            .filter(move |entry| entry.workload.labels.are_selected_by(selector))
    }

    /// The Deployments that say that they are in a roll-out which a run of this plan caused.
    pub fn rolling_of(&self, plan: &str) -> impl Iterator<Item = &Entry> {
        self.workloads.values().filter(move |entry| {
            let workload = &entry.workload;
            matches!(workload.rollout, Rollout::Rolling { .. })
                && workload.our_rollout().is_some_and(|moved| moved.plan == plan)
        })
    }

    /// How many Deployments a namespace has.
    pub fn deployments(&self, namespace: &str) -> usize {
        let from = WorkloadKey::deployment(namespace, "");
        let of_namespace = self.workloads.range(from..);
        of_namespace
            .take_while(|(key, _)| key.kind == WorkloadKind::Deployment && key.namespace == namespace)
            .count()
    }

    /// One Deployment.
    pub fn get(&self, key: &WorkloadKey) -> Option<&Entry> {
        self.workloads.get(key)
    }

    /// The objects of counted kinds in a namespace with these labels.
    pub fn counted<'a>(
        &'a self,
        namespace: &'a str,
        selector: &'a Selector,
    ) -> impl Iterator<Item = (CountedKind, &'a str, &'a Counted)> {
        CountedKind::ALL.into_iter().flat_map(move |kind| {
            let from = (kind, namespace.to_owned(), String::new());
            self.counted
                .range(from..)
                .take_while(move |((of, at, _), _)| *of == kind && at == namespace)
                .filter(|(_, counted)| selector.matches(&counted.labels))
                .map(|((of, _, name), counted)| (*of, name.as_str(), counted))
        })
    }
}

#[cfg(test)]
mod tests;
