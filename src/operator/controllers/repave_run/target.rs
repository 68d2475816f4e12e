//! In which state every target is. Pure: the live estate and the time in, one state per target out.
//!
//! The states are derived anew from the live objects in every reconcile and are stored nowhere, so that a restart or a
//! lost status changes nothing. What is judged is told apart in `judge.rs`. Must not decide what is done next: that is
//! `plan.rs`.

use super::{
    consumption::consumption,
    estate::ObservedWorkload,
    judge::{Judge, Judged, Known},
    observe::Observed,
    set_back::is_on_target,
    sightings::{Elapsed, Look},
    state::{Skip, State},
    steady::{Course, Steady},
    validate::Validated,
};
use crate::domain::{
    lineage::Release,
    moved::Whose,
    wave,
    workload::{Rollout, Workload},
};
use jiff::{SignedDuration, Timestamp};
use std::{collections::BTreeSet, sync::Arc};

/// How many deadlines of the plan a roll-out that Kubernetes supervises takes its place in the limit at most.
const SUPERVISED_DEADLINES: i32 = 4;

/// One target.
// What is known of it is independent of each other.
#[allow(clippy::struct_excessive_bools)]
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// What was seen.
    pub seen: Arc<ObservedWorkload>,
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
    /// It is on its way to the target for the first time: its wave soaks only after it.
    pub arriving: bool,
    /// This very run moved it to the target, where it still is, or somebody took it back from there.
    pub moved: bool,
    /// What is wrong with one that is done: told, and counted nowhere.
    pub trouble: Option<String>,
}

impl Target {
    /// How far it is on its way to have stayed healthy.
    pub fn course(&self) -> (&Workload, Course) {
        let course = match &self.state {
            State::Done => Course::Done,
            State::Held { rolled_back: true, .. } => Course::Ended,
            // One that was left on the target must not be taken for one that has stayed healthy there.
            State::Failed { .. }
            | State::Pending { .. }
            | State::Rolling
            | State::Failing { .. }
            | State::Held { rolled_back: false, .. }
            | State::Skipped(_) => Course::Open,
        };
        (&self.seen.workload, course)
    }

    /// Whether its pods are being replaced by our rollback, whoever holds it by now and whether or not anybody does.
    pub fn rolls_back(&self) -> bool {
        let by_record = || self.seen.workload.our_rollout().is_some_and(|moved| moved.rolled_back);
        self.in_flight && (matches!(self.state, State::Held { rolled_back: true, .. }) || by_record())
    }

    /// Whether it has come to its end: nothing more will happen to it by itself.
    pub fn ended(&self) -> bool {
        let ended = match &self.state {
            State::Pending { .. } | State::Rolling | State::Failing { .. } => false,
            State::Done | State::Failed { .. } | State::Held { .. } | State::Skipped(_) => true,
        };
        ended && !self.in_flight
    }

    /// Whether percentages are of it: it runs pods of a release, or would. Deployments scaled to 0 cost nothing, so whoever makes a
    /// thousand of them in a namespace of a shared plan must not raise how many of the others roll at once or may fail.
    pub fn is_of_percentages(&self) -> bool {
        self.direct && !self.seen.workload.without_pods
    }

    /// Whether another run of the plan, which is at work, has it: this one moves it after that.
    pub fn waits_for(&self) -> Option<&str> {
        match &self.state {
            State::Skipped(Skip::OtherRun(run)) => Some(run),
            State::Pending { .. }
            | State::Rolling
            | State::Failing { .. }
            | State::Done
            | State::Failed { .. }
            | State::Held { .. }
            | State::Skipped(_) => None,
        }
    }

    /// Whether it counts against the failure budget.
    pub fn counts_as_failure(&self) -> bool {
        match &self.state {
            State::Failing { .. } | State::Failed { .. } => true,
            State::Held { rolled_back, .. } => *rolled_back,
            State::Skipped(Skip::Refused { counts, .. }) => *counts,
            State::Pending { .. } | State::Rolling | State::Done | State::Skipped(_) => false,
        }
    }

    /// Whether it was this run's to move, and did not get to the target.
    pub fn missed(&self) -> bool {
        match &self.state {
            State::Pending { .. }
            | State::Rolling
            | State::Failing { .. }
            | State::Failed { .. }
            | State::Held { .. } => true,
            State::Done => false,
            State::Skipped(skip) => match skip {
                Skip::Derived(_)
                | Skip::Owned(_)
                | Skip::OtherRepository(_)
                | Skip::NoWave
                | Skip::Newer(_)
                | Skip::Superseded
                // The plan does not want it any more, or never had the right: it says so itself.
                | Skip::Barred(_) => false,
                Skip::Paused
                | Skip::Unhealthy(_)
                | Skip::Reverted
                | Skip::RolledByOthers
                | Skip::NoRecord
                | Skip::MovedLongAgo(_)
                | Skip::TimeNotBelieved(_)
                | Skip::Busy
                | Skip::Refused { .. }
                | Skip::OtherPlan(_)
                | Skip::OtherRun(_)
                | Skip::RunEnded => true,
            },
        }
    }
}

