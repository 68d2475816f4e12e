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
/// The same beyond what the status says, which nobody but Repave writes: a clock that was far ahead and was put right has left
/// such times there, and what is written from then on comes after them.
const BEYOND_STATUS: SignedDuration = SignedDuration::from_mins(5);
/// Between two times that are written. A status keeps whole seconds: what is moved in the same look comes after them.
const STEP: SignedDuration = SignedDuration::from_millis(1_500);

/// The first time that is not believed if it stands on a workload. What this run has in its status is its own: a clock that is days
/// behind for one look must not make it forget what had soaked.
pub fn believed_until(status: &RepaveRunStatus, now: Timestamp) -> Timestamp {
    let beyond = own(status).max().map(|latest| later(latest, BEYOND_STATUS));
    later(now, BELIEVED).max(beyond.unwrap_or(now))
}

/// The time of this look: now, or, if the clock was set back, just after what this run wrote last.
pub fn stamp<'a>(
    v: &Validated,
    status: &RepaveRunStatus,
    workloads: impl Iterator<Item = &'a Workload>,
    now: Timestamp,
) -> Timestamp {
    let until = believed_until(status, now);
    let written = workloads
        .filter(|workload| workload.is_of_run(&v.run_ref))
        .filter_map(|workload| workload.annotations.last_write.as_deref().map(LastWrite::at));
    let latest = own(status).chain(written.filter(|at| *at < until)).max();
    match latest {
        Some(latest) if latest >= now => later(latest, STEP),
        Some(_) | None => now,
    }
}

/// When the status of a run began; now if it has none. A clock that was ahead then may have been put right.
pub fn began(status: &RepaveRunStatus, now: Timestamp) -> Timestamp {
    status.started.as_ref().map_or(now, |time| time.0.min(now))
}

/// What the status says.
fn own(status: &RepaveRunStatus) -> impl Iterator<Item = Timestamp> {
    let waves = status.waves.iter().flat_map(|wave| [&wave.settled_at, &wave.soaked_at]);
    waves.chain([&status.steady_until]).flatten().map(|time| time.0)
}

/// A moment plus a span; the end of time when that is beyond it.
pub fn later(at: Timestamp, span: SignedDuration) -> Timestamp {
    at.checked_add(span).unwrap_or(Timestamp::MAX)
}
