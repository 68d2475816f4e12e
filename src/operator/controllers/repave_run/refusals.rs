//! Patches that the API server refused, or failed at: tried again with growing pauses, then given up for this run.
//!
//! A refusal concerns its own workload only: it takes no slot, delays nobody and stops nothing. A failure (500) may be the API server's
//! own, and of all: it is never given up while nothing else is written. But it may be of one workload as well, whose admission webhook
//! is away: so it is put aside like a refusal, and given up once others were written after it. All is remembered in memory; after a
//! restart the tries begin anew and come to the same end. Must not decide what is patched.

use crate::domain::text::is_shown;
use std::{collections::HashMap, time::Duration};

/// Pauses between the tries; after the last one it is given up.
const PAUSES: [Duration; 3] = [Duration::from_secs(5), Duration::from_secs(15), Duration::from_secs(45)];
/// Failures are tried again at least so often, with the longest of the pauses after the last of them.
const FAILURES: usize = 8;
/// Workloads that are remembered: as many as a plan may ever select. One more is tried again at each look.
const MOST: usize = 50_000;
/// Longest sentence that is kept, in characters.
const MAX_SENTENCE: usize = 200;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Refusal {
    tries: usize,
    since: Duration,
    next: Duration,
    sentence: String,
    /// The API server failed at it, and did not refuse it.
    failed: bool,
}

impl Refusal {
    fn is_given_up(&self, written: Option<Duration>) -> bool {
        if self.failed {
            self.tries >= FAILURES && written.is_some_and(|written| written > self.since)
        } else {
            self.tries > PAUSES.len()
        }
    }
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
pub struct Refusals {
    of: HashMap<String, Refusal>,
    /// When something was written last.
    written: Option<Duration>,
}

impl Refusals {
    /// Remembers a refusal. Its first words are kept: later ones may differ in an id only, and would be a new status each time.
    pub fn refused(&mut self, uid: &str, words: &str, now: Duration) {
        self.tried(uid, words, false, now);
    }

    /// Remembers that the API server failed at it.
    pub fn failed(&mut self, uid: &str, words: &str, now: Duration) {
        self.tried(uid, words, true, now);
    }

    fn tried(&mut self, uid: &str, words: &str, failed: bool, now: Duration) {
        if self.of.len() >= MOST && !self.of.contains_key(uid) {
            return;
        }
        let refusal = self.of.entry(uid.to_owned()).or_insert_with(|| Refusal {
            tries: 0,
            since: now,
            next: now,
            sentence: sentence(words),
            failed,
        });
        let last = PAUSES[PAUSES.len() - 1];
        let pause = PAUSES.get(refusal.tries).copied().unwrap_or(last);
        refusal.tries = refusal.tries.saturating_add(1);
        refusal.next = now.saturating_add(pause);
        refusal.failed = failed;
    }

    /// Forgets one that was written.
    pub fn written(&mut self, uid: &str, now: Duration) {
        self.of.remove(uid);
        self.written = Some(now);
    }

    /// Forgets workloads that are gone.
    pub fn keep(&mut self, is_there: &dyn Fn(&str) -> bool) {
        self.of.retain(|uid, _| is_there(uid));
    }

    /// How the workload with this UID stands.
    pub fn standing(&self, uid: &str, now: Duration) -> Standing<'_> {
        match self.of.get(uid) {
            Some(refusal) if refusal.is_given_up(self.written) => Standing::GivenUp(&refusal.sentence),
            Some(refusal) if refusal.next > now => Standing::Pausing,
            Some(_) | None => Standing::Free,
        }
    }

    /// Whether nothing was refused.
    pub fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    /// Whether any is to be tried again.
    pub fn any_pausing(&self) -> bool {
        self.of.values().any(|refusal| !refusal.is_given_up(self.written))
    }
}

/// What is kept of a refusal.
pub fn sentence(words: &str) -> String {
    words.chars().filter(|c| is_shown(*c)).take(MAX_SENTENCE).collect()
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
    fn a_failure_is_given_up_only_when_others_were_written_after_it() {
        let mut refusals = Refusals::default();
        let mut now = Duration::from_secs(100);
        let again = |refusals: &mut Refusals, now: &mut Duration| {
            refusals.failed("a", "failed calling webhook", *now);
            assert_eq!(refusals.standing("a", *now), Standing::Pausing);
            *now += PAUSES[PAUSES.len() - 1];
        };
        for _ in 0..50 {
            again(&mut refusals, &mut now);
            assert_eq!(
                refusals.standing("a", now),
                Standing::Free,
                "it may be the API server's own"
            );
        }
        refusals.written("b", now);
        assert_eq!(refusals.standing("a", now), Standing::GivenUp("failed calling webhook"));
    }

    #[test]
    fn what_was_written_or_is_gone_is_forgotten() {
        let mut refusals = Refusals::default();
        refusals.refused("a", "no", Duration::ZERO);
        refusals.refused("b", "no", Duration::ZERO);
        refusals.written("a", Duration::ZERO);
        assert_eq!(refusals.standing("a", Duration::ZERO), Standing::Free);
        refusals.keep(&|_| false);
        assert_eq!(refusals.of.len(), 0);
    }
}
