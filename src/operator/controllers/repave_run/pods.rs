//! Reads pods where a workload does not say enough: which digest an image by tag really is, and how our own unsettled moves
//! do. One list a namespace where it is about many workloads, one by the workload's own labels where it is about few.
//!
//! A pod counts for a workload only if the ReplicaSet that owns it is that workload's: labels alone can be put on anything.

use super::{
    found::{Found, digests_with, evidence, written_digest, written_digests},
    seen::{EstateError, Query},
};
use crate::{
    controllers::{
        context::Context,
        inventory::{LeanPod, PodDigests},
        paging::{self, ListError},
    },
    domain::{digest::Digest, image_ref::ImageRef, pod::PodEvidence, workload::Workload},
};
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::ListParams,
    core::{Selector, SelectorExt},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

/// Pods of one namespace that are read.
const MAX_PODS: usize = 100_000;
/// Up to so many workloads of a namespace, their pods are listed one workload at a time.
const FEW: usize = 4;
/// Lists at the same time.
const AT_ONCE: usize = 8;
/// Namespaces that are read in one look only to learn what foreign tags are.
const MAX_FOREIGN: usize = 16;
/// How long the digest of a tag in a repository of releases is believed: a pod that is made anew pulls again.
const OURS: SignedDuration = SignedDuration::from_mins(10);
/// The same for all other tags, which only reports are about.
const FOREIGN: SignedDuration = SignedDuration::from_hours(1);
/// Label of the ReplicaSet controller on the pods of a Deployment.
const TEMPLATE_HASH: &str = "pod-template-hash";

/// Pods by the name of their workload.
type PodsOf = HashMap<String, Vec<Pod>>;

/// How much is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// What can wait waits for the next look.
    Bounded,
    /// Everything, now.
    All,
}

/// Why pods of a workload are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Need {
    /// For a report: it can wait.
    Report,
    /// Something is decided on it.
    Decision,
}

/// Fills in digests and evidence. Gives back the namespaces whose pods may not be read, though something is decided on them.
pub async fn fill(
    ctx: &Context,
    found: &mut [Found],
    query: Query<'_>,
    effort: Effort,
) -> Result<BTreeSet<String>, EstateError> {
    let now = ctx.now();
    let mut groups: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let mut decisions: BTreeMap<String, Need> = BTreeMap::new();
    for (at, one) in found.iter().enumerate() {
        if let Some(need) = need(one, query, now) {
            let namespace = &one.workload.key.namespace;
            groups.entry(namespace.clone()).or_default().push(at);
            let worst = decisions.entry(namespace.clone()).or_insert(need);
            *worst = need.max(*worst);
        }
    }
    let mut foreign = 0;
    let mut chosen = Vec::new();
    for (namespace, members) in groups {
        let can_wait = effort == Effort::Bounded && decisions.get(&namespace) == Some(&Need::Report);
        foreign += usize::from(can_wait);
        if can_wait && foreign > MAX_FOREIGN {
            for at in members {
                found[at].waits = found[at].pods_read.is_none();
            }
            continue;
        }
        let workloads: Vec<_> = members.iter().map(|at| found[*at].workload.clone()).collect();
        chosen.push((namespace, members, workloads));
    }
    let reads: Vec<_> = chosen
        .into_iter()
        .map(|(namespace, members, workloads)| {
            let read = async move {
                match in_namespace(ctx, &namespace, &workloads).await {
                    // The pods themselves are held no longer than this: what they say of a workload is a few bytes.
                    Ok(pods) => Ok((members, Some(told(&workloads, pods, query)))),
                    Err(error) if is_of_one_namespace(&error) => {
                        tracing::debug!(namespace, %error, "its pods are not seen");
                        Ok((members, None))
                    }
                    Err(error) => Err(EstateError::from(error)),
                }
            };
            read.boxed()
        })
        .collect();
    let read: Vec<(Vec<usize>, Option<Vec<Told>>)> =
        stream::iter(reads).buffer_unordered(AT_ONCE).try_collect().await?;
    let mut silent = BTreeSet::new();
    for (members, told) in read {
        let Some(told) = told else {
            // What its tags name is not known, and was not known long enough ago to be believed: nothing is moved by it. How what is
            // on its way does, only the Deployment says, and the deadline.
            for at in members {
                let one = &mut found[at];
                one.digests = written_digests(&one.workload);
                let namespace = &one.workload.key.namespace;
                if decisions.get(namespace) == Some(&Need::Decision) {
                    silent.insert(namespace.clone());
                }
            }
            continue;
        };
        for (at, told) in members.into_iter().zip(told) {
            let one = &mut found[at];
            (one.digests, one.evidence) = (told.digests.clone(), told.evidence);
            let digests = PodDigests {
                read: now,
                digests: told.digests,
            };
            ctx.inventory.learn_pods(&one.workload.key, &one.workload.uid, digests);
        }
    }
    Ok(silent)
}

/// What the pods of one workload say.
struct Told {
    digests: Vec<Option<Digest>>,
    evidence: PodEvidence,
}

