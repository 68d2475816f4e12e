//! Real output of Trivy 0.70, and the ways in which it says nothing.

use super::*;
use crate::{Run, assemble, sbom, scanner::Scanner};
use proptest::prelude::*;
use repave_core::{
    report::{Outcome, ToolName},
    verdict::{Gate, Verdict, judge},
    waiver::Exceptions,
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};

const KEV: &[u8] = include_bytes!("../testdata/trivy-kev.json");
const SBOM: &[u8] = include_bytes!("../testdata/sbom-trivy.json");
const DATABASE: &[u8] = br#"{"Version":2,"UpdatedAt":"2026-11-24T06:59:20Z","NextUpdate":"2026-11-25T06:59:20Z","DownloadedAt":"2026-11-24T06:59:20Z"}"#;

fn inventory() -> Inventory {
    sbom::read(SBOM, TOOL).unwrap()
}

fn changed(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut document: Value = serde_json::from_slice(KEV).unwrap();
    change(&mut document);
    serde_json::to_vec(&document).unwrap()
}

fn refused(json: &[u8], database: &[u8]) -> String {
    read(json, &inventory(), database).unwrap_err().to_string()
}

#[test]
fn vulnerabilities_are_read_with_package_and_fix_and_the_database_s_age() {
    let parsed = read(KEV, &inventory(), DATABASE).unwrap();
    assert_eq!((parsed.evaluated, parsed.passed), (8, 6));
    assert_eq!(parsed.database_built, Some("2026-11-24T06:59:20Z".parse().unwrap()));
    assert_eq!(parsed.version.as_deref(), Some("0.70.0"));
    let [kev, old] = parsed.findings.as_slice() else {
        panic!("{:?}", parsed.findings)
    };
    assert_eq!((kev.id.as_str(), kev.severity), ("CVE-2026-1300", Severity::High));
    assert_eq!(kev.package.as_deref(), Some("pkg:deb/debian/acme-kev@1.9-1"));
    assert_eq!(kev.fixed_version.as_deref(), Some("2.0"));
    assert_eq!(old.fixed_version, None);
    assert!(old.title.contains("the distribution will not fix it"), "{}", old.title);
    assert_eq!(parsed.problems, Vec::<String>::new());
}

#[test]
fn a_stale_undated_or_foreign_database_never_passes() {
    let image = Digest::of(b"i");
    let run = |parsed| {
        let took = Duration::ZERO;
        assemble(
            Run {
                check: "c",
                image: &image,
                tool: ToolName::Trivy,
                version: "",
                content: None,
                took,
                candidate_executed: false,
            },
            parsed,
        )
    };
    let old = String::from_utf8_lossy(DATABASE).replace("\"UpdatedAt\":\"2026", "\"UpdatedAt\":\"2024");
    let gate = Gate {
        allow: Severity::ALL
            .into_iter()
            .map(|severity| (severity, 100))
            .collect::<BTreeMap<_, _>>(),
        minimum_evaluated: 1,
        only_fixable: false,
        database_max_age: Some(jiff::SignedDuration::from_hours(48)),
        deny_known_exploited: false,
        epss_at_least: None,
        allow_end_of_life: false,
    };
    let now = "2026-11-24T12:00:00Z".parse().unwrap();
    let fresh = run(read(KEV, &inventory(), DATABASE));
    assert_eq!(
        judge(&fresh, &gate, &Exceptions::default(), now).verdict,
        Verdict::Passed
    );
    let stale = run(read(KEV, &inventory(), old.as_bytes()));
    let judged = judge(&stale, &gate, &Exceptions::default(), now);
    assert_eq!(judged.verdict, Verdict::Error);
    assert!(
        judged.message.contains("the vulnerability database is"),
        "{}",
        judged.message
    );
    for (database, words) in [
        (DATABASE.to_vec(), None),
        (
            String::from_utf8_lossy(DATABASE).replace(":2,", ":1,").into_bytes(),
            Some("database of schema 2, found 1"),
        ),
        (b"{\"Version\":2}".to_vec(), Some("missing field `UpdatedAt`")),
        (DATABASE[..20].to_vec(), Some("metadata.json")),
    ] {
        match (read(KEV, &inventory(), &database), words) {
            (Ok(_), None) => {}
            (Err(error), Some(words)) => assert!(error.to_string().contains(words), "{error}"),
            (other, words) => panic!("{other:?} {words:?}"),
        }
    }
}

#[test]
fn a_missing_operating_system_and_no_packages_are_not_no_vulnerabilities() {
    let no_os = changed(|report| drop(report["Metadata"].as_object_mut().unwrap().remove("OS")));
    assert!(refused(&no_os, DATABASE).contains("expected the operating system of 8 packages, found none"));
    let nameless = changed(|report| report["Metadata"]["OS"]["Family"] = json!(""));
    assert!(refused(&nameless, DATABASE).contains("found none"));
    let none = changed(|report| report["Results"] = json!([]));
    let image = Digest::of(b"i");
    let run = Run {
        check: "c",
        image: &image,
        tool: ToolName::Trivy,
        version: "",
        content: None,
        took: Duration::ZERO,
        candidate_executed: false,
    };
    let report = assemble(run, read(none.as_slice(), &inventory(), DATABASE));
    assert!(matches!(report.outcome, Outcome::Error { message } if message.contains("nothing was evaluated")));
}

