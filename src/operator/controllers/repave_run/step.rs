//! One reconcile of a run, in its order: validate, observe, plan, apply, summarize. Holds no rule of its own.

use super::{
    apply::{self, Applied},
    images::Images,
    memory::{Memory, RunMemory},
    observe, others,
    plan::{self, Action},
    progress,
    status::{self, Summary},
    target::{self, Known, State, Target},
    validate,
};
use crate::{
    api::{RepaveRun, RepaveRunStatus},
    controllers::{
        conditions::Conditions,
        context::Context,
        driver::{Next, Outcome},
        error::{Class, Classified, WAIT, one_line},
    },
    domain::workload::WorkloadKey,
};
use kube::ResourceExt;
use std::{collections::BTreeSet, time::Duration};

/// How long a run that cannot be carried out is left alone; a change of it comes anyway.
const STALLED: Duration = Duration::from_secs(300);

/// Reconciles a run once, when it is its turn among the runs of its plan.
pub async fn step(ctx: &Context, images: &Images, memory: &Memory, run: &RepaveRun) -> Outcome<RepaveRunStatus> {
    let turn = memory.turn(&format!("{}/{}", run.namespace().unwrap_or_default(), run.spec.plan));
    let _mine = turn.lock().await;
    let uid = run.uid().unwrap_or_default();
    let mut remembered = memory.take(&uid);
    let outcome = Box::pin(reconcile(ctx, images, (&mut remembered, memory), run)).await;
    if outcome.status.finished.is_none() {
        memory.put(&uid, remembered);
    }
    outcome
}

async fn reconcile(
    ctx: &Context,
    images: &Images,
    (remembered, memory): (&mut RunMemory, &Memory),
    run: &RepaveRun,
) -> Outcome<RepaveRunStatus> {
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
    let active_runs = match others::active_runs(ctx, &v, &observed.estate).await {
        Ok(active) => active,
        Err(error) => return failed(old, generation, &observe::ObserveError::Api(error), ctx),
    };
    let (now, mono) = (ctx.now(), memory.now());
    let elapsed = remembered.sightings.look(target::looks(&v, &observed), mono);
    let known = Known {
        waves: &old.waves,
        elapsed: &elapsed,
        refusals: &remembered.refusals,
        mono,
        active_runs: &active_runs,
    };
    let mut targets = target::targets(&v, &observed, known, now);
    let progress = progress::progress(&v, &targets, &old.waves, now);
    let actions = plan::plan(&v, &observed, &targets, &progress, now);
    let results = apply::apply(ctx, &v, plan_uid(run), &actions).await;
    overlay(&mut targets, &actions, &results.applied);
    note(remembered, &targets, &results.applied, mono);
    status::summarize(&Summary {
        v: &v,
        generation,
        observed: &observed,
        stop: plan::stop(&v, &targets),
        targets: &targets,
        progress: &progress,
        halt: results.halt,
        lost_race: results.applied.iter().any(|(_, applied)| *applied == Applied::LostRace),
        retrying: remembered.refusals.any_pausing(),
        started: old.started.as_ref().map_or(now, |time| time.0),
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
pub fn overlay(targets: &mut [Target<'_>], actions: &[Action], applied: &[(WorkloadKey, Applied)]) {
    for (action, (_, result)) in actions.iter().zip(applied) {
        let Some(target) = targets.iter_mut().find(|t| t.seen.workload.key == *action.workload()) else {
            continue;
        };
        if *result == Applied::Written {
            target.in_flight = true;
            target.arriving = matches!(action, Action::Move { .. });
            target.state = match action {
                Action::Move { .. } => State::Rolling,
                Action::RollBack { reason, .. } => State::Held {
                    rolled_back: true,
                    reason: reason.clone(),
                },
            };
        }
    }
}

/// Remembers what was refused.
pub fn note(remembered: &mut RunMemory, targets: &[Target<'_>], applied: &[(WorkloadKey, Applied)], mono: Duration) {
    let there: BTreeSet<&str> = targets.iter().map(|t| t.seen.workload.uid.as_str()).collect();
    remembered.refusals.keep(&|uid| there.contains(uid));
    for (key, result) in applied {
        let Some(target) = targets.iter().find(|t| t.seen.workload.key == *key) else {
            continue;
        };
        let uid = &target.seen.workload.uid;
        match result {
            Applied::Written => remembered.refusals.written(uid),
            Applied::Refused(words) => remembered.refusals.refused(uid, words, mono),
            Applied::LostRace | Applied::Unknown => {}
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
            Next::After(STALLED)
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
