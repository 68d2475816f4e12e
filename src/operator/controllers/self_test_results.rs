//! Which tools are believed: the outcomes of self-tests, remembered by their key for as long as the process lives.
//!
//! A restart forgets them and reads the Jobs again, or runs them again. Only what a whole report said is remembered: a
//! self-test that could not run is tried again.

use super::bounded::BoundedMap;
use crate::domain::digest::Digest;
use std::sync::{Mutex, PoisonError};

/// Most outcomes that are remembered: a new tools image or database makes a handful.
const MAX_KNOWN: usize = 1_000;

/// The outcomes.
#[derive(Debug)]
pub struct SelfTestResults(Mutex<BoundedMap<Digest, Result<(), String>>>);

impl Default for SelfTestResults {
    fn default() -> Self {
        Self(Mutex::new(BoundedMap::new(MAX_KNOWN)))
    }
}

impl SelfTestResults {
    /// What is known of this self-test.
    pub fn known(&self, key: &Digest) -> Option<Result<(), String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// Whether some tool is known not to be believed.
    pub fn any_refused(&self) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().any(|(_, outcome)| outcome.is_err())
    }

    /// Remembers an outcome.
    pub fn remember(&self, key: Digest, outcome: Result<(), String>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(key, outcome);
    }
}
