//! How one workload is judged: before its move by whether it is healthy and free, after it only by the roll-out that this run
//! caused, and only until its wave has soaked. Pure.
//!
//! What somebody else rolls out later, and what breaks after the soak, is told and counts nowhere: a run that blames itself
//! for other people's changes would take healthy workloads back.

mod after;
mod out;

use super::{
    consumption::Consumption,
    estate::{LedAway, ObservedWorkload},
    gate::Gate,
    observe::Observed,
    others,
    refusals::{Refusals, Standing},
    set_back::SetBack,
    sightings::Elapsed,
    state::{Skip, State},
    steady::Steady,
    validate::Validated,
};
use crate::domain::text::is_shown;
use crate::{
    api::repave_run::WaveStatus,
    domain::{
        moved::{LastWrite, Moved, Whose},
        workload::{Rollout, Workload},
        workload_annotations::{HELD_BY_REPAVE, Hold, HoldAnnotation},
    },
};
use jiff::{SignedDuration, Timestamp};
use std::{collections::BTreeSet, time::Duration};

/// What is known from before this look.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// What the status says about the waves.
    pub waves: &'a [WaveStatus],
    /// When this status of the run began; this look if it is its first.
    pub began: Timestamp,
    /// From when on a time that stands on a workload is not believed.
    pub believed_until: Timestamp,
    /// How long workloads have been as they are.
    pub elapsed: &'a Elapsed,
    /// What the API server refused.
    pub refusals: &'a Refusals,
    /// What has stayed healthy.
    pub steady: &'a Steady,
    /// What was set back.
    pub set_back: &'a SetBack,
    /// The monotonic time of this look.
    pub mono: Duration,
    /// Runs of other plans that are at work, `namespace/name`.
    pub active_runs: &'a BTreeSet<String>,
}

/// What everything is judged by.
#[derive(Debug)]
pub struct Judge<'a> {
    /// The run.
    pub v: &'a Validated,
    /// What was observed.
    pub observed: &'a Observed,
    /// What is known from before.
    pub known: Known<'a>,
    /// The time, for what people wrote (holds).
    pub now: Timestamp,
}

/// The state of one workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// The state.
    pub state: State,
    /// What is wrong with one that is done.
    pub trouble: Option<String>,
}

impl From<State> for Judged {
    fn from(state: State) -> Self {
        Self { state, trouble: None }
    }
}

