//! Parses a candidate once: its checks with their gates, the build's inputs. Pure.

use crate::{
    api::ImageCandidate,
    controllers::error::{Class, Classified},
    domain::{
        containerfile,
        image_ref::{ImageRef, InvalidImageRef, Repository},
    },
};
use kube::ResourceExt;
pub use repave_policy::{Error as PolicyError, PlannedCheck, PlannedRule, checks_of, rules_of};

/// A candidate with everything parsed.
#[derive(Debug, Clone)]
pub struct ValidatedCandidate {
    /// Namespace of the candidate, its Jobs and all that it refers to.
    pub namespace: String,
    /// The candidate's name.
    pub name: String,
    /// Its UID: a new candidate may have the name of a deleted one.
    pub uid: String,
    /// The BaseImage that it belongs to.
    pub base_image: String,
    /// The upstream image, by digest.
    pub source: ImageRef,
    /// Where it is copied and built.
    pub staging: Repository,
    /// Where it goes.
    pub production: Repository,
    /// Secret with the credentials for staging and production.
    pub registry_secret: Option<String>,
    /// The whole Containerfile.
    pub containerfile: String,
    /// Broken rules of the build configuration.
    pub violations: Vec<containerfile::Violation>,
    /// The checks of all policies.
    pub checks: Vec<PlannedCheck>,
    /// The rules of all policies.
    pub rules: Vec<PlannedRule>,
}

/// Something in the spec that the schema let through and that is still wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The production repository is malformed.
    #[error("spec.promote.repository: {0}")]
    Repository(#[from] InvalidImageRef),
    /// A policy.
    #[error(transparent)]
    Policy(#[from] PolicyError),
}

impl Classified for Error {
    fn reason(&self) -> &'static str {
        match self {
            Self::Repository(_) => "InvalidReference",
            Self::Policy(_) => "InvalidPolicy",
        }
    }

    fn class(&self) -> Class {
        Class::Stalled
    }
}

/// Parses the spec.
pub fn validate(candidate: &ImageCandidate) -> Result<ValidatedCandidate, Error> {
    let spec = &candidate.spec;
    let from = spec.staging.at(&spec.source_digest);
    let containerfile = containerfile::render(&containerfile::Inputs {
        from: &from,
        ca_certificates: spec.build.ca_certificates.len(),
        remove_users: &spec.build.remove_users,
        instructions: &spec.build.containerfile,
    });
    Ok(ValidatedCandidate {
        namespace: candidate.namespace().unwrap_or_default(),
        name: candidate.name_any(),
        uid: candidate.uid().unwrap_or_default(),
        base_image: spec.base_image.clone(),
        source: spec.source.at(&spec.source_digest),
        staging: spec.staging.clone(),
        production: spec.promote.repository.parse()?,
        registry_secret: spec.promote.push_secret_ref.as_ref().map(|secret| secret.name.clone()),
        containerfile,
        violations: containerfile::violations(&spec.build.containerfile),
        checks: checks_of(&spec.policies)?,
        rules: rules_of(&spec.policies),
    })
}
