//! The gate: from a believed report to a verdict. Only [`Verdict::Passed`] opens anything.
//!
//! Fails closed: an error, an unsupported image, too few evaluated rules or a stale database are never a pass, however
//! few findings the report has. The ways in which tools fail open are why (OpenSCAP exits with 0 after evaluating
//! nothing; Grype is content with an old database).

use super::report::{Finding, Outcome, Report, Severity};
use jiff::{SignedDuration, Timestamp};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

/// What a check came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Complete, honest and within the thresholds: the only one that opens a gate.
    Passed,
    /// More findings than the policy tolerates.
    Failed,
    /// The tool or its report cannot be trusted.
    Error,
    /// Fewer rules, tests or packages were evaluated than demanded.
    NotEvaluated,
    /// The check does not fit this image.
    Unsupported,
}

impl Verdict {
    /// The word in statuses and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "Passed",
            Self::Failed => "Failed",
            Self::Error => "Error",
            Self::NotEvaluated => "NotEvaluated",
            Self::Unsupported => "Unsupported",
        }
    }
}

/// What the policy demands of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gate {
    /// Tolerated findings per severity; 0 for what is not named.
    pub allow: BTreeMap<Severity, u32>,
    /// Fewest evaluated rules, tests or packages.
    pub minimum_evaluated: u64,
    /// Whether only findings with a repaired version count.
    pub only_fixable: bool,
    /// How old the vulnerability database may be; `None` where there is none.
    pub database_max_age: Option<SignedDuration>,
}

/// A verdict with its reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// Findings that count, per severity.
    pub counts: BTreeMap<Severity, u32>,
    /// One line for people.
    pub message: String,
    /// The worst findings that count.
    pub worst: Vec<Finding>,
}

/// How many findings a judgement names.
const WORST: usize = 5;

/// How far a database may be "from the future" before its date is not believed.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_hours(1);

/// Judges a report that [`Report::validate`] accepted.
pub fn judge(report: &Report, gate: &Gate, now: Timestamp) -> Judgement {
    let counted: Vec<&Finding> = report
        .findings
        .iter()
        .filter(|f| !gate.only_fixable || f.fixed_version.is_some())
        .collect();
    let mut counts = BTreeMap::new();
    for finding in &counted {
        *counts.entry(finding.severity).or_insert(0_u32) += 1;
    }
    let (verdict, message) = shut(report, gate, now).unwrap_or_else(|| by_thresholds(report, gate, &counts));
    Judgement {
        verdict,
        counts,
        message,
        worst: worst(&counted),
    }
}

/// The findings that are named: the worst of each rule first, so that one rule with many hits hides no other.
fn worst(counted: &[&Finding]) -> Vec<Finding> {
    let mut rules = BTreeSet::new();
    let (first_of_rule, further): (Vec<&Finding>, Vec<&Finding>) =
        counted.iter().partition(|finding| rules.insert(finding.id.as_str()));
    first_of_rule.into_iter().chain(further).take(WORST).cloned().collect()
}

/// Every reason to keep the gate shut that is not a finding.
fn shut(report: &Report, gate: &Gate, now: Timestamp) -> Option<(Verdict, String)> {
    match &report.outcome {
        Outcome::Completed => {}
        Outcome::Error { message } => return Some((Verdict::Error, message.clone())),
        Outcome::Unsupported { message } => return Some((Verdict::Unsupported, message.clone())),
    }
    if report.truncated {
        return Some((
            Verdict::Error,
            "the report had more findings than can be kept: the counts are not whole".into(),
        ));
    }
    let minimum = gate.minimum_evaluated.max(1);
    if report.evaluated < minimum {
        let found = report.evaluated;
        return Some((
            Verdict::NotEvaluated,
            format!("expected at least {minimum} evaluated, found {found}"),
        ));
    }
    gate.database_max_age
        .and_then(|max| stale(report.tool.database_built, max, now))
}

fn stale(built: Option<Timestamp>, max: SignedDuration, now: Timestamp) -> Option<(Verdict, String)> {
    let Some(built) = built else {
        return Some((
            Verdict::Error,
            "the report does not say how old the vulnerability database is".into(),
        ));
    };
    let age = now.duration_since(built);
    if age > max {
        let (age, max) = (age.as_hours(), max.as_hours());
        return Some((
            Verdict::Error,
            format!("the vulnerability database is {age} h old, at most {max} h are allowed: refresh it"),
        ));
    }
    (age < -CLOCK_SKEW).then(|| {
        (
            Verdict::Error,
            format!("the vulnerability database claims to be built at {built}, which is to come"),
        )
    })
}

fn by_thresholds(report: &Report, gate: &Gate, counts: &BTreeMap<Severity, u32>) -> (Verdict, String) {
    let total: u32 = counts.values().sum();
    let over = counts
        .iter()
        .any(|(severity, count)| *count > gate.allow.get(severity).copied().unwrap_or(0));
    if over {
        (Verdict::Failed, format!("{total} failed ({})", describe_counts(counts)))
    } else if total > 0 {
        (
            Verdict::Passed,
            format!(
                "passed, {} evaluated; tolerated: {}",
                report.evaluated,
                describe_counts(counts)
            ),
        )
    } else {
        (Verdict::Passed, format!("passed, {} evaluated", report.evaluated))
    }
}

/// `critical 1, high 2`, worst first.
pub fn describe_counts(counts: &BTreeMap<Severity, u32>) -> String {
    let mut text = String::new();
    for (severity, count) in counts.iter().rev() {
        let comma = if text.is_empty() { "" } else { ", " };
        // Writing to a String cannot fail.
        let _ = write!(text, "{comma}{severity} {count}");
    }
    text
}

/// One finding in one line of at most `max` characters: what, how bad, what to do.
pub fn describe_finding(finding: &Finding, max: usize) -> String {
    let mut text = format!("{} ({}, {})", finding.title, finding.id, finding.severity);
    if let Some(remedy) = &finding.remedy {
        text.push_str(": ");
        text.push_str(remedy);
    }
    if text.chars().count() > max {
        text = text.chars().take(max.saturating_sub(1)).collect();
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        digest::Digest,
        report::{Tool, ToolName},
    };
    use proptest::prelude::*;

    fn report(findings: &[(Severity, bool)]) -> Report {
        let tool = Tool {
            name: ToolName::Grype,
            version: "1".into(),
            content: None,
            database_built: None,
            database: None,
        };
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
        }
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
}
