//! How many Jobs run in each namespace, never too few: what was listed, and what was admitted since. Pure.

use super::listing::Listed;
use crate::domain::queue::Limits;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::time::Instant;

/// How long a list of what runs is used.
const FRESH: Duration = Duration::from_secs(2);

/// How many Jobs run in each namespace, never too few.
#[derive(Debug, Default)]
pub(super) struct Running {
    pub(super) listed: BTreeMap<String, usize>,
    /// Where nothing is started.
    pub(super) full: BTreeSet<String>,
    at: Option<Instant>,
    /// Admitted, and perhaps not created yet: no list need have them.
    pending: BTreeMap<String, usize>,
    /// Admitted since the last list began, or pending then: this list need not have them.
    pub(super) since: BTreeMap<String, usize>,
}

impl Running {
    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        self.at.is_some_and(|at| now.saturating_duration_since(at) < FRESH)
    }

    pub(super) fn list_begins(&mut self) {
        // Until it is there, the old list and all that was admitted since then count.
        self.at = None;
        for (namespace, count) in std::mem::take(&mut self.since) {
            *self.listed.entry(namespace).or_insert(0) += count;
        }
        self.since = self.pending.clone();
    }

    pub(super) fn listed(&mut self, mut listed: Listed, now: Instant) {
        for namespace in &listed.full {
            if let Some(known) = self.listed.get(namespace) {
                listed.running.entry(namespace.clone()).or_insert(*known);
            }
        }
        self.listed = listed.running;
        self.full = listed.full;
        self.at = Some(now);
    }

    pub(super) fn admitted(&mut self, namespace: &str, count: usize) {
        for counts in [&mut self.pending, &mut self.since] {
            if count > 0 {
                *counts.entry(namespace.to_owned()).or_insert(0) += count;
            }
        }
    }

    pub(super) fn created(&mut self, namespace: &str, count: usize) {
        if let Some(pending) = self.pending.get_mut(namespace) {
            *pending = pending.saturating_sub(count);
            if *pending == 0 {
                self.pending.remove(namespace);
            }
        }
    }

    /// What counts: of one namespace, and of all together that could not be read, never more than a quarter less than all, so that
    /// one that is full of something else than our Jobs does not take the places of the others.
    pub(super) fn counts(&self, limits: Limits) -> BTreeMap<String, usize> {
        let mut counts = self.listed.clone();
        for (namespace, count) in &self.since {
            *counts.entry(namespace.clone()).or_insert(0) += count;
        }
        let mut left = limits.most_in_one();
        for (namespace, count) in &mut counts {
            *count = (*count).min(limits.most_in_one());
            if self.full.contains(namespace) {
                *count = (*count).min(left);
                left -= *count;
            }
        }
        counts
    }
}
