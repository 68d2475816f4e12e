//! Makes the runs of a plan. A run that is there already is no failure: its name says plan, base image, digest and sequence.

use super::plan::Action;
use crate::{
    api::RepaveRun,
    controllers::{
        context::Context,
        writes::{self, Created},
    },
    runtime::metrics::Kind,
};
use kube::ResourceExt;

pub use crate::controllers::writes::WriteError as ApplyError;

/// What came of the actions.
#[derive(Debug, Default)]
pub struct Made {
    /// The runs that are there now because of them.
    pub created: Vec<RepaveRun>,
}

/// Carries out the actions.
pub async fn apply(ctx: &Context, actions: &[Action]) -> Result<Made, ApplyError> {
    let mut made = Made::default();
    for action in actions {
        match action {
            Action::CreateRun(run) => made.created.push(create(ctx, run).await?),
            Action::Reopen { namespace, name } => {
                // Nobody listening means that the runs have no controller yet; then this is asked again.
                if ctx.reopened.send((namespace.clone(), name.clone())).is_err() {
                    tracing::debug!(name, "no controller of runs yet");
                }
            }
        }
    }
    Ok(made)
}

async fn create(ctx: &Context, run: &RepaveRun) -> Result<RepaveRun, ApplyError> {
    let ours =
        |there: &RepaveRun| there.spec.digest == run.spec.digest && there.owner_references() == run.owner_references();
    let created = writes::create_once(ctx, Kind::RepaveRun, run, ours).await?;
    if matches!(created, Created::Made(_)) {
        tracing::info!(name = %run.name_any(), "run created");
    }
    Ok(created.into_object())
}
