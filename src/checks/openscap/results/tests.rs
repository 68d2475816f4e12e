//! Real results of OpenSCAP 1.4.2 with content 0.1.82 (trimmed), and every way in which it fails open.

use super::*;
use crate::openscap::{
    PROFILE_PREFIX,
    tailoring::{self, BY_POLICY},
};
use proptest::prelude::*;

const DEBIAN: &str = include_str!("../../testdata/openscap-debian12-cis-l2-bad-containerenv.xml");
const MACHINE: &str = include_str!("../../testdata/openscap-debian12-cis-l2-bad.xml");
const RHEL: &str = include_str!("../../testdata/openscap-rhel9-stig.xml");
const HUMMINGBIRD: &str = include_str!("../../testdata/openscap-hummingbird-cis.xml");
const WRONG: &str = include_str!("../../testdata/openscap-wrong-content-all-notapplicable-rc0.xml");

const DEBIAN_12: &str = "cpe:/o:debian:debian_linux:12";

struct Setup {
    platform: &'static str,
    benchmark: Benchmark,
    profile: String,
    excluded: Excluded,
    options: Options,
}

fn setup(platform: &'static str, profile: &str) -> Setup {
    of_benchmark(platform, profile, "DEBIAN-12")
}

fn of_benchmark(platform: &'static str, profile: &str, benchmark: &str) -> Setup {
    Setup {
        platform,
        benchmark: Benchmark {
            id: format!("xccdf_org.ssgproject.content_benchmark_{benchmark}"),
            version: "0.1.82".into(),
        },
        profile: tailoring::full_profile(profile),
        excluded: Excluded::new(),
        options: Options::default(),
    }
}

fn read_with(xml: &str, setup: &Setup) -> Result<Parsed, ReadError> {
    read_from(xml.as_bytes(), setup)
}

fn read_from(xml: impl BufRead, setup: &Setup) -> Result<Parsed, ReadError> {
    let mut left_out = LeftOut::new();
    for reason in setup.excluded.values() {
        *left_out.entry(reason).or_default() += 1;
    }
    let expected = Expected {
        platform: setup.platform,
        benchmark: &setup.benchmark,
        profile: &setup.profile,
        base_profile: setup.profile.strip_prefix(PROFILE_PREFIX).unwrap_or_default(),
        excluded: &setup.excluded,
        left_out: &left_out,
        options: &setup.options,
    };
    read(xml, &expected)
}

fn debian() -> Setup {
    setup(DEBIAN_12, "cis_level2_server")
}

#[test]
fn failed_rules_become_findings_with_title_severity_reference_and_remedy() {
    let parsed = read_with(DEBIAN, &debian()).unwrap();
    assert_eq!(parsed.problems, Vec::<String>::new());
    assert_eq!(parsed.version.as_deref(), Some("1.4.2"));
    assert_eq!(
        parsed.content.as_deref(),
        Some("DEBIAN-12 0.1.82, profile cis_level2_server")
    );
    assert_eq!(parsed.evaluated, parsed.passed + parsed.findings.len() as u64);
    let pwquality = parsed
        .findings
        .iter()
        .find(|f| f.id == "package_pam_pwquality_installed")
        .unwrap();
    assert_eq!(pwquality.title, "Install pam_pwquality Package");
    assert_eq!(
        (pwquality.severity, pwquality.reference.as_deref()),
        (Severity::Medium, Some("CIS 5.3.1.3"))
    );
    assert!(
        pwquality
            .remedy
            .as_deref()
            .unwrap()
            .starts_with("The libpam-pwquality package can be installed")
    );
    let ypserv = parsed
        .findings
        .iter()
        .find(|f| f.id == "package_ypserv_removed")
        .unwrap();
    assert_eq!(ypserv.severity, Severity::High);
}

#[test]
fn every_result_of_every_sample_is_counted() {
    for (xml, setup) in [
        (DEBIAN, debian()),
        (MACHINE, debian()),
        (RHEL, of_benchmark("cpe:/o:redhat:enterprise_linux:9", "stig", "RHEL-9")),
        (
            HUMMINGBIRD,
            of_benchmark("cpe:/a:redhat:hummingbird", "cis", "HUMMINGBIRD"),
        ),
    ] {
        let parsed = read_with(xml, &setup).unwrap();
        let count = |result: &str| xml.matches(&format!("<result>{result}</result>")).count() as u64;
        assert_eq!(parsed.passed, count("pass"));
        assert_eq!(parsed.evaluated, count("pass") + count("fail"));
        assert_eq!(parsed.findings.len() as u64, count("fail") + count("unknown"));
        assert_eq!(parsed.not_applicable, count("notapplicable") + count("notchecked"));
        assert!(parsed.evaluated > 10, "{}", parsed.evaluated);
    }
}

