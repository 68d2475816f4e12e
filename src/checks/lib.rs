//! One module per tool: how it is called, and how its output is read.
//!
//! Pure: an [`Invocation`] is data that the runner executes, and a reader turns bytes into [`Parsed`] facts. Must not
//! decide whether a gate opens, and must not take an exit code or a score for a verdict: what counts is what was
//! really evaluated. Every byte a tool writes may come from the candidate and is bounded and parsed strictly.

pub mod container;
pub mod goss;
mod grype;
mod lenient;
pub mod native;
pub mod openscap;
pub mod sbom;
mod scan;
pub mod scanner;
mod trivy;

use repave_core::{
    digest::Digest,
    report::{Finding, Outcome, Report, SCHEMA, Severity, Tool, ToolName, bounded},
};
use std::{ffi::OsString, path::PathBuf, time::Duration};

/// How a tool is called: no shell, and an environment of exactly these variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// The program; a bare name is looked up in the PATH of `env`.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its whole environment.
    pub env: Vec<(String, OsString)>,
}

/// The PATH of every tool.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why a tool's output is not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// It is not what the tool writes.
    #[error("cannot read the output of {tool}: {why}")]
    Malformed {
        /// The tool.
        tool: &'static str,
        /// What was expected, what was found.
        why: String,
    },
    /// It is more than what is read.
    #[error("{tool} wrote more than {limit} bytes of {what}: narrow what the check looks at")]
    TooLarge {
        /// The tool.
        tool: &'static str,
        /// Which output.
        what: &'static str,
        /// The bound.
        limit: u64,
    },
    /// It says that the tool looked at something else, or at nothing.
    #[error("the result of {tool} cannot be trusted: {why}")]
    Untrusted {
        /// The tool.
        tool: &'static str,
        /// What was expected, what was found, what to do.
        why: String,
    },
    /// The tool did not run to its end.
    #[error("{tool} did not complete: {why}")]
    Crashed {
        /// The tool.
        tool: &'static str,
        /// How it ended and what it said last.
        why: String,
    },
    /// The check does not apply to this image.
    #[error("{tool} cannot examine this image: {why}")]
    Unsupported {
        /// The tool.
        tool: &'static str,
        /// Why.
        why: String,
    },
}

impl ReadError {
    /// The outcome that this error becomes in a report.
    fn outcome(&self) -> Outcome {
        let message = bounded(&self.to_string());
        match self {
            Self::Unsupported { .. } => Outcome::Unsupported { message },
            Self::Malformed { .. } | Self::TooLarge { .. } | Self::Untrusted { .. } | Self::Crashed { .. } => {
                Outcome::Error { message }
            }
        }
    }
}

/// What a tool's output says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parsed {
    /// The tool's version, where its output has it.
    pub version: Option<String>,
    /// What it judged by.
    pub content: Option<String>,
    /// When its database was built.
    pub database_built: Option<jiff::Timestamp>,
    /// Which database it was.
    pub database: Option<String>,
    /// What else it counts, in one line for people.
    pub summary: Option<String>,
    /// How many rules, tests or packages were really evaluated.
    pub evaluated: u64,
    /// How many of them were fine.
    pub passed: u64,
    /// How many did not apply, were skipped or excluded.
    pub not_applicable: u64,
    /// What is wrong with the image.
    pub findings: Vec<Finding>,
    /// What is wrong with the run itself; one is enough to make the outcome an error, the findings are kept.
    pub problems: Vec<String>,
}

/// What the runner knows about a run without reading the tool's output.
#[derive(Debug, Clone)]
pub struct Run<'a> {
    /// The check's name.
    pub check: &'a str,
    /// The image that was to be examined.
    pub image: &'a Digest,
    /// The tool.
    pub tool: ToolName,
    /// Its version, where its output does not say.
    pub version: &'a str,
    /// What it was told to judge by, where its output does not say.
    pub content: Option<String>,
    /// How long it took.
    pub took: Duration,
    /// Whether code of the candidate ran.
    pub candidate_executed: bool,
}

