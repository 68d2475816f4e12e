//! Who is next to be looked up, and what is under way: fair to namespaces and to registries.
//!
//! Each namespace with workloads is as good as any other, and within it each registry; of one registry what was tried longest ago
//! comes first. A namespace or a registry has at most a part of the places, so that one that hangs holds up no other. Pure.

use super::{MAX_LOOKUPS, Memory, Place, Wanted};
use crate::domain::digest::Digest;
use jiff::Timestamp;
use std::collections::{BTreeMap, HashMap, VecDeque};

/// Lookups at the same time, of all runs and plans.
pub(super) const AT_ONCE: usize = 16;
/// Those of one registry, and those for the workloads of one namespace.
pub(super) const OF_ONE: usize = AT_ONCE / 4;
/// Namespaces of which is known when their turn was.
const MAX_TURNS: usize = 5_000;

/// A lookup, and the namespace that it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Next {
    pub place: Place,
    pub by: String,
}

/// What is under way, and whose turn was when.
#[derive(Debug, Default)]
pub(super) struct Places {
    under_way: Vec<Next>,
    turns: HashMap<String, u64>,
    turn: u64,
}

impl Places {
    pub fn is_under_way(&self, digest: &Digest, asker: &str) -> bool {
        let mut all = self.under_way.iter();
        all.any(|next| next.place.0 == *digest && next.place.2 == asker)
    }

    /// The first one in line for which there is a place.
    pub fn take(&mut self, line: &mut VecDeque<Next>) -> Option<Next> {
        if self.under_way.len() >= AT_ONCE {
            return None;
        }
        line.retain(|next| !self.is_under_way(&next.place.0, &next.place.2));
        let at = line.iter().position(|next| {
            let host = next.place.1.host();
            let (mut of_host, mut of_namespace) = (0, 0);
            for other in &self.under_way {
                of_host += usize::from(other.place.1.host() == host);
                of_namespace += usize::from(other.by == next.by);
            }
            of_host < OF_ONE && of_namespace < OF_ONE
        })?;
        let next = line.remove(at)?;
        self.turn += 1;
        if self.turns.len() >= MAX_TURNS && !self.turns.contains_key(&next.by) {
            self.turns.clear();
        }
        self.turns.insert(next.by.clone(), self.turn);
        self.under_way.push(next.clone());
        Some(next)
    }

    pub fn over(&mut self, next: &Next) {
        self.under_way.retain(|other| other != next);
    }

    fn turn_of(&self, by: &str) -> u64 {
        self.turns.get(by).copied().unwrap_or(0)
    }
}

/// Something to look up, after when it was tried last: what never was comes first.
type Due = (Option<Timestamp>, Place);

/// What one look may ask for, in its order.
pub(super) fn line(memory: &Memory, wanted: &Wanted, asker: &str, now: Timestamp) -> VecDeque<Next> {
    let mut queues: BTreeMap<(&str, &str), Vec<Due>> = BTreeMap::new();
    for (digest, places) in wanted {
        if memory.layers.contains_key(digest) || memory.places.is_under_way(digest, asker) {
            continue;
        }
        for (repository, namespaces) in places {
            let place = (digest.clone(), repository.clone(), asker.to_owned());
            if !memory.failures.is_due(&place, namespaces, now) {
                continue;
            }
            let tried = memory.failures.tried(&place);
            for namespace in namespaces {
                let queue = queues.entry((namespace, repository.host())).or_default();
                queue.push((tried, place.clone()));
            }
        }
    }
    // Of each namespace: the first of each of its registries, then the second of each.
    let mut namespaces: BTreeMap<&str, Vec<(usize, Due)>> = BTreeMap::new();
    for ((by, _), mut queue) in queues {
        queue.sort_unstable();
        let first = queue.into_iter().take(MAX_LOOKUPS).enumerate();
        let all = namespaces.entry(by).or_default();
        all.extend(first);
    }
    let mut line: Vec<(usize, u64, Next)> = Vec::new();
    for (by, mut all) in namespaces {
        all.sort_unstable();
        let turn = memory.places.turn_of(by);
        for (at, (_, (_, place))) in all.into_iter().take(MAX_LOOKUPS).enumerate() {
            let by = by.to_owned();
            line.push((at, turn, Next { place, by }));
        }
    }
    line.sort_by_key(|(at, turn, _)| (*at, *turn));
    line.truncate(MAX_LOOKUPS);
    line.into_iter().map(|(_, _, next)| next).collect()
}
