//! What wakes a controller: its own objects when a person changes them, and what it waits for.
//!
//! kube's `Controller` is not used: it takes no filter on its own objects, so that every status written is read again as a
//! change, past any backoff, and it hides the errors of its watches. Here an object wakes its controller when its UID, generation,
//! labels, annotations or deletion change. An object that appears in a list wakes when the list is complete, because only
//! then the cache has it.

use super::{caches::Caches, context::Context, driver::Owned, lean::Lean, paging, watch_health::Health};
use crate::runtime::metrics::Metrics;
use futures::{
    Stream, StreamExt,
    stream::{self, BoxStream},
};
use kube::{
    Api, Resource,
    api::ObjectMeta,
    runtime::{
        WatchStreamExt,
        reflector::{self, ObjectRef, Store},
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;
use std::{
    collections::{BTreeMap, HashMap},
    fmt::Debug,
    hash::{DefaultHasher, Hash, Hasher},
};

/// An object as it is cached: one that cannot be decoded must not stop the watch of all others.
pub use crate::readable::Guarded;

/// What the keys of our annotations begin with.
const OURS: &str = "repave.dev/";
/// Stands in the cache for all annotations that are not ours. No annotation can have that key.
const OTHERS: &str = "all others";

/// The cache of a controller's own objects and everything that wakes it.
pub struct Wakes<K: Owned + Send + Sync + 'static> {
    metrics: Metrics,
    store: Store<Guarded<K>>,
    streams: Vec<BoxStream<'static, ObjectRef<Guarded<K>>>>,
}

impl<K: Owned + Lean + Send + Sync + 'static> Wakes<K> {
    /// The own objects of a controller, in all namespaces. The cache has what is left of them by [`Lean`].
    pub fn of(ctx: &Context) -> Self {
        let (store, writer) = reflector::store();
        let (name, caches) = (K::kind(&()).into_owned(), ctx.caches.clone());
        caches.filling(&name);
        let api = Api::<Guarded<K>>::all(ctx.watches.clone());
        let events = watcher(api, paging::watch()).default_backoff().modify(|object| {
            keep_little(object.meta_mut());
            if let Ok(object) = &mut object.0 {
                object.shed();
            }
        });
        let mut health = Health::new(K::METRIC, &name, &ctx.metrics);
        let mut changes = Changes::default();
        let woken = reflector::reflector(writer, events)
            .filter_map(move |event| std::future::ready(health.event(event)))
            .map(move |event| stream::iter(heard(&mut changes, &event, &caches, &name)))
            .flatten();
        Self {
            metrics: ctx.metrics.clone(),
            store,
            streams: vec![woken.boxed()],
        }
    }
}

impl<K: Owned + Send + Sync + 'static> Wakes<K> {
    /// The cache.
    pub fn store(&self) -> Store<Guarded<K>> {
        self.store.clone()
    }

    /// The objects whose controller is one of ours.
    #[must_use]
    pub fn owns<O>(self, api: Api<O>, config: watcher::Config) -> Self
    where
        O: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        self.watches(api, config, |object: &O| owner::<K>(object.meta()))
    }

    /// Objects that wake whichever of ours they concern.
    #[must_use]
    pub fn watches<O, I>(
        self,
        api: Api<O>,
        config: watcher::Config,
        concerns: impl Fn(&O) -> I + Send + Sync + 'static,
    ) -> Self
    where
        O: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
        I: IntoIterator<Item = ObjectRef<Guarded<K>>>,
        I::IntoIter: Send + 'static,
    {
        let mut health = Health::new(K::METRIC, &O::kind(&()), &self.metrics);
        let woken = watcher(api, config)
            .default_backoff()
            .filter_map(move |event| std::future::ready(health.event(event)))
            .map(move |event| match event {
                Event::Apply(object) | Event::InitApply(object) | Event::Delete(object) => {
                    stream::iter(concerns(&object)).left_stream()
                }
                Event::Init | Event::InitDone => stream::empty().right_stream(),
            })
            .flatten();
        self.also(woken)
    }

    /// Anything else that wakes them.
    #[must_use]
    pub fn also(mut self, woken: impl Stream<Item = ObjectRef<Guarded<K>>> + Send + 'static) -> Self {
        self.streams.push(woken.boxed());
        self
    }

    /// The cache, and all that wakes in one stream.
    pub fn into_parts(self) -> (Store<Guarded<K>>, impl Stream<Item = ObjectRef<Guarded<K>>>) {
        (self.store, stream::select_all(self.streams))
    }
}

/// The objects of a cache that pass a test.
pub fn those<K: Owned + 'static>(
    store: &Store<Guarded<K>>,
    namespace: Option<&str>,
    test: impl Fn(&K) -> bool,
) -> Vec<ObjectRef<Guarded<K>>> {
    those_anywhere(store, |object| {
        object.meta().namespace.as_deref() == namespace && test(object)
    })
}

