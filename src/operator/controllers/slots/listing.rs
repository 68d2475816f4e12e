//! Lists what runs: of the whole cluster at once, or of each namespace for itself where somebody fills it. Reads only.

use super::{Error, Slots};
use crate::{
    api::refs::LABEL_BASE_IMAGE,
    controllers::{
        inventory::is_a,
        paging::{self, First, ListError},
    },
    readable::Parts,
};
use futures::{FutureExt as _, StreamExt as _, stream};
use k8s_openapi::{
    api::batch::v1::{Job, JobCondition, JobSpec, JobStatus},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Api, Client, Resource, ResourceExt as _, api::ListParams, core::NamespaceResourceScope};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    sync::{MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// How long the lists may take together.
const LIST_LIMIT: Duration = Duration::from_secs(20);
/// How long that of one namespace may take, where each is read for itself.
const LIMIT_OF_ONE: Duration = Duration::from_secs(5);
/// Jobs with our label that are read in one list of the whole cluster. With more, somebody fills it: then each namespace that has
/// candidates is read for itself.
pub(super) const MAX_JOBS: usize = 2_000;
/// Jobs with our label that are read of one namespace then; one with more is full, and nobody else.
const MAX_IN_ONE: usize = 500;
/// How long a cluster that had too many, or whose list came too late, is taken to be so: the list that finds it out is long.
pub(super) const CROWDED: Duration = Duration::from_secs(300);
/// Lists of single namespaces at the same time.
const AT_ONCE: usize = 8;

/// What a look at the cluster gave.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Listed {
    /// Unfinished Jobs that count, per namespace.
    pub(super) running: BTreeMap<String, usize>,
    /// Namespaces that could not be read whole.
    pub(super) full: BTreeSet<String>,
}

impl Slots {
    /// Unfinished Jobs that count.
    pub(super) async fn list(&self, client: &Client) -> Result<Listed, Error> {
        if !self.is_crowded() {
            let whole = tokio::time::timeout(LIST_LIMIT, self.first(Api::all(client.clone()), MAX_JOBS)).await;
            let what = match whole {
                Ok(listed) => {
                    let First { kept, more } = listed?;
                    if !more {
                        let mut listed = Listed::default();
                        for namespace in kept {
                            *listed.running.entry(namespace).or_insert(0) += 1;
                        }
                        return Ok(listed);
                    }
                    Ok("more Jobs carry our label than ours can be")
                }
                // The time is up: whoever asks next does not try it again.
                Err(_) => Err(Error::Late),
            };
            let words = what
                .as_ref()
                .map_or("the list of all Jobs takes too long", |words| *words);
            tracing::warn!(most = MAX_JOBS, "{words}: each namespace is read for itself");
            *self.crowded() = Some(Instant::now() + CROWDED);
            what?;
        }
        self.list_each(client).await
    }

    /// The same, each namespace for itself: one that cannot be read, or not in time, is full. An error if none can.
    async fn list_each(&self, client: &Client) -> Result<Listed, Error> {
        let mut places: Vec<String> = self.places().into_iter().collect();
        let full_before = self.lock().running.full.clone();
        // Those that took too long the last time do not keep the others waiting again.
        places.sort_by_key(|namespace| full_before.contains(namespace));
        let mut listed = Listed {
            full: places.iter().cloned().collect(),
            ..Listed::default()
        };
        let lists: Vec<_> = places
            .into_iter()
            .map(|namespace| {
                let api = Api::namespaced(client.clone(), &namespace);
                let first = async move {
                    let first = tokio::time::timeout(LIMIT_OF_ONE, self.first(api, MAX_IN_ONE)).await;
                    (namespace, first.map_err(|_| Error::Late))
                };
                first.boxed()
            })
            .collect();
        let mut lists = stream::iter(lists)
            .buffer_unordered(AT_ONCE)
            .take_until(tokio::time::sleep(LIST_LIMIT).boxed());
        let (mut any, mut failed) = (false, Error::Late);
        while let Some((namespace, first)) = lists.next().await {
            match first.and_then(|first| first.map_err(Error::List)) {
                Ok(First { kept, more }) => {
                    any = true;
                    if !more {
                        listed.full.remove(&namespace);
                    }
                    listed.running.insert(namespace, kept.len());
                }
                Err(error) => {
                    tracing::warn!(namespace, %error, "its Jobs cannot be counted: none is started there");
                    failed = error;
                }
            }
        }
        if any { Ok(listed) } else { Err(failed) }
    }

    pub(super) fn crowded(&self) -> MutexGuard<'_, Option<Instant>> {
        self.crowded_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_crowded(&self) -> bool {
        self.crowded().is_some_and(|until| Instant::now() < until)
    }

    /// The namespaces that can have Jobs which count: those of candidates, of who waits, of what ran, and our own.
    fn places(&self) -> BTreeSet<String> {
        let mut places = BTreeSet::from([self.own_namespace.clone()]);
        if let Some(candidates) = self.candidates.get() {
            let all = candidates.state();
            places.extend(all.iter().filter_map(|candidate| candidate.namespace()));
        }
        let queue = self.lock();
        places.extend(queue.waiting.keys().map(|(namespace, _)| namespace.clone()));
        places.extend(queue.running.listed.keys().chain(queue.running.since.keys()).cloned());
        places
    }

    /// The namespaces of the Jobs that count among the first ones there.
    async fn first(&self, jobs: Api<LeanJob>, most: usize) -> Result<First<String>, ListError> {
        // Succeeded ones stay for a day and are many: the server leaves them out.
        let params = ListParams::default()
            .labels(LABEL_BASE_IMAGE)
            .fields("status.successful=0");
        let counted = |LeanJob(job): LeanJob| self.counts(&job).then(|| job.metadata.namespace.unwrap_or_default());
        paging::first(&jobs, params, most, counted).await
    }
}

/// A Job as far as it is counted: whoever may make Jobs may make large ones, and of their pods nothing is built. One that cannot be
/// read is nobody's.
#[derive(Debug, Clone)]
struct LeanJob(Job);

impl<'de> Deserialize<'de> for LeanJob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Spec {
            active_deadline_seconds: Option<i64>,
            suspend: Option<bool>,
        }
        #[derive(Default, Deserialize)]
        struct Status {
            conditions: Option<Vec<JobCondition>>,
        }
        let Parts { metadata, spec, status } = Parts::deserialize(deserializer)?;
        let spec = serde_json::from_str::<Spec>(spec.as_deref().map_or("{}", RawValue::get));
        let status = serde_json::from_str::<Status>(status.as_deref().map_or("{}", RawValue::get));
        let (Ok(spec), Ok(status)) = (spec, status) else {
            return Ok(Self(Job::default()));
        };
        Ok(Self(Job {
            metadata,
            spec: Some(JobSpec {
                active_deadline_seconds: spec.active_deadline_seconds,
                suspend: spec.suspend,
                ..JobSpec::default()
            }),
            status: Some(JobStatus {
                conditions: status.conditions,
                ..JobStatus::default()
            }),
        }))
    }
}

is_a!(LeanJob, Job, 0.metadata);
