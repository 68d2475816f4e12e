//! What judged reports come to: a summary of each check, the waivers that were used, the difference to the release before,
//! and the rules that do not hold. Pure.
//!
//! Must not decide whether a candidate goes on: `gate` does, from what is made here.

use super::{
    exceptions,
    judging::{Judging, Previous},
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
        rules::{Changes, CheckResult, Expression, Results},
        verdict::{self, Judgement, Verdict},
    },
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::collections::BTreeMap;

/// Longest line for one finding, in characters.
pub const FINDING_LINE: usize = 130;
/// Longest message of a check, in characters.
pub const CHECK_MESSAGE: usize = 300;
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
    pub judged_with: Option<String>,
    /// Whether there were more waivers than are read.
    pub waivers_left_out: bool,
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
            judged_with: status.judged_with.clone(),
            waivers_left_out: false,
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
        judging: &Judging,
        now: Timestamp,
    ) {
        let judgement = exceptions::judge(check, report, &judging.waivers, now);
        self.judged_with(&judging.in_force);
        self.waivers_left_out |= judging.left_out;
        note(self, report, &judgement, judging);
        self.checks.push(summary(check, report, &judgement, stored, key));
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

    /// The difference to the release before, in one clause.
    pub fn difference(&self) -> Option<String> {
        let known = self.difference.as_ref()?;
        Some(format!("against {}: {}", known.since, known.summary))
    }

    /// Notes which waivers were in force. Checks that were judged with different ones give a word that no set of waivers
    /// has, so that a refusal is evaluated again, with one set.
    pub fn judged_with(&mut self, in_force: &str) {
        let several = self.judged_with.as_deref().is_some_and(|before| before != in_force);
        self.judged_with = Some(if several { "several" } else { in_force }.to_owned());
    }
}

/// The summary of a check that was judged; `stored` is the artifact with its report, once there is one.
pub fn summary(
    check: &PlannedCheck,
    report: &Report,
    judgement: &Judgement,
    stored: Option<&Digest>,
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
        database_built: report.tool.database_built.map(Time),
        top: judgement
            .worst
            .iter()
            .map(|finding| verdict::describe_finding(finding, FINDING_LINE))
            .collect(),
        report: stored.cloned(),
        tool_millis: report.tool_millis,
        key: Some(key.hex().to_owned()),
    }
}

/// Adds the waivers that a judgement used, and what changed since the release before.
fn note(status: &mut Evaluation, report: &Report, judgement: &Judgement, judging: &Judging) {
    for waiver in &judgement.used_waivers {
        if status.waivers.len() < MAX_WAIVERS && !status.waivers.contains(waiver) {
            status.waivers.push(waiver.clone());
        }
    }
    status.waivers.sort();
    let (since, before) = match &judging.previous {
        Previous::None => return,
        Previous::NotKnown => (String::new(), None),
        Previous::Known { candidate, checks } => (candidate.clone(), checks.get(&report.check)),
    };
    let known = status.difference.get_or_insert_with(|| ReleaseDifference {
        since: since.clone(),
        ..ReleaseDifference::default()
    });
    if known.since.is_empty() {
        known.since = since;
    }
    let Some(before) = before else {
        if known.not_known.len() < difference::NAMED {
            known.not_known.push(report.check.clone());
        }
        known.summary = describe(&of(known), &known.not_known);
        return;
    };
    let mut total = of(known);
    let mut more = Difference::between(&before.report, report);
    more.waivers = i64::from(judgement.waived) - i64::from(before.waived);
    total.add(more);
    known.summary = describe(&total, &known.not_known);
    (known.fixes, known.opens, known.unchanged) = (total.fixes, total.opens, total.unchanged);
    (known.waivers, known.closed, known.opened) = (total.waivers, total.closed, total.opened);
}

fn of(known: &ReleaseDifference) -> Difference {
    Difference {
        fixes: known.fixes,
        opens: known.opens,
        unchanged: known.unchanged,
        waivers: known.waivers,
        closed: known.closed.clone(),
        opened: known.opened.clone(),
    }
}

fn describe(total: &Difference, not_known: &[String]) -> String {
    if not_known.is_empty() {
        total.to_string()
    } else {
        format!("{total}; not known for {}", not_known.join(", "))
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

/// Those of these rules that do not hold, once all checks are judged.
pub fn broken_rules(rules: &[PlannedRule], status: &Evaluation, now: Timestamp) -> Vec<Broken> {
    rules.iter().filter_map(|rule| evaluate(rule, status, now)).collect()
}

fn evaluate(rule: &PlannedRule, status: &Evaluation, now: Timestamp) -> Option<Broken> {
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
fn results(policy: &str, status: &Evaluation, now: Timestamp) -> Results {
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
        let own = summary
            .name
            .strip_prefix(policy)
            .and_then(|rest| rest.strip_prefix('.'));
        if let Some(own) = own {
            checks.insert(own.to_owned(), result.clone());
        }
        checks.insert(summary.name.clone(), result);
    }
    let comparable = status.difference.as_ref().filter(|known| known.not_known.is_empty());
    Results {
        checks,
        image: status.image.as_ref().map(ToString::to_string).unwrap_or_default(),
        previous: comparable.map(|known| Changes {
            opened: known.opens,
            closed: known.fixes,
        }),
    }
}
