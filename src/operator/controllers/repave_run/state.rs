//! The states that a target can be in. Data only: `judge.rs` tells which, `target.rs` what follows for the counts.

use crate::{
    controllers::access::Barred,
    domain::{
        image_ref::{ImageRef, Repository},
        lineage::Release,
        ownership::Owner,
    },
};
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
        /// Whether it may get them now: a patch that was refused is tried again after a pause.
        due: bool,
        /// Why.
        reason: String,
        /// What it gets back, per container.
        previous: BTreeMap<String, ImageRef>,
    },
    /// Healthy on the target.
    Done,
    /// It did not become or stay healthy in our roll-out, and was left as it is.
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
    /// Somebody set its image back after it was moved.
    Reverted,
    /// It is on the target, in a roll-out that this run did not cause.
    RolledByOthers,
    /// It is on the target, and the record of our move is gone, so nobody can tell whose roll-out this is.
    NoRecord,
    /// It was busy with a roll-out of its own for longer than one may take.
    Busy,
    /// The API server refused to change it, more than once.
    Refused {
        /// In these words.
        words: String,
        /// Whether it counts against the failure budget.
        counts: bool,
    },
    /// It is not healthy on the target, where this run moved it long before its status began: nobody can tell any more whether
    /// it was healthy there.
    MovedLongAgo(String),
    /// It is not healthy on the target, and its move has a time that no clock believes: nobody can tell whether it was healthy
    /// until its wave had soaked.
    TimeNotBelieved(String),
    /// Another plan moved it, and the run of that plan is at work. Its name only where it is no secret.
    OtherPlan(Option<String>),
    /// The run of another base image of this plan moved it, and is at work.
    OtherRun(String),
    /// It runs a newer release.
    Newer(Release),
    /// A newer release has its own run.
    Superseded,
    /// What ordered the run is gone.
    RunEnded,
    /// The plan may not, or does not want to, move it.
    Barred(Barred),
}
