//! Carries out the plan of a BaseImage. The only file of this controller that writes.

use super::plan::Action;
use crate::{
    api::ImageCandidate,
    controllers::{
        context::Context,
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
pub async fn apply(actions: Vec<Action>, ctx: &Context) -> Result<Applied, Error> {
    let mut applied = Applied::default();
    for action in actions {
        match action {
            Action::CreateCandidate(candidate) => applied.created = create(ctx, &candidate).await?,
        }
    }
    Ok(applied)
}

async fn create(ctx: &Context, candidate: &ImageCandidate) -> Result<Option<String>, Error> {
    let owners = candidate.owner_references();
    // The name says all that decides about it; what is there must belong to this very BaseImage.
    let ours = |there: &ImageCandidate| there.owner_references() == owners;
    match writes::create_once(ctx, Kind::ImageCandidate, candidate, ours).await? {
        Created::Made(made) => Ok(Some(made.name_any())),
        // The answer to an earlier create was lost, or the list was old.
        Created::There(_) => Ok(None),
    }
}
