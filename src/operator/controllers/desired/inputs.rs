//! Reads what a BaseImage refers to and what decides about a build: its policies and ConfigMaps, live. Reads only.
//!
//! Must not let anything through that a check could only fail at later: a rule or a VEX document that cannot be read.

use super::{
    ValidatedBaseImage,
    spec::{Inputs, Unusable},
};
use crate::{
    api::{
        BaseImage, ValidationPolicy,
        image_candidate::{BuildInputs, PolicySnapshot},
        refs::KeyRef,
        validation_policy::Check,
    },
    controllers::{
        context::Context,
        error::{Class, Classified, WAIT},
        inputs,
        named::Named as _,
    },
    domain::vex::{self, VexError},
};
use kube::Api;
use repave_policy::{InvalidRule, read_rules};
use std::collections::BTreeMap;

/// It could not be told what a BaseImage asks for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The BaseImage cannot be parsed.
    #[error("BaseImage: {0}")]
    Invalid(#[from] super::Error),
    /// A policy is missing.
    #[error("ValidationPolicy {0:?} is not in this namespace: create it, or change spec.policyRefs")]
    PolicyMissing(String),
    /// A rule of a policy cannot be used.
    #[error(
        "ValidationPolicy {policy:?}, rule {rule:?}: {why}. Nothing is built before it is corrected",
        policy = .0.policy, rule = .0.rule, why = .0.why
    )]
    InvalidRule(InvalidRule),
    /// A VEX document that a check names cannot be read.
    #[error(
        "ValidationPolicy {policy:?}, check {check:?}, OpenVEX document in ConfigMap {config_map:?}: {why}. Nothing is built before it is corrected"
    )]
    InvalidVex {
        /// The policy.
        policy: String,
        /// The check.
        check: String,
        /// Where it is.
        config_map: String,
        /// What is wrong.
        why: Box<VexError>,
    },
    /// A ConfigMap, or a key of one.
    #[error(transparent)]
    Input(#[from] inputs::Error),
    /// No candidate can be made of them.
    #[error(transparent)]
    Unusable(#[from] Unusable),
    /// The Kubernetes API.
    #[error("Kubernetes API: {0}")]
    Api(#[from] kube::Error),
}

impl Classified for Error {
    fn reason(&self) -> &'static str {
        match self {
            Self::Invalid(error) => error.reason(),
            Self::PolicyMissing(_) => "PolicyMissing",
            Self::InvalidRule(_) => "InvalidRule",
            Self::InvalidVex { .. } => "InvalidVex",
            Self::Input(error) => error.reason(),
            Self::Unusable(error) => error.reason(),
            Self::Api(_) => "ApiError",
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::PolicyMissing(_) | Self::InvalidRule(_) | Self::InvalidVex { .. } => Class::Waiting(WAIT),
            Self::Invalid(error) => error.class(),
            Self::Input(error) => error.class(),
            Self::Unusable(error) => error.class(),
            Self::Api(_) => Class::Transient,
        }
    }
}

/// Reads the policies and ConfigMaps, live.
pub async fn read(base: &BaseImage, validated: &ValidatedBaseImage, ctx: &Context) -> Result<Inputs, Error> {
    Ok(Inputs {
        policies: policies(base, validated, ctx).await?,
        build: build_inputs(base, validated, ctx).await?,
    })
}

async fn policies(
    base: &BaseImage,
    validated: &ValidatedBaseImage,
    ctx: &Context,
) -> Result<Vec<PolicySnapshot>, Error> {
    let api = Api::<ValidationPolicy>::namespaced(ctx.client.clone(), &validated.namespace);
    let mut snapshots = Vec::new();
    for reference in &base.spec.policy_refs {
        let missing = || Error::PolicyMissing(reference.name.clone());
        snapshots.push(PolicySnapshot {
            name: reference.name.clone(),
            spec: api.named(&reference.name).await?.ok_or_else(missing)?.spec,
            files: BTreeMap::new(),
        });
    }
    // Every rule must be usable before anything is built; it may ask about the checks of all policies.
    read_rules(&snapshots).map_err(Error::InvalidRule)?;
    for policy in &mut snapshots {
        for check in &policy.spec.checks {
            let mut own = check.inline_files();
            for (name, reference, default) in check.file_references() {
                let text = inputs::config_map_key(ctx, &validated.namespace, reference, default).await?;
                check_vex(&policy.name, check, reference, &text)?;
                own.insert(name, text);
            }
            if !own.is_empty() {
                policy.files.insert(check.name.clone(), own);
            }
        }
    }
    Ok(snapshots)
}

/// Every VEX document must be readable too: its check would only come to an error.
fn check_vex(policy: &str, check: &Check, reference: &KeyRef, text: &str) -> Result<(), Error> {
    if !check.kind.spec().vex().contains(reference) {
        return Ok(());
    }
    vex::parse(text.as_bytes()).map(drop).map_err(|why| Error::InvalidVex {
        policy: policy.to_owned(),
        check: check.name.clone(),
        config_map: reference.name.clone(),
        why: Box::new(why),
    })
}

async fn build_inputs(base: &BaseImage, validated: &ValidatedBaseImage, ctx: &Context) -> Result<BuildInputs, Error> {
    let Some(customize) = &base.spec.customize else {
        return Ok(BuildInputs::default());
    };
    let mut ca_certificates = Vec::new();
    for certificate in &customize.ca_certificates {
        let reference: &KeyRef = &certificate.config_map_ref;
        ca_certificates.push(inputs::config_map_key(ctx, &validated.namespace, reference, "ca.crt").await?);
    }
    Ok(BuildInputs {
        ca_certificates,
        remove_users: customize
            .users
            .as_ref()
            .map(|users| users.remove.clone())
            .unwrap_or_default(),
        containerfile: customize.containerfile.clone().unwrap_or_default(),
    })
}
