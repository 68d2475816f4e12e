//! The gate: from a believed report to a verdict. Only [`Verdict::Passed`] opens anything.
//!
//! Fails closed: an error, an unsupported image, too few evaluated rules or a stale database are never a pass, however
//! few findings the report has. The ways in which tools fail open are why (OpenSCAP exits with 0 after evaluating
//! nothing; Grype is content with an old database). A waiver or a VEX statement takes a finding out of the count and
//! nothing else: it never hides an error.

use super::{
    report::{Finding, Outcome, Report, Severity},
    waiver::{Exceptions, Standing},
};
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
    /// Whether a vulnerability that is known to be exploited (CISA KEV) fails whatever `allow` and `only_fixable` say.
    pub deny_known_exploited: bool,
    /// A vulnerability of at least this EPSS fails whatever `allow` says; in hundredths of a percent.
    pub epss_at_least: Option<u16>,
    /// Whether an operating system without security updates is accepted ([`END_OF_LIFE`] does not count).
    pub allow_end_of_life: bool,
}

/// The id of the finding "this operating system gets no security updates any more".
pub const END_OF_LIFE: &str = "os.end-of-life";

impl Gate {
    /// Whether a finding is looked at, before waivers and VEX.
    pub fn concerns(&self, finding: &Finding) -> bool {
        if finding.id == END_OF_LIFE {
            // No update repairs it, so `only_fixable` must not hide it.
            return !self.allow_end_of_life;
        }
        !self.only_fixable || finding.fixed_version.is_some() || self.exploited(finding)
    }

    fn exploited(&self, finding: &Finding) -> bool {
        self.deny_known_exploited && finding.known_exploited
    }

    fn likely(&self, finding: &Finding) -> bool {
        matches!((self.epss_at_least, finding.epss), (Some(limit), Some(epss)) if epss >= limit)
    }
}

/// A verdict with its reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// Findings that count, per severity.
    pub counts: BTreeMap<Severity, u32>,
    /// Findings that an active waiver takes out.
    pub waived: u32,
    /// Findings that a VEX statement takes out.
    pub suppressed: u32,
    /// The waivers that took something out.
    pub used_waivers: BTreeSet<String>,
    /// The waivers that would have, were they not over: what they covered counts again.
    pub expired_waivers: BTreeSet<String>,
    /// One line for people.
    pub message: String,
    /// The worst findings that count.
    pub worst: Vec<Finding>,
}

/// How many findings a judgement names.
const WORST: usize = 5;

/// How many names one part of a message has.
const NAMED: usize = 3;

/// How far a database may be "from the future" before its date is not believed.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_hours(1);

/// The findings of a report, sorted by whether they count.
#[derive(Debug, Default)]
struct Sorted<'a> {
    counted: Vec<&'a Finding>,
    waived: u32,
    suppressed: u32,
    used: BTreeSet<String>,
    expired: BTreeSet<String>,
}

impl<'a> Sorted<'a> {
    fn of(report: &'a Report, gate: &Gate, exceptions: &Exceptions, now: Timestamp) -> Self {
        let mut sorted = Self::default();
        for finding in report.findings.iter().filter(|finding| gate.concerns(finding)) {
            match exceptions.standing(&report.check, finding, now) {
                Standing::Suppressed { .. } => sorted.suppressed += 1,
                Standing::Waived { waiver } => {
                    sorted.waived += 1;
                    sorted.used.insert(waiver.to_owned());
                }
                Standing::Counts { expired } => {
                    sorted.expired.extend(expired.map(str::to_owned));
                    sorted.counted.push(finding);
                }
            }
        }
        sorted
    }
}

/// Judges a report that [`Report::validate`] accepted.
pub fn judge(report: &Report, gate: &Gate, exceptions: &Exceptions, now: Timestamp) -> Judgement {
    let sorted = Sorted::of(report, gate, exceptions, now);
    let mut counts = BTreeMap::new();
    for finding in &sorted.counted {
        *counts.entry(finding.severity).or_insert(0_u32) += 1;
    }
    let (verdict, message) = shut(report, gate, now).unwrap_or_else(|| {
        let (verdict, message) =
            urgent(gate, &sorted.counted, &counts).unwrap_or_else(|| by_thresholds(report, gate, &counts));
        (verdict, message + &describe_exceptions(&sorted))
    });
    Judgement {
        verdict,
        counts,
        waived: sorted.waived,
        suppressed: sorted.suppressed,
        worst: worst(gate, &sorted.counted),
        used_waivers: sorted.used,
        expired_waivers: sorted.expired,
        message,
    }
}

/// What fails whatever `allow` says: known exploitation, and an EPSS at or above the limit.
fn urgent(gate: &Gate, counted: &[&Finding], counts: &BTreeMap<Severity, u32>) -> Option<(Verdict, String)> {
    let ids = |is: &dyn Fn(&Finding) -> bool| -> BTreeSet<String> {
        counted.iter().filter(|f| is(f)).map(|f| f.id.clone()).collect()
    };
    let (exploited, likely) = (ids(&|f| gate.exploited(f)), ids(&|f| gate.likely(f)));
    let mut reasons = Vec::new();
    if !exploited.is_empty() {
        reasons.push(format!(
            "{} known to be exploited, which allow does not tolerate: {}",
            exploited.len(),
            describe_names(&exploited)
        ));
    }
    if let (Some(limit), false) = (gate.epss_at_least, likely.is_empty()) {
        reasons.push(format!(
            "{} with an EPSS of at least {} %, which allow does not tolerate: {}",
            likely.len(),
            f64::from(limit) / 100.0,
            describe_names(&likely)
        ));
    }
    let total: u32 = counts.values().sum();
    (!reasons.is_empty()).then(|| {
        let message = format!("{}; {total} failed ({})", reasons.join("; "), describe_counts(counts));
        (Verdict::Failed, message)
    })
}

/// `; waived 2 (name); 1 suppressed by VEX; expired waivers: name`, as far as there are any.
fn describe_exceptions(sorted: &Sorted) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    if sorted.waived > 0 {
        let _ = write!(text, "; waived {} ({})", sorted.waived, describe_names(&sorted.used));
    }
    if sorted.suppressed > 0 {
        let _ = write!(text, "; {} suppressed by VEX", sorted.suppressed);
    }
    if !sorted.expired.is_empty() {
        let _ = write!(
            text,
            "; counts again because its waiver expired: {}",
            describe_names(&sorted.expired)
        );
    }
    text
}

/// At most three names, and how many more there are.
fn describe_names(names: &BTreeSet<String>) -> String {
    let shown: Vec<&str> = names.iter().take(NAMED).map(String::as_str).collect();
    match names.len().saturating_sub(NAMED) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// The findings that are named: what is urgent before the rest, then the worst of each rule first, so that one rule with
/// many hits hides no other.
fn worst(gate: &Gate, counted: &[&Finding]) -> Vec<Finding> {
    let mut rules = BTreeSet::new();
    let (urgent, other): (Vec<&Finding>, Vec<&Finding>) = counted
        .iter()
        .partition(|finding| gate.exploited(finding) || gate.likely(finding));
    let (first_of_rule, further): (Vec<&Finding>, Vec<&Finding>) = urgent
        .into_iter()
        .chain(other)
        .partition(|finding| rules.insert(finding.id.as_str()));
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
mod tests;
