//! The normalised report: what every tool's output becomes before anything is decided about it.
//!
//! It is the wire format between the runner (in the Job pod) and the operator, and what is kept as evidence. It
//! carries facts only: whether a gate opens is decided in `verdict.rs` by the operator, never by the runner.
//! Everything in a received report is hostile text until [`Report::validate`] has bounded it.

use super::digest::Digest;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Version of the format; a report with another one is not read.
pub const SCHEMA: &str = "repave.dev/report/v1";

/// Most findings that a report may carry; the runner sets [`Report::truncated`] when there were more.
pub const MAX_FINDINGS: usize = 10_000;

/// Longest text of one field, in bytes.
pub const MAX_TEXT: usize = 2_000;

/// How bad a finding is. The order is by weight: `Critical` is the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The tool gave none, or one that we do not know: never less than `Low` for a gate.
    Unknown,
    /// Worth knowing.
    Low,
    /// Should be repaired (CAT III to II).
    Medium,
    /// Must be repaired (CAT I).
    High,
    /// Exploitable as it stands.
    Critical,
}

impl Severity {
    /// All severities, worst first: the order in which people read counts.
    pub const ALL: [Self; 5] = [Self::Critical, Self::High, Self::Medium, Self::Low, Self::Unknown];

    /// The lower-case word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which tool made a report; the gate compares `name` with the check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ToolName {
    /// Our own walker of the layers.
    Native,
    /// Goss, run inside the candidate.
    Goss,
    /// OpenSCAP.
    Openscap,
    /// Grype.
    Grype,
}

/// The tool, its version, and the content and database that it judged by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tool {
    /// Which tool.
    pub name: ToolName,
    /// Its version as it prints it.
    pub version: String,
    /// What it judged by: the data stream and profile, the gossfile's digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// When the vulnerability database was built, RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database_built: Option<jiff::Timestamp>,
}

/// How the tool's run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Outcome {
    /// The tool ran to its end and its output was read whole.
    Completed,
    /// The tool crashed, was killed, or its output could not be trusted; never the candidate's fault.
    Error {
        /// What was expected, what was found.
        message: String,
    },
    /// The check does not apply to this image (an unknown OS, no package database).
    Unsupported {
        /// Why.
        message: String,
    },
}

/// One thing that is wrong with the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// Stable id: `native.world-writable`, `CVE-2026-1234`, `accounts_umask_etc_profile`, `file:/etc/passwd:mode`.
    pub id: String,
    /// How bad.
    pub severity: Severity,
    /// What was found where, in one line.
    pub title: String,
    /// The path, package or account that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// What to do, in a few words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// The benchmark item: `CIS 6.1.10`, `STIG V-…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// For vulnerabilities: the version that repairs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fixed_version: Option<String>,
}

/// What one check found in one image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// The check's name in the policy.
    pub check: String,
    /// The manifest digest of the image that was examined.
    pub image: Digest,
    /// The tool.
    pub tool: Tool,
    /// How it ended.
    pub outcome: Outcome,
    /// How many rules, tests or packages were really evaluated: 0 is never a pass.
    pub evaluated: u64,
    /// How many of them were fine.
    pub passed: u64,
    /// How many did not apply or were excluded.
    pub not_applicable: u64,
    /// What is wrong, worst first.
    pub findings: Vec<Finding>,
    /// There were more findings than the report may carry.
    #[serde(default)]
    pub truncated: bool,
    /// Whether code of the candidate ran: such a report is only as honest as the candidate.
    #[serde(default)]
    pub candidate_executed: bool,
    /// Milliseconds that the tool itself took.
    pub tool_millis: u64,
}

/// Why a received report is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the report of check {check:?} is not believed: {why}")]
pub struct ReportRefused {
    /// The check that was asked.
    pub check: String,
    /// What was expected, what was found.
    pub why: String,
}

