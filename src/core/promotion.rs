//! A build that was promoted, and that it was taken back: facts only, nothing is decided here.

use super::{digest::Digest, image_ref::Repository};
use jiff::Timestamp;

/// A build that was promoted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promotion {
    /// Its place in the order of releases; 0 if an older version of the operator promoted it.
    pub sequence: u64,
    /// The digest at the production repository.
    pub digest: Digest,
    /// The upstream digest that it was built from.
    pub source_digest: Digest,
    /// Chain ID of all its layers.
    pub chain_id: Digest,
    /// How many layers it has.
    pub layers: u32,
    /// The production repository.
    pub repository: Repository,
    /// Its immutable tag.
    pub tag: String,
    /// The candidate that proved it.
    pub candidate: String,
    /// When it was promoted; for people.
    pub promoted_at: Timestamp,
}

/// Who took a release back, when and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// When the operator recorded it.
    pub at: Timestamp,
    /// Who ordered it, as the order says; nobody checks it.
    pub by: Option<String>,
    /// Why.
    pub reason: String,
}
