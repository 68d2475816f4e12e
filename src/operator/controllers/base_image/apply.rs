//! Carries out the decision about a BaseImage: makes candidates. The channel tag is written in `channel.rs`, the status by the
//! driver; nothing else of this controller writes.

use super::decision::Action;
use crate::{
    api::{BaseImage, ImageCandidate, refs::LABEL_BASE_IMAGE},
    controllers::{
        context::Context,
        desired,
        writes::{self, Created},
    },
    runtime::metrics::Kind,
};
use kube::ResourceExt;

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// The candidate that was made.
    pub created: Option<String>,
}

pub use crate::controllers::writes::WriteError as Error;

/// Carries out the actions.
pub async fn apply(actions: &[Action], base: &BaseImage, ctx: &Context) -> Result<Applied, Error> {
    let mut applied = Applied::default();
    for action in actions {
        match action {
            Action::CreateCandidate(candidate) => applied.created = create(ctx, base, candidate).await?,
        }
    }
    Ok(applied)
}

async fn create(ctx: &Context, base: &BaseImage, candidate: &ImageCandidate) -> Result<Option<String>, Error> {
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
