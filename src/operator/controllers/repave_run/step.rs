//! One reconcile of a run, in its order: validate, observe, plan, read live what is planned, plan again, apply, summarize.
//! Holds no rule of its own.

use super::{
    apply::{self, Applied},
    clock,
    decide::{Before, Decided, decide, note, overlay},
    gate::Gate,
    images::Images,
    memory::{Memory, RunMemory},
    observe, others, plan,
    state::State,
    status::{self, Summary},
    target::Target,
    today, undone, validate,
};
use crate::{
    api::{RepaveRun, RepaveRunStatus},
    controllers::{
        conditions::Conditions,
        context::Context,
        driver::{Outcome, Requeue},
        error::{Class, Classified, WAIT, one_line},
        inventory::Inventory,
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
    let old = clock::put_right(run.status.clone().unwrap_or_default(), ctx.now());
    let generation = run.metadata.generation.unwrap_or_default();
    let v = match validate::validate(run) {
        Ok(v) => v,
        Err(error) => return failed(old, generation, &error, ctx),
    };
    // What the status tells is not asked again, also after a restart.
    remembered.steady.know(old.steady_until.as_ref().map(|time| time.0));
    let (orders, mut observed) = match observe::observe(ctx, images, (&v, &remembered.steady), plan_uid(run)).await {
        Ok(observed) => observed,
        Err(error) => return failed(old, generation, &error, ctx),
    };
    let active_runs = match others::active_runs(ctx, &v, &observed, memory.now()).await {
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
        if old.finished.is_some() && !reopens(&observed.gate, &decided.targets, &old) {
            // What is healthy now has soaked: whatever its roll-out looks like later, it is not judged again.
            let courses = decided.targets.iter().map(Target::course);
            remembered.steady.note(courses, &v.run_ref, decided.stamp);
            return unchanged(old, Requeue::AwaitChange);
        }
        questions(&ctx.inventory, &decided)
    };
    let steady = remembered.steady.clone();
    let mut observed = match observe::refresh(ctx, images, (&v, &steady), &orders, observed, &questions.live).await {
        Ok(observed) => observed,
        Err(error) => return failed(old, generation, &error, ctx),
    };
    let not_asked = match undone::ask(ctx, &v, &mut observed.estate, &questions.moves).await {
        Ok(not_asked) => not_asked,
        Err(error) => return failed(old, generation, &observe::ObserveError::List(error), ctx),
    };
    let v = today::narrow(
        &v,
        orders.today.as_ref(),
        observed.target.as_ref(),
        &mut observed.estate,
    );
    let (now, mono) = (ctx.now(), memory.now());
    let mut decided = decide(&v, &observed, remembered, before, (now, mono));
    let planned = decided.actions.len();
    let (live, free) = (&observed.estate.live, undone::free(&observed.estate.workloads));
    decided
        .actions
        .retain(|action| live.contains(action.workload()) && undone::may_go(action, &free));
    let mut results = apply::apply(ctx, &v, plan_uid(run), &decided.actions).await;
    results.applied.extend(not_asked);
    overlay(&mut decided.targets, &decided.actions, &results.applied);
    note(remembered, &v, &decided, &results.applied, mono);
    let lost_race = results.applied.iter().any(|(_, applied)| *applied == Applied::LostRace);
    status::summarize(&Summary {
        v: &v,
        generation,
        observed: &observed,
        stop: plan::stop(&v, &decided.targets),
        targets: &decided.targets,
        progress: &decided.progress,
        halt: results.halt,
        // What came up only now is read live in the next look.
        lost_race: lost_race || decided.actions.len() < planned,
        retrying: remembered.refusals.any_pausing(),
        set_back: &remembered.set_back,
        steady: &remembered.steady,
        started: old.started.as_ref().map_or(now, |time| time.0),
        stamp: decided.stamp,
        now,
        old: old.clone(),
    })
}

/// What has to be read live: whatever would be written, which is what failed and what is moved next, and whatever a lost
/// answer of ours may have changed. What is on its way needs no read of its own: the inventory took in our write, so it can
/// only be late in seeing the end of a roll-out, and then less is begun and not more.
pub fn questions(inventory: &Inventory, decided: &Decided<'_>) -> Questions {
    let mut live: BTreeSet<WorkloadKey> = decided.actions.iter().map(|action| action.workload().clone()).collect();
    let targets = decided.targets.iter().map(|target| &target.seen.workload.key);
    live.extend(inventory.doubted(targets));
    let moves = undone::to_ask(&decided.actions);
    Questions { live, moves }
}

/// What is read before anything is written.
pub struct Questions {
    /// These workloads.
    pub live: BTreeSet<WorkloadKey>,
    /// Those whose ReplicaSets are asked, too.
    pub moves: BTreeSet<WorkloadKey>,
}

/// Whether a finished run has work again: a hold has ended, a workload was resumed, has recovered, was relabelled or is new.
/// One that is busy is no reason yet: it may stay so for ever. What it moved itself is judged in any case.
pub fn reopens(gate: &Gate, targets: &[Target<'_>], status: &RepaveRunStatus) -> bool {
    (gate.is_open() && targets.iter().any(is_ready)) || on_their_way(targets, status) > 0
}

/// How many are in a roll-out of this run that it has not judged, though it has finished: it did not see them then, or they
/// were paused or held. One that it left as it is was judged: the status has a row of it, or at least counts it. What fails at
/// once when it goes on was never seen on its way, so those that have failed are counted on both sides.
pub fn on_their_way(targets: &[Target<'_>], status: &RepaveRunStatus) -> usize {
    let failed: BTreeSet<&str> = status
        .attention
        .iter()
        .filter(|row| row.state == "Failed")
        .map(|row| row.workload.as_str())
        .collect();
    let goes_on = |target: &&Target<'_>| {
        let goes_on = match &target.state {
            State::Rolling | State::Failing { .. } => target.arriving,
            State::Failed { .. } => true,
            State::Pending { .. } | State::Done | State::Held { .. } | State::Skipped(_) => false,
        };
        goes_on && !failed.contains(target.seen.workload.key.to_string().as_str())
    };
    // Failures beyond the rows of a status are only counted there. Rows are sorted, so those come after the last one.
    let without_row = (status.counts.failed as usize).saturating_sub(failed.len());
    let last = failed.last().copied().unwrap_or_default();
    let (before, after): (Vec<_>, Vec<_>) = targets
        .iter()
        .filter(goes_on)
        .partition(|target| target.seen.workload.key.to_string().as_str() < last);
    before.len().saturating_add(after.len().saturating_sub(without_row))
}

/// Whether a run could begin with it now.
pub fn is_ready(target: &Target<'_>) -> bool {
    target.state == State::Pending { ready: true }
}

fn unchanged(status: RepaveRunStatus, next: Requeue) -> Outcome<RepaveRunStatus> {
    Outcome {
        status,
        next,
        events: Vec::new(),
    }
}

/// The UID of the plan that made this run.
fn plan_uid(run: &RepaveRun) -> Option<&str> {
    let mut owners = run.metadata.owner_references.iter().flatten();
    owners
        .find(|owner| owner.controller == Some(true) && owner.kind == "RepavePlan" && owner.name == run.spec.plan)
        .map(|owner| owner.uid.as_str())
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
            Requeue::After(STALLED)
        }
        Class::Waiting(after) => {
            conditions.reconciling(error.reason(), message);
            Requeue::After(after.max(WAIT))
        }
        Class::Transient => {
            conditions.reconciling(error.reason(), message);
            Requeue::Backoff
        }
    };
    status.conditions = conditions.into_list();
    status.observed_generation = Some(generation);
    Outcome {
        status,
        next,
        events: Vec::new(),
    }
}
