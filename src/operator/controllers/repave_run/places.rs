//! Which places of the limit are taken by what this process saw in flight and does not see any more: its namespace was relabelled
//! for a moment, or its watch was answered with 403, and its pods are still being replaced. Pure.
//!
//! Whether it was deleted is not known here, so it keeps its place as long as a roll-out may take and no longer. They are those of a
//! plan: a run that is made anew selects something else, perhaps, and shares the limit. A restart forgets them. Must not decide
//! anything else.

use crate::domain::workload::WorkloadKey;
use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

/// What was in flight when it was seen last, by UID: what this run moved, and what other runs of its plan did.
#[derive(Debug, Clone, Default)]
pub struct Places(HashMap<String, Place>);

#[derive(Debug, Clone)]
struct Place {
    /// Where it was.
    key: WorkloadKey,
    /// Whether it was getting its old image back.
    back: bool,
    /// When it was seen last, by the monotonic clock.
    seen: Duration,
}

/// How many are missing that were in flight.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Missing {
    /// All of them.
    pub all: usize,
    /// Those that were getting their old image back.
    pub back: usize,
}

impl Places {
    /// Takes a look at what is there. What was missing for the deadline is forgotten.
    pub fn look<'a>(&mut self, there: impl Iterator<Item = &'a str>, now: Duration, deadline: Duration) -> Missing {
        self.0.retain(|_, place| now.saturating_sub(place.seen) < deadline);
        if self.0.is_empty() {
            return Missing::default();
        }
        let there: BTreeSet<&str> = there.collect();
        let missing = self.0.iter().filter(|(uid, _)| !there.contains(uid.as_str()));
        missing.fold(Missing::default(), |missing, (_, place)| Missing {
            all: missing.all + 1,
            back: missing.back + usize::from(place.back),
        })
    }

    /// What was in flight, by UID, and where it is to be found.
    pub fn known(&self) -> impl Iterator<Item = (&str, &WorkloadKey)> {
        self.0.iter().map(|(uid, place)| (uid.as_str(), &place.key))
    }

    /// Whether nothing was in flight.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Remembers what is in flight (and whether it gets its old image back) of what is there; what is not stays as it is.
    pub fn note<'a>(
        &mut self,
        there: impl Iterator<Item = &'a str>,
        in_flight: impl Iterator<Item = (&'a str, &'a WorkloadKey, bool)>,
        now: Duration,
    ) {
        for uid in there {
            self.0.remove(uid);
        }
        let places = in_flight.map(|(uid, key, back)| {
            let key = key.clone();
            (uid.to_owned(), Place { key, back, seen: now })
        });
        self.0.extend(places);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn what_is_missing_keeps_its_place_until_the_deadline_and_what_is_seen_at_its_end_has_none() {
        let mut places = Places::default();
        let all = ["a", "b", "c"];
        let key = WorkloadKey::deployment("shop", "web");
        let in_flight = [("a", &key, false), ("b", &key, true)];
        places.note(all.into_iter(), in_flight.into_iter(), seconds(10));
        let look = |places: &mut Places, there: &[&'static str], at: u64| {
            let missing = places.look(there.iter().copied(), seconds(at), seconds(30));
            (missing.all, missing.back)
        };
        assert_eq!(look(&mut places, &all, 15), (0, 0));
        assert_eq!(look(&mut places, &["a", "c"], 20), (1, 1));
        assert_eq!(look(&mut places, &["c"], 39), (2, 1));
        places.note(["a", "c"].into_iter(), std::iter::empty(), seconds(39));
        assert_eq!(look(&mut places, &["c"], 39), (1, 1), "a was seen at its end");
        assert_eq!(look(&mut places, &["c"], 40), (0, 0));
    }
}
