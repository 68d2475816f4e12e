//! Whether a run that has finished has work again. Pure.

use super::{gate::Gate, state::State, target::Target};
use crate::api::RepaveRunStatus;
use std::collections::BTreeSet;

/// Whether a finished run has work again: a hold has ended, a workload was resumed, has recovered, was relabelled or is new.
/// One that is busy is no reason yet: it may stay so for ever. What it moved itself is judged in any case.
pub fn reopens(gate: &Gate, targets: &[Target], status: &RepaveRunStatus) -> bool {
    (gate.is_open() && targets.iter().any(is_ready)) || on_their_way(targets, status) > 0
}

/// How many are in a roll-out of this run that it has not judged, though it has finished: it did not see them then, or they
/// were paused or held. One that it left as it is was judged: the status has a row of it, or at least counts it. What fails at
/// once when it goes on was never seen on its way, so those that have failed are counted on both sides.
pub fn on_their_way(targets: &[Target], status: &RepaveRunStatus) -> usize {
    let failed: BTreeSet<&str> = status
        .attention
        .iter()
        .filter(|row| row.state == "Failed")
        .map(|row| row.workload.as_str())
        .collect();
    let goes_on = |target: &&Target| {
        let goes_on = match &target.state {
            State::Rolling | State::Failing { .. } => target.arriving,
            State::Failed { .. } => true,
            State::Pending { .. } | State::Done | State::Held { .. } | State::Skipped(_) => false,
        };
        goes_on && !failed.contains(target.seen.workload.key.to_string().as_str())
    };
    // Failures beyond the rows of a status are only counted there. Rows are sorted, so those come after the last one.
    let without_row = (status.counts.failed as usize).saturating_sub(failed.len());
    let last = failed.last().copied().unwrap_or_default();
    let (before, after): (Vec<_>, Vec<_>) = targets
        .iter()
        .filter(goes_on)
        .partition(|target| target.seen.workload.key.to_string().as_str() < last);
    before.len().saturating_add(after.len().saturating_sub(without_row))
}

/// Whether a run could begin with it now.
pub fn is_ready(target: &Target) -> bool {
    target.state == State::Pending { ready: true }
}
