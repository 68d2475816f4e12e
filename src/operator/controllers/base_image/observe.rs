//! Looks at what a BaseImage refers to: policies, ConfigMaps, its candidates, and upstream's digest. Reads only.
//!
//! Upstream is asked at most once an interval (a HEAD, never a counted pull); in between the last answer is used.
//! Candidates are read from the API server's cache, at least as new as the change that woke us; before one is made, they are
//! read again from the store behind it ([`candidates_now`]), so that no sequence number is ever given twice.

use super::{
    State, findings,
    polls::{Answer, Look, Pace, Question},
};
use crate::{
    api::{BaseImage, ImageCandidate, base_image::Release, refs::LABEL_BASE_IMAGE},
    controllers::{
        context::Context,
        desired::{self, ValidatedBaseImage, is_of, spec::Inputs},
        error::{Class, Classified, WAIT, one_line},
        history::Recorded,
        inputs,
    },
    domain::digest::Digest,
    readable::Guarded,
    registry,
};
use kube::{
    Api, ResourceExt,
    api::{ListParams, VersionMatch},
};
use std::{
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

/// Something could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What the BaseImage refers to.
    #[error(transparent)]
    Inputs(#[from] desired::inputs::Error),
    /// A Secret.
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
            Self::Inputs(error) => error.reason(),
            Self::Input(error) => error.reason(),
            Self::TagMissing { .. } => "TagMissing",
            Self::Registry(error) => error.reason(),
            Self::Api(_) => "ApiError",
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::Inputs(error) => error.class(),
            Self::TagMissing { .. } => Class::Waiting(WAIT),
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
            Self::Inputs(_) | Self::Input(_) | Self::Api(_) => false,
        }
    }
}

/// Reads the rest: candidates and history are known already.
pub async fn observe(
    base: &BaseImage,
    validated: &ValidatedBaseImage,
    state: &State,
    candidates: Vec<ImageCandidate>,
    recorded: &Recorded,
) -> Result<Observed, Error> {
    let inputs = desired::inputs::read(base, validated, &state.ctx).await?;
    let interval = findings::interval(base, &candidates, validated.interval);
    let (upstream, good_for) = upstream(base, validated, interval, state).await?;
    Ok(Observed {
        upstream,
        good_for,
        inputs,
        candidates,
        last_sequence: recorded.decided.history.counters().last,
        released: recorded.decided.released.clone(),
    })
}

async fn upstream(
    base: &BaseImage,
    validated: &ValidatedBaseImage,
    interval: Duration,
    state: &State,
) -> Result<(Digest, Duration), Error> {
    let missing = || Error::TagMissing {
        image: format!("{}:{}", validated.source, validated.tag),
    };
    let image = validated.source.tagged(&validated.tag).map_err(|_| missing())?;
    let secret = base.spec.source.pull_secret_ref.as_ref();
    let question = Question::new(image.clone(), &validated.namespace, secret);
    let pace = Pace {
        interval,
        seed: super::seed(base),
    };
    let (answer, good_for) = match state
        .polls
        .look(&question, pace, remembered(base, validated), Instant::now())
    {
        Look::Use(answer, good_for) => (answer, good_for),
        Look::Ask => {
            let auth = inputs::registry_auth(&state.ctx, &validated.namespace, secret)
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
fn remembered<'a>(base: &'a BaseImage, validated: &ValidatedBaseImage) -> Option<&'a Digest> {
    let status = base.status.as_ref()?;
    let same = status.source.as_deref() == Some(&format!("{}:{}", validated.source, validated.tag));
    status
        .upstream
        .as_ref()
        .filter(|_| same)
        .map(|upstream| &upstream.digest)
}

/// The candidates, at least as new as the change that was noticed last. Without one to go by they are read consistently.
pub async fn candidates(
    base: &BaseImage,
    validated: &ValidatedBaseImage,
    state: &State,
) -> Result<Vec<ImageCandidate>, Error> {
    let version = state.noticed.version(&validated.namespace, &base.name_any());
    let params = match &version {
        Some(version) => ListParams::default().at(version).matching(VersionMatch::NotOlderThan),
        None => ListParams::default(),
    };
    list(base, validated, &state.ctx, params).await
}

/// The candidates as they are stored now: read before one is made.
pub async fn candidates_now(
    base: &BaseImage,
    validated: &ValidatedBaseImage,
    ctx: &Context,
) -> Result<Vec<ImageCandidate>, Error> {
    list(base, validated, ctx, ListParams::default()).await
}

/// Those that this very object controls: a label proves nothing, and one of the same name may have been here before.
async fn list(
    base: &BaseImage,
    validated: &ValidatedBaseImage,
    ctx: &Context,
    params: ListParams,
) -> Result<Vec<ImageCandidate>, Error> {
    let params = params.labels(&format!("{LABEL_BASE_IMAGE}={}", base.name_any()));
    // No page size: a read at a version is served from the cache only without one. `history` bounds what is there.
    let api = Api::<Guarded<ImageCandidate>>::namespaced(ctx.client.clone(), &validated.namespace);
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
