//! Which digest of upstream is wanted, which candidate answers for it, and what is made. Pure: data in, data out.
//!
//! Order is by sequence and by nothing else: no time, no retry and no second look can move it. What is released is decided
//! before, in `controllers/history`. Must not touch a registry: where the channel tag points is decided in `channel.rs`, from
//! the release that the status already names.

use super::{facts::Observed, findings};
use crate::{
    api::{
        BaseImage, ImageCandidate, ImageCandidateSpec,
        base_image::{OnUpstreamRollback, Release},
        image_candidate::CandidateResult,
        refs::{ANNOTATION_URGENT, LABEL_BASE_IMAGE},
    },
    controllers::desired::{
        ValidatedBaseImage,
        spec::{Unusable, wanted_spec},
    },
    domain::digest::Digest,
};
use kube::{Resource, ResourceExt};

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Make this candidate; its name says all that decides about it, so making it twice is making it once.
    CreateCandidate(Box<ImageCandidate>),
}

/// What upstream's tag says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Followed {
    /// The digest that the tag points to is wanted.
    Tag(Digest),
    /// The tag went back to a digest that was there before what is released: a replay until somebody says otherwise.
    Replay {
        /// What the tag points to.
        found: Digest,
        /// What stays wanted: what the release was built from.
        held: Digest,
    },
}

impl Followed {
    /// The digest that is wanted.
    pub fn wanted(&self) -> &Digest {
        match self {
            Self::Tag(digest) => digest,
            Self::Replay { held, .. } => held,
        }
    }
}

/// The candidate that answers for what is wanted.
#[derive(Debug, Clone, PartialEq)]
pub enum Wanted {
    /// It is there.
    There(Box<ImageCandidate>),
    /// None of those that are there; this one would.
    New(Box<ImageCandidate>),
}

/// What follows from what was observed.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// What upstream's tag says.
    pub followed: Followed,
    /// The candidate for what is wanted.
    pub wanted: Wanted,
    /// What is made.
    pub actions: Vec<Action>,
}

/// Decides.
pub fn decide(base: &BaseImage, validated: &ValidatedBaseImage, observed: &Observed) -> Result<Decision, Unusable> {
    let released = observed.released.as_ref();
    let followed = followed(base, validated, observed, released);
    let spec = wanted_spec(base, validated, &observed.inputs, followed.wanted())?;
    let wanted = wanted(base, validated, observed, released, spec);
    let actions = match &wanted {
        Wanted::New(candidate) if !base.spec.suspend => {
            let mut candidate = candidate.clone();
            if let Some(why) = findings::urgency(base, &observed.candidates) {
                candidate.annotations_mut().insert(ANNOTATION_URGENT.to_owned(), why);
            }
            vec![Action::CreateCandidate(candidate)]
        }
        Wanted::New(_) | Wanted::There(_) => Vec::new(),
    };
    Ok(Decision {
        followed,
        wanted,
        actions,
    })
}

/// A digest is a replay if the last time that this tag gave it was before what is released. What is released itself never is,
/// and what a person follows on purpose is not any more, because its new candidate comes after the release.
fn followed(
    base: &BaseImage,
    validated: &ValidatedBaseImage,
    observed: &Observed,
    released: Option<&Release>,
) -> Followed {
    let found = observed.upstream.clone();
    let Some(released) = released.filter(|released| released.source_digest != found) else {
        return Followed::Tag(found);
    };
    let of_this_tag = |candidate: &&ImageCandidate| {
        candidate.spec.source == validated.source && candidate.spec.source_tag == validated.tag
    };
    // Who names another tag in the spec goes where that tag is: that is an order, and no replay.
    let proof = observed
        .candidates
        .iter()
        .find(|one| one.name_any() == released.candidate);
    let from_this_tag = proof.as_ref().is_none_or(of_this_tag);
    // After a release was taken back, the one before is out again under a new number: what counts is when it was proven.
    let proven = proof.map_or(released.sequence, |proof| proof.spec.sequence);
    let last_seen = observed
        .candidates
        .iter()
        .filter(of_this_tag)
        .filter(|candidate| candidate.spec.source_digest == found)
        .map(|candidate| candidate.spec.sequence)
        .max();
    let replay = from_this_tag && last_seen.is_some_and(|sequence| sequence < proven);
    match base.spec.source.on_upstream_rollback {
        OnUpstreamRollback::Hold if replay => Followed::Replay {
            found,
            held: released.source_digest.clone(),
        },
        OnUpstreamRollback::Hold | OnUpstreamRollback::Follow => Followed::Tag(found),
    }
}

