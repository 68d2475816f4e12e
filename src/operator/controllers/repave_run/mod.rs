//! The controller of a `RepaveRun`: moves the workloads of one plan to one release, wave by wave.
//!
//! | step | file |
//! |---|---|
//! | validate (pure) | `validate` |
//! | observe (reads only) | `observe`, with `estate` (workloads), `images` (layers), `gate` (may it start anything?) |
//! | plan (pure) | `consumption` and `target` (one state per target), `progress` (waves), `plan` (actions), `patch` (the one write) |
//! | apply (writes) | `apply` |
//! | summarize (pure) | `status`, `rows` |
//!
//! Every reconcile begins with a live list, and everything is derived from it: nothing that a restart could lose decides
//! about a roll-out. A finished run is never touched again.

pub mod apply;
pub mod consumption;
pub mod estate;
pub mod gate;
pub mod images;
pub mod observe;
pub mod patch;
pub mod plan;
pub mod progress;
pub mod rows;
pub mod status;
pub mod target;
#[cfg(test)]
mod tests;
pub mod validate;

pub use images::Images;

use self::{
    apply::Applied,
    plan::Action as Step,
    status::Summary,
    target::{State, Target},
};
use super::{
    conditions::Conditions,
    context::Context,
    driver::{Next, Outcome},
    error::{Class, Classified, WAIT, one_line},
    reconciler::{self, Failure, Steps},
    wakes::{Guarded, Wakes, those},
};
use crate::{
    api::{BaseImage, RepavePlan, RepaveRun, RepaveRunStatus, refs::ANNOTATION_RUN},
    domain::workload::WorkloadKey,
};
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

/// How long an object that a person must correct is left alone; a change of it comes anyway.
const UNREADABLE: Duration = Duration::from_secs(300);

struct Runs {
    ctx: Context,
    images: Images,
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
    reconciler::run(Runs { ctx, images }, wakes, stop).await;
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
            return Ok(Outcome {
                status: finished,
                next: Next::AwaitChange,
                notices: Vec::new(),
            });
        }
        Ok(Box::pin(step(&self.ctx, &self.images, run)).await)
    }
}

async fn step(ctx: &Context, images: &Images, run: &RepaveRun) -> Outcome<RepaveRunStatus> {
    let old = run.status.clone().unwrap_or_default();
    let generation = run.metadata.generation.unwrap_or_default();
    let v = match validate::validate(run) {
        Ok(v) => v,
        Err(error) => return failed(old, generation, &error, ctx),
    };
    let observed = match observe::observe(ctx, images, &v, plan_uid(run)).await {
        Ok(observed) => observed,
        Err(error) => return failed(old, generation, &error, ctx),
    };
    let now = ctx.now();
    let started = old.started.as_ref().map_or(now, |time| time.0);
    let mut targets = target::targets(&v, &observed, started, now);
    let progress = progress::progress(&v, &targets, &old.waves, now);
    let actions = plan::plan(&v, &observed, &targets, &progress, now);
    let applied = apply::apply(ctx, &actions).await;
    overlay(&mut targets, &actions, &applied);
    let refused = applied.iter().find_map(|(workload, applied)| match applied {
        Applied::Refused(why) => Some(format!("{workload}: {why}")),
        Applied::Written | Applied::LostRace => None,
    });
    status::summarize(&Summary {
        v: &v,
        generation,
        observed: &observed,
        stop: plan::stop(&v, &targets),
        targets: &targets,
        progress: &progress,
        refused,
        lost_race: applied.iter().any(|(_, applied)| *applied == Applied::LostRace),
        started,
        now,
        old,
    })
}

/// The UID of the plan that made this run.
fn plan_uid(run: &RepaveRun) -> Option<&str> {
    let mut owners = run.metadata.owner_references.iter().flatten();
    owners
        .find(|owner| owner.controller == Some(true) && owner.kind == "RepavePlan" && owner.name == run.spec.plan)
        .map(|owner| owner.uid.as_str())
}

/// The states after what was just written, so that the status is true at once.
pub fn overlay(targets: &mut [Target<'_>], actions: &[Step], applied: &[(WorkloadKey, Applied)]) {
    for (action, (_, result)) in actions.iter().zip(applied) {
        let Some(target) = targets.iter_mut().find(|t| t.seen.workload.key == *action.workload()) else {
            continue;
        };
        if *result == Applied::Written {
            target.in_flight = true;
            target.state = match action {
                Step::Move { .. } => State::Rolling,
                Step::RollBack { reason, .. } => State::Held {
                    rolled_back: true,
                    reason: reason.clone(),
                },
            };
        }
    }
}

/// A step failed before anything was decided: everything but the conditions stays as it was.
fn failed(
    mut status: RepaveRunStatus,
    generation: i64,
    error: &(impl Classified + 'static),
    ctx: &Context,
) -> Outcome<RepaveRunStatus> {
    let mut conditions = Conditions::from(&status.conditions, generation, ctx.now());
    let message = one_line(error);
    let next = match error.class() {
        Class::Stalled => {
            conditions.stalled(error.reason(), message);
            Next::After(UNREADABLE)
        }
        Class::Waiting(after) => {
            conditions.reconciling(error.reason(), message);
            Next::After(after.max(WAIT))
        }
        Class::Transient => {
            conditions.reconciling(error.reason(), message);
            Next::Backoff
        }
    };
    status.conditions = conditions.into_list();
    status.observed_generation = Some(generation);
    Outcome {
        status,
        next,
        notices: Vec::new(),
    }
}
