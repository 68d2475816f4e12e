//! What a run does next, as data. Pure: same inputs, same actions, in the same order.
//!
//! In this order: what fails is rolled back; then, if the gate is open and the failure budget is not used up, workloads of
//! the first wave that is not over are moved, as many as its limit leaves free.

use super::{
    gate::Gate,
    observe::Observed,
    patch::{self, Op},
    progress::Progress,
    target::{State, Target},
    validate::Validated,
};
use crate::{
    api::repave_plan::FailureAction,
    domain::{
        image_ref::ImageRef,
        marks::{HELD_BY_REPAVE, Hold},
        workload::{Container, WorkloadKey},
    },
};
use jiff::Timestamp;
use std::collections::BTreeMap;

/// Patches in one reconcile; the rest follows in the next one, on fresh data.
const MAX_ACTIONS: usize = 100;

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
}

/// Why a run starts nothing more until a person acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// More failures than the budget allows.
    BudgetExceeded {
        /// How many failed.
        failures: usize,
        /// How many may.
        budget: usize,
    },
    /// A workload failed and was left as it is.
    LeftFailed,
}

/// Whether the failures so far stop the run.
pub fn stop(v: &Validated, targets: &[Target<'_>]) -> Option<Stop> {
    let failures = targets.iter().filter(|target| target.counts_as_failure()).count();
    let budget = v
        .budget
        .as_budget(targets.iter().filter(|target| target.direct).count());
    let left = targets.iter().any(|target| match &target.state {
        State::Failed { .. } => true,
        State::Pending { .. }
        | State::Rolling
        | State::Failing { .. }
        | State::Done
        | State::Held { .. }
        | State::Skipped(_) => false,
    });
    if failures > budget {
        Some(Stop::BudgetExceeded { failures, budget })
    } else if left {
        Some(Stop::LeftFailed)
    } else {
        None
    }
}

/// What is done next.
pub fn plan(
    v: &Validated,
    observed: &Observed,
    targets: &[Target<'_>],
    progress: &Progress,
    now: Timestamp,
) -> Vec<Action> {
    let mut actions: Vec<Action> = match v.action {
        FailureAction::RollbackWorkload => targets.iter().filter_map(|target| roll_back(v, target, now)).collect(),
        FailureAction::Pause => Vec::new(),
    };
    if observed.gate == Gate::Open && stop(v, targets).is_none() {
        actions.extend(moves(v, targets, progress, now));
    }
    actions.truncate(MAX_ACTIONS);
    actions
}

/// The workloads that are started now.
fn moves(v: &Validated, targets: &[Target<'_>], progress: &Progress, now: Timestamp) -> Vec<Action> {
    let Some(at) = progress.current else {
        return Vec::new();
    };
    let limit = v.waves[at].max_concurrent.as_limit(progress.waves[at].size);
    // All that are in flight count, also those of other waves: labels may have changed since they were started.
    let in_flight = targets.iter().filter(|target| target.in_flight).count();
    targets
        .iter()
        .filter(|target| target.wave == Some(at) && target.state == State::Pending { ready: true })
        .filter_map(|target| start(v, target, now))
        .take(limit.saturating_sub(in_flight))
        .collect()
}

fn start(v: &Validated, target: &Target<'_>, now: Timestamp) -> Option<Action> {
    let workload = &target.seen.workload;
    let mut changes: Vec<(&Container, ImageRef)> = Vec::new();
    for at in &target.outdated {
        let container = workload.containers.get(*at)?;
        let before = target.seen.images.get(*at)?.digest.as_ref()?;
        changes.push((container, v.repository.at(before)));
    }
    if changes.is_empty() {
        return None;
    }
    let image = v.repository.at(&v.digest);
    Some(Action::Move {
        workload: workload.key.clone(),
        patch: patch::move_to(workload, &changes, &image, &v.mark, now),
    })
}

fn roll_back(v: &Validated, target: &Target<'_>, now: Timestamp) -> Option<Action> {
    let State::Failing { reason, previous } = &target.state else {
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
    Some(Action::RollBack {
        workload: workload.key.clone(),
        patch: patch::roll_back(workload, &to_restore(target, previous), &v.mark, &hold),
        reason: reason.clone(),
    })
}

fn to_restore<'a>(
    target: &'a Target<'_>,
    previous: &'a BTreeMap<String, ImageRef>,
) -> Vec<(&'a Container, &'a ImageRef)> {
    let containers = target.seen.workload.containers.iter();
    containers
        .filter_map(|container| previous.get(&container.name).map(|image| (container, image)))
        .collect()
}
