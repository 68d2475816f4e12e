//! Looks at what a BaseImage refers to: policies, ConfigMaps, its candidates, and upstream's digest. Reads only.
//!
//! Upstream is asked at most once an interval (a HEAD, never a counted pull); in between the last answer is used.
//! Candidates are read page by page, at least as new as the change that woke us; before one is made, they are
//! read again as they are stored then ([`candidates_now`]), so that no sequence number is ever given twice.

use super::{
    State,
    facts::{Error, Facts, Failed, MAX_CANDIDATES, Outside, Seen},
    findings,
    polls::{Answer, Look, Pace, Question},
    turn::{Owner, Rest, Turn},
};
use crate::{
    api::{BaseImage, ImageCandidate, refs::LABEL_BASE_IMAGE},
    controllers::{
        context::Context,
        desired::{
            self, ValidatedBaseImage, is_of,
            owner::{self, Claim},
        },
        error::{Class, one_line},
        history, inputs,
        lean::shed_inputs,
        paging::{self, ListError},
        reconciler::{Confirmed, Failure},
    },
    domain::digest::Digest,
    readable::Guarded,
};
use kube::{
    Api, ResourceExt,
    api::{ListParams, VersionMatch},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// Candidates with the label of one BaseImage that are looked through, whosever they are.
const MAX_LABELLED: usize = 20_000;
/// How soon a list that is still being read is asked again.
const LISTING: Duration = Duration::from_secs(1);

/// Reads what a BaseImage depends on, as far as this turn asks for it.
pub async fn observe(base: &BaseImage, validated: &ValidatedBaseImage, state: &State) -> Result<Seen, Failure> {
    let rivals = state.ctx.base_images.rivals(base).ok_or_else(not_listed)?;
    if let Some(taken) = owner::taken(&Claim::of(base), &rivals) {
        return Ok(Seen::NotOwner(taken));
    }
    let candidates = candidates(base, validated, state).await;
    let past = history::read(&state.ctx, &state.rebuilds, base, &validated.production).await?;
    let candidates = match candidates {
        Ok(candidates) => candidates,
        // What is released or taken back stands in the history: that is announced whatever cannot be read beside it.
        Err(error) => {
            let history = past.next(base, &[], state.ctx.now());
            if history.is_announced(base) {
                return Err(error.into());
            }
            return Ok(Seen::Owner(Box::new(Facts {
                candidates: Vec::new(),
                past: history.into_past(),
                outside: None,
            })));
        }
    };
    let history = past.next(base, &candidates, state.ctx.now()); // pure
    let outside = if history.is_announced(base) {
        let outside = outside(base, validated, state, &candidates).await;
        Some(outside.map_err(Failed::to_observe))
    } else {
        None
    };
    Ok(Seen::Owner(Box::new(Facts {
        candidates,
        past: history.into_past(),
        outside,
    })))
}

/// Where a candidate is to be made, the candidates are read once more: what comes from a cache may miss one, and its number is
/// given once.
pub async fn confirm(
    base: &BaseImage,
    validated: &ValidatedBaseImage,
    ctx: &Context,
    turn: Turn,
) -> Result<Confirmed<State>, Failure> {
    let Turn::Owner(owner) = turn else {
        return Ok(Confirmed::Stands(turn));
    };
    let Owner { history, rest } = *owner;
    match rest {
        Rest::Decided { observed, decision, .. } if !decision.actions.is_empty() => {
            Ok(Confirmed::SeenAnew(Seen::Owner(Box::new(Facts {
                candidates: candidates_now(base, validated, ctx).await?,
                past: history.into_past(),
                outside: Some(Ok(Outside {
                    upstream: observed.upstream,
                    good_for: observed.good_for,
                    inputs: observed.inputs,
                })),
            }))))
        }
        Rest::AfterTheNews | Rest::Failed(_) | Rest::Decided { .. } => {
            Ok(Confirmed::Stands(Turn::Owner(Box::new(Owner { history, rest }))))
        }
    }
}

async fn outside(
    base: &BaseImage,
    validated: &ValidatedBaseImage,
    state: &State,
    candidates: &[ImageCandidate],
) -> Result<Outside, Error> {
    let inputs = desired::inputs::read(base, validated, &state.ctx).await?;
    let interval = findings::interval(base, candidates, validated.interval);
    let (upstream, good_for) = upstream(base, validated, interval, state).await?;
    Ok(Outside {
        upstream,
        good_for,
        inputs,
    })
}

pub fn not_listed() -> Failure {
    Failure {
        reason: "Starting",
        class: Class::Waiting(LISTING),
        message: "the list of all BaseImages is still being read: nothing is decided before it is complete".to_owned(),
    }
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
async fn candidates(
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

/// The candidates as they are stored now.
async fn candidates_now(
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
    let api = Api::<Guarded<ImageCandidate>>::namespaced(ctx.client.clone(), &validated.namespace);
    let mut own = 0_usize;
    let mine = |guarded: Guarded<ImageCandidate>| match guarded.0 {
        Ok(mut candidate) => {
            shed_inputs(&mut candidate);
            let is_own = is_of(&candidate, base);
            own += usize::from(is_own);
            (is_own && own <= MAX_CANDIDATES).then_some(candidate)
        }
        Err(invalid) => {
            tracing::warn!(name = ?invalid.metadata.name, error = one_line(&invalid), "ImageCandidate cannot be read: left out");
            None
        }
    };
    let found = paging::list(&api, params, MAX_LABELLED, mine).await;
    match found {
        Ok(_) if own > MAX_CANDIDATES => Err(Error::TooManyCandidates(base.name_any())),
        Ok(found) => Ok(found),
        Err(ListError::TooMany { .. }) => Err(Error::TooManyCandidates(base.name_any())),
        Err(error) => Err(error.into()),
    }
}
