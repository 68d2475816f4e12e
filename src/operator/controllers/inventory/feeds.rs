//! The watches that fill the inventory. A watch that ends or fails is begun again with growing pauses; one that is
//! forbidden is known as such, and the rest goes on without it.

use super::{
    Change, Feed, Inventory, Sync,
    objects::{Consumer, Watched},
    store::{CountedKind, NamespaceEntry},
};
use crate::{
    controllers::watch_health::Health,
    domain::workload::{Workload, WorkloadKey},
    readable::Meta,
    runtime::metrics::{Kind, Metrics},
};
use futures::{StreamExt, future, pin_mut};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, ResourceExt,
    core::{ApiResource, GroupVersionKind},
    runtime::{WatchStreamExt, watcher, watcher::Event},
};
use std::collections::BTreeSet;

/// Objects in one page of the first list: a small page keeps the peak of memory small.
const PAGE: u32 = 100;

/// Watches everything until it is dropped.
pub async fn run(inventory: Inventory, client: Client, metrics: Metrics) {
    let feeds: Vec<Feed> = inventory.0.feeds.borrow().keys().cloned().collect();
    let watches = feeds.into_iter().map(|feed| {
        let (inventory, client) = (inventory.clone(), client.clone());
        let health = Health::new(Kind::RepaveRun, &format!("the estate: {feed:?}"), &metrics);
        async move {
            match &feed {
                Feed::Namespaces => namespaces(&inventory, client, &feed, health).await,
                Feed::Deployments(place) => deployments(&inventory, client, (&feed, place.as_deref()), health).await,
                Feed::Counted(kind, place) => {
                    counted(&inventory, client, (&feed, *kind, place.as_deref()), health).await;
                }
            }
        }
    });
    future::join_all(watches).await;
}

fn config() -> watcher::Config {
    watcher::Config::default().page_size(PAGE)
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

async fn namespaces(inventory: &Inventory, client: Client, feed: &Feed, mut health: Health) {
    let api: Api<Meta<Namespace>> = Api::all(client);
    let events = watcher(api, config()).default_backoff();
    pin_mut!(events);
    let mut shown = BTreeSet::new();
    while let Some(event) = events.next().await {
        let Some(event) = heard(inventory, feed, &mut health, event) else {
            continue;
        };
        match event {
            Event::Init => shown.clear(),
            Event::InitApply(namespace) => {
                shown.insert(namespace.name_any());
                seen_namespace(inventory, namespace);
            }
            Event::Apply(namespace) => seen_namespace(inventory, namespace),
            Event::Delete(namespace) => inventory.write().namespace_gone(&namespace.name_any()),
            Event::InitDone => {
                inventory.write().keep_namespaces(&std::mem::take(&mut shown));
                inventory.set(feed, Sync::Complete);
            }
        }
    }
}

fn seen_namespace(inventory: &Inventory, namespace: Meta<Namespace>) {
    let meta = namespace.metadata;
    let Some(name) = meta.name else { return };
    let entry = NamespaceEntry {
        labels: meta.labels.unwrap_or_default(),
        terminating: meta.deletion_timestamp.is_some(),
    };
    let change = inventory.write().namespace(name, entry);
    inventory.tell(change);
}

async fn deployments(inventory: &Inventory, client: Client, (feed, place): (&Feed, Option<&str>), mut health: Health) {
    let api: Api<Watched> = match place {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    };
    let events = watcher(api, config()).default_backoff();
    pin_mut!(events);
    let mut shown = BTreeSet::new();
    while let Some(event) = events.next().await {
        let Some(event) = heard(inventory, feed, &mut health, event) else {
            continue;
        };
        match event {
            Event::Init => shown.clear(),
            Event::InitApply(watched) => {
                if let Some(key) = seen_deployment(inventory, &watched) {
                    shown.insert(key);
                }
            }
            Event::Apply(watched) => {
                seen_deployment(inventory, &watched);
            }
            Event::Delete(watched) => {
                if let Some(key) = key_of(&watched) {
                    let change = inventory.write().workload_gone(&key, watched.uid().as_deref());
                    inventory.tell(change);
                }
            }
            Event::InitDone => {
                let gone = inventory.write().keep_workloads(place, &std::mem::take(&mut shown));
                for change in gone {
                    inventory.tell(Some(change));
                }
                inventory.set(feed, Sync::Complete);
            }
        }
    }
}

fn key_of(watched: &Watched) -> Option<WorkloadKey> {
    let (namespace, name) = (watched.namespace()?, watched.name_any());
    Some(WorkloadKey::deployment(namespace, name))
}

/// Takes one in. One that is being deleted, or lacks what every stored one has, is none: nothing is ever moved that we do
/// not understand.
fn seen_deployment(inventory: &Inventory, watched: &Watched) -> Option<WorkloadKey> {
    let key = key_of(watched)?;
    let change: Option<Change> = match Workload::from_deployment(&watched.0) {
        Some(workload) => inventory.write().workload(workload),
        None => inventory.write().workload_gone(&key, None),
    };
    inventory.tell(change);
    Some(key)
}

/// What is watched of a counted kind: the server leaves out the pods and ReplicaSets that a known controller made.
fn counted_kind(kind: CountedKind) -> (ApiResource, watcher::Config) {
    let (group, plural) = kind.resource();
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, "v1", kind.as_str()), plural);
    let config = match kind {
        CountedKind::StatefulSet | CountedKind::DaemonSet | CountedKind::CronJob => config(),
        CountedKind::ReplicaSet => config().labels("!pod-template-hash"),
        CountedKind::Pod => config().labels(
            "!pod-template-hash,!controller-revision-hash,!job-name,!batch.kubernetes.io/job-name,!batch.kubernetes.io/controller-uid",
        ),
    };
    (resource, config)
}

async fn counted(
    inventory: &Inventory,
    client: Client,
    (feed, kind, place): (&Feed, CountedKind, Option<&str>),
    mut health: Health,
) {
    let (resource, config) = counted_kind(kind);
    let api: Api<Consumer> = match place {
        Some(namespace) => Api::namespaced_with(client, namespace, &resource),
        None => Api::all_with(client, &resource),
    };
    let events = watcher(api, config).default_backoff();
    pin_mut!(events);
    let mut shown = BTreeSet::new();
    while let Some(event) = events.next().await {
        let Some(event) = heard(inventory, feed, &mut health, event) else {
            continue;
        };
        match event {
            Event::Init => shown.clear(),
            Event::InitApply(consumer) => {
                let (namespace, name) = (consumer.metadata.namespace.clone(), consumer.metadata.name.clone());
                shown.insert((namespace.unwrap_or_default(), name.unwrap_or_default()));
                let change = inventory.write().consumer(kind, consumer);
                inventory.tell(change);
            }
            Event::Apply(consumer) => {
                let change = inventory.write().consumer(kind, consumer);
                inventory.tell(change);
            }
            Event::Delete(consumer) => {
                let (namespace, name) = (consumer.metadata.namespace.unwrap_or_default(), consumer.metadata.name);
                let gone = name.and_then(|name| inventory.write().consumer_gone(kind, &namespace, &name));
                inventory.tell(gone);
            }
            Event::InitDone => {
                inventory
                    .write()
                    .keep_consumers(kind, place, &std::mem::take(&mut shown));
                inventory.set(feed, Sync::Complete);
            }
        }
    }
}
