//! How long an object waits after failures: doubling from one second to five minutes, kept per object.
//!
//! kube-runtime has no per-object backoff (kube-rs/kube#1916). Must not grow for ever: at the bound all is forgotten, and everybody starts again at one second.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(300);
const MAX_OBJECTS: usize = 100_000;

/// Failures in a row, per object UID.
#[derive(Debug, Default)]
pub struct Backoff(Mutex<HashMap<String, u32>>);

impl Backoff {
    /// Counts one more failure and says how long to wait.
    pub fn failed(&self, uid: &str) -> Duration {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= MAX_OBJECTS {
            failures.clear();
        }
        let count = failures.entry(uid.to_owned()).or_default();
        *count = count.saturating_add(1);
        FIRST.saturating_mul(1_u32 << (*count - 1).min(9)).min(LONGEST)
    }

    /// Forgets the failures of an object that succeeded.
    pub fn succeeded(&self, uid: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_up_to_five_minutes_and_starts_again_after_success() {
        let backoff = Backoff::default();
        let waits: Vec<u64> = (0..12).map(|_| backoff.failed("a").as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        assert_eq!(backoff.failed("b").as_secs(), 1);
        backoff.succeeded("a");
        assert_eq!(backoff.failed("a").as_secs(), 1);
    }
}
