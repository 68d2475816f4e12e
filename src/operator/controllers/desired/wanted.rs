//! Whether a BaseImage wants a candidate: whether it names it, and whether that is made of what it asks for today. Pure.
//!
//! Only the live BaseImage answers, because a cache may be older than the decision that hangs on it. What is not known is
//! waited for: nothing goes on, and nothing is given up, on a status that is older than the candidate or the spec.

use super::{
    ValidatedBaseImage, is_of,
    spec::{Inputs, Unusable, wanted_spec},
};
use crate::api::{BaseImage, ImageCandidate, ImageCandidateSpec};
use kube::{Resource, ResourceExt};

/// What the BaseImage of a candidate says about it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// It wants exactly this one.
    Yes,
    /// What it wants now is not said yet, or it may not have it: neither on nor out.
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

/// Whether it names this one; `current` is the live candidate that [`other`] names, if there is one.
pub fn named(candidate: &ImageCandidate, base: Option<&BaseImage>, current: Option<&ImageCandidate>) -> Wanted {
    let name = &candidate.spec.base_image;
    let gone = |why: String| Wanted::BaseImageGone { why };
    let Some(base) = base else {
        return gone(format!("BaseImage {name} is gone"));
    };
    if base.meta().deletion_timestamp.is_some() {
        return gone(format!("BaseImage {name} is being deleted"));
    }
    if !is_of(candidate, base) {
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
    match current {
        Some(current) if order(current) > order(candidate) => Wanted::No {
            instead: format!(
                "{} (tag {}, upstream digest {})",
                current.name_any(),
                current.spec.source_tag,
                current.spec.source_digest.short()
            ),
        },
        // Its status is older than this candidate, or names one that was deleted.
        Some(_) | None => unknown(format!(
            "BaseImage {name} has not said yet that it wants this candidate"
        )),
    }
}

/// The order in which candidates of one BaseImage were made. The time only decides between those without a number.
pub fn order(candidate: &ImageCandidate) -> (u64, Option<jiff::Timestamp>) {
    let created = candidate.creation_timestamp().map(|time| time.0);
    (candidate.spec.sequence, created)
}

/// Whether one that is named is made of what is asked for: upstream's digest, policies, customisation, places.
pub fn made_of(
    candidate: &ImageCandidate,
    base: &BaseImage,
    validated: &ValidatedBaseImage,
    inputs: &Inputs,
) -> Result<Wanted, Unusable> {
    let source = format!("{}:{}", validated.source, validated.tag);
    let status = base.status.as_ref();
    let upstream = status
        .filter(|status| status.source.as_deref() == Some(source.as_str()))
        .and_then(|status| status.upstream.as_ref());
    let Some(upstream) = upstream else {
        return Ok(Wanted::NotYetKnown {
            why: "the BaseImage has not looked its upstream tag up yet".to_owned(),
        });
    };
    let digest = upstream.held.as_ref().unwrap_or(&upstream.digest);
    let spec = wanted_spec(base, validated, inputs, digest)?;
    if spec.inputs_hash == candidate.spec.inputs_hash {
        return Ok(Wanted::Yes);
    }
    Ok(Wanted::No {
        instead: instead(candidate, &spec),
    })
}

/// The first difference that a person understands.
fn instead(candidate: &ImageCandidate, wanted: &ImageCandidateSpec) -> String {
    let own = &candidate.spec;
    if (&own.source, &own.source_tag) != (&wanted.source, &wanted.source_tag) {
        return format!("the BaseImage follows {}:{} now", wanted.source, wanted.source_tag);
    }
    if own.source_digest != wanted.source_digest {
        return format!(
            "the BaseImage wants {} of {}:{} now",
            wanted.source_digest.short(),
            wanted.source,
            wanted.source_tag
        );
    }
    let changed = if own.policies != wanted.policies {
        "another policy"
    } else if own.build != wanted.build {
        "another customisation"
    } else if own.verify != wanted.verify {
        "another verification of upstream"
    } else if own.promote != wanted.promote || own.staging != wanted.staging {
        "another place for the result"
    } else {
        "other inputs"
    };
    format!("the BaseImage asks for {changed} now")
}
