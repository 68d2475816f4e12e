//! Our own report format: a report without what only the runner can know (the check, the tool, the time).
//!
//! Must not let the program speak for another image, and must not take numbers that contradict the findings.

use super::{MAX_TESTS, cut, malformed, untrusted};
use crate::{Parsed, ReadError};
use repave_core::{
    digest::Digest,
    report::{Finding, MAX_FINDINGS, Outcome, SCHEMA},
};
use serde::{Deserialize, de::IgnoredAny};

const WHAT: &str = "report";

/// The fields of a report that the program fills; the others may be there, so that a whole report can be given back.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RepaveReport {
    schema: String,
    #[serde(default)]
    image: Option<Digest>,
    #[serde(default)]
    outcome: Option<Outcome>,
    evaluated: u64,
    passed: u64,
    #[serde(default)]
    not_applicable: u64,
    findings: Vec<Finding>,
    #[serde(default)]
    truncated: bool,
    #[serde(default, rename = "check")]
    _check: IgnoredAny,
    #[serde(default, rename = "tool")]
    _tool: IgnoredAny,
    #[serde(default, rename = "candidateExecuted")]
    _candidate_executed: IgnoredAny,
    #[serde(default, rename = "toolMillis")]
    _tool_millis: IgnoredAny,
    #[serde(default, rename = "attachments")]
    _attachments: IgnoredAny,
}

/// Reads one whole report.
pub(super) fn read(json: &[u8], image: &Digest) -> Result<Parsed, ReadError> {
    let own: RepaveReport = serde_json::from_slice(json).map_err(|error| malformed(WHAT, error))?;
    if own.schema != SCHEMA {
        return Err(malformed(
            WHAT,
            format!("expected schema {SCHEMA:?}, found {:?}", cut(&own.schema)),
        ));
    }
    if let Some(other) = own.image.as_ref().filter(|other| *other != image) {
        return Err(untrusted(format!("expected a report about {image}, found {other}")));
    }
    match own.outcome {
        None | Some(Outcome::Completed) => {}
        Some(Outcome::Error { message: why }) => return Err(ReadError::Crashed { tool: super::TOOL, why }),
        Some(Outcome::Unsupported { message: why }) => return Err(ReadError::Unsupported { tool: super::TOOL, why }),
    }
    consistent(&own)?;
    let problems = if own.truncated || own.findings.len() > MAX_FINDINGS {
        vec![format!(
            "its report is cut: it names more than {MAX_FINDINGS} findings, or says so"
        )]
    } else {
        Vec::new()
    };
    Ok(Parsed {
        content: Some("Repave report".to_owned()),
        evaluated: own.evaluated,
        passed: own.passed,
        not_applicable: own.not_applicable,
        findings: own.findings,
        problems,
        ..Parsed::default()
    })
}

fn consistent(own: &RepaveReport) -> Result<(), ReadError> {
    let (evaluated, passed, findings) = (own.evaluated, own.passed, own.findings.len());
    if evaluated > MAX_TESTS || own.not_applicable > MAX_TESTS {
        return Err(malformed(
            WHAT,
            format!("expected at most {MAX_TESTS} rules, found {evaluated}"),
        ));
    }
    if own.findings.iter().any(|finding| finding.id.trim().is_empty()) {
        return Err(malformed(WHAT, "a finding has no id"));
    }
    if passed > evaluated || (passed < evaluated) == own.findings.is_empty() {
        return Err(untrusted(format!(
            "it says that {passed} of {evaluated} rules passed and names {findings} findings: what did not pass has a \
             finding, and only that"
        )));
    }
    Ok(())
}
