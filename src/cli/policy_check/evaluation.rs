//! What a changed policy would make of reports that are already there. Pure.
//!
//! Thresholds, minimums and what the gate filters are judged again. What the examination itself depends on (a profile, a
//! gossfile, an option of the native rules) is not guessed: where the stored report cannot tell, that is the answer.

use crate::{
    exceptions::Granted,
    judge::{self, judge},
};
use jiff::Timestamp;
use repave_api::image_candidate::CheckSummary;
use repave_core::{
    report::Report,
    verdict::{Verdict, describe_finding},
};
use repave_policy::{PlannedCheck, kinds::examined};
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Longest line of a finding, in characters.
const LINE: usize = 200;

/// What one check of the new policy would say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// The check of the new policy.
    pub check: String,
    /// The answer.
    pub answer: Answer,
    /// Whether it keeps an image out; otherwise it is only reported.
    pub enforced: bool,
    /// Why, in one line.
    pub message: String,
    /// The worst findings that count.
    pub top: Vec<String>,
}

/// An answer, and what the operator would keep of it.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyOutcome {
    /// The answer.
    pub outcome: Outcome,
    /// What rules are evaluated over; only where a report of exactly this examination was judged.
    pub kept: Option<CheckSummary>,
}

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Answer {
    /// It would pass.
    Passes,
    /// The stored reports cannot tell.
    Unknown,
    /// It would not pass.
    Fails,
}

impl Answer {
    /// The words for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passes => "passes",
            Self::Unknown => "cannot be told",
            Self::Fails => "fails",
        }
    }
}

/// How the examination of the new check differs from the one that was made.
#[derive(Debug, PartialEq, Eq)]
enum Difference {
    /// Not at all.
    None,
    /// More is allowed: it can only find the same or less.
    Wider(String),
    /// Less is allowed: it can only find the same or more.
    Narrower(String),
    /// Otherwise.
    Other(String),
}

/// Judges every check of the new policy from the reports of the old checks, by the old checks' names. `at` is when the old
/// ones were judged: the age of a vulnerability database counts from then. What is `granted` counts as of its own time.
pub fn evaluate_policy(
    old: &[PlannedCheck],
    new: &[PlannedCheck],
    reports: &BTreeMap<String, Report>,
    at: Timestamp,
    granted: &Granted<'_>,
) -> Vec<PolicyOutcome> {
    new.iter().map(|check| one(old, check, reports, at, granted)).collect()
}

fn one(
    old: &[PlannedCheck],
    new: &PlannedCheck,
    reports: &BTreeMap<String, Report>,
    at: Timestamp,
    granted: &Granted<'_>,
) -> PolicyOutcome {
    let unknown = |message: String| PolicyOutcome {
        outcome: Outcome {
            check: new.name.clone(),
            answer: Answer::Unknown,
            enforced: new.enforced,
            message,
            top: Vec::new(),
        },
        kept: None,
    };
    let mut alike: Vec<_> = old
        .iter()
        .filter(|check| check.tool == new.tool)
        .map(|check| (difference(check, new), check))
        .collect();
    // The one that was examined in the same way before the one of the same name.
    alike.sort_by_key(|(difference, check)| (*difference != Difference::None, check.spec.name != new.spec.name));
    let Some((difference, check)) = alike.into_iter().next() else {
        return unknown("no such check was ever run on it".to_owned());
    };
    let Some(report) = reports.get(&check.name) else {
        return unknown(format!("there is no stored report of its check {}", check.name));
    };
    // A waiver names checks as the new policy does.
    let report = &Report {
        check: new.name.clone(),
        ..report.clone()
    };
    let applied = match granted.to(new, report) {
        Ok(applied) => applied,
        Err(why) => return unknown(why),
    };
    let judgement = judge(report, &new.gate, &applied.exceptions, at);
    let kept = (difference == Difference::None).then(|| judge::kept(new, report, &judgement));
    let passed = judgement.verdict == Verdict::Passed;
    match (difference, passed) {
        (Difference::None, _) | (Difference::Wider(_), true) => {}
        (Difference::Narrower(_), false) if judgement.verdict == Verdict::Failed => {}
        (Difference::Wider(what) | Difference::Narrower(what) | Difference::Other(what), _) => {
            return unknown(format!("it differs in {what}: that needs a new examination"));
        }
    }
    let outcome = Outcome {
        check: new.name.clone(),
        answer: if passed { Answer::Passes } else { Answer::Fails },
        enforced: new.enforced,
        message: judgement.message,
        top: judgement
            .worst
            .iter()
            .map(|finding| describe_finding(finding, LINE))
            .collect(),
    };
    PolicyOutcome { outcome, kept }
}

fn difference(old: &PlannedCheck, new: &PlannedCheck) -> Difference {
    if old.examined_files() != new.examined_files() {
        return Difference::Other("its files (gossfile, variables, tailoring)".to_owned());
    }
    let (was, is) = match (examined(&old.spec.kind), examined(&new.spec.kind)) {
        (Ok(was), Ok(is)) => (was, is),
        (Err(error), _) | (_, Err(error)) => return Difference::Other(format!("what cannot be compared ({error})")),
    };
    let names: Vec<&String> = was.keys().chain(is.keys()).collect();
    let mut changed: Vec<&String> = names
        .into_iter()
        .filter(|name| was.get(*name) != is.get(*name))
        .collect();
    changed.sort();
    changed.dedup();
    if changed.is_empty() {
        return Difference::None;
    }
    let what = changed.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
    // Only lists of what is allowed are known to work in one direction.
    let within = |less: &Map<String, Value>, more: &Map<String, Value>| {
        changed
            .iter()
            .all(|name| name.ends_with("Allowed") && subset(less.get(*name), more.get(*name)))
    };
    if within(&was, &is) {
        Difference::Wider(what)
    } else if within(&is, &was) {
        Difference::Narrower(what)
    } else {
        Difference::Other(what)
    }
}

fn subset(less: Option<&Value>, more: Option<&Value>) -> bool {
    let list = |value: Option<&Value>| match value {
        None => Some(Vec::new()),
        Some(Value::Array(list)) => Some(list.clone()),
        Some(_) => None,
    };
    match (list(less), list(more)) {
        (Some(less), Some(more)) => less.iter().all(|entry| more.contains(entry)),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
