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
    promotion::{Entry, Promotion, Revocation, State},
};
use jiff::Timestamp;

/// Entries that are kept: beyond it the oldest superseded ones are forgotten, never one that is released or revoked.
pub const MAX_ENTRIES: usize = 300;
/// Revoked digests of one base image: a further order is refused, and what was revoked stays so.
pub const MAX_REVOKED: usize = 100;

/// All releases of one base image: one entry per repository and digest, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    entries: Vec<Entry>,
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
    pub fn from_entries(entries: Vec<Entry>, counters: Counters) -> Self {
        let greatest = entries.iter().map(|entry| entry.promotion.sequence).max();
        let mut history = Self {
            entries,
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
        history
    }

    /// From candidates alone, where nothing was stored: those that an older version promoted get their places by when they
    /// were promoted, what is released now the last one.
    pub fn seed(mut promotions: Vec<Promotion>, released: Option<&Digest>) -> Self {
        promotions.sort_by_key(|one| (one.sequence, Some(&one.digest) == released, one.promoted_at));
        let promoted = promotions.last().map_or(0, |one| one.sequence);
        if promoted == 0 {
            for (promotion, place) in promotions.iter_mut().zip(1..) {
                promotion.sequence = place;
            }
        }
        let mut history = Self::default();
        for promotion in promotions {
            history.promote(promotion, &mut Vec::new());
        }
        history.counters.promoted = promoted;
        let out = |one: &Entry| Some(&one.promotion.digest) == released && one.state == State::Superseded;
        if let Some(at) = history.entries.iter().position(out)
            && history.released().map(|one| &one.promotion.digest) != released
        {
            history.release_again(at, &mut Vec::new());
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
        let mut same = self.entries.iter().filter(|entry| entry.promotion.digest == *digest);
        same.find_map(Entry::revocation)
    }

    /// All that are revoked, newest first.
    pub fn revoked(&self) -> impl Iterator<Item = (&Promotion, &Revocation)> {
        let mut revoked = Vec::new();
        for entry in &self.entries {
            revoked.extend(entry.revocation().map(|revocation| (&entry.promotion, revocation)));
        }
        revoked.into_iter()
    }

    /// Takes over entries of another source for digests that are not known here; says how many those were. What is known
    /// here stays as it is, nothing is released by being found, and what is out stays newer than all that is found.
    pub fn learn(&mut self, found: impl IntoIterator<Item = Entry>) -> usize {
        let mut learned = 0;
        for entry in found {
            if self.place(&entry.promotion).is_none() {
                // Not `promoted`: a candidate that was made before this was known is no late one.
                self.counters.last = self.counters.last.max(entry.promotion.sequence);
                let state = match entry.state {
                    State::Released => State::Superseded,
                    State::Superseded | State::Revoked(_) => entry.state,
                };
                self.entries.push(Entry { state, ..entry });
                learned += 1;
            }
        }
        self.sort();
        let newest = self
            .entries
            .iter()
            .filter(|one| one.revocation().is_none())
            .map(|one| one.promotion.sequence)
            .max();
        let out = self.entries.iter().position(|one| one.state == State::Released);
        if let Some(at) = out.filter(|at| newest > Some(self.entries[*at].promotion.sequence)) {
            self.release_again(at, &mut Vec::new());
        }
        learned
    }

    /// WorkloadAnnotations what another record says was revoked; what is not known here is left out.
    pub fn take_back<'a>(&mut self, revoked: impl IntoIterator<Item = (&'a Digest, Revocation)>) {
        for (digest, revocation) in revoked {
            if self.revocation(digest).is_none() {
                self.set_state(digest, &State::Revoked(revocation));
            }
        }
    }

    /// What another record says is out, is out here too, if it is known and was not taken back; with no smaller number than
    /// it says, so that nothing that runs looks newer than it is.
    pub fn keep_out(&mut self, digest: &Digest, sequence: u64) {
        if self.revocation(digest).is_some() {
            return;
        }
        let Some(at) = self.entries.iter().position(|one| one.promotion.digest == *digest) else {
            self.counters.last = self.counters.last.max(sequence);
            return;
        };
        self.supersede_released();
        let entry = &mut self.entries[at];
        entry.state = State::Released;
        entry.promotion.sequence = entry.promotion.sequence.max(sequence);
        self.counters.last = self.counters.last.max(entry.promotion.sequence);
        self.sort();
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
        in_order.sort_by_key(|promotion| promotion.sequence);
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
                self.counters.last = promotion.sequence;
                let digest = promotion.digest.clone();
                if self.revocation(&digest).is_none() {
                    self.supersede_released();
                    changes.push(Change::Released(digest));
                }
                self.insert(promotion, State::Released);
            }
        }
    }

    fn follow(
        &mut self,
        order: &Order,
        newest: Option<&Promotion>,
        now: Timestamp,
        changes: &mut Vec<Change>,
    ) -> Result<(), Refused> {
        let mut meant = self.entries.iter().filter(|one| order.names(&one.promotion));
        let Some(digest) = meant.next().map(|one| one.promotion.digest.clone()) else {
            return Err(Refused::NoRelease(order.release.to_string()));
        };
        let known = self.revocation(&digest).is_some();
        match (order.lift, known) {
            (false, true) | (true, false) => Ok(()),
            (false, false) if self.revoked().count() >= MAX_REVOKED => Err(Refused::TooMany(order.release.to_string())),
            (false, false) => {
                self.set_state(&digest, &State::Revoked(order.revocation(now)));
                let reason = order.reason.clone();
                changes.push(Change::Revoked { digest, reason });
                Ok(())
            }
            (true, true) => {
                self.set_state(&digest, &State::Superseded);
                changes.push(Change::Lifted(digest.clone()));
                // Nothing came after it but what it was replaced by: it is what the base image wants.
                let wanted = newest.filter(|newest| newest.digest == digest);
                if let Some(at) = wanted.and_then(|newest| self.place(newest)) {
                    self.release_again(at, changes);
                }
                Ok(())
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
