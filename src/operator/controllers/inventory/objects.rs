//! What is decoded of the objects of the estate: only what decides. Most bytes of a Deployment are field ownership and of a
//! pod its spec; neither is ever built here.
//!
//! The result is the ordinary type with the rest left out, so that the one parser of each (`Workload`, `PodEvidence`) reads
//! it like any other. Must not decide anything.

use crate::{
    domain::deployment::{self, MAX_KEPT},
    readable::Parts,
};
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, ReplicaSet},
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
use std::collections::{BTreeMap, HashSet};
use std::{borrow::Cow, fmt};

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

/// A Deployment as far as it decides something. One that cannot be read, or of which more would be kept than of any real one, is as
/// one without a spec: nothing is done to it.
#[derive(Debug, Clone)]
pub struct Watched(pub deployment::Deployment);

impl<'de> Deserialize<'de> for Watched {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Parts::deserialize(deserializer)?;
        let metadata = lean(raw.metadata);
        let (spec, status) = (raw.spec.as_deref(), raw.status.as_deref());
        let read = deployment::Deployment::read(
            ObjectMeta::default(),
            spec.map(RawValue::get),
            status.map(RawValue::get),
        );
        let whole = match read {
            Ok(read) => deployment::Deployment { metadata, ..read },
            Err(error) => without_spec(metadata, &error),
        };
        let kept = whole.kept();
        if kept <= MAX_KEPT {
            return Ok(Self(whole));
        }
        let mut left = whole.metadata;
        left.labels = None;
        let why = format!("{kept} bytes of its labels, selector and containers would be kept, {MAX_KEPT} may be");
        Ok(Self(without_spec(left, &why)))
    }
}

fn without_spec(metadata: ObjectMeta, why: &dyn fmt::Display) -> deployment::Deployment {
    let (namespace, name) = (metadata.namespace.as_deref(), metadata.name.as_deref());
    tracing::warn!(namespace, name, %why, "Deployment cannot be read: nothing is done to it");
    deployment::Deployment {
        metadata,
        ..deployment::Deployment::default()
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

impl RawPodSpec {
    fn images(self) -> impl Iterator<Item = String> {
        let all = self.init_containers.into_iter().flatten().chain(self.containers);
        all.filter_map(|container| container.image)
    }
}

#[derive(Debug, Deserialize)]
struct RawTemplate {
    spec: Option<RawPodSpec>,
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

/// A ReplicaSet without its spec but for the images.
#[derive(Debug, Clone)]
pub struct LeanReplicaSet {
    /// All of it.
    pub metadata: ObjectMeta,
    /// The images of its containers, init containers first.
    pub images: Vec<String>,
}

impl<'de> Deserialize<'de> for LeanReplicaSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Raw {
            #[serde(default)]
            metadata: ObjectMeta,
            spec: Option<RawSpec>,
        }
        #[derive(Deserialize)]
        struct RawSpec {
            // Read, so that one that is no ReplicaSet is refused.
            #[serde(default, rename = "replicas")]
            _replicas: Option<i32>,
            template: Option<RawTemplate>,
        }
        let raw = Raw::deserialize(deserializer)?;
        let pod = raw.spec.and_then(|spec| spec.template?.spec);
        Ok(Self {
            metadata: lean(raw.metadata),
            images: pod.into_iter().flat_map(RawPodSpec::images).collect(),
        })
    }
}

/// Cuts the images of a counted object to half of what is kept of a Deployment: it is reported, and one of so many images is nothing
/// that anybody would be told more of.
fn bounded(images: &mut Vec<String>) {
    let mut bytes = 0_usize;
    images.retain(|image| {
        bytes = bytes.saturating_add(image.len());
        bytes <= MAX_KEPT / 2
    });
}

/// Whether the labels of a counted object take no more than the other half. One with more is selected by none.
fn are_few(labels: &BTreeMap<String, String>) -> bool {
    let bytes: usize = labels.iter().map(|(key, value)| key.len() + value.len()).sum();
    bytes <= MAX_KEPT / 2
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
        let mut images: Vec<String> = pods.flat_map(RawPodSpec::images).collect();
        let mut known = HashSet::new();
        images.retain(|image| known.insert(image.clone()));
        bounded(&mut images);
        let owners = metadata.owner_references.iter().flatten();
        Ok(Self {
            owned: owners.into_iter().any(|owner| owner.controller == Some(true)),
            images,
            metadata: ObjectMeta {
                name: metadata.name,
                namespace: metadata.namespace,
                uid: metadata.uid,
                resource_version: metadata.resource_version,
                labels: metadata.labels.filter(are_few),
                ..ObjectMeta::default()
            },
        })
    }
}

/// What a view of an object is to the API server: an object of that kind.
macro_rules! is_a {
    ($view:ty, $kind:ty, $($meta:tt).+) => {
        impl Resource for $view {
            type DynamicType = ();
            type Scope = NamespaceResourceScope;

            fn kind((): &()) -> Cow<'_, str> {
                <$kind>::kind(&())
            }

            fn group((): &()) -> Cow<'_, str> {
                <$kind>::group(&())
            }

            fn version((): &()) -> Cow<'_, str> {
                <$kind>::version(&())
            }

            fn plural((): &()) -> Cow<'_, str> {
                <$kind>::plural(&())
            }

            fn meta(&self) -> &ObjectMeta {
                &self.$($meta).+
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.$($meta).+
            }
        }
    };
}

pub(crate) use is_a;

is_a!(Watched, Deployment, 0.metadata);
is_a!(LeanPod, Pod, 0.metadata);
is_a!(LeanReplicaSet, ReplicaSet, metadata);

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
mod tests;
