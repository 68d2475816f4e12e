//! The estate, once for all plans and runs: every Deployment as far as it decides something, the namespaces, and the other
//! kinds that could run a base image, so that they are at least counted.
//!
//! Kept by watches. A budget that is counted on stale data is no budget, so nothing here is enough to write on: what a run
//! is about to write or judges is read live (`estate.rs`), and its own writes are learned at once, before the watch shows
//! them. Must not write, and must not know plans, runs or releases.

mod feeds;
mod objects;
mod store;

pub(crate) use objects::is_a;
pub use objects::{LeanPod, LeanReplicaSet, Watched};
pub use store::{Change, Counted, CountedKind, Entry, NamespaceEntry, PodDigests};

use crate::{
    domain::workload::{Workload, WorkloadKey},
    runtime::metrics::Metrics,
};
use futures::{Stream, stream};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::Selector;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};
use store::Store;
use tokio::sync::{broadcast, watch};

/// Changes that a slow listener may be behind; beyond that it is told to look at everything.
const BACKLOG: usize = 4_096;
/// How long a reconcile waits for the first list.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a namespace, or the whole estate, cannot be watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unread {
    /// The operator was told to leave it alone (`REPAVE_ESTATE_NAMESPACES`).
    NotInEstate,
    /// The API server does not let the operator list it.
    Forbidden,
}

/// One thing that is watched.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Feed {
    Namespaces,
    /// Deployments, of one namespace or of all.
    Deployments(Option<String>),
    Counted(CountedKind, Option<String>),
}

/// How a feed stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sync {
    Waiting,
    Complete,
    Forbidden,
}

struct Inner {
    store: RwLock<Store>,
    changes: broadcast::Sender<Arc<Change>>,
    feeds: watch::Sender<BTreeMap<Feed, Sync>>,
    /// Deployments that a write of ours may or may not have reached. Only what was written gets in, so it is as small as a few
    /// batches.
    doubts: Mutex<BTreeMap<WorkloadKey, Doubt>>,
    /// The namespaces that are watched; `None` for all.
    only: Option<BTreeSet<String>>,
}

/// The estate. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Inventory(Arc<Inner>);

/// The first list is not complete.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the list of the estate is not complete yet ({0}): it goes on by itself; see the log if this stays")]
pub struct NotSynced(String);

/// Why a Deployment is in doubt.
#[derive(Debug, Default)]
struct Doubt {
    /// Writes that are on their way.
    under_way: usize,
    /// A write has come to its end without an answer.
    unanswered: bool,
}

/// A write that is on its way.
pub struct WriteUnderWay {
    inventory: Inventory,
    key: WorkloadKey,
    answered: bool,
}

impl WriteUnderWay {
    /// The API server has said what became of it.
    pub fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for WriteUnderWay {
    fn drop(&mut self) {
        let mut doubts = self.inventory.doubts();
        if let Some(doubt) = doubts.get_mut(&self.key) {
            doubt.under_way = doubt.under_way.saturating_sub(1);
            doubt.unanswered |= !self.answered;
            if doubt.under_way == 0 && !doubt.unanswered {
                doubts.remove(&self.key);
            }
        }
    }
}

/// What a listener is told.
#[derive(Debug, Clone)]
pub enum Told {
    /// One change.
    Change(Arc<Change>),
    /// So many that some were lost: everything may have changed.
    Everything,
}

impl Inventory {
    /// An empty estate of these namespaces; of all if there are none.
    pub fn new(namespaces: &[String]) -> Self {
        let only = (!namespaces.is_empty()).then(|| namespaces.iter().cloned().collect::<BTreeSet<_>>());
        let places: Vec<Option<String>> = match &only {
            None => vec![None],
            Some(names) => names.iter().cloned().map(Some).collect(),
        };
        let mut feeds = BTreeMap::from([(Feed::Namespaces, Sync::Waiting)]);
        for place in places {
            feeds.insert(Feed::Deployments(place.clone()), Sync::Waiting);
            for kind in CountedKind::ALL {
                feeds.insert(Feed::Counted(kind, place.clone()), Sync::Waiting);
            }
        }
        Self(Arc::new(Inner {
            store: RwLock::default(),
            changes: broadcast::channel(BACKLOG).0,
            feeds: watch::Sender::new(feeds),
            doubts: Mutex::default(),
            only,
        }))
    }

