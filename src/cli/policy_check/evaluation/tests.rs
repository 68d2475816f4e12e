//! What is judged again, what only goes one way, and what cannot be told.

use super::*;
use proptest::prelude::*;
use repave_api::Waiver;
use repave_core::{
    digest::Digest,
    report::{Finding, Outcome as Ending, Severity, Tool, ToolName},
};
use repave_policy::checks_of;
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
) -> Vec<PolicyOutcome> {
    let granted = Granted {
        waivers,
        base_image: "debian-12",
        digests: &[&Digest::of(b"i")],
        now: at(1_000_000),
    };
    evaluate_policy(old, new, reports, when, &granted)
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

proptest! {
    #[test]
    fn the_same_policy_says_what_the_gate_said(highs in 0_usize..5, allowed in 0_u32..5) {
        let stored = reports("a", ToolName::Native, highs, 0);
        let check = json!([{"name": "a", "native": {}, "allow": {"high": allowed}}]);
        let passes = u32::try_from(highs).unwrap() <= allowed;
        prop_assert_eq!(answer(&check, &check, &stored).0 == Answer::Passes, passes);
    }
}
