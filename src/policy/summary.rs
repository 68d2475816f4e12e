//! What is said about a check once its report is judged, and which rules of a policy do not hold. Pure.
//!
//! Must not decide whether a candidate goes on: the candidate's controller does, from what is made here.

use crate::checks::{PlannedCheck, PlannedRule, own_name};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use repave_api::{ImageCandidateStatus, image_candidate::CheckSummary};
use repave_core::{
    digest::Digest,
    report::Report,
    rules::{Changes, CheckResult, Expression, Results},
    verdict::{self, Judgement},
};
use std::collections::BTreeMap;

/// Longest line for one finding, in characters.
pub const FINDING_LINE: usize = 130;
/// Longest message of a check, in characters.
pub const CHECK_MESSAGE: usize = 300;
/// The summary of a check that was judged.
pub fn summary(
    check: &PlannedCheck,
    report: &Report,
    judgement: &Judgement,
    stored: &Digest,
    key: &Digest,
) -> CheckSummary {
    CheckSummary {
        name: check.name.clone(),
        verdict: judgement.verdict.as_str().to_owned(),
        message: judgement.message.chars().take(CHECK_MESSAGE).collect(),
        counts: judgement.counts.clone(),
        evaluated: report.evaluated,
        passed: report.passed,
        enforced: check.enforced,
        waived: judgement.waived,
        suppressed: judgement.suppressed,
        // It goes into a status, and Kubernetes knows no years before 0: such a time is none, and its rules have no answer.
        database_built: report
            .tool
            .database_built
            .filter(|built| *built >= Timestamp::UNIX_EPOCH)
            .map(Time),
        top: judgement
            .worst
            .iter()
            .map(|finding| verdict::describe_finding(finding, FINDING_LINE))
            .collect(),
        report: Some(stored.clone()),
        tool_millis: report.tool_millis,
        key: Some(key.hex().to_owned()),
    }
}

/// A rule that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Its name, as that of a check.
    pub name: String,
    /// One line for people.
    pub message: String,
    /// Whether it has no answer at all.
    pub error: bool,
    /// Whether it keeps the candidate out.
    pub enforced: bool,
}

/// Those of these rules that do not hold.
pub fn broken_rules(rules: &[PlannedRule], status: &ImageCandidateStatus, now: Timestamp) -> Vec<Broken> {
    rules.iter().filter_map(|rule| evaluate(rule, status, now)).collect()
}

fn evaluate(rule: &PlannedRule, status: &ImageCandidateStatus, now: Timestamp) -> Option<Broken> {
    let broken = |message, error| {
        Some(Broken {
            name: rule.name.clone(),
            message,
            error,
            enforced: rule.enforced,
        })
    };
    let expression = Expression::parse(&rule.expression).map_err(|error| error.to_string());
    match expression.and_then(|expression| expression.holds(&results(&rule.policy, status, now))) {
        Ok(true) => None,
        Ok(false) => broken(rule.message.clone(), false),
        Err(error) => broken(format!("it cannot be evaluated: {error}"), true),
    }
}

/// The results as the rules of a policy see them: its own checks also by their own names.
pub(crate) fn results(policy: &str, status: &ImageCandidateStatus, now: Timestamp) -> Results {
    let mut checks = BTreeMap::new();
    for summary in &status.checks {
        let age = summary.database_built.as_ref();
        let result = CheckResult {
            verdict: summary.verdict.clone(),
            evaluated: summary.evaluated,
            passed: summary.passed,
            failed: summary.counts.clone(),
            waived: summary.waived,
            suppressed: summary.suppressed,
            database_age_hours: age.map(|built| now.duration_since(built.0).as_hours()),
        };
        if let Some(own) = own_name(policy, &summary.name) {
            checks.insert(own.to_owned(), result.clone());
        }
        checks.insert(summary.name.clone(), result);
    }
    let comparable = status.difference.as_ref().filter(|known| known.not_compared.is_empty());
    Results {
        checks,
        image: status
            .built_digest
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        previous: comparable.map(|known| Changes {
            introduced: known.introduced,
            fixed: known.fixed,
        }),
    }
}
