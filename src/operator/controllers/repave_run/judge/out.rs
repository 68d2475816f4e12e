//! Whether a workload is out: it was healthy in our roll-out until its wave had soaked. From then on it is out for good, whatever
//! becomes of it. Pure.
//!
//! What its roll-out looks like now is no answer: a pause and a resume, or a night without pods, make one that was complete for
//! a month look as if it were on its way or had timed out.

use super::Judge;
use crate::{
    api::repave_plan::FailureAction,
    controllers::repave_run::{clock, estate::ObservedWorkload},
    domain::{
        moved::{LastWrite, Whose},
        workload::Rollout,
    },
};
use jiff::{SignedDuration, Timestamp};

/// How much longer than a roll-out and its soak may take it must be that a workload was moved, to be out without a status that
/// says so.
const LONG_AGO: SignedDuration = SignedDuration::from_hours(24);

impl Judge<'_> {
    /// Whether it was healthy in our roll-out, and its wave has soaked since this run moved it. One that never was healthy has
    /// not come that far, though its wave may have passed without it.
    pub(super) fn passed(&self, seen: &ObservedWorkload, wave: Option<usize>) -> bool {
        let soaked = || self.has_soaked(seen, wave) || self.is_of_long_ago(seen, wave);
        self.ours(seen) && !self.was_never_healthy(seen) && soaked()
    }

    fn was_never_healthy(&self, seen: &ObservedWorkload) -> bool {
        let workload = &seen.workload;
        match &workload.rollout {
            Rollout::Rolling { .. } | Rollout::Unhealthy { .. } | Rollout::Paused => {
                workload.whose() == Some(Whose::Ours) && !self.known.steady.has(workload)
            }
            Rollout::Settled | Rollout::Degraded { .. } => {
                // One that is left as it is and does not stay healthy has failed for as long as this process sees it.
                let relapsed = self.known.elapsed.of(&workload.uid).relapsed;
                let left = self.v.action == FailureAction::Pause && relapsed && !self.has_stayed(seen);
                // Its wave may have soaked while it was not there.
                left || self.known.steady.was_missing(workload)
            }
        }
    }

    fn moved_at(seen: &ObservedWorkload) -> Option<Timestamp> {
        seen.workload.annotations.last_write.as_deref().map(LastWrite::at)
    }

    /// When its wave had soaked, and when it was moved.
    fn times(&self, seen: &ObservedWorkload, wave: Option<usize>) -> Option<(Timestamp, Timestamp)> {
        let rule = self.v.waves.get(wave?)?;
        let recorded = self.known.waves.iter().find(|wave| wave.name == rule.name)?;
        Some((recorded.soaked_at.as_ref()?.0, Self::moved_at(seen)?))
    }

    fn has_soaked(&self, seen: &ObservedWorkload, wave: Option<usize>) -> bool {
        self.times(seen, wave).is_some_and(|(soaked, moved)| {
            if moved < self.known.believed_until {
                moved <= soaked
            } else {
                // Its order to the soak is lost.
                self.known.steady.has(&seen.workload)
            }
        })
    }

    /// Whether nobody can tell if it was moved before its wave had soaked: the clock was far ahead then and was put right. What
    /// this process saw on its way itself is no such case.
    pub(super) fn is_in_doubt(&self, seen: &ObservedWorkload, wave: Option<usize>) -> bool {
        let times = self.times(seen, wave);
        let lost = times.is_some_and(|(_, moved)| moved >= self.known.believed_until);
        lost && !self.known.steady.is_open(&seen.workload)
    }

    /// Whether this run moved it so long before its status began that it had soaked since: the status was lost, and what was
    /// known of it too. The only length of time by the time of day: a day more than all of it may take, and in doubt nothing is
    /// rolled back.
    pub(super) fn is_of_long_ago(&self, seen: &ObservedWorkload, wave: Option<usize>) -> bool {
        let soak = wave.and_then(|at| self.v.waves.get(at)).map(|rule| rule.soak);
        let stay = SignedDuration::try_from(self.v.min_ready).unwrap_or(SignedDuration::MAX);
        let spans = [LONG_AGO, soak.unwrap_or_default(), self.v.rollout_deadline, stay];
        Self::moved_at(seen).is_some_and(|moved| spans.into_iter().fold(moved, clock::later) < self.known.began)
    }
}
