//! What is looked for in the estate, what was found, and why it could not be read: types only.

use super::{steady::Steady, validate::Scope};
use crate::{
    api::BaseImage,
    controllers::{
        access::{Account, Barred, NoAnswer},
        error::{Class, Classified, WAIT},
        inventory::{CountedKind, NotSynced, Unread},
        paging::ListError,
    },
    domain::{
        digest::Digest,
        image_ref::{ImageRef, Repository},
        lineage::{Lineage, ReleaseIndex},
        moved::Moved,
        pod::PodEvidence,
        workload::{Container, Rollout, Workload, WorkloadKey},
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Why the estate could not be read.
#[derive(Debug, thiserror::Error)]
pub enum EstateError {
    /// A list failed.
    #[error("the workloads could not be listed: {0}")]
    List(#[from] ListError),
    /// The first list is not there.
    #[error(transparent)]
    NotSynced(#[from] NotSynced),
    /// Nobody said what the plan may do.
    #[error(transparent)]
    Access(#[from] NoAnswer),
    /// More than the plan allows itself.
    #[error(
        "the plan selects more than {0} workloads (targets.maxTargets): narrow targets.selector, split the plan, or raise maxTargets"
    )]
    TooMany(usize),
}

impl Classified for EstateError {
    fn reason(&self) -> &'static str {
        match self {
            Self::List(_) => "KubernetesUnavailable",
            Self::NotSynced(_) => "EstateNotListed",
            Self::Access(error) => error.reason(),
            Self::TooMany(_) => Over::REASON,
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::List(_) => Class::Transient,
            Self::NotSynced(_) => Class::Waiting(WAIT),
            Self::Access(error) => error.class(),
            Self::TooMany(_) => Class::Stalled,
        }
    }
}

/// One workload with what was found out about it.
#[derive(Debug, Clone, PartialEq)]
pub struct ObservedWorkload {
    /// The workload.
    pub workload: Arc<Workload>,
    /// What each of its containers runs, in the same order.
    pub images: Vec<RunningImage>,
    /// What its pods with the target image say; empty unless it was asked for.
    pub evidence: PodEvidence,
    /// What its ReplicaSets say about who set it back.
    pub led_away: LedAway,
    /// Why nothing new is begun on it, whatever its state.
    pub barred: Option<Barred>,
}

/// From which move of ours somebody led a workload away, as its ReplicaSets tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LedAway {
    /// They were not asked.
    NotAsked,
    /// From none.
    FromNone,
    /// From this one.
    From(Box<Moved>),
}

/// What a container runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningImage {
    /// Where its image comes from.
    pub repository: Option<Repository>,
    /// Its digest.
    pub digest: Option<Digest>,
    /// What that image is.
    pub lineage: Lineage,
}

/// An object of a kind that cannot be rolled yet and has an image from a repository of the releases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherKind {
    /// Its kind.
    pub kind: CountedKind,
    /// `namespace/name`.
    pub name: String,
    /// Its images.
    pub images: Vec<ImageRef>,
}

/// The estate of one plan.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Estate {
    /// All workloads in scope that the plan may see, sorted by namespace and name.
    pub workloads: Vec<Arc<ObservedWorkload>>,
    /// What other runs of the plan have in flight elsewhere.
    pub elsewhere: Vec<Arc<ObservedWorkload>>,
    /// How many images have no known ancestry.
    pub unknown: usize,
    /// How many images are still to be looked up.
    pub not_yet: usize,
    /// The workloads that were read live: only these are written.
    pub live: BTreeSet<WorkloadKey>,
    /// Objects of other kinds that may be on a release.
    pub others: Vec<OtherKind>,
    /// How many selected namespaces with workloads the plan may not see.
    pub hidden: usize,
    /// The plan selects more than it allows itself: the workloads are only those that its runs have moved.
    pub over: Option<Over>,
    /// Selected namespaces that the operator does not watch.
    pub unread: BTreeMap<Unread, usize>,
    /// Selected namespaces whose pods may not be read, though something is decided on them.
    pub silent: BTreeSet<String>,
    /// How many of the selected namespaces are not seen whole, of those that the plan is to reach: a plan without an account reaches its
    /// own only.
    pub unseen: usize,
}

impl Estate {
    /// Whether what is not among the workloads is not there. Otherwise it may only be hidden: nothing passes by its absence.
    pub fn is_whole(&self) -> bool {
        self.over.is_none() && self.unseen == 0
    }
}

/// A plan selects more than it allows itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Over {
    /// How many it selects.
    pub selected: usize,
    /// How many it allows itself.
    pub max: usize,
}

impl Over {
    /// The reason, in one word.
    pub const REASON: &str = "TooManyWorkloads";
}

/// What to look for.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    /// Where.
    pub scope: &'a Scope,
    /// The known releases.
    pub releases: &'a ReleaseIndex,
    /// The image whose pods are asked how they do, on workloads with this run's mark.
    pub supervised: Option<Supervised<'a>>,
}

/// What is asked how it does.
#[derive(Debug, Clone, Copy)]
pub struct Supervised<'a> {
    /// The mark of the run.
    pub run_ref: &'a str,
    /// The image that it moves to.
    pub image: &'a ImageRef,
    /// What has stayed healthy, and is asked no more.
    pub steady: &'a Steady,
}

impl Supervised<'_> {
    /// Whether the pods of a workload are needed: it was moved by the run and has not settled or not stayed so.
    pub fn needs(self, workload: &Workload) -> bool {
        let is_new = |container: &Container| self.image.is_written_as(&container.image);
        let moved = workload.is_of_run(self.run_ref);
        let on_target = moved && workload.containers.iter().any(is_new);
        on_target && (workload.rollout != Rollout::Settled || !self.steady.has(workload))
    }
}

/// What to look for, and on whose behalf.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// What to look for.
    pub query: Query<'a>,
    /// What the plan selects today, where that may be less than the scope.
    pub today: Option<&'a Scope>,
    /// Who the plan acts as.
    pub account: &'a Account,
    /// Namespace of the plan and of the base image.
    pub namespace: &'a str,
    /// Name of the plan.
    pub plan: &'a str,
    /// The base image: its credentials read layers at its own registries.
    pub base_image: Option<&'a BaseImage>,
    /// Workloads in scope beyond which nothing is begun.
    pub max_targets: usize,
}
