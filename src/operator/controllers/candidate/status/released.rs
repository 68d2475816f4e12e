//! What a released candidate's status says after it was evaluated again. Pure.
//!
//! Must not touch what the release was judged by: that stays as it was, the new evaluation stands beside it.

use super::{Arrived, Draft, MAX_ATTEMPTS, QUEUED, arrived};
use crate::{
    api::image_candidate::Reevaluation,
    controllers::{
        candidate::{
            apply::Applied,
            decision::{CHECK_MESSAGE, FINDING_LINE},
            exceptions,
            judging::Judging,
            observe::{CheckState, JobState},
            validate::PlannedCheck,
        },
        conditions::{self, Truth},
        context::Settings,
        driver::Notice,
    },
    domain::{
        digest::Digest,
        verdict::{self, Verdict},
    },
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// Condition: whether the released image still passes its scans, with the newest database.
pub const STILL_PASSES: &str = "StillPasses";

impl Draft<'_> {
    /// Notes each report that has come, and says how the release stands.
    pub(super) fn evaluated_again(
        &mut self,
        image: &Digest,
        checks: &[(PlannedCheck, CheckState)],
        applied: &Applied,
        judging: &Judging,
        settings: &Settings,
    ) {
        for arrived in arrived(image, checks, applied, settings) {
            self.note_again(&arrived, judging);
        }
        let mut open = Vec::new();
        for (check, state) in checks {
            match state {
                CheckState::Judged | CheckState::Job(JobState::Delivered(_)) => {}
                CheckState::Job(JobState::Broken { attempt, message }) if *attempt >= MAX_ATTEMPTS => {
                    open.push(format!("{} could not be evaluated again: {message}", check.name));
                }
                CheckState::Job(JobState::Running(what) | JobState::Broken { message: what, .. }) => {
                    open.push(format!("{}: {what}", check.name));
                }
                CheckState::Job(JobState::Absent(_)) if !applied.queued.is_empty() => {
                    open.push(format!("{}: {QUEUED}", check.name));
                }
                CheckState::Job(JobState::Absent(_)) => open.push(format!("{} is evaluated again", check.name)),
            }
        }
        self.still_passes(&open);
    }

    /// Nothing is to be evaluated again: what was said about tools that are not used any more is taken back.
    pub(super) fn up_to_date(&mut self) {
        self.trusted(&[]);
        if !self.status.reevaluations.is_empty() {
            self.still_passes(&[]);
        }
    }

    /// It is not, or no longer, what is released: nothing is said any more about tools and databases of today.
    pub(super) fn superseded(&mut self) {
        self.trusted(&[]);
        self.conditions.clear(STILL_PASSES);
    }

    fn note_again(&mut self, arrived: &Arrived<'_>, judging: &Judging) {
        let Arrived {
            check,
            report,
            stored,
            key,
        } = arrived;
        let judgement = exceptions::judge(check, report, &judging.waivers, self.now);
        let fixable = report.findings.iter().filter(|finding| finding.fixed_version.is_some());
        let entry = Reevaluation {
            name: check.name.clone(),
            key: key.hex().to_owned(),
            verdict: judgement.verdict.as_str().to_owned(),
            message: judgement.message.chars().take(CHECK_MESSAGE).collect(),
            counts: judgement.counts,
            fixable: u32::try_from(fixable.count()).unwrap_or(u32::MAX),
            top: judgement
                .worst
                .iter()
                .map(|finding| verdict::describe_finding(finding, FINDING_LINE))
                .collect(),
            report: (*stored).clone(),
            at: Time(self.now),
        };
        self.status.reevaluations.retain(|old| old.name != entry.name);
        self.status.reevaluations.push(entry);
    }

    fn still_passes(&mut self, open: &[String]) {
        let failed: Vec<&Reevaluation> = self
            .status
            .reevaluations
            .iter()
            .filter(|again| again.verdict != Verdict::Passed.as_str())
            .collect();
        let (truth, reason, message) = if !failed.is_empty() {
            let what: Vec<String> = failed.iter().map(|again| described(again)).collect();
            (
                Truth::False,
                "NewFindings",
                format!("with the newest database it would not be released: {}", what.join("; ")),
            )
        } else if open.is_empty() {
            let message = "the newest database changes nothing".to_owned();
            (Truth::True, "EvaluatedAgain", message)
        } else {
            (Truth::Unknown, "EvaluatingAgain", open.join("; "))
        };
        let known = conditions::find(&self.status.conditions, STILL_PASSES).is_some_and(|old| old.message == message);
        self.conditions.set(STILL_PASSES, truth, reason, message.clone());
        if !known && !failed.is_empty() {
            self.notices.push(Notice {
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
