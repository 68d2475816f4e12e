//! Decides from judged checks and rules whether the gates of a candidate open, and makes the proof of one that may be
//! promoted. Pure.
//!
//! The only place where pass or refuse is decided. Must not print a status: `status` does, from the verdict made here.

use super::{
    evaluation::{Broken, Evaluation},
    exceptions,
    validate::ValidatedCandidate,
};
use crate::{
    api::{
        ImageCandidate,
        image_candidate::{CheckSummary, Step},
        phase::Phase,
        validation_policy::Enforcement,
    },
    domain::{
        digest::Digest,
        proof::{self, Proof, Unproven},
        verdict::Verdict as CheckVerdict,
    },
};
use jiff::Timestamp;
use kube::ResourceExt as _;

/// How one of the two gates (`Validated`, `Scanned`) stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GateState {
    /// Some of its checks are not judged.
    Running {
        /// Their names.
        open: Vec<String>,
    },
    /// Its checks are judged; the rules look at all results, and scans still run.
    RulesWaiting,
    /// It is open.
    Open {
        /// What its checks and rules came to.
        message: String,
    },
    /// It is shut.
    Shut {
        /// Condition reason.
        reason: &'static str,
        /// What keeps it shut.
        message: String,
    },
}

/// Why a candidate is out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// [`Phase::Rejected`] or [`Phase::Error`].
    pub phase: Phase,
    /// The step that it ended at.
    pub step: Step,
    /// Condition reason.
    pub reason: &'static str,
    /// What is so, why, what to do.
    pub message: String,
}

/// What the checks of a candidate come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Hardening, functional and benchmark checks, and the rules.
    pub validated: GateState,
    /// Vulnerability scans.
    pub scanned: GateState,
    /// The enforced checks and rules that did not pass, for the table.
    pub failed_checks: Option<String>,
    /// Why it is out; only once every check is judged.
    pub refusal: Option<Refusal>,
}

impl Verdict {
    /// Where the candidate stands with this verdict.
    pub fn phase(&self) -> Phase {
        match (&self.refusal, &self.validated, &self.scanned) {
            (Some(refusal), _, _) => refusal.phase,
            (None, GateState::Open { .. }, GateState::Open { .. }) => Phase::Promote,
            (None, _, _) => Phase::Check,
        }
    }
}

/// Decides it.
pub fn verdict(validated: &ValidatedCandidate, evaluation: &Evaluation, now: Timestamp) -> Verdict {
    let all = validated
        .checks
        .iter()
        .all(|check| evaluation.check(&check.name).is_some());
    let rules = if all {
        evaluation.broken(&validated.rules, now)
    } else {
        Vec::new()
    };
    Verdict {
        validated: gate(validated, evaluation, false, all, &rules),
        scanned: gate(validated, evaluation, true, all, &[]),
        failed_checks: failed_checks(validated, evaluation, &rules),
        refusal: if all {
            refused(validated, evaluation, &rules)
        } else {
            None
        },
    }
}

fn gate(
    validated: &ValidatedCandidate,
    evaluation: &Evaluation,
    scans: bool,
    all: bool,
    rules: &[Broken],
) -> GateState {
    let mut judged = Vec::new();
    let mut open = Vec::new();
    for check in validated.checks.iter().filter(|check| check.is_scan() == scans) {
        match evaluation.check(&check.name) {
            Some(summary) => judged.push(summary),
            None => open.push(check.name.clone()),
        }
    }
    if !open.is_empty() {
        return GateState::Running { open };
    }
    // Rules look at all results, so Validated waits for the scans where there are any.
    if !scans && !validated.rules.is_empty() && !all {
        return GateState::RulesWaiting;
    }
    if let Some((reason, message)) = shut(validated, &judged, rules) {
        return GateState::Shut { reason, message };
    }
    let mut said: Vec<_> = judged.iter().map(|summary| describe_passed(summary)).collect();
    said.extend(rules.iter().map(describe_audited));
    said.extend(evaluation.difference());
    let message = if judged.is_empty() && validated.rules.is_empty() {
        "no check of this kind is demanded".to_owned()
    } else {
        said.join("; ")
    };
    GateState::Open { message }
}

/// The checks of the candidate that are enforced and did not pass.
fn failed<'a>(validated: &ValidatedCandidate, evaluation: &'a Evaluation) -> Vec<&'a CheckSummary> {
    let judged = validated
        .checks
        .iter()
        .filter_map(|check| evaluation.check(&check.name));
    judged.filter(|summary| summary.enforced && !passed(summary)).collect()
}

fn passed(summary: &CheckSummary) -> bool {
    summary.verdict == CheckVerdict::Passed.as_str()
}

