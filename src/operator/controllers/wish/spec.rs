//! What a candidate for a BaseImage has to be made of. Pure.
//!
//! The hash of it names the candidate: must not depend on anything that does not decide the outcome.

use super::Wish;
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

/// The inputs of a candidate cannot be written down, so nothing can be compared with them.
#[derive(Debug, thiserror::Error)]
#[error("the inputs of a candidate cannot be hashed: {0}. This is a fault of Repave: please report it")]
pub struct Unhashable(#[from] serde_json::Error);

impl Classified for Unhashable {
    fn reason(&self) -> &'static str {
        "InputsNotHashed"
    }

    fn class(&self) -> Class {
        Class::Stalled
    }
}

/// What a candidate for this digest would have to be made of, without its place in the order.
pub fn wanted_spec(
    base: &BaseImage,
    wish: &Wish,
    inputs: &Inputs,
    source_digest: &Digest,
) -> Result<ImageCandidateSpec, Unhashable> {
    let mut spec = ImageCandidateSpec {
        base_image: base.name_any(),
        sequence: 0,
        source: wish.source.clone(),
        source_tag: wish.tag.clone(),
        source_digest: source_digest.clone(),
        inputs_hash: Digest::of(b""),
        staging: wish.staging.clone(),
        pull_secret_ref: base.spec.source.pull_secret_ref.clone(),
        verify: base.spec.verify.clone(),
        build: inputs.build.clone(),
        policies: inputs.policies.clone(),
        promote: base.spec.promote.clone(),
    };
    // Over everything that decides the outcome, in the order of the type. `inputs_hash` itself is still the constant of an
    // empty text here, and `sequence` is 0 and left out.
    spec.inputs_hash = Digest::of(&serde_json::to_vec(&spec)?);
    Ok(spec)
}
