//! Carries out a turn of a BaseImage, in this order: history, candidate, channel tag. The tag is written in `channel.rs`, the
//! history in `controllers/history`, the status by the driver; nothing else of this controller writes.

use super::{
    State, channel,
    decision::Action,
    polls::Pace,
    turn::{Rest, Turn},
};
use crate::{
    api::{BaseImage, ImageCandidate, refs::LABEL_BASE_IMAGE},
    controllers::{
        context::Context,
        desired::{self, ValidatedBaseImage},
        reconciler::Failure,
        writes::{self, Created, WriteError},
    },
    runtime::metrics::Kind,
};
use kube::ResourceExt;
use std::time::Duration;

/// What was done.
#[derive(Debug, Default)]
pub struct Applied {
    /// The candidate that was made.
    pub created: Option<String>,
    /// Why it could not be made: then the channel tag was not looked at.
    pub failed: Option<Failure>,
    /// What came of the channel tag, and when to look at it again.
    pub channel: Option<(channel::Outcome, Duration)>,
}

/// Carries out the turn: the history, then a candidate, then the channel tag.
pub async fn apply(base: &BaseImage, v: &ValidatedBaseImage, state: &State, turn: &Turn) -> Result<Applied, Failure> {
    let mut applied = Applied::default();
    let Turn::Owner(owner) = turn else {
        return Ok(applied);
    };
    owner.history.write(&state.ctx, base).await?;
    let Rest::Decided { decision, order, .. } = &owner.rest else {
        return Ok(applied);
    };
    for Action::CreateCandidate(candidate) in &decision.actions {
        match create(&state.ctx, base, candidate).await {
            Ok(created) => applied.created = created,
            Err(error) => {
                applied.failed = Some(error.into());
                return Ok(applied);
            }
        }
    }
    let pace = Pace {
        interval: v.interval,
        seed: super::seed(base),
    };
    let asserted = channel::assert(&state.ctx, &state.channel, base, order.clone(), pace).await;
    applied.channel = Some(asserted);
    Ok(applied)
}

async fn create(ctx: &Context, base: &BaseImage, candidate: &ImageCandidate) -> Result<Option<String>, WriteError> {
    // The name says all that decides about it; what is there must belong to this very BaseImage.
    let ours = |there: &ImageCandidate| is_the_same(there, candidate, base);
    match writes::create_once(ctx, Kind::ImageCandidate, candidate, ours).await? {
        Created::Made(made) => Ok(Some(made.name_any())),
        // The answer to an earlier create was lost, or the list was old.
        Created::There(_) => Ok(None),
    }
}

fn is_the_same(there: &ImageCandidate, candidate: &ImageCandidate, base: &BaseImage) -> bool {
    let label = |of: &ImageCandidate| of.labels().get(LABEL_BASE_IMAGE).cloned();
    desired::is_of(there, base) && there.spec == candidate.spec && label(there) == label(candidate)
}
