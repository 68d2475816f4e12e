//! Objects as lists and watches decode them: one that cannot be read is that object's problem and not that of the list.
//!
//! The client library ends a list or a watch of all at the first object that it cannot decode, and whoever may write an
//! object writes times that Kubernetes takes and we cannot hold (`9999-12-31T23:59:59Z` in `managedFields` or in a pod
//! template). Times that decide nothing are left out here; whatever else cannot be read is told with its metadata.
//! Must not decide anything.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta, OwnerReference, Time};
use kube::{Resource, core::error_boundary::InvalidObject};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use std::{borrow::Cow, collections::BTreeMap, marker::PhantomData};

/// Where pod templates are, in every kind that has one.
const TEMPLATES: [&[&str]; 3] = [
    &["spec", "template"],
    &["spec", "jobTemplate"],
    &["spec", "jobTemplate", "spec", "template"],
];

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
        let mut object = Value::deserialize(deserializer)?;
        prune(&mut object);
        Ok(Self(K::deserialize(&object).map_err(|error| InvalidObject {
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

/// The metadata of an object of a kind, and nothing else of it.
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
            #[serde(default)]
            metadata: RawMeta,
        }
        Ok(Self {
            metadata: Raw::deserialize(deserializer)?.metadata.into(),
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

/// Metadata with the names of field managers, but not their fields, and with the times that can be read.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RawMeta {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
    creation_timestamp: Option<Value>,
    deletion_timestamp: Option<Value>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    owner_references: Option<Vec<OwnerReference>>,
    managed_fields: Option<Vec<Manager>>,
}

#[derive(Debug, Deserialize)]
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
            creation_timestamp: meta.creation_timestamp.as_ref().and_then(time),
            deletion_timestamp: meta.deletion_timestamp.as_ref().and_then(deleted),
            labels: meta.labels,
            annotations: meta.annotations,
            owner_references: meta.owner_references,
            managed_fields: managers,
            ..Self::default()
        }
    }
}

fn time(value: &Value) -> Option<Time> {
    Time::deserialize(value).ok()
}

/// When an object was deleted. It is being deleted, whatever time it says.
fn deleted(value: &Value) -> Option<Time> {
    let some = Some(value).filter(|value| !value.is_null())?;
    Some(time(some).unwrap_or(Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH)))
}

/// Leaves out the times of metadata that cannot be read, of the object and of its pod template, and what field managers
/// wrote but their names.
pub fn prune(object: &mut Value) {
    if let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        prune_meta(meta);
    }
    for path in TEMPLATES {
        let template = path.iter().try_fold(&mut *object, |at, part| at.get_mut(part));
        let meta = template.and_then(|template| template.get_mut("metadata"));
        if let Some(meta) = meta.and_then(Value::as_object_mut) {
            prune_meta(meta);
        }
    }
}

fn prune_meta(meta: &mut Map<String, Value>) {
    if meta.get("creationTimestamp").is_some_and(|at| time(at).is_none()) {
        meta.remove("creationTimestamp");
    }
    if let Some(at) = meta.get_mut("deletionTimestamp")
        && !at.is_null()
        && time(at).is_none()
    {
        *at = json!("1970-01-01T00:00:00Z");
    }
    for field in meta
        .get_mut("managedFields")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        *field = json!({"manager": field.get_mut("manager").map(Value::take)});
    }
}

/// As much of the metadata as can be read: who it is at least.
fn metadata(object: &Value) -> ObjectMeta {
    let Some(meta) = object.get("metadata") else {
        return ObjectMeta::default();
    };
    let text = |key: &str| meta.get(key).and_then(Value::as_str).map(str::to_owned);
    RawMeta::deserialize(meta).map_or_else(
        |_| ObjectMeta {
            name: text("name"),
            namespace: text("namespace"),
            uid: text("uid"),
            resource_version: text("resourceVersion"),
            ..ObjectMeta::default()
        },
        ObjectMeta::from,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::{apps::v1::Deployment, batch::v1::Job};

    fn odd() -> Value {
        let fields = json!([{"manager": "x", "operation": "Update", "apiVersion": "v1", "time": "9999-12-31T23:59:59Z",
            "fieldsType": "FieldsV1", "fieldsV1": {"f:metadata": {}}}]);
        json!({
            "metadata": {"name": "a", "namespace": "n", "uid": "u", "managedFields": fields},
            "spec": {"selector": {}, "template": {
                "metadata": {"creationTimestamp": "9999-12-31T23:59:59Z", "labels": {"a": "b"}, "managedFields": fields},
                "spec": {"containers": [{"name": "c", "image": "r.test/c"}]}}},
        })
    }

    #[test]
    fn times_of_metadata_that_cannot_be_read_hide_no_object() {
        let Guarded(job) = serde_json::from_value::<Guarded<Job>>(odd()).unwrap();
        let template = job.unwrap().spec.unwrap().template;
        assert_eq!(template.metadata.unwrap().labels.unwrap()["a"], "b");
        let Guarded(deployment) = serde_json::from_value::<Guarded<Deployment>>(odd()).unwrap();
        let fields = deployment.unwrap().metadata.managed_fields.unwrap();
        assert_eq!((fields[0].manager.as_deref(), &fields[0].time), (Some("x"), &None));
        let meta = serde_json::from_value::<Meta<Job>>(odd()).unwrap();
        assert_eq!(meta.meta().name.as_deref(), Some("a"));
    }

    #[test]
    fn what_is_deleted_at_an_odd_time_is_deleted() {
        let mut object = odd();
        object["metadata"]["deletionTimestamp"] = json!("9999-12-31T23:59:59Z");
        let meta = serde_json::from_value::<Meta<Job>>(object.clone()).unwrap();
        assert!(meta.metadata.deletion_timestamp.is_some());
        let guarded = serde_json::from_value::<Guarded<Job>>(object).unwrap();
        assert!(guarded.0.unwrap().metadata.deletion_timestamp.is_some());
    }

    #[test]
    fn one_that_cannot_be_read_is_named_in_a_list_of_others() {
        let broken = json!({"metadata": {"name": "b", "namespace": "n", "labels": 3}, "spec": {"template": 4}});
        let all: Vec<Guarded<Job>> = serde_json::from_value(json!([odd(), broken, odd()])).unwrap();
        let names: Vec<_> = all.iter().map(|one| one.meta().name.as_deref()).collect();
        assert_eq!(names, [Some("a"), Some("b"), Some("a")]);
        assert!(all[0].0.is_ok() && all[1].0.is_err() && all[2].0.is_ok());
    }

    /// Review rvb. kube-apiserver 1.36 stores `fieldsV1` of any depth that a writer sends; serde_json stops at 128.
    #[test]
    fn rvb_one_object_with_deep_field_ownership_ends_no_list() {
        let deep = format!("{}{}", "{\"f:x\":".repeat(200), "{}".to_owned() + &"}".repeat(200));
        let poison = format!(
            "{{\"metadata\":{{\"name\":\"b\",\"managedFields\":[{{\"manager\":\"m\",\"fieldsV1\":{deep}}}]}}}}"
        );
        let text = format!("[{{\"metadata\":{{\"name\":\"a\"}}}},{poison}]");
        assert!(serde_json::from_str::<Vec<Meta<Job>>>(&text).is_ok(), "control");
        let all = serde_json::from_str::<Vec<Guarded<Job>>>(&text);
        assert!(all.is_ok(), "{:?}", all.err());
    }
}
