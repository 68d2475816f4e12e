//! Every release that a base image ever had, in an order of its own, and what follows from a promotion, a revocation and
//! its lift.
//!
//! At most one release is out. "Newer" is the greater sequence, never a time: going back gives the earlier release a new
//! sequence. [`History::advance`] is idempotent, so a crash between two writes leads to the same end. Must not know where
//! it is stored, and must not take a time of its own.

use super::{
    digest::Digest,
    image_ref::Repository,
    orders::Order,
    promotion::{Entry, Promotion, Revocation, Revoked, State, UnlistedRevocation},
};
use jiff::Timestamp;

mod begin;
mod follow;

pub use begin::Shown;

/// Entries that are kept: beyond it the oldest superseded ones are forgotten, never one that is released or revoked.
pub const MAX_ENTRIES: usize = 300;
/// Revoked digests of one base image: a further order is refused, and what was revoked stays so.
pub const MAX_REVOKED: usize = 100;

/// All releases of one base image: one entry per repository and digest, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    entries: Vec<Entry>,
    /// Of digests that have no entry.
    unlisted: Vec<UnlistedRevocation>,
    counters: Counters,
}

/// How far the order of releases has come. Neither ever falls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// The greatest sequence that a release has.
    pub last: u64,
    /// The greatest sequence of a candidate that was entered. It is behind `last` after going back: a candidate that was
    /// on its way meanwhile is still a new release.
    pub promoted: u64,
}

/// What a step changed, for events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A newly promoted digest is out.
    Released(Digest),
    /// A digest was taken back.
    Revoked {
        /// Which.
        digest: Digest,
        /// Why.
        reason: String,
    },
    /// A revocation was lifted.
    Lifted(Digest),
    /// An earlier digest is out again, under a new sequence.
    ReleasedAgain(Digest),
    /// The release was taken back and nothing good is left to go back to.
    NothingLeft,
}

/// Why an order has no effect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Nothing of that name was ever promoted.
    #[error(
        "{0} is no release of this base image: write a digest or an immutable tag of one (kubectl get releasehistory -o yaml lists them)"
    )]
    NoRelease(String),
    /// More would not fit.
    #[error("{0} cannot be revoked: {MAX_REVOKED} releases are revoked already, lift one first")]
    TooMany(String),
}

/// What [`History::advance`] came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advanced {
    /// The new history.
    pub history: History,
    /// What is new in it.
    pub changes: Vec<Change>,
    /// Orders without effect.
    pub refused: Vec<Refused>,
}

impl History {
    /// From what was stored. Where two are marked as released, the newer one is.
    pub fn from_entries(entries: Vec<Entry>, unlisted: Vec<UnlistedRevocation>, counters: Counters) -> Self {
        let greatest = entries.iter().map(|entry| entry.promotion.sequence).max();
        let mut history = Self {
            entries,
            unlisted: Vec::new(),
            counters: Counters {
                last: counters.last.max(greatest.unwrap_or(0)),
                promoted: counters.promoted,
            },
        };
        history.sort();
        let mut released = false;
        for entry in &mut history.entries {
            if entry.state == State::Released && std::mem::replace(&mut released, true) {
                entry.state = State::Superseded;
            }
        }
        for one in unlisted {
            history.take_back(one);
        }
        history
    }

