//! What a candidate for a BaseImage has to be made of. Pure.
//!
//! The hash of it names the candidate: must not depend on anything that does not decide the outcome.

use super::ValidatedBaseImage;
use crate::{
    api::{
        BaseImage, ImageCandidateSpec,
        image_candidate::{BuildInputs, PolicySnapshot},
    },
    controllers::error::{Class, Classified},
    domain::digest::Digest,
};
use kube::ResourceExt as _;

/// What decides about a build besides upstream's digest and the BaseImage itself.
#[derive(Debug, Default)]
pub struct Inputs {
    /// The policies, whole.
    pub policies: Vec<PolicySnapshot>,
    /// The customisation with its ConfigMaps read.
    pub build: BuildInputs,
}

impl Inputs {
    /// Whether ConfigMaps may have a part in it.
    pub fn has_files(&self) -> bool {
        !self.build.ca_certificates.is_empty() || self.policies.iter().any(|policy| !policy.files.is_empty())
    }
}

/// The longest spec of a candidate, in bytes of JSON. An API server stores at most 1.5 MiB of an object, its status included.
pub const MAX_SPEC: usize = 1 << 20;

/// No candidate can be made of these inputs.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// They cannot be written down, so nothing can be compared with them.
    #[error("the inputs of a candidate cannot be hashed: {0}. This is a fault of Repave: please report it")]
    NotHashed(#[from] serde_json::Error),
    /// Kubernetes would refuse it.
    #[error(
        "expected policies, files and customisation of at most {MAX_SPEC} bytes together, found {found}: an object in Kubernetes cannot be larger. Make the files smaller (Goss files, OpenSCAP tailorings, CA certificates), or put them into the base image"
    )]
    TooLarge {
        /// Their size.
        found: usize,
    },
}

impl Classified for Unusable {
    fn reason(&self) -> &'static str {
        match self {
            Self::NotHashed(_) => "InputsNotHashed",
            Self::TooLarge { .. } => "InputsTooLarge",
        }
    }

    fn class(&self) -> Class {
        Class::Stalled
    }
}

/// What a candidate for this digest would have to be made of, without its place in the order.
pub fn wanted_spec(
    base: &BaseImage,
    validated: &ValidatedBaseImage,
    inputs: &Inputs,
    source_digest: &Digest,
) -> Result<ImageCandidateSpec, Unusable> {
    let mut spec = ImageCandidateSpec {
        base_image: base.name_any(),
        sequence: 0,
        source: validated.source.clone(),
        source_tag: validated.tag.clone(),
        source_digest: source_digest.clone(),
        inputs_hash: Digest::of(b""),
        staging: validated.staging.clone(),
        pull_secret_ref: base.spec.source.pull_secret_ref.clone(),
        verify: base.spec.verify.clone(),
        build: inputs.build.clone(),
        policies: inputs.policies.clone(),
        promote: base.spec.promote.clone(),
    };
    // Over everything that decides the outcome, in the order of the type. `inputs_hash` itself is still the constant of an
    // empty text here, and `sequence` is 0 and left out.
    let written = serde_json::to_vec(&spec)?;
    if written.len() > MAX_SPEC {
        return Err(Unusable::TooLarge { found: written.len() });
    }
    spec.inputs_hash = Digest::of(&written);
    Ok(spec)
}
