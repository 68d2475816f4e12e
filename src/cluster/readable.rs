//! Objects as lists and watches decode them: one that cannot be read is that object's problem and not that of the list.
//!
//! The client library ends a list or a watch of all at the first object that it cannot decode, and whoever may write an
//! object writes what Kubernetes takes and we cannot hold: times (`9999-12-31T23:59:59Z` in `managedFields` or in a pod
//! template), and fields a thousand levels deep where serde_json stops at 128. So each object is taken out of its list as text,
//! which has no limit of depth: serde_json skips a value without recursion. What decides nothing is left out of that text;
//! whatever else cannot be read is told with its metadata.
//! This needs the order in which every API server writes an event of a watch, its type before its object: the other way round it is
//! buffered on the way to us, with the limit. Must not decide anything.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta, OwnerReference, Time};
use kube::{Resource, core::error_boundary::InvalidObject};
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};
use serde_json::{Value, value::RawValue};
use std::{borrow::Cow, collections::BTreeMap, marker::PhantomData};

/// Values of one object that is built whole: its commas. One with more is none that Repave works with. A volume is 30 bytes of JSON
/// and 3 KB as a type, so that a Job of a megabyte would take hundreds.
pub const MOST_VALUES: usize = 20_000;
/// Templates that stand in one another: that of the Jobs of a CronJob, and that of their pods.
const TEMPLATES: usize = 2;

/// What a view of an object is to the API server: an object of that kind.
macro_rules! of_kind {
    () => {
        type DynamicType = K::DynamicType;
        type Scope = K::Scope;

        fn kind(of: &K::DynamicType) -> Cow<'_, str> {
            K::kind(of)
        }

        fn group(of: &K::DynamicType) -> Cow<'_, str> {
            K::group(of)
        }

        fn version(of: &K::DynamicType) -> Cow<'_, str> {
            K::version(of)
        }

        fn plural(of: &K::DynamicType) -> Cow<'_, str> {
            K::plural(of)
        }
    };
}

/// An object, or why it cannot be read.
#[derive(Debug, Clone)]
pub struct Guarded<K>(pub Result<K, InvalidObject>);

impl<'de, K: DeserializeOwned> Deserialize<'de> for Guarded<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let object = lean(Box::<RawValue>::deserialize(deserializer)?.get());
        let values = commas(&object);
        if values > MOST_VALUES {
            return Ok(Self(Err(InvalidObject {
                error: format!("it has {values} values, more than {MOST_VALUES}"),
                metadata: metadata(&object),
            })));
        }
        Ok(Self(serde_json::from_str(&object).map_err(|error| InvalidObject {
            error: error.to_string(),
            metadata: metadata(&object),
        })))
    }
}

impl<K: Resource> Resource for Guarded<K> {
    of_kind!();

    fn meta(&self) -> &ObjectMeta {
        self.0.as_ref().map_or_else(|invalid| &invalid.metadata, K::meta)
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0
            .as_mut()
            .map_or_else(|invalid| &mut invalid.metadata, K::meta_mut)
    }
}

/// Those of a list that can be read; each other one is said on standard error. For programs that people call.
pub fn told<K: Resource<DynamicType = ()> + Clone>(list: kube::core::ObjectList<Guarded<K>>) -> Vec<K> {
    let read = list.items.into_iter().filter_map(|one| {
        one.0
            .map_err(|invalid| {
                let (namespace, name) = (invalid.metadata.namespace, invalid.metadata.name);
                let (namespace, name) = (namespace.unwrap_or_default(), name.unwrap_or_default());
                eprintln!(
                    "{} {namespace}/{name} cannot be read and is left out: {:?}",
                    K::kind(&()),
                    invalid.error
                );
            })
            .ok()
    });
    read.collect()
}

/// The metadata of an object of a kind, and nothing else of it. Where it cannot be read, only who the object is is known: it has no
/// labels and no annotations then, so who selects by them must ask for one that is there.
#[derive(Debug, Clone)]
pub struct Meta<K> {
    /// Without what managers have written, but with their names.
    pub metadata: ObjectMeta,
    kind: PhantomData<fn() -> K>,
}

impl<'de, K> Deserialize<'de> for Meta<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Raw {
            metadata: Option<Box<RawValue>>,
        }
        Ok(Self {
            metadata: whole_or_who(Raw::deserialize(deserializer)?.metadata.as_deref()).0,
            kind: PhantomData,
        })
    }
}

impl<K: Resource> Resource for Meta<K> {
    of_kind!();

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// An object in parts: what is not metadata is text, so that what cannot be read of it ends no list. One whose metadata cannot be
/// read is one without spec and status: without its annotations nobody could tell whether it may be touched.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Without what managers have written, but with their names.
    pub metadata: ObjectMeta,
    /// What is asked for.
    pub spec: Option<Box<RawValue>>,
    /// How it stands.
    pub status: Option<Box<RawValue>>,
}

impl<'de> Deserialize<'de> for Parts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Raw {
            metadata: Option<Box<RawValue>>,
            spec: Option<Box<RawValue>>,
            status: Option<Box<RawValue>>,
        }
        let raw = Raw::deserialize(deserializer)?;
        let (metadata, whole) = whole_or_who(raw.metadata.as_deref());
        Ok(Self {
            metadata,
            spec: raw.spec.filter(|_| whole),
            status: raw.status.filter(|_| whole),
        })
    }
}