    /// Newest first.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// How far the order has come: the next sequence is greater than both.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// What is out.
    pub fn released(&self) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.state == State::Released)
    }

    /// The newest release at this repository that may be gone back to.
    pub fn previous(&self, production: &Repository) -> Option<&Entry> {
        self.previous_place(production).map(|at| &self.entries[at])
    }

    fn previous_place(&self, production: &Repository) -> Option<usize> {
        let good = |one: &Entry| one.state == State::Superseded && one.promotion.repository == *production;
        self.entries.iter().position(good)
    }

    /// The revocation of a digest, wherever it was promoted to.
    pub fn revocation(&self, digest: &Digest) -> Option<&Revocation> {
        let mut same = self.revoked().filter(|one| one.digest == digest);
        same.next().map(|one| one.revocation)
    }

    /// All that are revoked: newest first, then those of which nothing else is known.
    pub fn revoked(&self) -> impl Iterator<Item = Revoked<'_>> {
        let listed = self.entries.iter().filter_map(|entry| {
            Some(Revoked {
                digest: &entry.promotion.digest,
                repository: Some(&entry.promotion.repository),
                tag: &entry.promotion.tag,
                revocation: entry.revocation()?,
                promotion: Some(&entry.promotion),
            })
        });
        listed.chain(self.unlisted.iter().map(|one| Revoked {
            digest: &one.digest,
            repository: one.repository.as_ref(),
            tag: &one.tag,
            revocation: &one.revocation,
            promotion: None,
        }))
    }

    /// Revocations of digests that have no entry.
    pub fn unlisted(&self) -> &[UnlistedRevocation] {
        &self.unlisted
    }

    /// The next state: first what was promoted is entered, then the orders are followed, then an earlier release at the
    /// production repository comes out again if the current one was taken back.
    pub fn advance(
        &self,
        promotions: &[Promotion],
        orders: &[Order],
        production: &Repository,
        now: Timestamp,
    ) -> Advanced {
        let mut history = self.clone();
        let (mut changes, mut refused) = (Vec::new(), Vec::new());
        let mut in_order: Vec<&Promotion> = promotions.iter().collect();
        in_order.sort_by_key(|one| (one.sequence, one.promoted_at));
        for promotion in &in_order {
            history.promote((*promotion).clone(), &mut changes);
        }
        let newest = in_order.last().filter(|newest| newest.repository == *production);
        for order in orders {
            if let Err(error) = history.follow(order, newest.copied(), now, &mut changes) {
                refused.push(error);
            }
        }
        history.fall_back(production, &mut changes);
        history.trim();
        Advanced {
            history,
            changes,
            refused,
        }
    }

    fn promote(&mut self, mut promotion: Promotion, changes: &mut Vec<Change>) {
        let at = self.place(&promotion);
        if let Some(at) = at {
            self.entries[at].promotion.complete(&promotion);
        }
        // What an older version began has no number; it is new if it is not known.
        let unnumbered = promotion.sequence == 0 && self.counters.promoted == 0 && at.is_none();
        if promotion.sequence <= self.counters.promoted && !unnumbered {
            if at.is_none() {
                // It comes late: whatever its number, it is older than what is out.
                let before = self.released().map(|entry| entry.promotion.sequence.saturating_sub(1));
                promotion.sequence = before.map_or(promotion.sequence, |before| promotion.sequence.min(before));
                self.insert(promotion, State::Superseded);
            }
            return;
        }
        self.counters.promoted = promotion.sequence;
        match at.map(|at| &mut self.entries[at]) {
            Some(entry) if entry.revocation().is_some() => {}
            // The same digest directly after itself is no new release; the newer proof holds.
            Some(entry) if entry.state == State::Released => entry.promotion.candidate = promotion.candidate,
            Some(_) | None => {
                if let Some(at) = at {
                    self.entries.remove(at);
                }
                // Going back may have used its number.
                promotion.sequence = promotion.sequence.max(self.counters.last.saturating_add(1));
                let digest = promotion.digest.clone();
                if self.revocation(&digest).is_none() {
                    self.supersede_released();
                    changes.push(Change::Released(digest));
                }
                self.insert(promotion, State::Released);
            }
        }
    }

    /// Brings the newest good release out if none is out.
    fn fall_back(&mut self, production: &Repository, changes: &mut Vec<Change>) {
        if self.released().is_some() {
            return;
        }
        match self.previous_place(production) {
            // Found again, not gone back to: nothing is newer, revoked or not.
            Some(0) => {
                self.entries[0].state = State::Released;
                changes.push(Change::Released(self.entries[0].promotion.digest.clone()));
            }
            Some(at) => self.release_again(at, changes),
            // Told once, with the revocation that took the last one.
            None if changes.iter().any(|one| matches!(one, Change::Revoked { .. })) => {
                changes.push(Change::NothingLeft);
            }
            None => {}
        }
    }

    /// Going back is a release like any other: a new sequence, so that whatever ran in between is older.
    fn release_again(&mut self, at: usize, changes: &mut Vec<Change>) {
        self.supersede_released();
        self.counters.last = self.counters.last.saturating_add(1);
        let entry = &mut self.entries[at];
        entry.promotion.sequence = self.counters.last;
        entry.state = State::Released;
        changes.push(Change::ReleasedAgain(entry.promotion.digest.clone()));
        self.sort();
    }

    fn place(&self, promotion: &Promotion) -> Option<usize> {
        let same = |entry: &Entry| {
            entry.promotion.digest == promotion.digest && entry.promotion.repository == promotion.repository
        };
        self.entries.iter().position(same)
    }

    fn insert(&mut self, promotion: Promotion, state: State) {
        // A digest that was taken back stays so at every repository.
        let revoked = self.revocation(&promotion.digest).cloned();
        let state = revoked.map_or(state, State::Revoked);
        self.unlisted.retain(|one| one.digest != promotion.digest);
        // Also for what comes late or is taken back: what is released after it must look newer.
        self.counters.last = self.counters.last.max(promotion.sequence);
        self.entries.push(Entry { promotion, state });
        self.sort();
    }

    fn set_state(&mut self, digest: &Digest, state: &State) {
        for entry in self.entries.iter_mut().filter(|one| one.promotion.digest == *digest) {
            entry.state.clone_from(state);
        }
    }

    fn supersede_released(&mut self) {
        for entry in &mut self.entries {
            if entry.state == State::Released {
                entry.state = State::Superseded;
            }
        }
    }

    fn sort(&mut self) {
        self.entries.sort_by(|a, b| {
            (b.promotion.sequence, &b.promotion.digest).cmp(&(a.promotion.sequence, &a.promotion.digest))
        });
    }

    fn trim(&mut self) {
        let mut surplus = self.entries.len().saturating_sub(MAX_ENTRIES);
        let mut at = self.entries.len();
        while surplus > 0 && at > 0 {
            at -= 1;
            if self.entries[at].state == State::Superseded {
                self.entries.remove(at);
                surplus -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests;
