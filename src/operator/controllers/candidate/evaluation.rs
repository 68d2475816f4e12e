//! What judged reports come to: a summary of each check, the waivers that were used, the difference to the release before,
//! and the rules that do not hold. Pure.
//!
//! Must not decide whether a candidate goes on: `gate` does, from what is made here.

use super::{
    evaluation_inputs::{EvaluationInputs, Previous},
    exceptions,
    observe::MAX_ATTEMPTS,
    validate::{PlannedCheck, PlannedRule},
};
use crate::{
    api::{
        ImageCandidateStatus,
        image_candidate::{CheckSummary, ReleaseDifference},
    },
    domain::{
        difference::{self, Difference},
        digest::Digest,
        report::Report,
        verdict::{Judgement, Verdict},
    },
};
use jiff::Timestamp;
pub use repave_policy::{Broken, CHECK_MESSAGE, FINDING_LINE, broken_rules};
use std::collections::BTreeMap;

/// Most waivers that a status names.
const MAX_WAIVERS: usize = 16;

/// The part of a candidate's status that judging writes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Evaluation {
    /// The built image.
    pub image: Option<Digest>,
    /// One entry a judged check. Until its report is stored, an entry that was just judged names none.
    pub checks: Vec<CheckSummary>,
    /// The waivers that took findings out, at most [`MAX_WAIVERS`], sorted.
    pub waivers: Vec<String>,
    /// Which waivers were in force.
    pub waivers_hash: Option<String>,
    /// What changed since the release before.
    pub difference: Option<ReleaseDifference>,
}

impl Evaluation {
    /// What was judged before.
    pub fn of(status: &ImageCandidateStatus) -> Self {
        Self {
            image: status.built_digest.clone(),
            checks: status.checks.clone(),
            waivers: status.waivers.clone(),
            waivers_hash: status.waivers_hash.clone(),
            difference: status.difference.clone(),
        }
    }

    /// What a check came to, if it is judged.
    pub fn check(&self, name: &str) -> Option<&CheckSummary> {
        self.checks.iter().find(|summary| summary.name == name)
    }

    /// Judges a report and adds what it comes to.
    pub fn add(
        &mut self,
        check: &PlannedCheck,
        report: &Report,
        stored: Option<&Digest>,
        key: &Digest,
        evaluation_inputs: &EvaluationInputs,
        now: Timestamp,
    ) {
        let judgement = exceptions::judge(check, report, &evaluation_inputs.waivers, now);
        let mut summary = repave_policy::summary(check, report, &judgement, key, key);
        summary.report = stored.cloned();
        self.waivers_hash(&evaluation_inputs.in_force);
        note(self, report, &judgement, evaluation_inputs);
        self.checks.push(summary);
    }

    /// Adds a check whose report never came: an error, never a pass.
    pub fn add_missing(&mut self, check: &PlannedCheck, message: &str) {
        self.checks.push(CheckSummary {
            name: check.name.clone(),
            verdict: Verdict::Error.as_str().to_owned(),
            message: format!("no report after {MAX_ATTEMPTS} attempts: {message}")
                .chars()
                .take(CHECK_MESSAGE)
                .collect(),
            counts: BTreeMap::new(),
            evaluated: 0,
            passed: 0,
            enforced: check.enforced,
            waived: 0,
            suppressed: 0,
            database_built: None,
            top: Vec::new(),
            report: None,
            tool_millis: 0,
            key: None,
        });
    }

    /// The rules that do not hold, once all checks are judged.
    pub fn broken(&self, rules: &[PlannedRule], now: Timestamp) -> Vec<Broken> {
        let judged = ImageCandidateStatus {
            built_digest: self.image.clone(),
            checks: self.checks.clone(),
            difference: self.difference.clone(),
            ..ImageCandidateStatus::default()
        };
        broken_rules(rules, &judged, now)
    }

    /// The difference to the release before, in one clause.
    pub fn difference(&self) -> Option<String> {
        let known = self.difference.as_ref()?;
        Some(format!("against {}: {}", known.previous_candidate, known.summary))
    }

    /// Notes which waivers were in force. Checks that were judged with different ones give a word that no set of waivers
    /// has, so that a refusal is evaluated again, with one set.
    pub fn waivers_hash(&mut self, in_force: &str) {
        let several = self.waivers_hash.as_deref().is_some_and(|before| before != in_force);
        self.waivers_hash = Some(if several { "several" } else { in_force }.to_owned());
    }
}

/// Adds the waivers that a judgement used, and what changed since the release before.
fn note(status: &mut Evaluation, report: &Report, judgement: &Judgement, evaluation_inputs: &EvaluationInputs) {
    for waiver in &judgement.used_waivers {
        if status.waivers.len() < MAX_WAIVERS && !status.waivers.contains(waiver) {
            status.waivers.push(waiver.clone());
        }
    }
    status.waivers.sort();
    let (since, before) = match &evaluation_inputs.previous {
        Previous::None => return,
        Previous::NotKnown => (String::new(), None),
        Previous::Known { candidate, checks } => (candidate.clone(), checks.get(&report.check)),
    };
    let known = status.difference.get_or_insert_with(|| ReleaseDifference {
        previous_candidate: since.clone(),
        ..ReleaseDifference::default()
    });
    if known.previous_candidate.is_empty() {
        known.previous_candidate = since;
    }
    let Some(before) = before else {
        if known.not_compared.len() < difference::NAMED {
            known.not_compared.push(report.check.clone());
        }
        known.summary = describe(&of(known), &known.not_compared);
        return;
    };
    let mut total = of(known);
    let mut more = Difference::between(&before.report, report);
    more.waivers = i64::from(judgement.waived) - i64::from(before.waived);
    total.add(more);
    known.summary = describe(&total, &known.not_compared);
    (known.fixed, known.introduced, known.unchanged) = (total.fixed, total.introduced, total.unchanged);
    (known.waivers, known.fixed_findings, known.introduced_findings) =
        (total.waivers, total.fixed_findings, total.introduced_findings);
}

fn of(known: &ReleaseDifference) -> Difference {
    Difference {
        fixed: known.fixed,
        introduced: known.introduced,
        unchanged: known.unchanged,
        waivers: known.waivers,
        fixed_findings: known.fixed_findings.clone(),
        introduced_findings: known.introduced_findings.clone(),
    }
}

fn describe(total: &Difference, not_compared: &[String]) -> String {
    if not_compared.is_empty() {
        total.to_string()
    } else {
        format!("{total}; not known for {}", not_compared.join(", "))
    }
}
