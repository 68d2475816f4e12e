//! Reports as text for a terminal. Pure; every text of a report is cleaned first.

use super::source::Stored;
use crate::render;
use kube::ResourceExt as _;
use repave_api::ImageCandidate;
use repave_core::{
    report::{Outcome, Report},
    verdict,
};
use repave_report::clean;
use std::collections::BTreeMap;

/// Most findings of one check that a table has.
const MAX_ROWS: usize = 500;
/// Longest cell, in characters.
const MAX_CELL: usize = 100;

/// The verdicts of a candidate, from its status alone.
pub fn candidate(candidate: &ImageCandidate) -> String {
    let status = candidate.status.clone().unwrap_or_default();
    let mut table = render::table(&["CHECK", "VERDICT", "EVALUATED", "SUMMARY"]);
    for check in &status.checks {
        table.add_row([
            &check.name,
            &check.verdict,
            &check.evaluated.to_string(),
            &clean(&check.message, 300),
        ]);
    }
    let mut lines = vec![table.to_string()];
    for check in status.checks.iter().filter(|check| !check.top.is_empty()) {
        lines.push(format!("\n{}:", check.name));
        lines.extend(check.top.iter().map(|finding| format!("  - {}", clean(finding, 200))));
    }
    let (name, namespace) = (candidate.name_any(), candidate.namespace().unwrap_or_default());
    let staging = &candidate.spec.staging;
    lines.push(String::new());
    for check in &status.checks {
        if let Some(report) = &check.report {
            lines.push(format!("full report of {}: {}", check.name, staging.at(report)));
        }
    }
    match &status.page {
        Some(page) => lines.push(format!("web page: {}", staging.at(page))),
        None => lines.push("web page: not published; --open writes it from the reports".to_owned()),
    }
    lines.push(format!(
        "more: kubectl repave report {name} -n {namespace} --check NAME | --open | -o json|sarif|html"
    ));
    lines.join("\n")
}

/// One row a report. Without a candidate there is no policy, so there is no verdict.
pub fn reports(image: &str, reports: &[Stored]) -> String {
    let mut table = render::table(&["CHECK", "TOOL", "OUTCOME", "EVALUATED", "FINDINGS", "FILES"]);
    for Stored { report, .. } in reports {
        let files: Vec<_> = report.attachments.iter().map(|file| file.name.as_str()).collect();
        table.add_row([
            clean(&report.check, MAX_CELL),
            tool(report),
            outcome(report),
            report.evaluated.to_string(),
            counts(report),
            files.join(", "),
        ]);
    }
    format!("{image}\n{table}\nA verdict is a matter of policy: the candidate in the cluster has it.")
}

/// Every finding of these reports, worst first.
pub fn findings(reports: &[Stored]) -> String {
    let mut parts = Vec::new();
    for Stored { report, .. } in reports {
        let head = format!(
            "{} ({}): {}, {} evaluated",
            clean(&report.check, MAX_CELL),
            tool(report),
            outcome(report),
            report.evaluated
        );
        parts.push(head);
        if report.findings.is_empty() {
            parts.push("no findings".to_owned());
            continue;
        }
        let mut table = render::table(&["SEVERITY", "FINDING", "ID", "WHERE", "WHAT TO DO"]);
        for finding in report.findings.iter().take(MAX_ROWS) {
            let cell = |text: Option<&String>| text.map_or_else(|| "-".to_owned(), |text| clean(text, MAX_CELL));
            let fixed = finding
                .fixed_version
                .as_ref()
                .map(|version| format!("upgrade to {version}"));
            table.add_row([
                finding.severity.to_string(),
                clean(&finding.title, MAX_CELL),
                clean(&finding.id, MAX_CELL),
                cell(finding.package.as_ref().or(finding.subject.as_ref())),
                cell(finding.remedy.as_ref().or(fixed.as_ref())),
            ]);
        }
        parts.push(table.to_string());
        let more = report.findings.len().saturating_sub(MAX_ROWS);
        if more > 0 {
            parts.push(format!("{more} more are not shown: -o json has all"));
        }
    }
    parts.join("\n")
}

fn tool(report: &Report) -> String {
    let name = format!("{:?}", report.tool.name).to_lowercase();
    format!("{name} {}", clean(&report.tool.version, 40))
}

fn outcome(report: &Report) -> String {
    match &report.outcome {
        Outcome::Completed if report.truncated => "cut off: never a pass".to_owned(),
        Outcome::Completed => "completed".to_owned(),
        Outcome::Error { message } => format!("error: {}", clean(message, MAX_CELL)),
        Outcome::Unsupported { message } => format!("unsupported: {}", clean(message, MAX_CELL)),
    }
}

fn counts(report: &Report) -> String {
    let mut counts = BTreeMap::new();
    for finding in &report.findings {
        *counts.entry(finding.severity).or_insert(0_u32) += 1;
    }
    if counts.is_empty() {
        "none".to_owned()
    } else {
        verdict::describe_counts(&counts)
    }
}
