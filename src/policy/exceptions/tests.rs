//! VEX documents and waivers, from the candidate to the judgement and to what is told about it.

use super::*;
use crate::checks::checks_of;
use repave_core::{
    report::{Severity, Tool},
    verdict::Verdict,
};
use serde_json::{Value, json};

const SSL: &str = "pkg:deb/debian/openssl@3.0.15-1";
const TAR: &str = "pkg:deb/debian/tar@1.34";

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn image() -> Digest {
    Digest::of(b"built")
}

fn candidate() -> ImageCandidate {
    serde_json::from_value(json!({
        "apiVersion": "repave.dev/v1alpha1", "kind": "ImageCandidate",
        "metadata": {"name": "debian-12-0123456789ab", "namespace": "platform", "uid": "u", "generation": 1},
        "spec": {
            "baseImage": "debian-12", "source": "up.local/debian", "sourceTag": "12",
            "sourceDigest": Digest::of(b"v1"), "inputsHash": Digest::of(b"inputs"), "staging": "r.local:5000/staging",
            "build": {},
            "policies": [{"name": "hardened", "spec": {"checks": [
                {"name": "hardening", "native": {}}, {"name": "cves", "vulnerabilities": {}}
            ]}}],
            "promote": {"repository": "r.local:5000/base", "channelTag": "12", "signing": {"keyRef": {"name": "key"}}}
        }
    }))
    .unwrap()
}

/// One check of its policy.
fn planned(name: &str) -> PlannedCheck {
    let checks = checks_of(&candidate().spec.policies).unwrap();
    checks.into_iter().find(|check| check.name == name).unwrap()
}

/// A report of it without findings.
fn completed(check: &PlannedCheck, image: &Digest) -> Report {
    let tool = Tool {
        name: check.tool,
        version: "1".into(),
        content: None,
        database_built: check.is_scan().then(|| at(1_000_000)),
        database: None,
    };
    Report {
        outcome: Outcome::Completed,
        evaluated: 100,
        ..Report::error(&check.name, image, tool, "")
    }
}

fn document(statements: &Value) -> String {
    json!({"@context": vex::CONTEXT, "@id": "urn:doc", "author": "security", "timestamp": "1970-01-01T00:00:00Z",
           "version": 1, "statements": statements})
    .to_string()
}

fn not_affected(vulnerability: &str, package: &str) -> Value {
    json!({"vulnerability": {"name": vulnerability}, "products": [{"@id": package}], "status": "not_affected",
           "justification": "vulnerable_code_not_present", "timestamp": "1970-01-05T00:00:00Z"})
}

/// The check `cves` with these VEX documents.
fn check(documents: &[&str]) -> PlannedCheck {
    let mut check = planned("cves");
    let references: Vec<_> = documents.iter().map(|_| json!({"name": "vex"})).collect();
    let mut spec = serde_json::to_value(&check.spec).unwrap();
    spec["vulnerabilities"]["vexRefs"] = json!(references);
    check.spec = serde_json::from_value(spec).unwrap();
    let named = documents.iter().enumerate();
    check.files = named
        .map(|(n, text)| (format!("vex-{n}.json"), (*text).to_owned()))
        .collect();
    check
}

fn finding(id: &str, package: &str) -> Finding {
    Finding {
        id: id.into(),
        severity: Severity::Critical,
        package: Some(package.into()),
        ..Finding::default()
    }
}

fn report(findings: Vec<Finding>) -> Report {
    Report {
        findings,
        ..completed(&planned("cves"), &image())
    }
}

fn waiver(name: &str, spec: &Value) -> Waiver {
    let mut object = json!({
        "apiVersion": "repave.dev/v1alpha1", "kind": "Waiver",
        "metadata": {"name": name, "namespace": "platform", "generation": 1, "uid": name, "creationTimestamp": "1970-01-02T00:00:00Z"},
        "spec": {"owner": "team-a", "reason": "not reachable", "expiresAt": "1970-03-01T00:00:00Z",
            "scope": {"findings": [{"id": "CVE-2026-2"}]}},
    });
    for (key, value) in spec.as_object().unwrap() {
        object["spec"][key] = value.clone();
    }
    serde_json::from_value(object).unwrap()
}

