//! Which tools are believed: the outcomes of self-tests, remembered by their key for as long as the process lives.
//!
//! A restart forgets them and reads the Jobs again, or runs them again. Only what a whole report said is remembered: a
//! self-test that could not run is tried again.

use crate::domain::digest::Digest;
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

/// Most outcomes that are remembered: a new tools image or database makes a handful.
const MAX_KNOWN: usize = 1_000;

/// The outcomes.
#[derive(Debug, Default)]
pub struct Trust(Mutex<HashMap<Digest, Result<(), String>>>);

impl Trust {
    /// What is known of this self-test.
    pub fn known(&self, key: &Digest) -> Option<Result<(), String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// Whether some tool is known not to be believed.
    pub fn any_refused(&self) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.values().any(Result::is_err)
    }

    /// Remembers an outcome.
    pub fn remember(&self, key: Digest, outcome: Result<(), String>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(key, outcome);
    }
}
