//! The line in which Jobs wait for their turn: one per process, in memory; who may start is decided in `domain::queue`.
//!
//! What runs is listed from the API server, at most once every two seconds for everybody together, and what was admitted
//! since is counted on top. Only this process starts Jobs that count, so the sum is never too small: neither a restart nor
//! an old list can exceed the limits. No lock is held over a request. A restart only forgets who waited longest.
//!
//! A Job counts if its controller is an ImageCandidate that exists, by UID, or if it is a self-test in our own namespace;
//! one that is suspended runs nothing. So a Job of somebody else takes nobody's place, and a namespace full of forged ones
//! takes its own share at most. However many Jobs carry our label, and however long they take to list, they stop nobody in another
//! namespace: beyond a bound only the namespaces that have candidates are read, each with bounds of its own. One that cannot be
//! read whole is full itself: none of its Jobs starts. What was known to run there goes on to count, but all such namespaces together
//! leave a quarter of the slots to the others; so for that time a quarter more than the limit may run. After a restart nothing is known of them.

use super::paging::{self, First, ListError};
use crate::{
    api::{
        ImageCandidate,
        refs::{LABEL_BASE_IMAGE, LABEL_SELF_TEST},
    },
    domain::queue::{self, Limits, QueuedJob},
    readable::Guarded,
};
use futures::{FutureExt as _, StreamExt as _, stream};
use k8s_openapi::{api::batch::v1::Job, apimachinery::pkg::apis::meta::v1::OwnerReference};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::ListParams,
    runtime::reflector::{ObjectRef, Store},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// How soon a candidate at the head of the queue asks again; one further back asks later, the last ones this late.
const QUEUED_REQUEUE: Duration = Duration::from_secs(5);
const ASK_AT_LATEST: Duration = Duration::from_secs(300);
/// A claim that was not renewed for so long is forgotten: its candidate is gone or needs it no more. Longer than the
/// longest time between two questions, so that nobody loses a place by waiting.
const FORGOTTEN: Duration = Duration::from_secs(900);
/// Most claims in the queue; further ones wait outside until their candidate asks again.
const MAX_CLAIMS: usize = 50_000;
/// How long a list of what runs is used.
const FRESH: Duration = Duration::from_secs(2);
/// How long the lists may take together.
const LIST_LIMIT: Duration = Duration::from_secs(20);
/// How long that of one namespace may take, where each is read for itself.
const LIMIT_OF_ONE: Duration = Duration::from_secs(5);
/// Jobs with our label that are read in one list of the whole cluster. With more, somebody fills it: then each namespace that has
/// candidates is read for itself.
const MAX_JOBS: usize = 2_000;
/// Jobs with our label that are read of one namespace then; one with more is full, and nobody else.
const MAX_IN_ONE: usize = 500;
/// How long a cluster that had too many, or whose list came too late, is taken to be so: the list that finds it out is long.
const CROWDED: Duration = Duration::from_secs(300);
/// Lists of single namespaces at the same time.
const AT_ONCE: usize = 8;

/// What runs could not be told.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused.
    #[error("the Jobs that run could not be listed: {0}")]
    List(#[from] ListError),
    /// It did not answer.
    #[error(
        "the Jobs that run could not be listed within 20s; no Job is started before they are, each namespace for itself"
    )]
    Late,
}

/// The longest deadline of a Job of ours, in seconds: a check of an hour and what its pod takes.
const LONGEST_JOB: i64 = 3_600 + 300;

/// The queue.
#[derive(Debug)]
pub struct Slots {
    limits: Limits,
    /// Where self-tests run.
    own_namespace: String,
    queue: Mutex<Queue>,
    /// One list at a time.
    listing: tokio::sync::Mutex<()>,
    /// Until when the whole cluster is not listed at once.
    crowded_until: Mutex<Option<Instant>>,
    candidates: OnceLock<Store<Guarded<ImageCandidate>>>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: BTreeMap<(String, String), (QueuedJob, Instant)>,
    next: u64,
    running: Running,
}

/// Which Jobs of a candidate may be created now. They count as running from here on; hold it until they are created.
#[derive(Debug)]
pub struct Admitted<'a> {
    jobs: BTreeSet<String>,
    /// When those that were not admitted should ask again.
    pub ask_again: Duration,
    namespace: String,
    slots: &'a Slots,
}

impl Admitted<'_> {
    /// Whether this Job may be created.
    pub fn contains(&self, job: &str) -> bool {
        self.jobs.contains(job)
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        self.slots.lock().running.created(&self.namespace, self.jobs.len());
    }
}

