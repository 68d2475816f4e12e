//! The termination message: at most 4 KiB of JSON in which a container says how its work ended.
//!
//! Pure, and used by both sides. Must not carry findings (they are in the framed report) and must not be taken for
//! the truth about them: it only says where the report is, by hash, and what to tell people when there is none.

use super::error::FrameError;
use crate::{
    digest::Digest,
    report::{Outcome, Report, Severity, Tool, bounded},
};
use serde::{Deserialize, Serialize};

/// What the kubelet keeps of a termination message.
pub const MAX_TERMINATION: usize = 4096;

/// Longest message inside it.
const MAX_MESSAGE: usize = 1000;

/// Most lines of a tool's stderr.
pub const MAX_LOG_LINES: usize = 20;

/// How a container's work ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Termination {
    /// A check ran and its report is in the log.
    Reported(Reported),
    /// An image was copied from a registry into a layout.
    Pulled {
        /// The manifest in the layout.
        digest: Digest,
        /// How long it took.
        millis: u64,
    },
    /// A layout was copied to a registry.
    Pushed {
        /// The manifest at the registry.
        digest: Digest,
        /// How long it took.
        millis: u64,
    },
    /// An image was built into a layout.
    Built {
        /// The manifest in the layout.
        digest: Digest,
        /// The builder and its version.
        tool: String,
        /// How long it took.
        millis: u64,
    },
    /// The tools were copied to where the candidate's container finds them.
    Installed {
        /// How long it took.
        millis: u64,
    },
    /// The candidate's files were copied to where they can be examined.
    Copied {
        /// How many files, folders and links.
        entries: u64,
        /// How many bytes.
        bytes: u64,
        /// How long it took.
        millis: u64,
    },
    /// Nothing could be delivered.
    Failed(Failed),
}

/// A delivered report, in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reported {
    /// The check's name in the policy.
    pub check: String,
    /// The image that was examined.
    pub image: Digest,
    /// The tool, its version, content and database.
    pub tool: Tool,
    /// How it ended.
    pub outcome: OutcomeKind,
    /// What it says when it did not complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The tool's exit code; none when it was killed or never ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that ended the tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// How many rules, tests or packages were evaluated.
    pub evaluated: u64,
    /// Findings per severity.
    pub counts: Counts,
    /// The hash of the framed report's gzip bytes.
    pub sha256: Digest,
    /// How long the tool took.
    pub millis: u64,
}

/// The outcome without its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OutcomeKind {
    /// The tool ran to its end.
    Completed,
    /// It did not, or cannot be trusted.
    Error,
    /// The check does not apply to the image.
    Unsupported,
}

/// Findings per severity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Critical findings.
    pub critical: u64,
    /// High findings.
    pub high: u64,
    /// Medium findings.
    pub medium: u64,
    /// Low findings.
    pub low: u64,
    /// Findings of unknown severity.
    pub unknown: u64,
}

/// Why nothing was delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failed {
    /// Which subcommand.
    pub step: String,
    /// What was expected, what was found, what to do.
    pub message: String,
    /// The tool's exit code, where a tool ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that ended the tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// The tool's last lines, cleaned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<String>,
}

impl Counts {
    /// Counts a report's findings.
    pub fn of(report: &Report) -> Self {
        let mut counts = Self::default();
        for finding in &report.findings {
            let count = match finding.severity {
                Severity::Critical => &mut counts.critical,
                Severity::High => &mut counts.high,
                Severity::Medium => &mut counts.medium,
                Severity::Low => &mut counts.low,
                Severity::Unknown => &mut counts.unknown,
            };
            *count += 1;
        }
        counts
    }
}

impl Reported {
    /// The short form of a report; `sha256` is its frame's.
    pub fn of(report: &Report, sha256: &Digest, exit_code: Option<i32>, signal: Option<i32>) -> Self {
        let (outcome, message) = match &report.outcome {
            Outcome::Completed => (OutcomeKind::Completed, None),
            Outcome::Error { message } => (OutcomeKind::Error, Some(message.clone())),
            Outcome::Unsupported { message } => (OutcomeKind::Unsupported, Some(message.clone())),
        };
        Self {
            check: report.check.clone(),
            image: report.image.clone(),
            tool: report.tool.clone(),
            outcome,
            message,
            exit_code,
            signal,
            evaluated: report.evaluated,
            counts: Counts::of(report),
            sha256: sha256.clone(),
            millis: report.tool_millis,
        }
    }
}

/// The text cleaned and cut to so many bytes, on a character boundary.
pub fn cut(text: &str, bytes: usize) -> String {
    let mut text = bounded(text);
    let mut at = text.len().min(bytes);
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    text.truncate(at);
    text
}

