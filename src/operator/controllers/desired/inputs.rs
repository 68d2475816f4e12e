//! Reads what a BaseImage refers to and what decides about a build: its policies and ConfigMaps, live. Reads only.
//!
//! Must not let anything through that a check could only fail at later: a rule or a VEX document that cannot be read.

use super::{ValidatedBaseImage, spec::Inputs};
use crate::{
    api::{
        BaseImage, ValidationPolicy, ValidationPolicySpec,
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
    domain::{
        rules::{Expression, InvalidExpression},
        vex::{self, VexError},
    },
};
use kube::Api;
use std::collections::BTreeMap;

/// Something could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A policy is missing.
    #[error("ValidationPolicy {0:?} is not in this namespace: create it, or change spec.policyRefs")]
    PolicyMissing(String),
    /// A rule of a policy cannot be read.
    #[error("ValidationPolicy {policy:?}, rule {rule:?}: {why}. Nothing is built before it is corrected")]
    InvalidRule {
        /// The policy.
        policy: String,
        /// The rule.
        rule: String,
        /// What is wrong.
        why: InvalidExpression,
    },
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
    /// The Kubernetes API.
    #[error("Kubernetes API: {0}")]
    Api(#[from] kube::Error),
}

impl Classified for Error {
    fn reason(&self) -> &'static str {
        match self {
            Self::PolicyMissing(_) => "PolicyMissing",
            Self::InvalidRule { .. } => "InvalidRule",
            Self::InvalidVex { .. } => "InvalidVex",
            Self::Input(error) => error.reason(),
            Self::Api(_) => "ApiError",
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::PolicyMissing(_) | Self::InvalidRule { .. } | Self::InvalidVex { .. } => Class::Waiting(WAIT),
            Self::Input(error) => error.class(),
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
        let spec = api.named(&reference.name).await?.ok_or_else(missing)?.spec;
        check_rules(&reference.name, &spec)?;
        let policy = reference.name.clone();
        let mut files = BTreeMap::new();
        for check in &spec.checks {
            let mut own = check.inline_files();
            for (name, reference, default) in check.file_references() {
                let text = inputs::config_map_key(ctx, &validated.namespace, reference, default).await?;
                check_vex(&policy, check, reference, &text)?;
                own.insert(name, text);
            }
            if !own.is_empty() {
                files.insert(check.name.clone(), own);
            }
        }
        snapshots.push(PolicySnapshot {
            name: reference.name.clone(),
            spec,
            files,
        });
    }
    Ok(snapshots)
}

/// Every rule must be readable before anything is built.
fn check_rules(policy: &str, spec: &ValidationPolicySpec) -> Result<(), Error> {
    for rule in &spec.rules {
        Expression::parse(&rule.expression).map_err(|why| Error::InvalidRule {
            policy: policy.to_owned(),
            rule: rule.name.clone(),
            why,
        })?;
    }
    Ok(())
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
