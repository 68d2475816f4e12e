//! What a run does next, as data. Pure: same inputs, same actions, in the same order.
//!
//! In this order: what fails is rolled back; then, if the gate is open and the failure budget is not used up, workloads of
//! the first wave that has not passed, and latecomers of the waves before it, are moved, as many as its limit leaves free.

use super::{
    gate::MayMove,
    judge::was_never_complete,
    observe::Observed,
    patch::{self, Op},
    progress::Progress,
    state::State,
    target::Target,
    validate::Validated,
};
use crate::{
    api::repave_plan::FailureAction,
    domain::{
        digest::Digest,
        image_ref::ImageRef,
        moved::Moved,
        workload::{Container, Workload, WorkloadKey},
        workload_annotations::{HELD_BY_REPAVE, Hold},
    },
};
use jiff::Timestamp;
use std::collections::BTreeMap;

/// Patches in one reconcile; the rest follows in the next one, on fresh data. What rolls is looked at only in between.
const MAX_ACTIONS: usize = 500;

/// One step: one patch of one workload.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Gives a workload the target.
    Move {
        /// Which one.
        workload: WorkloadKey,
        /// The patch.
        patch: Vec<Op>,
    },
    /// Gives a workload its old image back and holds it.
    RollBack {
        /// Which one.
        workload: WorkloadKey,
        /// The patch.
        patch: Vec<Op>,
        /// Why.
        reason: String,
    },
}

impl Action {
    /// The workload that it is about.
    pub fn workload(&self) -> &WorkloadKey {
        match self {
            Self::Move { workload, .. } | Self::RollBack { workload, .. } => workload,
        }
    }

    /// Whether a workload gets its old image back.
    pub fn is_rollback(&self) -> bool {
        match self {
            Self::RollBack { .. } => true,
            Self::Move { .. } => false,
        }
    }
}

/// What of a plan is carried out in the look that made it: where something is rolled back, that alone. What is moved next is read before
/// at the look after it, at once: reads of a thousand moves, whose ReplicaSets may be many and large, hold up no rollback.
pub fn now(actions: &[Action]) -> impl Iterator<Item = &Action> {
    let rolls_back = actions.iter().any(Action::is_rollback);
    actions.iter().filter(move |action| action.is_rollback() == rolls_back)
}

/// Why a run starts nothing more until a person acts: more failures than the budget allows. One workload that failed stops
/// nothing but itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetExceeded {
    /// How many failed.
    pub failures: usize,
    /// How many may.
    pub budget: usize,
}

/// Whether the failures so far stop the run. `hidden` are those that are not seen at this look, though they may still be there.
pub fn stop(v: &Validated, targets: &[Target], hidden: usize) -> Option<BudgetExceeded> {
    let failures = targets.iter().filter(|target| target.counts_as_failure()).count();
    let failures = failures.saturating_add(hidden);
    let all = targets.iter().filter(|target| target.is_of_percentages()).count();
    let budget = v.budget.as_budget(all);
    (failures > budget).then_some(BudgetExceeded { failures, budget })
}

/// Places of the limit that are taken by what is no target of this look: by other runs of the plan, and by what was in flight and
/// is not to be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// All of them.
    pub all: usize,
    /// Those that get their old image back.
    pub back: usize,
}

/// What is done next.
pub fn plan(
    v: &Validated,
    observed: &Observed,
    targets: &[Target],
    progress: &Progress,
    (taken, hidden_failures, now): (Taken, usize, Timestamp),
) -> Vec<Action> {
    let mut actions: Vec<Action> = match v.action {
        FailureAction::RollbackWorkload => roll_backs(v, targets, progress, (taken, now)),
        FailureAction::Pause => Vec::new(),
    };
    if let (Some(may_move), None) = (observed.gate.may_move(), stop(v, targets, hidden_failures)) {
        actions.extend(moves((v, may_move), targets, progress, (taken, now)));
    }
    actions.truncate(MAX_ACTIONS);
    actions
}

/// The workloads that get their old images back now: no more at once than the limit of their wave, and never behind moves,
/// because a fault that hits all of them must not replace all pods at the same time.
fn roll_backs(v: &Validated, targets: &[Target], progress: &Progress, (taken, now): (Taken, Timestamp)) -> Vec<Action> {
    let rolling_back = targets.iter().filter(|target| target.rolls_back());
    let mut rolling_back = rolling_back.count().saturating_add(taken.back);
    let mut actions = Vec::new();
    for target in targets {
        let limit = target
            .wave
            .map_or(1, |at| v.waves[at].max_concurrent.as_limit(progress.waves[at].size));
        if rolling_back < limit
            && let Some(action) = roll_back(v, target, now)
        {
            rolling_back += 1;
            actions.push(action);
        }
    }
    actions
}

