//! Who waits for a slot, since when, and how soon it asks again. In memory only, and bounded. Must not decide who starts.

use super::running::Running;
use crate::domain::queue::{Limits, QueuedJob};
use std::{collections::BTreeMap, time::Duration};
use tokio::time::Instant;

/// How soon a candidate at the head of the queue asks again; one further back asks later, the last ones this late.
pub(super) const QUEUED_REQUEUE: Duration = Duration::from_secs(5);
pub(super) const ASK_AT_LATEST: Duration = Duration::from_secs(300);
/// A claim that was not renewed for so long is forgotten: its candidate is gone or needs it no more. Longer than the
/// longest time between two questions, so that nobody loses a place by waiting.
const FORGOTTEN: Duration = Duration::from_secs(900);
/// Most claims in the queue; further ones wait outside until their candidate asks again.
const MAX_CLAIMS: usize = 50_000;

/// Who waits, and what runs.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) waiting: BTreeMap<(String, String), (QueuedJob, Instant)>,
    next: u64,
    pub(super) running: Running,
}

impl Queue {
    pub(super) fn enter(&mut self, namespace: &str, jobs: &[String], urgent: bool, now: Instant) {
        self.waiting
            .retain(|_, (_, renewed)| now.duration_since(*renewed) < FORGOTTEN);
        for job in jobs {
            let key = (namespace.to_owned(), job.clone());
            if let Some((claim, renewed)) = self.waiting.get_mut(&key) {
                claim.urgent = urgent;
                *renewed = now;
            } else if self.waiting.len() < MAX_CLAIMS {
                let claim = QueuedJob {
                    namespace: namespace.to_owned(),
                    job: job.clone(),
                    urgent,
                    since: self.next,
                };
                self.next += 1;
                self.waiting.insert(key, (claim, now));
            }
        }
    }

    /// One round of the queue later for each time that all slots are taken by those before: what the whole queue asks is
    /// bounded, however long it is.
    pub(super) fn ask_again(&self, namespace: &str, jobs: &[String], limits: Limits) -> Duration {
        let mine = jobs
            .iter()
            .filter_map(|job| self.waiting.get(&(namespace.to_owned(), job.clone())));
        let Some(first) = mine.map(|(claim, _)| (!claim.urgent, claim.since)).min() else {
            return QUEUED_REQUEUE;
        };
        let before = self
            .waiting
            .values()
            .filter(|(claim, _)| (!claim.urgent, claim.since) < first)
            .count();
        let rounds = u32::try_from(before / limits.total.max(1)).unwrap_or(u32::MAX);
        QUEUED_REQUEUE
            .saturating_mul(rounds.saturating_add(1))
            .min(ASK_AT_LATEST)
    }
}
