//! What decides of a Deployment, read from its JSON: the rest is never built. A volume is 30 bytes of JSON and 3 KB as a type, so that
//! one Deployment of a megabyte would take hundreds.
//!
//! The pod template is hashed as text. Must not decide anything.

use super::template::{Container, TemplateShape};
use k8s_openapi::{api::apps::v1::DeploymentStatus, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::value::RawValue;

/// Bytes of one Deployment that are kept: labels, selector, containers. One with more is understood by nobody.
pub const MAX_KEPT: usize = 128 << 10;

/// A Deployment as far as it decides something.
#[derive(Debug, Clone, Default)]
pub struct Deployment {
    /// Who it is.
    pub metadata: ObjectMeta,
    /// What it asks for.
    pub spec: Option<Spec>,
    /// How it stands.
    pub status: Option<DeploymentStatus>,
}

/// What it asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// How many pods; `None` is one.
    pub replicas: Option<i32>,
    /// `minReadySeconds`.
    pub min_ready_seconds: Option<i32>,
    /// Whether a person paused it.
    pub paused: bool,
    /// Its label selector as text.
    pub selector: Box<str>,
    /// All containers, init containers first, each list in its order.
    pub containers: Vec<Container>,
    /// The pod template without the images.
    pub shape: TemplateShape,
}

impl Deployment {
    /// Reads the parts of one.
    pub fn read(metadata: ObjectMeta, spec: Option<&str>, status: Option<&str>) -> serde_json::Result<Self> {
        Ok(Self {
            spec: spec.map(Spec::read).transpose()?,
            status: status.map(serde_json::from_str).transpose()?,
            metadata,
        })
    }

    /// Bytes of it that would be kept for as long as it is there.
    pub fn kept(&self) -> usize {
        let labels = self.metadata.labels.iter().flatten();
        let labels: usize = labels.map(|(name, value)| name.len() + value.len() + LABEL).sum();
        let spec = self.spec.as_ref().map_or(0, |spec| {
            let containers = spec.containers.iter();
            let containers: usize = containers.map(|one| one.name.len() + one.image.len() + CONTAINER).sum();
            containers + spec.selector.len()
        });
        labels + spec
    }
}

/// What an entry takes beside its texts.
const LABEL: usize = size_of::<(Box<str>, Box<str>)>();
const CONTAINER: usize = size_of::<Container>();

impl<'de> Deserialize<'de> for Deployment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Raw {
            #[serde(default)]
            metadata: ObjectMeta,
            spec: Option<Box<RawValue>>,
            status: Option<Box<RawValue>>,
        }
        let raw = Raw::deserialize(deserializer)?;
        let (spec, status) = (raw.spec.as_deref(), raw.status.as_deref());
        Self::read(raw.metadata, spec.map(RawValue::get), status.map(RawValue::get)).map_err(D::Error::custom)
    }
}

impl Spec {
    fn read(text: &str) -> serde_json::Result<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Raw<'a> {
            replicas: Option<i32>,
            min_ready_seconds: Option<i32>,
            paused: Option<bool>,
            #[serde(borrow)]
            selector: &'a RawValue,
            #[serde(borrow)]
            template: &'a RawValue,
        }
        let raw: Raw<'_> = serde_json::from_str(text)?;
        let (shape, containers) = TemplateShape::read(raw.template.get())?;
        Ok(Self {
            replicas: raw.replicas,
            min_ready_seconds: raw.min_ready_seconds,
            paused: raw.paused == Some(true),
            selector: raw.selector.get().into(),
            containers,
            shape,
        })
    }
}
