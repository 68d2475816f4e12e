//! What a released candidate's status says after its scans were made again. Pure.
//!
//! Must not touch what the release was judged by: that stays as it was, the new evaluation stands beside it.

use super::{ConditionStatus, Draft, EventRecord, QUEUED, Time, WaitingOn, conditions};
use crate::{api::image_candidate::Reevaluation, controllers::candidate::decide::Rescanned, domain::verdict::Verdict};

/// Condition: whether the released image still passes its scans, with the newest database.
pub const RESCAN_PASSED: &str = "RescanPassed";

impl Draft<'_> {
    /// Notes each report that has come, and says how the release stands.
    pub(super) fn rescanned(&mut self, scans: &[Rescanned], waiting_on: &[WaitingOn]) {
        for scan in scans {
            self.note(scan);
        }
        let open: Vec<String> = waiting_on.iter().filter_map(|one| self.open_rescan(one)).collect();
        self.rescan_passed(&open);
    }

    fn open_rescan(&self, waiting_on: &WaitingOn) -> Option<String> {
        let WaitingOn::Rescan { check, what } = waiting_on else {
            return None;
        };
        Some(match what {
            Some(what) => format!("{check}: {what}"),
            None if self.applied.queued.is_empty() => format!("{check} is evaluated again"),
            None => format!("{check}: {QUEUED}"),
        })
    }

    /// Nothing is to be evaluated again: what was said about tools that are not used any more is taken back.
    pub(super) fn current(&mut self) {
        self.trusted(&[]);
        if !self.status.reevaluations.is_empty() {
            self.rescan_passed(&[]);
        }
    }

    /// It is not, or no longer, what is released: nothing is said any more about tools and databases of today.
    pub(super) fn settled(&mut self) {
        self.trusted(&[]);
        self.conditions.clear(RESCAN_PASSED);
    }

    fn note(&mut self, scan: &Rescanned) {
        // Without its stored report it is scanned again: nothing is said that cannot be looked up.
        let Some((_, stored)) = self.applied.reports.iter().find(|(check, _)| *check == scan.check) else {
            return;
        };
        let entry = Reevaluation {
            name: scan.check.clone(),
            key: scan.key.hex().to_owned(),
            verdict: scan.verdict.as_str().to_owned(),
            message: scan.message.clone(),
            counts: scan.counts.clone(),
            fixable: scan.fixable,
            top: scan.top.clone(),
            report: stored.clone(),
            at: Time(self.now),
        };
        self.status.reevaluations.retain(|old| old.name != entry.name);
        self.status.reevaluations.push(entry);
    }

    fn rescan_passed(&mut self, open: &[String]) {
        let failed: Vec<&Reevaluation> = self
            .status
            .reevaluations
            .iter()
            .filter(|again| again.verdict != Verdict::Passed.as_str())
            .collect();
        let (truth, reason, message) = if !failed.is_empty() {
            let what: Vec<String> = failed.iter().map(|again| described(again)).collect();
            (
                ConditionStatus::False,
                "NewFindings",
                format!("with the newest database it would not be released: {}", what.join("; ")),
            )
        } else if open.is_empty() {
            let message = "the newest database changes nothing".to_owned();
            (ConditionStatus::True, "EvaluatedAgain", message)
        } else {
            (ConditionStatus::Unknown, "EvaluatingAgain", open.join("; "))
        };
        let known = conditions::find(&self.status.conditions, RESCAN_PASSED).is_some_and(|old| old.message == message);
        let told = !failed.is_empty();
        self.conditions.set(RESCAN_PASSED, truth, reason, message.clone());
        if !known && told {
            self.events.push(EventRecord {
                warning: true,
                reason,
                message,
            });
        }
    }
}

fn described(again: &Reevaluation) -> String {
    let top = again.top.first().map(|top| format!(": {top}")).unwrap_or_default();
    format!("{} {}{top}", again.name, again.message)
}
