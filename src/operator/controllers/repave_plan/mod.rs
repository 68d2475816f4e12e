//! The controller of a `RepavePlan`: makes one `RepaveRun` for each proven release that outdated workloads wait for.
//!
//! It never touches a workload: that is the run's. It always knows what is outdated: the inventory wakes it when that can
//! have changed. A finished run begins again when something can be moved that it could not move before; a run that was
//! deleted is made again while anything is outdated, which is also how a person tries a release again.

pub mod apply;
pub mod observe;
pub mod plan;
pub mod standing;
pub mod status;
#[cfg(test)]
mod tests;
pub mod validate;
mod wakes;

use super::{
    conditions::Conditions,
    context::Context,
    driver::{self, DriverError, Next, Outcome},
    error::{Class, Classified, one_line},
    repave_run::Images,
};
use crate::api::{BaseImage, RepavePlan, RepavePlanStatus, RepaveRun};
use futures::StreamExt;
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

/// Plans that are reconciled at the same time.
const CONCURRENCY: u16 = 4;
/// Changes that come within this time are one.
const DEBOUNCE: Duration = Duration::from_millis(300);
/// How long an object that cannot be read is left alone; a change of it comes anyway.
const UNREADABLE: Duration = Duration::from_secs(300);

type Guarded = DeserializeGuard<RepavePlan>;

struct Shared {
    ctx: Context,
    images: Images,
}

/// Runs the controller until `shutdown` is done; reconciles that have begun are finished.
pub async fn run(ctx: Context, images: Images, shutdown: impl Future<Output = ()> + Send + Sync + 'static) {
    let client = ctx.watches.clone();
    let controller = Controller::new(Api::<Guarded>::all(client.clone()), watcher::Config::default());
    let plans = controller.store();
    let wakes = wakes::of_plans(&ctx, controller.store());
    controller
        .with_config(Config::default().concurrency(CONCURRENCY).debounce(DEBOUNCE))
        .owns(
            Api::<PartialObjectMeta<RepaveRun>>::all(client.clone()),
            watcher::Config::default(),
        )
        .watches(
            Api::<PartialObjectMeta<BaseImage>>::all(client),
            watcher::Config::default(),
            move |base| plans_of(&plans, &base),
        )
        .reconcile_on(wakes)
        .graceful_shutdown_on(shutdown)
        .run(reconcile, on_error, Arc::new(Shared { ctx, images }))
        .for_each(|result| async move {
            if let Err(error) = result {
                tracing::debug!(error = one_line(&error), "plan not reconciled");
            }
        })
        .await;
}

/// The plans that name a base image.
fn plans_of(store: &Store<Guarded>, base: &PartialObjectMeta<BaseImage>) -> Vec<ObjectRef<Guarded>> {
    let (namespace, name) = (base.namespace(), base.name_any());
    let names_it = |plan: &RepavePlan| {
        plan.namespace() == namespace && plan.spec.base_image_refs.iter().any(|reference| reference.name == name)
    };
    store
        .state()
        .iter()
        .filter(|guarded| guarded.0.as_ref().is_ok_and(names_it))
        .map(|guarded| ObjectRef::from_obj(guarded.as_ref()))
        .collect()
}

async fn reconcile(seen: Arc<Guarded>, shared: Arc<Shared>) -> Result<Action, DriverError> {
    let seen = match &seen.0 {
        Ok(plan) => plan,
        Err(invalid) => {
            tracing::warn!(name = ?invalid.metadata.name, error = one_line(invalid), "RepavePlan cannot be read");
            return Ok(Action::requeue(UNREADABLE));
        }
    };
    let Some(plan) = driver::read(&shared.ctx, seen).await? else {
        return Ok(Action::await_change());
    };
    let outcome = Box::pin(step(&shared.ctx, &shared.images, &plan)).await;
    driver::finish(&shared.ctx, &plan, outcome).await
}

// kube's Controller hands both over by value.
#[allow(clippy::needless_pass_by_value)]
fn on_error(seen: Arc<Guarded>, error: &DriverError, shared: Arc<Shared>) -> Action {
    match &seen.0 {
        Ok(plan) => driver::on_error(plan, error, &shared.ctx),
        Err(_) => Action::requeue(UNREADABLE),
    }
}

async fn step(ctx: &Context, images: &Images, plan: &RepavePlan) -> Outcome<RepavePlanStatus> {
    let v = match validate::validate(plan) {
        Ok(v) => v,
        Err(error) => return failed(plan, &error, ctx),
    };
    let observed = match observe::observe(ctx, images, plan, &v).await {
        Ok(observed) => observed,
        Err(error) => return failed(plan, &error, ctx),
    };
    let actions = plan::plan(plan, &observed);
    let made = match apply::apply(ctx, &actions).await {
        Ok(made) => made,
        Err(error) => return failed(plan, &error, ctx),
    };
    let runs: Vec<RepaveRun> = observed.runs.iter().cloned().chain(made.created).collect();
    status::summarize(plan, &observed, &runs, ctx.now())
}

/// A step failed: the conditions say so, the rest stays.
fn failed(plan: &RepavePlan, error: &(impl Classified + 'static), ctx: &Context) -> Outcome<RepavePlanStatus> {
    let mut status = plan.status.clone().unwrap_or_default();
    let generation = plan.metadata.generation.unwrap_or_default();
    let mut conditions = Conditions::from(&status.conditions, generation, ctx.now());
    let message = one_line(error);
    let next = match error.class() {
        Class::Stalled => {
            conditions.stalled(error.reason(), message);
            Next::After(UNREADABLE)
        }
        Class::Waiting(after) => {
            conditions.reconciling(error.reason(), message);
            Next::After(after)
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
