//! Who gets the next worker of a controller: fair between namespaces, whatever number of them have turns that hang.
//!
//! - A namespace that holds a worker gets another one only while less than three quarters of all are taken, and while nobody who
//!   holds none waits.
//! - A namespace that holds none gets a free worker before those that hold some; of several, the one that waits longest.
//! - The last worker is for namespaces that hold none and had no slow turn for an hour.
//!
//! So one namespace whose turns hang never has more than six of eight workers. If `n` namespaces have such turns, each that ends gives
//! its worker to the next in the line: nobody waits for more than one turn of each of the others, `n / 7` time limits with eight
//! workers. And as soon as each of the `n` has been slow once, a namespace without slow turns waits for others like itself only,
//! because the last worker is never theirs; up to [`MAX_SLOW`] namespaces, beyond which the one that was slow longest ago is forgotten.
//!
//! Whoever gets none does not wait here: it is told so and comes back, and holds nothing meanwhile.

use super::shares::comes_back;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// A turn that took so long was slow.
const SLOW: Duration = Duration::from_secs(20);
/// For how long a slow turn counts.
const REMEMBERED: Duration = Duration::from_secs(3600);
/// Namespaces with slow turns that are remembered.
const MAX_SLOW: usize = 1_000;
/// Namespaces that wait in the line; more come back without a place in it.
const MAX_WAITING: usize = 10_000;
/// One that did not come back for so long waits no more. Longer than anybody is told to wait.
const GONE: Duration = Duration::from_secs(30);

/// The workers of one controller. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Workers {
    /// How many there are.
    all: usize,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    taken: usize,
    held: BTreeMap<String, Held>,
    waiting: BTreeMap<String, Waiting>,
    /// When the last slow turn of a namespace ended.
    slow: BTreeMap<String, Instant>,
    next: u64,
}

#[derive(Debug, Default)]
struct Held {
    now: usize,
    /// Refused since one was given back.
    refused: u32,
}

/// One that holds none, and was refused.
#[derive(Debug)]
struct Waiting {
    place: u64,
    seen: Instant,
    refused: u32,
}

/// A worker that is held; given back when it is dropped.
#[derive(Debug)]
pub struct Worker {
    party: String,
    since: Instant,
    of: Workers,
}

impl Workers {
    /// So many; at least one.
    pub fn new(all: u16) -> Self {
        Self {
            all: usize::from(all).max(1),
            state: Arc::default(),
        }
    }

    /// Three quarters of all; all, if there is only one.
    fn most(&self) -> usize {
        self.all - self.all.div_ceil(4).min(self.all - 1)
    }

    /// A worker, or when to come back: later the more were refused, so that a crowd costs little.
    pub fn enter(&self, party: &str) -> Result<Worker, Duration> {
        let now = Instant::now();
        let mut state = self.lock();
        state.forget(now);
        if !self.may_enter(&state, party) {
            return Err(state.refuse(party, now, self.most()));
        }
        state.waiting.remove(party);
        state.taken += 1;
        state.held.entry(party.to_owned()).or_default().now += 1;
        Ok(Worker {
            party: party.to_owned(),
            since: now,
            of: self.clone(),
        })
    }

