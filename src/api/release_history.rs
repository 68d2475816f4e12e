//! `ReleaseHistory`: every digest that a BaseImage ever promoted, in the order of its releases. Written by the operator.
//!
//! Everything is in `spec`, because a backup that is restored without statuses must keep it. It has no owner: it outlives
//! its BaseImage, so that a base image that is made again knows its earlier releases.

use crate::domain::{digest::Digest, image_ref::Repository};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

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
    /// Chain ID of all its layers: by it, images built on this release are recognised.
    #[schemars(with = "String")]
    pub chain_id: Digest,
    /// How many layers it has.
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
