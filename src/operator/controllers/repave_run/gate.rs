//! Whether a run may start anything now. Pure, and asked again in every reconcile: a release can lose its proof, be
//! superseded, or its plan can be suspended at any time. Roll-outs that run are always finished or rolled back.

use super::{seen::Over, today, validate::Validated};
use crate::{
    api::{BaseImage, ImageCandidate, RepavePlan, phase::Phase},
    controllers::{
        conditions,
        desired::owner::not_owned,
        error::{Classified, one_line},
    },
    domain::{digest::Digest, lineage::Release},
};
use kube::ResourceExt as _;

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gate {
    /// It may; only with this a move can be made.
    Open(MayMove),
    /// Its plan is suspended.
    Suspended,
    /// The base image has another release now, perhaps the same digest as a newer release.
    Superseded {
        /// The digest of that release.
        by: Digest,
    },
    /// What ordered it is gone: it begins nothing more and ends when what is on its way has come to its end.
    Ended {
        /// PascalCase word.
        reason: &'static str,
        /// What is so, and what to do.
        message: String,
    },
    /// The proof or the order is missing.
    Shut {
        /// PascalCase word.
        reason: &'static str,
        /// What is so, and what to do.
        message: String,
    },
}

/// What a move needs. Only the gate gives it, so that nothing is moved that did not come through it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MayMove(());

#[cfg(test)]
impl Gate {
    /// A gate that is open without a question.
    pub fn open() -> Self {
        Self::Open(MayMove(()))
    }
}

impl Gate {
    /// Shut for a plan that selects more than it allows itself. One that is not open begins nothing either, and says why.
    #[must_use]
    pub fn shut_over(self, over: Over) -> Self {
        match self {
            Self::Open(_) => Self::Shut {
                reason: Over::REASON,
                message: format!(
                    "the plan selects {} workloads, more than {} (targets.maxTargets): nothing more is begun, and only what it has \
                     moved is looked at; narrow targets.selector, split the plan, or raise maxTargets",
                    over.selected, over.max
                ),
            },
            Self::Suspended | Self::Superseded { .. } | Self::Ended { .. } | Self::Shut { .. } => self,
        }
    }

    /// Whether something may be moved.
    pub fn is_open(&self) -> bool {
        self.may_move().is_some()
    }

    /// What a move needs, if it is open.
    pub fn may_move(&self) -> Option<&MayMove> {
        match self {
            Self::Open(may_move) => Some(may_move),
            Self::Suspended | Self::Superseded { .. } | Self::Ended { .. } | Self::Shut { .. } => None,
        }
    }

    /// Whether a wave may pass, so that the next one may begin: not in a run that is suspended or may not start anything.
    pub fn lets_pass(&self) -> bool {
        match self {
            Self::Open(_) | Self::Superseded { .. } | Self::Ended { .. } => true,
            Self::Suspended | Self::Shut { .. } => false,
        }
    }
}

/// Decides. `candidates` are those of the namespace; `recorded` is the target as the history of releases knows it: it proves
/// a target whose candidate was pruned.
pub fn gate(
    v: &Validated,
    plan: Option<&RepavePlan>,
    base_image: Option<&BaseImage>,
    candidates: &[ImageCandidate],
    recorded: Option<&Release>,
) -> Gate {
    let named = |name: &str| candidates.iter().find(|one| one.name_any() == name);
    let candidate = named(&v.candidate);
    let shut = |reason, message: String| Gate::Shut { reason, message };
    let ended = |reason, message: String| Gate::Ended { reason, message };
    let Some(base_image) = base_image else {
        return ended(
            "BaseImageMissing",
            format!(
                "BaseImage {} is gone: nothing more is moved to its release",
                v.base_image
            ),
        );
    };
    if let Some(why) = not_owned(base_image) {
        return shut("RepositoryTaken", why.to_owned());
    }
    let Some(plan) = plan else {
        return ended(
            "PlanMissing",
            format!("RepavePlan {} is gone: nothing orders this run any more", v.plan),
        );
    };
    if !today::names_base_image(plan, v) {
        return ended(
            "NotInPlan",
            format!(
                "RepavePlan {} does not name BaseImage {} any more",
                v.plan, v.base_image
            ),
        );
    }
    let released = base_image.status.as_ref().and_then(|status| status.released.as_ref());
    match released {
        None => return shut("NotReleased", format!("BaseImage {} has no release", v.base_image)),
        Some(release) if (&release.digest, release.sequence) != (&v.digest, v.sequence) => {
            return Gate::Superseded {
                by: release.digest.clone(),
            };
        }
        Some(_) => {}
    }
    if let Err((reason, message)) = proof(v, candidate, recorded) {
        return shut(reason, message);
    }
    let asked = base_image.status.as_ref().and_then(|status| status.candidate.as_ref());
    if let Some(refused) = asked
        .and_then(|asked| named(&asked.name))
        .filter(|today| refuses(v, today, candidate))
    {
        return shut(
            "RefusedToday",
            format!(
                "the same image with today's policy is {}, and it was rejected: nothing more is moved to {}; \
                 mend the policy, waive the finding, or revoke the release",
                refused.name_any(),
                v.digest.short()
            ),
        );
    }
    if plan.spec.suspend {
        Gate::Suspended
    } else {
        Gate::Open(MayMove(()))
    }
}

