//! Real output of Grype 0.121, and the shape of its other parts.

use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

const ONE: &[u8] = include_bytes!("../testdata/grype-one-match.json");
const SHAPE: &[u8] = include_bytes!("../testdata/grype-shape.json");
const IMAGE: &str = "sha256:f2a4feecf8aa1e683e53e1522f23fcb977416ad06401d5c38083c290e8973657";

fn inventory(packages: usize) -> Vec<u8> {
    let mut components = vec![
        json!({"type": "operating-system", "name": "debian"}),
        json!({"type": "file", "name": "x"}),
    ];
    components.extend((0..packages).map(|n| json!({"type": "library", "name": format!("p{n}")})));
    serde_json::to_vec(&json!({"bomFormat": "CycloneDX", "components": components})).unwrap()
}

fn image() -> Digest {
    IMAGE.parse().unwrap()
}

fn changed(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut document: Value = serde_json::from_slice(ONE).unwrap();
    change(&mut document);
    serde_json::to_vec(&document).unwrap()
}

fn refused(json: &[u8], cyclonedx: &[u8]) -> String {
    read(json, cyclonedx, &image(), &Options::default())
        .unwrap_err()
        .to_string()
}

#[test]
fn a_planted_vulnerability_is_found_with_its_fix_and_the_database_s_age() {
    let parsed = read(ONE, &inventory(88), &image(), &Options::default()).unwrap();
    assert_eq!((parsed.evaluated, parsed.passed), (88, 87));
    assert_eq!(parsed.database_built, Some("2026-11-23T21:47:29Z".parse().unwrap()));
    assert_eq!(parsed.content.as_deref(), Some("debian 12.15, database v6.1.10"));
    let [finding] = parsed.findings.as_slice() else {
        panic!("{:?}", parsed.findings)
    };
    assert_eq!(
        (finding.id.as_str(), finding.severity),
        ("CVE-2099-0001", Severity::High)
    );
    assert_eq!(finding.subject.as_deref(), Some("bash@5.2.15-2+b13"));
    assert_eq!(finding.fixed_version.as_deref(), Some("99"));
    assert_eq!(finding.title, "bash 5.2.15-2+b13 (deb): fixed in 99");
}

#[test]
fn exploited_ignored_and_outlived_are_told_apart() {
    let mut document: Value = serde_json::from_slice(SHAPE).unwrap();
    document["source"]["target"]["manifestDigest"] = json!(IMAGE);
    let json = serde_json::to_vec(&document).unwrap();
    let parsed = read(&json, &inventory(3), &image(), &Options::default()).unwrap();
    assert_eq!((parsed.evaluated, parsed.passed, parsed.not_applicable), (3, 2, 1));
    let ids: Vec<&str> = parsed.findings.iter().map(|finding| finding.id.as_str()).collect();
    assert_eq!(ids, ["distro-eol", "CVE-2099-0001"]);
    assert_eq!(parsed.findings[1].severity, Severity::Critical);
    assert!(
        parsed.findings[1]
            .title
            .ends_with("fixed in 99.0-1, known to be exploited")
    );
    assert_eq!(parsed.problems, Vec::<String>::new());
}

#[test]
fn a_scan_of_another_image_is_refused() {
    let other = Digest::of(b"other");
    let error = read(ONE, &inventory(1), &other, &Options::default())
        .unwrap_err()
        .to_string();
    assert!(error.contains("expected a scan of"), "{error}");
    let none = changed(|document| document["source"]["target"]["manifestDigest"] = json!(""));
    assert!(refused(&none, &inventory(1)).contains("expected a scan of"));
}

#[test]
fn no_packages_and_no_distribution_are_not_no_vulnerabilities() {
    assert!(refused(ONE, &inventory(0)).contains("at least 1 packages, found 0"));
    let unknown = changed(|document| document["distro"] = json!({"name": "", "version": ""}));
    let error = read(&unknown, &inventory(5), &image(), &Options::default()).unwrap_err();
    assert!(matches!(error, ReadError::Unsupported { .. }));
    let options = Options { min_packages: 90 };
    assert!(read(ONE, &inventory(88), &image(), &options).is_err());
}

