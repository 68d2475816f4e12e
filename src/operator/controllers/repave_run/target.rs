//! In which state every target is. Pure: the live estate and the time in, one state per target out.
//!
//! The states are derived anew from the live objects in every reconcile and are stored nowhere, so that a restart or a
//! lost status changes nothing. Must not decide what is done next: that is `plan.rs`.

use super::{
    consumption::{Consumption, consumption},
    estate::Seen,
    gate::Gate,
    observe::Observed,
    validate::Validated,
};
use crate::{
    api::repave_plan::FailureAction,
    controllers::access::Barred,
    domain::{
        image_ref::{ImageRef, Repository},
        lineage::Release,
        marks::{HELD_BY_REPAVE, Hold, HoldMark},
        ownership::Owner,
        wave,
        workload::Rollout,
    },
};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;

/// The state of a target; exactly one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Not begun. Only a `ready` one may be started: the others are busy with a roll-out of somebody else.
    Pending {
        /// Whether it is settled.
        ready: bool,
    },
    /// On its way to the target.
    Rolling,
    /// It does not become healthy, and it will get its old images back.
    Failing {
        /// Why.
        reason: String,
        /// What it gets back, per container.
        previous: BTreeMap<String, ImageRef>,
    },
    /// Healthy on the target.
    Done,
    /// It did not become or stay healthy, and was left as it is.
    Failed {
        /// Why.
        reason: String,
    },
    /// Not to be touched.
    Held {
        /// Whether this run put the hold, after a rollback.
        rolled_back: bool,
        /// Why.
        reason: String,
    },
    /// Reported only.
    Skipped(Skip),
}

/// Why a target is only reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Skip {
    /// It is built on an older release.
    Derived(Release),
    /// A tool writes its spec.
    Owned(Owner),
    /// It pulls the release from somewhere else.
    OtherRepository(Repository),
    /// No wave takes it.
    NoWave,
    /// A person paused it.
    Paused,
    /// It is not healthy, and not because of this run.
    Unhealthy(String),
    /// Somebody set its image back after this run moved it.
    Reverted,
    /// It runs a newer release.
    Newer(Release),
    /// A newer release has its own run.
    Superseded,
    /// What ordered the run is gone.
    RunEnded,
    /// The plan may not, or does not want to, move it.
    Barred(Barred),
}

/// One target.
#[derive(Debug, Clone, PartialEq)]
pub struct Target<'a> {
    /// What was seen.
    pub seen: &'a Seen,
    /// Its wave.
    pub wave: Option<usize>,
    /// Its state.
    pub state: State,
    /// Places (in the list of containers) of the images that are to be moved.
    pub outdated: Vec<usize>,
    /// A release that one of its images is built on and that is older than the target.
    pub derived: Option<Release>,
    /// Whether it runs, or ran before a rollback, a release itself: the others are only built on one.
    pub direct: bool,
    /// Whether its pods are being replaced because of us.
    pub in_flight: bool,
}

impl Target<'_> {
    /// Whether it has come to its end: nothing more will happen to it by itself.
    pub fn ended(&self) -> bool {
        let ended = match &self.state {
            State::Pending { .. } | State::Rolling | State::Failing { .. } => false,
            State::Done | State::Failed { .. } | State::Held { .. } | State::Skipped(_) => true,
        };
        ended && !self.in_flight
    }

    /// Whether it counts against the failure budget.
    pub fn counts_as_failure(&self) -> bool {
        match &self.state {
            State::Failing { .. } | State::Failed { .. } => true,
            State::Held { rolled_back, .. } => *rolled_back,
            State::Pending { .. } | State::Rolling | State::Done | State::Skipped(_) => false,
        }
    }
}

/// The state of every target. Workloads that have nothing to do with the base image are none.
pub fn targets<'a>(v: &Validated, observed: &'a Observed, started: Timestamp, now: Timestamp) -> Vec<Target<'a>> {
    let Some(release) = &observed.target else {
        return Vec::new();
    };
    let judge = Judge {
        v,
        observed,
        release,
        started,
        now,
    };
    observed
        .estate
        .workloads
        .iter()
        .filter_map(|seen| judge.target(seen))
        .collect()
}

struct Judge<'a> {
    v: &'a Validated,
    observed: &'a Observed,
    release: &'a Release,
    started: Timestamp,
    now: Timestamp,
}