/// Shut because the plan, as it is now, cannot be read.
pub fn shut_by(error: &(impl Classified + 'static)) -> Gate {
    Gate::Shut {
        reason: error.reason(),
        message: format!("the plan cannot be read, so nothing is begun: {}", one_line(error)),
    }
}

fn proof(
    v: &Validated,
    candidate: Option<&ImageCandidate>,
    recorded: Option<&Release>,
) -> Result<(), (&'static str, String)> {
    let is_target = |release: &&Release| {
        release.base_image == v.base_image && release.digest == v.digest && release.repository == v.repository
    };
    if let Some(recorded) = recorded.filter(is_target) {
        let revoked = || {
            let message = format!("{} was revoked: nothing is moved to it", recorded.tag);
            Err(("Revoked", message))
        };
        return if recorded.revoked { revoked() } else { Ok(()) };
    }
    let Some(candidate) = candidate else {
        return Err((
            "CandidateMissing",
            format!(
                "ImageCandidate {} is gone, and with it the proof of the target",
                v.candidate
            ),
        ));
    };
    match release(candidate).filter(|release| is_target(&release)) {
        Some(_) => Ok(()),
        None => Err((
            "NotPromoted",
            format!(
                "ImageCandidate {} does not say that {}@{} was promoted: nothing is moved to it",
                v.candidate, v.repository, v.digest
            ),
        )),
    }
}

/// Whether `today`, the candidate that the base image asks for now, says that the target's image does not pass any more: it
/// is the same image, judged by other policies, and it was rejected. A finding that a newer vulnerability database brings
/// does not: the older images that the workloads run on have it too.
fn refuses(v: &Validated, today: &ImageCandidate, target: Option<&ImageCandidate>) -> bool {
    let Some(status) = today.status.as_ref() else {
        return false;
    };
    let same_inputs = |target: &ImageCandidate| {
        (&target.spec.source_digest, &target.spec.build) == (&today.spec.source_digest, &today.spec.build)
    };
    today.spec.base_image == v.base_image
        && today.name_any() != v.candidate
        && Phase::of(status) == Phase::Rejected
        && (status.built_digest.as_ref() == Some(&v.digest) || target.is_some_and(same_inputs))
}

/// The release that a candidate is the proof of: only a promoted one is one.
pub fn release(candidate: &ImageCandidate) -> Option<Release> {
    let status = candidate.status.as_ref()?;
    if !conditions::is_true(&status.conditions, "Promoted") {
        return None;
    }
    let promoted = status.promoted.as_ref()?;
    Some(Release {
        base_image: candidate.spec.base_image.clone(),
        candidate: candidate.metadata.name.clone()?,
        repository: promoted.repository.clone(),
        digest: promoted.digest.clone(),
        tag: promoted.tag.clone(),
        chain_id: promoted.chain_id.clone(),
        layers: promoted.layers as usize,
        sequence: candidate.spec.sequence,
        promoted_at: promoted.at.0,
        revoked: false,
    })
}