#[test]
fn an_invalid_or_undated_database_is_refused() {
    let invalid = changed(|document| document["descriptor"]["db"]["status"]["valid"] = json!(false));
    assert!(refused(&invalid, &inventory(1)).contains("valid=false"));
    let old = changed(|document| document["descriptor"]["db"]["status"]["schemaVersion"] = json!("v5.0.0"));
    assert!(refused(&old, &inventory(1)).contains("v5.0.0"));
    for missing in ["built", "valid", "schemaVersion"] {
        let undated = changed(|document| {
            document["descriptor"]["db"]["status"]
                .as_object_mut()
                .unwrap()
                .remove(missing);
        });
        assert!(refused(&undated, &inventory(1)).contains(missing));
    }
}

#[test]
fn packages_that_were_not_judged_are_a_problem() {
    let alerts =
        json!([{"package": {"name": "a", "version": "1"}, "alerts": [{"type": "distro-unknown", "message": "m"}]}]);
    let json = changed(|document| document["alertsByPackage"] = alerts);
    let parsed = read(&json, &inventory(2), &image(), &Options::default()).unwrap();
    assert!(parsed.problems[0].contains("a 1 was not judged (distro-unknown)"));
}

#[test]
fn what_will_not_be_fixed_says_so_and_has_no_fixed_version() {
    let json = changed(|document| {
        document["matches"][0]["vulnerability"]["fix"] = json!({"versions": ["1"], "state": "wont-fix"});
    });
    let parsed = read(&json, &inventory(2), &image(), &Options::default()).unwrap();
    assert_eq!(parsed.findings[0].fixed_version, None);
    assert!(parsed.findings[0].title.ends_with("the distribution will not fix it"));
}

#[test]
fn the_worst_of_several_matches_counts_once() {
    let json = changed(|document| {
        let mut again = document["matches"][0].clone();
        again["vulnerability"]["severity"] = json!("Critical");
        document["matches"].as_array_mut().unwrap().push(again);
    });
    let parsed = read(&json, &inventory(2), &image(), &Options::default()).unwrap();
    assert_eq!(parsed.findings.len(), 1);
    assert_eq!(parsed.findings[0].severity, Severity::Critical);
}

#[test]
fn torn_and_foreign_documents_are_not_read() {
    for json in [&ONE[..ONE.len() / 2], b"", b"{}", b"[]", &[ONE, ONE].concat()] {
        assert!(matches!(
            read(json, &inventory(1), &image(), &Options::default()),
            Err(ReadError::Malformed { .. })
        ));
    }
    for cyclonedx in ["", "{}", "{\"bomFormat\":\"SPDX\"}"] {
        assert!(read(ONE, cyclonedx.as_bytes(), &image(), &Options::default()).is_err());
    }
}

#[test]
fn grype_is_called_offline() {
    let call = invocation(&Files {
        layout: Path::new("/oci"),
        json: Path::new("/w/a"),
        cyclonedx: Path::new("/w/b"),
        home: Path::new("/w"),
        database: Path::new("/db"),
    });
    assert_eq!(
        call.args,
        ["oci-dir:/oci", "-o", "json=/w/a", "-o", "cyclonedx-json=/w/b"]
    );
    let off = |name: &str| call.env.iter().any(|(key, value)| key == name && value == "false");
    assert!(off("GRYPE_DB_AUTO_UPDATE") && off("GRYPE_CHECK_FOR_APP_UPDATE") && off("GRYPE_DB_VALIDATE_AGE"));
}

proptest! {
    #[test]
    fn reading_never_panics(json in proptest::collection::vec(any::<u8>(), 0..500), bom in "\\PC{0,200}") {
        prop_assert!(read(&json, bom.as_bytes(), &image(), &Options::default()).is_err());
        prop_assert!(read(ONE, bom.as_bytes(), &image(), &Options::default()).is_err());
    }
}
