//! The one place of the command line where a report is judged: by the operator's own gate.

use crate::domain::{
    report::Report,
    verdict::{self, Gate, Judgement},
    waiver::Exceptions,
};
use jiff::Timestamp;

/// What the operator would make of this report.
pub fn judge(report: &Report, gate: &Gate, now: Timestamp) -> Judgement {
    verdict::judge(report, gate, &Exceptions::default(), now)
}