/// The workloads that are no targets of this run and in flight for other runs of its plan, and whether they get their old
/// image back: all runs of a plan share one limit.
pub fn in_flight_elsewhere(
    v: &Validated,
    observed: &Observed,
    targets: &[Target],
    elapsed: &Elapsed,
) -> Vec<(Arc<ObservedWorkload>, bool)> {
    let ours: BTreeSet<&str> = targets.iter().map(|target| target.seen.workload.uid.as_str()).collect();
    let others = observed.estate.workloads.iter().chain(&observed.estate.elsewhere);
    others
        .filter(|seen| !ours.contains(seen.workload.uid.as_str()) && replaced_by_us(v, observed, seen, elapsed))
        .map(|seen| {
            let back = seen.workload.our_rollout().is_some_and(|moved| moved.rolled_back);
            (Arc::clone(seen), back)
        })
        .collect()
}

/// The state of every target. Workloads that have nothing to do with the base image are none.
pub fn targets(v: &Validated, observed: &Observed, known: Known<'_>, now: Timestamp) -> Vec<Target> {
    let Some(release) = &observed.target else {
        return Vec::new();
    };
    let judge = Judge {
        v,
        observed,
        known,
        now,
    };
    let workloads = observed.estate.workloads.iter();
    workloads.filter_map(|seen| target(&judge, release, seen)).collect()
}

fn target(judge: &Judge<'_>, release: &Release, seen: &Arc<ObservedWorkload>) -> Option<Target> {
    let found = consumption(seen, release);
    let direct = found.current || !found.outdated.is_empty() || found.newer.is_some() || found.elsewhere.is_some();
    if !direct && found.derived.is_none() {
        return None;
    }
    let workload = seen.workload.as_ref();
    let waves = &judge.v.waves;
    let wave = wave::assign(waves, &workload.key, &workload.labels);
    let Judged { state, trouble } = judge.state(seen, &found, wave);
    let in_flight = match &state {
        State::Rolling | State::Failing { .. } => true,
        // A rollback replaces pods too, and so does a move that somebody held in the middle, or one of another run.
        State::Pending { .. } | State::Held { .. } | State::Failed { .. } | State::Skipped(_) => {
            replaced_by_us(judge.v, judge.observed, seen, judge.known.elapsed)
        }
        State::Done => false,
    };
    let arriving = match &state {
        State::Pending { .. } => true,
        State::Rolling | State::Failing { .. } => judge.arrives(seen, wave),
        State::Done | State::Failed { .. } | State::Held { .. } | State::Skipped(_) => false,
    };
    let moved = judge.is_to_prove(seen, found.current);
    Some(Target {
        seen: Arc::clone(seen),
        wave,
        moved,
        state,
        outdated: found.outdated,
        derived: found.derived,
        direct,
        in_flight,
        arriving,
        trouble,
    })
}

/// Whether its pods are being replaced by a write of this run, or of another run of the same plan: they share one limit.
/// Kubernetes says when it gives a roll-out up; where the workload has no deadline of its own, that of the plan serves.
///
/// Whoever may edit a workload may write our record there, so a record alone takes no place of the limit: what we write gives
/// a workload a release, and it takes its place for so long only, whatever deadline it gives itself.
fn replaced_by_us(v: &Validated, observed: &Observed, seen: &ObservedWorkload, elapsed: &Elapsed) -> bool {
    let workload = &seen.workload;
    let patience = match &workload.rollout {
        Rollout::Rolling { supervised: true } => SUPERVISED_DEADLINES,
        Rollout::Rolling { supervised: false } => 1,
        Rollout::Settled | Rollout::Degraded { .. } | Rollout::Unhealthy { .. } | Rollout::Paused => return false,
    };
    let times = elapsed.of(&workload.uid);
    let time = SignedDuration::try_from(times.rolling.max(times.busy));
    let in_time = time.is_ok_and(|time| time < v.rollout_deadline.saturating_mul(patience));
    let mut digests = seen.images.iter().filter_map(|image| image.digest.as_ref());
    let runs_a_release = digests.any(|digest| observed.releases.by_digest(digest).is_some());
    let plan = workload.record().map(|moved| moved.plan.as_str());
    in_time
        && runs_a_release
        && workload.whose() == Some(Whose::Ours)
        && (workload.is_of_run(&v.run_ref) || plan == Some(v.plan_key().as_str()))
}

/// What is timed of every workload that this look shows, those of other runs of the plan included.
pub fn looks<'a>(
    v: &'a Validated,
    observed: &'a Observed,
    steady: &'a Steady,
) -> impl Iterator<Item = (&'a str, Look)> {
    let all = observed.estate.workloads.iter().chain(&observed.estate.elsewhere);
    all.map(|seen| {
        let workload: &Workload = &seen.workload;
        let ours = workload.is_of_run(&v.run_ref) && workload.whose() == Some(Whose::Ours);
        let (rolling, unready, unsettled, complete) = match &workload.rollout {
            Rollout::Rolling { .. } => (workload.observed, false, true, false),
            Rollout::Degraded { unavailable_since } => {
                (false, unavailable_since.is_some(), true, unavailable_since.is_none())
            }
            Rollout::Settled => (false, false, false, true),
            Rollout::Unhealthy { .. } | Rollout::Paused => (false, false, false, false),
        };
        // What has stayed healthy is watched no more.
        let to_stay = ours && (complete || unready) && is_on_target(v, workload) && !steady.has(workload);
        let look = Look {
            template: workload.template(),
            rolling: (ours && rolling) || to_stay,
            unready: ours && unready,
            busy: !ours && unsettled,
            staying: (to_stay && complete).then_some(seen.evidence.restarts),
        };
        (workload.uid.as_str(), look)
    })
}
