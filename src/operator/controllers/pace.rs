//! How often one object may be worked on: at once, and then at most once a gap, however many changes come.
//!
//! Not a debounce: a change never moves the next turn away, so an object that changes all the time is worked on once a
//! gap and never starved.

use super::bounded::BoundedMap;
use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// Objects that are remembered; one that is forgotten gets its turn at once.
const MAX_OBJECTS: usize = 100_000;

/// When each object had its last turn, by UID.
#[derive(Debug)]
pub struct Pace {
    gap: Duration,
    last: Mutex<BoundedMap<String, Instant>>,
}

impl Pace {
    /// Turns of one object are at least `gap` apart; zero: no limit.
    pub fn new(gap: Duration) -> Self {
        Self {
            gap,
            last: Mutex::new(BoundedMap::new(MAX_OBJECTS)),
        }
    }

    /// Begins a turn, or says how long it is until the next one.
    pub fn admit(&self, uid: &str, now: Instant) -> Result<(), Duration> {
        if self.gap.is_zero() {
            return Ok(());
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = last.get(uid) {
            let left = self.gap.saturating_sub(now.saturating_duration_since(*turn));
            if !left.is_zero() {
                return Err(left);
            }
        }
        last.insert(uid.to_owned(), now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn changes_that_never_end_get_a_turn_each_gap() {
        let pace = Pace::new(Duration::from_secs(1));
        let begin = Instant::now();
        let mut turns = Vec::new();
        for _ in 0..50 {
            if pace.admit("run", Instant::now()).is_ok() {
                turns.push(begin.elapsed().as_millis());
            }
            tokio::time::advance(Duration::from_millis(200)).await;
        }
        assert_eq!(turns, [0, 1000, 2000, 3000, 4000, 5000, 6000, 7000, 8000, 9000]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_turn_says_when_the_next_one_is_and_does_not_move_it() {
        let pace = Pace::new(Duration::from_secs(1));
        assert_eq!(pace.admit("run", Instant::now()), Ok(()));
        for left in [1000, 700, 400] {
            assert_eq!(pace.admit("run", Instant::now()), Err(Duration::from_millis(left)));
            tokio::time::advance(Duration::from_millis(300)).await;
        }
        assert_eq!(pace.admit("other", Instant::now()), Ok(()));
    }
}
