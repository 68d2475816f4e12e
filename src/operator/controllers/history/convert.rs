//! Between candidates, statuses, lineage and the history. Pure. How rows are stored: `api::release_history`.

use crate::{
    api::{
        ImageCandidate,
        base_image::{Release as Released, RevokedRelease},
    },
    controllers::repave_run::gate,
    domain::{
        digest::Digest,
        history::History,
        image_ref::Repository,
        lineage::Release,
        promotion::{Entry, Promotion, Revocation},
    },
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::collections::HashSet;

/// Revoked releases in a BaseImage's status; all of them are in its history.
const MAX_REVOKED_SHOWN: usize = 20;

/// What a candidate promoted, if it did.
pub fn promotion(candidate: &ImageCandidate) -> Option<Promotion> {
    let release = gate::release(candidate)?;
    Some(Promotion {
        sequence: candidate.spec.sequence,
        digest: release.digest,
        source_digest: candidate.spec.source_digest.clone(),
        chain_id: release.chain_id,
        layers: u32::try_from(release.layers).unwrap_or(u32::MAX),
        repository: release.repository,
        tag: release.tag,
        candidate: release.candidate,
        promoted_at: release.promoted_at,
    })
}

/// As the BaseImage's status shows it.
pub fn released(entry: &Entry) -> Released {
    let promotion = &entry.promotion;
    Released {
        digest: promotion.digest.clone(),
        repository: Some(promotion.repository.clone()),
        tag: promotion.tag.clone(),
        source_digest: promotion.source_digest.clone(),
        candidate: promotion.candidate.clone(),
        sequence: promotion.sequence,
        promoted_at: Time(promotion.promoted_at),
    }
}

/// What the BaseImage's status shows of what was taken back: the newest 20.
pub fn revoked(history: &History) -> Vec<RevokedRelease> {
    history.revoked().take(MAX_REVOKED_SHOWN).map(revoked_release).collect()
}

/// One that was taken back, as the status shows it.
pub fn revoked_release((promotion, revocation): (&Promotion, &Revocation)) -> RevokedRelease {
    RevokedRelease {
        digest: promotion.digest.clone(),
        repository: Some(promotion.repository.clone()),
        tag: promotion.tag.clone(),
        at: Time(revocation.at),
        by: revocation.by.clone(),
        reason: revocation.reason.clone(),
    }
}

/// Every release of the histories, as lineage knows it, and those of candidates that no history has yet.
pub fn releases(histories: &[(String, History)], candidates: &[ImageCandidate]) -> Vec<Release> {
    let mut known = Vec::new();
    for (base_image, history) in histories {
        known.extend(history.entries().iter().map(|entry| release(entry, base_image)));
    }
    let key = |one: &Release| (one.base_image.clone(), one.digest.clone(), one.repository.clone());
    let mut keys: HashSet<_> = known.iter().map(key).collect();
    known.extend(
        candidates
            .iter()
            .filter_map(gate::release)
            .filter(|release| keys.insert(key(release))),
    );
    known
}

/// One release as the history of its base image knows it.
pub fn recorded(
    histories: &[(String, History)],
    base_image: &str,
    repository: &Repository,
    digest: &Digest,
) -> Option<Release> {
    let (_, history) = histories.iter().find(|(name, _)| name == base_image)?;
    let is_it = |entry: &&Entry| entry.promotion.digest == *digest && entry.promotion.repository == *repository;
    history
        .entries()
        .iter()
        .find(is_it)
        .map(|entry| release(entry, base_image))
}

fn release(entry: &Entry, base_image: &str) -> Release {
    let promotion = &entry.promotion;
    Release {
        base_image: base_image.to_owned(),
        candidate: promotion.candidate.clone(),
        repository: promotion.repository.clone(),
        digest: promotion.digest.clone(),
        tag: promotion.tag.clone(),
        chain_id: promotion.chain_id.clone(),
        layers: promotion.layers as usize,
        sequence: promotion.sequence,
        promoted_at: promotion.promoted_at,
        revoked: entry.revocation().is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use serde_json::json;

    #[test]
    fn lineage_comes_from_the_history_first_and_from_candidates_for_what_it_lacks() {
        let promoted = |sequence: u64| Promotion {
            sequence,
            digest: Digest::of(&[u8::try_from(sequence).unwrap()]),
            source_digest: Digest::of(b"s"),
            chain_id: Digest::of(b"c"),
            layers: 3,
            repository: "r.test/debian".parse().unwrap(),
            tag: format!("12-{sequence}"),
            candidate: "debian-12-a".into(),
            promoted_at: Timestamp::UNIX_EPOCH,
        };
        let mut history = History::seed([1, 2, 3].map(promoted).to_vec(), None);
        let revocation = Revocation {
            at: Timestamp::UNIX_EPOCH,
            by: None,
            reason: "CVE-1".into(),
        };
        history.take_back([(&Digest::of(&[1]), revocation)]);
        let candidate = |digest: &Digest, sequence: u64| -> ImageCandidate {
            serde_json::from_value(json!({
                "apiVersion": "repave.dev/v1alpha1", "kind": "ImageCandidate",
                "metadata": {"name": format!("debian-12-{sequence}"), "namespace": "platform"},
                "spec": {"baseImage": "debian-12", "sequence": sequence, "source": "up.test/debian", "sourceTag": "12",
                         "sourceDigest": Digest::of(b"s"), "inputsHash": Digest::of(b"i"), "staging": "r.test/debian-staging",
                         "build": {}, "policies": [],
                         "promote": {"repository": "r.test/debian", "channelTag": "12", "signing": {"keyRef": {"name": "k"}}}},
                "status": {"result": "Passed",
                           "promoted": {"repository": "r.test/debian", "digest": digest, "tag": "t", "chainId": Digest::of(b"c"),
                                        "layers": 3, "at": "2026-01-05T00:00:00Z"},
                           "conditions": [{"type": "Promoted", "status": "True", "reason": "P", "message": "",
                                           "lastTransitionTime": "2026-01-05T00:00:00Z"}]}
            }))
            .unwrap()
        };
        let candidates = [candidate(&Digest::of(&[3]), 9), candidate(&Digest::of(b"new"), 10)];
        let releases = releases(&[("debian-12".to_owned(), history)], &candidates);
        let shown: Vec<(u64, bool)> = releases.iter().map(|one| (one.sequence, one.revoked)).collect();
        assert_eq!(shown, [(3, false), (2, false), (1, true), (10, false)]);
        let promotion = promotion(&candidates[1]).unwrap();
        assert_eq!(
            (promotion.sequence, promotion.promoted_at),
            (10, "2026-01-05T00:00:00Z".parse::<Timestamp>().unwrap())
        );
    }
}