/// What they say of each of these workloads, in their order.
fn told(workloads: &[Arc<Workload>], mut pods: PodsOf, query: Query<'_>) -> Vec<Told> {
    let of = |workload: &Arc<Workload>| {
        let pods = pods.remove(&workload.key.name).unwrap_or_default();
        Told {
            digests: digests_with(workload, &pods, query.releases),
            evidence: evidence(&pods, query),
        }
    };
    workloads.iter().map(of).collect()
}

/// Whether an answer says something of that namespace only: who may list there, or how many pods it has. All others go on.
fn is_of_one_namespace(error: &ListError) -> bool {
    match error {
        ListError::Api(_) => error.is_forbidden(),
        ListError::TooMany { .. } | ListError::Unreadable { .. } | ListError::LongSelector { .. } => true,
        ListError::Stuck => false,
    }
}

/// Whether, and why, the pods of a workload are needed.
fn need(found: &Found, query: Query<'_>, now: Timestamp) -> Option<Need> {
    let workload = &found.workload;
    if query.supervised.is_some_and(|supervised| supervised.needs(workload)) {
        return Some(Need::Decision);
    }
    let old = |age: SignedDuration| found.pods_read.is_none_or(|read| now.duration_since(read).abs() >= age);
    let mut tags = workload
        .containers
        .iter()
        .filter(|c| written_digest(&c.image).is_none())
        .filter_map(|c| c.image.parse::<ImageRef>().ok())
        .map(|image| query.releases.has_repository(&image.repository));
    let ours = tags.clone().any(|ours| ours);
    if ours && old(OURS) {
        Some(Need::Decision)
    } else if tags.next().is_some() && old(FOREIGN) {
        Some(Need::Report)
    } else {
        None
    }
}

/// The pods of these workloads of one namespace, by the workload's name.
async fn in_namespace(ctx: &Context, namespace: &str, workloads: &[Arc<Workload>]) -> Result<PodsOf, ListError> {
    let api: Api<LeanPod> = Api::namespaced(ctx.client.clone(), namespace);
    let owners: HashMap<&str, Selector> = workloads
        .iter()
        // A selector that cannot be read, or selects all, finds no pods: then the digest of a tag is unknown, and
        // nothing is moved.
        .filter_map(|workload| Some((workload.key.name.as_str(), workload.pod_selector.parse()?)))
        .filter(|(_, selector)| !selector.selects_all())
        .collect();
    let keep = |LeanPod(pod): LeanPod| {
        let owner = owner(&pod)?;
        let selector = owners.get(owner.as_str())?;
        (is_alive(&pod) && selector.matches(pod.labels())).then_some((owner, pod))
    };
    let mut found = PodsOf::new();
    // By a selector that is too long for a request no list can be asked for: then, too, all pods of the namespace are read.
    let by_selector: Result<Vec<ListParams>, ListError> = owners.values().map(paging::selecting).collect();
    let lists = match by_selector {
        Ok(lists) if workloads.len() <= FEW => lists,
        Ok(_) | Err(_) => vec![ListParams::default()],
    };
    for params in lists {
        for (owner, pod) in paging::list(&api, params, MAX_PODS, keep).await? {
            let pods = found.entry(owner).or_default();
            // Two selectors can select one pod.
            if !pods.iter().any(|known| known.metadata.uid == pod.metadata.uid) || pod.metadata.uid.is_none() {
                pods.push(pod);
            }
        }
    }
    Ok(found)
}

/// The Deployment whose ReplicaSet owns a pod: the ReplicaSet is named after it and the hash of the template.
fn owner(pod: &Pod) -> Option<String> {
    let hash = pod.labels().get(TEMPLATE_HASH)?;
    let owner = pod
        .owner_references()
        .iter()
        .find(|owner| owner.controller == Some(true) && owner.kind == "ReplicaSet")?;
    let name = owner.name.strip_suffix(hash.as_str())?.strip_suffix('-')?;
    Some(name.to_owned())
}

/// Pods that have ended, and evicted ones, say nothing about what runs.
fn is_alive(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    !matches!(phase, Some("Failed" | "Succeeded"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(name: &str, hash: &str, phase: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "x", "labels": {"app": "a", TEMPLATE_HASH: hash},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name, "uid": "u", "controller": true}]},
            "status": {"phase": phase},
        }))
        .unwrap()
    }

    #[test]
    fn a_pod_belongs_to_the_deployment_that_its_replica_set_is_named_after() {
        assert_eq!(owner(&pod("web-5d4f", "5d4f", "Running")).as_deref(), Some("web"));
        assert_eq!(
            owner(&pod("web-api-5d4f", "5d4f", "Running")).as_deref(),
            Some("web-api")
        );
        assert_eq!(owner(&pod("web-other", "5d4f", "Running")), None);
        let mut bare = pod("web-5d4f", "5d4f", "Running");
        bare.metadata.owner_references = None;
        assert_eq!(owner(&bare), None, "labels alone prove nothing");
    }

    #[test]
    fn a_pod_that_has_ended_says_nothing() {
        assert!(is_alive(&pod("a-1", "1", "Running")) && is_alive(&pod("a-1", "1", "Pending")));
        assert!(!is_alive(&pod("a-1", "1", "Failed")) && !is_alive(&pod("a-1", "1", "Succeeded")));
    }
}
