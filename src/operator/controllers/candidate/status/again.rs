//! The status of a refused candidate after its stored reports were judged with other waivers. Pure.
//!
//! It opens what findings alone kept shut. Whatever cannot be judged any more (a report that is gone, a vulnerability
//! database that is too old by now) changes no verdict: the refusal stands, and a condition says what to do.

use super::{Arrived, Draft};
use crate::{
    api::{
        ImageCandidateStatus,
        image_candidate::{CandidateResult, Step},
    },
    controllers::{
        candidate::{
            observe::{
                CheckState,
                again::{Again, Stored},
            },
            validate::PlannedCheck,
        },
        conditions::{Conditions, Truth},
        context::Settings,
        driver::Notice,
    },
    domain::{digest::Digest, verdict::Verdict},
};

/// Condition: waivers changed after the refusal, and whether the stored reports could be judged with them.
const JUDGED_AGAIN: &str = "JudgedAgain";

impl Draft<'_> {
    pub(super) fn judged_again(&mut self, again: &Again, settings: &Settings) {
        let judged = again
            .reports
            .clone()
            .and_then(|reports| self.fresh(again, &reports, settings));
        match judged {
            Ok(mut fresh) => {
                let message = "the waivers of this namespace changed: the stored reports were judged with them, and nothing ran again";
                fresh
                    .conditions
                    .set(JUDGED_AGAIN, Truth::True, "WaiversChanged", message);
                (self.status, self.conditions, self.notices) = (fresh.status, fresh.conditions, fresh.notices);
            }
            Err(why) => {
                let message = format!(
                    "the waivers of this namespace changed, and the stored reports cannot be judged with them: {why}. The refusal stands. Delete this ImageCandidate: its BaseImage makes it again, and its checks run"
                );
                self.status.judged_with = Some(again.judging.in_force.clone());
                self.conditions
                    .set(JUDGED_AGAIN, Truth::False, "ReportsNotUsable", message.clone());
                self.notices.push(Notice {
                    warning: true,
                    reason: "ReportsNotUsable",
                    message,
                });
            }
        }
    }

    /// This status with the reports judged anew, unless that comes to an error.
    fn fresh(&self, again: &Again, reports: &[Stored], settings: &Settings) -> Result<Self, String> {
        let generation = self.status.observed_generation.unwrap_or(0);
        let mut fresh = Self {
            wish: self.wish,
            status: cleared(self.status.clone()),
            conditions: Conditions::from(&self.status.conditions, generation, self.now),
            now: self.now,
            notices: Vec::new(),
        };
        for check in &self.wish.checks {
            let old = self.status.check(&check.name);
            match reports.iter().find(|(report, _)| report.check == check.name) {
                Some((report, stored)) => {
                    let key = old.and_then(|old| format!("sha256:{}", old.key.as_deref()?).parse().ok());
                    let key: Digest = key.unwrap_or_else(|| check.key(&again.image, &settings.tools_image));
                    let arrived = Arrived {
                        check,
                        report,
                        stored,
                        key,
                    };
                    fresh.judge_report(&arrived, &again.judging);
                }
                // Only a check that is not enforced may be without a report.
                None => fresh.status.checks.extend(old.cloned()),
            }
        }
        let judged: Vec<_> = self
            .wish
            .checks
            .iter()
            .map(|c| (c.clone(), CheckState::Judged))
            .collect();
        let nothing = super::Applied::default();
        fresh.gate(Step::Validated, &again.image, &judged, false, &nothing);
        fresh.gate(Step::Scanned, &again.image, &judged, true, &nothing);
        fresh.headline();
        if fresh.status.result == Some(CandidateResult::Error) {
            return Err(troubles(&fresh.status, &self.wish.checks));
        }
        Ok(fresh)
    }
}

/// Without everything that came of the judgement before.
fn cleared(mut status: ImageCandidateStatus) -> ImageCandidateStatus {
    status.checks.clear();
    status.waivers.clear();
    (status.difference, status.page, status.judged_with, status.failed_checks) = (None, None, None, None);
    // It says when the gates were decided, which is now.
    for entry in &mut status.timeline {
        if matches!(entry.step, Step::Validated | Step::Scanned) {
            entry.finished = None;
        }
    }
    status
}

fn troubles(status: &ImageCandidateStatus, checks: &[PlannedCheck]) -> String {
    let known = [Verdict::Passed.as_str(), Verdict::Failed.as_str()];
    let enforced = checks.iter().filter(|check| check.enforced);
    let lines: Vec<_> = enforced
        .filter_map(|check| status.check(&check.name))
        .filter(|summary| !known.contains(&summary.verdict.as_str()))
        .map(|summary| format!("{}: {}", summary.name, summary.message))
        .collect();
    if lines.is_empty() {
        "a rule of the policy cannot be evaluated".to_owned()
    } else {
        lines.join("; ")
    }
}
