//! What a BaseImage asks for, for every controller that has to know it: its texts parsed here, whose its repositories are
//! (`owner`, `known`), what a candidate for it has to be made of (`spec`, `inputs`), and whether a candidate is that (`wanted`,
//! `ask`). Stands below the controllers of BaseImages and of candidates, and must not know either.

pub mod ask;
pub mod inputs;
pub mod known;
pub mod owner;
pub mod spec;
#[cfg(test)]
mod tests;
pub mod wanted;

use crate::{
    api::{BaseImage, BaseImageSpec, ImageCandidate},
    controllers::error::{Class, Classified},
    domain::{
        image_ref::{InvalidImageRef, Repository},
        object_name::{InvalidObjectName, ObjectName},
    },
};
use kube::ResourceExt;
use std::time::Duration;

/// A BaseImage with everything parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidatedBaseImage {
    /// Namespace of the object and of all that it refers to.
    pub namespace: String,
    /// Upstream repository.
    pub source: Repository,
    /// Upstream tag.
    pub tag: String,
    /// Where unproven images go.
    pub staging: Repository,
    /// Where proven images go.
    pub production: Repository,
    /// The tag there that names the release.
    pub channel_tag: String,
    /// How often upstream is asked.
    pub interval: Duration,
}

/// A text that the schema let through and that is still wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A repository is malformed.
    #[error("spec.{field}: {source}")]
    Repository {
        /// Which field.
        field: &'static str,
        /// What is wrong.
        source: InvalidImageRef,
    },
    /// A reference names no object.
    #[error("spec.{field}: {source}")]
    Name {
        /// Which field.
        field: &'static str,
        /// What is wrong.
        source: InvalidObjectName,
    },
}

impl Classified for Error {
    fn reason(&self) -> &'static str {
        match self {
            Self::Repository { .. } | Self::Name { .. } => "InvalidReference",
        }
    }

    fn class(&self) -> Class {
        Class::Stalled
    }
}

/// The names of all that a spec refers to.
fn names(spec: &BaseImageSpec) -> impl Iterator<Item = (&'static str, &str)> {
    let policies = spec.policy_refs.iter().map(|at| ("policyRefs", &at.name));
    let pull = spec
        .source
        .pull_secret_ref
        .iter()
        .map(|at| ("source.pullSecretRef", &at.name));
    let keys = spec.verify.iter().filter_map(|one| one.cosign.as_ref());
    let keys = keys.map(|cosign| ("verify.cosign.keyRef", &cosign.key_ref.name));
    let certificates = spec.customize.iter().flat_map(|customize| &customize.ca_certificates);
    let certificates = certificates.map(|one| ("customize.caCertificates.configMapRef", &one.config_map_ref.name));
    let push = spec
        .promote
        .push_secret_ref
        .iter()
        .map(|at| ("promote.pushSecretRef", &at.name));
    let signing = ("promote.signing.keyRef", &spec.promote.signing.key_ref.name);
    let all = policies.chain(pull).chain(keys).chain(certificates).chain(push);
    all.chain([signing]).map(|(field, name)| (field, name.as_str()))
}

/// Parses the spec. Pure: looks at nothing but the object.
pub fn validate(base: &BaseImage) -> Result<ValidatedBaseImage, Error> {
    let repository = |field, text: &str| text.parse().map_err(|source| Error::Repository { field, source });
    let spec = &base.spec;
    for (field, name) in names(spec) {
        name.parse::<ObjectName>()
            .map_err(|source| Error::Name { field, source })?;
    }
    let default_staging = format!("{}-staging", spec.promote.repository);
    let staging = spec.promote.staging_repository.as_ref().unwrap_or(&default_staging);
    Ok(ValidatedBaseImage {
        namespace: base.namespace().unwrap_or_default(),
        source: repository("source.image", &spec.source.image)?,
        tag: spec.source.track.tag.clone(),
        staging: repository("promote.stagingRepository", staging)?,
        production: repository("promote.repository", &spec.promote.repository)?,
        channel_tag: spec.promote.channel_tag.clone(),
        interval: spec.source.interval.get(),
    })
}

/// Whether the candidate was made for this very object.
pub fn is_of(candidate: &ImageCandidate, base: &BaseImage) -> bool {
    let mut owners = candidate.metadata.owner_references.iter().flatten();
    owners.any(|owner| owner.controller == Some(true) && Some(&owner.uid) == base.metadata.uid.as_ref())
}
