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

/// Whether a time may have been written by a clock that is right now.
pub fn is_believed(at: Timestamp, now: Timestamp) -> bool {
    at < later(now, BELIEVED)
}

/// The status without times that are not believed, which a clock wrote that was far ahead and was put right: what they tell of
/// has been, so it was just before now. Otherwise all that is moved from now on would count as moved before them.
pub fn put_right(mut status: RepaveRunStatus, now: Timestamp) -> RepaveRunStatus {
    let before = now.checked_sub(STEP).unwrap_or(now);
    let waves = status.waves.iter_mut();
    let times = waves.flat_map(|wave| [&mut wave.settled_at, &mut wave.soaked_at]);
    let times = times.chain([&mut status.steady_until, &mut status.started]);
    for time in times.flatten().filter(|time| !is_believed(time.0, now)) {
        time.0 = Timestamp::from_second(before.as_second()).unwrap_or(before);
    }
    status
}

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
        .filter(|workload| workload.is_of_run(&v.run_ref))
        .filter_map(|workload| workload.annotations.last_write.as_deref().map(LastWrite::at));
    let latest = own.chain(written).filter(|at| is_believed(*at, now)).max();
    match latest {
        Some(latest) if latest >= now => latest.checked_add(STEP).unwrap_or(latest),
        Some(_) | None => now,
    }
}

/// A moment plus a span; the end of time when that is beyond it.
pub fn later(at: Timestamp, span: SignedDuration) -> Timestamp {
    at.checked_add(span).unwrap_or(Timestamp::MAX)
}
