//! One check on the page: its verdict, what it judged by, what it found, and what changed since the last release. Pure.

use crate::{Exception, clean};
use repave_api::image_candidate::CheckSummary;
use repave_core::{
    digest::Digest,
    report::{Finding, Outcome, Report, Severity},
    verdict::Verdict,
};
use std::collections::{BTreeMap, BTreeSet};

/// Most findings of one check on a page, and most of those that do not count.
pub const MAX_SHOWN: usize = 500;
/// Most rules that are named as fixed or new.
const MAX_CHANGES: usize = 20;
/// Longest text of a cell, in characters.
const MAX_CELL: usize = 300;
/// Longest version, name of a content or database, in characters.
const MAX_NAME: usize = 200;

/// One check on the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Name of the check.
    pub name: String,
    /// `passed`, `failed` or `unjudged`: how it is coloured.
    pub class: &'static str,
    /// The verdict.
    pub verdict: String,
    /// The verdict in one line.
    pub message: String,
    /// Findings that count, per severity, worst first.
    pub counts: Vec<(Severity, u32)>,
    /// How many rules, tests or packages were evaluated.
    pub evaluated: u64,
    /// Milliseconds of the tool.
    pub tool_millis: u64,
    /// What the report itself says; `None` where there is no report.
    pub report: Option<Reported>,
    /// Digest of the stored report.
    pub stored: Option<Digest>,
}

/// What a report says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reported {
    /// Tool and version.
    pub tool: String,
    /// What it judged by.
    pub content: Option<String>,
    /// Which vulnerability database.
    pub database: Option<String>,
    /// When that was built.
    pub database_built: Option<String>,
    /// Whether code of the candidate ran.
    pub candidate_executed: bool,
    /// How many were fine.
    pub passed: u64,
    /// How many did not apply.
    pub not_applicable: u64,
    /// Why it is no result, if it is none.
    pub trouble: Option<String>,
    /// There were more findings than the report may carry.
    pub truncated: bool,
    /// The worst findings.
    pub findings: Vec<Shown>,
    /// Further ones that are not shown.
    pub more_findings: usize,
    /// Findings that do not count.
    pub excepted: Vec<Excepted>,
    /// Further ones that are not shown.
    pub more_excepted: usize,
    /// Against the previous release.
    pub changes: Option<Changes>,
    /// Names of the files that are kept with the report.
    pub files: Vec<String>,
}

/// A finding as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// How bad.
    pub severity: Severity,
    /// Stable id.
    pub id: String,
    /// What was found where.
    pub title: String,
    /// The path or account, or the package.
    pub subject: String,
    /// What to do.
    pub remedy: String,
    /// The benchmark item.
    pub reference: String,
    /// The version that repairs it.
    pub fixed_version: String,
    /// Whether it is known to be exploited.
    pub known_exploited: bool,
    /// Probability of exploitation, in percent.
    pub epss: Option<String>,
}

/// A finding that does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excepted {
    /// The finding.
    pub finding: Shown,
    /// `waived` or `not affected (VEX)`.
    pub kind: &'static str,
    /// Who answers for it.
    pub owner: String,
    /// Why.
    pub reason: String,
    /// Until when.
    pub expires: String,
}

/// The rules that are fixed and new against the previous release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// Found in the previous release and not here.
    pub fixed: usize,
    /// Some of them.
    pub fixed_ids: Vec<String>,
    /// Found here and not in the previous release.
    pub opened: usize,
    /// Some of them.
    pub opened_ids: Vec<String>,
}

impl Section {
    /// The section of a check, with its report, what does not count in it, and the previous release's report of it.
    pub fn new(
        summary: &CheckSummary,
        report: Option<&Report>,
        exceptions: &[Exception],
        previous: Option<&Report>,
    ) -> Self {
        let class = match summary.verdict.as_str() {
            verdict if verdict == Verdict::Passed.as_str() => "passed",
            verdict if verdict == Verdict::Failed.as_str() => "failed",
            _ => "unjudged",
        };
        let count = |severity: Severity| summary.counts.get(&severity).map(|count| (severity, *count));
        Self {
            name: clean(&summary.name, MAX_NAME),
            class,
            verdict: clean(&summary.verdict, MAX_NAME),
            message: clean(&summary.message, MAX_CELL),
            counts: Severity::ALL.into_iter().filter_map(count).collect(),
            evaluated: summary.evaluated,
            tool_millis: summary.tool_millis,
            report: report.map(|report| Reported::new(report, exceptions, previous)),
            stored: summary.report.clone(),
        }
    }

