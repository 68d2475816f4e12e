//! What one look at a run leads to: the states of all targets, how far the waves are, and what is done next. Pure but for the
//! memory of the run, which takes the look in. Holds no rule of its own.

use super::{
    apply::Applied,
    clock,
    judge::Known,
    memory::RunMemory,
    observe::Observed,
    plan::{self, Action, Taken},
    progress::{self, Progress},
    seen::{LedAway, ObservedWorkload},
    state::State,
    target::{self, Target},
    undone,
    validate::Validated,
};
use crate::{
    api::RepaveRunStatus,
    domain::workload::{Workload, WorkloadKey},
};
use jiff::Timestamp;
use std::{collections::BTreeSet, sync::Arc, time::Duration};

/// What is known from before this look.
#[derive(Debug, Clone, Copy)]
pub struct Before<'a> {
    /// The status as it was read.
    pub old: &'a RepaveRunStatus,
    /// Runs of other plans that are at work.
    pub active_runs: &'a BTreeSet<String>,
}

/// What one look leads to.
#[derive(Debug)]
pub struct Decided {
    /// Every target in its state.
    pub targets: Vec<Target>,
    /// The waves.
    pub progress: Progress,
    /// What is done next.
    pub actions: Vec<Action>,
    /// The time that is written down.
    pub stamp: Timestamp,
    /// From when on a time that stands on a workload is not believed.
    pub believed_until: Timestamp,
    /// How many that counted against the budget are not seen, though they may still be there.
    pub hidden_failures: usize,
    /// How many that were in flight are not seen.
    pub missing: usize,
    /// UIDs of all workloads that were seen.
    there: Vec<String>,
    /// Whether those are all that the plan selects.
    whole: bool,
    /// Those that are in flight for other runs of the plan, and whether they get their old image back.
    elsewhere: Vec<(Arc<ObservedWorkload>, bool)>,
}

impl Decided {
    /// The workloads whose ReplicaSets are asked before any of it is done: those that are moved next, and all of a wave that passes
    /// unseen. A process that died after its first move wrote down nowhere that this run had moved anything there, and whoever set
    /// that back with `kubectl rollout undo` took our record away: it is the ReplicaSets that know.
    pub fn to_ask(&self) -> BTreeSet<WorkloadKey> {
        let passes_unseen = |target: &&Target| {
            let wave = target.wave.and_then(|at| self.progress.waves.get(at));
            wave.is_some_and(|wave| wave.unasked) && target.seen.led_away == LedAway::NotAsked
        };
        let unseen = self.targets.iter().filter(passes_unseen);
        let mut keys = undone::to_ask(plan::now(&self.actions));
        keys.extend(unseen.map(|target| target.seen.workload.key.clone()));
        keys
    }
}

/// Takes a look, at this time of day and this monotonic time.
pub fn decide(
    v: &Validated,
    observed: &Observed,
    remembered: &mut RunMemory,
    before: Before<'_>,
    (now, mono): (Timestamp, Duration),
) -> Decided {
    let old = before.old;
    let workloads = || observed.estate.workloads.iter().map(AsRef::as_ref);
    let own = workloads().map(|seen| -> &Workload { &seen.workload });
    let stamp = clock::stamp(v, old, own, now);
    remembered.steady.know(old.steady_until.as_ref().map(|time| time.0));
    remembered
        .steady
        .look(workloads().map(|seen| seen.workload.as_ref()), &v.run_ref);
    remembered.set_back.look(v, &old.set_back, &observed.estate);
    let elsewhere = observed.estate.elsewhere.iter().map(AsRef::as_ref);
    let there = workloads().chain(elsewhere).map(|seen| seen.workload.uid.clone());
    let there: Vec<String> = there.collect();
    let deadline = Duration::try_from(v.rollout_deadline).unwrap_or_default();
    let missing = remembered.places.look(there.iter().map(String::as_str), mono, deadline);
    let looks = target::looks(v, observed, &remembered.steady);
    let elapsed = remembered.sightings.look(looks, mono);
    let watched = remembered.soaks.look(&old.waves, mono);
    let believed_until = clock::believed_until(old, now);
    let known = Known {
        waves: &old.waves,
        began: clock::began(old, now),
        believed_until,
        elapsed: &elapsed,
        refusals: &remembered.refusals,
        steady: &remembered.steady,
        set_back: &remembered.set_back,
        mono,
        active_runs: before.active_runs,
    };
    let targets = target::targets(v, observed, known, now);
    let waves = progress::Before {
        recorded: &old.waves,
        watched: &watched,
        may_pass: observed.gate.lets_pass(),
        whole: observed.estate.is_whole(),
    };
    let progress = progress::progress(v, &targets, waves, stamp);
    let elsewhere = target::in_flight_elsewhere(v, observed, &targets, &elapsed);
    let taken = Taken {
        all: elsewhere.len().saturating_add(missing.all),
        back: elsewhere
            .iter()
            .filter(|(_, back)| *back)
            .count()
            .saturating_add(missing.back),
    };
    let hidden_failures = hidden_failures(remembered, old, &targets, (&there, observed.estate.is_whole()));
    let actions = plan::plan(v, observed, &targets, &progress, (taken, hidden_failures, stamp));
    Decided {
        hidden_failures,
        missing: missing.all,
        targets,
        progress,
        actions,
        stamp,
        believed_until,
        there,
        whole: observed.estate.is_whole(),
        elsewhere,
    }
}

