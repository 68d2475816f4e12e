//! Which Jobs may start now: a limit in total and per namespace, fair between namespaces, with an urgent lane. Pure.
//!
//! Must never admit more than the limits leave room for, whatever is waiting: what runs is counted from a fresh look at the
//! cluster, so a restart or a second process cannot raise it.

use std::collections::{BTreeMap, BTreeSet};

/// How many Jobs may run at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// In the whole cluster; at least 1. With more than one, one slot is kept for urgent Jobs.
    pub total: usize,
    /// In one namespace; at least 1. Urgent Jobs are not bound by it, but see [`Limits::most_in_one`].
    pub per_namespace: usize,
}

impl Limits {
    /// What one namespace may have with urgent Jobs and all: a quarter of the total is left to the others.
    pub fn most_in_one(self) -> usize {
        let left = if self.total > 1 { (self.total / 4).max(1) } else { 0 };
        self.per_namespace.max(self.total - left)
    }
}

/// A Job that wants to start.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct QueuedJob {
    /// Where it will run.
    pub namespace: String,
    /// Its name there.
    pub job: String,
    /// Whether a fix for a released image waits for it.
    pub urgent: bool,
    /// Its place in the line: lower came earlier.
    pub since: u64,
}

/// The claims that may start now. `running` has the number of unfinished Jobs of each namespace.
///
/// Urgent ones go first. Among the rest the next slot goes to the namespace with the fewest Jobs, then to the claim that
/// waits longest: a namespace with a thousand images cannot starve one with a single image.
pub fn admit(running: &BTreeMap<String, usize>, waiting: &BTreeSet<QueuedJob>, limits: Limits) -> BTreeSet<QueuedJob> {
    let mut running = running.clone();
    let mut waiting: Vec<&QueuedJob> = waiting.iter().collect();
    let mut admitted = BTreeSet::new();
    loop {
        let total: usize = running.values().sum();
        let count = |claim: &QueuedJob| running.get(&claim.namespace).copied().unwrap_or(0);
        let next = waiting
            .iter()
            .enumerate()
            .filter(|(_, claim)| fits(claim, total, count(claim), limits))
            .min_by_key(|(_, claim)| (!claim.urgent, count(claim), claim.since, *claim))
            .map(|(position, _)| position);
        let Some(position) = next else {
            return admitted;
        };
        let claim = waiting.swap_remove(position);
        *running.entry(claim.namespace.clone()).or_insert(0) += 1;
        admitted.insert(claim.clone());
    }
}

fn fits(claim: &QueuedJob, total: usize, in_namespace: usize, limits: Limits) -> bool {
    if claim.urgent {
        return total < limits.total && in_namespace < limits.most_in_one();
    }
    let ordinary = if limits.total > 1 {
        limits.total - 1
    } else {
        limits.total
    };
    total < ordinary && in_namespace < limits.per_namespace
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn claim(namespace: &str, job: &str, since: u64, urgent: bool) -> QueuedJob {
        QueuedJob {
            namespace: namespace.into(),
            job: job.into(),
            urgent,
            since,
        }
    }

    fn names(admitted: &BTreeSet<QueuedJob>) -> Vec<&str> {
        admitted.iter().map(|claim| claim.job.as_str()).collect()
    }

    const FOUR: Limits = Limits {
        total: 4,
        per_namespace: 2,
    };

    #[test]
    fn a_small_namespace_is_not_starved_by_a_large_one() {
        let mut waiting: BTreeSet<_> = (0..100).map(|n| claim("large", &format!("l{n}"), n, false)).collect();
        waiting.insert(claim("small", "s", 1000, false));
        let admitted = admit(&BTreeMap::new(), &waiting, FOUR);
        assert_eq!(names(&admitted), ["l0", "l1", "s"]);
    }

    #[test]
    fn the_last_slot_is_kept_for_what_is_urgent_and_that_goes_first() {
        let running = BTreeMap::from([("a".to_owned(), 2), ("b".to_owned(), 1)]);
        let waiting = BTreeSet::from([claim("c", "ordinary", 1, false), claim("a", "urgent", 2, true)]);
        assert_eq!(names(&admit(&running, &waiting, FOUR)), ["urgent"]);
        let full = BTreeMap::from([("a".to_owned(), 4)]);
        assert!(
            admit(&full, &waiting, FOUR).is_empty(),
            "urgent is no way around the total"
        );
    }

    #[test]
    fn one_slot_serves_everybody() {
        let one = Limits {
            total: 1,
            per_namespace: 1,
        };
        let waiting = BTreeSet::from([claim("a", "a", 2, false), claim("b", "b", 1, false)]);
        assert_eq!(names(&admit(&BTreeMap::new(), &waiting, one)), ["b"]);
    }

    proptest! {
        #[test]
        fn limits_hold_and_no_slot_stays_empty_that_somebody_could_use(
            running in proptest::collection::btree_map("[a-d]", 0_usize..4, 0..4),
            claims in proptest::collection::vec(("[a-d]", 0_u64..50, any::<bool>()), 0..40),
            total in 1_usize..10,
            per_namespace in 1_usize..5,
        ) {
            let limits = Limits { total, per_namespace };
            let waiting: BTreeSet<_> = claims
                .iter()
                .enumerate()
                .map(|(n, (namespace, since, urgent))| claim(namespace, &format!("j{n}"), *since, *urgent))
                .collect();
            let admitted = admit(&running, &waiting, limits);
            let before: usize = running.values().sum();
            prop_assert!(admitted.is_empty() || before + admitted.len() <= total);
            let mut after = running.clone();
            for one in &admitted {
                *after.entry(one.namespace.clone()).or_insert(0) += 1;
            }
            for one in admitted.iter().filter(|one| !one.urgent) {
                let ordinary = admitted.iter().filter(|o| !o.urgent && o.namespace == one.namespace).count();
                prop_assert!(running.get(&one.namespace).copied().unwrap_or(0) + ordinary <= per_namespace);
            }
            let used: usize = after.values().sum();
            for left in waiting.difference(&admitted) {
                let in_namespace = after.get(&left.namespace).copied().unwrap_or(0);
                prop_assert!(!fits(left, used, in_namespace, limits), "{left:?} could have started");
            }
        }
    }
}
