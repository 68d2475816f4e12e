//! Orders to take a release back, or to end that. Must not bring anything else out: what follows from it is `advance`'s.

use super::{Change, Digest, History, MAX_REVOKED, Order, Promotion, Refused, State, Timestamp};

impl History {
    pub(super) fn follow(
        &mut self,
        order: &Order,
        newest: Option<&Promotion>,
        now: Timestamp,
        changes: &mut Vec<Change>,
    ) -> Result<(), Refused> {
        let Some(digest) = self.meant(order).cloned() else {
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
                self.unlisted.retain(|one| one.digest != digest);
                changes.push(Change::Lifted(digest.clone()));
                // Nothing came after it but what it was replaced by: it is what the base image wants. Which candidates are seen does
                // not tell that alone: the newer ones may be gone, or the list of them late.
                let wanted =
                    newest.filter(|newest| newest.digest == digest && newest.sequence >= self.counters.promoted);
                if let Some(at) = wanted.and_then(|newest| self.place(newest)) {
                    self.release_again(at, changes);
                }
                Ok(())
            }
        }
    }

    /// The digest that an order is about, if it is known.
    fn meant(&self, order: &Order) -> Option<&Digest> {
        let listed = self
            .entries
            .iter()
            .map(|one| (&one.promotion.digest, &one.promotion.tag));
        let unlisted = self.unlisted.iter().map(|one| (&one.digest, &one.tag));
        let mut all = listed.chain(unlisted);
        all.find(|(digest, tag)| order.names(digest, tag))
            .map(|(digest, _)| digest)
    }
}
