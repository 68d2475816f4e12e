//! Why what came out of a Job pod is not believed.
//!
//! Must not carry bytes of the report: the texts are shown to people.

use crate::digest::Digest;

/// Why a log or a termination message is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// There is no frame.
    #[error("expected one report in the pod's log, found none: look at the pod's log and termination message")]
    Missing,
    /// There are several frames.
    #[error("expected one report in the pod's log, found several: something besides the runner writes to its output")]
    Duplicate,
    /// The frame is not whole, or not a frame of this version.
    #[error("the report in the pod's log is torn or malformed: {why}")]
    Torn {
        /// What was expected, what was found.
        why: String,
    },
    /// Larger than what is read.
    #[error(
        "expected at most {limit} bytes of {what}, found more: let the check report fewer findings, or shorter ones"
    )]
    TooLarge {
        /// Which part.
        what: &'static str,
        /// The bound.
        limit: u64,
    },
    /// Its hash is not the announced one.
    #[error("expected a report with hash {expected}, found {found}: it was not written by this run of the check")]
    Forged {
        /// From the termination message.
        expected: Digest,
        /// Of what was found, as announced or as computed.
        found: String,
    },
    /// It is not a report.
    #[error("the report cannot be read: {why}")]
    Unreadable {
        /// What the parser says.
        why: String,
    },
    /// The termination message is not ours.
    #[error("the termination message cannot be read: {why}")]
    Termination {
        /// What was expected, what was found.
        why: String,
    },
}

impl FrameError {
    /// A static word for conditions, events and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Missing => "ReportMissing",
            Self::Duplicate => "ReportDuplicate",
            Self::Torn { .. } => "ReportTorn",
            Self::TooLarge { .. } => "ReportTooLarge",
            Self::Forged { .. } => "ReportForged",
            Self::Unreadable { .. } => "ReportUnreadable",
            Self::Termination { .. } => "TerminationUnreadable",
        }
    }
}
