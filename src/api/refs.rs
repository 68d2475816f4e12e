//! References between objects, and the labels and annotations that tie them together.
//!
//! A reference stays in the namespace of the object that makes it.

pub use crate::domain::annotations::{
    ANNOTATION_HOLD, ANNOTATION_MOVED, ANNOTATION_MOVED_AT, ANNOTATION_PREVIOUS, ANNOTATION_RUN,
};

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Label on everything that belongs to a base image; the value is its name.
pub const LABEL_BASE_IMAGE: &str = "repave.dev/base-image";
/// Label on everything that belongs to a candidate; the value is its name.
pub const LABEL_CANDIDATE: &str = "repave.dev/candidate";
/// Label on a check's Job; the value is the check's name.
pub const LABEL_CHECK: &str = "repave.dev/check";
/// Label on the Job of a self-test; the value is the tool.
pub const LABEL_SELF_TEST: &str = "repave.dev/self-test";
/// Label on a run; the value is its plan's name.
pub const LABEL_PLAN: &str = "repave.dev/plan";
/// Annotation on a candidate: its Jobs go first. The value says why, for people.
pub const ANNOTATION_URGENT: &str = "repave.dev/urgent";
/// Annotation on a BaseImage: JSON list of releases to take back or to lift (release, reason, by, lift).
pub const ANNOTATION_REVOKE: &str = "repave.dev/revoke";

/// The name of an object in the same namespace.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalRef {
    /// Name of the object.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub name: String,
}

/// One key of a ConfigMap or Secret in the same namespace.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyRef {
    /// Name of the object.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub name: String,
    /// Key in it; each field that uses this says its default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub key: Option<String>,
}