const JUDGED: i64 = 1_000_100;

#[test]
fn a_vex_document_of_the_check_takes_out_what_it_names_and_nothing_else() {
    let document = document(&json!([not_affected("CVE-2026-1", "pkg:deb/debian/openssl")]));
    let with = |findings| judge(&check(&[&document]), &report(findings), &[], at(JUDGED));
    let judgement = with(vec![finding("CVE-2026-1", SSL)]);
    assert_eq!((judgement.verdict, judgement.suppressed), (Verdict::Passed, 1));
    assert!(
        judgement.message.contains("1 suppressed by VEX"),
        "{}",
        judgement.message
    );
    for other in [finding("CVE-2026-1", TAR), finding("CVE-2026-2", SSL)] {
        let judgement = with(vec![finding("CVE-2026-1", SSL), other]);
        assert_eq!((judgement.verdict, judgement.suppressed), (Verdict::Failed, 1));
    }
    // Without a package nothing says which statement is about it.
    let mut bare = finding("CVE-2026-1", SSL);
    bare.package = None;
    assert_eq!(with(vec![bare]).verdict, Verdict::Failed);
    assert_eq!(
        judge(&check(&[]), &report(vec![finding("CVE-2026-1", SSL)]), &[], at(JUDGED)).verdict,
        Verdict::Failed
    );
}

#[test]
fn of_two_findings_that_share_a_name_both_count_when_one_does() {
    let mut affected = not_affected("GHSA-2", "pkg:deb/debian/openssl");
    affected["status"] = json!("affected");
    affected["timestamp"] = json!("1970-01-06T00:00:00Z");
    let document = document(&json!([not_affected("CVE-2026-1", "pkg:deb/debian/openssl"), affected]));
    let mut alias = finding("GHSA-2", SSL);
    alias.aliases = vec!["CVE-2026-1".into()];
    let judgement = judge(
        &check(&[&document]),
        &report(vec![finding("CVE-2026-1", SSL), alias]),
        &[],
        at(JUDGED),
    );
    assert_eq!((judgement.verdict, judgement.suppressed), (Verdict::Failed, 0));
}

#[test]
fn a_document_that_cannot_be_read_makes_its_check_an_error_with_words() {
    let good = document(&json!([not_affected("CVE-2026-1", SSL)]));
    for (documents, words) in [
        (
            vec![good.as_str(), "not json"],
            "VEX document vex-1.json: expected an OpenVEX 0.2.0 document",
        ),
        (
            vec!["{\"@context\": \"https://openvex.dev/ns/v0.1.0\"}"],
            "expected the @context",
        ),
    ] {
        // Even where there is no finding that it could be about.
        let judgement = judge(&check(&documents), &report(Vec::new()), &[], at(JUDGED));
        assert_eq!(judgement.verdict, Verdict::Error);
        assert!(judgement.message.contains(words), "{}", judgement.message);
    }
    let mut lost = check(&[&good]);
    lost.files.clear();
    let judgement = judge(&lost, &report(Vec::new()), &[], at(JUDGED));
    assert_eq!(judgement.verdict, Verdict::Error);
    assert!(
        judgement.message.contains("delete the candidate"),
        "{}",
        judgement.message
    );
}

