//! The controller of a `RepaveRun`: moves the workloads of one plan to one release, wave by wave.
//!
//! | step | file |
//! |---|---|
//! | validate (pure) | `validate` |
//! | observe (reads only) | `observe`, with `estate` (workloads), `images` (layers), `gate` (may it start anything?), `others` (runs of other plans) |
//! | plan (pure) | `consumption` `target` and `judge` (one state per target), `sightings` (how long it has been so), `progress` (waves), `plan` (actions), `patch` (the one write) |
//! | apply (writes) | `apply`; `refusals` (what the API server refused) |
//! | summarize (pure) | `status`, `rows` |
//! | all of them, once | `step`, with `memory` (what a restart may lose) |
//!
//! Every reconcile begins with a live list, and everything is derived from it: nothing that a restart could lose decides
//! about a roll-out. A finished run is never touched again.

pub mod apply;
pub mod consumption;
pub mod estate;
pub mod gate;
pub mod images;
pub mod judge;
pub mod memory;
pub mod observe;
pub mod others;
pub mod patch;
pub mod plan;
pub mod progress;
pub mod refusals;
pub mod rows;
pub mod sightings;
pub mod status;
pub mod step;
pub mod target;
#[cfg(test)]
mod tests;
pub mod validate;

pub use images::Images;

use self::memory::Memory;
use super::{
    context::Context,
    driver::{Next, Outcome},
    gauges,
    reconciler::{self, Failure, Steps},
    wakes::{Guarded, Wakes, those},
};
use crate::api::{BaseImage, RepavePlan, RepaveRun, RepaveRunStatus, refs::ANNOTATION_RUN};
use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api, ResourceExt,
    core::PartialObjectMeta,
    runtime::{
        reflector::{ObjectRef, Store},
        watcher,
    },
};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

struct Runs {
    ctx: Context,
    images: Images,
    memory: Memory,
}

/// Runs the controller until `stop` is cancelled; turns that have begun are finished.
pub async fn run(ctx: Context, images: Images, stop: CancellationToken) {
    let wakes = Wakes::of(&ctx);
    let (runs, of_plan, of_base) = (wakes.store(), wakes.store(), wakes.store());
    let wakes = wakes
        .watches(
            Api::<PartialObjectMeta<Deployment>>::all(ctx.watches.clone()),
            watcher::Config::default(),
            move |workload| moved_by(workload).filter(|run| is_at_work(&runs, run)),
        )
        .watches(
            Api::<PartialObjectMeta<RepavePlan>>::all(ctx.watches.clone()),
            watcher::Config::default(),
            move |plan| {
                those(&of_plan, plan.namespace().as_deref(), |run: &RepaveRun| {
                    !is_finished(run) && run.spec.plan == plan.name_any()
                })
            },
        )
        .watches(
            Api::<PartialObjectMeta<BaseImage>>::all(ctx.watches.clone()),
            watcher::Config::default(),
            move |base| {
                those(&of_base, base.namespace().as_deref(), |run: &RepaveRun| {
                    !is_finished(run) && run.spec.base_image == base.name_any()
                })
            },
        );
    let memory = Memory::default();
    reconciler::run(Runs { ctx, images, memory }, wakes, stop).await;
}

/// The run that a workload says it was moved by. Whoever may annotate a workload can write anything there: it wakes a
/// run that exists and is at work, at its own pace, and decides nothing.
fn moved_by(workload: &PartialObjectMeta<Deployment>) -> Option<ObjectRef<Guarded<RepaveRun>>> {
    let (namespace, name) = workload.annotations().get(ANNOTATION_RUN)?.split_once('/')?;
    Some(ObjectRef::new(name).within(namespace))
}

fn is_at_work(runs: &Store<Guarded<RepaveRun>>, run: &ObjectRef<Guarded<RepaveRun>>) -> bool {
    let cached = runs.get(run);
    cached.is_some_and(|guarded| guarded.0.as_ref().is_ok_and(|run| !is_finished(run)))
}

fn is_finished(run: &RepaveRun) -> bool {
    run.status.as_ref().is_some_and(|status| status.finished.is_some())
}

impl Steps for Runs {
    type Resource = RepaveRun;
    const GAP: Duration = Duration::from_millis(500);
    const LIMIT: Duration = Duration::from_secs(600);

    fn ctx(&self) -> &Context {
        &self.ctx
    }

    async fn steps(&self, run: &RepaveRun) -> Result<Outcome<RepaveRunStatus>, Failure> {
        if let Some(finished) = run.status.clone().filter(|status| status.finished.is_some()) {
            self.memory.forget(&run.uid().unwrap_or_default());
            return Ok(Outcome {
                status: finished,
                next: Next::AwaitChange,
                notices: Vec::new(),
            });
        }
        let outcome = Box::pin(step::step(&self.ctx, &self.images, &self.memory, run)).await;
        gauges::repaved(run, &outcome.status, &self.ctx.metrics, self.ctx.now());
        Ok(outcome)
    }
}
