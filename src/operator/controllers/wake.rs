//! Wakes objects at a bounded pace: the first wake of an object passes at once, further ones are folded into one that
//! comes at the end of the pause. Never a pure debounce: whatever the stream does, an object that was woken is looked at
//! after one pause at the latest, so that nobody can keep it asleep by changing something often.
//!
//! Must not know any kind.

use futures::{Stream, StreamExt, stream};
use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
    pin::Pin,
    time::Duration,
};
use tokio::time::{Instant, sleep_until};

struct State<K> {
    source: Pin<Box<dyn Stream<Item = K> + Send>>,
    pause: Duration,
    /// When each was let through last; forgotten after a pause.
    passed: HashMap<K, Instant>,
    /// What waits for the end of its pause.
    due: BTreeMap<(Instant, u64), K>,
    next: u64,
    ended: bool,
}

/// The same stream with at most one item of each value in a `pause`. It ends when the source has ended and nothing waits.
pub fn paced<K: Hash + Eq + Clone + Send + 'static>(
    source: impl Stream<Item = K> + Send + 'static,
    pause: Duration,
) -> impl Stream<Item = K> + Send {
    let state = State {
        source: Box::pin(source),
        pause,
        passed: HashMap::new(),
        due: BTreeMap::new(),
        next: 0,
        ended: false,
    };
    stream::unfold(state, |mut state| async move {
        loop {
            if let Some(key) = state.take_due(Instant::now()) {
                return Some((key, state));
            }
            let first = state.due.keys().next().map(|(at, _)| *at);
            if state.ended && first.is_none() {
                return None;
            }
            tokio::select! {
                () = sleep_until(first.unwrap_or_else(Instant::now)), if first.is_some() => {}
                item = state.source.next(), if !state.ended => match item {
                    None => state.ended = true,
                    Some(key) => if let Some(key) = state.offer(key, Instant::now()) {
                        return Some((key, state));
                    },
                },
            }
        }
    })
}

impl<K: Hash + Eq + Clone> State<K> {
    /// Lets it through, or puts it down for the end of its pause.
    fn offer(&mut self, key: K, now: Instant) -> Option<K> {
        let pause = self.pause;
        self.passed.retain(|_, at| now < *at + pause);
        let Some(last) = self.passed.get(&key) else {
            self.passed.insert(key.clone(), now);
            return Some(key);
        };
        if !self.due.values().any(|waiting| *waiting == key) {
            self.due.insert((*last + pause, self.next), key);
            self.next += 1;
        }
        None
    }

    fn take_due(&mut self, now: Instant) -> Option<K> {
        let (at, _) = self.due.keys().next()?;
        if *at > now {
            return None;
        }
        let (_, key) = self.due.pop_first()?;
        self.passed.insert(key.clone(), now);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(5);

    fn state() -> State<char> {
        State {
            source: Box::pin(stream::pending()),
            pause: PAUSE,
            passed: HashMap::new(),
            due: BTreeMap::new(),
            next: 0,
            ended: false,
        }
    }

    #[test]
    fn a_steady_stream_of_changes_wakes_at_once_and_then_once_a_pause() {
        let (mut state, start) = (state(), Instant::now());
        let mut woken = Vec::new();
        for step in 0..130_u64 {
            let (at, now) = (step * 200, start + Duration::from_millis(step * 200));
            woken.extend(state.take_due(now).map(|_| at));
            if step < 100 {
                woken.extend(state.offer('a', now).map(|_| at));
            }
        }
        assert_eq!(
            woken,
            [0, 5_000, 10_000, 15_000, 20_000],
            "20 seconds of changes every 200 ms"
        );
        assert!(state.due.is_empty(), "nothing waits for ever");
    }

    #[test]
    fn one_busy_object_keeps_no_other_waiting_and_is_kept_once_only() {
        let (mut state, now) = (state(), Instant::now());
        let passed: Vec<char> = "aabab".chars().filter_map(|key| state.offer(key, now)).collect();
        assert_eq!(passed, ['a', 'b']);
        assert_eq!(state.due.len(), 2);
        assert_eq!(state.take_due(now), None);
        let later = now + PAUSE;
        assert_eq!(
            [state.take_due(later), state.take_due(later), state.take_due(later)],
            [Some('a'), Some('b'), None]
        );
    }

    #[tokio::test]
    async fn the_first_wake_of_each_comes_through_and_the_stream_ends_with_its_source() {
        let woken: Vec<char> = paced(stream::iter(['a', 'b']), PAUSE).collect().await;
        assert_eq!(woken, ['a', 'b']);
    }
}