impl Termination {
    /// The JSON to write, never more than [`MAX_TERMINATION`] bytes: log lines go first, oldest first, then text.
    pub fn encode(&self) -> String {
        let mut shrinking = self.clone();
        let mut longest = MAX_MESSAGE;
        loop {
            shrinking.shorten(longest);
            let json = serde_json::to_string(&shrinking).unwrap_or_default();
            if json.len() <= MAX_TERMINATION || longest == 0 {
                return json;
            }
            longest /= 2;
        }
    }

    fn shorten(&mut self, longest: usize) {
        match self {
            Self::Reported(reported) => {
                reported.check = cut(&reported.check, longest);
                reported.message = reported.message.as_deref().map(|text| cut(text, longest));
                reported.tool.version = cut(&reported.tool.version, longest);
                reported.tool.content = reported.tool.content.as_deref().map(|text| cut(text, longest));
            }
            Self::Failed(failed) => {
                failed.step = cut(&failed.step, longest);
                failed.message = cut(&failed.message, longest);
                let room = MAX_LOG_LINES.min(longest.div_ceil(MAX_MESSAGE / MAX_LOG_LINES));
                let first = failed.log.len().saturating_sub(room);
                failed.log = failed.log[first..]
                    .iter()
                    .map(|line| cut(line, longest.min(300)))
                    .collect();
            }
            Self::Built { tool, .. } => *tool = cut(tool, longest),
            Self::Pulled { .. } | Self::Pushed { .. } | Self::Installed { .. } | Self::Copied { .. } => {}
        }
    }

    /// Reads a termination message; the text in it is cleaned and bounded.
    pub fn decode(text: &str) -> Result<Self, FrameError> {
        let refuse = |why: String| FrameError::Termination { why };
        if text.len() > MAX_TERMINATION {
            return Err(refuse(format!(
                "expected at most {MAX_TERMINATION} bytes, found {}",
                text.len()
            )));
        }
        let mut termination: Self =
            serde_json::from_str(text).map_err(|e| refuse(format!("expected the runner's JSON: {e}")))?;
        termination.shorten(MAX_TERMINATION);
        Ok(termination)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::ToolName;
    use proptest::prelude::*;

    fn failed(message: &str, log: Vec<String>) -> Termination {
        Termination::Failed(Failed {
            step: "build".into(),
            message: message.into(),
            exit_code: Some(1),
            signal: None,
            log,
        })
    }

    #[test]
    fn a_report_and_a_push_survive_the_round_trip() {
        let tool = Tool {
            name: ToolName::Grype,
            version: "0.121".into(),
            content: None,
            database_built: Some("2026-11-22T04:10:00Z".parse().unwrap()),
            database: None,
        };
        let report = Report::error("scan", &Digest::of(b"image"), tool, "killed by signal 9");
        let reported = Termination::Reported(Reported::of(&report, &Digest::of(b"gz"), None, Some(9)));
        let pushed = Termination::Pushed {
            digest: Digest::of(b"x"),
            millis: 3,
        };
        assert!(pushed.encode().starts_with(r#"{"kind":"pushed","digest":"sha256:"#));
        for termination in [reported, pushed, failed("no", vec!["a".into()])] {
            assert_eq!(Termination::decode(&termination.encode()).unwrap(), termination);
        }
    }

    #[test]
    fn a_long_log_keeps_its_end_and_fits() {
        let lines = (0..500)
            .map(|n| format!("{n}\u{1b}[31m{}", "\"x".repeat(400)))
            .collect();
        let text = failed(&"\\".repeat(5000), lines).encode();
        assert!(text.len() <= MAX_TERMINATION);
        let Termination::Failed(failed) = Termination::decode(&text).unwrap() else {
            panic!("{text}")
        };
        assert!(!failed.message.is_empty());
        assert!(failed.log.last().unwrap().starts_with("499\u{fffd}[31m"));
    }

    #[test]
    fn foreign_messages_are_refused() {
        let long = "x".repeat(MAX_TERMINATION + 1);
        for text in [
            "",
            "{}",
            "OOMKilled",
            r#"{"kind":"passed"}"#,
            r#"{"kind":"pushed","digest":"latest","millis":1}"#,
            &long,
        ] {
            assert_eq!(Termination::decode(text).unwrap_err().reason(), "TerminationUnreadable");
        }
    }

    proptest! {
        #[test]
        fn encoding_always_fits_and_decodes(message in "\\PC{0,3000}", log in proptest::collection::vec("\\PC{0,400}", 0..40)) {
            let text = failed(&message, log).encode();
            prop_assert!(text.len() <= MAX_TERMINATION);
            prop_assert!(Termination::decode(&text).is_ok());
        }

        #[test]
        fn decoding_never_panics(text in "\\PC{0,500}") {
            let _ = Termination::decode(&text);
        }
    }
}
