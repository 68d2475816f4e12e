//! Between candidates, statuses, lineage and the history. Pure. How rows are stored: `api::release_history`.

use crate::{
    api::{
        BaseImageStatus, ImageCandidate,
        base_image::{Release as Released, RevokedRelease},
    },
    controllers::repave_run::gate,
    domain::{
        digest::Digest,
        history::{History, Shown},
        image_ref::Repository,
        lineage::Release,
        promotion::{Entry, Promotion},
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
        chain_id: Some(release.chain_id),
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
    history
        .revoked()
        .take(MAX_REVOKED_SHOWN)
        .map(RevokedRelease::of)
        .collect()
}

/// What a status shows, for a history that is lost. A status of an older version does not say where it released to; then it is
/// the production repository.
pub fn shown(status: &BaseImageStatus, production: &Repository) -> Shown {
    let released = status.released.as_ref().map(|one| Promotion {
        sequence: one.sequence,
        digest: one.digest.clone(),
        source_digest: one.source_digest.clone(),
        chain_id: None,
        layers: 0,
        repository: one.repository.clone().unwrap_or_else(|| production.clone()),
        tag: one.tag.clone(),
        candidate: one.candidate.clone(),
        promoted_at: one.promoted_at.0,
    });
    Shown {
        released,
        revoked: status.revoked.iter().map(RevokedRelease::unlisted).collect(),
    }
}

/// Whether a status shows all that its history knows of what was taken back.
pub fn shows_all(history: &History) -> bool {
    history.revoked().count() <= MAX_REVOKED_SHOWN
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

/// Marks what the status of a base image shows as taken back: its history may be lost, and a candidate does not know it.
pub fn take_back_what_is_shown(known: &mut [Release], base_image: &str, status: &BaseImageStatus) {
    let shown: HashSet<&Digest> = status.revoked.iter().map(|one| &one.digest).collect();
    let ours = known.iter_mut().filter(|release| release.base_image == base_image);
    ours.filter(|release| shown.contains(&release.digest))
        .for_each(|release| release.revoked = true);
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
    // No image is ever "built on" a release whose layers are not known.
    let (chain_id, layers) = match &promotion.chain_id {
        Some(chain_id) => (chain_id.clone(), promotion.layers as usize),
        None => (promotion.digest.clone(), usize::MAX),
    };
    Release {
        base_image: base_image.to_owned(),
        candidate: promotion.candidate.clone(),
        repository: promotion.repository.clone(),
        digest: promotion.digest.clone(),
        tag: promotion.tag.clone(),
        chain_id,
        layers,
        sequence: promotion.sequence,
        promoted_at: promotion.promoted_at,
        revoked: entry.revocation().is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::promotion::{Revocation, UnlistedRevocation};
    use jiff::Timestamp;
    use serde_json::json;

    #[test]
    fn lineage_comes_from_the_history_first_and_from_candidates_for_what_it_lacks() {
        let promoted = |sequence: u64| Promotion {
            sequence,
            digest: Digest::of(&[u8::try_from(sequence).unwrap()]),
            source_digest: Digest::of(b"s"),
            chain_id: Some(Digest::of(b"c")),
            layers: 3,
            repository: "r.test/debian".parse().unwrap(),
            tag: format!("12-{sequence}"),
            candidate: "debian-12-a".into(),
            promoted_at: Timestamp::UNIX_EPOCH,
        };
        let revocation = Revocation {
            at: Timestamp::UNIX_EPOCH,
            by: None,
            reason: "CVE-1".into(),
        };
        let shown = Shown {
            revoked: vec![UnlistedRevocation {
                digest: Digest::of(&[1]),
                repository: None,
                tag: "12-1".into(),
                revocation,
            }],
            ..Shown::default()
        };
        let (history, _) = History::begin([1, 2, 3].map(promoted).to_vec(), [], shown);
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
