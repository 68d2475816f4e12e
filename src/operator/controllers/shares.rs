//! How much of something limited one party may hold at the same time: transfers of a namespace, or between registries.
//!
//! Whoever finds the share taken does not wait here: it is told so and comes back, and holds nothing meanwhile.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// How soon somebody comes back at first, and at the latest when many wait.
const SOON: Duration = Duration::from_millis(250);
const LATEST: Duration = Duration::from_secs(10);

/// What each party holds. A party that holds nothing and was not refused is not remembered.
#[derive(Debug, Clone)]
pub struct Shares {
    limit: usize,
    held: Arc<Mutex<BTreeMap<String, Held>>>,
}

#[derive(Debug, Default)]
struct Held {
    now: usize,
    /// Refused since something was given back.
    refused: u32,
}

/// One piece that is held; given back when it is dropped.
#[derive(Debug)]
pub struct Share {
    party: String,
    of: Shares,
}

impl Shares {
    /// Each party may hold `limit`; at least one.
    pub fn new(limit: usize) -> Self {
        Self {
            limit: limit.max(1),
            held: Arc::default(),
        }
    }

    /// Takes one piece, or says when to come back: later the more were refused, so that a crowd costs little.
    pub fn enter(&self, party: &str) -> Result<Share, Duration> {
        let mut all = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let held = all.entry(party.to_owned()).or_default();
        if held.now < self.limit {
            held.now += 1;
            return Ok(Share {
                party: party.to_owned(),
                of: self.clone(),
            });
        }
        held.refused = held.refused.saturating_add(1);
        Err(comes_back(held.refused, self.limit))
    }
}

/// When a party comes back that was refused so many times: the more, the later.
pub fn comes_back(refused: u32, limit: usize) -> Duration {
    let crowd = refused / u32::try_from(limit.max(1)).unwrap_or(u32::MAX);
    SOON.saturating_mul(crowd.saturating_add(1)).min(LATEST)
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut all = self.of.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = all.get_mut(&self.party) {
            held.now = held.now.saturating_sub(1);
            held.refused = held.refused.saturating_sub(1);
            if held.now == 0 {
                all.remove(&self.party);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_party_cannot_take_what_is_left_for_the_others() {
        let shares = Shares::new(6);
        let held: Vec<Share> = (0..6).map(|_| shares.enter("busy").unwrap()).collect();
        assert_eq!(shares.enter("busy").unwrap_err(), SOON);
        assert!(shares.enter("other").is_ok());
        drop(held);
        assert!(shares.enter("busy").is_ok());
        assert!(
            shares.held.lock().unwrap().is_empty(),
            "nobody is remembered who holds nothing"
        );
    }

    #[test]
    fn a_crowd_comes_back_later_and_never_too_late() {
        let shares = Shares::new(2);
        let _held = [shares.enter("busy").unwrap(), shares.enter("busy").unwrap()];
        let waits: Vec<Duration> = (0..200).map(|_| shares.enter("busy").unwrap_err()).collect();
        assert!(waits.is_sorted());
        assert_eq!((waits[0], waits[199]), (SOON, LATEST));
    }
}
