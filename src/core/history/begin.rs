//! How a history begins where none is stored (it was lost, or restored without): from the candidates, from what the production
//! repository proves, and from what the status of the base image shows.
//!
//! Nothing of these may be forgotten: what the status shows as taken back stays so, and what it shows as released stays out,
//! though nobody else knows it.

use super::{Entry, History, Promotion, State, UnlistedRevocation};

/// What the status of a base image shows of its history.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shown {
    /// What is out, as far as it is known.
    pub released: Option<Promotion>,
    /// What was taken back.
    pub revoked: Vec<UnlistedRevocation>,
}

impl History {
    /// A history from these sources, and how many digests were found that no candidate knows.
    ///
    /// The status says how far the history had come: candidates with a greater number than its release were promoted since, and
    /// are left to [`History::advance`]. Without one, the newest candidate is out. Those that an older version promoted have no
    /// numbers and get their places by when they were promoted.
    pub fn begin(
        mut promotions: Vec<Promotion>,
        found: impl IntoIterator<Item = Entry>,
        shown: Shown,
    ) -> (Self, usize) {
        let mut history = Self::default();
        if let Some(out) = &shown.released {
            promotions.retain(|one| one.sequence <= out.sequence);
        }
        let is_out = |one: &Promotion| shown.released.as_ref().is_some_and(|out| is_same(one, out));
        promotions.sort_by_key(|one| (one.sequence, is_out(one), one.promoted_at));
        for promotion in promotions {
            history.promote(promotion, &mut Vec::new());
        }
        if shown.released.is_some() {
            history.supersede_released();
        }
        let learned = history.learn(found);
        for one in shown.revoked {
            history.take_back(one);
        }
        if let Some(out) = shown.released {
            history.keep_out(out);
        }
        (history, learned)
    }

    /// Takes over entries of another source for digests that are not known here; says how many those were. What is known
    /// here stays as it is, nothing is released by being found, and what is out stays newer than all that is found.
    pub fn learn(&mut self, found: impl IntoIterator<Item = Entry>) -> usize {
        let mut learned = 0;
        for entry in found {
            if let Some(at) = self.place(&entry.promotion) {
                self.entries[at].promotion.complete(&entry.promotion);
            } else {
                // It does not count as promoted: a candidate that was made before this was known is no late one.
                let state = match entry.state {
                    State::Released => State::Superseded,
                    State::Superseded | State::Revoked(_) => entry.state,
                };
                self.insert(entry.promotion, state);
                learned += 1;
            }
        }
        let out = self.entries.iter().position(|one| one.state == State::Released);
        if let Some(at) = out
            && self.newest_but(at) >= self.entries[at].promotion.sequence
        {
            self.release_again(at, &mut Vec::new());
        }
        learned
    }

    /// What another record says was taken back is so here, too, whether or not more is known of it.
    pub(super) fn take_back(&mut self, revoked: UnlistedRevocation) {
        if self.revocation(&revoked.digest).is_some() {
            return;
        }
        if self.entries.iter().any(|one| one.promotion.digest == revoked.digest) {
            self.set_state(&revoked.digest, &State::Revoked(revoked.revocation));
        } else {
            self.unlisted.push(revoked);
        }
    }

    /// What another record says is out, is out here too unless it was taken back: with no smaller number than it says, so that
    /// nothing that runs looks newer than it is, and newer than all that may be gone back to.
    fn keep_out(&mut self, out: Promotion) {
        self.counters.last = self.counters.last.max(out.sequence);
        if self.revocation(&out.digest).is_some() {
            return;
        }
        let sequence = out.sequence;
        let at = self.entries.iter().position(|one| is_same(&one.promotion, &out));
        let at = at.unwrap_or_else(|| {
            self.entries.push(Entry {
                promotion: out,
                state: State::Superseded,
            });
            self.entries.len() - 1
        });
        let newer = self.newest_but(at).saturating_add(1);
        self.supersede_released();
        let entry = &mut self.entries[at];
        entry.state = State::Released;
        entry.promotion.sequence = sequence.max(newer);
        self.counters.last = self.counters.last.max(entry.promotion.sequence);
        self.sort();
    }

    /// The greatest number of those that are not taken back, this one left out.
    fn newest_but(&self, at: usize) -> u64 {
        let others = self.entries.iter().enumerate().filter(|(other, _)| *other != at);
        let good = others.filter(|(_, one)| one.revocation().is_none());
        good.map(|(_, one)| one.promotion.sequence).max().unwrap_or(0)
    }
}

fn is_same(one: &Promotion, other: &Promotion) -> bool {
    one.digest == other.digest && one.repository == other.repository
}