#[test]
fn what_did_not_count_is_told_with_who_why_and_until_when_in_the_same_bytes_every_time() {
    let document = document(&json!([not_affected("CVE-2026-1", "pkg:deb/debian/openssl")]));
    let (check, waivers) = (check(&[&document]), [waiver("accepted", &json!({}))]);
    let findings = vec![
        finding("CVE-2026-3", TAR),
        finding("CVE-2026-2", TAR),
        finding("CVE-2026-1", SSL),
    ];
    let told = accepted(&check, &report(findings.clone()), &waivers, &candidate(), at(JUDGED));
    let shown = shown(told.clone());
    let lines: Vec<_> = shown
        .iter()
        .map(|one| {
            (
                one.finding.as_str(),
                one.owner.as_str(),
                one.reason.as_str(),
                one.expires.is_some(),
            )
        })
        .collect();
    assert_eq!(
        lines,
        [
            ("CVE-2026-1", "security", "vulnerable_code_not_present", false),
            ("CVE-2026-2", "team-a", "not reachable", true),
        ]
    );
    let bytes = |told: &[Accepted]| serde_json::to_vec(&openvex(&image(), told, at(JUDGED)).unwrap()).unwrap();
    let backwards: Vec<_> = told.iter().rev().cloned().collect();
    assert_eq!(bytes(&told), bytes(&backwards));
    // Others may take over what a statement says; a risk that was taken here is theirs to judge.
    let read = [vex::parse(&bytes(&told)).unwrap()];
    let statuses: Vec<_> = findings
        .iter()
        .map(|f| vex::latest(&read, f, &image()).map(|(_, s)| s.status))
        .collect();
    assert_eq!(
        statuses,
        [None, Some(vex::Status::Affected), Some(vex::Status::NotAffected)]
    );
    let action = read[0].statements[1].action_statement.as_deref().unwrap();
    assert_eq!(
        action,
        "risk accepted by team-a until 1970-03-01T00:00:00Z (Waiver accepted): not reachable"
    );
    assert_eq!(openvex(&image(), &[], at(JUDGED)), None);
}

#[test]
fn only_vulnerabilities_are_in_the_document_and_only_what_was_there_is_told() {
    let everything = json!({"scope": {"findings": [{"id": "native.*"}]}});
    let mut hardening = completed(&planned("hardening"), &image());
    hardening.findings = vec![finding("native.x", TAR)];
    let told = |waiver: &Waiver, candidate: &ImageCandidate| {
        accepted(
            &planned("hardening"),
            &hardening,
            std::slice::from_ref(waiver),
            candidate,
            at(JUDGED),
        )
    };
    let mut waiver = waiver("accepted", &everything);
    let found = told(&waiver, &candidate());
    assert_eq!((found.len(), openvex(&image(), &found, at(JUDGED))), (1, None));
    // Made after the judgement, unless the judgement itself names it.
    waiver.metadata.creation_timestamp = serde_json::from_value(json!("1970-02-01T00:00:00Z")).unwrap();
    assert_eq!(told(&waiver, &candidate()), []);
    let mut named = candidate();
    named.status = Some(serde_json::from_value(json!({"waivers": ["accepted"]})).unwrap());
    assert_eq!(told(&waiver, &named).len(), 1);
}

#[test]
fn waivers_in_force_differ_by_name_content_and_time_and_by_nothing_else() {
    let of = |waivers: &[Waiver], now| in_force(waivers, &candidate(), &image(), at(now));
    let (one, two) = (waiver("one", &json!({})), waiver("two", &json!({})));
    let before = of(&[one.clone(), two.clone()], JUDGED);
    assert_eq!(before, of(&[two.clone(), one.clone()], JUDGED + 1));
    let nothing = of(&[], JUDGED);
    assert_ne!(before, nothing);
    assert_ne!(before, of(std::slice::from_ref(&one), JUDGED));
    let mut changed = one.clone();
    changed.metadata.generation = Some(2);
    assert_ne!(before, of(&[changed, two.clone()], JUDGED));
    let mut made_anew = one.clone();
    made_anew.metadata.uid = Some("other".into());
    assert_ne!(before, of(&[made_anew, two], JUDGED));
    // Expired, not yet begun, or about another image: as if it were not there.
    assert_eq!(of(std::slice::from_ref(&one), 59 * 86_400), nothing);
    let later = waiver("one", &json!({"notBefore": "1970-02-01T00:00:00Z"}));
    assert_eq!(of(&[later], JUDGED), nothing);
    let elsewhere = json!({"scope": {"images": {"baseImages": ["other"]}, "findings": [{"id": "CVE-1"}]}});
    assert_eq!(of(&[waiver("one", &elsewhere)], JUDGED), nothing);
}