    /// Cuts the lists; what is cut is counted.
    pub fn show_at_most(&mut self, limit: usize) {
        if let Some(report) = &mut self.report {
            report.more_findings += report.findings.len().saturating_sub(limit);
            report.findings.truncate(limit);
            report.more_excepted += report.excepted.len().saturating_sub(limit);
            report.excepted.truncate(limit);
        }
    }
}

impl Reported {
    fn new(report: &Report, exceptions: &[Exception], previous: Option<&Report>) -> Self {
        let mut shown = Self {
            tool: format!(
                "{} {}",
                report.tool.name.facts().title,
                clean(&report.tool.version, MAX_NAME)
            ),
            content: report.tool.content.as_deref().map(|text| clean(text, MAX_NAME)),
            database: report.tool.database.as_deref().map(|text| clean(text, MAX_NAME)),
            database_built: report.tool.database_built.map(|at| at.to_string()),
            candidate_executed: report.candidate_executed,
            passed: report.passed,
            not_applicable: report.not_applicable,
            trouble: match &report.outcome {
                Outcome::Completed => None,
                Outcome::Error { message } | Outcome::Unsupported { message } => Some(clean(message, MAX_CELL)),
            },
            truncated: report.truncated,
            findings: Vec::new(),
            more_findings: 0,
            excepted: Vec::new(),
            more_excepted: 0,
            changes: previous.map(|previous| Changes::between(previous, report)),
            files: report
                .attachments
                .iter()
                .map(|file| clean(&file.name, MAX_NAME))
                .collect(),
        };
        for finding in worst_first(&report.findings) {
            match Exception::of(exceptions, finding) {
                Some(_) if shown.excepted.len() >= MAX_SHOWN => shown.more_excepted += 1,
                Some(exception) => shown.excepted.push(Excepted::new(finding, exception)),
                None if shown.findings.len() >= MAX_SHOWN => shown.more_findings += 1,
                None => shown.findings.push(Shown::new(finding)),
            }
        }
        shown
    }
}

/// A believed report is sorted already; a page must not depend on it.
fn worst_first(findings: &[Finding]) -> Vec<&Finding> {
    let mut sorted: Vec<_> = findings.iter().collect();
    sorted.sort_by_key(|finding| (std::cmp::Reverse(finding.severity), &finding.id, &finding.subject));
    sorted
}

impl Shown {
    /// A finding with every text cleaned and cut.
    pub fn new(finding: &Finding) -> Self {
        let cell = |text: &Option<String>| text.as_deref().map_or_else(String::new, |text| clean(text, MAX_CELL));
        Self {
            severity: finding.severity,
            id: clean(&finding.id, MAX_NAME),
            title: clean(&finding.title, MAX_CELL),
            subject: cell(if finding.package.is_some() {
                &finding.package
            } else {
                &finding.subject
            }),
            remedy: cell(&finding.remedy),
            reference: cell(&finding.reference),
            fixed_version: cell(&finding.fixed_version),
            known_exploited: finding.known_exploited,
            epss: finding.epss.map(|epss| format!("{}.{:02} %", epss / 100, epss % 100)),
        }
    }
}

impl Excepted {
    fn new(finding: &Finding, exception: &Exception) -> Self {
        Self {
            finding: Shown::new(finding),
            kind: exception.kind.as_str(),
            owner: clean(&exception.owner, MAX_NAME),
            reason: clean(&exception.reason, MAX_CELL),
            expires: exception
                .expires
                .map_or_else(|| "no end".to_owned(), |at| at.to_string()),
        }
    }
}

impl Changes {
    /// Compares by rule and subject; the version of a package does not make a vulnerability a new one.
    fn between(previous: &Report, now: &Report) -> Self {
        let keys = |report: &Report| -> BTreeMap<(String, String), String> {
            let findings = report.findings.iter();
            findings
                .map(|finding| {
                    let package = finding.package.as_deref().and_then(|package| package.split('@').next());
                    let subject = package.or(finding.subject.as_deref()).unwrap_or_default();
                    ((finding.id.clone(), subject.to_owned()), finding.id.clone())
                })
                .collect()
        };
        let (before, after) = (keys(previous), keys(now));
        let gone = |from: &BTreeMap<(String, String), String>, to: &BTreeMap<(String, String), String>| {
            let gone: Vec<_> = from.iter().filter(|(key, _)| !to.contains_key(*key)).collect();
            let ids: BTreeSet<_> = gone.iter().map(|(_, id)| clean(id, MAX_NAME)).collect();
            (gone.len(), ids.into_iter().take(MAX_CHANGES).collect())
        };
        let ((fixed, fixed_ids), (opened, opened_ids)) = (gone(&before, &after), gone(&after, &before));
        Self {
            fixed,
            fixed_ids,
            opened,
            opened_ids,
        }
    }
}
