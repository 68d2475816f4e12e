//! Workloads that somebody set back after this run had moved them: they are never moved again by it, whatever becomes of
//! their annotations.
//!
//! Three things tell, and each can be lost: our record on the workload (`kubectl rollout undo` takes it away), what this
//! process has seen (a restart), and the ReplicaSets of the workload (`revisionHistoryLimit`). Once told, the status keeps it,
//! for as many as it has room for. Must not decide anything.

use super::{
    seen::{Estate, LedAway},
    validate::Validated,
};
use crate::domain::{digest::Digest, workload::Workload};
use std::collections::{BTreeSet, HashSet};

/// How many the status keeps. The others are found out again.
const MOST_KEPT: usize = 64;

/// How many that are not seen are remembered while the estate is not seen whole: as many as a plan may ever select.
const MOST_HIDDEN: usize = 50_000;

/// What is known of one run's workloads.
#[derive(Debug, Clone, Default)]
pub struct SetBack {
    /// UIDs of those that were seen on the target after our move.
    arrived: HashSet<String>,
    /// Those that were set back, as in the status.
    known: BTreeSet<String>,
}

/// A UID in the status: short, because there may be many.
fn id(uid: &str) -> String {
    Digest::of(uid.as_bytes()).short().to_owned()
}

/// Whether a container has the target's digest written.
pub fn is_on_target(v: &Validated, workload: &Workload) -> bool {
    let target = v.digest.as_str();
    workload
        .containers
        .iter()
        .any(|container| container.image.ends_with(target))
}

impl SetBack {
    /// Whether this workload was set back.
    pub fn has(&self, workload: &Workload) -> bool {
        !self.known.is_empty() && self.known.contains(&id(&workload.uid))
    }

    /// What a finished run must still know: its status may not have been written, and has not room for all.
    #[must_use]
    pub fn of_finished(self) -> Self {
        Self {
            arrived: HashSet::new(),
            known: self.known,
        }
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.arrived.is_empty() && self.known.is_empty()
    }

    /// This one was moved just now.
    pub fn arrived(&mut self, workload: &Workload) {
        self.arrived.insert(workload.uid.clone());
    }

    /// Takes a look at what is there, with what the status says. Of a part of it nothing is taken to be gone.
    pub fn look(&mut self, v: &Validated, kept: &[String], estate: &Estate) {
        self.known.extend(kept.iter().cloned());
        let before = (!estate.is_whole()).then(|| self.arrived.clone());
        let mut there = HashSet::new();
        for seen in &estate.workloads {
            let workload: &Workload = &seen.workload;
            let of_this = workload.record().filter(|moved| moved.is_of(&v.digest, v.sequence));
            if is_on_target(v, workload) {
                let ours = workload.is_of_run(&v.run_ref);
                let moved = ours && of_this.is_some_and(|moved| !moved.rolled_back);
                if moved || self.arrived.contains(&workload.uid) {
                    there.insert(workload.uid.clone());
                }
                continue;
            }
            let by_us = of_this.is_some_and(|moved| moved.rolled_back);
            let left = self.arrived.contains(&workload.uid) && !by_us;
            if left || matches!(seen.led_away, LedAway::From(_)) {
                self.known.insert(id(&workload.uid));
            }
        }
        self.arrived = there;
        self.arrived.extend(before.into_iter().flatten().take(MOST_HIDDEN));
    }

    /// What the status keeps: what it has of workloads that are still there, and what has come to it since.
    pub fn kept(&self, old: &[String], estate: &Estate) -> Vec<String> {
        if self.known.is_empty() {
            return Vec::new();
        }
        let there: BTreeSet<String> = estate.workloads.iter().map(|seen| id(&seen.workload.uid)).collect();
        let is_there = |id: &&String| !estate.is_whole() || there.contains(*id);
        let mut kept: Vec<String> = old.iter().filter(is_there).cloned().collect();
        let new = self.known.iter().filter(|id| there.contains(*id) && !old.contains(id));
        kept.extend(new.cloned());
        kept.truncate(MOST_KEPT);
        kept
    }
}
