//! Looks at what a BaseImage refers to: policies, ConfigMaps, its candidates, and upstream's digest. Reads only.
//!
//! Upstream is asked at most once an interval (a HEAD, never a counted pull); in between the last answer is used.
//! Candidates are read from the API server's cache, at least as new as the change that woke us; before one is made, they are
//! read again from the store behind it ([`candidates_now`]), so that no sequence number is ever given twice.

use super::{
    State, findings,
    polls::{Answer, Look, Pace, Question},
    validate::Wish,
};
use crate::controllers::named::Named as _;
use crate::{
    api::{
        BaseImage, ImageCandidate, ValidationPolicy, ValidationPolicySpec,
        base_image::Release,
        image_candidate::{BuildInputs, PolicySnapshot},
        refs::{KeyRef, LABEL_BASE_IMAGE},
        validation_policy::Check,
    },
    controllers::{
        context::Context,
        error::{Class, Classified, WAIT, one_line},
        history::Recorded,
        inputs,
    },
    domain::{
        digest::Digest,
        rules::{Expression, InvalidExpression},
        vex::{self, VexError},
    },
    readable::Guarded,
    registry,
};
use kube::{
    Api, ResourceExt,
    api::{ListParams, VersionMatch},
};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// What a BaseImage depends on.
#[derive(Debug)]
pub struct Observed {
    /// What upstream's tag points to.
    pub upstream: Digest,
    /// How long that is good for.
    pub good_for: Duration,
    /// What decides about a build besides.
    pub inputs: Inputs,
    /// All candidates that were made for this very BaseImage.
    pub candidates: Vec<ImageCandidate>,
    /// The greatest sequence that its history knows.
    pub last_sequence: u64,
    /// What its history says is released.
    pub released: Option<Release>,
}

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
    Registry(#[source] Arc<registry::Error>),
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

impl Error {
    /// Whether it is upstream that could not be looked up, and not something that the BaseImage refers to.
    pub fn is_of_upstream(&self) -> bool {
        match self {
            Self::TagMissing { .. } | Self::Registry(_) => true,
            Self::PolicyMissing(_)
            | Self::InvalidRule { .. }
            | Self::InvalidVex { .. }
            | Self::Input(_)
            | Self::Api(_) => false,
        }
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
    let inputs = inputs(base, wish, &state.ctx).await?;
    let interval = findings::interval(base, &candidates, wish.interval);
    let (upstream, good_for) = upstream(base, wish, interval, state).await?;
    Ok(Observed {
        upstream,
        good_for,
        inputs,
        candidates,
        last_sequence: recorded.decided.history.counters().last,
        released: recorded.decided.released.clone(),
    })
}

/// Reads the policies and ConfigMaps, live.
pub async fn inputs(base: &BaseImage, wish: &Wish, ctx: &Context) -> Result<Inputs, Error> {
    Ok(Inputs {
        policies: policies(base, wish, ctx).await?,
        build: build_inputs(base, wish, ctx).await?,
    })
}

async fn upstream(
    base: &BaseImage,
    wish: &Wish,
    interval: Duration,
    state: &State,
) -> Result<(Digest, Duration), Error> {
    let missing = || Error::TagMissing {
        image: format!("{}:{}", wish.source, wish.tag),
    };
    let image = wish.source.tagged(&wish.tag).map_err(|_| missing())?;
    let secret = base.spec.source.pull_secret_ref.as_ref();
    let question = Question::new(image.clone(), &wish.namespace, secret);
    let pace = Pace {
        interval,
        seed: super::seed(base),
    };
    let (answer, good_for) = match state
        .polls
        .look(&question, pace, remembered(base, wish), Instant::now())
    {
        Look::Use(answer, good_for) => (answer, good_for),
        Look::Ask => {
            let auth = inputs::registry_auth(&state.ctx, &wish.namespace, secret)
                .await
                .inspect_err(|_| state.polls.given_up(&question))?;
            let found = state.ctx.registry.head(&image, &auth).await;
            let answer: Answer = found.map(|found| found.map(|it| it.digest)).map_err(Arc::new);
            state.polls.done(&question, answer.clone(), Instant::now());
            (answer, interval)
        }
    };
    let digest = answer.map_err(Error::Registry)?.ok_or_else(missing)?;
    Ok((digest, good_for))
}

/// What the status says of this very tag.
fn remembered<'a>(base: &'a BaseImage, wish: &Wish) -> Option<&'a Digest> {
    let status = base.status.as_ref()?;
    let same = status.source.as_deref() == Some(&format!("{}:{}", wish.source, wish.tag));
    status
        .upstream
        .as_ref()
        .filter(|_| same)
        .map(|upstream| &upstream.digest)
}

async fn policies(base: &BaseImage, wish: &Wish, ctx: &Context) -> Result<Vec<PolicySnapshot>, Error> {
    let api = Api::<ValidationPolicy>::namespaced(ctx.client.clone(), &wish.namespace);
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
                let text = inputs::config_map_key(ctx, &wish.namespace, reference, default).await?;
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

async fn build_inputs(base: &BaseImage, wish: &Wish, ctx: &Context) -> Result<BuildInputs, Error> {
    let Some(customize) = &base.spec.customize else {
        return Ok(BuildInputs::default());
    };
    let mut ca_certificates = Vec::new();
    for certificate in &customize.ca_certificates {
        let reference: &KeyRef = &certificate.config_map_ref;
        ca_certificates.push(inputs::config_map_key(ctx, &wish.namespace, reference, "ca.crt").await?);
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

/// The candidates, at least as new as the change that was noticed last. Without one to go by they are read consistently.
pub async fn candidates(base: &BaseImage, wish: &Wish, state: &State) -> Result<Vec<ImageCandidate>, Error> {
    let version = state.noticed.version(&wish.namespace, &base.name_any());
    let params = match &version {
        Some(version) => ListParams::default().at(version).matching(VersionMatch::NotOlderThan),
        None => ListParams::default(),
    };
    list(base, wish, &state.ctx, params).await
}

/// The candidates as they are stored now: read before one is made.
pub async fn candidates_now(base: &BaseImage, wish: &Wish, ctx: &Context) -> Result<Vec<ImageCandidate>, Error> {
    list(base, wish, ctx, ListParams::default()).await
}

/// Those that this very object controls: a label proves nothing, and one of the same name may have been here before.
async fn list(base: &BaseImage, wish: &Wish, ctx: &Context, params: ListParams) -> Result<Vec<ImageCandidate>, Error> {
    let params = params.labels(&format!("{LABEL_BASE_IMAGE}={}", base.name_any()));
    // No page size: a read at a version is served from the cache only without one. `history` bounds what is there.
    let api = Api::<Guarded<ImageCandidate>>::namespaced(ctx.client.clone(), &wish.namespace);
    let mut found = Vec::new();
    for guarded in api.list(&params).await?.items {
        match guarded.0 {
            Ok(candidate) if is_of(&candidate, base) => found.push(candidate),
            Ok(_) => {}
            Err(invalid) => {
                tracing::warn!(name = ?invalid.metadata.name, error = one_line(&invalid), "ImageCandidate cannot be read: left out");
            }
        }
    }
    Ok(found)
}

/// Whether the candidate was made for this very object.
pub fn is_of(candidate: &ImageCandidate, base: &BaseImage) -> bool {
    let mut owners = candidate.metadata.owner_references.iter().flatten();
    owners.any(|owner| owner.controller == Some(true) && Some(&owner.uid) == base.metadata.uid.as_ref())
}
