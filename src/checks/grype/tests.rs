//! Real output of Grype 0.121, and the shape of its other parts.

use super::*;
use crate::{sbom, scanner::Scanner};
use proptest::prelude::*;
use serde_json::{Value, json};

const ONE: &[u8] = include_bytes!("../testdata/grype-one-match.json");
const SHAPE: &[u8] = include_bytes!("../testdata/grype-shape.json");
const KEV: &[u8] = include_bytes!("../testdata/grype-kev.json");
const SBOM: &[u8] = include_bytes!("../testdata/sbom-syft.json");
const IMAGE: &str = "sha256:f2a4feecf8aa1e683e53e1522f23fcb977416ad06401d5c38083c290e8973657";

fn inventory(packages: u64) -> Inventory {
    Inventory {
        tools: Vec::new(),
        manifest: Some(image()),
        config: None,
        os: Some(("debian".into(), "12".into())),
        os_packages: packages,
        language_packages: 0,
    }
}

fn image() -> Digest {
    IMAGE.parse().unwrap()
}

fn changed(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut document: Value = serde_json::from_slice(ONE).unwrap();
    change(&mut document);
    serde_json::to_vec(&document).unwrap()
}

fn refused(json: &[u8]) -> String {
    read(json, &inventory(1), &image()).unwrap_err().to_string()
}

#[test]
fn a_planted_vulnerability_is_found_with_its_fix_and_the_database_s_age() {
    let parsed = read(ONE, &inventory(88), &image()).unwrap();
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
    let parsed = read(json.as_slice(), &inventory(3), &image()).unwrap();
    assert_eq!((parsed.evaluated, parsed.passed, parsed.not_applicable), (3, 2, 1));
    let ids: Vec<&str> = parsed.findings.iter().map(|finding| finding.id.as_str()).collect();
    assert_eq!(ids, ["os.end-of-life", "CVE-2099-0001"]);
    let worst = &parsed.findings[1];
    assert_eq!(
        (worst.severity, worst.known_exploited, worst.epss),
        (Severity::Critical, true, Some(4_200))
    );
    assert_eq!(
        worst.package.as_deref(),
        Some("pkg:deb/debian/libssl3@3.0.20-1~deb12u2")
    );
    assert_eq!(worst.aliases, ["DSA-9999-1"]);
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
    let error = read(ONE, &inventory(1), &other).unwrap_err().to_string();
    assert!(error.contains("expected a scan of"), "{error}");
    let none = changed(|document| document["source"]["target"]["manifestDigest"] = json!(""));
    assert!(refused(&none).contains("expected a scan of"));
}

#[test]
fn no_distribution_is_not_no_vulnerabilities() {
    let unknown = changed(|document| document["distro"] = json!({"name": "", "version": ""}));
    assert!(refused(&unknown).contains("expected the distribution of 1 packages"));
}

#[test]
fn a_real_scan_of_a_list_is_read_with_kev_and_epss() {
    let inventory = sbom::read(SBOM, TOOL).unwrap();
    let image = inventory.manifest.clone().unwrap();
    let parsed = read(KEV, &inventory, &image).unwrap();
    assert_eq!((parsed.evaluated, parsed.passed, parsed.findings.len()), (8, 6, 2));
    let kev = &parsed.findings[0];
    assert_eq!(
        (kev.id.as_str(), kev.known_exploited, kev.epss),
        ("CVE-2026-1300", true, Some(9_400))
    );
    assert_eq!(kev.package.as_deref(), Some("pkg:deb/debian/acme-kev@1.9-1"));
    assert!(!parsed.findings[1].known_exploited);
}

#[test]
fn an_invalid_or_undated_database_is_refused() {
    let invalid = changed(|document| document["descriptor"]["db"]["status"]["valid"] = json!(false));
    assert!(refused(&invalid).contains("valid=false"));
    let old = changed(|document| document["descriptor"]["db"]["status"]["schemaVersion"] = json!("v5.0.0"));
    assert!(refused(&old).contains("v5.0.0"));
    for missing in ["built", "valid", "schemaVersion"] {
        let undated = changed(|document| {
            document["descriptor"]["db"]["status"]
                .as_object_mut()
                .unwrap()
                .remove(missing);
        });
        assert!(refused(&undated).contains(missing));
    }
}

