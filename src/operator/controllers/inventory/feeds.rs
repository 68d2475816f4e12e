//! The watches that fill the inventory. A watch that ends or fails is begun again with growing pauses; one that is
//! forbidden is known as such, and the rest goes on without it.

use super::{
    Change, Feed, Inventory, Sync,
    objects::{Consumer, Watched},
    store::{CountedKind, NamespaceEntry, Store},
};
use crate::{
    controllers::{paging, watch_health::Health},
    domain::workload::{Workload, WorkloadKey},
    readable::Meta,
    runtime::metrics::{Kind, Metrics},
};
use futures::{Stream, StreamExt, future, pin_mut};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, ResourceExt,
    core::{ApiResource, GroupVersionKind},
    runtime::{WatchStreamExt, watcher, watcher::Event},
};
use std::collections::BTreeSet;

/// Deployments in one page of the first list. They are large and little of each is kept, so a page is most of the memory that the
/// list takes.
const DEPLOYMENTS: u32 = 100;

/// Watches everything until it is dropped.
pub async fn run(inventory: Inventory, client: Client, metrics: Metrics) {
    let feeds: Vec<Feed> = inventory.0.feeds.borrow().keys().cloned().collect();
    let watches = feeds.into_iter().map(|feed| {
        let (inventory, client) = (inventory.clone(), client.clone());
        let health = Health::new(Kind::RepaveRun, &format!("the estate: {feed:?}"), &metrics);
        async move {
            match &feed {
                Feed::Namespaces => {
                    let api: Api<Meta<Namespace>> = Api::all(client);
                    follow(&inventory, &feed, health, watcher(api, paging::watch()), &Namespaces).await;
                }
                // Without a guard for what cannot be decoded: that would build every object twice, and the API server has
                // decoded a Deployment by the same schema before.
                Feed::Deployments(place) => {
                    let place = place.as_deref();
                    let api = place.map_or_else(|| Api::all(client.clone()), |at| Api::namespaced(client.clone(), at));
                    follow(
                        &inventory,
                        &feed,
                        health,
                        watcher(api, paging::watch().page_size(DEPLOYMENTS)),
                        &Deployments { place },
                    )
                    .await;
                }
                Feed::Counted(kind, place) => {
                    let (kind, place) = (*kind, place.as_deref());
                    let (resource, config) = counted_kind(kind);
                    let api = match place {
                        Some(namespace) => Api::namespaced_with(client, namespace, &resource),
                        None => Api::all_with(client, &resource),
                    };
                    follow(
                        &inventory,
                        &feed,
                        health,
                        watcher(api, config),
                        &Counted { kind, place },
                    )
                    .await;
                }
            }
        }
    });
    future::join_all(watches).await;
}

/// What a watch gave. A failure is told, counted, and tried again by the backoff; that it is forbidden is kept.
fn heard<T>(inventory: &Inventory, feed: &Feed, health: &mut Health, event: Result<T, watcher::Error>) -> Option<T> {
    let cause = match &event {
        Err(
            watcher::Error::InitialListFailed(cause)
            | watcher::Error::WatchStartFailed(cause)
            | watcher::Error::WatchFailed(cause),
        ) => Some(cause),
        Err(watcher::Error::WatchError(_) | watcher::Error::NoResourceVersion) | Ok(_) => None,
    };
    if matches!(cause, Some(kube::Error::Api(status)) if status.code == 403) {
        inventory.set(feed, Sync::Forbidden);
    }
    health.event(event)
}

/// What becomes of the objects of one feed.
trait Kept {
    type Object;
    type Key: Ord;
    /// One is there; its key, if it is one that is kept.
    fn seen(&self, store: &mut Store, object: Self::Object) -> (Option<Self::Key>, Option<Change>);
    /// One was deleted.
    fn gone(&self, store: &mut Store, object: Self::Object) -> Option<Change>;
    /// A list is complete: what it has not shown is not there any more.
    fn keep(&self, store: &mut Store, shown: &BTreeSet<Self::Key>) -> Vec<Change>;
}

