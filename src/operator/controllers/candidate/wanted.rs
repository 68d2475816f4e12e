//! Whether a BaseImage still wants a candidate. Pure.
//!
//! Only the live BaseImage answers, because a cache may be older than the decision that hangs on it. What is not known is
//! waited for: nothing goes on, and nothing is given up, on a status that is older than the candidate or the spec.

use crate::api::{BaseImage, ImageCandidate};
use kube::{Resource, ResourceExt};

/// What the BaseImage of a candidate says about it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// It wants exactly this one.
    Yes,
    /// Its controller has not yet said what it wants now: neither on nor out.
    NotYetKnown {
        /// What is awaited.
        why: String,
    },
    /// It is suspended: no new step.
    Suspended,
    /// It wants a later candidate.
    No {
        /// That candidate, in words.
        instead: String,
    },
    /// It is gone, or another one has its name: nobody wants this.
    BaseImageGone {
        /// What was found.
        why: String,
    },
}

/// The candidate that a BaseImage names as its current one, if that is not this one.
pub fn other<'a>(candidate: &ImageCandidate, base: &'a BaseImage) -> Option<&'a str> {
    let named = base.status.as_ref()?.candidate.as_ref()?;
    Some(named.name.as_str()).filter(|name| *name != candidate.name_any())
}

/// Decides it; `named` is the live candidate that [`other`] names, if there is one.
pub fn wanted(candidate: &ImageCandidate, base: Option<&BaseImage>, named: Option<&ImageCandidate>) -> Wanted {
    let name = &candidate.spec.base_image;
    let gone = |why: String| Wanted::BaseImageGone { why };
    let Some(base) = base else {
        return gone(format!("BaseImage {name} is gone"));
    };
    if base.meta().deletion_timestamp.is_some() {
        return gone(format!("BaseImage {name} is being deleted"));
    }
    if !is_owner(base, candidate) {
        return gone(format!(
            "this candidate was not made by the BaseImage {name} that is there now (UID {}): delete it",
            base.uid().unwrap_or_default()
        ));
    }
    if base.spec.suspend {
        return Wanted::Suspended;
    }
    let unknown = |why: String| Wanted::NotYetKnown { why };
    let status = base.status.clone().unwrap_or_default();
    if status.observed_generation != base.metadata.generation {
        return unknown(format!(
            "BaseImage {name} has changed, and what it wants now is being found out"
        ));
    }
    if status.candidate.is_none() {
        return unknown(format!("BaseImage {name} has not said yet which candidate it wants"));
    }
    if other(candidate, base).is_none() {
        return Wanted::Yes;
    }
    match named {
        Some(named) if order(named) > order(candidate) => Wanted::No {
            instead: format!(
                "{} (tag {}, upstream digest {})",
                named.name_any(),
                named.spec.source_tag,
                named.spec.source_digest.short()
            ),
        },
        // Its status is older than this candidate, or names one that was deleted.
        Some(_) | None => unknown(format!(
            "BaseImage {name} has not said yet that it wants this candidate"
        )),
    }
}

/// Whether this object, and not one of the same name before or after it, made the candidate.
fn is_owner(base: &BaseImage, candidate: &ImageCandidate) -> bool {
    let Some(uid) = base.uid() else {
        return false;
    };
    let owners = candidate.owner_references().iter();
    owners
        .filter(|owner| owner.controller == Some(true))
        .any(|owner| owner.uid == uid)
}

/// The order in which candidates of one BaseImage were made. The time only decides between those without a number.
fn order(candidate: &ImageCandidate) -> (u64, Option<jiff::Timestamp>) {
    let created = candidate.creation_timestamp().map(|time| time.0);
    (candidate.spec.sequence, created)
}