impl Judge<'_> {
    /// Whether this run wrote the workload last.
    pub fn ours(&self, seen: &ObservedWorkload) -> bool {
        seen.workload.is_of_run(&self.v.run_ref)
    }

    /// The state of a workload that consumes the base image in this way.
    pub fn state(&self, seen: &ObservedWorkload, found: &Consumption, wave: Option<usize>) -> Judged {
        let on_target = found.outdated.is_empty() && found.current;
        if on_target && seen.workload.rollout == Rollout::Settled && !self.is_to_stay(seen, wave) {
            return State::Done.into();
        }
        if (on_target || !found.outdated.is_empty())
            && let Some(mark) = seen.workload.annotations.hold_for(&self.v.digest, self.now)
        {
            return self.held(seen, mark).into();
        }
        if on_target && self.passed(seen, wave) {
            return Judged {
                state: State::Done,
                trouble: trouble(&seen.workload),
            };
        }
        if on_target && self.ours(seen) {
            return self.after_the_move(seen, wave).into();
        }
        if on_target {
            let state = moved_by_others(&seen.workload);
            return match (&state, self.other_plan(&seen.workload)) {
                (State::Skipped(Skip::RolledByOthers), Some(other)) => State::Skipped(other).into(),
                (_, Some(_) | None) => state.into(),
            };
        }
        if found.outdated.is_empty() {
            return State::Skipped(reported_only(found)).into();
        }
        self.before_the_move(seen, wave).into()
    }

    /// Whether it is in our roll-out and has not been seen to stay healthy: it is done only then.
    fn is_to_stay(&self, seen: &ObservedWorkload, wave: Option<usize>) -> bool {
        let ours = self.ours(seen) && seen.workload.whose() == Some(Whose::Ours);
        ours && !self.passed(seen, wave) && !self.has_stayed(seen)
    }

    /// Whether it has stayed healthy for as long as it must.
    fn has_stayed(&self, seen: &ObservedWorkload) -> bool {
        self.known.steady.has(&seen.workload)
            || self.known.elapsed.of(&seen.workload.uid).steady >= self.must_stay(seen)
    }

    /// What its own `minReadySeconds` demands has passed before it is complete.
    fn must_stay(&self, seen: &ObservedWorkload) -> Duration {
        self.v.min_ready.saturating_sub(seen.workload.min_ready)
    }

    fn held(&self, seen: &ObservedWorkload, mark: &HoldAnnotation) -> State {
        match mark {
            HoldAnnotation::Valid(hold) => State::Held {
                rolled_back: self.ours(seen) && self.put_by_this_run(hold),
                reason: hold.reason.chars().filter(|c| is_shown(*c)).take(200).collect(),
            },
            HoldAnnotation::Unreadable => State::Held {
                rolled_back: false,
                reason: "its hold annotation cannot be read: repair or remove it".to_owned(),
            },
        }
    }

    fn put_by_this_run(&self, hold: &Hold) -> bool {
        hold.by == HELD_BY_REPAVE && hold.digest.as_ref() == Some(&self.v.digest)
    }

    /// It runs an older release.
    fn before_the_move(&self, seen: &ObservedWorkload, wave: Option<usize>) -> State {
        let workload = seen.workload.as_ref();
        let skip = if self.reverted(seen) {
            Some(Skip::Reverted)
        } else if let Some(owner) = &workload.owner {
            Some(Skip::Owned(owner.clone()))
        } else if wave.is_none() {
            Some(Skip::NoWave)
        } else if let Some(barred) = &seen.barred {
            Some(Skip::Barred(barred.clone()))
        } else {
            self.other_plan(workload)
                .or_else(|| self.refused(workload))
                .or_else(|| self.not_healthy_before(workload))
        };
        let over = match self.observed.gate {
            Gate::Superseded { .. } => Some(Skip::Superseded),
            Gate::Ended { .. } => Some(Skip::RunEnded),
            Gate::Open(_) | Gate::Suspended | Gate::Shut { .. } => None,
        };
        match skip.or(over) {
            Some(reason) => State::Skipped(reason),
            None => State::Pending {
                ready: self.standing(workload) == Standing::Free
                    && (workload.rollout == Rollout::Settled || needs_repair(workload)),
            },
        }
    }

    /// The run that moved it first keeps it while it is at work: one at a time supervises a workload.
    fn other_plan(&self, workload: &Workload) -> Option<Skip> {
        let run = others::other_run(self.v, workload, &self.observed.releases)?;
        let skip = || {
            if others::is_of_this_plan(self.v, workload) {
                Skip::OtherRun(run.chars().filter(|c| is_shown(*c)).take(130).collect())
            } else {
                Skip::OtherPlan(others::name_for(self.v, workload))
            }
        };
        self.known.active_runs.contains(run).then(skip)
    }

    /// Whether it is on the target and still has to show that it stays there. One of which nobody knows whether it had soaked lets
    /// no soak begin anew.
    pub fn arrives(&self, seen: &ObservedWorkload, wave: Option<usize>) -> bool {
        let has_come = was_complete(&seen.workload.rollout) && self.has_stayed(seen);
        !has_come && !self.is_in_doubt(seen, wave)
    }

    fn standing(&self, workload: &Workload) -> Standing<'_> {
        self.known.refusals.standing(&workload.uid, self.known.mono)
    }

    fn refused(&self, workload: &Workload) -> Option<Skip> {
        match self.standing(workload) {
            Standing::GivenUp(words) => Some(Skip::Refused {
                words: words.to_owned(),
                counts: self.v.count_refused,
            }),
            Standing::Free | Standing::Pausing => None,
        }
    }

    /// Whether this very run moved it to the target, where it still is, or from where somebody took it back: only that has to
    /// be proven by its wave. What another plan moved, or a run of this name before it was made anew, proves nothing.
    /// Whatever became of it since: it may be held, too, or paused.
    pub fn is_to_prove(&self, seen: &ObservedWorkload, current: bool) -> bool {
        let this_run = |moved: &Moved| moved.plan == self.v.plan_key() && moved.is_of_run(self.v.uid.as_deref());
        let record = seen.workload.record();
        let here = self.ours(seen) && record.is_none_or(this_run);
        let of_target = |moved: &&Moved| moved.is_of(&self.v.digest, self.v.sequence) && !moved.rolled_back;
        match (record.filter(of_target), &seen.led_away) {
            (_, _) if current => here,
            (Some(_), _) => here,
            (None, LedAway::From(moved)) => this_run(moved),
            // It is on record in the status.
            (None, LedAway::NotAsked | LedAway::FromNone) => false,
        }
    }

    /// Whether it was moved to this target once, and its image is another one now though we did not give it back.
    fn reverted(&self, seen: &ObservedWorkload) -> bool {
        let by_record = match seen.workload.annotations.last_write.as_deref() {
            Some(LastWrite::Recorded(moved)) => moved.is_of(&self.v.digest, self.v.sequence) && !moved.rolled_back,
            // Without a record the run is all that is known.
            Some(LastWrite::TimeOnly(_)) | None => self.ours(seen),
        };
        by_record || self.known.set_back.has(&seen.workload)
    }

    /// A roll-out is only begun on a healthy workload, or on one that a roll-out of ours left unhealthy; one that is busy is
    /// waited for as long as a roll-out may take.
    fn not_healthy_before(&self, workload: &Workload) -> Option<Skip> {
        if needs_repair(workload) {
            return None;
        }
        let patient = self.within_deadline(self.known.elapsed.of(&workload.uid).busy);
        match &workload.rollout {
            Rollout::Settled => None,
            Rollout::Paused => Some(Skip::Paused),
            Rollout::Unhealthy { reason } => Some(Skip::Unhealthy(reason.clone())),
            Rollout::Rolling { .. } | Rollout::Degraded { .. } if patient => None,
            Rollout::Rolling { .. } => Some(Skip::Busy),
            Rollout::Degraded { .. } => Some(Skip::Unhealthy("replicas are missing".to_owned())),
        }
    }

    fn within_deadline(&self, time: Duration) -> bool {
        SignedDuration::try_from(time).is_ok_and(|time| time < self.v.rollout_deadline)
    }
}

