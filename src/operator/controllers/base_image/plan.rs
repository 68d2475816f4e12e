//! Decides whether a new candidate is needed. Pure: data in, actions out.

use super::{findings, observe::Observed, validate::Wish};
use crate::{
    api::{
        BaseImage, ImageCandidate, ImageCandidateSpec,
        refs::{ANNOTATION_URGENT, LABEL_BASE_IMAGE},
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

/// The actions for this BaseImage.
pub fn plan(base: &BaseImage, wish: &Wish, observed: &Observed) -> Vec<Action> {
    let wanted = candidate(base, wish, observed);
    let exists = observed.candidates.iter().any(|c| c.name_any() == wanted.name_any());
    if exists || base.spec.suspend {
        Vec::new()
    } else {
        let mut wanted = wanted;
        if let Some(why) = findings::urgency(base, &observed.candidates) {
            wanted.annotations_mut().insert(ANNOTATION_URGENT.to_owned(), why);
        }
        vec![Action::CreateCandidate(Box::new(wanted))]
    }
}

/// The candidate that the world as observed asks for.
pub fn candidate(base: &BaseImage, wish: &Wish, observed: &Observed) -> ImageCandidate {
    let mut spec = ImageCandidateSpec {
        base_image: base.name_any(),
        sequence: 0,
        source: wish.source.clone(),
        source_tag: wish.tag.clone(),
        source_digest: observed.upstream.clone(),
        inputs_hash: Digest::of(b""),
        staging: wish.staging.clone(),
        pull_secret_ref: base.spec.source.pull_secret_ref.clone(),
        verify: base.spec.verify.clone(),
        build: observed.build.clone(),
        policies: observed.policies.clone(),
        promote: base.spec.promote.clone(),
    };
    spec.inputs_hash = inputs_hash(&spec);
    spec.sequence = next_sequence(base, observed);
    let name = format!("{}-{}", base.name_any(), spec.inputs_hash.short());
    let mut candidate = ImageCandidate::new(&name, spec);
    candidate.metadata.namespace = Some(wish.namespace.clone());
    candidate.metadata.labels = Some([(LABEL_BASE_IMAGE.to_owned(), base.name_any())].into());
    candidate.metadata.owner_references = base.controller_owner_ref(&()).map(|owner| vec![owner]);
    candidate
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

/// Over everything that decides the outcome. Field order is that of the type, so the hash is stable.
fn inputs_hash(spec: &ImageCandidateSpec) -> Digest {
    // `inputs_hash` itself is still the constant of an empty text here, and `sequence` is 0 and left out.
    Digest::of(&serde_json::to_vec(spec).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::image_candidate::BuildInputs;
    use serde_json::json;

    fn base() -> BaseImage {
        serde_json::from_value(json!({
            "apiVersion": "repave.dev/v1alpha1", "kind": "BaseImage",
            "metadata": {"name": "debian-12", "namespace": "platform", "uid": "u"},
            "spec": {
                "source": {"image": "up.example.com/debian", "track": {"tag": "12"}},
                "policyRefs": [{"name": "hardened"}],
                "promote": {"repository": "prod.example.com/debian", "channelTag": "12", "signing": {"keyRef": {"name": "k"}}}
            }
        }))
        .unwrap()
    }

    fn observed(upstream: &[u8]) -> Observed {
        Observed {
            upstream: Digest::of(upstream),
            policies: Vec::new(),
            build: BuildInputs::default(),
            candidates: Vec::new(),
            last_sequence: 0,
        }
    }

    #[test]
    fn the_same_world_always_asks_for_the_same_candidate_and_only_once() {
        let base = base();
        let wish = super::super::validate::validate(&base).unwrap();
        let mut observed = observed(b"v1");
        let first = plan(&base, &wish, &observed);
        assert_eq!(first, plan(&base, &wish, &observed));
        let [Action::CreateCandidate(candidate)] = first.as_slice() else {
            panic!("{first:?}")
        };
        assert_eq!(candidate.spec.staging.to_string(), "prod.example.com/debian-staging");
        observed.candidates.push((**candidate).clone());
        assert_eq!(plan(&base, &wish, &observed), []);
    }

    #[test]
    fn another_digest_or_another_customisation_is_another_candidate() {
        let base = base();
        let wish = super::super::validate::validate(&base).unwrap();
        let (one, two) = (observed(b"v1"), observed(b"v2"));
        let mut three = observed(b"v1");
        three.build.containerfile = "USER 1".into();
        let names: std::collections::BTreeSet<_> = [&one, &two, &three]
            .map(|o| candidate(&base, &wish, o).name_any())
            .into();
        assert_eq!(names.len(), 3);
    }

    #[test]
    fn a_candidate_comes_after_every_candidate_and_release_and_its_place_is_no_input() {
        let mut base = base();
        let wish = super::super::validate::validate(&base).unwrap();
        let mut observed = observed(b"v1");
        let first = candidate(&base, &wish, &observed);
        assert_eq!(first.spec.sequence, 1);
        let mut other = first.clone();
        other.spec.sequence = 4;
        observed.candidates = vec![other, first.clone()];
        let next = candidate(&base, &wish, &observed);
        assert_eq!(next.spec.sequence, 5);
        assert_eq!(next.spec.inputs_hash, first.spec.inputs_hash);
        base.status = serde_json::from_value(json!({"released": {
            "digest": Digest::of(b"b"), "tag": "t", "sourceDigest": Digest::of(b"v0"), "candidate": "pruned", "sequence": 9,
            "promotedAt": "2026-01-01T00:00:00Z"}}))
        .unwrap();
        assert_eq!(candidate(&base, &wish, &observed).spec.sequence, 10);
        observed.last_sequence = 12;
        assert_eq!(candidate(&base, &wish, &observed).spec.sequence, 13);
    }

    #[test]
    fn a_suspended_base_image_starts_nothing() {
        let mut base = base();
        base.spec.suspend = true;
        let wish = super::super::validate::validate(&base).unwrap();
        assert_eq!(plan(&base, &wish, &observed(b"v1")), []);
    }
}