impl Judge<'_> {
    fn target<'s>(&self, seen: &'s Seen) -> Option<Target<'s>> {
        let found = consumption(seen, self.release);
        let direct = found.current || !found.outdated.is_empty() || found.newer.is_some() || found.elsewhere.is_some();
        if !direct && found.derived.is_none() {
            return None;
        }
        let workload = &seen.workload;
        let wave = wave::assign(
            &self.v.waves,
            &workload.key.namespace,
            &workload.key.name,
            &workload.labels,
        );
        let state = self.state(seen, &found, wave);
        let in_flight = match &state {
            State::Rolling | State::Failing { .. } => true,
            // A rollback replaces pods too, and so does a move that somebody held or took back in the middle.
            State::Held { .. } | State::Failed { .. } | State::Skipped(_) => {
                self.ours(seen) && workload.rollout == (Rollout::Rolling { supervised: true })
            }
            State::Pending { .. } | State::Done => false,
        };
        Some(Target {
            seen,
            wave,
            state,
            outdated: found.outdated,
            derived: found.derived,
            direct,
            in_flight,
        })
    }

    fn ours(&self, seen: &Seen) -> bool {
        seen.workload.marks.run.as_deref() == Some(&self.v.mark)
    }

    fn state(&self, seen: &Seen, found: &Consumption, wave: Option<usize>) -> State {
        let on_target = found.outdated.is_empty() && found.current;
        if on_target && seen.workload.rollout == Rollout::Settled {
            return State::Done;
        }
        if (on_target || !found.outdated.is_empty())
            && let Some(mark) = seen.workload.marks.hold_now(self.now)
        {
            return self.held(seen, mark);
        }
        if on_target {
            return if self.ours(seen) {
                self.after_the_move(seen)
            } else {
                self.moved_by_others(seen)
            };
        }
        if found.outdated.is_empty() {
            return State::Skipped(reported_only(found));
        }
        self.before_the_move(seen, wave)
    }

    fn held(&self, seen: &Seen, mark: &HoldMark) -> State {
        match mark {
            HoldMark::Valid(hold) => State::Held {
                rolled_back: self.ours(seen) && self.put_by_this_run(hold),
                reason: hold.reason.chars().filter(|c| !c.is_control()).take(200).collect(),
            },
            HoldMark::Unreadable => State::Held {
                rolled_back: false,
                reason: "its hold annotation cannot be read: repair or remove it".to_owned(),
            },
        }
    }

    fn put_by_this_run(&self, hold: &Hold) -> bool {
        hold.by == HELD_BY_REPAVE && hold.digest.as_ref() == Some(&self.v.digest)
    }

    /// It runs an older release.
    fn before_the_move(&self, seen: &Seen, wave: Option<usize>) -> State {
        let workload = &seen.workload;
        let skip = if self.ours(seen) {
            Some(Skip::Reverted)
        } else if let Some(owner) = &workload.owner {
            Some(Skip::Owned(owner.clone()))
        } else if wave.is_none() {
            Some(Skip::NoWave)
        } else if let Some(barred) = &seen.barred {
            Some(Skip::Barred(barred.clone()))
        } else {
            self.not_healthy_before(&workload.rollout)
        };
        let over = match self.observed.gate {
            Gate::Superseded { .. } => Some(Skip::Superseded),
            Gate::Ended { .. } => Some(Skip::RunEnded),
            Gate::Open | Gate::Suspended | Gate::Shut { .. } => None,
        };
        match skip.or(over) {
            Some(reason) => State::Skipped(reason),
            None => State::Pending {
                ready: workload.rollout == Rollout::Settled,
            },
        }
    }

    /// A roll-out is only begun on a healthy workload; one that is busy is waited for as long as that has an end.
    fn not_healthy_before(&self, rollout: &Rollout) -> Option<Skip> {
        let patient = |since: Timestamp| self.now < later(since, self.v.rollout_deadline);
        match rollout {
            Rollout::Settled | Rollout::Rolling { supervised: true } => None,
            Rollout::Paused => Some(Skip::Paused),
            Rollout::Unhealthy { reason } => Some(Skip::Unhealthy(reason.clone())),
            Rollout::Rolling { supervised: false } if patient(self.started) => None,
            Rollout::Rolling { supervised: false } => Some(Skip::Unhealthy("its own roll-out does not end".to_owned())),
            Rollout::Degraded { unavailable_since } if patient(unavailable_since.unwrap_or(self.started)) => None,
            Rollout::Degraded { .. } => Some(Skip::Unhealthy("replicas are missing".to_owned())),
        }
    }

    /// It is on the target already, but this run did not move it: nobody may roll it back but who moved it.
    fn moved_by_others(&self, seen: &Seen) -> State {
        match self.not_healthy_before(&seen.workload.rollout) {
            Some(reason) => State::Skipped(reason),
            None => State::Rolling,
        }
    }

    /// This run moved it, and it is not settled.
    fn after_the_move(&self, seen: &Seen) -> State {
        let workload = &seen.workload;
        let Some(moved_at) = workload
            .marks
            .moved_at
            .filter(|at| *at <= later(self.now, SignedDuration::from_mins(5)))
        else {
            return State::Failed {
                reason: "its repave.dev/moved-at annotation is gone or cannot be read, so its deadline is unknown"
                    .to_owned(),
            };
        };
        let late = self.now >= later(moved_at, self.v.rollout_deadline);
        let crash = seen.evidence.crash.clone();
        match &workload.rollout {
            Rollout::Settled => State::Done,
            Rollout::Paused => State::Skipped(Skip::Paused),
            Rollout::Unhealthy { reason } => self.failing(seen, crash.unwrap_or_else(|| reason.clone())),
            Rollout::Rolling { .. } => match crash {
                Some(crash) => self.failing(seen, crash),
                None if late => self.failing(seen, self.too_late(seen)),
                None => State::Rolling,
            },
            Rollout::Degraded { unavailable_since } => match (crash, unavailable_since) {
                (Some(crash), _) => self.failing(seen, crash),
                // The Deployment tolerates what is missing.
                (None, None) => State::Done,
                (None, Some(since)) if self.now < later(*since, self.v.rollout_deadline) => State::Rolling,
                // It was healthy on the target, so the image is not the likely cause: no rollback, but people must look.
                (None, Some(since)) => State::Failed {
                    reason: format!("was healthy on the new image, but has too few replicas since {since}"),
                },
            },
        }
    }

    fn too_late(&self, seen: &Seen) -> String {
        let deadline = crate::domain::duration::Span::seconds(self.v.rollout_deadline.as_secs().unsigned_abs());
        match &seen.evidence.waiting {
            Some(waiting) => format!("not healthy within {deadline}: {waiting}"),
            None => format!("not healthy within {deadline}"),
        }
    }

    fn failing(&self, seen: &Seen, reason: String) -> State {
        match self.v.action {
            FailureAction::Pause => State::Failed { reason },
            FailureAction::RollbackWorkload => match self.previous(seen) {
                Some(previous) => State::Failing { reason, previous },
                None => State::Failed {
                    reason: format!(
                        "{reason}; not rolled back, because what it ran before is not a known release or was revoked"
                    ),
                },
            },
        }
    }

    /// What it ran before, for every container on the target, if all of that are releases of this base image that were not
    /// revoked. The annotation could have been written by anyone.
    fn previous(&self, seen: &Seen) -> Option<BTreeMap<String, ImageRef>> {
        let mut previous = BTreeMap::new();
        for (container, image) in seen.workload.containers.iter().zip(&seen.images) {
            if image.digest.as_ref() != Some(&self.v.digest) {
                continue;
            }
            let Some(before) = seen.workload.marks.previous.get(&container.name) else {
                // It was on the target before this run came.
                continue;
            };
            let release = before
                .digest
                .as_ref()
                .and_then(|digest| self.observed.releases.by_digest(digest))?;
            let genuine = release.base_image == self.v.base_image
                && release.digest != self.v.digest
                && before.repository == self.v.repository
                && !release.revoked;
            if !genuine {
                return None;
            }
            previous.insert(container.name.clone(), self.v.repository.at(&release.digest));
        }
        (!previous.is_empty()).then_some(previous)
    }
}

/// A moment plus a span; the end of time when that is beyond it.
pub fn later(at: Timestamp, span: SignedDuration) -> Timestamp {
    at.checked_add(span).unwrap_or(Timestamp::MAX)
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