impl Report {
    /// A report that says only that the check could not be carried out.
    pub fn error(check: &str, image: &Digest, tool: Tool, message: impl Into<String>) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            check: check.to_owned(),
            image: image.clone(),
            tool,
            outcome: Outcome::Error {
                message: bounded(&message.into()),
            },
            evaluated: 0,
            passed: 0,
            not_applicable: 0,
            findings: Vec::new(),
            truncated: false,
            candidate_executed: false,
            tool_millis: 0,
        }
    }

    /// Sorts, bounds and cleans the findings. The runner calls it last; it never hides that it cut something.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        self.findings.sort_by(|a, b| {
            b.severity
                .cmp(&a.severity)
                .then_with(|| (&a.id, &a.subject).cmp(&(&b.id, &b.subject)))
        });
        if self.findings.len() > MAX_FINDINGS {
            self.findings.truncate(MAX_FINDINGS);
            self.truncated = true;
        }
        for finding in &mut self.findings {
            finding.id = bounded(&finding.id);
            finding.title = bounded(&finding.title);
            for text in [
                &mut finding.subject,
                &mut finding.remedy,
                &mut finding.reference,
                &mut finding.fixed_version,
            ] {
                *text = text.as_deref().map(bounded);
            }
        }
        self
    }

    /// Accepts a received report only if it is about this check and this image, made by this tool, and within bounds.
    pub fn validate(self, check: &str, image: &Digest, tool: ToolName) -> Result<Self, ReportRefused> {
        let refuse = |why: String| {
            Err(ReportRefused {
                check: check.to_owned(),
                why,
            })
        };
        if self.schema != SCHEMA {
            return refuse(format!("expected schema {SCHEMA}, found {:?}", bounded(&self.schema)));
        }
        if self.check != check {
            return refuse(format!("it names check {:?}", bounded(&self.check)));
        }
        if self.image != *image {
            return refuse(format!("expected image {image}, found {}", self.image));
        }
        if self.tool.name != tool {
            return refuse(format!("expected tool {tool:?}, found {:?}", self.tool.name));
        }
        if self.findings.len() > MAX_FINDINGS {
            return refuse(format!(
                "{} findings, at most {MAX_FINDINGS} are read",
                self.findings.len()
            ));
        }
        Ok(self.bounded())
    }
}

/// The text without control characters (a terminal escape in a file name must not reach a terminal), cut to
/// [`MAX_TEXT`] bytes on a character boundary.
pub fn bounded(text: &str) -> String {
    let mut clean = String::with_capacity(text.len().min(MAX_TEXT));
    for c in text.chars() {
        let c = if c.is_control() { '\u{fffd}' } else { c };
        if clean.len() + c.len_utf8() > MAX_TEXT {
            break;
        }
        clean.push(c);
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool() -> Tool {
        Tool {
            name: ToolName::Native,
            version: "1".into(),
            content: None,
            database_built: None,
        }
    }

    fn finding(id: &str, severity: Severity) -> Finding {
        Finding {
            id: id.into(),
            severity,
            title: "x".into(),
            subject: None,
            remedy: None,
            reference: None,
            fixed_version: None,
        }
    }

    #[test]
    fn a_report_about_another_image_check_or_tool_is_refused() {
        let (mine, other) = (Digest::of(b"mine"), Digest::of(b"other"));
        let report = Report::error("a", &mine, tool(), "x");
        assert!(report.clone().validate("a", &mine, ToolName::Native).is_ok());
        assert!(
            report
                .clone()
                .validate("a", &other, ToolName::Native)
                .unwrap_err()
                .why
                .contains("expected image")
        );
        assert!(
            report
                .clone()
                .validate("b", &mine, ToolName::Native)
                .unwrap_err()
                .why
                .contains("names check")
        );
        assert!(
            report
                .validate("a", &mine, ToolName::Grype)
                .unwrap_err()
                .why
                .contains("expected tool")
        );
    }

    #[test]
    fn findings_come_worst_first_and_terminal_escapes_are_removed() {
        let mut report = Report::error("a", &Digest::of(b""), tool(), "x");
        report.findings = vec![finding("b", Severity::Low), finding("a\u{1b}[31m", Severity::Critical)];
        let report = report.bounded();
        assert_eq!(report.findings[0].severity, Severity::Critical);
        assert_eq!(report.findings[0].id, "a\u{fffd}[31m");
    }

    #[test]
    fn a_cut_report_says_so() {
        let mut report = Report::error("a", &Digest::of(b""), tool(), "x");
        report.findings = (0..=MAX_FINDINGS)
            .map(|n| finding(&n.to_string(), Severity::Low))
            .collect();
        assert!(report.bounded().truncated);
    }
}
