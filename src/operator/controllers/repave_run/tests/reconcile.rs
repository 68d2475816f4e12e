//! The small cluster's run: one reconcile, step by step as `look.rs` does it, with the faults that a test wants.

use super::{
    super::{
        apply::{Applied, Halt},
        clock,
        decide::{Before, decide, note, overlay},
        judge::Known,
        memory::RunMemory,
        observe::Observed,
        plan::{self, Action},
        reopen::reopens,
        status::{self, Summary},
        target, undone,
        validate::Validated,
    },
    objects::{bump, bump_generation, parse, patched},
    world::{Fault, World},
};
use crate::{
    controllers::driver::Requeue,
    domain::workload::{Rollout, WorkloadKey},
};
use jiff::SignedDuration;
use std::{collections::BTreeSet, sync::Arc, time::Duration};

impl World {
    /// One reconcile on what `seen` shows, written to this world.
    pub fn reconcile(&mut self, seen: &Self, fault: Fault) -> Vec<Action> {
        let actions = self.one_reconcile(seen, fault);
        if matches!(fault, Fault::CrashAfter(_)) {
            self.memory = RunMemory::default();
        }
        actions
    }

    fn one_reconcile(&mut self, seen: &Self, fault: Fault) -> Vec<Action> {
        self.reconciles += 1;
        self.note_stayed();
        self.note_late(seen);
        let mut observed = seen.observed();
        let mut memory = seen.memory.clone();
        let old = clock::put_right(seen.status.clone(), seen.now);
        let started = old.started.as_ref().map_or(seen.now, |time| time.0);
        let before = Before {
            old: &old,
            active_runs: &seen.active_runs,
        };
        let times = (seen.now, seen.mono);
        let to_ask = {
            let first = decide(&self.v, &observed, &mut memory, before, times);
            if seen.status.finished.is_some() && !reopens(&observed.gate, &first.targets, &seen.status) {
                let courses = first.targets.iter().map(target::Target::course);
                memory.steady.note(courses, &self.v.run_ref, first.stamp);
                if seen.mono == self.mono {
                    self.memory = memory.of_finished();
                }
                return Vec::new();
            }
            undone::to_ask(&first.actions)
        };
        seen.ask(&mut observed, &to_ask);
        let mut decided = decide(&self.v, &observed, &mut memory, before, times);
        let again = decide(&self.v, &observed, &mut memory.clone(), before, times);
        assert_eq!(decided.actions, again.actions, "the plan is a function");
        let planned = decided.actions.len();
        let free = undone::free(&observed.estate.workloads);
        decided.actions.retain(|action| undone::may_go(action, &free));
        let mut applied = Vec::new();
        for (at, action) in decided.actions.iter().enumerate() {
            if fault == Fault::CrashAfter(at) {
                return decided.actions;
            }
            let result = self.apply(action);
            let result = if fault == Fault::LostResponses {
                Applied::Unknown
            } else {
                result
            };
            applied.push((action.workload().clone(), result));
        }
        if matches!(fault, Fault::CrashAfter(_)) {
            return decided.actions;
        }
        overlay(&mut decided.targets, &decided.actions, &applied);
        note(&mut memory, &self.v, &decided, &applied, seen.mono);
        let retrying = memory.refusals.any_pausing();
        let outcome = status::summarize(&Summary {
            v: &seen.v,
            old: old.clone(),
            generation: 1,
            observed: &observed,
            stop: plan::stop(&seen.v, &decided.targets),
            targets: &decided.targets,
            progress: &decided.progress,
            halt: (fault == Fault::LostResponses && !applied.is_empty()).then(|| Halt::Unavailable {
                message: "no answer".to_owned(),
                quiet: Duration::from_secs(5),
            }),
            lost_race: decided.actions.len() < planned,
            retrying,
            set_back: &memory.set_back,
            steady: &memory.steady,
            started,
            stamp: decided.stamp,
            now: seen.now,
        });
        if outcome.status.finished.is_some() {
            assert_eq!(decided.actions, [], "a finished run has nothing to do");
            let ended = decided.targets.iter().all(target::Target::ended);
            assert!(ended, "finished before everything came to its end");
            assert_eq!(outcome.next, Requeue::AwaitChange);
        }
        Self::check_status(&outcome.status);
        self.check_done(&decided.targets);
        self.note_soaks(&outcome.status);
        self.status = outcome.status;
        if seen.mono == self.mono {
            let finished = self.status.finished.is_some();
            self.memory = if finished { memory.of_finished() } else { memory };
        }
        self.check_soaks();
        decided.actions
    }

