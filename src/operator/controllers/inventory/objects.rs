//! What is decoded of the objects of the estate: only what decides. Most bytes of a Deployment are field ownership and of a
//! pod its spec; neither is ever built here.
//!
//! The result is the ordinary type with the rest left out, so that the one parser of each (`Workload`, `PodEvidence`) reads
//! it like any other. Must not decide anything.

use crate::readable::{self, Parts};
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec, DeploymentStatus},
        core::v1::{Container, Pod, PodSpec, PodStatus, Probe},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Resource,
    core::{ApiResource, DynamicResourceScope, NamespaceResourceScope},
};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// Written by `kubectl apply`: the whole object once more.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Metadata without a second copy of the object.
fn lean(mut meta: ObjectMeta) -> ObjectMeta {
    // Kept empty: that the map is there decides how a patch is written.
    if let Some(text) = meta.annotations.as_mut().and_then(|all| all.get_mut(LAST_APPLIED)) {
        text.clear();
    }
    meta
}

/// A part of an object, or none if it cannot be read: such an object is one without it, which nothing is done to.
fn part<T: DeserializeOwned>(meta: &ObjectMeta, part: Option<&str>) -> Option<T> {
    match serde_json::from_str(part?) {
        Ok(read) => Some(read),
        Err(error) => {
            let (namespace, name) = (meta.namespace.as_deref(), meta.name.as_deref());
            tracing::warn!(namespace, name, %error, "object cannot be read: it is taken as one without that part");
            None
        }
    }
}

/// A Deployment without the fields of its managers.
#[derive(Debug, Clone)]
pub struct Watched(pub Deployment);

impl<'de> Deserialize<'de> for Watched {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Parts::deserialize(deserializer)?;
        let metadata = lean(raw.metadata);
        let status: Option<DeploymentStatus> = part(&metadata, raw.status.as_deref().map(RawValue::get));
        // One whose state cannot be read is none that anything is done to: it is as one without a spec.
        let whole = raw.status.is_some() == status.is_some();
        let spec = raw.spec.as_deref().filter(|_| whole).map(readable::lean_spec);
        Ok(Self(Deployment {
            spec: part::<DeploymentSpec>(&metadata, spec.as_deref()),
            status,
            metadata,
        }))
    }
}

/// A pod without its spec but for names, images and which probes there are.
#[derive(Debug, Clone)]
pub struct LeanPod(pub Pod);

impl<'de> Deserialize<'de> for LeanPod {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Parts::deserialize(deserializer)?;
        let metadata = lean(raw.metadata);
        let spec: Option<RawPodSpec> = part(&metadata, raw.spec.as_deref().map(RawValue::get));
        Ok(Self(Pod {
            spec: spec.map(|spec| PodSpec {
                init_containers: spec.init_containers.map(containers),
                containers: containers(spec.containers),
                ..PodSpec::default()
            }),
            status: part::<PodStatus>(&metadata, raw.status.as_deref().map(RawValue::get)),
            metadata,
        }))
    }
}

/// Containers of any pod template: name, image and which probes there are.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawPodSpec {
    init_containers: Option<Vec<RawContainer>>,
    containers: Vec<RawContainer>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawContainer {
    #[serde(default)]
    name: String,
    image: Option<String>,
    liveness_probe: Option<IgnoredAny>,
    readiness_probe: Option<IgnoredAny>,
    startup_probe: Option<IgnoredAny>,
}

fn containers(raw: Vec<RawContainer>) -> Vec<Container> {
    let probe = |there: Option<IgnoredAny>| there.map(|IgnoredAny| Probe::default());
    raw.into_iter()
        .map(|container| Container {
            name: container.name,
            image: container.image,
            liveness_probe: probe(container.liveness_probe),
            readiness_probe: probe(container.readiness_probe),
            startup_probe: probe(container.startup_probe),
            ..Container::default()
        })
        .collect()
}

/// An object of a kind that is counted and never moved: who it is, and the images of its pods.
#[derive(Debug, Clone)]
pub struct Consumer {
    /// Name, namespace, UID and resource version; nothing else.
    pub metadata: ObjectMeta,
    /// The images of all its containers.
    pub images: Vec<String>,
    /// Whether a controller owns it: then that one is counted and not this.
    pub owned: bool,
}

impl<'de> Deserialize<'de> for Consumer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct RawSpec {
            #[serde(flatten)]
            pod: RawPodSpec,
            template: Option<RawTemplate>,
            job_template: Option<RawJobTemplate>,
        }
        #[derive(Deserialize)]
        struct RawTemplate {
            spec: Option<RawPodSpec>,
        }
        #[derive(Deserialize)]
        struct RawJobTemplate {
            spec: Option<RawJobSpec>,
        }
        #[derive(Deserialize)]
        struct RawJobSpec {
            template: Option<RawTemplate>,
        }
        let Parts { metadata, spec, .. } = Parts::deserialize(deserializer)?;
        let spec: Option<RawSpec> = part(&metadata, spec.as_deref().map(RawValue::get));
        let pods = spec.into_iter().flat_map(|spec| {
            let job = spec.job_template.and_then(|job| job.spec).and_then(|job| job.template);
            let templates = [spec.template, job].into_iter().flatten().filter_map(|t| t.spec);
            std::iter::once(spec.pod).chain(templates)
        });
        let images = pods
            .flat_map(|pod| pod.init_containers.into_iter().flatten().chain(pod.containers))
            .filter_map(|container| container.image)
            .collect();
        let owners = metadata.owner_references.iter().flatten();
        Ok(Self {
            owned: owners.into_iter().any(|owner| owner.controller == Some(true)),
            images,
            metadata: ObjectMeta {
                name: metadata.name,
                namespace: metadata.namespace,
                uid: metadata.uid,
                resource_version: metadata.resource_version,
                labels: metadata.labels,
                ..ObjectMeta::default()
            },
        })
    }
}

