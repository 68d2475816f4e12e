//! A build that was promoted, and how it stands: facts only, nothing is decided here.

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
    /// Chain ID of all its layers; not known where only the status of the base image was left of it.
    pub chain_id: Option<Digest>,
    /// How many layers it has; 0 if that is not known.
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

impl Promotion {
    /// Takes over what only another record of the same digest knows.
    pub(crate) fn complete(&mut self, other: &Self) {
        if self.chain_id.is_none() {
            self.chain_id.clone_from(&other.chain_id);
            self.layers = other.layers;
        }
    }
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

/// How a release stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It is out: the channel tag names it.
    Released,
    /// Another one came after it; going back to it is allowed.
    Superseded,
    /// It was taken back: never released, never rolled out, never gone back to, until it is lifted.
    Revoked(Revocation),
}

/// One digest and how it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What was promoted.
    pub promotion: Promotion,
    /// How it stands.
    pub state: State,
}

impl Entry {
    /// The revocation, if it is revoked.
    pub fn revocation(&self) -> Option<&Revocation> {
        match &self.state {
            State::Revoked(revocation) => Some(revocation),
            State::Released | State::Superseded => None,
        }
    }
}

/// A revocation of a digest of which nothing else is known any more: the history was lost, and neither the production
/// repository nor a candidate proves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnlistedRevocation {
    /// The digest.
    pub digest: Digest,
    /// The production repository, if it is known.
    pub repository: Option<Repository>,
    /// Its immutable tag.
    pub tag: String,
    /// Who took it back, when and why.
    pub revocation: Revocation,
}

/// A release that was taken back, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revoked<'a> {
    /// The digest.
    pub digest: &'a Digest,
    /// The production repository, if it is known.
    pub repository: Option<&'a Repository>,
    /// Its immutable tag.
    pub tag: &'a str,
    /// Who took it back, when and why.
    pub revocation: &'a Revocation,
    /// All that is known of it, if more is.
    pub promotion: Option<&'a Promotion>,
}
