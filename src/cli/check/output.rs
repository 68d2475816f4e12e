//! How results are printed. What is not run stands beside what is, never left out.

use super::{
    Ended,
    run::{CheckRun, Judged},
};
use crate::render;
use repave_core::{
    digest::Digest,
    report::{Report, Severity},
    verdict::{Verdict, describe_finding},
};
use serde::Serialize;
use std::collections::BTreeMap;

/// Longest line of a finding, in characters.
const LINE: usize = 200;

/// One check for machines.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row<'a> {
    check: &'a str,
    /// `Passed`, `Failed`, `Error`, `NotEvaluated`, `Unsupported`, or `NotRun`.
    verdict: &'static str,
    /// Whether the image is kept out when it does not pass.
    enforced: bool,
    message: &'a str,
    counts: BTreeMap<Severity, u32>,
    /// Findings that a waiver takes out of the count.
    waived: u32,
    /// Findings that a VEX statement takes out of the count.
    suppressed: u32,
    report: Option<&'a Report>,
}

/// All checks for machines.
pub fn json(judged: &[Judged]) -> Vec<Row<'_>> {
    judged.iter().map(row).collect()
}

fn row(check: &Judged) -> Row<'_> {
    let empty = |verdict, message| Row {
        check: &check.check,
        verdict,
        enforced: check.enforced,
        message,
        counts: BTreeMap::new(),
        waived: 0,
        suppressed: 0,
        report: None,
    };
    match &check.ran {
        CheckRun::Report { report, judgement, .. } => Row {
            counts: judgement.counts.clone(),
            waived: judgement.waived,
            suppressed: judgement.suppressed,
            report: Some(&**report),
            ..empty(judgement.verdict.as_str(), judgement.message.as_str())
        },
        CheckRun::Rule { verdict, message } => empty(verdict.as_str(), message),
        CheckRun::NotRun { why } => empty("NotRun", why),
    }
}

/// The normalised reports of what ran.
pub fn reports(judged: &[Judged]) -> Vec<&Report> {
    judged.iter().filter_map(|check| row(check).report).collect()
}

/// A table for people, the worst findings below it, and one sentence at the end.
pub fn text(image: &Digest, judged: &[Judged], ended: Ended, colour: bool) -> String {
    let mut table = render::table(&["VERDICT", "CHECK", "EVALUATED", "SUMMARY"]);
    for check in judged {
        let row = row(check);
        let evaluated = row
            .report
            .map_or_else(|| "-".to_owned(), |report| report.evaluated.to_string());
        let audit = if check.enforced { "" } else { " (audit only)" };
        table.add_row([row.verdict, row.check, &evaluated, &format!("{}{audit}", row.message)]);
    }
    let table = table.to_string();
    let table: Vec<String> = table.lines().map(|line| coloured(line.trim_end(), colour)).collect();
    let mut lines = vec![format!("image {image}\n"), table.join("\n")];
    for check in judged {
        if let CheckRun::Report { judgement, .. } = &check.ran
            && !judgement.worst.is_empty()
        {
            lines.push(format!("\n{}:", check.check));
            lines.extend(
                judgement
                    .worst
                    .iter()
                    .map(|finding| format!("  - {}", describe_finding(finding, LINE))),
            );
        }
    }
    lines.push(format!("\n{}", sentence(judged, ended)));
    lines.join("\n")
}

fn sentence(judged: &[Judged], ended: Ended) -> String {
    let names = |wanted: &dyn Fn(&Judged) -> bool| {
        let names: Vec<&str> = judged
            .iter()
            .filter(|check| wanted(check))
            .map(|check| check.check.as_str())
            .collect();
        names.join(", ")
    };
    let not_run = names(&|check| matches!(check.ran, CheckRun::NotRun { .. }));
    match ended {
        Ended::Failed => format!("not passed: {}", names(&|check| check.enforced && check.ran.failed())),
        Ended::NotRun => format!("nothing failed, but not run here: {not_run}; the verdict is not whole"),
        Ended::Passed if not_run.is_empty() => "passed".to_owned(),
        Ended::Passed => format!("passed, without what was not run here: {not_run}"),
        Ended::Unusable => "nothing was judged".to_owned(),
    }
}

fn coloured(line: &str, colour: bool) -> String {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let red = [
        Verdict::Failed,
        Verdict::Error,
        Verdict::NotEvaluated,
        Verdict::Unsupported,
    ]
    .map(Verdict::as_str);
    let code = match word {
        word if !colour || word == "VERDICT" => return line.to_owned(),
        "Passed" => 32,
        word if red.contains(&word) => 31,
        _ => 33,
    };
    format!("\x1b[{code}m{word}\x1b[0m {rest}")
}
