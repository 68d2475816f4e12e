//! Looks at what a BaseImage refers to: policies, ConfigMaps, its candidates, and upstream's digest. Reads only.
//!
//! Upstream is asked at most once an interval (a HEAD, never a counted pull); in between the last answer is used.

use super::{State, findings, validate::Wish};
use crate::{
    api::{
        BaseImage, ImageCandidate, ValidationPolicy, ValidationPolicySpec,
        image_candidate::{BuildInputs, PolicySnapshot},
        refs::{KeyRef, LABEL_BASE_IMAGE},
        validation_policy::Check,
    },
    controllers::{
        error::{Class, Classified, WAIT},
        history::Recorded,
        inputs,
    },
    domain::{
        digest::Digest,
        rules::{Expression, InvalidExpression},
        vex::{self, VexError},
    },
    registry,
};
use kube::{Api, ResourceExt, api::ListParams};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
    time::Instant,
};

/// What a BaseImage depends on.
#[derive(Debug)]
pub struct Observed {
    /// What upstream's tag points to.
    pub upstream: Digest,
    /// The policies, whole.
    pub policies: Vec<PolicySnapshot>,
    /// The customisation with its ConfigMaps read.
    pub build: BuildInputs,
    /// All candidates of this BaseImage.
    pub candidates: Vec<ImageCandidate>,
    /// The greatest sequence that its history knows.
    pub last_sequence: u64,
}

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
    /// A ConfigMap, Secret, or a key of one.
    #[error(transparent)]
    Input(#[from] inputs::Error),
    /// The tag does not exist.
    #[error("{image} does not exist at the registry: check source.image and source.track.tag")]
    TagMissing {
        /// `repository:tag`.
        image: String,
    },
    /// The registry did not answer as it should.
    #[error("upstream registry: {0}")]
    Registry(#[from] registry::Error),
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
            Self::TagMissing { .. } => "TagMissing",
            Self::Registry(error) => error.reason(),
            Self::Api(_) => "ApiError",
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::PolicyMissing(_) | Self::InvalidRule { .. } | Self::InvalidVex { .. } | Self::TagMissing { .. } => {
                Class::Waiting(WAIT)
            }
            Self::Input(error) => error.class(),
            Self::Registry(error) => error.retry_after().map_or(Class::Transient, Class::Waiting),
            Self::Api(_) => Class::Transient,
        }
    }
}

/// When upstream was last asked, per object, and what it said. A restart asks once more; nothing depends on it.
#[derive(Debug, Default)]
pub struct Polls(Mutex<HashMap<String, Poll>>);

#[derive(Debug, Clone)]
struct Poll {
    at: Instant,
    image: String,
    digest: Digest,
}

const MAX_POLLS: usize = 100_000;

impl Polls {
    fn fresh(&self, uid: &str, image: &str, interval: std::time::Duration) -> Option<Digest> {
        let polls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        polls
            .get(uid)
            .filter(|poll| poll.image == image && poll.at.elapsed() < interval)
            .map(|poll| poll.digest.clone())
    }

    fn remember(&self, uid: &str, image: String, digest: Digest) {
        let mut polls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if polls.len() >= MAX_POLLS {
            polls.clear();
        }
        polls.insert(
            uid.to_owned(),
            Poll {
                at: Instant::now(),
                image,
                digest,
            },
        );
    }
}

/// Reads the rest: candidates and history are known already.
pub async fn observe(
    base: &BaseImage,
    wish: &Wish,
    state: &State,
    candidates: Vec<ImageCandidate>,
    recorded: &Recorded,
) -> Result<Observed, Error> {
    let policies = policies(base, wish, state).await?;
    let build = build_inputs(base, wish, state).await?;
    let interval = findings::interval(base, &candidates, wish.interval);
    let upstream = upstream(base, wish, interval, state).await?;
    Ok(Observed {
        upstream,
        policies,
        build,
        candidates,
        last_sequence: recorded.decided.history.counters().last,
    })
}

async fn upstream(
    base: &BaseImage,
    wish: &Wish,
    interval: std::time::Duration,
    state: &State,
) -> Result<Digest, Error> {
    let uid = base.uid().unwrap_or_default();
    let missing = || Error::TagMissing {
        image: format!("{}:{}", wish.source, wish.tag),
    };
    let image = wish.source.tagged(&wish.tag).map_err(|_| missing())?;
    if let Some(digest) = state.polls.fresh(&uid, &image.to_string(), interval) {
        return Ok(digest);
    }
    let secret = base.spec.source.pull_secret_ref.as_ref();
    let auth = inputs::registry_auth(&state.ctx, &wish.namespace, secret).await?;
    let found = state.ctx.registry.head(&image, &auth).await?.ok_or_else(missing)?;
    state.polls.remember(&uid, image.to_string(), found.digest.clone());
    Ok(found.digest)
}

async fn policies(base: &BaseImage, wish: &Wish, state: &State) -> Result<Vec<PolicySnapshot>, Error> {
    let api = Api::<ValidationPolicy>::namespaced(state.ctx.client.clone(), &wish.namespace);
    let mut snapshots = Vec::new();
    for reference in &base.spec.policy_refs {
        let missing = || Error::PolicyMissing(reference.name.clone());
        let spec = api.get_opt(&reference.name).await?.ok_or_else(missing)?.spec;
        check_rules(&reference.name, &spec)?;
        let policy = reference.name.clone();
        let mut files = BTreeMap::new();
        for check in &spec.checks {
            let mut own = check.inline_files();
            for (name, reference, default) in check.file_references() {
                let text = inputs::config_map_key(&state.ctx, &wish.namespace, reference, default).await?;
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

async fn build_inputs(base: &BaseImage, wish: &Wish, state: &State) -> Result<BuildInputs, Error> {
    let Some(customize) = &base.spec.customize else {
        return Ok(BuildInputs::default());
    };
    let mut ca_certificates = Vec::new();
    for certificate in &customize.ca_certificates {
        let reference: &KeyRef = &certificate.config_map_ref;
        ca_certificates.push(inputs::config_map_key(&state.ctx, &wish.namespace, reference, "ca.crt").await?);
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

/// All candidates of this BaseImage.
pub async fn candidates(base: &BaseImage, wish: &Wish, state: &State) -> Result<Vec<ImageCandidate>, Error> {
    let params = ListParams::default().labels(&format!("{LABEL_BASE_IMAGE}={}", base.name_any()));
    Ok(
        Api::<ImageCandidate>::namespaced(state.ctx.client.clone(), &wish.namespace)
            .list(&params)
            .await?
            .items,
    )
}
