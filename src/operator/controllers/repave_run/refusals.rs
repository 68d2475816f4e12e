//! Patches that the API server refused: tried again a few times with growing pauses, then given up for this run.
//!
//! A refusal concerns its own workload only: it takes no slot, delays nobody and stops nothing. It is remembered in memory;
//! after a restart the few tries begin anew and come to the same end. Must not decide what is patched.

use std::{collections::HashMap, time::Duration};

/// Pauses between the tries; after the last one it is given up.
const PAUSES: [Duration; 3] = [Duration::from_secs(5), Duration::from_secs(15), Duration::from_secs(45)];
/// Longest sentence that is kept, in characters.
const MAX_SENTENCE: usize = 200;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Refusal {
    tries: usize,
    next: Duration,
    sentence: String,
}

/// How a workload stands whose patch was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing<'a> {
    /// It was not refused, or its pause is over.
    Free,
    /// It is tried again after a pause.
    Pausing,
    /// It was refused too often, first in these words.
    GivenUp(&'a str),
}

/// The refusals of one run, by the UID of the workload; never more than it has targets.
#[derive(Debug, Clone, Default)]
pub struct Refusals(HashMap<String, Refusal>);

impl Refusals {
    /// Remembers a refusal. Its first words are kept: later ones may differ in an id only, and would be a new status each time.
    pub fn refused(&mut self, uid: &str, words: &str, now: Duration) {
        let refusal = self.0.entry(uid.to_owned()).or_insert_with(|| Refusal {
            tries: 0,
            next: now,
            sentence: sentence(words),
        });
        let pause = PAUSES.get(refusal.tries).copied();
        refusal.tries = refusal.tries.saturating_add(1);
        refusal.next = pause.map_or(Duration::MAX, |pause| now.saturating_add(pause));
    }

    /// Forgets one that was written.
    pub fn written(&mut self, uid: &str) {
        self.0.remove(uid);
    }

    /// Forgets workloads that are gone.
    pub fn keep(&mut self, is_there: &dyn Fn(&str) -> bool) {
        self.0.retain(|uid, _| is_there(uid));
    }

    /// How the workload with this UID stands.
    pub fn standing(&self, uid: &str, now: Duration) -> Standing<'_> {
        match self.0.get(uid) {
            Some(refusal) if refusal.next == Duration::MAX => Standing::GivenUp(&refusal.sentence),
            Some(refusal) if refusal.next > now => Standing::Pausing,
            Some(_) | None => Standing::Free,
        }
    }

    /// Whether nothing was refused.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether any is to be tried again.
    pub fn any_pausing(&self) -> bool {
        self.0.values().any(|refusal| refusal.next < Duration::MAX)
    }
}

/// What is kept of a refusal.
pub fn sentence(words: &str) -> String {
    words.chars().filter(|c| !c.is_control()).take(MAX_SENTENCE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_tried_again_after_growing_pauses_and_then_given_up_in_its_first_words() {
        let mut refusals = Refusals::default();
        let mut now = Duration::from_secs(100);
        for pause in PAUSES {
            refusals.refused("a", &format!("denied at {now:?}"), now);
            assert_eq!(refusals.standing("a", now), Standing::Pausing);
            let before = now + pause.saturating_sub(Duration::from_secs(1));
            assert_eq!(refusals.standing("a", before), Standing::Pausing);
            now += pause;
            assert_eq!(refusals.standing("a", now), Standing::Free);
        }
        assert!(refusals.any_pausing());
        refusals.refused("a", "denied once more", now);
        assert_eq!(
            refusals.standing("a", Duration::from_secs(9_999_999)),
            Standing::GivenUp("denied at 100s")
        );
        assert_eq!(refusals.standing("b", now), Standing::Free);
        assert!(!refusals.any_pausing());
    }

    #[test]
    fn what_was_written_or_is_gone_is_forgotten() {
        let mut refusals = Refusals::default();
        refusals.refused("a", "no", Duration::ZERO);
        refusals.refused("b", "no", Duration::ZERO);
        refusals.written("a");
        assert_eq!(refusals.standing("a", Duration::ZERO), Standing::Free);
        refusals.keep(&|_| false);
        assert_eq!(refusals.0.len(), 0);
    }
}
