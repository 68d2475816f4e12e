//! When upstream is asked, and what it said last: shared by all BaseImages that follow one tag with one credential.
//!
//! A failure is an answer too: a registry that asked to be left alone is left alone by everybody. A restart forgets all of it;
//! the first look is then spread, and until then what the status says is used. Nothing is decided by this memory.

use crate::{
    api::refs::LocalRef,
    controllers::{bounded::BoundedMap, error::WAIT},
    domain::{digest::Digest, image_ref::ImageRef},
    registry,
};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Answers that are kept.
const MAX: usize = 20_000;
/// The longest that a first look after a start is put off.
const SPREAD: Duration = Duration::from_secs(300);
/// How soon one that did not wait for another's look comes back.
const MOMENT: Duration = Duration::from_secs(5);
/// After so long a question that nobody came back from is asked again: a reconcile can be cut off.
const LOST: Duration = Duration::from_secs(180);

/// What is asked, and as whom.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Question {
    image: ImageRef,
    /// Namespace and name of the Secret; anonymous questions are the same for all.
    credential: Option<(String, String)>,
}

impl Question {
    /// The question for a tag with the credentials of a Secret in this namespace.
    pub fn new(image: ImageRef, namespace: &str, secret: Option<&LocalRef>) -> Self {
        Self {
            image,
            credential: secret.map(|secret| (namespace.to_owned(), secret.name.clone())),
        }
    }
}

/// What the registry said. `None` is a tag that does not exist.
pub type Answer = Result<Option<Digest>, Arc<registry::Error>>;

#[derive(Debug, Clone)]
struct Known {
    at: Instant,
    answer: Answer,
}

/// What is to be done about a question.
#[derive(Debug, Clone)]
pub enum Look {
    /// This answer is good for so long.
    Use(Answer, Duration),
    /// The registry is to be asked.
    Ask,
}

#[derive(Debug, Default)]
struct Slot {
    known: Option<Known>,
    asking: Option<Instant>,
}

/// The memory of a process.
#[derive(Debug)]
pub struct Polls {
    started: Instant,
    slots: Mutex<BoundedMap<Question, Slot>>,
}

impl Default for Polls {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            slots: Mutex::new(BoundedMap::new(MAX)),
        }
    }
}

/// How often an object is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// How old an answer may be.
    pub interval: Duration,
    /// Always the same number for one object, 0 to 999: spreads the looks of many.
    pub seed: u32,
}

impl Pace {
    /// How long after a start of the process the first look is put off, if what it would say is known: at most five minutes.
    pub fn first_look(&self) -> Duration {
        self.interval.min(SPREAD).mul_f64(f64::from(self.seed % 1000) / 1000.0)
    }
}

impl Polls {
    /// Whether the registry is asked now; `remembered` is what the status says from an earlier life of the process. After [`Look::Ask`] the caller calls [`Polls::done`], or
    /// [`Polls::given_up`] where it could not ask; who does neither keeps others from asking for three minutes.
    pub fn look(&self, question: &Question, pace: Pace, remembered: Option<&Digest>, now: Instant) -> Look {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = slots.get(question);
        let known = slot.and_then(|slot| slot.known.as_ref());
        if let Some(known) = known {
            let good_for = match &known.answer {
                Ok(_) => pace.interval,
                Err(error) => error.retry_after().unwrap_or(WAIT),
            };
            let age = now.saturating_duration_since(known.at);
            if age < good_for {
                return Look::Use(known.answer.clone(), good_for.saturating_sub(age));
            }
        }
        let last = known.and_then(|known| known.answer.clone().ok().flatten());
        let remembered = last.or_else(|| remembered.cloned());
        if let Some(digest) = remembered {
            let since_start = now.saturating_duration_since(self.started);
            let asking = slot.and_then(|slot| slot.asking);
            if asking.is_some_and(|since| now.saturating_duration_since(since) < LOST) {
                return Look::Use(Ok(Some(digest)), MOMENT);
            }
            if known.is_none() && since_start < pace.first_look() {
                return Look::Use(Ok(Some(digest)), pace.first_look().saturating_sub(since_start));
            }
        }
        let slot = Slot {
            known: known.cloned(),
            asking: Some(now),
        };
        slots.insert(question.clone(), slot);
        Look::Ask
    }