    /// Watches until it is dropped.
    pub async fn run(self, client: kube::Client, metrics: Metrics) {
        feeds::run(self, client, metrics).await;
    }

    /// Waits until namespaces and Deployments were listed once, or may not be.
    pub async fn ready(&self) -> Result<(), NotSynced> {
        let mut feeds = self.0.feeds.subscribe();
        let done = feeds.wait_for(|feeds| missing(feeds).next().is_none());
        if let Ok(Ok(_)) = tokio::time::timeout(PATIENCE, done).await {
            return Ok(());
        }
        let missing: Vec<String> = missing(&self.0.feeds.borrow())
            .map(|feed| format!("{feed:?}"))
            .take(5)
            .collect();
        Err(NotSynced(missing.join(", ")))
    }

    /// Why this namespace cannot be read; `None` when it is watched.
    pub fn unread(&self, namespace: &str) -> Option<Unread> {
        let place = match &self.0.only {
            None => None,
            Some(only) if only.contains(namespace) => Some(namespace.to_owned()),
            Some(_) => return Some(Unread::NotInEstate),
        };
        let forbidden = self.0.feeds.borrow().get(&Feed::Deployments(place)) == Some(&Sync::Forbidden);
        forbidden.then_some(Unread::Forbidden)
    }

    /// The counted kinds that are not completely known, because the API server does not let us list them or has not yet.
    pub fn uncounted(&self) -> BTreeSet<CountedKind> {
        let feeds = self.0.feeds.borrow();
        let incomplete = feeds.iter().filter(|(_, sync)| **sync != Sync::Complete);
        incomplete
            .filter_map(|(feed, _)| match feed {
                Feed::Counted(kind, _) => Some(*kind),
                Feed::Namespaces | Feed::Deployments(_) => None,
            })
            .collect()
    }

    /// The living namespaces that a selector opts in.
    pub fn namespaces(&self, selector: &Selector) -> Vec<String> {
        self.read().namespaces(selector)
    }

    /// A namespace.
    pub fn namespace(&self, name: &str) -> Option<NamespaceEntry> {
        self.read().get_namespace(name).cloned()
    }

    /// The Deployments of a namespace with these labels, sorted by name.
    pub fn workloads(&self, namespace: &str, selector: &Selector) -> Vec<Entry> {
        self.read().workloads(namespace, selector).cloned().collect()
    }

    /// Whether a namespace has a Deployment, or an object of a counted kind, with these labels.
    pub fn has_any(&self, namespace: &str, selector: &Selector) -> bool {
        let store = self.read();
        let found = store.workloads(namespace, selector).next().is_some();
        found || store.counted(namespace, selector).next().is_some()
    }

    /// A write of ours to this Deployment was not answered: it is read live before anything is counted on it.
    pub fn doubt(&self, key: &WorkloadKey) {
        self.doubts().entry(key.clone()).or_default().unanswered = true;
    }

    /// A write of ours to this Deployment is sent now. Until its answer is told it is in doubt, whoever reads the Deployment
    /// meanwhile: the write may arrive after that. It stays so if the work is dropped before there is an answer.
    pub fn begin_write(&self, key: &WorkloadKey) -> WriteUnderWay {
        self.doubts().entry(key.clone()).or_default().under_way += 1;
        WriteUnderWay {
            inventory: self.clone(),
            key: key.clone(),
            answered: false,
        }
    }

    /// Those of these Deployments that have to be read live because a write was not answered.
    pub fn doubted<'a>(&self, keys: impl Iterator<Item = &'a WorkloadKey>) -> BTreeSet<WorkloadKey> {
        let doubts = self.doubts();
        if doubts.is_empty() {
            return BTreeSet::new();
        }
        keys.filter(|key| doubts.contains_key(*key)).cloned().collect()
    }

    /// All Deployments that have to be read live because a write of ours was not answered, and none is under way any more.
    pub fn unanswered(&self) -> Vec<WorkloadKey> {
        let doubts = self.doubts();
        let ended = doubts
            .iter()
            .filter(|(_, doubt)| doubt.unanswered && doubt.under_way == 0);
        ended.map(|(key, _)| key.clone()).collect()
    }

