//! The time that a run writes down. Pure.
//!
//! Only the order of what was written counts: whether a workload was moved before or after its wave had soaked. So the time
//! that is written never goes back, whatever the clock does. No length of time may be taken from it.

use super::validate::Validated;
use crate::{
    api::RepaveRunStatus,
    domain::{moved::LastWrite, workload::Workload},
};
use jiff::{SignedDuration, Timestamp};

/// How far a clock can be set back and be noticed. Who may edit a workload can write any time on it: beyond this it is not
/// believed.
const BELIEVED: SignedDuration = SignedDuration::from_hours(24);
/// Between two times that are written; a status keeps whole seconds.
const STEP: SignedDuration = SignedDuration::from_secs(1);

/// The time of this look: now, or, if the clock was set back, just after what this run wrote last.
pub fn stamp<'a>(
    v: &Validated,
    status: &RepaveRunStatus,
    workloads: impl Iterator<Item = &'a Workload>,
    now: Timestamp,
) -> Timestamp {
    let waves = status.waves.iter().flat_map(|wave| [&wave.settled_at, &wave.soaked_at]);
    let own = waves.chain([&status.steady_until]).flatten().map(|time| time.0);
    let written = workloads
        .filter(|workload| workload.marks.run.as_deref() == Some(&v.mark))
        .filter_map(|workload| workload.marks.last_write.as_ref().map(LastWrite::at));
    let believed = now.checked_add(BELIEVED).unwrap_or(Timestamp::MAX);
    let latest = own.chain(written).filter(|at| *at < believed).max();
    match latest {
        Some(latest) if latest >= now => latest.checked_add(STEP).unwrap_or(latest),
        Some(_) | None => now,
    }
}
