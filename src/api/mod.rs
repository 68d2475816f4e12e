//! The custom resources of `repave.dev/v1alpha1`: types, schema, defaults and CEL rules; no logic.
//!
//! People write `BaseImage`, `ValidationPolicy` and `RepavePlan`; the operator writes `ImageCandidate` and
//! `RepaveRun`. `make generate` prints these types into `crds/`. A field that does nothing yet is not here.

pub mod base_image;
pub mod image_candidate;
pub mod refs;
pub mod repave_plan;
pub mod repave_run;
pub mod validation_policy;

pub use base_image::{BaseImage, BaseImageSpec, BaseImageStatus};
pub use image_candidate::{ImageCandidate, ImageCandidateSpec, ImageCandidateStatus};
pub use repave_plan::{RepavePlan, RepavePlanSpec, RepavePlanStatus};
pub use repave_run::{RepaveRun, RepaveRunSpec, RepaveRunStatus};
pub use validation_policy::{ValidationPolicy, ValidationPolicySpec};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

/// The API group of every resource, label and annotation of ours.
pub const GROUP: &str = "repave.dev";

/// Every custom resource definition, in the order in which they are installed.
pub fn definitions() -> Vec<CustomResourceDefinition> {
    vec![
        BaseImage::crd(),
        ImageCandidate::crd(),
        ValidationPolicy::crd(),
        RepavePlan::crd(),
        RepaveRun::crd(),
    ]
}
