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

mod counted;
mod listing;
mod running;
mod waiting;
pub use counted::{is_finished, is_suspended};

use super::paging::ListError;
use crate::{
    api::ImageCandidate,
    domain::queue::{self, Limits, QueuedJob},
    readable::Guarded,
};
use kube::{Client, runtime::reflector::Store};
use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};
use tokio::time::Instant;
use waiting::Queue;

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
}

#[cfg(test)]
mod tests;
