//! What opens a gate, and what never does.

use super::*;
use crate::waiver::{Kind, Pattern, Suppression};
use crate::{
    digest::Digest,
    report::{Tool, ToolName},
};
use proptest::prelude::*;

fn report(findings: &[(Severity, bool)]) -> Report {
    let tool = Tool::new(ToolName::Grype, "1");
    let mut report = Report::error("c", &Digest::of(b""), tool, "");
    report.outcome = Outcome::Completed;
    report.evaluated = 10;
    report.findings = findings
        .iter()
        .map(|(severity, fixable)| Finding {
            id: "id".into(),
            severity: *severity,
            title: "t".into(),
            subject: None,
            remedy: None,
            reference: None,
            fixed_version: fixable.then(|| "2".into()),
            ..Finding::default()
        })
        .collect();
    report
}

fn gate() -> Gate {
    Gate {
        allow: BTreeMap::new(),
        minimum_evaluated: 5,
        only_fixable: false,
        database_max_age: None,
        deny_known_exploited: true,
        epss_at_least: None,
        allow_end_of_life: false,
    }
}

fn judge(report: &Report, gate: &Gate, now: Timestamp) -> Judgement {
    super::judge(report, gate, &Exceptions::default(), now)
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

#[test]
fn a_clean_complete_report_passes_and_every_other_one_does_not() {
    let now = at(1_000_000);
    assert_eq!(judge(&report(&[]), &gate(), now).verdict, Verdict::Passed);
    let mut crashed = report(&[]);
    crashed.outcome = Outcome::Error {
        message: "killed by signal 9".into(),
    };
    assert_eq!(judge(&crashed, &gate(), now).verdict, Verdict::Error);
    let mut unsupported = report(&[]);
    unsupported.outcome = Outcome::Unsupported {
        message: "no OS".into(),
    };
    assert_eq!(judge(&unsupported, &gate(), now).verdict, Verdict::Unsupported);
    let mut cut = report(&[]);
    cut.truncated = true;
    assert_eq!(judge(&cut, &gate(), now).verdict, Verdict::Error);
    let mut few = report(&[]);
    few.evaluated = 4;
    assert_eq!(judge(&few, &gate(), now).verdict, Verdict::NotEvaluated);
}

#[test]
fn zero_evaluated_is_never_a_pass_even_where_the_policy_demands_nothing() {
    let mut vacuous = report(&[]);
    vacuous.evaluated = 0;
    let nothing_demanded = Gate {
        minimum_evaluated: 0,
        ..gate()
    };
    assert_eq!(judge(&vacuous, &nothing_demanded, at(0)).verdict, Verdict::NotEvaluated);
}

#[test]
fn the_age_of_the_database_is_enforced_in_both_directions() {
    let aged = Gate {
        database_max_age: Some(SignedDuration::from_hours(48)),
        ..gate()
    };
    let now = at(10_000_000);
    let mut fresh = report(&[]);
    for (built, verdict) in [
        (None, Verdict::Error),
        (Some(at(10_000_000 - 47 * 3600)), Verdict::Passed),
        (Some(at(10_000_000 - 49 * 3600)), Verdict::Error),
        (Some(at(10_000_000 + 2 * 3600)), Verdict::Error),
    ] {
        fresh.tool.database_built = built;
        assert_eq!(judge(&fresh, &aged, now).verdict, verdict, "{built:?}");
    }
}

#[test]
fn thresholds_are_per_severity_and_unfixable_ones_count_unless_told_otherwise() {
    let findings = report(&[
        (Severity::Medium, true),
        (Severity::Medium, false),
        (Severity::Low, true),
    ]);
    let one_each = Gate {
        allow: [(Severity::Medium, 1), (Severity::Low, 1)].into(),
        ..gate()
    };
    let judgement = judge(&findings, &one_each, at(0));
    assert_eq!(
        (judgement.verdict, judgement.message.as_str()),
        (Verdict::Failed, "3 failed (medium 2, low 1)")
    );
    let fixable = Gate {
        only_fixable: true,
        ..one_each
    };
    assert_eq!(judge(&findings, &fixable, at(0)).verdict, Verdict::Passed);
}

#[test]
fn a_rule_with_many_hits_hides_no_other_rule() {
    let mut many = report(&[(Severity::High, false); 7]);
    many.findings.push(Finding {
        id: "other".into(),
        severity: Severity::Low,
        ..many.findings[0].clone()
    });
    let worst = judge(&many, &gate(), at(0)).worst;
    assert_eq!((worst.len(), worst[1].id.as_str()), (WORST, "other"));
}

proptest! {
    #[test]
    fn one_finding_more_never_opens_a_gate(severities in proptest::collection::vec(0_usize..5, 0..20), extra in 0_usize..5, allowed in 0_u32..5) {
        let of = |n: usize| (Severity::ALL[n], true);
        let gate = Gate { allow: Severity::ALL.into_iter().map(|s| (s, allowed)).collect(), ..gate() };
        let mut findings: Vec<_> = severities.into_iter().map(of).collect();
        let before = judge(&report(&findings), &gate, at(0)).verdict;
        findings.push(of(extra));
        let after = judge(&report(&findings), &gate, at(0)).verdict;
        prop_assert!(!(before == Verdict::Failed && after == Verdict::Passed));
    }
}

fn waiver(id: &str, expires: i64) -> Suppression {
    Suppression {
        id: Pattern::glob(id),
        aliases: Vec::new(),
        package: None,
        subject: None,
        checks: Vec::new(),
        maximum_severity: None,
        kind: Kind::Waiver {
            name: format!("waiver-{expires}"),
            not_before: None,
            expires: at(expires),
        },
    }
}

fn with(report: &Report, gate: &Gate, waivers: &[Suppression]) -> Judgement {
    super::judge(report, gate, &waivers.iter().cloned().collect(), at(1000))
}

#[test]
fn a_waiver_takes_out_findings_and_never_an_error() {
    let waivers = [waiver("*", 2000)];
    let judgement = with(&report(&[(Severity::Critical, true); 2]), &gate(), &waivers);
    assert_eq!((judgement.verdict, judgement.waived), (Verdict::Passed, 2));
    assert_eq!(judgement.used_waivers, BTreeSet::from(["waiver-2000".to_owned()]));
    assert_eq!(judgement.message, "passed, 10 evaluated; waived 2 (waiver-2000)");
    let mut errors = [report(&[]), report(&[]), report(&[]), report(&[])];
    errors[0].outcome = Outcome::Error { message: "*".into() };
    errors[1].outcome = Outcome::Unsupported { message: "*".into() };
    errors[2].truncated = true;
    errors[3].evaluated = 0;
    for report in &errors {
        assert_ne!(with(report, &gate(), &waivers).verdict, Verdict::Passed);
    }
}

#[test]
fn what_an_expired_waiver_covered_counts_again_and_the_message_says_so() {
    let judgement = with(&report(&[(Severity::High, true)]), &gate(), &[waiver("*", 1000)]);
    assert_eq!((judgement.verdict, judgement.waived), (Verdict::Failed, 0));
    assert_eq!(
        judgement.message,
        "1 failed (high 1); counts again because its waiver expired: waiver-1000"
    );
    assert_eq!(judgement.expired_waivers.len(), 1);
}

#[test]
fn a_vex_statement_has_a_count_of_its_own() {
    let mut statement = waiver("id", 0);
    statement.kind = Kind::Vex {
        document: "https://example.com/vex".into(),
    };
    let judgement = with(&report(&[(Severity::High, true)]), &gate(), &[statement]);
    assert_eq!(
        (judgement.verdict, judgement.suppressed, judgement.waived),
        (Verdict::Passed, 1, 0)
    );
    assert_eq!(judgement.message, "passed, 10 evaluated; 1 suppressed by VEX");
}

#[test]
fn what_is_known_to_be_exploited_fails_though_tolerated_and_not_fixable_unless_waived() {
    let mut exploited = report(&[(Severity::Low, false), (Severity::Critical, false)]);
    exploited.findings[0].known_exploited = true;
    exploited.findings[0].id = "CVE-2026-9".into();
    let tolerant = Gate {
        allow: [(Severity::Low, 9), (Severity::Critical, 9)].into(),
        only_fixable: true,
        ..gate()
    };
    let judgement = judge(&exploited, &tolerant, at(1000));
    assert_eq!(judgement.verdict, Verdict::Failed);
    assert_eq!(
        judgement.message,
        "1 known to be exploited, which allow does not tolerate: CVE-2026-9; 1 failed (low 1)"
    );
    assert_eq!(judgement.worst[0].id, "CVE-2026-9");
    let allowed = Gate {
        deny_known_exploited: false,
        ..tolerant.clone()
    };
    assert_eq!(judge(&exploited, &allowed, at(1000)).verdict, Verdict::Passed);
    let waived = with(&exploited, &tolerant, &[waiver("CVE-2026-9", 2000)]);
    assert_eq!((waived.verdict, waived.waived), (Verdict::Passed, 1));
}

#[test]
fn an_epss_at_the_limit_fails_though_tolerated_but_not_where_only_fixable_ones_count() {
    let mut likely = report(&[(Severity::Low, true)]);
    let tolerant = Gate {
        allow: [(Severity::Low, 9)].into(),
        epss_at_least: Some(1000),
        ..gate()
    };
    for (epss, verdict) in [
        (None, Verdict::Passed),
        (Some(999), Verdict::Passed),
        (Some(1000), Verdict::Failed),
    ] {
        likely.findings[0].epss = epss;
        assert_eq!(judge(&likely, &tolerant, at(0)).verdict, verdict, "{epss:?}");
    }
    let message = judge(&likely, &tolerant, at(0)).message;
    assert!(message.starts_with("1 with an EPSS of at least 10 %, "), "{message}");
    let fixable = Gate {
        only_fixable: true,
        ..tolerant
    };
    likely.findings[0].fixed_version = None;
    assert_eq!(judge(&likely, &fixable, at(0)).verdict, Verdict::Passed);
}

#[test]
fn an_operating_system_at_its_end_counts_unless_accepted_though_no_update_repairs_it() {
    let mut old = report(&[(Severity::High, false)]);
    old.findings[0].id = END_OF_LIFE.into();
    let fixable = Gate {
        only_fixable: true,
        ..gate()
    };
    assert_eq!(judge(&old, &fixable, at(0)).verdict, Verdict::Failed);
    let accepted = Gate {
        allow_end_of_life: true,
        ..gate()
    };
    assert_eq!(judge(&old, &accepted, at(0)).verdict, Verdict::Passed);
}

proptest! {
    #[test]
    fn one_waiver_less_never_opens_a_gate(severities in proptest::collection::vec(0_usize..5, 0..8), expiries in proptest::collection::vec(0_i64..2000, 1..5)) {
        let findings: Vec<_> = severities.into_iter().map(|n| (Severity::ALL[n], true)).collect();
        let mut waivers: Vec<_> = expiries.into_iter().map(|expires| waiver("id", expires)).collect();
        let before = with(&report(&findings), &gate(), &waivers).verdict;
        waivers.pop();
        let after = with(&report(&findings), &gate(), &waivers).verdict;
        prop_assert!(!(before == Verdict::Failed && after == Verdict::Passed));
    }
}