impl Resource for Watched {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        Deployment::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        Deployment::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        Deployment::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        Deployment::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.0.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.0.metadata
    }
}

impl Resource for LeanPod {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        Pod::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        Pod::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        Pod::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        Pod::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.0.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.0.metadata
    }
}

impl Resource for Consumer {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(of: &ApiResource) -> Cow<'_, str> {
        of.kind.as_str().into()
    }

    fn group(of: &ApiResource) -> Cow<'_, str> {
        of.group.as_str().into()
    }

    fn version(of: &ApiResource) -> Cow<'_, str> {
        of.version.as_str().into()
    }

    fn api_version(of: &ApiResource) -> Cow<'_, str> {
        of.api_version.as_str().into()
    }

    fn plural(of: &ApiResource) -> Cow<'_, str> {
        of.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::workload::Workload;
    use serde_json::{Value, json};

    fn deployment() -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "a", "namespace": "n", "uid": "u", "resourceVersion": "7", "generation": 2,
                "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"app": "a"},
                "annotations": {LAST_APPLIED: "{\"a\": 1}", "repave.dev/run": "platform/all",
                    "deployment.kubernetes.io/revision": "3"},
                "ownerReferences": [{"apiVersion": "v1", "kind": "App", "name": "x", "uid": "y", "controller": true}],
                "managedFields": [{"manager": "helm", "operation": "Apply", "fieldsV1": {"f:spec": {}}}]},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "a"}}, "template": {
                "metadata": {"labels": {"app": "a"}},
                "spec": {"initContainers": [{"name": "i", "image": "r.test/i:1"}],
                    "containers": [{"name": "c", "image": "r.test/c:1", "env": [{"name": "A", "value": "b"}]}]}}},
            "status": {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2,
                "conditions": [{"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}]},
        })
    }

    #[test]
    fn a_workload_is_the_same_whether_its_object_was_read_whole_or_pruned() {
        let whole: Deployment = serde_json::from_value(deployment()).unwrap();
        let Watched(pruned) = serde_json::from_value(deployment()).unwrap();
        assert!(Workload::from_deployment(&whole).is_some());
        assert_eq!(Workload::from_deployment(&pruned), Workload::from_deployment(&whole));
        let fields = pruned.metadata.managed_fields.unwrap();
        assert!(fields.iter().all(|field| field.fields_v1.is_none()), "{fields:?}");
    }

    #[test]
    fn every_counted_kind_gives_the_images_of_its_pods() {
        let pod = json!({"initContainers": [{"name": "i", "image": "r.test/i"}], "containers": [{"name": "c", "image": "r.test/c"}]});
        let template = json!({"spec": pod});
        for (kind, spec) in [
            ("StatefulSet", json!({"replicas": 1, "template": template})),
            (
                "CronJob",
                json!({"schedule": "@daily", "jobTemplate": {"spec": {"template": template}}}),
            ),
            ("Pod", pod.clone()),
        ] {
            let object = json!({"metadata": {"name": "a", "namespace": "n"}, "spec": spec});
            let consumer: Consumer = serde_json::from_value(object).unwrap();
            assert_eq!(consumer.images, ["r.test/i", "r.test/c"], "{kind}");
            assert!(!consumer.owned);
        }
        let empty: Consumer = serde_json::from_value(json!({"metadata": {}})).unwrap();
        assert!(empty.images.is_empty());
    }

    #[test]
    fn a_pod_keeps_what_its_containers_run_and_how_they_do() {
        let LeanPod(pod) = serde_json::from_value(json!({
            "metadata": {"name": "a-1", "labels": {"app": "a"}},
            "spec": {"containers": [{"name": "c", "image": "r.test/c", "env": [{"name": "A"}],
                "readinessProbe": {"tcpSocket": {"port": 1}}}], "nodeName": "n"},
            "status": {"phase": "Running", "containerStatuses": [{"name": "c", "image": "r.test/c", "imageID": "x",
                "ready": true, "restartCount": 1}]},
        }))
        .unwrap();
        let spec = pod.spec.unwrap();
        assert_eq!(spec.containers[0].image.as_deref(), Some("r.test/c"));
        assert_eq!(spec.containers[0].env, None);
        let probes = (&spec.containers[0].readiness_probe, &spec.containers[0].liveness_probe);
        assert!(matches!(probes, (Some(_), None)), "only that there is one: {probes:?}");
        assert_eq!(pod.status.unwrap().container_statuses.unwrap()[0].restart_count, 1);
    }
}