/// The objects of a cache that pass a test, of every namespace.
pub fn those_anywhere<K: Owned + 'static>(
    store: &Store<Guarded<K>>,
    test: impl Fn(&K) -> bool,
) -> Vec<ObjectRef<Guarded<K>>> {
    let all = store.state();
    let ours = all.iter().filter(|object| object.0.as_ref().is_ok_and(&test));
    ours.map(|object| ObjectRef::from_obj(object.as_ref())).collect()
}

/// The controller of an object, if it is one of ours.
fn owner<K: Owned>(meta: &ObjectMeta) -> Option<ObjectRef<Guarded<K>>> {
    let mut owners = meta.owner_references.iter().flatten();
    let owner = owners.find(|owner| {
        owner.controller == Some(true) && owner.kind == K::kind(&()) && owner.api_version == K::api_version(&())
    })?;
    Some(ObjectRef::new(&owner.name).within(meta.namespace.as_deref()?))
}

/// What of each object would wake its controller, as it was last seen. As many entries as the cache has.
#[derive(Debug, Default)]
struct Changes {
    known: HashMap<Key, u64>,
    listing: Option<Listing>,
}

type Key = (Option<String>, String);

#[derive(Debug, Default)]
struct Listing {
    known: HashMap<Key, u64>,
    changed: Vec<Key>,
}

impl Changes {
    /// The objects that this event wakes.
    fn heard(&mut self, event: &Event<&ObjectMeta>) -> Vec<Key> {
        match event {
            Event::Init => self.listing = Some(Listing::default()),
            Event::InitApply(meta) => {
                let (key, print) = (key_of(meta), fingerprint(meta));
                let listing = self.listing.get_or_insert_default();
                if self.known.get(&key) != Some(&print) {
                    listing.changed.push(key.clone());
                }
                listing.known.insert(key, print);
            }
            Event::InitDone => {
                if let Some(listing) = self.listing.take() {
                    self.known = listing.known;
                    return listing.changed;
                }
            }
            Event::Apply(meta) => {
                let (key, print) = (key_of(meta), fingerprint(meta));
                if self.known.insert(key.clone(), print) != Some(print) {
                    return vec![key];
                }
            }
            // It is not in the cache any more: there is nothing to work on.
            Event::Delete(meta) => {
                self.known.remove(&key_of(meta));
            }
        }
        Vec::new()
    }
}

fn heard<K: Owned>(
    changes: &mut Changes,
    event: &Event<Guarded<K>>,
    caches: &Caches,
    name: &str,
) -> Vec<ObjectRef<Guarded<K>>> {
    let woken = match event {
        Event::Init => changes.heard(&Event::Init),
        Event::InitApply(object) => changes.heard(&Event::InitApply(object.meta())),
        Event::InitDone => {
            caches.filled(name);
            changes.heard(&Event::InitDone)
        }
        Event::Apply(object) => changes.heard(&Event::Apply(object.meta())),
        Event::Delete(object) => changes.heard(&Event::Delete(object.meta())),
    };
    let refs = woken.into_iter().map(|(namespace, name)| {
        let at = ObjectRef::new(&name);
        match namespace {
            Some(namespace) => at.within(&namespace),
            None => at,
        }
    });
    refs.collect()
}

/// The cache keeps annotations that are ours. Of all others, which may have 256 KiB an object, it keeps a hash, so that a change of
/// them is still one; and nothing of field managers.
fn keep_little(meta: &mut ObjectMeta) {
    meta.managed_fields = None;
    let Some(all) = meta.annotations.take() else {
        return;
    };
    let (mut kept, others): (BTreeMap<_, _>, BTreeMap<_, _>) =
        all.into_iter().partition(|(key, _)| key.starts_with(OURS));
    if !others.is_empty() {
        let mut hasher = DefaultHasher::new();
        others.hash(&mut hasher);
        kept.insert(OTHERS.to_owned(), format!("{:016x}", hasher.finish()));
    }
    meta.annotations = Some(kept);
}

fn key_of(meta: &ObjectMeta) -> Key {
    (meta.namespace.clone(), meta.name.clone().unwrap_or_default())
}

/// What a person changes, and what replaces or deletes the object; not its status.
fn fingerprint(meta: &ObjectMeta) -> u64 {
    let mut hasher = DefaultHasher::new();
    meta.uid.hash(&mut hasher);
    meta.generation.hash(&mut hasher);
    meta.labels.hash(&mut hasher);
    meta.annotations.hash(&mut hasher);
    meta.deletion_timestamp.is_some().hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests;