/// How many counted against the budget when they were seen last, and are not seen while the estate is not seen whole. What the status
/// tells counts after a restart, too: then nobody knows which they were, and as many as it tells have failed at least.
fn hidden_failures(
    remembered: &mut RunMemory,
    old: &RepaveRunStatus,
    targets: &[Target],
    (there, whole): (&[String], bool),
) -> usize {
    let there: BTreeSet<&str> = there.iter().map(String::as_str).collect();
    remembered
        .failures
        .retain(|uid| !whole && !there.contains(uid.as_str()));
    let failing = targets.iter().filter(|target| target.counts_as_failure());
    let failing: Vec<String> = failing.map(|target| target.seen.workload.uid.clone()).collect();
    let hidden = remembered.failures.len();
    let told = if whole { 0 } else { old.failures as usize };
    let hidden = hidden.max(told.saturating_sub(failing.len()));
    remembered.failures.extend(failing);
    hidden
}

/// The states after what was just written, so that the status is true at once.
pub fn overlay(targets: &mut [Target], actions: &[Action], applied: &[(WorkloadKey, Applied)]) {
    for (action, (_, result)) in actions.iter().zip(applied) {
        let Some(target) = targets.iter_mut().find(|t| t.seen.workload.key == *action.workload()) else {
            continue;
        };
        if *result == Applied::Written {
            target.in_flight = true;
            target.arriving = matches!(action, Action::Move { .. });
            target.moved |= matches!(action, Action::Move { .. });
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

/// Remembers what came of it.
pub fn note(
    remembered: &mut RunMemory,
    v: &Validated,
    decided: &Decided,
    applied: &[(WorkloadKey, Applied)],
    mono: Duration,
) {
    let targets = &decided.targets;
    let courses = targets.iter().map(Target::course);
    remembered.steady.note(courses, &v.run_ref, decided.believed_until);
    let waves = v.waves.iter().zip(&decided.progress.waves);
    let settled = waves.map(|(rule, wave)| (rule.name.as_str(), wave.settled_at));
    remembered.soaks.note(settled, mono);
    note_writes(remembered, decided, applied, mono);
    let there: BTreeSet<&str> = targets.iter().map(|t| t.seen.workload.uid.as_str()).collect();
    remembered.refusals.keep(&|uid| !decided.whole || there.contains(uid));
    for (key, result) in applied {
        let Some(target) = targets.iter().find(|t| t.seen.workload.key == *key) else {
            continue;
        };
        let uid = &target.seen.workload.uid;
        match result {
            Applied::Written => remembered.refusals.written(uid, mono),
            Applied::Refused(words) => remembered.refusals.refused(uid, words, mono),
            Applied::Failed(words) => remembered.refusals.failed(uid, words, mono),
            Applied::LostRace | Applied::Unknown => {}
        }
    }
}

/// Remembers what is on its way, what was written just now included. A write without an answer may have been carried out: what
/// is seen at the next look tells.
fn note_writes(remembered: &mut RunMemory, decided: &Decided, applied: &[(WorkloadKey, Applied)], mono: Duration) {
    let seen = |key: &WorkloadKey| {
        decided
            .targets
            .iter()
            .map(|target| &target.seen)
            .find(|seen| seen.workload.key == *key)
    };
    let mut in_flight: Vec<(&Workload, bool)> = decided
        .elsewhere
        .iter()
        .map(|(seen, back)| (seen.workload.as_ref(), *back))
        .collect();
    for target in decided.targets.iter().filter(|target| target.in_flight) {
        in_flight.push((&target.seen.workload, target.rolls_back()));
    }
    for (action, (key, result)) in decided.actions.iter().zip(applied) {
        let Some(workload) = seen(key).map(|seen| &seen.workload) else {
            continue;
        };
        match result {
            Applied::Written | Applied::Failed(_) | Applied::Unknown => {}
            Applied::Refused(_) | Applied::LostRace => continue,
        }
        in_flight.push((workload, action.is_rollback()));
        if matches!(action, Action::Move { .. }) {
            remembered.steady.moved(workload, decided.stamp);
            if *result == Applied::Written {
                remembered.set_back.arrived(workload);
            }
        }
    }
    let there = decided.there.iter().map(String::as_str);
    let in_flight = in_flight.into_iter();
    let in_flight = in_flight.map(|(workload, back)| (workload.uid.as_str(), &workload.key, back));
    remembered.places.note(there, in_flight, mono);
}