/// Metadata with the names of field managers, but not their fields, and with the times that can be read.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawMeta {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
    creation_timestamp: Option<Box<RawValue>>,
    deletion_timestamp: Option<Box<RawValue>>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    owner_references: Option<Vec<OwnerReference>>,
    managed_fields: Option<Vec<Manager>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Manager {
    manager: Option<String>,
}

impl From<RawMeta> for ObjectMeta {
    fn from(meta: RawMeta) -> Self {
        let managers = meta.managed_fields.map(|fields| {
            let named = fields.into_iter().map(|field| ManagedFieldsEntry {
                manager: field.manager,
                ..ManagedFieldsEntry::default()
            });
            named.collect()
        });
        Self {
            name: meta.name,
            namespace: meta.namespace,
            uid: meta.uid,
            resource_version: meta.resource_version,
            generation: meta.generation,
            creation_timestamp: meta.creation_timestamp.and_then(|at| time(at.get())),
            deletion_timestamp: meta.deletion_timestamp.map(|at| deleted(at.get())),
            labels: meta.labels,
            annotations: meta.annotations,
            owner_references: meta.owner_references,
            managed_fields: managers,
            ..Self::default()
        }
    }
}

fn time(text: &str) -> Option<Time> {
    serde_json::from_str(text).ok()
}

/// When an object was deleted. It is being deleted, whatever time it says.
fn deleted(text: &str) -> Time {
    time(text).unwrap_or(Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH))
}

/// The fields of a JSON object, each as text.
type Fields<'a> = BTreeMap<String, &'a RawValue>;

/// Which part of an object a text is.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// An object, or a template of one.
    Object,
    /// What it asks for.
    Spec,
    /// Its metadata.
    Meta,
}

impl Place {
    /// What stands in it under that key, if it is looked into.
    fn inside(self, key: &str) -> Option<Self> {
        match (self, key) {
            (Self::Object, "metadata") => Some(Self::Meta),
            (Self::Object, "spec") => Some(Self::Spec),
            (Self::Spec, "template" | "jobTemplate") => Some(Self::Object),
            (Self::Object | Self::Spec | Self::Meta, _) => None,
        }
    }
}

/// An object without the times of metadata that cannot be read, of itself and of its pod template, and without what field
/// managers wrote but their names.
fn lean(object: &str) -> String {
    let mut out = String::new();
    write(&mut out, object, Place::Object, TEMPLATES);
    out
}

/// What is no JSON object stays as it is: whoever reads it says what is wrong with it.
fn write(out: &mut String, text: &str, place: Place, templates: usize) {
    let Ok(fields) = serde_json::from_str::<Fields<'_>>(text) else {
        out.push_str(text);
        return;
    };
    let mut before = '{';
    for (key, value) in fields {
        let value = match place {
            Place::Meta => kept_of_meta(&key, value.get()),
            Place::Object | Place::Spec => Some(value.get().into()),
        };
        let Some(value) = value else { continue };
        out.push(before);
        before = ',';
        let inside = place.inside(&key);
        out.push_str(&Value::from(key).to_string());
        out.push(':');
        match inside {
            Some(Place::Object) if templates > 0 => write(out, &value, Place::Object, templates - 1),
            Some(inside @ (Place::Spec | Place::Meta)) => write(out, &value, inside, templates),
            Some(Place::Object) | None => out.push_str(&value),
        }
    }
    if before == '{' {
        out.push('{');
    }
    out.push('}');
}

/// What is kept of one field of metadata.
fn kept_of_meta<'a>(key: &str, text: &'a str) -> Option<Cow<'a, str>> {
    match key {
        "creationTimestamp" => time(text).map(|_| text.into()),
        "deletionTimestamp" if text != "null" && time(text).is_none() => Some("\"1970-01-01T00:00:00Z\"".into()),
        "managedFields" => {
            let managers: Vec<Manager> = serde_json::from_str(text).ok()?;
            serde_json::to_string(&managers).ok().map(Cow::from)
        }
        _ => Some(text.into()),
    }
}

/// The commas of a JSON text that stand in no string.
fn commas(text: &str) -> usize {
    let (mut count, mut in_string, mut escaped) = (0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b',' if !in_string => count += 1,
            _ => {}
        }
    }
    count
}

/// As much as can be read of the metadata of an object that was refused already: it is named by it, and nothing else comes of it.
fn metadata(object: &str) -> ObjectMeta {
    // What is no JSON object has no name either.
    let fields = serde_json::from_str::<Fields<'_>>(object).unwrap_or_default();
    whole_or_who(fields.get("metadata").copied()).0
}

/// The metadata of an object, and whether it is whole. Otherwise it says who the object is, as far as that can be read.
fn whole_or_who(meta: Option<&RawValue>) -> (ObjectMeta, bool) {
    let Some(meta) = meta else {
        return (ObjectMeta::default(), true);
    };
    match serde_json::from_str::<RawMeta>(meta.get()) {
        Ok(read) => (read.into(), true),
        Err(_) => (who(meta), false),
    }
}

/// Who an object is by metadata that cannot be read whole.
fn who(meta: &RawValue) -> ObjectMeta {
    let fields = serde_json::from_str::<Fields<'_>>(meta.get()).unwrap_or_default();
    let text = |key: &str| serde_json::from_str::<String>(fields.get(key)?.get()).ok();
    ObjectMeta {
        name: text("name"),
        namespace: text("namespace"),
        uid: text("uid"),
        resource_version: text("resourceVersion"),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
mod tests;