/// The one loop over a watch.
async fn follow<K: Kept>(
    inventory: &Inventory,
    feed: &Feed,
    mut health: Health,
    events: impl Stream<Item = watcher::Result<Event<K::Object>>>,
    kept: &K,
) {
    let events = events.default_backoff();
    pin_mut!(events);
    let mut shown = BTreeSet::new();
    while let Some(event) = events.next().await {
        let Some(event) = heard(inventory, feed, &mut health, event) else {
            continue;
        };
        // The lock is let go before anybody is told.
        match event {
            Event::Init => shown.clear(),
            Event::InitApply(object) => {
                let (key, change) = kept.seen(&mut inventory.write(), object);
                shown.extend(key);
                inventory.tell(change);
            }
            Event::Apply(object) => {
                let (_, change) = kept.seen(&mut inventory.write(), object);
                inventory.tell(change);
            }
            Event::Delete(object) => {
                let change = kept.gone(&mut inventory.write(), object);
                inventory.tell(change);
            }
            Event::InitDone => {
                let gone = kept.keep(&mut inventory.write(), &std::mem::take(&mut shown));
                for change in gone {
                    inventory.tell(Some(change));
                }
                inventory.set(feed, Sync::Complete);
            }
        }
    }
}

struct Namespaces;

impl Kept for Namespaces {
    type Object = Meta<Namespace>;
    type Key = String;

    fn seen(&self, store: &mut Store, namespace: Self::Object) -> (Option<String>, Option<Change>) {
        let meta = namespace.metadata;
        let Some(name) = meta.name else { return (None, None) };
        let version = meta.resource_version.unwrap_or_default();
        let entry = NamespaceEntry {
            labels: meta.labels.unwrap_or_default(),
            terminating: meta.deletion_timestamp.is_some(),
        };
        (Some(name.clone()), store.namespace(name, &version, entry))
    }

    fn gone(&self, store: &mut Store, namespace: Self::Object) -> Option<Change> {
        store.namespace_gone(&namespace.name_any());
        None
    }

    fn keep(&self, store: &mut Store, shown: &BTreeSet<String>) -> Vec<Change> {
        store.keep_namespaces(shown);
        Vec::new()
    }
}

struct Deployments<'a> {
    place: Option<&'a str>,
}

impl Kept for Deployments<'_> {
    type Object = Watched;
    type Key = WorkloadKey;

    /// One that is being deleted, or lacks what every stored one has, is none: nothing is ever moved that we do not understand.
    fn seen(&self, store: &mut Store, watched: Watched) -> (Option<WorkloadKey>, Option<Change>) {
        let Some(key) = key_of(&watched) else {
            return (None, None);
        };
        let change = match Workload::from_deployment(&watched.0) {
            Some(workload) => store.workload(workload),
            None => store.workload_gone(&key, None),
        };
        (Some(key), change)
    }

    fn gone(&self, store: &mut Store, watched: Watched) -> Option<Change> {
        store.workload_gone(&key_of(&watched)?, watched.uid().as_deref())
    }

    fn keep(&self, store: &mut Store, shown: &BTreeSet<WorkloadKey>) -> Vec<Change> {
        store.keep_workloads(self.place, shown)
    }
}

fn key_of(watched: &Watched) -> Option<WorkloadKey> {
    let (namespace, name) = (watched.namespace()?, watched.name_any());
    Some(WorkloadKey::deployment(namespace, name))
}

struct Counted<'a> {
    kind: CountedKind,
    place: Option<&'a str>,
}

impl Kept for Counted<'_> {
    type Object = Consumer;
    type Key = (String, String);

    fn seen(&self, store: &mut Store, consumer: Consumer) -> (Option<Self::Key>, Option<Change>) {
        let (namespace, name) = (consumer.metadata.namespace.clone(), consumer.metadata.name.clone());
        let key = (namespace.unwrap_or_default(), name.unwrap_or_default());
        (Some(key), store.consumer(self.kind, consumer))
    }

    fn gone(&self, store: &mut Store, consumer: Consumer) -> Option<Change> {
        let namespace = consumer.metadata.namespace.unwrap_or_default();
        store.consumer_gone(self.kind, &namespace, &consumer.metadata.name?)
    }

    fn keep(&self, store: &mut Store, shown: &BTreeSet<Self::Key>) -> Vec<Change> {
        store.keep_consumers(self.kind, self.place, shown);
        Vec::new()
    }
}

/// What is watched of a counted kind: the server leaves out the pods and ReplicaSets that a known controller made.
fn counted_kind(kind: CountedKind) -> (ApiResource, watcher::Config) {
    let (group, plural) = kind.resource();
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, "v1", kind.as_str()), plural);
    let config = match kind {
        CountedKind::StatefulSet | CountedKind::DaemonSet | CountedKind::CronJob => paging::watch(),
        CountedKind::ReplicaSet => paging::watch().labels("!pod-template-hash"),
        CountedKind::Pod => paging::watch().labels(
            "!pod-template-hash,!controller-revision-hash,!job-name,!batch.kubernetes.io/job-name,!batch.kubernetes.io/controller-uid",
        ),
    };
    (resource, config)
}
