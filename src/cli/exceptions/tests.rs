//! Which findings are taken out, when, and how it is shown.

use super::*;
use repave_core::report::{Outcome, Severity, Tool, ToolName};
use repave_policy::checks_of;
use serde_json::{Value, json};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn waiver(images: &Value, from: Option<&str>, to: &str) -> Waiver {
    serde_json::from_value(json!({
        "apiVersion": "repave.dev/v1alpha1", "kind": "Waiver",
        "metadata": {"name": "w", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"owner": "team", "reason": "no shell calls it", "expiresAt": to, "notBefore": from,
            "scope": {"images": images, "findings": [{"id": "CVE-1"}]}},
    }))
    .unwrap()
}

fn image() -> Digest {
    Digest::of(b"image")
}

fn report(subject: Option<&str>) -> Report {
    let tool = Tool::new(ToolName::Grype, "1");
    let mut report = Report::error("cves", &image(), tool, "");
    report.outcome = Outcome::Completed;
    report.findings = vec![Finding {
        id: "CVE-1".into(),
        severity: Severity::High,
        title: "t".into(),
        subject: subject.map(str::to_owned),
        package: Some("pkg:deb/debian/openssl@3".into()),
        ..Finding::default()
    }];
    report
}

fn check(vex: Option<&str>) -> PlannedCheck {
    let refs: Vec<_> = vex.iter().map(|_| json!({"name": "statements"})).collect();
    let spec = json!({"checks": [{"name": "cves", "vulnerabilities": {"vexRefs": refs}}]});
    let mut check = checks_of(&[serde_json::from_value(json!({"name": "p", "spec": spec})).unwrap()])
        .unwrap()
        .remove(0);
    check
        .files
        .extend(vex.map(|text| ("vex-0.json".to_owned(), text.to_owned())));
    check
}

fn applied(waivers: &[Waiver], base_image: &str, now: &str) -> Applied {
    let granted = Granted {
        waivers,
        base_image,
        digests: &[&image()],
        now: at(now),
    };
    granted.to(&check(None), &report(Some("openssl"))).unwrap()
}

/// As of the release: long before anything here.
fn standing(applied: &Applied) -> Standing<'_> {
    let report = report(Some("openssl"));
    applied
        .exceptions
        .standing("cves", &report.findings[0], Timestamp::UNIX_EPOCH)
}

#[test]
fn a_waiver_counts_as_of_the_time_of_the_question_and_is_shown_with_its_owner_and_end() {
    let all = [waiver(&json!({}), Some("2026-02-01T00:00:00Z"), "2026-03-01T00:00:00Z")];
    let early = applied(&all, "", "2026-01-15T00:00:00Z");
    assert_eq!(standing(&early), Standing::Counts { expired: None });
    let within = applied(&all, "", "2026-02-15T00:00:00Z");
    assert_eq!(standing(&within), Standing::Waived { waiver: "w" });
    assert_eq!(within.shown[0].owner, "team");
    assert_eq!(within.shown[0].expires, Some(at("2026-03-01T00:00:00Z")));
    let late = applied(&all, "", "2026-03-01T00:00:00Z");
    assert_eq!(standing(&late), Standing::Counts { expired: Some("w") });
    assert!(early.shown.is_empty() && late.shown.is_empty());
}

#[test]
fn a_waiver_that_is_bound_needs_its_base_image_or_its_digest() {
    let now = "2026-02-15T00:00:00Z";
    let bound = [waiver(
        &json!({"baseImages": ["debian-12"]}),
        None,
        "2026-03-01T00:00:00Z",
    )];
    assert_eq!(standing(&applied(&bound, "", now)), Standing::Counts { expired: None });
    assert_eq!(
        standing(&applied(&bound, "debian-12", now)),
        Standing::Waived { waiver: "w" }
    );
    let pinned = [waiver(&json!({"digests": [image()]}), None, "2026-03-01T00:00:00Z")];
    assert_eq!(standing(&applied(&pinned, "", now)), Standing::Waived { waiver: "w" });
    let other = [waiver(
        &json!({"digests": [Digest::of(b"other")]}),
        None,
        "2026-03-01T00:00:00Z",
    )];
    assert_eq!(standing(&applied(&other, "", now)), Standing::Counts { expired: None });
}

#[test]
fn a_vex_document_suppresses_what_it_names_and_a_broken_or_missing_one_is_an_error() {
    let document = |product: &str| {
        json!({
            "@context": vex::CONTEXT, "@id": "https://example.com/vex/1", "author": "Security", "version": 1,
            "timestamp": "2026-01-01T00:00:00Z",
            "statements": [{"vulnerability": {"name": "CVE-1"}, "products": [{"@id": product}],
                "status": "not_affected", "justification": "vulnerable_code_not_in_execute_path"}],
        })
        .to_string()
    };
    let granted = Granted {
        waivers: &[],
        base_image: "",
        digests: &[],
        now: at("2026-02-01T00:00:00Z"),
    };
    let report = report(Some("openssl"));
    let to = |text: &str| granted.to(&check(Some(text)), &report);
    let applied = to(&document("pkg:deb/debian/openssl")).unwrap();
    let document_id = "https://example.com/vex/1";
    assert_eq!(standing(&applied), Standing::Suppressed { document: document_id });
    assert_eq!(applied.shown[0].kind, ExceptionKind::Vex);
    assert_eq!(applied.shown[0].reason, "vulnerable_code_not_in_execute_path");
    assert_eq!(to(&document("pkg:deb/debian/zlib1g")).unwrap(), Applied::default());
    let broken = to("{}").unwrap_err();
    assert!(broken.contains("ConfigMap \"statements\""), "{broken}");
    let mut missing = check(Some(""));
    missing.files.clear();
    let missing = granted.to(&missing, &report).unwrap_err();
    assert!(missing.ends_with("is missing"), "{missing}");
}

#[test]
fn a_finding_without_a_subject_is_shown_as_excepted_only_if_all_of_its_id_are() {
    let granted_to = |waivers: &[Waiver], more: Option<Finding>| {
        let mut report = report(None);
        report.findings.extend(more);
        let granted = Granted {
            waivers,
            base_image: "",
            digests: &[],
            now: at("2026-02-01T00:00:00Z"),
        };
        granted.to(&check(None), &report).unwrap().shown.len()
    };
    let mut only_openssl = waiver(&json!({}), None, "2026-03-01T00:00:00Z");
    only_openssl.spec.scope.findings[0].package = Some("openssl".into());
    let zlib = Finding {
        id: "CVE-1".into(),
        package: Some("pkg:deb/debian/zlib1g@1".into()),
        ..Finding::default()
    };
    assert_eq!(granted_to(&[only_openssl.clone()], None), 1);
    assert_eq!(granted_to(&[only_openssl], Some(zlib)), 0);
}