    /// What the ReplicaSets of these workloads say.
    fn ask(&self, observed: &mut Observed, keys: &BTreeSet<WorkloadKey>) {
        for seen in &mut observed.estate.workloads {
            if keys.contains(&seen.workload.key) {
                let known = self.workloads[&seen.workload.key].revisions();
                let uid = &seen.workload.uid;
                Arc::make_mut(seen).led_away = undone::answer_of(&self.v, uid, &known);
            }
        }
    }

    /// The world's own count of what has not settled for too long.
    fn note_late(&mut self, seen: &Self) {
        for (key, sim) in &seen.workloads {
            let unsettled = parse(&sim.object).rollout != Rollout::Settled;
            let since = unsettled.then(|| sim.unsettled.unwrap_or(seen.mono));
            let late = since.is_some_and(|since| {
                SignedDuration::try_from(seen.mono.saturating_sub(since)).unwrap() >= self.v.rollout_deadline
            });
            if let Some(own) = self.workloads.get_mut(key) {
                (own.unsettled, own.late) = (since, late);
            }
        }
    }

    /// The targets as the run sees them now.
    pub fn targets(&self, observed: &Observed) -> Vec<target::Target> {
        self.targets_of(&self.v, observed)
    }

    /// The same for another text of the run.
    pub fn targets_of(&self, v: &Validated, observed: &Observed) -> Vec<target::Target> {
        let mut memory = self.memory.clone();
        memory
            .set_back
            .look(v, &self.status.set_back, observed.estate.workloads.iter().map(AsRef::as_ref));
        memory.steady.know(self.status.steady_until.as_ref().map(|time| time.0));
        let looks = target::looks(v, observed, &memory.steady);
        let elapsed = memory.sightings.look(looks, self.mono);
        let known = Known {
            waves: &self.status.waves,
            began: self.status.started.as_ref().map_or(self.now, |time| time.0),
            elapsed: &elapsed,
            refusals: &memory.refusals,
            steady: &memory.steady,
            set_back: &memory.set_back,
            mono: self.mono,
            active_runs: &self.active_runs,
        };
        target::targets(v, observed, known, self.now)
    }

    pub fn step(&mut self) -> Vec<Action> {
        let seen = self.clone();
        self.reconcile(&seen, Fault::None)
    }

    /// Reconciles, lets everything settle and time pass, until the run is finished or waits for a person.
    pub fn walk_to_the_end(&mut self) -> bool {
        let mut quiet = 0;
        for _ in 0..500 {
            let before = self.status.clone();
            self.step();
            if self.status.finished.is_some() {
                return true;
            }
            // No deadline, hold or soak of these worlds is as long as five minutes without a word.
            quiet = if self.status == before { quiet + 1 } else { 0 };
            if quiet == 60 {
                return false;
            }
            self.tick_all();
            self.wait(5);
        }
        false
    }

    fn apply(&mut self, action: &Action) -> Applied {
        let key = action.workload().clone();
        let patch = match action {
            Action::Move { patch, .. } | Action::RollBack { patch, .. } => serde_json::to_value(patch).unwrap(),
        };
        if self.workloads[&key].denied {
            return Applied::Refused(format!("policy: no changes ({})", self.mono.as_secs()));
        }
        let before = self.workloads[&key].object.clone();
        let Some(mut after) = patched(&before, &patch) else {
            return Applied::LostRace;
        };
        self.check_patch(&key, action, &before, &after);
        bump(&mut after, "resourceVersion");
        bump_generation(&mut after);
        let reconciles = self.reconciles;
        let sim = self.workloads.get_mut(&key).unwrap();
        sim.object = after;
        match action {
            Action::Move { .. } => {
                sim.forward += 1;
                (sim.later, sim.moved_in) = (false, reconciles);
                (sim.complete_since, sim.up_since) = (None, None);
                (sim.was_complete, sim.stayed) = (false, false);
            }
            Action::RollBack { .. } => sim.back += 1,
        }
        let sim = &self.workloads[&key];
        assert!(
            sim.forward <= sim.back + 1 && sim.back <= sim.forward,
            "{key} was moved {} times and rolled back {} times",
            sim.forward,
            sim.back
        );
        if matches!(action, Action::Move { .. }) && !self.second_leader {
            self.check_limit(&key);
        }
        Applied::Written
    }
}
