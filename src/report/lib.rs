//! The reports for people and for other programs: pure functions from reports to text.
//!
//! | file | what it makes |
//! |---|---|
//! | [`page`] | one self-contained web page per candidate |
//! | [`sarif`] | SARIF 2.1.0, for code hosts and viewers |
//! | [`schema`] | the JSON Schema of a report |
//!
//! Must not decide anything (that is `src/core/verdict.rs`) and must not show a text of a report without [`clean`].

pub mod page;
pub mod sarif;
pub mod schema;
#[cfg(test)]
mod tests;

use jiff::Timestamp;
use repave_core::text::is_shown;
use repave_core::{
    digest::Digest,
    report::{Finding, Report, ReportRefused},
};

/// Why a finding does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExceptionKind {
    /// A person took the risk for a time.
    Waiver,
    /// A VEX statement says that the image is not affected.
    Vex,
}

impl ExceptionKind {
    /// The word for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiver => "waived",
            Self::Vex => "not affected (VEX)",
        }
    }
}

/// Why one finding of a check does not count; for showing only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exception {
    /// Id of the finding.
    pub finding: String,
    /// The path or account that it is about, as the finding has it.
    pub subject: Option<String>,
    /// The package, as the finding has it.
    pub package: Option<String>,
    /// Who answers for it.
    pub owner: String,
    /// Why.
    pub reason: String,
    /// When it ends; a VEX statement has no end.
    pub expires: Option<Timestamp>,
    /// Which kind.
    pub kind: ExceptionKind,
}

impl Exception {
    /// Puts exceptions into the order in which [`Exception::of`] finds them.
    pub fn sort(exceptions: &mut [Self]) {
        exceptions.sort_by(|a, b| a.key().cmp(&b.key()));
    }

    /// The exception that is about exactly this finding; `exceptions` are sorted.
    pub fn of<'a>(exceptions: &'a [Self], finding: &Finding) -> Option<&'a Self> {
        let wanted = (
            finding.id.as_str(),
            finding.subject.as_deref(),
            finding.package.as_deref(),
        );
        let at = exceptions
            .binary_search_by(|exception| exception.key().cmp(&wanted))
            .ok()?;
        exceptions.get(at)
    }

    fn key(&self) -> (&str, Option<&str>, Option<&str>) {
        (&self.finding, self.subject.as_deref(), self.package.as_deref())
    }
}

/// Why stored bytes are not shown as a report.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// It is not the JSON of a report.
    #[error(
        "expected a report ({}), found something else at line {line} column {column}: it may be of a newer Repave",
        repave_core::report::SCHEMA
    )]
    NotAReport {
        /// Where in the text.
        line: usize,
        /// Where in the line.
        column: usize,
    },
    /// It is about something else, or too large.
    #[error(transparent)]
    Refused(#[from] ReportRefused),
}

/// Reads a stored report about `image`; with `check`, only one of that check. Everything in it is cleaned and bounded.
pub fn read(json: &[u8], check: Option<&str>, image: &Digest) -> Result<Report, Unreadable> {
    let report: Report = serde_json::from_slice(json).map_err(|error| Unreadable::NotAReport {
        line: error.line(),
        column: error.column(),
    })?;
    let (named, tool) = (report.check.clone(), report.tool.name);
    Ok(report.validate(check.unwrap_or(&named), image, tool)?)
}

/// A text fit for a page, a terminal or a table cell: one line, no control characters, nothing that reverses or hides
/// other text (CVE-2021-42574), at most `max` characters with an ellipsis where it was cut.
pub fn clean(text: &str, max: usize) -> String {
    let visible = |c: char| if is_shown(c) { c } else { '\u{fffd}' };
    let mut clean: String = text.chars().take(max).map(visible).collect();
    if text.chars().nth(max).is_some() {
        clean.pop();
        clean.push('…');
    }
    clean
}
