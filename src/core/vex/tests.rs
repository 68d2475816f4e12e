//! What suppresses, what does not, and what is refused.

use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

const SAMPLE: &[u8] = include_bytes!("../testdata/openvex.json");

fn finding(id: &str, package: &str) -> Finding {
    Finding {
        id: id.into(),
        package: Some(package.into()),
        ..Finding::default()
    }
}

fn image() -> Digest {
    Digest::of(b"image")
}

fn changed(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut document: Value = serde_json::from_slice(SAMPLE).unwrap();
    change(&mut document);
    serde_json::to_vec(&document).unwrap()
}

fn suppresses(bytes: &[u8], finding: &Finding) -> bool {
    suppression(&[parse(bytes).unwrap()], finding, &image()).is_some()
}

const PERL: &str = "pkg:deb/debian/perl-base@5.36.0-7%2Bdeb12u3";

#[test]
fn a_statement_suppresses_its_finding_and_no_other() {
    assert!(suppresses(SAMPLE, &finding("CVE-2099-0003", PERL)));
    assert!(!suppresses(SAMPLE, &finding("CVE-2099-0004", PERL)));
    assert!(!suppresses(
        SAMPLE,
        &finding("CVE-2099-0003", "pkg:deb/debian/perl-base@6")
    ));
    assert!(!suppresses(
        SAMPLE,
        &finding("CVE-2099-0003", "pkg:deb/debian/perl@5.36.0-7%2Bdeb12u3")
    ));
    assert!(!suppresses(
        SAMPLE,
        &Finding {
            package: None,
            ..finding("CVE-2099-0003", "")
        }
    ));
    let alias = Finding {
        aliases: vec!["CVE-2099-0003".into()],
        ..finding("DSA-1", PERL)
    };
    assert!(suppresses(SAMPLE, &alias));
    let by_alias =
        changed(|vex| vex["statements"][0]["vulnerability"] = json!({"name": "X-1", "aliases": ["CVE-2099-0003"]}));
    assert!(suppresses(&by_alias, &finding("CVE-2099-0003", PERL)));
    let any_version = changed(|vex| {
        vex["statements"][0]["products"] = json!([{"identifiers": {"purl": "pkg:deb/debian/perl-base"}}]);
    });
    assert!(suppresses(&any_version, &finding("CVE-2099-0003", PERL)));
}

#[test]
fn a_statement_about_an_image_is_about_that_digest_and_its_named_parts() {
    let about = |digest: &Digest, parts: Value| {
        changed(|vex| {
            vex["statements"][0]["products"] =
                json!([{"@id": format!("pkg:oci/base@{digest}"), "subcomponents": parts}]);
        })
    };
    let perl = finding("CVE-2099-0003", PERL);
    assert!(suppresses(&about(&image(), json!([])), &perl));
    assert!(suppresses(&about(&image(), json!([{"@id": PERL}])), &perl));
    assert!(!suppresses(
        &about(&image(), json!([{"@id": "pkg:deb/debian/zlib1g"}])),
        &perl
    ));
    assert!(!suppresses(&about(&Digest::of(b"other"), json!([])), &perl));
    assert!(!suppresses(
        &about(&Digest::of(b"other"), json!([{"@id": PERL}])),
        &perl
    ));
}

#[test]
fn only_not_affected_and_fixed_suppress_and_the_youngest_statement_counts() {
    for (status, expected) in [("fixed", true), ("affected", false), ("under_investigation", false)] {
        let vex = changed(|vex| vex["statements"][0]["status"] = json!(status));
        assert_eq!(suppresses(&vex, &finding("CVE-2099-0003", PERL)), expected, "{status}");
    }
    let later = |timestamp: &str| {
        changed(|vex| {
            let mut again = vex["statements"][0].clone();
            again["status"] = json!("affected");
            again["timestamp"] = json!(timestamp);
            vex["statements"].as_array_mut().unwrap().push(again);
        })
    };
    assert!(!suppresses(
        &later("2026-11-21T00:00:00Z"),
        &finding("CVE-2099-0003", PERL)
    ));
    assert!(!suppresses(
        &later("2026-11-20T00:00:00Z"),
        &finding("CVE-2099-0003", PERL)
    ));
    assert!(suppresses(
        &later("2026-11-19T00:00:00Z"),
        &finding("CVE-2099-0003", PERL)
    ));
}

#[test]
fn what_breaks_the_specification_is_refused_with_words() {
    let unreasoned = changed(|vex| drop(vex["statements"][0].as_object_mut().unwrap().remove("justification")));
    assert!(
        parse(&unreasoned)
            .unwrap_err()
            .to_string()
            .contains("statement 1 (CVE-2099-0003): expected a justification")
    );
    let worded = changed(|vex| {
        vex["statements"][0].as_object_mut().unwrap().remove("justification");
        vex["statements"][0]["impact_statement"] = json!("not reachable");
    });
    assert_eq!(parse(&worded).unwrap().statements[0].reason(), "not reachable");
    for (bytes, words) in [
        (
            changed(|vex| vex["@context"] = json!("https://openvex.dev/ns/v0.1.0")),
            "expected the @context",
        ),
        (
            changed(|vex| vex["statements"][0]["status"] = json!("harmless")),
            "unknown variant",
        ),
        (
            changed(|vex| vex["statements"][0]["justification"] = json!("because")),
            "unknown variant",
        ),
        (
            changed(|vex| vex["statements"][0]["products"] = json!([])),
            "expected 1 to",
        ),
        (
            changed(|vex| vex["statements"][0]["products"] = json!([{"@id": "everything"}])),
            "named by package URLs",
        ),
        (
            changed(|vex| vex["statements"][0]["vulnerability"] = json!({"name": ""})),
            "name of a vulnerability",
        ),
        (
            changed(|vex| vex["timestamp"] = json!("yesterday")),
            "expected an OpenVEX",
        ),
        (SAMPLE[..100].to_vec(), "expected an OpenVEX"),
        (vec![b' '; MAX_DOCUMENT + 1], "split the document"),
        (
            format!("{{\"a\":{}", "[".repeat(10_000)).into_bytes(),
            "expected an OpenVEX",
        ),
    ] {
        let error = parse(&bytes).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn what_is_written_is_read_back_and_suppresses() {
    let now: Timestamp = "2026-11-24T00:00:00Z".parse().unwrap();
    let exception = |id: &str, package: Option<&str>| Exception {
        vulnerability: id.into(),
        package: package.map(str::to_owned),
        status: Status::NotAffected,
        reason: "no untrusted input".into(),
        since: now,
    };
    let written = write(
        &image(),
        "security",
        now,
        &[exception("CVE-1", Some(PERL)), exception("CVE-2", None)],
    );
    let bytes = serde_json::to_vec_pretty(&written).unwrap();
    let read = parse(&bytes).unwrap();
    assert_eq!(read, written);
    for (id, package, expected) in [
        ("CVE-1", PERL, true),
        ("CVE-1", "pkg:deb/debian/x", false),
        ("CVE-2", "pkg:deb/debian/x", true),
    ] {
        let documents = std::slice::from_ref(&read);
        assert_eq!(
            suppression(documents, &finding(id, package), &image()).is_some(),
            expected
        );
        assert!(suppression(documents, &finding(id, package), &Digest::of(b"other")).is_none());
    }
    insta::assert_snapshot!(String::from_utf8(bytes).unwrap());
}

proptest! {
    #[test]
    fn parsing_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(parse(&bytes).is_err());
    }
}