fn failed_checks(validated: &ValidatedCandidate, evaluation: &Evaluation, rules: &[Broken]) -> Option<String> {
    let checks = failed(validated, evaluation)
        .into_iter()
        .map(|summary| summary.name.clone());
    let rules = rules.iter().filter(|rule| rule.enforced);
    let names: Vec<_> = checks.chain(rules.map(|rule| format!("rule {}", rule.name))).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

fn refused(validated: &ValidatedCandidate, evaluation: &Evaluation, rules: &[Broken]) -> Option<Refusal> {
    let failed = failed(validated, evaluation);
    let enforced: Vec<&Broken> = rules.iter().filter(|rule| rule.enforced).collect();
    let is_scan = |name: &str| {
        validated
            .checks
            .iter()
            .any(|check| check.name == name && check.is_scan())
    };
    let step = if enforced.is_empty() && failed.iter().all(|summary| is_scan(&summary.name)) {
        Step::Scanned
    } else {
        Step::Validated
    };
    let only_findings = failed
        .iter()
        .all(|summary| summary.verdict == CheckVerdict::Failed.as_str())
        && enforced.iter().all(|rule| !rule.error);
    let (reason, message) = shut(validated, &failed, rules)?;
    let phase = if only_findings { Phase::Rejected } else { Phase::Error };
    Some(Refusal {
        phase,
        step,
        reason,
        message,
    })
}

/// Why a gate stays shut: what failed, then what could not be judged, then the worst findings.
fn shut(validated: &ValidatedCandidate, judged: &[&CheckSummary], rules: &[Broken]) -> Option<(&'static str, String)> {
    let shut: Vec<_> = judged.iter().filter(|s| s.enforced && !passed(s)).collect();
    let rules: Vec<_> = rules.iter().filter(|rule| rule.enforced).collect();
    let reason = if shut.iter().any(|s| s.verdict == CheckVerdict::Failed.as_str()) {
        "ChecksFailed"
    } else if !shut.is_empty() {
        "ChecksNotTrusted"
    } else if rules.iter().any(|rule| rule.error) {
        "RuleError"
    } else if !rules.is_empty() {
        "RulesFailed"
    } else {
        return None;
    };
    let mut lines: Vec<_> = shut.iter().map(|s| describe_check(s)).collect();
    lines.extend(rules.iter().map(|rule| format!("rule {}: {}", rule.name, rule.message)));
    let top: Vec<_> = shut.iter().flat_map(|s| s.top.iter().map(String::as_str)).collect();
    let top = if top.is_empty() {
        String::new()
    } else {
        format!(" Top: {}.", top.join("; "))
    };
    let (name, namespace) = (&validated.name, &validated.namespace);
    Some((
        reason,
        format!(
            "{}. Nothing was promoted. Report: kubectl repave report {name} -n {namespace}.{top}",
            lines.join("; ")
        ),
    ))
}

/// A check that keeps nothing out: it passed, or its policy only audits.
fn describe_passed(summary: &CheckSummary) -> String {
    if passed(summary) {
        format!("{}: {}", summary.name, summary.message)
    } else {
        format!("{} (Audit: keeps nothing out)", describe_check(summary))
    }
}

fn describe_audited(rule: &Broken) -> String {
    format!("rule {}: {} (Audit: keeps nothing out)", rule.name, rule.message)
}

fn describe_check(summary: &CheckSummary) -> String {
    if summary.verdict == CheckVerdict::Failed.as_str() {
        format!("{}: {}", summary.name, summary.message)
    } else {
        format!("{}: {} ({})", summary.name, summary.verdict, summary.message)
    }
}

/// The proof of a candidate whose gates are open, from what its status keeps of every check.
///
/// Rules are evaluated at the time when the gates were decided: they do not fail because the promotion took a while.
///
/// # Errors
/// What is missing: an enforced check without a passed verdict or without its stored report, or a rule that does not hold.
pub fn proof(candidate: &ImageCandidate, validated: &ValidatedCandidate) -> Result<Proof, Unproven> {
    let status = candidate.status.clone().unwrap_or_default();
    let evaluation = Evaluation::of(&status);
    let broken = evaluation.broken(&validated.rules, exceptions::judged_at(candidate));
    let checks = validated.checks.iter().map(|check| {
        let summary = evaluation.check(&check.name);
        proof::Check {
            name: check.name.clone(),
            tool: check.tool,
            enforced: check.enforced,
            passed: summary.is_some_and(passed),
            report: summary.and_then(|summary| summary.report.clone()),
        }
    });
    let mut policies = Vec::new();
    for policy in &candidate.spec.policies {
        if policy.spec.enforcement == Enforcement::Enforce {
            policies.push(policy);
        }
    }
    let names = policies.iter().map(|policy| policy.name.clone()).collect();
    let canonical = serde_json::to_vec(&policies).map_err(|error| Unproven::Policies(error.to_string()))?;
    Proof::new(proof::Claim {
        image: status.built_digest,
        candidate: candidate.uid().unwrap_or_default(),
        sequence: candidate.spec.sequence,
        policies: names,
        policies_digest: Digest::of(&canonical),
        checks: checks.collect(),
        broken_rules: broken
            .into_iter()
            .filter(|rule| rule.enforced)
            .map(|rule| rule.name)
            .collect(),
    })
}
