//! The result as SARIF: what ran through the export of the reports, with what does not count as suppressed.
//!
//! Must not let anything look clean that is not: what was not run, and what the gate does not believe, is a run without
//! success; so is a rule without an answer.

use super::run::{CheckRun, Judged};
use repave_core::{
    digest::Digest,
    report::{Outcome, Report, Tool},
    verdict::Verdict,
};
use repave_report::{Exception, clean, sarif};
use serde_json::{Value, json};

/// Longest text that is taken over, in characters.
const MAX: usize = 1_000;

/// The log. `name` is what the image was called by whoever asked.
pub fn log(name: &str, image: &Digest, judged: &[Judged]) -> Value {
    let shown = clean(name, MAX);
    let called = if shown.ends_with(image.as_str()) {
        shown
    } else {
        format!("{shown}@{image}")
    };
    let reports: Vec<(Report, &[Exception])> = judged.iter().filter_map(|check| report(check, image)).collect();
    let reports: Vec<(&Report, &[Exception])> = reports.iter().map(|(report, shown)| (report, *shown)).collect();
    let mut log = sarif::export(&called, &reports);
    if let (Some(runs), Some(rules)) = (
        log.get_mut("runs").and_then(Value::as_array_mut),
        rules(&called, judged),
    ) {
        runs.push(rules);
    }
    log
}

/// The report of a check, made one of a check that could not be carried out where it must not be believed.
fn report<'a>(check: &'a Judged, image: &Digest) -> Option<(Report, &'a [Exception])> {
    let name = check.tool?;
    match &check.ran {
        CheckRun::Report {
            report,
            judgement,
            exceptions,
        } => {
            let mut report = (**report).clone();
            let believed = match judgement.verdict {
                Verdict::Passed | Verdict::Failed => true,
                Verdict::Error | Verdict::NotEvaluated | Verdict::Unsupported => false,
            };
            if !believed && report.outcome == Outcome::Completed {
                let message = judgement.message.clone();
                report.outcome = Outcome::Error { message };
            }
            Some((report, exceptions.as_slice()))
        }
        CheckRun::NotRun { why } => {
            let tool = Tool::new(name, "");
            Some((Report::error(&check.check, image, tool, why.clone()), &[]))
        }
        CheckRun::Rule { .. } => None,
    }
}

/// One run for all rules over the results; none where there are no rules.
fn rules(image: &str, judged: &[Judged]) -> Option<Value> {
    let (mut names, mut results, mut untold) = (Vec::new(), Vec::new(), Vec::new());
    for rule in judged.iter().filter(|check| check.tool.is_none()) {
        let id = clean(&rule.check, MAX);
        let told =
            |text: &str| json!({"level": "error", "descriptor": {"id": id}, "message": {"text": clean(text, MAX)}});
        match &rule.ran {
            CheckRun::NotRun { why } => untold.push(told(why)),
            CheckRun::Rule { verdict, message } => match verdict {
                Verdict::Passed => {}
                Verdict::Error | Verdict::NotEvaluated | Verdict::Unsupported => untold.push(told(message)),
                Verdict::Failed => results.push(json!({
                    "ruleId": id, "ruleIndex": names.len(), "level": if rule.enforced { "error" } else { "warning" },
                    "message": {"text": clean(message, MAX)},
                    "locations": [{"logicalLocations": [{"name": image, "kind": "resource"}]}],
                    "suppressions": [],
                })),
            },
            CheckRun::Report { .. } => {}
        }
        names.push(
            json!({"id": id, "shortDescription": {"text": "A rule of the policy over the results of its checks"}}),
        );
    }
    (!names.is_empty()).then(|| {
        json!({
            "tool": {"driver": {"name": "repave", "version": env!("CARGO_PKG_VERSION"), "rules": names}},
            "automationDetails": {"id": "repave/rules/"},
            "columnKind": "unicodeCodePoints",
            "invocations": [{"executionSuccessful": untold.is_empty(), "toolExecutionNotifications": untold}],
            "results": results,
        })
    })
}
