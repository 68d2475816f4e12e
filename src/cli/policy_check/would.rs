//! What a changed policy would make of reports that are already there. Pure.
//!
//! Thresholds, minimums and what the gate filters are judged again. What the examination itself depends on (a profile, a
//! gossfile, an option of the native rules) is not guessed: where the stored report cannot tell, that is the answer.

use crate::{
    api::image_candidate::CheckSummary,
    cli::{
        exceptions::Granted,
        judge::{self, judge},
    },
    controllers::candidate::PlannedCheck,
    domain::{
        report::{Report, ToolName},
        verdict::{Verdict, describe_finding},
    },
};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Longest line of a finding, in characters.
const LINE: usize = 200;

/// Fields that only the gate reads, and the exceptions: a stored report can be judged again under others.
const JUDGED: [&str; 11] = [
    "name",
    "allow",
    "timeout",
    "minimumTests",
    "minimumRules",
    "onlyFixable",
    "databaseMaxAge",
    "allowKnownExploited",
    "allowEndOfLife",
    "vexRefs",
    "epssAtLeast",
];

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
pub struct Answered {
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
pub fn would(
    old: &[PlannedCheck],
    new: &[PlannedCheck],
    reports: &BTreeMap<String, Report>,
    at: Timestamp,
    granted: &Granted<'_>,
) -> Vec<Answered> {
    new.iter().map(|check| one(old, check, reports, at, granted)).collect()
}

fn one(
    old: &[PlannedCheck],
    new: &PlannedCheck,
    reports: &BTreeMap<String, Report>,
    at: Timestamp,
    granted: &Granted<'_>,
) -> Answered {
    let unknown = |message: String| Answered {
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
    Answered { outcome, kept }
}

fn difference(old: &PlannedCheck, new: &PlannedCheck) -> Difference {
    if examined_files(old) != examined_files(new) {
        return Difference::Other("its files (gossfile, variables, tailoring)".to_owned());
    }
    let (was, is) = (examined(old), examined(new));
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

/// The files that the examination reads. VEX documents are none: the gate applies them.
fn examined_files(check: &PlannedCheck) -> Option<&BTreeMap<String, String>> {
    match check.tool {
        ToolName::Grype | ToolName::Trivy => None,
        ToolName::Native | ToolName::Goss | ToolName::Openscap | ToolName::Container => Some(&check.files),
    }
}

/// What the examination depends on: all fields of the check's kind that the gate does not judge.
fn examined(check: &PlannedCheck) -> Map<String, Value> {
    let spec = serde_json::to_value(&check.spec).unwrap_or_default();
    let mut fields = Map::new();
    for (name, value) in spec.as_object().into_iter().flatten() {
        if let (Value::Object(kind), false) = (value, JUDGED.contains(&name.as_str())) {
            fields.extend(kind.clone());
        }
    }
    fields.retain(|name, _| !JUDGED.contains(&name.as_str()));
    fields
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
mod tests {
    use super::*;
    use crate::{
        api::Waiver,
        controllers::candidate::checks_of,
        domain::{
            digest::Digest,
            report::{Finding, Outcome as Ending, Severity, Tool},
        },
    };
    use proptest::prelude::*;
    use serde_json::json;

    fn planned(checks: &Value) -> Vec<PlannedCheck> {
        let snapshot = json!({"name": "p", "spec": {"checks": checks}});
        checks_of(&[serde_json::from_value(snapshot).unwrap()]).unwrap()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn reports(check: &str, name: ToolName, highs: usize, fixed: usize) -> BTreeMap<String, Report> {
        let tool = Tool {
            name,
            version: "1".into(),
            content: None,
            database_built: (name == ToolName::Grype).then(|| at(0)),
            database: None,
        };
        let mut report = Report::error(check, &Digest::of(b"i"), tool, "");
        report.outcome = Ending::Completed;
        report.evaluated = 50;
        report.findings = (0..highs)
            .map(|n| Finding {
                id: format!("f{n}"),
                severity: Severity::High,
                title: "t".into(),
                fixed_version: (n < fixed).then(|| "2".into()),
                ..Finding::default()
            })
            .collect();
        BTreeMap::from([(check.to_owned(), report)])
    }

    fn answer(old: &Value, new: &Value, reports: &BTreeMap<String, Report>) -> (Answer, String) {
        let said = would_of(&planned(old), &planned(new), reports, at(3600), &[]);
        let [only] = said.as_slice() else { panic!("{said:?}") };
        (only.outcome.answer, only.outcome.message.clone())
    }

    fn would_of(
        old: &[PlannedCheck],
        new: &[PlannedCheck],
        reports: &BTreeMap<String, Report>,
        when: Timestamp,
        waivers: &[Waiver],
    ) -> Vec<Answered> {
        let granted = Granted {
            waivers,
            base_image: "debian-12",
            digests: &[&Digest::of(b"i")],
            now: at(1_000_000),
        };
        would(old, new, reports, when, &granted)
    }

    fn waiver(name: &str, from: i64, until: i64) -> Waiver {
        serde_json::from_value(json!({
            "apiVersion": "repave.dev/v1alpha1", "kind": "Waiver",
            "metadata": {"name": name, "creationTimestamp": at(0).to_string()},
            "spec": {"owner": "team", "reason": "it is accepted", "notBefore": at(from).to_string(),
                "expiresAt": at(until).to_string(),
                "scope": {"images": {"baseImages": ["debian-12"]}, "checks": ["a"], "findings": [{"id": "f*"}]}},
        }))
        .unwrap()
    }

    #[test]
    fn waivers_count_as_of_today_and_by_the_names_of_the_new_policy() {
        let stored = reports("before", ToolName::Native, 2, 0);
        let old = planned(&json!([{"name": "before", "native": {}}]));
        let new = planned(&json!([{"name": "a", "native": {}}]));
        // Judged as of a time at which no waiver had begun.
        let said = |waivers: &[Waiver]| would_of(&old, &new, &stored, at(0), waivers).remove(0);
        let today = said(&[waiver("w", 10, 2_000_000)]);
        assert_eq!(today.outcome.answer, Answer::Passes, "{today:?}");
        assert_eq!(today.kept.unwrap().waived, 2);
        let over = said(&[waiver("gone", 10, 1_000_000)]).outcome;
        assert_eq!(over.answer, Answer::Fails);
        assert!(over.message.contains("its waiver expired: gone"), "{}", over.message);
        assert_eq!(
            said(&[waiver("later", 1_000_001, 2_000_000)]).outcome.answer,
            Answer::Fails
        );
    }

    #[test]
    fn only_a_report_of_the_same_examination_is_kept_for_rules() {
        let stored = reports("a", ToolName::Native, 0, 0);
        let of = |allowed: Value| planned(&json!([{"name": "a", "native": {"suidAllowed": allowed}}]));
        let (none, some) = (of(json!([])), of(json!(["/x"])));
        let kept = |new: &[PlannedCheck]| would_of(&none, new, &stored, at(0), &[]).remove(0).kept;
        assert_eq!(kept(&none).unwrap().evaluated, 50);
        assert_eq!(kept(&some), None);
    }

    #[test]
    fn thresholds_are_judged_again_with_the_worst_findings() {
        let stored = reports("a", ToolName::Native, 2, 0);
        let old = json!([{"name": "a", "native": {}, "allow": {"high": 2}}]);
        let strict = json!([{"name": "a", "native": {}, "allow": {"high": 1}}]);
        assert_eq!(answer(&old, &old, &stored).0, Answer::Passes);
        assert_eq!(
            answer(&old, &strict, &stored),
            (Answer::Fails, "2 failed (high 2)".into())
        );
        let said = would_of(&planned(&old), &planned(&strict), &stored, at(0), &[]);
        assert_eq!(said[0].outcome.top.len(), 2);
    }

    #[test]
    fn only_fixable_and_the_age_of_the_database_are_judged_as_of_the_release() {
        let stored = reports("cve", ToolName::Grype, 2, 1);
        let check = |more: Value| json!([{"name": "cve", "allow": {"high": 1}, "vulnerabilities": more}]);
        assert_eq!(
            answer(&check(json!({})), &check(json!({"onlyFixable": true})), &stored).0,
            Answer::Passes
        );
        assert_eq!(
            answer(&check(json!({"onlyFixable": true})), &check(json!({})), &stored).0,
            Answer::Fails
        );
        let young = check(json!({"onlyFixable": true, "databaseMaxAge": "30m"}));
        let (fails, why) = answer(&check(json!({})), &young, &stored);
        assert_eq!(fails, Answer::Fails);
        assert!(why.contains("database"), "{why}");
    }

    #[test]
    fn what_was_never_examined_cannot_be_told() {
        let stored = reports("a", ToolName::Openscap, 0, 0);
        let cis =
            |profile: &str, rules: u32| json!([{"name": "a", "openscap": {"profile": profile, "minimumRules": rules}}]);
        assert_eq!(answer(&cis("cis", 20), &cis("cis", 50), &stored).0, Answer::Passes);
        assert_eq!(answer(&cis("cis", 20), &cis("cis", 51), &stored).0, Answer::Fails);
        let (unknown, why) = answer(&cis("cis", 20), &cis("stig", 20), &stored);
        assert_eq!(unknown, Answer::Unknown);
        assert!(why.contains("differs in profile"), "{why}");
        let goss = json!([{"name": "g", "goss": {"gossfile": "x"}}]);
        assert_eq!(
            answer(&cis("cis", 20), &goss, &stored),
            (Answer::Unknown, "no such check was ever run on it".into())
        );
        let (unknown, why) = answer(&cis("cis", 20), &cis("cis", 20), &BTreeMap::new());
        assert_eq!(unknown, Answer::Unknown);
        assert!(why.contains("no stored report"), "{why}");
        let other = json!([{"name": "a", "vulnerabilities": {"scanner": "Trivy"}}]);
        let grype = json!([{"name": "a", "vulnerabilities": {}}]);
        assert_eq!(
            answer(&grype, &other, &reports("a", ToolName::Grype, 0, 0)).0,
            Answer::Unknown
        );
    }

    #[test]
    fn a_wider_allow_list_can_only_pass_and_a_narrower_one_can_only_fail() {
        let native = |allowed: Value| json!([{"name": "a", "native": {"suidAllowed": allowed}}]);
        let (none, some, other) = (native(json!([])), native(json!(["/x"])), native(json!(["/y"])));
        let (clean, dirty) = (
            reports("a", ToolName::Native, 0, 0),
            reports("a", ToolName::Native, 1, 0),
        );
        assert_eq!(answer(&none, &some, &clean).0, Answer::Passes);
        assert_eq!(answer(&none, &some, &dirty).0, Answer::Unknown);
        assert_eq!(answer(&some, &none, &dirty).0, Answer::Fails);
        assert_eq!(answer(&some, &none, &clean).0, Answer::Unknown);
        assert_eq!(answer(&some, &other, &clean).0, Answer::Unknown);
    }

    #[test]
    fn a_gossfile_that_changed_cannot_be_told_and_a_renamed_check_can() {
        let stored = reports("a", ToolName::Goss, 0, 0);
        let goss = |name: &str, text: &str| json!([{"name": name, "goss": {"gossfile": text}}]);
        let same = planned(&goss("a", "x"));
        assert_eq!(answer(&goss("a", "x"), &goss("a", "y"), &stored).0, Answer::Unknown);
        assert_eq!(answer(&goss("a", "x"), &goss("b", "x"), &stored).0, Answer::Passes);
        let mut tailored = same.clone();
        tailored[0].files.insert("vars.yaml".into(), "v".into());
        let said = would_of(&same, &tailored, &stored, at(0), &[]);
        assert_eq!(said[0].outcome.answer, Answer::Unknown);
    }

    #[test]
    fn every_field_that_is_judged_again_is_one_that_a_gate_reads_or_that_changes_nothing() {
        let schema = crate::cli::policy_file::schema().to_string();
        for field in JUDGED {
            assert!(
                schema.contains(&format!("\"{field}\"")),
                "{field} is no field of a policy"
            );
        }
    }

    proptest! {
        #[test]
        fn the_same_policy_says_what_the_gate_said(highs in 0_usize..5, allowed in 0_u32..5) {
            let stored = reports("a", ToolName::Native, highs, 0);
            let check = json!([{"name": "a", "native": {}, "allow": {"high": allowed}}]);
            let passes = u32::try_from(highs).unwrap() <= allowed;
            prop_assert_eq!(answer(&check, &check, &stored).0 == Answer::Passes, passes);
        }
    }
}
