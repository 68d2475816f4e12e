//! Pruning: deletes what `BaseImage.spec.history` does not keep. Runs beside the BaseImage's own controller, writes no status,
//! and never holds anything up.
//!
//! What is deleted is decided in [`crate::domain::prune`], a few objects at a look; the history of releases is not pruned
//! here. Looked at when a BaseImage changes, and once an hour.

mod apply;
mod facts;
mod observe;
#[cfg(test)]
mod tests;
mod usage;

use super::{
    context::Context,
    driver::{self, DriverError},
    error::one_line,
    gauges, paging,
};
use crate::readable;
use crate::{api::BaseImage, domain::prune};
use futures::StreamExt as _;
use kube::{
    Api, ResourceExt as _,
    runtime::{
        Controller,
        controller::{Action, Config},
        reflector::Store,
    },
};
use std::{collections::BTreeSet, future::Future, sync::Arc, time::Duration};

/// How often a BaseImage that does not change is looked at.
const PERIOD: Duration = Duration::from_secs(3600);
/// How soon the next few are deleted.
const MORE: Duration = Duration::from_secs(20);
/// How soon after a failure.
const AFTER_FAILURE: Duration = Duration::from_secs(300);
/// One look takes no longer; what it did not come to is done at the next one.
const LIMIT: Duration = Duration::from_secs(120);

type Guarded = readable::Guarded<BaseImage>;

struct State {
    ctx: Context,
    bases: Store<Guarded>,
    told: apply::Told,
}

/// Runs until `shutdown` resolves.
pub async fn run(ctx: Context, shutdown: impl Future<Output = ()> + Send + Sync + 'static) {
    let controller = Controller::new(Api::<Guarded>::all(ctx.watches.clone()), paging::watch());
    let measured = gauges::releases(ctx.clone(), controller.store());
    let state = Arc::new(State {
        ctx,
        bases: controller.store(),
        told: apply::Told::default(),
    });
    let pruned = controller
        .with_config(Config::default().concurrency(2))
        .graceful_shutdown_on(shutdown)
        .run(
            reconcile,
            |seen, error, state| driver::on_guarded_error(&seen, error, &state.ctx),
            state,
        )
        .for_each(|_| std::future::ready(()));
    tokio::select! {
        () = pruned => {}
        () = measured => {}
    }
}

async fn reconcile(seen: Arc<Guarded>, state: Arc<State>) -> Result<Action, DriverError> {
    let Some(base) = driver::readable(&seen) else {
        return Ok(Action::await_change());
    };
    // A base image that is going takes its candidates along.
    if base.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let next = match tokio::time::timeout(LIMIT, Box::pin(look(base, &state))).await {
        Ok(Ok(next)) => next,
        Ok(Err(error)) => {
            tracing::warn!(base_image = base.name_any(), error = one_line(&error), "not pruned");
            AFTER_FAILURE
        }
        Err(_) => AFTER_FAILURE,
    };
    Ok(Action::requeue(next))
}

/// One look at one BaseImage; says when the next one is due.
async fn look(seen: &BaseImage, state: &State) -> Result<Duration, observe::Error> {
    let Some(observed) = observe::observe(&state.ctx, seen).await? else {
        return Ok(PERIOD);
    };
    let others = others(seen, &state.bases);
    let mut facts = facts::facts(&observed, &others); // pure
    if prune::asks_for_use(&facts) {
        facts.in_use = usage::in_use(&state.ctx).await;
    }
    let pruning = prune::prune(&facts); // pure
    apply::apply(&state.ctx, &observed.base, &pruning.actions, &state.told).await?;
    Ok(if pruning.more { MORE } else { PERIOD })
}

/// Every repository that other base images name, of all namespaces.
fn others(base: &BaseImage, store: &Store<Guarded>) -> BTreeSet<String> {
    let bases = store.state();
    let readable = bases.iter().filter_map(|guarded| guarded.0.as_ref().ok());
    let others = readable.filter(|other| other.metadata.uid != base.metadata.uid);
    others.flat_map(facts::repositories).collect()
}
