//! An API server in memory, for tests of what reads and writes: objects, versions, UIDs, lists in pages, watches, faults.
//!
//! It knows no kind and no schema: an object is what was sent. Rules that are copied from the real one: a create of what
//! is there is 409, an apply with another UID is 409, a delete keeps no trace, every write has a new resourceVersion, a
//! status write leaves the generation alone. A fault is chosen by the test, request by request.

mod path;
mod serve;
mod store;

use super::{
    backoff::Backoff,
    caches::Caches,
    context::{Context, Settings},
    databases::Databases,
    inventory::Inventory,
    self_test_results::SelfTestResults,
    slots::Slots,
};
use crate::{
    domain::{digest::Digest, queue},
    registry,
    runtime::{args::CandidateRoot, lease::Leader, metrics::Metrics},
};
use kube::{
    Client,
    runtime::events::{Recorder, Reporter},
};
use serde_json::Value;
use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};
use store::Store;

/// What happens to a request.
// Tests choose among all of them.
#[allow(dead_code)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Refused with that code and reason, nothing is done.
    Refused(u16, &'static str),
    /// Done, but answered with 504.
    Lost,
    /// Swallowed: no answer, ever.
    Silent,
}

/// One request, as the server saw it: `GET`, `LIST`, `WATCH`, `POST`, `PATCH`, `DELETE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The verb.
    pub verb: &'static str,
    /// Plural of the kind, with the subresource: `jobs`, `waivers/status`.
    pub resource: String,
    /// `namespace/name`, or less.
    pub object: String,
}

type Faults = Box<dyn FnMut(&Seen) -> Option<Fault> + Send>;

/// The server. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub struct Api(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    store: Store,
    log: Vec<Seen>,
    faults: Option<Faults>,
}

impl Api {
    /// A client of it.
    pub fn client(&self) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(serve::serve(api, request).await) }
        });
        Client::new(service, "default")
    }

    /// A context of a process that leads, against this server; registries are out of reach.
    pub fn context(&self) -> Context {
        let client = self.client();
        let reporter = Reporter {
            controller: "repave".to_owned(),
            instance: None,
        };
        Context {
            client: client.clone(),
            watches: client.clone(),
            leader: Leader::always("test"),
            caches: Caches::default(),
            metrics: Metrics::new(),
            registry: registry::Client::new(registry::ClientOptions::default()).unwrap(),
            settings: Arc::new(settings()),
            backoff: Arc::new(Backoff::default()),
            databases: Databases::default(),
            self_tests: Arc::new(SelfTestResults::default()),
            base_images: Arc::default(),
            slots: Arc::new(Slots::new(
                queue::Limits {
                    total: 2,
                    per_namespace: 2,
                },
                "repave-system",
            )),
            inventory: Inventory::new(&[]),
            reopened: tokio::sync::broadcast::channel(16).0,
            access: Arc::default(),
            recorder: Recorder::new(client, reporter),
        }
    }

    /// Puts an object there as a person would: with a new UID, if there is none of that name.
    pub fn put(&self, object: &impl serde::Serialize) -> Value {
        let object = serde_json::to_value(object).unwrap();
        self.0.lock().unwrap().store.put(object)
    }

    /// Changes an object as somebody else would.
    #[allow(dead_code)]
    pub fn edit(&self, resource: &str, object: &str, change: impl FnOnce(&mut Value)) {
        self.0.lock().unwrap().store.edit(resource, object, change);
    }

    /// Takes an object away.
    pub fn remove(&self, resource: &str, object: &str) {
        self.0.lock().unwrap().store.remove(resource, object).unwrap();
    }

    /// An object as it is now: `get("waivers", "team/cve")`.
    pub fn get(&self, resource: &str, object: &str) -> Option<Value> {
        self.0.lock().unwrap().store.get(resource, object)
    }

    /// The names of all objects of a kind, `namespace/name`.
    pub fn names(&self, resource: &str) -> Vec<String> {
        self.0.lock().unwrap().store.names(resource)
    }

    /// From now on each request is asked what happens to it.
    pub fn faults(&self, faults: impl FnMut(&Seen) -> Option<Fault> + Send + 'static) {
        self.0.lock().unwrap().faults = Some(Box::new(faults));
    }

    /// Every request from now on is served.
    pub fn heal(&self) {
        self.0.lock().unwrap().faults = None;
    }

    /// All watches end, and their versions are gone: a client has to list again.
    pub fn compact(&self) {
        self.0.lock().unwrap().store.compact();
    }

    /// The requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.0.lock().unwrap().log.clone()
    }

    /// How often that verb was used on that resource.
    pub fn count(&self, verb: &str, resource: &str) -> usize {
        let seen = self.seen();
        seen.iter()
            .filter(|seen| seen.verb == verb && seen.resource == resource)
            .count()
    }
}

/// The settings of an operator with nothing special.
pub fn settings() -> Settings {
    let image = |name: &str| {
        format!("r.local:5000/{name}@{}", Digest::of(name.as_bytes()))
            .parse()
            .unwrap()
    };
    Settings {
        tools_image: image("tools"),
        builder_image: image("builder"),
        runner_image: image("operator"),
        grype_database: None,
        trivy_database: None,
        database_interval: Duration::from_secs(300),
        insecure_registries: ["r.local:5000".to_owned()].into(),
        candidate_root: CandidateRoot::ImageVolume,
        namespace: "repave-system".to_owned(),
        pull_secrets: Vec::new(),
        concurrency: 8,
    }
}

mod tests;
