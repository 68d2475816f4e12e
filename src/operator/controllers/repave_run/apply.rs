//! Carries out a plan: one PATCH an action, and nothing else is ever written to a workload.
//!
//! A patch that fails its own tests lost a race: somebody changed the workload in between. That is no failure; the next
//! reconcile sees what they did.

use super::plan::Action;
use crate::{
    controllers::{context::Context, error::one_line},
    domain::workload::{Workload, WorkloadKey},
};
use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api,
    api::{Patch, PatchParams},
};

/// Field manager of every change of a workload.
const ESTATE_MANAGER: &str = "repave/estate";

/// What came of one action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// It was written.
    Written,
    /// Somebody was faster.
    LostRace,
    /// The API refused or did not answer; whether it was written is not known.
    Refused(String),
}

/// Carries out the actions in order; one that is refused does not stop the others.
pub async fn apply(ctx: &Context, actions: &[Action]) -> Vec<(WorkloadKey, Applied)> {
    let mut results = Vec::with_capacity(actions.len());
    for action in actions {
        let applied = match action {
            Action::Move { workload, patch } => send(ctx, workload, patch).await,
            Action::RollBack {
                workload,
                patch,
                reason,
            } => {
                tracing::warn!(%workload, reason, "rolling back");
                send(ctx, workload, patch).await
            }
        };
        results.push((action.workload().clone(), applied));
    }
    results
}

async fn send(ctx: &Context, workload: &WorkloadKey, patch: &[super::patch::Op]) -> Applied {
    let patch = match serde_json::to_value(patch).and_then(serde_json::from_value) {
        Ok(patch) => Patch::<()>::Json(patch),
        Err(error) => return Applied::Refused(one_line(&error)),
    };
    let api: Api<Deployment> = Api::namespaced(ctx.client.clone(), &workload.namespace);
    let params = PatchParams {
        field_manager: Some(ESTATE_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    match api.patch(&workload.name, &params, &patch).await {
        Ok(written) => {
            tracing::debug!(%workload, "patched");
            // The watch shows it a moment later; the next look must not count without it.
            match Workload::from_deployment(&written) {
                Some(written) => ctx.inventory.learn(written),
                None => ctx.inventory.doubt(workload),
            }
            Applied::Written
        }
        Err(error) if lost_race(&error) => Applied::LostRace,
        Err(error) => {
            // It may have been written and only the answer is lost.
            ctx.inventory.doubt(workload);
            Applied::Refused(one_line(&error))
        }
    }
}

/// A conflict, a workload that is gone, or a failed test, which the API server answers with 422.
fn lost_race(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => {
            status.is_conflict() || status.is_not_found() || (status.code == 422 && status.message.contains("test"))
        }
        _ => false,
    }
}
