//! The small cluster's run: one reconcile, step by step as `look.rs` does it, with the faults that a test wants.

use super::{
    super::{
        apply::{Applied, Halt},
        clock,
        decide::{Before, Decided, decide, note, overlay},
        judge::Known,
        memory::RunMemory,
        observe::Observed,
        plan::{self, Action},
        reopen::reopens,
        status::{self, Summary},
        target::{self, Target},
        undone,
        validate::Validated,
    },
    objects::{bump, bump_generation, image_of, parse, patched},
    world::{Fault, Sim, World},
};
use crate::{
    api::RepaveRunStatus,
    controllers::driver::Requeue,
    domain::workload::{Rollout, WorkloadKey},
};
use jiff::{SignedDuration, Timestamp};
use std::{collections::BTreeSet, sync::Arc, time::Duration};

impl World {
    /// One reconcile on what `seen` shows, written to this world.
    pub fn reconcile(&mut self, seen: &Self, fault: Fault) -> Vec<Action> {
        let actions = self.one_reconcile(seen, fault);
        if matches!(fault, Fault::CrashAfter(_)) {
            self.memory = RunMemory::default();
            self.forget_places();
        }
        actions
    }

    fn one_reconcile(&mut self, seen: &Self, fault: Fault) -> Vec<Action> {
        self.reconciles += 1;
        self.note_stayed();
        self.note_late(seen);
        let v = &seen.v;
        let mut observed = seen.observed();
        let mut memory = seen.memory.clone();
        let old = seen.status.clone();
        let before = Before {
            old: &old,
            active_runs: &seen.active_runs,
        };
        let times = (seen.now, seen.mono);
        let to_ask = {
            let first = decide(v, &observed, &mut memory, before, times);
            if seen.status.finished.is_some() && !reopens(&observed.gate, &first.targets, &seen.status) {
                let courses = first.targets.iter().map(Target::course);
                memory.steady.note(courses, &v.run_ref, first.believed_until);
                if seen.mono == self.mono {
                    self.memory = memory.of_finished();
                }
                return Vec::new();
            }
            first.to_ask()
        };
        seen.ask(&mut observed, &to_ask);
        let mut decided = decide(v, &observed, &mut memory, before, times);
        let again = decide(v, &observed, &mut memory.clone(), before, times);
        assert_eq!(decided.actions, again.actions, "the plan is a function");
        self.check_others(&decided.targets);
        let planned = decided.actions.len();
        let free = undone::free(&observed.estate.workloads);
        decided.actions.retain(|action| undone::may_go(action, &free));
        let mut applied = Vec::new();
        for (at, action) in decided.actions.iter().enumerate() {
            if fault == Fault::CrashAfter(at) {
                return decided.actions;
            }
            let result = self.write(action);
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
        let unanswered = fault == Fault::LostResponses && !applied.is_empty();
        let halt = unanswered.then(no_answer);
        let came = Came {
            observed: &observed,
            applied,
            halt,
            lost_race: decided.actions.len() < planned,
            old: old.clone(),
            times,
        };
        let status = conclude(v, &mut memory, &mut decided, came);
        // A status is written onto the run that was read, and no other.
        if seen.v.uid != self.v.uid {
            return decided.actions;
        }
        self.take_status(&decided.targets, status);
        self.note_begun(!unanswered);
        if seen.mono == self.mono {
            let finished = self.status.finished.is_some();
            self.memory = if finished { memory.of_finished() } else { memory };
            self.note_places();
        }
        decided.actions
    }

    /// A status is written.
    pub fn take_status(&mut self, targets: &[Target], status: RepaveRunStatus) {
        Self::check_status(&status);
        self.check_done(targets);
        self.note_soaks(&status);
        self.status = status;
        self.check_soaks();
    }

    /// What the ReplicaSets of these workloads say.
    pub fn ask(&self, observed: &mut Observed, keys: &BTreeSet<WorkloadKey>) {
        for seen in &mut observed.estate.workloads {
            if keys.contains(&seen.workload.key) {
                let sim = self.workloads.get(&seen.workload.key);
                let known = sim.map(Sim::revisions).unwrap_or_default();
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
    pub fn targets(&self, observed: &Observed) -> Vec<Target> {
        self.targets_of(&self.v, observed)
    }

    /// The same for another text of the run.
    pub fn targets_of(&self, v: &Validated, observed: &Observed) -> Vec<Target> {
        let mut memory = self.memory.clone();
        memory.set_back.look(v, &self.status.set_back, &observed.estate);
        memory.steady.know(self.status.steady_until.as_ref().map(|time| time.0));
        let looks = target::looks(v, observed, &memory.steady);
        let elapsed = memory.sightings.look(looks, self.mono);
        let known = Known {
            waves: &self.status.waves,
            began: clock::began(&self.status, self.now),
            believed_until: clock::believed_until(&self.status, self.now),
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

    /// Time passes, and is watched.
    pub fn watch(&mut self, seconds: i64) {
        for passed in (0..seconds).step_by(60) {
            self.wait((seconds - passed).min(60));
            self.step();
        }
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

    /// One patch arrives at the API server.
    pub fn write(&mut self, action: &Action) -> Applied {
        let key = action.workload().clone();
        let patch = match action {
            Action::Move { patch, .. } | Action::RollBack { patch, .. } => serde_json::to_value(patch).unwrap(),
        };
        let Some(sim) = self.workloads.get(&key) else {
            return Applied::LostRace;
        };
        if sim.denied {
            return Applied::Refused(format!("policy: no changes ({})", self.mono.as_secs()));
        }
        let before = sim.object.clone();
        let Some(mut after) = patched(&before, &patch) else {
            return Applied::LostRace;
        };
        self.check_patch(&key, action, &before, &after);
        bump(&mut after, "resourceVersion");
        bump_generation(&mut after);
        if let Some(eyes) = &mut self.eyes {
            eyes.insert(key.clone(), after.clone());
        }
        let (reconciles, mono) = (self.reconciles, self.mono);
        let sim = self.workloads.get_mut(&key).unwrap();
        sim.object = after;
        match action {
            Action::Move { .. } => {
                sim.forward += 1;
                // What a move repairs is nothing to go back to.
                if parse(&before).rollout == Rollout::Settled {
                    sim.before = image_of(&before);
                }
                (sim.later, sim.moved_in) = (false, reconciles);
                (sim.complete_since, sim.up_since) = (None, None);
                (sim.was_complete, sim.stayed) = (false, false);
            }
            Action::RollBack { .. } => {
                sim.back += 1;
                sim.back_at = Some(mono);
            }
        }
        let sim = &self.workloads[&key];
        assert!(
            sim.forward <= sim.back + 1 && sim.back <= sim.forward,
            "{key} was moved {} times and rolled back {} times",
            sim.forward,
            sim.back
        );
        match action {
            _ if self.second_leader => {}
            Action::Move { .. } => {
                self.check_limit(&key);
                let wave = self.wave_of(&key);
                self.moved[wave] = true;
            }
            Action::RollBack { .. } => self.check_limit_of_rollbacks(&key),
        }
        Applied::Written
    }
}

/// What a batch came to, and what it was decided on.
pub struct Came<'a> {
    pub observed: &'a Observed,
    pub applied: Vec<(WorkloadKey, Applied)>,
    pub halt: Option<Halt>,
    pub lost_race: bool,
    pub old: RepaveRunStatus,
    pub times: (Timestamp, Duration),
}

/// The API server did not answer.
pub fn no_answer() -> Halt {
    Halt::Unavailable {
        message: "no answer".to_owned(),
        quiet: Duration::from_secs(5),
    }
}

/// What is remembered of a look, and its status.
pub fn conclude(v: &Validated, memory: &mut RunMemory, decided: &mut Decided, came: Came<'_>) -> RepaveRunStatus {
    let (now, mono) = came.times;
    overlay(&mut decided.targets, &decided.actions, &came.applied);
    note(memory, v, decided, &came.applied, mono);
    let outcome = status::summarize(&Summary {
        v,
        generation: 1,
        observed: came.observed,
        stop: plan::stop(v, &decided.targets, decided.hidden_failures),
        hidden_failures: decided.hidden_failures,
        missing: decided.missing,
        targets: &decided.targets,
        progress: &decided.progress,
        halt: came.halt,
        lost_race: came.lost_race,
        retrying: memory.refusals.any_pausing(),
        set_back: &memory.set_back,
        steady: &memory.steady,
        started: came.old.started.as_ref().map_or(now, |time| time.0),
        stamp: decided.stamp,
        now,
        old: came.old,
    });
    if outcome.status.finished.is_some() {
        assert_eq!(decided.actions, [], "a finished run has nothing to do");
        let ended = decided.targets.iter().all(Target::ended);
        assert!(ended, "finished before everything came to its end");
        assert_eq!(outcome.next, Requeue::AwaitChange);
    }
    outcome.status
}
