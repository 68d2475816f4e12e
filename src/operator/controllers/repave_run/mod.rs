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
    driver::{self, DriverError},
    error::one_line,
};
use crate::api::{BaseImage, RepavePlan, RepaveRun, refs::ANNOTATION_RUN};
use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api, ResourceExt,
    core::{DeserializeGuard, PartialObjectMeta},
    runtime::{
        Config, Controller,
        controller::Action,
        reflector::{ObjectRef, Store},
        watcher,
    },
};
use std::{sync::Arc, time::Duration};

/// Runs that are reconciled at the same time.
const CONCURRENCY: u16 = 4;
/// Changes that come within this time are one.
const DEBOUNCE: Duration = Duration::from_millis(300);
/// How long an object that cannot be read is left alone; a change of it comes anyway.
const UNREADABLE: Duration = Duration::from_secs(300);

type Guarded = DeserializeGuard<RepaveRun>;

struct Shared {
    ctx: Context,
    images: Images,
    memory: Memory,
}

/// Runs the controller until `shutdown` is done; reconciles that have begun are finished.
pub async fn run(ctx: Context, images: Images, shutdown: impl Future<Output = ()> + Send + Sync + 'static) {
    let client = ctx.watches.clone();
    let shared = Shared {
        ctx,
        images,
        memory: Memory::default(),
    };
    let controller = Controller::new(Api::<Guarded>::all(client.clone()), watcher::Config::default());
    let (plans, bases) = (controller.store(), controller.store());
    controller
        .with_config(Config::default().concurrency(CONCURRENCY).debounce(DEBOUNCE))
        .watches(
            Api::<PartialObjectMeta<Deployment>>::all(client.clone()),
            watcher::Config::default(),
            |workload| run_of(&workload),
        )
        .watches(
            Api::<PartialObjectMeta<RepavePlan>>::all(client.clone()),
            watcher::Config::default(),
            move |plan| {
                runs_where(&plans, plan.namespace().as_deref(), |run| {
                    run.spec.plan == plan.name_any()
                })
            },
        )
        .watches(
            Api::<PartialObjectMeta<BaseImage>>::all(client),
            watcher::Config::default(),
            move |base| {
                runs_where(&bases, base.namespace().as_deref(), |run| {
                    run.spec.base_image == base.name_any()
                })
            },
        )
        .graceful_shutdown_on(shutdown)
        .run(reconcile, on_error, Arc::new(shared))
        .for_each(|result| async move {
            if let Err(error) = result {
                tracing::debug!(error = one_line(&error), "run not reconciled");
            }
        })
        .await;
}

/// The run that a workload says it was moved by.
fn run_of(workload: &PartialObjectMeta<Deployment>) -> Option<ObjectRef<Guarded>> {
    let (namespace, name) = workload.annotations().get(ANNOTATION_RUN)?.split_once('/')?;
    Some(ObjectRef::new(name).within(namespace))
}

fn runs_where(
    store: &Store<Guarded>,
    namespace: Option<&str>,
    test: impl Fn(&RepaveRun) -> bool,
) -> Vec<ObjectRef<Guarded>> {
    let same = |run: &RepaveRun| run.namespace().as_deref() == namespace && test(run);
    store
        .state()
        .iter()
        .filter(|guarded| guarded.0.as_ref().is_ok_and(same))
        .map(|guarded| ObjectRef::from_obj(guarded.as_ref()))
        .collect()
}

async fn reconcile(seen: Arc<Guarded>, shared: Arc<Shared>) -> Result<Action, DriverError> {
    let seen = match &seen.0 {
        Ok(run) => run,
        Err(invalid) => {
            tracing::warn!(name = ?invalid.metadata.name, error = one_line(invalid), "RepaveRun cannot be read");
            return Ok(Action::requeue(UNREADABLE));
        }
    };
    let Some(run) = driver::read(&shared.ctx, seen).await? else {
        shared.memory.forget(&seen.uid().unwrap_or_default());
        return Ok(Action::await_change());
    };
    if run.status.as_ref().is_some_and(|status| status.finished.is_some()) {
        shared.memory.forget(&run.uid().unwrap_or_default());
        return Ok(Action::await_change());
    }
    let outcome = Box::pin(step::step(&shared.ctx, &shared.images, &shared.memory, &run)).await;
    driver::finish(&shared.ctx, &run, outcome).await
}

// kube's Controller hands both over by value.
#[allow(clippy::needless_pass_by_value)]
fn on_error(seen: Arc<Guarded>, error: &DriverError, shared: Arc<Shared>) -> Action {
    match &seen.0 {
        Ok(run) => driver::on_error(run, error, &shared.ctx),
        Err(_) => Action::requeue(UNREADABLE),
    }
}