#[test]
fn wrong_content_that_ends_with_exit_code_0_is_refused() {
    let error = read_with(
        WRONG,
        &of_benchmark("cpe:/o:redhat:enterprise_linux:9", "stig", "RHEL-9"),
    )
    .unwrap_err();
    assert!(error.to_string().contains("expected platform"), "{error}");
    // A missing root looks the same: no platform, everything not applicable.
    let missing = DEBIAN
        .replace(
            &format!("<platform idref=\"{DEBIAN_12}\" />\n    <set-value"),
            "<set-value",
        )
        .replace("<result>pass<", "<result>notapplicable<");
    assert!(matches!(
        read_with(&missing, &debian()),
        Err(ReadError::Untrusted { .. })
    ));
}

#[test]
fn results_of_another_benchmark_or_version_are_refused() {
    for (old, new) in [
        ("version=\"0.1.82\"", "version=\"0.1.81\""),
        ("benchmark_DEBIAN-12", "benchmark_DEBIAN-11"),
    ] {
        let at = DEBIAN.find("<TestResult").unwrap();
        let other = format!("{}{}", &DEBIAN[..at], DEBIAN[at..].replace(old, new));
        let error = read_with(&other, &debian()).unwrap_err().to_string();
        assert!(
            error.contains("expected benchmark xccdf_org.ssgproject.content_benchmark_DEBIAN-12 0.1.82"),
            "{error}"
        );
    }
}

#[test]
fn the_summary_has_every_count_by_severity_and_kind_and_the_score_decides_nothing() {
    let by_hand = DEBIAN.replacen("<result>notapplicable<", "<result>notchecked<", 2);
    let excluded = [("a", BY_POLICY), ("b", BY_POLICY), ("c", "reads the running system")];
    let left_out = Setup {
        excluded: excluded.map(|(rule, reason)| (rule.to_owned(), reason)).into(),
        ..debian()
    };
    let parsed = read_with(&by_hand, &left_out).unwrap();
    insta::assert_snapshot!(parsed.summary.unwrap());
    // Whatever the score: the same findings and counts.
    let perfect = DEBIAN.replace(">87.617691<", ">100.000000<");
    let (before, after) = (
        read_with(DEBIAN, &debian()).unwrap(),
        read_with(&perfect, &debian()).unwrap(),
    );
    assert_eq!(
        (before.findings, before.passed, before.problems),
        (after.findings, after.passed, after.problems)
    );
}

#[test]
fn another_platform_that_only_starts_alike_is_refused() {
    let other = setup("cpe:/o:debian:debian_linux:1", "cis_level2_server");
    assert!(matches!(read_with(DEBIAN, &other), Err(ReadError::Untrusted { .. })));
}

#[test]
fn results_of_the_untailored_profile_are_refused() {
    let tailored = Setup {
        profile: tailoring::PROFILE.into(),
        ..debian()
    };
    assert!(
        read_with(DEBIAN, &tailored)
            .unwrap_err()
            .to_string()
            .contains("tailoring was not applied")
    );
}

#[test]
fn too_few_evaluated_rules_are_a_problem_whatever_the_score() {
    let all = Setup {
        options: Options {
            min_evaluated: 1000,
            ..Options::default()
        },
        ..debian()
    };
    assert!(read_with(DEBIAN, &all).unwrap().problems[0].contains("at least 1000 evaluated rules"));
    let none = DEBIAN
        .replace("<result>pass<", "<result>notapplicable<")
        .replace("<result>fail<", "<result>notapplicable<");
    let zero = Setup {
        options: Options {
            min_evaluated: 0,
            ..Options::default()
        },
        ..debian()
    };
    assert!(
        read_with(&none, &zero).unwrap().problems[0].contains("at least 1 evaluated"),
        "0 is never enough"
    );
}

