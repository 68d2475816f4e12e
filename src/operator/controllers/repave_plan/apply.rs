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

/// Carries out the actions; gives back the runs that are there now because of them.
pub async fn apply(ctx: &Context, actions: &[Action]) -> Result<Vec<RepaveRun>, ApplyError> {
    let mut made = Vec::with_capacity(actions.len());
    for action in actions {
        match action {
            Action::CreateRun(run) => made.push(create(ctx, run).await?),
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