/// The newest candidate, or else the released one, if it was made for exactly this; otherwise a new one, also when an older
/// candidate had the same inputs: going back is a release like any other.
fn wanted(
    base: &BaseImage,
    validated: &ValidatedBaseImage,
    observed: &Observed,
    released: Option<&Release>,
    spec: ImageCandidateSpec,
) -> Wanted {
    let fits = |candidate: &&ImageCandidate| candidate.spec.inputs_hash == spec.inputs_hash;
    let newest = newest(&observed.candidates)
        .filter(fits)
        .filter(|one| !is_superseded(one));
    let of_release = |released: &Release| {
        let mut all = observed.candidates.iter();
        all.find(|one| one.name_any() == released.candidate).filter(fits)
    };
    match newest.or_else(|| released.and_then(of_release)) {
        Some(candidate) => Wanted::There(Box::new(candidate.clone())),
        None => Wanted::New(Box::new(new_candidate(base, validated, observed, spec))),
    }
}

/// The candidate with the greatest sequence.
pub fn newest(candidates: &[ImageCandidate]) -> Option<&ImageCandidate> {
    candidates
        .iter()
        .max_by_key(|one| (one.spec.sequence, one.creation_timestamp(), one.name_any()))
}

/// Whether it was given up for good because something else was wanted. If it is wanted again, that takes a new one.
fn is_superseded(candidate: &ImageCandidate) -> bool {
    match candidate.status.as_ref().and_then(|status| status.result) {
        Some(CandidateResult::Superseded) => true,
        Some(
            CandidateResult::Running
            | CandidateResult::Passed
            | CandidateResult::Rejected
            | CandidateResult::Waiting
            | CandidateResult::Error,
        )
        | None => false,
    }
}

fn new_candidate(
    base: &BaseImage,
    validated: &ValidatedBaseImage,
    observed: &Observed,
    mut spec: ImageCandidateSpec,
) -> ImageCandidate {
    spec.sequence = next_sequence(base, observed);
    let name = candidate_name(base, &spec, &observed.candidates);
    let mut candidate = ImageCandidate::new(&name, spec);
    candidate.metadata.namespace = Some(validated.namespace.clone());
    candidate.metadata.labels = Some([(LABEL_BASE_IMAGE.to_owned(), base.name_any())].into());
    candidate.metadata.owner_references = base.controller_owner_ref(&()).map(|owner| vec![owner]);
    candidate
}

/// `<base image>-<12 digits of the inputs>`; where an older candidate has that name, the end is `-<sequence>`. Always of the
/// same length, because names of Jobs are made from it.
fn candidate_name(base: &BaseImage, spec: &ImageCandidateSpec, candidates: &[ImageCandidate]) -> String {
    let plain = format!("{}-{}", base.name_any(), spec.inputs_hash.short());
    if candidates.iter().all(|one| one.name_any() != plain) {
        return plain;
    }
    let end = format!("-{}", spec.sequence);
    let digits = spec.inputs_hash.short().len().saturating_sub(end.len());
    format!("{}-{}{end}", base.name_any(), &spec.inputs_hash.short()[..digits])
}

/// One more than any candidate or release of this base image has.
fn next_sequence(base: &BaseImage, observed: &Observed) -> u64 {
    let released = base.status.as_ref().and_then(|status| status.released.as_ref());
    let known = observed.candidates.iter().map(|candidate| candidate.spec.sequence);
    known
        .chain(released.map(|release| release.sequence))
        .chain([observed.last_sequence])
        .max()
        .unwrap_or(0)
        .saturating_add(1)
}

#[cfg(test)]
mod tests;
