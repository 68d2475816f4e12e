//! `ReleaseHistory`: every digest that a BaseImage ever promoted, in the order of its releases. Written by the operator.
//!
//! Everything is in `spec`, because a backup that is restored without statuses must keep it. It has no owner: it outlives
//! its BaseImage, so that a base image that is made again knows its earlier releases.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use repave_core::{
    digest::Digest,
    history::{Counters, History},
    image_ref::Repository,
    promotion::{Entry, Promotion, Revocation, Revoked, State, UnlistedRevocation},
};
use serde::{Deserialize, Serialize};

use crate::base_image::RevokedRelease;

/// Every digest that the BaseImage of the same name ever promoted. Do not edit it: to take a release back, use
/// `kubectl repave revoke`.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, Default, PartialEq, KubeSchema)]
#[kube(
    group = "repave.dev",
    version = "v1alpha1",
    kind = "ReleaseHistory",
    plural = "releasehistories",
    namespaced,
    shortname = "rh",
    category = "repave",
    derive = "PartialEq",
    printcolumn(name = "Releases", type_ = "integer", json_path = ".spec.count"),
    printcolumn(name = "Released", type_ = "string", json_path = ".spec.released"),
    printcolumn(name = "Sequence", type_ = "integer", json_path = ".spec.lastSequence"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseHistorySpec {
    /// The greatest sequence that a release has; the next one is greater.
    #[serde(default)]
    pub last_sequence: u64,
    /// The greatest sequence of a candidate that was entered.
    #[serde(default)]
    pub last_candidate: u64,
    /// How many releases are listed; for the table.
    #[serde(default)]
    pub count: u32,
    /// The immutable tag of the one that is released; for the table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released: Option<String>,
    /// The production repository whose signed summaries were looked through for earlier releases. When it is missing or
    /// another one, that is done again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub searched: Option<Repository>,
    /// The releases, newest first, at most 300: beyond that the oldest superseded ones are forgotten.
    #[serde(default)]
    #[schemars(length(max = 500))]
    pub releases: Vec<HistoryRow>,
    /// Releases that were taken back and of which nothing else is known any more, because the history was lost: what the
    /// status of the BaseImage showed of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub unlisted: Vec<RevokedRelease>,
}

/// One digest that was promoted.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("(self.state == 'Revoked') == has(self.revoked)", "state is Revoked exactly where revoked says when and why: use kubectl repave revoke instead of editing"))]
pub struct HistoryRow {
    /// Its place in the order of releases: the greater one is newer. Going back gives a digest a new one.
    pub sequence: u64,
    /// The digest at the production repository.
    #[schemars(with = "String")]
    pub digest: Digest,
    /// The upstream digest that it was built from.
    #[schemars(with = "String")]
    pub source_digest: Digest,
    /// Chain ID of all its layers: by it, images built on this release are recognised. Not known where the history was lost and
    /// only the status of the BaseImage was left of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub chain_id: Option<Digest>,
    /// How many layers it has; 0 if that is not known.
    pub layers: u32,
    /// The production repository.
    #[schemars(with = "String")]
    pub repository: Repository,
    /// Its immutable tag.
    pub tag: String,
    /// The candidate that proved it; it may have been pruned.
    pub candidate: String,
    /// When it was first promoted.
    pub promoted_at: Time,
    /// Released, Superseded or Revoked.
    pub state: ReleaseState,
    /// Who took it back, when and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<RowRevocation>,
}

/// How a release stands.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, schemars::JsonSchema)]
pub enum ReleaseState {
    /// It is out: the channel tag names it.
    Released,
    /// Another one came after it.
    Superseded,
    /// It was taken back: nothing is promoted, rolled out or rolled back to it.
    Revoked,
}

/// Who took a release back, when and why.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RowRevocation {
    /// When the operator recorded it.
    pub at: Time,
    /// Who ordered it, as the order says; nobody checks it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub by: Option<String>,
    /// Why.
    #[schemars(length(max = 300))]
    pub reason: String,
}

/// What is stored, as it is decided over. A row that contradicts itself is read as revoked: what was taken back must not come
/// out by an edit.
impl From<&ReleaseHistorySpec> for History {
    fn from(spec: &ReleaseHistorySpec) -> Self {
        let counters = Counters {
            last: spec.last_sequence,
            promoted: spec.last_candidate,
        };
        let unlisted = spec.unlisted.iter().map(RevokedRelease::unlisted).collect();
        Self::from_entries(spec.releases.iter().map(entry).collect(), unlisted, counters)
    }
}