    /// It was read live, or the answer to a write of it has come: what was sent before and not answered is seen in that.
    fn certain(&self, key: &WorkloadKey) {
        let mut doubts = self.doubts();
        if let Some(doubt) = doubts.get_mut(key) {
            doubt.unanswered = false;
            if doubt.under_way == 0 {
                doubts.remove(key);
            }
        }
    }

    fn doubts(&self) -> MutexGuard<'_, BTreeMap<WorkloadKey, Doubt>> {
        self.0.doubts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The Deployments that say that they are in a roll-out which a run of this plan (`namespace/name`) caused. Anyone may say so.
    pub fn rolling_of(&self, plan: &str) -> Vec<Entry> {
        self.read().rolling_of(plan).cloned().collect()
    }

    /// How many Deployments a namespace has.
    pub fn deployments(&self, namespace: &str) -> usize {
        self.read().deployments(namespace)
    }

    /// One Deployment.
    pub fn get(&self, key: &WorkloadKey) -> Option<Entry> {
        self.read().get(key).cloned()
    }

    /// The objects of counted kinds in a namespace with these labels: kind, name, images.
    pub fn counted(&self, namespace: &str, selector: &Selector) -> Vec<(CountedKind, String, Counted)> {
        let store = self.read();
        let found = store.counted(namespace, selector);
        found
            .map(|(kind, name, counted)| (kind, name.to_owned(), counted.clone()))
            .collect()
    }

    /// A Deployment that was read or written just now.
    pub fn learn(&self, workload: Workload) {
        self.certain(&workload.key);
        let change = self.write().learn(workload);
        self.tell(change);
    }

    /// A namespace that was read just now.
    pub fn learn_namespace(&self, metadata: &ObjectMeta) {
        let (Some(name), Some(version)) = (&metadata.name, &metadata.resource_version) else {
            return;
        };
        let entry = NamespaceEntry {
            labels: metadata.labels.clone().unwrap_or_default(),
            terminating: metadata.deletion_timestamp.is_some(),
        };
        let change = self.write().learn_namespace(name, version, entry);
        self.tell(change);
    }

    /// A Deployment that a live read has not found any more.
    pub fn gone(&self, key: &WorkloadKey) {
        self.certain(key);
        let change = self.write().workload_gone(key, None);
        self.tell(change);
    }

    /// What the pods of a workload run.
    pub fn learn_pods(&self, key: &WorkloadKey, uid: &str, pods: PodDigests) {
        self.write().pods(key, uid, pods);
    }

    /// Every change from now on.
    pub fn changes(&self) -> impl Stream<Item = Told> + Send + use<> {
        let receiver = self.0.changes.subscribe();
        stream::unfold(receiver, |mut receiver| async move {
            match receiver.recv().await {
                Ok(change) => Some((Told::Change(change), receiver)),
                Err(broadcast::error::RecvError::Lagged(_)) => Some((Told::Everything, receiver)),
                Err(broadcast::error::RecvError::Closed) => None,
            }
        })
    }

    fn read(&self) -> RwLockReadGuard<'_, Store> {
        self.0.store.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Store> {
        self.0.store.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, change: Option<Change>) {
        if let Some(change) = change {
            // Nobody listening is no failure.
            let _ = self.0.changes.send(Arc::new(change));
        }
    }

    fn set(&self, feed: &Feed, sync: Sync) {
        self.0.feeds.send_if_modified(|feeds| {
            let known = feeds.insert(feed.clone(), sync);
            known != Some(sync)
        });
    }
}

#[cfg(test)]
impl Inventory {
    /// The watch shows this Deployment.
    pub fn watch_shows(&self, workload: Workload) {
        let change = self.write().workload(workload);
        self.tell(change);
    }

    /// The watch shows that the Deployment with this UID was deleted.
    pub fn watch_deletes(&self, key: &WorkloadKey, uid: &str) {
        let change = self.write().workload_gone(key, Some(uid));
        self.tell(change);
    }
}

/// What a reconcile cannot do without and was not listed yet.
fn missing(feeds: &BTreeMap<Feed, Sync>) -> impl Iterator<Item = &Feed> {
    let waiting = feeds.iter().filter(|(_, sync)| **sync == Sync::Waiting);
    waiting
        .map(|(feed, _)| feed)
        .filter(|feed| matches!(feed, Feed::Namespaces | Feed::Deployments(_)))
}
