//! What an exception covers, from when, and until when.

use super::*;
use proptest::prelude::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn cve() -> Finding {
    Finding {
        id: "CVE-2026-1".into(),
        severity: Severity::High,
        aliases: vec!["GHSA-aaaa".into()],
        package: Some("pkg:deb/debian/libstdc%2B%2B6@12.2.0-14".into()),
        subject: Some("/usr/lib/x".into()),
        ..Finding::default()
    }
}

fn waiver(name: &str, id: &str) -> Suppression {
    Suppression {
        id: Pattern::glob(id),
        aliases: Vec::new(),
        package: None,
        subject: None,
        checks: Vec::new(),
        maximum_severity: None,
        kind: Kind::Waiver {
            name: name.into(),
            not_before: Some(at(100)),
            expires: at(200),
        },
    }
}

#[test]
fn a_waiver_has_effect_from_its_start_until_its_end_and_not_a_second_longer() {
    let exceptions: Exceptions = [waiver("w", "CVE-2026-1")].into_iter().collect();
    let standing = |now| exceptions.standing("cves", &cve(), at(now)).clone();
    assert_eq!(standing(99), Standing::Counts { expired: None });
    assert_eq!(standing(100), Standing::Waived { waiver: "w" });
    assert_eq!(standing(199), Standing::Waived { waiver: "w" });
    assert_eq!(standing(200), Standing::Counts { expired: Some("w") });
}

#[test]
fn an_active_waiver_outlives_an_expired_one_and_vex_speaks_before_both() {
    let mut renewed = waiver("renewed", "CVE-2026-1");
    renewed.kind = Kind::Waiver {
        name: "renewed".into(),
        not_before: None,
        expires: at(900),
    };
    let mut vex = waiver("", "CVE-2026-1");
    vex.kind = Kind::Vex { document: "doc".into() };
    let two: Exceptions = [waiver("old", "CVE-2026-1"), renewed.clone()].into_iter().collect();
    assert_eq!(
        two.standing("c", &cve(), at(300)),
        Standing::Waived { waiver: "renewed" }
    );
    let three: Exceptions = [waiver("old", "CVE-2026-1"), renewed, vex].into_iter().collect();
    assert_eq!(
        three.standing("c", &cve(), at(300)),
        Standing::Suppressed { document: "doc" }
    );
}

#[test]
fn every_part_of_a_scope_must_fit() {
    let with = |change: &dyn Fn(&mut Suppression)| {
        let mut suppression = waiver("w", "CVE-2026-*");
        change(&mut suppression);
        suppression.covers("hard.ened.cves", &cve())
    };
    let package = |text: &'static str| with(&|s| s.package = Some(Pattern::glob(text)));
    assert!(with(&|_| {}));
    assert!(with(&|s| s.id = Pattern::glob("GHSA-aaaa")), "an alias");
    assert!(with(
        &|s| (s.id, s.aliases) = (Pattern::exact("DSA-1"), vec!["CVE-2026-1".into()])
    ));
    assert!(!with(&|s| s.id = Pattern::glob("CVE-2026")), "a prefix without a star");
    assert!(!with(&|s| s.id = Pattern::exact("CVE-2026-*")), "a literal star");
    for fits in [
        "libstdc++6",
        "libstdc*",
        "pkg:deb/debian/libstdc%2B%2B6",
        "pkg:deb/*@12.*",
        "pkg:deb/debian/libstdc%2B%2B6@12.2.0-14",
    ] {
        assert!(package(fits), "{fits}");
    }
    for other in ["libstdc", "deb/*", "pkg:rpm/*", "pkg:deb/*@13.*", ""] {
        assert!(!package(other), "{other}");
    }
    assert!(with(&|s| s.subject = Some(Pattern::glob("/usr/*/x"))));
    assert!(!with(&|s| s.subject = Some(Pattern::glob("/usr/*/y"))));
    assert!(with(&|s| s.checks = vec!["cves".into()]));
    assert!(with(&|s| s.checks = vec!["hard.ened.cves".into()]));
    assert!(!with(&|s| s.checks = vec!["ened.cves".into(), "cis".into()]));
    assert!(with(&|s| s.maximum_severity = Some(Severity::High)));
    assert!(!with(&|s| s.maximum_severity = Some(Severity::Medium)));
    let mut bare = waiver("w", "*");
    bare.package = Some(Pattern::glob("*"));
    assert!(
        !bare.covers("c", &Finding { package: None, ..cve() }),
        "a package pattern needs a package"
    );
}

#[test]
fn a_finding_of_unknown_severity_is_waived_only_where_critical_ones_are() {
    let unknown = Finding {
        severity: Severity::Unknown,
        ..cve()
    };
    for (maximum, covered) in [
        (None, true),
        (Some(Severity::Critical), true),
        (Some(Severity::High), false),
        (Some(Severity::Unknown), false),
    ] {
        let mut suppression = waiver("w", "*");
        suppression.maximum_severity = maximum;
        assert_eq!(suppression.covers("c", &unknown), covered, "{maximum:?}");
    }
}

proptest! {
    #[test]
    fn a_pattern_is_what_the_same_regular_expression_is(pattern in "[ab*]{0,8}", text in "[ab]{0,10}") {
        let expression: String = pattern.split('*').map(regex::escape).collect::<Vec<_>>().join(".*");
        let expression = regex::Regex::new(&format!("^(?s:{expression})$")).unwrap();
        prop_assert_eq!(Pattern::glob(&pattern).matches(&text), expression.is_match(&text));
    }

    #[test]
    fn a_package_name_never_fails(purl in "\\PC{0,40}") {
        let _ = package_name(&purl);
    }
}