/// The one place where what a tool said becomes a report. A pass needs a completed run and something evaluated.
pub fn assemble(run: Run<'_>, read: Result<Parsed, ReadError>) -> Report {
    let (parsed, outcome) = match read {
        Ok(parsed) => {
            let outcome = judge(&parsed);
            (parsed, outcome)
        }
        Err(error) => (Parsed::default(), error.outcome()),
    };
    let version = parsed.version.as_deref().unwrap_or(run.version);
    let report = Report {
        schema: SCHEMA.to_owned(),
        check: bounded(run.check),
        image: run.image.clone(),
        tool: Tool {
            name: run.tool,
            version: bounded(version).chars().take(100).collect(),
            content: parsed.content.or(run.content).as_deref().map(bounded),
            database_built: parsed.database_built,
            database: parsed.database.as_deref().map(bounded),
        },
        outcome,
        evaluated: parsed.evaluated,
        passed: parsed.passed,
        not_applicable: parsed.not_applicable,
        findings: parsed.findings,
        truncated: false,
        candidate_executed: run.candidate_executed,
        tool_millis: u64::try_from(run.took.as_millis()).unwrap_or(u64::MAX),
        summary: parsed.summary,
        attachments: Vec::new(),
    };
    report.bounded()
}

/// The severity of this name, in any case.
fn severity(word: &str) -> Severity {
    Severity::ALL
        .into_iter()
        .find(|severity| severity.as_str().eq_ignore_ascii_case(word))
        .unwrap_or(Severity::Unknown)
}

fn judge(parsed: &Parsed) -> Outcome {
    let error = |message: &str| Outcome::Error {
        message: bounded(message),
    };
    match parsed.problems.as_slice() {
        [] if parsed.evaluated == 0 => error("nothing was evaluated: a check that looks at nothing passes nothing"),
        [] => Outcome::Completed,
        [only] => error(only),
        [first, rest @ ..] => error(&format!("{first} (and {} more)", rest.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(image: &Digest) -> Run<'_> {
        Run {
            check: "a",
            image,
            tool: ToolName::Goss,
            version: "1",
            content: Some("c".into()),
            took: Duration::from_millis(7),
            candidate_executed: true,
        }
    }

    #[test]
    fn nothing_evaluated_is_an_error_and_never_a_pass() {
        let image = Digest::of(b"i");
        let report = assemble(run(&image), Ok(Parsed::default()));
        assert!(matches!(report.outcome, Outcome::Error { message } if message.contains("nothing was evaluated")));
    }

    #[test]
    fn a_problem_keeps_the_findings_and_the_counts() {
        let image = Digest::of(b"i");
        let parsed = Parsed {
            evaluated: 3,
            problems: vec!["p\u{1b}1".into(), "p2".into()],
            ..Parsed::default()
        };
        let report = assemble(run(&image), Ok(parsed));
        assert_eq!(
            report.outcome,
            Outcome::Error {
                message: "p\u{fffd}1 (and 1 more)".into()
            }
        );
        assert_eq!(
            (report.evaluated, report.tool_millis, report.candidate_executed),
            (3, 7, true)
        );
    }

    #[test]
    fn an_image_that_the_tool_cannot_examine_is_unsupported_and_everything_else_an_error() {
        let image = Digest::of(b"i");
        let why = "x".to_owned();
        let unsupported = ReadError::Unsupported {
            tool: "t",
            why: why.clone(),
        };
        let crashed = ReadError::Crashed { tool: "t", why };
        assert!(matches!(
            assemble(run(&image), Err(unsupported)).outcome,
            Outcome::Unsupported { .. }
        ));
        assert!(matches!(
            assemble(run(&image), Err(crashed)).outcome,
            Outcome::Error { .. }
        ));
    }
}