/// Whether a roll-out of ours (of an earlier run, or a rollback) left it unhealthy: a newer release may repair it.
pub fn needs_repair(workload: &Workload) -> bool {
    match &workload.rollout {
        Rollout::Unhealthy { .. }
        | Rollout::Degraded {
            unavailable_since: Some(_),
        } => workload.our_rollout().is_some(),
        Rollout::Settled
        | Rollout::Rolling { .. }
        | Rollout::Paused
        | Rollout::Degraded {
            unavailable_since: None,
        } => false,
    }
}

/// Whether a roll-out of ours never was complete. One that lacks replicas was, so it is what to go back to.
pub fn was_never_complete(workload: &Workload) -> bool {
    match &workload.rollout {
        Rollout::Unhealthy { .. } => workload.our_rollout().is_some(),
        Rollout::Settled | Rollout::Rolling { .. } | Rollout::Degraded { .. } | Rollout::Paused => false,
    }
}

fn was_complete(rollout: &Rollout) -> bool {
    match rollout {
        Rollout::Settled | Rollout::Degraded { .. } => true,
        Rollout::Rolling { .. } | Rollout::Unhealthy { .. } | Rollout::Paused => false,
    }
}

/// It is on the target in a roll-out that this run did not cause: nobody may roll it back but who moved it.
fn moved_by_others(workload: &Workload) -> State {
    match &workload.rollout {
        Rollout::Settled
        | Rollout::Degraded {
            unavailable_since: None,
        } => State::Done,
        Rollout::Paused => State::Skipped(Skip::Paused),
        Rollout::Unhealthy { reason } => State::Skipped(Skip::Unhealthy(reason.clone())),
        Rollout::Degraded {
            unavailable_since: Some(_),
        } => State::Skipped(Skip::Unhealthy("replicas are missing".to_owned())),
        Rollout::Rolling { .. } => State::Skipped(Skip::RolledByOthers),
    }
}

/// This run moved it, and nobody knows any more whether it was healthy since.
fn moved_long_ago(workload: &Workload) -> State {
    let why = match &workload.rollout {
        Rollout::Settled | Rollout::Degraded { .. } => return State::Done,
        Rollout::Paused => return State::Skipped(Skip::Paused),
        Rollout::Unhealthy { reason } => reason.clone(),
        Rollout::Rolling { .. } => "its roll-out has not ended".to_owned(),
    };
    State::Skipped(Skip::MovedLongAgo(why))
}

/// What a person wants to know of a workload that was healthy on the target and soaked.
fn trouble(workload: &Workload) -> Option<String> {
    match &workload.rollout {
        Rollout::Rolling { .. } => workload.pods_refused.clone(),
        Rollout::Settled
        | Rollout::Paused
        | Rollout::Degraded {
            unavailable_since: None,
        } => None,
        Rollout::Unhealthy { reason } => Some(reason.clone()),
        Rollout::Degraded {
            unavailable_since: Some(since),
        } => Some(format!("too few replicas since {since}")),
    }
}

fn reported_only(found: &Consumption) -> Skip {
    if let Some(repository) = &found.elsewhere {
        return Skip::OtherRepository(repository.clone());
    }
    match (&found.newer, &found.derived) {
        (_, Some(release)) => Skip::Derived(release.clone()),
        (Some(release), None) => Skip::Newer(release.clone()),
        (None, None) => Skip::NoWave,
    }
}
