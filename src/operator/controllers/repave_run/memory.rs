//! What this process remembers of the runs that are at work: how long workloads have been as they are, what was refused, what
//! has stayed healthy or was set back, and how much of a soak was watched.
//!
//! All of it may be lost: a restart then waits longer or tries again, and comes to the same end. A run takes no more than one
//! entry a workload of each kind; once it is finished only what was refused or set back is kept, because it may go on, and because
//! its plan must not promise what it has given up, and what stayed healthy, as far as its status does not tell it, because that
//! is never judged again. Must not decide anything.

use super::{
    places::Places, refusals::Refusals, set_back::SetBack, sightings::Sightings, soaks::Soaks, steady::Steady,
};
use crate::controllers::bounded::BoundedMap;
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// What is remembered of one run.
#[derive(Debug, Clone, Default)]
pub struct RunMemory {
    /// How long workloads have been as they are.
    pub sightings: Sightings,
    /// What was refused.
    pub refusals: Refusals,
    /// What has stayed healthy.
    pub steady: Steady,
    /// What was set back.
    pub set_back: SetBack,
    /// How much of the soaks was watched.
    pub soaks: Soaks,
    /// What was in flight, of all runs of its plan.
    pub places: Places,
    /// Which workloads counted against the budget when they were seen last, by UID.
    pub failures: HashSet<String>,
}

impl RunMemory {
    /// What a finished run must still know: what was refused, and what stayed healthy and the status does not tell.
    #[must_use]
    pub fn of_finished(self) -> Self {
        Self {
            refusals: self.refusals,
            steady: self.steady.of_finished(),
            set_back: self.set_back.of_finished(),
            ..Self::default()
        }
    }

    fn is_empty(&self) -> bool {
        self.refusals.is_empty() && self.steady.is_empty() && self.set_back.is_empty()
    }
}

/// Runs that are remembered: far more than are ever at work, because those that were deleted are only pushed out.
const MAX_RUNS: usize = 10_000;

/// The memory of every run, and the turns of the runs of one plan. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Memory(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    began: Instant,
    runs: Mutex<BoundedMap<String, RunMemory>>,
    places: Mutex<BoundedMap<String, Places>>,
    plans: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Default for Memory {
    fn default() -> Self {
        Self(Arc::new(Inner {
            began: Instant::now(),
            runs: Mutex::new(BoundedMap::new(MAX_RUNS)),
            places: Mutex::new(BoundedMap::new(MAX_RUNS)),
            plans: Mutex::default(),
        }))
    }
}

impl Memory {
    /// The monotonic time of this process.
    pub fn now(&self) -> Duration {
        self.0.began.elapsed()
    }

    /// Waits until it is the turn of the run with this UID among those of its plan (`namespace/name`), and takes out what is
    /// remembered of it.
    pub async fn enter(&self, plan: &str, run: &str) -> Turn {
        let mine = self.turn(plan).lock_owned().await;
        let mut remembered = self.runs().remove(run).unwrap_or_default();
        remembered.places = self.places().remove(plan).unwrap_or_default();
        Turn {
            remembered,
            plan: plan.to_owned(),
            run: run.to_owned(),
            memory: self.clone(),
            _mine: mine,
        }
    }

    /// What was refused to a run that is not being reconciled now, what has stayed healthy in it, and what was set back.
    pub fn known(&self, run: &str) -> (Refusals, Steady, SetBack) {
        let runs = self.runs();
        let known = runs.get(run);
        known
            .map(|memory| (memory.refusals.clone(), memory.steady.clone(), memory.set_back.clone()))
            .unwrap_or_default()
    }

    /// Forgets a run that is over for good or gone.
    pub fn forget(&self, run: &str) {
        self.runs().remove(run);
    }

    fn runs(&self) -> MutexGuard<'_, BoundedMap<String, RunMemory>> {
        self.0.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn places(&self) -> MutexGuard<'_, BoundedMap<String, Places>> {
        self.0.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The turn of one run among those of its plan, which share limits: only one of them decides and writes at a time.
    fn turn(&self, plan: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut plans = self.0.plans.lock().unwrap_or_else(PoisonError::into_inner);
        plans.retain(|_, turn| Arc::strong_count(turn) > 1);
        plans.entry(plan.to_owned()).or_default().clone()
    }
}

/// The turn of a run: nobody else of its plan decides or writes. One that is dropped and not ended is forgotten, as by a restart.
#[derive(Debug)]
pub struct Turn {
    /// What is remembered of the run.
    pub remembered: RunMemory,
    plan: String,
    run: String,
    memory: Memory,
    _mine: tokio::sync::OwnedMutexGuard<()>,
}

impl Turn {
    /// Puts back what is remembered; of a finished run, what it must still know.
    pub fn end(mut self, finished: bool) {
        let places = std::mem::take(&mut self.remembered.places);
        if !places.is_empty() {
            self.memory.places().insert(self.plan, places);
        }
        let kept = if finished {
            self.remembered.of_finished()
        } else {
            self.remembered
        };
        if !finished || !kept.is_empty() {
            self.memory.runs().insert(self.run, kept);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::refusals::Standing, *};

    #[test]
    fn the_runs_of_one_plan_take_turns_and_a_plan_without_a_turn_is_forgotten() {
        let memory = Memory::default();
        let first = memory.turn("platform/all");
        let held = first.try_lock().unwrap();
        assert!(memory.turn("platform/all").try_lock().is_err());
        assert!(memory.turn("platform/other").try_lock().is_ok());
        drop(held);
        drop(first);
        drop(memory.turn("platform/third"));
        assert_eq!(memory.0.plans.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn nothing_is_kept_of_a_run_that_is_forgotten() {
        let memory = Memory::default();
        let refused = |memory: &Memory| memory.known("run").0.standing("a", Duration::ZERO) == Standing::Free;
        memory.enter("platform/all", "run").await.end(true);
        assert!(memory.runs().get("run").is_none(), "nothing was refused");
        let mut turn = memory.enter("platform/all", "run").await;
        turn.remembered.refusals.refused("a", "no", Duration::ZERO);
        turn.end(true);
        assert!(!refused(&memory), "a finished run knows what was refused");
        drop(memory.enter("platform/all", "run").await);
        assert!(refused(&memory), "a turn that was not ended is forgotten");
        memory.enter("platform/all", "run").await.end(false);
        memory.forget("run");
        assert!(memory.runs().get("run").is_none());
    }
}