/// The workloads that are started now. A wave that has passed holds nothing back any more, but what comes late to it is
/// still moved, first and within its limit.
fn moves(
    (v, may_move): (&Validated, &MayMove),
    targets: &[Target],
    progress: &Progress,
    (taken, now): (Taken, Timestamp),
) -> Vec<Action> {
    // All that are in flight count, also those of other waves: labels may have changed since they were started.
    let in_flight = targets.iter().filter(|target| target.in_flight).count();
    let in_flight = in_flight.saturating_add(taken.all);
    let mut moves = Vec::new();
    for (at, wave) in progress.waves.iter().enumerate() {
        if !wave.passed && progress.current != Some(at) {
            continue;
        }
        let limit = v.waves[at].max_concurrent.as_limit(wave.size);
        let free = limit.saturating_sub(in_flight.saturating_add(moves.len()));
        let ready = targets
            .iter()
            .filter(|target| target.wave == Some(at) && target.state == State::Pending { ready: true });
        moves.extend(ready.filter_map(|target| start((v, may_move), target, now)).take(free));
    }
    moves
}

/// The move of one workload: nobody makes one without what the gate gives.
fn start((v, _): (&Validated, &MayMove), target: &Target, now: Timestamp) -> Option<Action> {
    let workload = &target.seen.workload;
    let mut changes: Vec<(&Container, ImageRef)> = Vec::new();
    for at in &target.outdated {
        let container = workload.containers.get(*at)?;
        let running = target.seen.images.get(*at)?.digest.as_ref()?;
        let before = before_what_broke(v, workload, container).unwrap_or(running);
        changes.push((container, v.repository.at(before)));
    }
    if changes.is_empty() {
        return None;
    }
    let image = v.repository.at(&v.digest);
    let written = image.to_string();
    let moved = record(v, workload, now, &|container| {
        if changes.iter().any(|(changed, _)| *changed == container) {
            &written
        } else {
            &container.image
        }
    });
    Some(Action::Move {
        workload: workload.key.clone(),
        patch: patch::move_to(workload, &changes, &image, &v.run_ref, &moved),
    })
}

/// What a container ran before the roll-out of ours that this move repairs: one that was never complete is nothing to go back
/// to. One that was, and lacks replicas now, is: what it ran before that may be long out of date.
fn before_what_broke<'a>(v: &Validated, workload: &'a Workload, container: &Container) -> Option<&'a Digest> {
    let previous = workload
        .annotations
        .previous
        .get(&container.name)
        .filter(|_| was_never_complete(workload))?;
    let digest = previous.digest.as_ref()?;
    (previous.repository == v.repository && *digest != v.digest).then_some(digest)
}

/// The record of a write that gives the workload these images.
fn record<'a>(
    v: &Validated,
    workload: &'a Workload,
    now: Timestamp,
    image: &dyn Fn(&'a Container) -> &'a str,
) -> Moved {
    Moved {
        at: now,
        plan: v.plan_key(),
        run_uid: v.uid.clone(),
        digest: v.digest.clone(),
        sequence: Some(v.sequence),
        rolled_back: false,
        generation: workload.generation,
        template: workload.template_with(image),
        revision: workload.revision,
        uid: Some(workload.uid.clone()),
        timed_out: workload.timed_out,
    }
}

fn roll_back(v: &Validated, target: &Target, now: Timestamp) -> Option<Action> {
    let State::Failing {
        due: true,
        reason,
        previous,
    } = &target.state
    else {
        return None;
    };
    let workload = &target.seen.workload;
    let hold = Hold {
        reason: reason.clone(),
        by: HELD_BY_REPAVE.to_owned(),
        digest: Some(v.digest.clone()),
        since: Some(now.to_string()),
        until: None,
    };
    let restored: Vec<(&Container, &ImageRef)> = workload
        .containers
        .iter()
        .filter_map(|container| previous.get(&container.name).map(|image| (container, image)))
        .collect();
    let written: BTreeMap<&str, String> = previous
        .iter()
        .map(|(name, image)| (name.as_str(), image.to_string()))
        .collect();
    let moved = Moved {
        rolled_back: true,
        ..record(v, workload, now, &|container| {
            written.get(container.name.as_str()).unwrap_or(&container.image)
        })
    };
    Some(Action::RollBack {
        workload: workload.key.clone(),
        patch: patch::roll_back(workload, &restored, &v.run_ref, &moved, &hold),
        reason: reason.clone(),
    })
}
