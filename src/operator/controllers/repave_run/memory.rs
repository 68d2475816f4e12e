//! What this process remembers of the runs that are at work: how long workloads have been as they are, and what was refused.
//!
//! All of it may be lost: a restart then waits longer or tries again, and comes to the same end. A run takes no more than one
//! entry a workload of each kind, and nothing once it is finished. Must not decide anything.

use super::{refusals::Refusals, sightings::Sightings};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// What is remembered of one run.
#[derive(Debug, Clone, Default)]
pub struct RunMemory {
    /// How long workloads have been as they are.
    pub sightings: Sightings,
    /// What was refused.
    pub refusals: Refusals,
}

/// The memory of every run, and the turns of the runs of one plan.
#[derive(Debug)]
pub struct Memory {
    began: Instant,
    runs: Mutex<HashMap<String, RunMemory>>,
    plans: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            runs: Mutex::default(),
            plans: Mutex::default(),
        }
    }
}

impl Memory {
    /// The monotonic time of this process.
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Takes out what is remembered of the run with this UID. A reconcile that does not end never puts it back.
    pub fn take(&self, run: &str) -> RunMemory {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        runs.remove(run).unwrap_or_default()
    }

    /// Puts it back.
    pub fn put(&self, run: &str, memory: RunMemory) {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        runs.insert(run.to_owned(), memory);
    }

    /// Forgets a run that is finished or gone.
    pub fn forget(&self, run: &str) {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).remove(run);
    }

    /// The turn of one run among those of its plan, which share limits: only one of them decides and writes at a time.
    pub fn turn(&self, plan: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        plans.retain(|_, turn| Arc::strong_count(turn) > 1);
        plans.entry(plan.to_owned()).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(memory.plans.lock().unwrap().len(), 1);
    }

    #[test]
    fn nothing_is_kept_of_a_run_that_is_forgotten() {
        let memory = Memory::default();
        memory.put("run", RunMemory::default());
        memory.forget("run");
        assert!(memory.runs.lock().unwrap().is_empty());
    }
}
