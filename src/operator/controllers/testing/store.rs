//! The objects and what happened to them.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use tokio::sync::watch;

/// A refusal: code, reason, message.
pub type Refusal = (u16, &'static str, String);

/// Something that happened to an object.
#[derive(Debug, Clone)]
pub struct Change {
    /// The version that it made.
    pub version: u64,
    /// `ADDED`, `MODIFIED`, `DELETED`.
    pub kind: &'static str,
    /// Plural of the kind.
    pub resource: String,
    /// The object after it.
    pub object: Value,
}

/// All objects, by resource and `namespace/name`.
pub struct Store {
    objects: BTreeMap<(String, String), Value>,
    version: u64,
    /// Versions below this one cannot be watched from.
    oldest: u64,
    changes: Vec<Change>,
    newest: watch::Sender<(u64, u64)>,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
            version: 1,
            oldest: 0,
            changes: Vec::new(),
            newest: watch::Sender::new((1, 0)),
        }
    }
}

fn plural(object: &Value) -> String {
    let kind = object["kind"].as_str().unwrap().to_lowercase();
    match kind.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None => format!("{kind}s"),
    }
}

fn key(object: &Value) -> String {
    let name = object["metadata"]["name"].as_str().unwrap();
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    }
}

impl Store {
    fn record(&mut self, kind: &'static str, resource: &str, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.changes.push(Change {
            version: self.version,
            kind,
            resource: resource.to_owned(),
            object: object.clone(),
        });
        self.newest.send_replace((self.version, self.oldest));
        object
    }

    /// Creates an object, or takes its content as a change of the one that is there.
    pub fn put(&mut self, object: Value) -> Value {
        let (resource, at) = (plural(&object), key(&object));
        if self.objects.contains_key(&(resource.clone(), at.clone())) {
            self.edit(&resource, &at, |old| {
                let meta = old["metadata"].clone();
                *old = object;
                for kept in ["uid", "creationTimestamp", "generation"] {
                    old["metadata"][kept] = meta[kept].clone();
                }
            });
            return self.get(&resource, &at).unwrap();
        }
        self.create(&resource, object).unwrap()
    }

    /// Creates an object that is not there yet.
    pub fn create(&mut self, resource: &str, mut object: Value) -> Result<Value, Refusal> {
        let at = (resource.to_owned(), key(&object));
        if self.objects.contains_key(&at) {
            return Err((409, "AlreadyExists", format!("{resource} {:?} already exists", at.1)));
        }
        let meta = &mut object["metadata"];
        if meta["uid"].is_null() {
            meta["uid"] = json!(format!("uid-{}", self.version + 1));
        }
        meta["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
        meta["generation"] = json!(1);
        let object = self.record("ADDED", resource, object);
        self.objects.insert(at, object.clone());
        Ok(object)
    }

    /// Changes an object; a change of anything but metadata and status makes a new generation.
    pub fn edit(&mut self, resource: &str, at: &str, change: impl FnOnce(&mut Value)) {
        let at = (resource.to_owned(), at.to_owned());
        let old = self.objects[&at].clone();
        let mut new = old.clone();
        change(&mut new);
        if new["spec"] != old["spec"] {
            new["metadata"]["generation"] = json!(old["metadata"]["generation"].as_i64().unwrap_or(0) + 1);
        }
        if new == old {
            return;
        }
        let new = self.record("MODIFIED", resource, new);
        self.objects.insert(at, new);
    }

    /// Applies a patch that was sent: a JSON patch operation by operation; a status is taken as a whole, anything else is merged.
    pub fn patch(&mut self, resource: &str, at: &str, status: bool, patch: &Value) -> Result<Value, Refusal> {
        let Some(object) = self.get(resource, at) else {
            return Err((404, "NotFound", format!("{resource} {at:?} not found")));
        };
        if let Value::Array(operations) = patch {
            let mut changed = object;
            for operation in operations {
                operate(&mut changed, operation)?;
            }
            self.edit(resource, at, |object| *object = changed);
            return Ok(self.get(resource, at).unwrap());
        }
        let (wanted, found) = (&patch["metadata"]["uid"], &object["metadata"]["uid"]);
        if !wanted.is_null() && wanted != found {
            let message = format!("Precondition failed: UID in precondition: {wanted}, UID in object meta: {found}");
            return Err((409, "Conflict", message));
        }
        let (wanted, found) = (
            &patch["metadata"]["resourceVersion"],
            &object["metadata"]["resourceVersion"],
        );
        if !wanted.is_null() && wanted != found {
            let message = format!("the object has been modified: version {wanted} was read, {found} is there");
            return Err((409, "Conflict", message));
        }
        self.edit(resource, at, |object| {
            if status {
                object["status"] = patch["status"].clone();
            } else {
                merge(object, patch);
            }
        });
        Ok(self.get(resource, at).unwrap())
    }

    /// Deletes an object.
    pub fn remove(&mut self, resource: &str, at: &str) -> Result<Value, Refusal> {
        let Some(object) = self.objects.remove(&(resource.to_owned(), at.to_owned())) else {
            return Err((404, "NotFound", format!("{resource} {at:?} not found")));
        };
        Ok(self.record("DELETED", resource, object))
    }

    /// One object.
    pub fn get(&self, resource: &str, at: &str) -> Option<Value> {
        self.objects.get(&(resource.to_owned(), at.to_owned())).cloned()
    }

    /// The objects of a kind, with the version of the list.
    pub fn list(&self, resource: &str) -> (Vec<Value>, u64) {
        let ours = self.objects.iter().filter(|((kind, _), _)| kind == resource);
        (ours.map(|(_, object)| object.clone()).collect(), self.version)
    }

    /// The names of a kind.
    pub fn names(&self, resource: &str) -> Vec<String> {
        let ours = self.objects.keys().filter(|(kind, _)| kind == resource);
        ours.map(|(_, at)| at.clone()).collect()
    }

    /// What happened to a kind since that version; `None` if that is not known any more.
    pub fn since(&self, resource: &str, version: u64) -> Option<Vec<Change>> {
        let ours = self.changes.iter().filter(|change| change.resource == resource);
        (version >= self.oldest).then(|| ours.filter(|change| change.version > version).cloned().collect())
    }

    /// Tells of the newest version, and of the oldest that can be watched from.
    pub fn newest(&self) -> watch::Receiver<(u64, u64)> {
        self.newest.subscribe()
    }

    /// Forgets what happened.
    pub fn compact(&mut self) {
        self.version += 1;
        self.oldest = self.version;
        self.changes.clear();
        self.newest.send_replace((self.version, self.oldest));
    }
}

fn merge(into: &mut Value, patch: &Value) {
    let (Some(old), Some(new)) = (into.as_object_mut(), patch.as_object()) else {
        *into = patch.clone();
        return;
    };
    for (key, value) in new {
        if value.is_null() {
            old.remove(key);
        } else {
            merge(old.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

/// One operation of a JSON patch (RFC 6902), as far as we send them; keys only, no places in lists. A failed test is answered
/// as the API server does.
fn operate(object: &mut Value, operation: &Value) -> Result<(), Refusal> {
    let path = operation["path"].as_str().unwrap();
    let refused = || {
        (
            422,
            "Invalid",
            "the server rejected our request due to an error in our request".to_owned(),
        )
    };
    let (parent, key) = path.rsplit_once('/').unwrap();
    let key = key.replace("~1", "/").replace("~0", "~");
    match operation["op"].as_str().unwrap() {
        "test" if object.pointer(path) == Some(&operation["value"]) => Ok(()),
        "replace" if object.pointer(path).is_none() => Err(refused()),
        "add" | "replace" => {
            let parent = object.pointer_mut(parent).ok_or_else(refused)?;
            parent[key] = operation["value"].clone();
            Ok(())
        }
        _test_or_another => Err(refused()),
    }
}
