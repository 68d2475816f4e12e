//! The controller of a `RepaveRun`: moves the workloads of one plan to one release, wave by wave.
//!
//! | step | file |
//! |---|---|
//! | validate (pure) | `validate` |
//! | observe (reads only) | `observe`, with `estate` (workloads), `images` (layers), `gate` (may it start anything?), `others` (runs of other plans) |
//! | plan (pure) | `decide` (all of it, once): `consumption` `target`, `judge` and `state` (one state per target), `sightings` (how long it has been so), `progress` (waves), `plan` (actions), `patch` (the one write) |
//! | apply (writes) | `apply`; `refusals` (what the API server refused) |
//! | summarize (pure) | `status`, `rows` |
//! | all of them, once | `step`, with `memory` (what a restart may lose) |
//!
//! The inventory shows what is in question; that is read live, and everything is derived from it: nothing that a restart
//! could lose decides about a roll-out. A finished run begins again when something that it can move is outdated again, or
//! when a roll-out of its own that it has not judged is seen again.

pub mod apply;
pub mod clock;
mod concerns;
pub mod consumption;
pub mod decide;
pub mod estate;
mod found;
pub mod gate;
pub mod images;
pub mod judge;
pub mod memory;
pub mod observe;
pub mod others;
pub mod patch;
pub mod places;
pub mod plan;
mod pods;
pub mod progress;
pub mod refusals;
pub mod rows;
pub mod seen;
pub mod set_back;
pub mod sightings;
pub mod soaks;
pub mod state;
pub mod status;
pub mod steady;
pub mod step;
pub mod target;
#[cfg(test)]
mod tests;
pub mod today;
pub mod undone;
pub mod validate;

pub use found::assemble;
pub use images::Images;

use self::memory::Memory;
use super::{
    context::Context,
    driver::{Outcome, Requeue},
    gauges, paging,
    reconciler::{self, Failure, Steps},
    wakes::{Wakes, those},
};
use crate::api::{BaseImage, RepavePlan, RepaveRun, RepaveRunStatus};
use crate::controllers::named::Named as _;
use crate::readable::Meta;
use jiff::Timestamp;
use kube::{Api, ResourceExt};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

struct Runs {
    ctx: Context,
    images: Images,
    memory: Memory,
}

/// Runs the controller until `stop` is cancelled; turns that have begun are finished.
pub async fn run(ctx: Context, images: Images, memory: Memory, stop: CancellationToken) {
    let wakes = Wakes::of(&ctx);
    let (of_plan, of_base) = (wakes.store(), wakes.store());
    let estate = concerns::of_runs(&ctx, wakes.store());
    let wakes = wakes
        .also(estate)
        .watches(
            Api::<Meta<RepavePlan>>::all(ctx.watches.clone()),
            paging::watch(),
            move |plan| {
                those(&of_plan, plan.namespace().as_deref(), |run: &RepaveRun| {
                    !is_finished(run) && run.spec.plan == plan.name_any()
                })
            },
        )
        .watches(
            Api::<Meta<BaseImage>>::all(ctx.watches.clone()),
            paging::watch(),
            move |base| {
                those(&of_base, base.namespace().as_deref(), |run: &RepaveRun| {
                    !is_finished(run) && run.spec.base_image == base.name_any()
                })
            },
        );
    let counted = gauges::workloads(ctx.metrics.clone(), wakes.store());
    tokio::select! {
        () = reconciler::run(Runs { ctx, images, memory }, wakes, stop) => {}
        () = counted => {}
    }
}

fn is_finished(run: &RepaveRun) -> bool {
    run.status.as_ref().is_some_and(|status| status.finished.is_some())
}

impl Steps for Runs {
    type Resource = RepaveRun;
    /// What happens in the estate wakes a run too.
    const GAP: Duration = Duration::from_secs(1);
    const LIMIT: Duration = Duration::from_secs(600);

    fn ctx(&self) -> &Context {
        &self.ctx
    }

    async fn steps(&self, run: &RepaveRun) -> Result<Outcome<RepaveRunStatus>, Failure> {
        if self.is_past(run).await? {
            self.memory.forget(&run.uid().unwrap_or_default());
            return Ok(unchanged(run, Requeue::AwaitChange));
        }
        let outcome = Box::pin(step::step(&self.ctx, &self.images, &self.memory, run)).await;
        gauges::repaved(run, &outcome.status, &self.ctx.metrics, self.ctx.now());
        Ok(outcome)
    }

    fn on_failure(run: &RepaveRun, failure: &Failure, now: Timestamp) -> Outcome<RepaveRunStatus> {
        if is_finished(run) {
            // What it came to stays true, whether or not it can be looked at again.
            return unchanged(run, failure.class.into());
        }
        reconciler::conditions_only(run, failure, now)
    }
}

impl Runs {
    /// Whether a run has finished and its target is not what its base image has released any more: then it is history.
    async fn is_past(&self, run: &RepaveRun) -> Result<bool, Failure> {
        if !is_finished(run) {
            return Ok(false);
        }
        let api: Api<BaseImage> = Api::namespaced(self.ctx.client.clone(), &run.namespace().unwrap_or_default());
        let base = api
            .named(&run.spec.base_image)
            .await
            .map_err(observe::ObserveError::Api)?;
        let released = base.and_then(|base| base.status).and_then(|status| status.released);
        Ok(
            released
                .is_none_or(|released| released.digest != run.spec.digest || released.sequence != run.spec.sequence),
        )
    }
}

/// Nothing to do and nothing to say.
fn unchanged(run: &RepaveRun, next: Requeue) -> Outcome<RepaveRunStatus> {
    Outcome {
        status: run.status.clone().unwrap_or_default(),
        next,
        events: Vec::new(),
    }
}