    /// The registry has answered.
    pub fn done(&self, question: &Question, answer: Answer, now: Instant) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.insert(
            question.clone(),
            Slot {
                known: Some(Known { at: now, answer }),
                asking: None,
            },
        );
    }

    /// The registry was not asked after all.
    pub fn given_up(&self, question: &Question) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.remove(question) {
            slots.insert(question.clone(), Slot { asking: None, ..slot });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn question(namespace: &str, secret: Option<&str>) -> Question {
        let secret = secret.map(|name| LocalRef { name: name.to_owned() });
        Question::new("r.test/debian:12".parse().unwrap(), namespace, secret.as_ref())
    }

    fn pace(seed: u32) -> Pace {
        Pace { interval: HOUR, seed }
    }

    fn used(look: Look) -> Option<(Option<Digest>, Duration)> {
        match look {
            Look::Use(answer, good_for) => Some((answer.unwrap(), good_for)),
            Look::Ask => None,
        }
    }

    #[test]
    fn one_answer_serves_all_who_follow_a_tag_with_one_credential_until_it_is_too_old() {
        let (polls, now, digest) = (Polls::default(), Instant::now(), Digest::of(b"v1"));
        let (a, b) = (question("a", None), question("b", None));
        assert!(used(polls.look(&a, pace(0), None, now)).is_none());
        polls.done(&a, Ok(Some(digest.clone())), now);
        let later = now + Duration::from_secs(600);
        let shared = used(polls.look(&b, pace(0), None, later));
        assert_eq!(
            shared,
            Some((Some(digest), HOUR.saturating_sub(Duration::from_secs(600))))
        );
        assert!(used(polls.look(&question("a", Some("s")), pace(0), None, later)).is_none());
        assert!(used(polls.look(&question("b", Some("s")), pace(0), None, later)).is_none());
        assert!(used(polls.look(&b, pace(0), None, now + HOUR)).is_none());
    }

    #[test]
    fn while_one_asks_the_others_go_on_with_what_they_know() {
        let (polls, now, digest) = (Polls::default(), Instant::now(), Digest::of(b"v1"));
        let question = question("a", None);
        assert!(used(polls.look(&question, pace(0), Some(&digest), now)).is_none());
        let other = used(polls.look(&question, pace(0), Some(&digest), now));
        assert_eq!(other, Some((Some(digest.clone()), MOMENT)));
        assert!(
            used(polls.look(&question, pace(0), Some(&digest), now + LOST)).is_none(),
            "it never came back"
        );
        polls.given_up(&question);
        assert!(used(polls.look(&question, pace(0), Some(&digest), now + LOST)).is_none());
    }

    #[test]
    fn a_registry_that_asked_to_be_left_alone_is_left_alone_by_all() {
        let (polls, now) = (Polls::default(), Instant::now());
        let question = question("a", None);
        let throttled = registry::Error::Throttled {
            host: "r.test".to_owned(),
            verb: "HEAD",
            code: 429,
            retry_after: Some(Duration::from_secs(600)),
        };
        polls.done(&question, Err(Arc::new(throttled)), now);
        let soon = polls.look(&question, pace(0), None, now + Duration::from_secs(599));
        assert!(
            matches!(soon, Look::Use(Err(_), left) if left == Duration::from_secs(1)),
            "{soon:?}"
        );
        let late = polls.look(&question, pace(0), None, now + Duration::from_secs(600));
        assert!(matches!(late, Look::Ask), "{late:?}");
    }

    #[test]
    fn after_a_start_the_first_looks_are_spread_for_those_that_know_what_they_follow() {
        let (polls, digest) = (Polls::default(), Digest::of(b"v1"));
        let (question, now) = (question("a", None), polls.started);
        assert!(
            used(polls.look(&question, pace(500), None, now)).is_none(),
            "nothing is known"
        );
        polls.given_up(&question);
        let early = used(polls.look(&question, pace(500), Some(&digest), now));
        assert_eq!(early, Some((Some(digest.clone()), Duration::from_secs(150))));
        let due = now + Duration::from_secs(150);
        assert!(used(polls.look(&question, pace(500), Some(&digest), due)).is_none());
    }

    #[test]
    fn the_memory_is_bounded_and_forgets_the_oldest() {
        let (polls, now) = (Polls::default(), Instant::now());
        let at = |n: usize| Question::new(format!("r.test/i:{n}").parse().unwrap(), "a", None);
        for n in 0..=MAX {
            let after = now + Duration::from_millis(u64::try_from(n).unwrap());
            polls.look(&at(n), pace(0), None, after);
            polls.done(&at(n), Ok(None), after);
        }
        assert_eq!(polls.slots.lock().unwrap().len(), MAX);
        assert!(used(polls.look(&at(1), pace(0), None, now)).is_some());
        assert!(used(polls.look(&at(0), pace(0), None, now)).is_none());
    }
}