#[test]
fn a_vacuous_pass_is_excluded_even_when_the_tailoring_did_not_deselect_it() {
    let before = read_with(DEBIAN, &debian()).unwrap();
    let passed = DEBIAN
        .split("<rule-result ")
        .find(|part| part.contains("<result>pass<"))
        .unwrap();
    let rule = passed.split('"').nth(1).unwrap().to_owned();
    let after = Setup {
        excluded: [(rule, "partition probe")].into(),
        ..debian()
    };
    let after = read_with(DEBIAN, &after).unwrap();
    assert_eq!(
        (after.passed, after.not_applicable),
        (before.passed - 1, before.not_applicable + 1)
    );
}

#[test]
fn an_error_or_an_undocumented_result_is_a_problem() {
    for word in ["error", "fixed", "PASS", ""] {
        let xml = DEBIAN.replacen("<result>pass</result>", &format!("<result>{word}</result>"), 1);
        let parsed = read_with(&xml, &debian()).unwrap();
        assert_eq!(parsed.problems.len(), 1, "{word}: {:?}", parsed.problems);
    }
    let absent = DEBIAN.replacen("<result>pass</result>", "", 1);
    assert_eq!(read_with(&absent, &debian()).unwrap().problems.len(), 1);
}

#[test]
fn unknown_results_are_findings_and_bounded() {
    let one = DEBIAN.replacen("<result>pass<", "<result>unknown<", 1);
    let parsed = read_with(&one, &debian()).unwrap();
    assert_eq!(parsed.problems, Vec::<String>::new());
    let unknown = parsed
        .findings
        .iter()
        .find(|f| f.title.ends_with("could not be evaluated"))
        .unwrap();
    assert_eq!(unknown.severity, Severity::Unknown);
    let two = DEBIAN.replacen("<result>pass<", "<result>unknown<", 2);
    assert!(read_with(&two, &debian()).unwrap().problems[0].contains("2 rules could not be evaluated"));
}

#[test]
fn torn_doubled_and_hostile_documents_are_refused() {
    let end = DEBIAN.find("<score").unwrap();
    let open = DEBIAN.find("<TestResult").unwrap();
    let close = DEBIAN.find("</TestResult>").unwrap() + "</TestResult>".len();
    let twice = format!("{}{}{}", &DEBIAN[..close], &DEBIAN[open..close], &DEBIAN[close..]);
    let dtd = DEBIAN.replacen("<Benchmark", "<!DOCTYPE x [<!ENTITY a \"b\">]><Benchmark", 1);
    let entity = DEBIAN.replacen("<title", "<x>&a;</x><title", 1);
    let deep = format!("{}{}", "<a>".repeat(300), "</a>".repeat(300));
    let attribute = DEBIAN.replacen("<rule-result idref=", "<rule-result idref=x idref=", 1);
    for xml in [&DEBIAN[..end], &twice, &dtd, &entity, &deep, &attribute] {
        assert!(matches!(read_with(xml, &debian()), Err(ReadError::Malformed { .. })));
    }
    for xml in ["", "<Benchmark/>", "not xml"] {
        assert!(read_with(xml, &debian()).is_err());
    }
}

#[test]
fn a_results_file_without_end_stops_at_the_bound() {
    use std::io::{BufReader, Read as _};
    let endless = BufReader::new("<a>".as_bytes().chain(std::io::repeat(b' ')));
    assert!(matches!(read_from(endless, &debian()), Err(ReadError::TooLarge { .. })));
}

#[test]
fn results_inside_of_an_asset_report_are_read_too() {
    let body = &DEBIAN[DEBIAN.find("<Benchmark").unwrap()..];
    let arf = format!(
        "<arf:asset-report-collection xmlns:arf=\"a\"><arf:content>{body}</arf:content></arf:asset-report-collection>"
    );
    assert_eq!(
        read_with(&arf, &debian()).unwrap(),
        read_with(DEBIAN, &debian()).unwrap()
    );
}

proptest! {
    #[test]
    fn reading_never_panics(text in "\\PC{0,400}") {
        prop_assert!(read_with(&text, &debian()).is_err());
    }

    #[test]
    fn a_cut_document_is_never_read(at in 0..DEBIAN.len() - 20) {
        let at = (0..=at).rev().find(|at| DEBIAN.is_char_boundary(*at)).unwrap_or(0);
        prop_assert!(read_with(&DEBIAN[..at], &debian()).is_err());
    }
}
