//! Which runs are made or opened again. Pure: a proven release that something outdated waits for, and that has no run yet,
//! gets one; a finished run goes on when something can be moved again.
//!
//! It is the same run and no second one, because its name is the mark on the workloads that it moved: what somebody set
//! back after that run is known by it, and is not moved again.
//!
//! A newer release gets its own run even while an older one is at work: the older one sees that it is superseded.

use super::{
    observe::{Observed, Released},
    run::{is_finished, is_run_of, run},
};
use crate::api::{RepavePlan, RepaveRun};
use kube::ResourceExt;

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Makes a run.
    CreateRun(Box<RepaveRun>),
    /// Has a finished run look again: something that it can move is outdated.
    Reopen {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

/// What is done, and what it was decided on: that is told, too.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// What was seen.
    pub observed: Observed,
    /// What is done next.
    pub actions: Vec<Action>,
}

/// Decides.
pub fn decide(plan: &RepavePlan, observed: Observed) -> Decision {
    let actions = self::plan(plan, &observed);
    Decision { observed, actions }
}

/// What is done next.
pub fn plan(plan: &RepavePlan, observed: &Observed) -> Vec<Action> {
    if plan.spec.suspend {
        return Vec::new();
    }
    let mut actions = Vec::new();
    for base in &observed.bases {
        let (Released::Proven(release), Some(1..)) = (&base.release, base.outdated) else {
            continue;
        };
        let there = observed.runs.iter().find(|run| is_run_of(run, release));
        match there {
            Some(run) if base.standing.movable_by_run > 0 && is_finished(run) => actions.push(Action::Reopen {
                namespace: run.namespace().unwrap_or_default(),
                name: run.name_any(),
            }),
            Some(_) => {}
            None => actions.extend(run(plan, release).map(|run| Action::CreateRun(Box::new(run)))),
        }
    }
    actions
}