    fn may_enter(&self, state: &State, party: &str) -> bool {
        let free = self.all - state.taken.min(self.all);
        if free == 0 {
            return false;
        }
        if state.held.contains_key(party) {
            return state.taken < self.most() && state.waiting.is_empty();
        }
        // With one worker there is no last one to be kept.
        let last = free == 1 && self.all > 1;
        let may = |party: &String| !last || !state.slow.contains_key(party);
        let place = state.waiting.get(party).map_or(u64::MAX, |waiting| waiting.place);
        let mut before = state.waiting.iter().filter(|(_, other)| other.place < place);
        may(&party.to_owned()) && !before.any(|(other, _)| may(other))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn forget(&mut self, now: Instant) {
        self.waiting
            .retain(|_, waiting| now.duration_since(waiting.seen) < GONE);
        self.slow.retain(|_, ended| now.duration_since(*ended) < REMEMBERED);
    }

    fn refuse(&mut self, party: &str, now: Instant, most: usize) -> Duration {
        if let Some(held) = self.held.get_mut(party) {
            held.refused = held.refused.saturating_add(1);
            return comes_back(held.refused, most);
        }
        if let Some(waiting) = self.waiting.get_mut(party) {
            waiting.seen = now;
            waiting.refused = waiting.refused.saturating_add(1);
            return comes_back(waiting.refused, most);
        }
        if self.waiting.len() < MAX_WAITING {
            let waiting = Waiting {
                place: self.next,
                seen: now,
                refused: 1,
            };
            self.next += 1;
            self.waiting.insert(party.to_owned(), waiting);
        }
        comes_back(1, most)
    }

    fn was_slow(&mut self, party: &str, now: Instant) {
        if self.slow.len() >= MAX_SLOW && !self.slow.contains_key(party) {
            let oldest = self.slow.iter().min_by_key(|(_, ended)| **ended);
            if let Some(oldest) = oldest.map(|(oldest, _)| oldest.clone()) {
                self.slow.remove(&oldest);
            }
        }
        self.slow.insert(party.to_owned(), now);
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let now = Instant::now();
        let mut state = self.of.lock();
        state.taken = state.taken.saturating_sub(1);
        if let Some(held) = state.held.get_mut(&self.party) {
            held.now = held.now.saturating_sub(1);
            held.refused = held.refused.saturating_sub(1);
            if held.now == 0 {
                state.held.remove(&self.party);
            }
        }
        if now.duration_since(self.since) >= SLOW {
            state.was_slow(&self.party, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(workers: &Workers, party: &str) -> Vec<Worker> {
        std::iter::from_fn(|| workers.enter(party).ok()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn one_namespace_leaves_a_quarter_and_gives_way_to_those_that_hold_none() {
        let workers = Workers::new(8);
        let mut busy = take(&workers, "busy");
        assert_eq!(busy.len(), 6);
        let others: Vec<Worker> = ["a", "b"].map(|party| workers.enter(party).unwrap()).into();
        assert!(workers.enter("a").is_err() && workers.enter("c").is_err() && workers.enter("d").is_err());
        busy.truncate(2);
        assert!(workers.enter("busy").is_err(), "c and d wait");
        assert!(workers.enter("d").is_err(), "c waits longer");
        let more = [workers.enter("c").unwrap(), workers.enter("d").unwrap()];
        assert!(workers.enter("busy").is_err(), "three quarters are taken");
        drop((others, more));
        assert_eq!(take(&workers, "busy").len(), 4);
        drop(busy);
        assert!(workers.lock().held.is_empty(), "nobody is remembered who holds nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_worker_is_for_those_that_had_no_slow_turn_for_an_hour() {
        let workers = Workers::new(8);
        let slow: Vec<String> = (0..20).map(|number| format!("slow-{number}")).collect();
        let mut held: Vec<Worker> = slow.iter().filter_map(|party| workers.enter(party).ok()).collect();
        assert_eq!(held.len(), 8, "nothing is known of them yet");
        // Each waits in the line and has one turn.
        for _ in 0..4 {
            tokio::time::advance(SLOW).await;
            held.clear();
            held.extend(slow.iter().filter_map(|party| workers.enter(party).ok()));
        }
        assert_eq!((workers.lock().slow.len(), held.len()), (20, 7));
        let quick = workers.enter("quick").unwrap();
        assert!(workers.enter("other").is_err());
        drop(quick);
        assert!(workers.enter("slow-19").is_err() && workers.enter("other").is_ok());
        held.clear();
        tokio::time::advance(REMEMBERED).await;
        held.extend(slow.iter().filter_map(|party| workers.enter(party).ok()));
        assert_eq!(held.len(), 8, "they are forgiven");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_gets_the_next_free_worker_and_who_does_not_come_back_keeps_nobody_waiting() {
        let workers = Workers::new(2);
        let mut held = vec![workers.enter("a").unwrap(), workers.enter("b").unwrap()];
        assert!(workers.enter("gone").is_err() && workers.enter("c").is_err());
        held.clear();
        assert!(workers.enter("a").is_err(), "others wait longer");
        assert!(workers.enter("c").is_err());
        tokio::time::advance(GONE / 2).await;
        assert!(workers.enter("c").is_err());
        tokio::time::advance(GONE / 2).await;
        assert!(workers.enter("c").is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_always_room_for_one_and_what_is_remembered_is_bounded() {
        for all in 1..=64 {
            let workers = Workers::new(all);
            let held = take(&workers, "a");
            let most = usize::from(all);
            assert!(!held.is_empty() && (most == 1 || held.len() < most), "{all}");
        }
        let workers = Workers::new(1);
        for number in 0..MAX_SLOW + 10 {
            let _turn = workers.enter(&format!("slow-{number}")).unwrap();
            tokio::time::advance(SLOW / 10_000).await;
            workers.lock().was_slow(&format!("slow-{number}"), Instant::now());
        }
        assert_eq!(workers.lock().slow.len(), MAX_SLOW);
        assert!(workers.lock().slow.contains_key(&format!("slow-{MAX_SLOW}")));
    }
}