fn entry(row: &HistoryRow) -> Entry {
    let revocation = row.revoked.as_ref().map(|revoked| Revocation {
        at: revoked.at.0,
        by: revoked.by.clone(),
        reason: revoked.reason.clone(),
    });
    let state = match (row.state, revocation) {
        (_, Some(revocation)) => State::Revoked(revocation),
        (ReleaseState::Revoked, None) => State::Revoked(Revocation {
            at: row.promoted_at.0,
            by: None,
            reason: "the history does not say why".to_owned(),
        }),
        (ReleaseState::Released, None) => State::Released,
        (ReleaseState::Superseded, None) => State::Superseded,
    };
    Entry {
        promotion: Promotion {
            sequence: row.sequence,
            digest: row.digest.clone(),
            source_digest: row.source_digest.clone(),
            chain_id: row.chain_id.clone(),
            layers: row.layers,
            repository: row.repository.clone(),
            tag: row.tag.clone(),
            candidate: row.candidate.clone(),
            promoted_at: row.promoted_at.0,
        },
        state,
    }
}

impl ReleaseHistorySpec {
    /// A history as it is stored.
    pub fn of(history: &History, searched: Option<&Repository>) -> Self {
        let releases: Vec<HistoryRow> = history.entries().iter().map(row).collect();
        Self {
            last_sequence: history.counters().last,
            last_candidate: history.counters().promoted,
            count: u32::try_from(releases.len()).unwrap_or(u32::MAX),
            released: history.released().map(|entry| entry.promotion.tag.clone()),
            searched: searched.cloned(),
            releases,
            unlisted: history
                .revoked()
                .filter(|one| one.promotion.is_none())
                .map(RevokedRelease::of)
                .collect(),
        }
    }
}

fn row(entry: &Entry) -> HistoryRow {
    let promotion = &entry.promotion;
    let (state, revoked) = match &entry.state {
        State::Released => (ReleaseState::Released, None),
        State::Superseded => (ReleaseState::Superseded, None),
        State::Revoked(revocation) => {
            let revoked = RowRevocation {
                at: Time(revocation.at),
                by: revocation.by.clone(),
                reason: revocation.reason.clone(),
            };
            (ReleaseState::Revoked, Some(revoked))
        }
    };
    HistoryRow {
        sequence: promotion.sequence,
        digest: promotion.digest.clone(),
        source_digest: promotion.source_digest.clone(),
        chain_id: promotion.chain_id.clone(),
        layers: promotion.layers,
        repository: promotion.repository.clone(),
        tag: promotion.tag.clone(),
        candidate: promotion.candidate.clone(),
        promoted_at: Time(promotion.promoted_at),
        state,
        revoked,
    }
}

impl RevokedRelease {
    /// One that was taken back, as it is shown and stored.
    pub fn of(revoked: Revoked<'_>) -> Self {
        Self {
            digest: revoked.digest.clone(),
            repository: revoked.repository.cloned(),
            tag: revoked.tag.to_owned(),
            at: Time(revoked.revocation.at),
            by: revoked.revocation.by.clone(),
            reason: revoked.revocation.reason.clone(),
        }
    }

    /// The same for decisions, where no more is known of it.
    pub fn unlisted(&self) -> UnlistedRevocation {
        UnlistedRevocation {
            digest: self.digest.clone(),
            repository: self.repository.clone(),
            tag: self.tag.clone(),
            revocation: Revocation {
                at: self.at.0,
                by: self.by.clone(),
                reason: self.reason.clone(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn stored() -> ReleaseHistorySpec {
        let row = |sequence: u64, state: &str| {
            json!({
                "sequence": sequence, "digest": Digest::of(&[u8::try_from(sequence).unwrap()]), "sourceDigest": Digest::of(b"s"),
                "chainId": Digest::of(b"c"), "layers": 3, "repository": "r.test/debian", "tag": format!("12-{sequence}"),
                "candidate": "debian-12-a", "promotedAt": "2026-01-01T00:00:00Z", "state": state
            })
        };
        let mut revoked = row(1, "Revoked");
        revoked["revoked"] = json!({"at": "2026-01-02T00:00:00Z", "by": "ann", "reason": "CVE-1"});
        serde_json::from_value(json!({
            "lastSequence": 5, "lastCandidate": 4, "count": 3, "released": "12-3", "searched": "r.test/debian",
            "releases": [row(3, "Released"), row(2, "Superseded"), revoked],
            "unlisted": [{"digest": Digest::of(b"gone"), "repository": "r.test/debian", "tag": "12-0", "at": "2026-01-02T00:00:00Z",
                "by": "ann", "reason": "CVE-1"}]
        }))
        .unwrap()
    }

    #[test]
    fn what_is_stored_is_read_and_written_back_as_it_was() {
        let stored = stored();
        assert_eq!(
            ReleaseHistorySpec::of(&History::from(&stored), stored.searched.as_ref()),
            stored
        );
    }

    #[test]
    fn a_row_that_contradicts_itself_is_revoked() {
        let mut stored = stored();
        stored.releases[0].revoked = stored.releases[2].revoked.clone();
        stored.releases[1].state = ReleaseState::Revoked;
        let history = History::from(&stored);
        assert_eq!((history.revoked().count(), history.released()), (4, None));
    }
}
