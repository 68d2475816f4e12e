//! One reconcile of a run, in its order: validate, observe, plan, read live what is planned, plan again, apply, summarize.
//! Holds no rule of its own.

use super::{
    apply::{self, Applied},
    gate::Gate,
    images::Images,
    memory::{Memory, RunMemory},
    observe::{self, Observed},
    others,
    plan::{self, Action},
    progress::{self, Progress},
    status::{self, Summary},
    target::{self, Known, State, Target},
    today,
    validate::{self, Validated},
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
use jiff::Timestamp;
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
    } else {
        memory.put_finished(&uid, remembered);
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
    let (orders, mut observed) = match observe::observe(ctx, images, &v, plan_uid(run)).await {
        Ok(observed) => observed,
        Err(error) => return failed(old, generation, &error, ctx),
    };
    let active_runs = match others::active_runs(ctx, &v, &observed.estate).await {
        Ok(active) => active,
        Err(error) => return failed(old, generation, &observe::ObserveError::Api(error), ctx),
    };
    let before = Before {
        old: &old,
        active_runs: &active_runs,
    };
    let questions = {
        let v = today::narrow(
            &v,
            orders.today.as_ref(),
            observed.target.as_ref(),
            &mut observed.estate,
        );
        let decided = decide(&v, &observed, remembered, before, (ctx.now(), memory.now()));
        if old.finished.is_some() && !reopens(&observed.gate, &decided.targets) {
            return unchanged(old, Next::AwaitChange);
        }
        questions(ctx, &decided)
    };
    let mut observed = match observe::refresh(ctx, images, &v, &orders, observed, &questions).await {
        Ok(observed) => observed,
        Err(error) => return failed(old, generation, &error, ctx),
    };
    let v = today::narrow(
        &v,
        orders.today.as_ref(),
        observed.target.as_ref(),
        &mut observed.estate,
    );
    let (now, mono) = (ctx.now(), memory.now());
    let Decided {
        mut targets,
        progress,
        mut actions,
    } = decide(&v, &observed, remembered, before, (now, mono));
    let planned = actions.len();
    actions.retain(|action| observed.estate.live.contains(action.workload()));
    let results = apply::apply(ctx, &v, plan_uid(run), &actions).await;
    overlay(&mut targets, &actions, &results.applied);
    note(remembered, &targets, &results.applied, mono);
    let lost_race = results.applied.iter().any(|(_, applied)| *applied == Applied::LostRace);
    status::summarize(&Summary {
        v: &v,
        generation,
        observed: &observed,
        stop: plan::stop(&v, &targets),
        targets: &targets,
        progress: &progress,
        halt: results.halt,
        // What came up only now is read live in the next look.
        lost_race: lost_race || actions.len() < planned,
        retrying: remembered.refusals.any_pausing(),
        started: old.started.as_ref().map_or(now, |time| time.0),
        now,
        old: old.clone(),
    })
}

/// What is known from before this look.
#[derive(Clone, Copy)]
struct Before<'a> {
    old: &'a RepaveRunStatus,
    active_runs: &'a BTreeSet<String>,
}

/// What one look leads to.
struct Decided<'a> {
    targets: Vec<Target<'a>>,
    progress: Progress,
    actions: Vec<Action>,
}

fn decide<'a>(
    v: &Validated,
    observed: &'a Observed,
    remembered: &mut RunMemory,
    before: Before<'_>,
    (now, mono): (Timestamp, Duration),
) -> Decided<'a> {
    let elapsed = remembered.sightings.look(target::looks(v, observed), mono);
    let known = Known {
        waves: &before.old.waves,
        elapsed: &elapsed,
        refusals: &remembered.refusals,
        mono,
        active_runs: before.active_runs,
    };
    let targets = target::targets(v, observed, known, now);
    let progress = progress::progress(v, &targets, &before.old.waves, now);
    let actions = plan::plan(v, observed, &targets, &progress, now);
    Decided {
        targets,
        progress,
        actions,
    }
}

/// What has to be read live: whatever would be written, which is what failed and what is moved next, and whatever a lost
/// answer of ours may have changed. What is on its way needs no read of its own: the inventory took in our write, so it can
/// only be late in seeing the end of a roll-out, and then less is begun and not more.
fn questions(ctx: &Context, decided: &Decided<'_>) -> BTreeSet<WorkloadKey> {
    let mut keys: BTreeSet<WorkloadKey> = decided.actions.iter().map(|action| action.workload().clone()).collect();
    let targets = decided.targets.iter().map(|target| &target.seen.workload.key);
    keys.extend(ctx.inventory.doubted(targets));
    keys
}

/// Whether a finished run has work again: a hold has ended, a workload was resumed, has recovered, was relabelled or is new.
/// One that is busy is no reason yet: it may stay so for ever.
pub fn reopens(gate: &Gate, targets: &[Target<'_>]) -> bool {
    *gate == Gate::Open && targets.iter().any(is_ready)
}

/// Whether a run could begin with it now.
pub fn is_ready(target: &Target<'_>) -> bool {
    target.state == State::Pending { ready: true }
}

fn unchanged(status: RepaveRunStatus, next: Next) -> Outcome<RepaveRunStatus> {
    Outcome {
        status,
        next,
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
    if status.finished.is_some() {
        // What it came to stays true, whether or not it can be looked at again.
        return unchanged(status, error.class().into());
    }
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