#[test]
fn another_schema_image_or_a_malicious_release_is_refused() {
    assert!(refused(&changed(|report| report["SchemaVersion"] = json!(3)), DATABASE).contains("schema 2, found 3"));
    let other = changed(|report| report["Metadata"]["ImageID"] = json!(Digest::of(b"other").as_str()));
    assert!(refused(&other, DATABASE).contains("expected a scan of image"));
    for version in ["0.69.4", "v0.69.5", "0.69.6", "0.69.4.1", "0.69.6-rc1"] {
        let bad = changed(|report| report["Trivy"]["Version"] = json!(version));
        assert!(refused(&bad, DATABASE).contains("GHSA-69fq-xp46-6x23"), "{version}");
        let listed = Inventory {
            tools: vec![("trivy".into(), version.into())],
            ..inventory()
        };
        assert!(read(KEV, &listed, DATABASE).is_err(), "{version}");
    }
    for version in ["0.69.3", "0.69.40", "0.70.0"] {
        assert!(
            read(
                changed(|report| report["Trivy"]["Version"] = json!(version)).as_slice(),
                &inventory(),
                DATABASE
            )
            .is_ok()
        );
    }
}

#[test]
fn an_outlived_release_is_a_finding_and_a_suppression_a_problem() {
    let outlived = changed(|report| report["Metadata"]["OS"]["EOSL"] = json!(true));
    let parsed = read(outlived.as_slice(), &inventory(), DATABASE).unwrap();
    assert_eq!(
        (parsed.findings[0].id.as_str(), parsed.findings[0].severity),
        ("os.end-of-life", Severity::High)
    );
    let suppressed =
        changed(|report| report["Results"][0]["ExperimentalModifiedFindings"] = json!([{"Type": "vulnerability"}]));
    assert!(
        read(suppressed.as_slice(), &inventory(), DATABASE).unwrap().problems[0].contains("1 findings were suppressed")
    );
}

#[test]
fn torn_huge_and_deep_results_are_refused_and_escapes_do_not_reach_a_report() {
    let bomb = format!("{{\"Results\":{}", "[".repeat(100_000));
    let huge = vec![b' '; usize::try_from(MAX_OUTPUT).unwrap() + 1];
    for json in [
        &KEV[..KEV.len() / 2],
        b"",
        b"{}",
        b"[]",
        bomb.as_bytes(),
        &[KEV, KEV].concat(),
    ] {
        assert!(matches!(
            read(json, &inventory(), DATABASE),
            Err(ReadError::Malformed { .. })
        ));
    }
    assert!(matches!(
        read(huge.as_slice(), &inventory(), DATABASE),
        Err(ReadError::TooLarge { .. })
    ));
    let escapes = changed(|report| report["Results"][0]["Vulnerabilities"][0]["Title"] = json!("\u{1b}]0;x\u{7}"));
    let image = Digest::of(b"i");
    let run = Run {
        check: "c",
        image: &image,
        tool: ToolName::Trivy,
        version: "",
        content: None,
        took: Duration::ZERO,
        candidate_executed: false,
    };
    let report = assemble(run, read(escapes.as_slice(), &inventory(), DATABASE));
    assert!(!serde_json::to_string(&report).unwrap().contains("\\u001b"));
}

#[test]
fn trivy_is_called_offline_and_without_any_file_of_settings() {
    let path = Path::new;
    let files = Files {
        sbom: path("/w/s"),
        json: path("/w/j"),
        home: path("/w"),
        database: path("/database"),
    };
    for call in [
        Scanner::Trivy.scan(&files),
        Scanner::Trivy.list(path("/oci"), path("/w/s"), path("/w")),
    ] {
        let has = |words: &[&str]| call.args.windows(words.len()).any(|window| window == words);
        assert!(has(&["--config", "/dev/null"]) && has(&["--skip-db-update"]) && has(&["--offline-scan"]));
        assert!(call.env.iter().all(|(name, _)| !name.starts_with("TRIVY_")));
    }
    let scan = Scanner::Trivy.scan(&files);
    let has = |words: &[&str]| scan.args.windows(words.len()).any(|window| window == words);
    assert!(has(&["--ignorefile", "/dev/null"]) && has(&["--list-all-pkgs"]) && has(&["--cache-dir", "/database"]));
}

proptest! {
    #[test]
    fn reading_never_panics(json in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(read(json.as_slice(), &inventory(), DATABASE).is_err());
        prop_assert!(read(KEV, &inventory(), &json).is_err());
    }
}
