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
//! The inventory shows what is in question; that is read live, and everything is derived from it: nothing that a restart
//! could lose decides about a roll-out. A finished run begins again when something that it can move is outdated again.

pub mod apply;
pub mod consumption;
pub mod estate;
mod found;
pub mod gate;
pub mod images;
pub mod observe;
pub mod patch;
pub mod plan;
mod pods;
pub mod progress;
pub mod rows;
pub mod status;
pub mod target;
#[cfg(test)]
mod tests;
pub mod today;
pub mod validate;
mod wakes;

pub use found::assemble;
pub use images::Images;

use self::{
    apply::Applied,
    gate::Gate,
    plan::Action as Step,
    status::Summary,
    target::{State, Target},
};
use super::{
    conditions::Conditions,
    context::Context,
    driver::{self, DriverError, Next, Outcome},
    error::{Class, Classified, WAIT, one_line},
};
use crate::{
    api::{BaseImage, RepavePlan, RepaveRun, RepaveRunStatus},
    domain::workload::WorkloadKey,
};
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
use std::{collections::BTreeSet, sync::Arc, time::Duration};

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
}

/// Runs the controller until `shutdown` is done; reconciles that have begun are finished.
pub async fn run(ctx: Context, images: Images, shutdown: impl Future<Output = ()> + Send + Sync + 'static) {
    let client = ctx.watches.clone();
    let controller = Controller::new(Api::<Guarded>::all(client.clone()), watcher::Config::default());
    let (plans, bases) = (controller.store(), controller.store());
    let wakes = wakes::of_runs(&ctx, controller.store());
    controller
        .with_config(Config::default().concurrency(CONCURRENCY).debounce(DEBOUNCE))
        .reconcile_on(wakes)
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
        .run(reconcile, on_error, Arc::new(Shared { ctx, images }))
        .for_each(|result| async move {
            if let Err(error) = result {
                tracing::debug!(error = one_line(&error), "run not reconciled");
            }
        })
        .await;
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
        return Ok(Action::await_change());
    };
    if is_past(&shared.ctx, &run).await? {
        return Ok(Action::await_change());
    }
    let outcome = Box::pin(step(&shared.ctx, &shared.images, &run)).await;
    driver::finish(&shared.ctx, &run, outcome).await
}

/// Whether a run has finished and its target is not what its base image has released any more: then it is history.
async fn is_past(ctx: &Context, run: &RepaveRun) -> Result<bool, DriverError> {
    if run.status.as_ref().is_none_or(|status| status.finished.is_none()) {
        return Ok(false);
    }
    let api: Api<BaseImage> = Api::namespaced(ctx.client.clone(), &run.namespace().unwrap_or_default());
    let base = api.get_opt(&run.spec.base_image).await?;
    let released = base.and_then(|base| base.status).and_then(|status| status.released);
    Ok(released.is_none_or(|released| released.digest != run.spec.digest || released.sequence != run.spec.sequence))
}

// kube's Controller hands both over by value.
#[allow(clippy::needless_pass_by_value)]
fn on_error(seen: Arc<Guarded>, error: &DriverError, shared: Arc<Shared>) -> Action {
    match &seen.0 {
        Ok(run) => driver::on_error(run, error, &shared.ctx),
        Err(_) => Action::requeue(UNREADABLE),
    }
}

async fn step(ctx: &Context, images: &Images, run: &RepaveRun) -> Outcome<RepaveRunStatus> {
    let old = run.status.clone().unwrap_or_default();
    let generation = run.metadata.generation.unwrap_or_default();
    let v = match validate::validate(run) {
        Ok(v) => v,
        Err(error) => return failed(old, generation, &error, ctx),
    };
    let (orders, mut observed) = match observe::observe(ctx, images, &v, plan_uid(run)).await {
        Ok(observed) => observed,
        Err(error) => return failed(old, generation, &error, ctx),
    };
    let now = ctx.now();
    let started = old.started.as_ref().map_or(now, |time| time.0);
    let questions = {
        let v = today::narrow(
            &v,
            orders.today.as_ref(),
            observed.target.as_ref(),
            &mut observed.estate,
        );
        let targets = target::targets(&v, &observed, started, now);
        if old.finished.is_some() && !reopens(&observed.gate, &targets) {
            return unchanged(old);
        }
        let progress = progress::progress(&v, &targets, &old.waves, now);
        let actions = plan::plan(&v, &observed, &targets, &progress, now);
        questions(ctx, &targets, &actions)
    };
    let observed = match observe::refresh(ctx, images, &v, &orders, observed, &questions).await {
        Ok(observed) => observed,
        Err(error) => return failed(old, generation, &error, ctx),
    };
    let mut observed = observed;
    let v = today::narrow(
        &v,
        orders.today.as_ref(),
        observed.target.as_ref(),
        &mut observed.estate,
    );
    let mut targets = target::targets(&v, &observed, started, now);
    let progress = progress::progress(&v, &targets, &old.waves, now);
    let mut actions = plan::plan(&v, &observed, &targets, &progress, now);
    actions.retain(|action| observed.estate.live.contains(action.workload()));
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

/// What has to be read live: whatever would be written, which is what failed and what is moved next, and whatever a lost
/// answer of ours may have changed. What is on its way needs no read of its own: the inventory took in our write, so it can
/// only be late in seeing the end of a roll-out, and then less is begun and not more.
fn questions(ctx: &Context, targets: &[Target<'_>], actions: &[Step]) -> BTreeSet<WorkloadKey> {
    let mut keys: BTreeSet<WorkloadKey> = actions.iter().map(|action| action.workload().clone()).collect();
    keys.extend(
        ctx.inventory
            .doubted(targets.iter().map(|target| &target.seen.workload.key)),
    );
    keys
}

/// Whether a finished run has work again: a hold has ended, a workload was resumed, has recovered, was relabelled or is new.
fn reopens(gate: &Gate, targets: &[Target<'_>]) -> bool {
    let pending = |target: &Target<'_>| matches!(target.state, State::Pending { .. });
    *gate == Gate::Open && targets.iter().any(pending)
}

/// Nothing to do and nothing to say.
fn unchanged(status: RepaveRunStatus) -> Outcome<RepaveRunStatus> {
    Outcome {
        status,
        next: Next::AwaitChange,
        notices: Vec::new(),
    }
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
