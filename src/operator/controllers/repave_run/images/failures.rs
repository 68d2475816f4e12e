//! What could not be looked up, when it is tried again, and whose failures those are.
//!
//! A namespace has a bounded part of the memory, and what its workloads name beyond that is not asked for at all: forgetting one for
//! another would make it due at once. So nobody's images push out what is known of those of others. Pure.

use super::{MAX_KEPT, Place};
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Failures that are kept of what the workloads of one namespace name.
pub(super) const MAX_OF_ONE: usize = MAX_KEPT / 8;
/// How long a lookup that failed once is not repeated; it doubles with each further failure.
const FIRST_PAUSE: SignedDuration = SignedDuration::from_mins(10);
/// The longest such pause.
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_hours(24);
/// A failure this old is of something that nobody asks for any more.
const STALE: SignedDuration = SignedDuration::from_hours(48);
/// Lookups that a host may leave without an answer, one after the other, before it is left alone for a while.
const SILENT: u32 = 8;
/// Silent hosts that are remembered.
const MAX_HOSTS: usize = 1_000;

#[derive(Debug, Clone, Copy)]
pub(super) struct Failure {
    at: Timestamp,
    pub times: u32,
}

impl Failure {
    fn is_over(self, now: Timestamp) -> bool {
        let doublings = 1_i32 << self.times.saturating_sub(1).min(16);
        let pause = FIRST_PAUSE.saturating_mul(doublings).min(LONGEST_PAUSE);
        // A clock that was set back ends no pause too late by more than the pause.
        let waited = now.duration_since(self.at);
        waited >= pause || waited < -pause
    }
}

#[derive(Debug, Default)]
pub(super) struct Failures {
    all: HashMap<Place, (Failure, String)>,
    /// How many those are, by the namespace of the workload.
    held: BTreeMap<String, usize>,
    hosts: HashMap<String, Failure>,
}

impl Failures {
    /// A lookup for a workload of this namespace failed, or begins: it has failed until it is answered.
    pub fn note(&mut self, place: &Place, by: &str, now: Timestamp) {
        if let Some((failure, _)) = self.all.get_mut(place) {
            *failure = Failure {
                at: now,
                times: failure.times.saturating_add(1),
            };
            return;
        }
        if self.is_full(by) {
            return;
        }
        if self.all.len() >= MAX_KEPT {
            self.forget_one();
        }
        *self.held.entry(by.to_owned()).or_default() += 1;
        self.all
            .insert(place.clone(), (Failure { at: now, times: 1 }, by.to_owned()));
    }

    /// It was answered.
    pub fn forget(&mut self, place: &Place) {
        let Some((_, by)) = self.all.remove(place) else { return };
        if let Some(held) = self.held.get_mut(&by) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(&by);
            }
        }
    }

    /// The oldest one of whoever has the most.
    fn forget_one(&mut self) {
        let most = self.held.iter().max_by_key(|(_, held)| **held).map(|(by, _)| by);
        let theirs = self.all.iter().filter(|(_, (_, by))| Some(by) == most);
        let oldest = theirs.min_by_key(|(_, (failure, _))| failure.at);
        if let Some(oldest) = oldest.map(|(place, _)| place.clone()) {
            self.forget(&oldest);
        }
    }

    /// Makes room for what is asked for now.
    pub fn forget_stale(&mut self, now: Timestamp) {
        if self.all.len() < MAX_OF_ONE {
            return;
        }
        let stale = |failure: &Failure| now.duration_since(failure.at) >= STALE;
        let all = self.all.iter().filter(|(_, (failure, _))| stale(failure));
        for place in all.map(|(place, _)| place.clone()).collect::<Vec<_>>() {
            self.forget(&place);
        }
    }

    fn is_full(&self, by: &str) -> bool {
        self.held.get(by).is_some_and(|held| *held >= MAX_OF_ONE)
    }

    pub fn of(&self, place: &Place) -> Option<Failure> {
        self.all.get(place).map(|(failure, _)| *failure)
    }

    /// When it was looked up last.
    pub fn tried(&self, place: &Place) -> Option<Timestamp> {
        self.of(place).map(|failure| failure.at)
    }

    /// Whether it may be looked up for a workload of one of these namespaces.
    pub fn is_due(&self, place: &Place, namespaces: &BTreeSet<String>, now: Timestamp) -> bool {
        let due = match self.of(place) {
            Some(failure) => failure.is_over(now),
            None => namespaces.iter().any(|by| !self.is_full(by)),
        };
        due && !self.is_left_alone(place.1.host(), now)
    }

    /// Whether a host has been silent for so long that nobody waits for what it has.
    pub fn is_silent(&self, host: &str) -> bool {
        self.hosts.get(host).is_some_and(|silence| silence.times > SILENT)
    }

    fn is_left_alone(&self, host: &str, now: Timestamp) -> bool {
        self.hosts.get(host).is_some_and(|silence| {
            let times = silence.times.saturating_sub(SILENT);
            times > 0 && !Failure { times, ..*silence }.is_over(now)
        })
    }

    /// A host said nothing in time. What was under way when that was enough counts no more.
    pub fn silent(&mut self, host: &str, now: Timestamp) {
        if self.is_left_alone(host, now) {
            return;
        }
        let times = self.hosts.get(host).map_or(0, |silence| silence.times);
        if self.hosts.len() >= MAX_HOSTS && !self.hosts.contains_key(host) {
            let oldest = self.hosts.iter().min_by_key(|(_, silence)| silence.at);
            if let Some(oldest) = oldest.map(|(host, _)| host.clone()) {
                self.hosts.remove(&oldest);
            }
        }
        let silence = Failure {
            at: now,
            times: times.saturating_add(1),
        };
        self.hosts.insert(host.to_owned(), silence);
    }

    /// A host said something.
    pub fn answered(&mut self, host: &str) {
        self.hosts.remove(host);
    }
}
