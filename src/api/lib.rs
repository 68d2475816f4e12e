//! The custom resources of `repave.dev/v1alpha1`: types, schema, defaults and CEL rules; no logic.
//!
//! People write `BaseImage`, `ValidationPolicy`, `Waiver` and `RepavePlan`; the operator writes `ImageCandidate`,
//! `RepaveRun` and `ReleaseHistory`. `make generate` prints these types into `crds/`. A field that does nothing yet is not here.

pub mod base_image;
pub mod checks;
pub mod image_candidate;
pub mod refs;
pub mod release_history;
pub mod repave_plan;
pub mod repave_run;
pub mod validation_policy;
pub mod waiver;

pub use base_image::{BaseImage, BaseImageSpec, BaseImageStatus};
pub use image_candidate::{ImageCandidate, ImageCandidateSpec, ImageCandidateStatus, phase};
pub use release_history::{ReleaseHistory, ReleaseHistorySpec};
pub use repave_plan::{RepavePlan, RepavePlanSpec, RepavePlanStatus};
pub use repave_run::{RepaveRun, RepaveRunSpec, RepaveRunStatus};
pub use validation_policy::{ValidationPolicy, ValidationPolicySpec};
pub use waiver::{Waiver, WaiverSpec, WaiverStatus};

// `crate::domain` in the files of this crate.
use repave_core as domain;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use std::path::Path;

/// The API group of every resource, label and annotation of ours.
pub const GROUP: &str = "repave.dev";

/// `baseimages.repave.dev` and so on: what must be installed before the operator can work.
pub fn definition_names() -> Vec<String> {
    definitions()
        .into_iter()
        .filter_map(|definition| definition.metadata.name)
        .collect()
}

/// The definitions could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A file.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// YAML.
    #[error("a definition cannot be written as YAML: {0}")]
    Yaml(String),
}

/// Writes one file a definition, and the kustomization that lists them.
pub fn definitions_into(folder: &Path) -> Result<(), WriteError> {
    let write = |name: &str, text: String| {
        let path = folder.join(name);
        std::fs::write(&path, text).map_err(|source| WriteError::File { path, source })
    };
    let mut list =
        "# Written by `make generate`.\napiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n"
            .to_owned();
    for definition in definitions() {
        let yaml = serde_saphyr::to_string(&definition).map_err(|error| WriteError::Yaml(error.to_string()))?;
        let file = format!("{GROUP}_{}.yaml", definition.spec.names.plural);
        write(&file, format!("# Written by `make generate`.\n{yaml}"))?;
        list.push_str("  - ");
        list.push_str(&file);
        list.push('\n');
    }
    write("kustomization.yaml", list)
}

/// Every custom resource definition, in the order in which they are installed.
pub fn definitions() -> Vec<CustomResourceDefinition> {
    vec![
        BaseImage::crd(),
        ImageCandidate::crd(),
        ValidationPolicy::crd(),
        RepavePlan::crd(),
        RepaveRun::crd(),
        Waiver::crd(),
        ReleaseHistory::crd(),
    ]
}
