//! The controller of a `RepaveRun`: moves the workloads of one plan to one release, wave by wave.
//!
//! | step | file |
//! |---|---|
//! | all of them, in order | `look`, with `memory` (what a restart may lose) |
//! | validate (pure) | `validate` |
//! | observe (reads only) | `observe`, with `estate` (workloads), `images` (layers), `gate` (may it start anything?), `others` (runs of other plans) |
//! | decide (pure) | `decide`: `consumption`, `target`, `judge` and `state` (one state per target), `sightings` (how long it has been so), `progress` (waves), `plan` (actions), `patch` (the one write) |
//! | confirm (reads only) | `observe::refresh` and `undone`: what would be written, live |
//! | apply (writes) | `apply`; `refusals` (what the API server refused) |
//! | render (pure) | `status`, `rows` |
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
mod limit;
mod look;
pub mod memory;
pub mod observe;
mod orders;
pub mod others;
pub mod patch;
pub mod places;
pub mod plan;
mod pods;
pub mod progress;
pub mod refusals;
pub mod reopen;
pub mod rows;
pub mod seen;
pub mod set_back;
pub mod siblings;
pub mod sightings;
pub mod soaks;
pub mod state;
pub mod status;
pub mod steady;
pub mod target;
#[cfg(test)]
mod tests;
pub mod today;
pub mod undone;
pub mod validate;

pub use found::assemble;
pub use images::Images;

use self::{
    look::{Decision, Receipt, Seen},
    memory::Memory,
    validate::Validated,
};
use super::{
    context::Context,
    driver::Outcome,
    gauges, paging,
    reconciler::{self, Confirmed, Failure, Given, Reconciler},
    wakes::{Wakes, those},
};
use crate::api::{BaseImage, RepavePlan, RepaveRun, RepaveRunStatus};
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

impl Reconciler for Runs {
    type Resource = RepaveRun;
    type Validated = Validated;
    type Observed = Seen;
    type Decision = Decision;
    type Receipt = Receipt;
    /// What happens in the estate wakes a run too.
    const GAP: Duration = Duration::from_secs(1);
    const LIMIT: Duration = Duration::from_secs(600);

    fn ctx(&self) -> &Context {
        &self.ctx
    }

    fn validate(run: &RepaveRun) -> Result<Validated, Failure> {
        Ok(validate::validate(run)?)
    }

    async fn observe(&self, run: &RepaveRun, v: &Validated) -> Result<Seen, Failure> {
        look::observe(&self.ctx, &self.images, &self.memory, (run, v)).await
    }

    fn decide(_: &RepaveRun, v: &Validated, seen: Seen, given: Given<'_>) -> Decision {
        look::decide(v, seen, given.now)
    }

    async fn confirm(&self, run: &RepaveRun, v: &Validated, decision: Decision) -> Result<Confirmed<Self>, Failure> {
        look::confirm(&self.ctx, (&self.images, &self.memory), (run, v), decision).await
    }

    async fn apply(&self, run: &RepaveRun, _: &Validated, decision: &mut Decision) -> Result<Receipt, Failure> {
        Ok(Box::pin(look::apply(&self.ctx, run, decision)).await)
    }

    fn render(
        run: &RepaveRun,
        _: &Validated,
        decision: &Decision,
        receipt: &Receipt,
        _: Timestamp,
    ) -> Outcome<RepaveRunStatus> {
        look::render(run, decision, receipt)
    }

    fn on_failure(run: &RepaveRun, failure: &Failure, now: Timestamp) -> Outcome<RepaveRunStatus> {
        if is_finished(run) {
            // What it came to stays true, whether or not it can be looked at again.
            return look::unchanged(run.status.clone().unwrap_or_default(), failure.class.into());
        }
        reconciler::conditions_only(run, failure, now)
    }

    fn note(&self, run: &RepaveRun, decision: Decision, outcome: &Outcome<RepaveRunStatus>) {
        let turn = match decision {
            Decision::Past => return self.memory.forget(&run.uid().unwrap_or_default()),
            Decision::Rests { turn, .. } => *turn,
            Decision::Acts(acting) => acting.into_turn(),
        };
        turn.end(outcome.status.finished.is_some());
        gauges::repaved(run, &outcome.status, &self.ctx.metrics, self.ctx.now());
    }
}