impl Slots {
    /// An empty queue with these limits; self-tests count in the operator's own namespace.
    pub fn new(limits: Limits, own_namespace: &str) -> Self {
        Self {
            limits,
            own_namespace: own_namespace.to_owned(),
            queue: Mutex::default(),
            listing: tokio::sync::Mutex::default(),
            crowded_until: Mutex::default(),
            candidates: OnceLock::new(),
        }
    }

    /// From now on a Job counts only if its candidate is in this cache. Before, each one that names a candidate does.
    pub fn count_those_of(&self, candidates: Store<Guarded<ImageCandidate>>) {
        if self.candidates.set(candidates).is_err() {
            tracing::warn!("the cache of candidates is known already; the second one is ignored");
        }
    }

    /// Puts the Jobs of one namespace in the queue, or renews their place, and says which ones may start.
    pub async fn admit(
        &self,
        client: &Client,
        namespace: &str,
        jobs: &[String],
        urgent: bool,
    ) -> Result<Admitted<'_>, Error> {
        self.lock().enter(namespace, jobs, urgent, Instant::now());
        self.refresh(client).await?;
        let mut queue = self.lock();
        let running = queue.running.counts(self.limits);
        let full = &queue.running.full;
        let waiting = queue.waiting.values().map(|(claim, _)| claim);
        let waiting: BTreeSet<QueuedJob> = waiting
            .filter(|claim| !full.contains(&claim.namespace))
            .cloned()
            .collect();
        let admitted = queue::admit(&running, &waiting, self.limits);
        let mine: BTreeSet<String> = admitted
            .into_iter()
            .filter(|claim| claim.namespace == namespace && jobs.contains(&claim.job))
            .map(|claim| claim.job)
            .collect();
        for job in &mine {
            queue.waiting.remove(&(namespace.to_owned(), job.clone()));
        }
        queue.running.admitted(namespace, mine.len());
        Ok(Admitted {
            ask_again: queue.ask_again(namespace, jobs, self.limits),
            jobs: mine,
            namespace: namespace.to_owned(),
            slots: self,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists what runs, unless somebody did a moment ago.
    async fn refresh(&self, client: &Client) -> Result<(), Error> {
        let _one_at_a_time = self.listing.lock().await;
        if self.lock().running.is_fresh(Instant::now()) {
            return Ok(());
        }
        self.lock().running.list_begins();
        let listed = self.list(client).await?;
        self.lock().running.listed(listed, Instant::now());
        Ok(())
    }

    /// Unfinished Jobs that count.
    async fn list(&self, client: &Client) -> Result<Listed, Error> {
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

    fn crowded(&self) -> MutexGuard<'_, Option<Instant>> {
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
    async fn first(&self, jobs: Api<Guarded<Job>>, most: usize) -> Result<First<String>, ListError> {
        // Succeeded ones stay for a day and are many: the server leaves them out.
        let params = ListParams::default()
            .labels(LABEL_BASE_IMAGE)
            .fields("status.successful=0");
        // One that cannot be read is nobody's.
        let counted = |job: Guarded<Job>| {
            let job = job.0.ok().filter(|job| self.counts(job))?;
            Some(job.metadata.namespace.unwrap_or_default())
        };
        paging::first(&jobs, params, most, counted).await
    }

    fn counts(&self, job: &Job) -> bool {
        if is_finished(job) || is_suspended(job) || !ends_in_time(job) {
            return false;
        }
        if job.namespace().as_deref() == Some(self.own_namespace.as_str()) && job.labels().contains_key(LABEL_SELF_TEST)
        {
            return true;
        }
        let mut owners = job.owner_references().iter();
        let (kind, version) = (ImageCandidate::kind(&()), ImageCandidate::api_version(&()));
        let ours = |owner: &&OwnerReference| {
            owner.controller == Some(true) && owner.kind == kind && owner.api_version == version
        };
        let Some(owner) = owners.find(ours) else {
            return false;
        };
        let Some(candidates) = self.candidates.get() else {
            return true;
        };
        let at = ObjectRef::new(&owner.name).within(&job.namespace().unwrap_or_default());
        candidates
            .get(&at)
            .is_some_and(|live| live.meta().uid.as_ref() == Some(&owner.uid))
    }
}

/// What a look at the cluster gave.
#[derive(Debug, Default, PartialEq, Eq)]
struct Listed {
    /// Unfinished Jobs that count, per namespace.
    running: BTreeMap<String, usize>,
    /// Namespaces that could not be read whole.
    full: BTreeSet<String>,
}

/// How many Jobs run in each namespace, never too few.
#[derive(Debug, Default)]
struct Running {
    listed: BTreeMap<String, usize>,
    /// Where nothing is started.
    full: BTreeSet<String>,
    at: Option<Instant>,
    /// Admitted, and perhaps not created yet: no list need have them.
    pending: BTreeMap<String, usize>,
    /// Admitted since the last list began, or pending then: this list need not have them.
    since: BTreeMap<String, usize>,
}

impl Running {
    fn is_fresh(&self, now: Instant) -> bool {
        self.at.is_some_and(|at| now.saturating_duration_since(at) < FRESH)
    }

    fn list_begins(&mut self) {
        // Until it is there, the old list and all that was admitted since then count.
        self.at = None;
        for (namespace, count) in std::mem::take(&mut self.since) {
            *self.listed.entry(namespace).or_insert(0) += count;
        }
        self.since = self.pending.clone();
    }

    fn listed(&mut self, mut listed: Listed, now: Instant) {
        for namespace in &listed.full {
            if let Some(known) = self.listed.get(namespace) {
                listed.running.entry(namespace.clone()).or_insert(*known);
            }
        }
        self.listed = listed.running;
        self.full = listed.full;
        self.at = Some(now);
    }

    fn admitted(&mut self, namespace: &str, count: usize) {
        for counts in [&mut self.pending, &mut self.since] {
            if count > 0 {
                *counts.entry(namespace.to_owned()).or_insert(0) += count;
            }
        }
    }

    fn created(&mut self, namespace: &str, count: usize) {
        if let Some(pending) = self.pending.get_mut(namespace) {
            *pending = pending.saturating_sub(count);
            if *pending == 0 {
                self.pending.remove(namespace);
            }
        }
    }

    /// What counts: of one namespace, and of all together that could not be read, never more than a quarter less than all, so that
    /// one that is full of something else than our Jobs does not take the places of the others.
    fn counts(&self, limits: Limits) -> BTreeMap<String, usize> {
        let mut counts = self.listed.clone();
        for (namespace, count) in &self.since {
            *counts.entry(namespace.clone()).or_insert(0) += count;
        }
        let mut left = limits.most_in_one();
        for (namespace, count) in &mut counts {
            *count = (*count).min(limits.most_in_one());
            if self.full.contains(namespace) {
                *count = (*count).min(left);
                left -= *count;
            }
        }
        counts
    }
}

impl Queue {
    fn enter(&mut self, namespace: &str, jobs: &[String], urgent: bool, now: Instant) {
        self.waiting
            .retain(|_, (_, renewed)| now.duration_since(*renewed) < FORGOTTEN);
        for job in jobs {
            let key = (namespace.to_owned(), job.clone());
            if let Some((claim, renewed)) = self.waiting.get_mut(&key) {
                claim.urgent = urgent;
                *renewed = now;
            } else if self.waiting.len() < MAX_CLAIMS {
                let claim = QueuedJob {
                    namespace: namespace.to_owned(),
                    job: job.clone(),
                    urgent,
                    since: self.next,
                };
                self.next += 1;
                self.waiting.insert(key, (claim, now));
            }
        }
    }

    /// One round of the queue later for each time that all slots are taken by those before: what the whole queue asks is
    /// bounded, however long it is.
    fn ask_again(&self, namespace: &str, jobs: &[String], limits: Limits) -> Duration {
        let mine = jobs
            .iter()
            .filter_map(|job| self.waiting.get(&(namespace.to_owned(), job.clone())));
        let Some(first) = mine.map(|(claim, _)| (!claim.urgent, claim.since)).min() else {
            return QUEUED_REQUEUE;
        };
        let before = self
            .waiting
            .values()
            .filter(|(claim, _)| (!claim.urgent, claim.since) < first)
            .count();
        let rounds = u32::try_from(before / limits.total.max(1)).unwrap_or(u32::MAX);
        QUEUED_REQUEUE
            .saturating_mul(rounds.saturating_add(1))
            .min(ASK_AT_LATEST)
    }
}

/// Whether a Job has ended, well or badly.
pub fn is_finished(job: &Job) -> bool {
    let conditions = job.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| {
        all.iter()
            .any(|c| matches!(c.type_.as_str(), "Complete" | "Failed") && c.status == "True")
    })
}

/// Whether a Job has a deadline as ours have: one that may run for ever is none of ours, and would take a slot for ever.
fn ends_in_time(job: &Job) -> bool {
    let deadline = job.spec.as_ref().and_then(|spec| spec.active_deadline_seconds);
    deadline.is_some_and(|seconds| seconds <= LONGEST_JOB)
}

/// Whether a Job is held back: it has no pod and gets none.
pub fn is_suspended(job: &Job) -> bool {
    job.spec.as_ref().and_then(|spec| spec.suspend) == Some(true)
}

#[cfg(test)]
mod tests;