#[test]
fn packages_that_were_not_judged_are_a_problem() {
    let alerts =
        json!([{"package": {"name": "a", "version": "1"}, "alerts": [{"type": "distro-unknown", "message": "m"}]}]);
    let json = changed(|document| document["alertsByPackage"] = alerts);
    let parsed = read(json.as_slice(), &inventory(2), &image()).unwrap();
    assert!(parsed.problems[0].contains("a 1 was not judged (distro-unknown)"));
}

#[test]
fn what_will_not_be_fixed_says_so_and_has_no_fixed_version() {
    let json = changed(|document| {
        document["matches"][0]["vulnerability"]["fix"] = json!({"versions": ["1"], "state": "wont-fix"});
    });
    let parsed = read(json.as_slice(), &inventory(2), &image()).unwrap();
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
    let parsed = read(json.as_slice(), &inventory(2), &image()).unwrap();
    assert_eq!(parsed.findings.len(), 1);
    assert_eq!(parsed.findings[0].severity, Severity::Critical);
}

#[test]
fn torn_deep_huge_and_foreign_documents_are_not_read() {
    let bomb = format!("{{\"matches\":{}", "[".repeat(100_000));
    for json in [
        &ONE[..ONE.len() / 2],
        b"",
        b"{}",
        b"[]",
        bomb.as_bytes(),
        &[ONE, ONE].concat(),
    ] {
        assert!(matches!(
            read(json, &inventory(1), &image()),
            Err(ReadError::Malformed { .. })
        ));
    }
    let huge = vec![b' '; usize::try_from(MAX_OUTPUT).unwrap() + 1];
    assert!(refused(&huge).contains("more than"));
    assert!(refused(&changed(|document| document["descriptor"]["name"] = json!("x"))).contains("document of grype"));
}

/// Gives its bytes one at a time, then fails as a broken disk does.
struct Broken<'a>(&'a [u8]);

impl Read for Broken<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.0.is_empty() {
            return Err(std::io::Error::other("broken disk"));
        }
        self.0.read(&mut buffer[..1])
    }
}

#[test]
fn a_stream_gives_the_same_as_the_whole_and_an_error_of_the_disk_is_one() {
    let json = changed(|document| {
        let one = document["matches"][0].clone();
        let others = (0..500).map(|n| {
            let mut other = one.clone();
            other["artifact"]["name"] = json!(format!("p{}", n / 2));
            other
        });
        document["matches"].as_array_mut().unwrap().extend(others);
    });
    let parsed = read(json.as_slice().chain(std::io::empty()), &inventory(300), &image()).unwrap();
    assert_eq!((parsed.findings.len(), parsed.passed), (251, 49));
    let torn = read(Broken(&json[..json.len() - 1]), &inventory(300), &image()).unwrap_err();
    assert!(torn.to_string().contains("broken disk"), "{torn}");
}

#[test]
fn syft_and_grype_are_called_offline() {
    let path = Path::new;
    let files = Files {
        sbom: path("/w/s"),
        json: path("/w/a"),
        home: path("/w"),
        database: path("/db"),
    };
    let call = Scanner::Grype.scan(&files);
    assert_eq!(call.args, ["sbom:/w/s", "-o", "json=/w/a", "--quiet"]);
    let off = |name: &str| call.env.iter().any(|(key, value)| key == name && value == "false");
    assert!(off("GRYPE_DB_AUTO_UPDATE") && off("GRYPE_CHECK_FOR_APP_UPDATE") && off("GRYPE_DB_VALIDATE_AGE"));
    let list = Scanner::Grype.list(path("/oci"), path("/w/s"), path("/w"));
    assert_eq!(
        list.args[..4],
        ["scan", "oci-dir:/oci", "-o", "cyclonedx-json@1.6=/w/s"]
    );
}

proptest! {
    #[test]
    fn reading_never_panics(json in proptest::collection::vec(any::<u8>(), 0..500)) {
        prop_assert!(read(json.as_slice(), &inventory(1), &image()).is_err());
    }
}
