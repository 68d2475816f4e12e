//! A map that cannot grow for ever: at its bound the entry that was written longest ago goes.
//!
//! For memory that may be lost: backoff, answers of registries, outcomes of self-tests. Must not hold anything that a
//! decision cannot do without.

use std::{
    borrow::Borrow,
    collections::{BTreeMap, HashMap},
    hash::Hash,
};

/// The map. Not shared: put it behind a lock.
#[derive(Debug)]
pub struct BoundedMap<K, V> {
    capacity: usize,
    entries: HashMap<K, (u64, V)>,
    /// The keys by when they were written.
    order: BTreeMap<u64, K>,
    writes: u64,
}

impl<K: Clone + Eq + Hash, V> BoundedMap<K, V> {
    /// An empty map of at most `capacity` entries; at least one.
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(1),
            entries: HashMap::new(),
            order: BTreeMap::new(),
            writes: 0,
        }
    }

    /// The value of a key. Reading does not make it newer.
    pub fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.entries.get(key).map(|(_, value)| value)
    }

    /// Writes a value and makes its key the newest; the old value is given back.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let old = self.remove(&key);
        while self.entries.len() >= self.capacity {
            let Some((_, oldest)) = self.order.pop_first() else {
                break;
            };
            self.entries.remove(&oldest);
        }
        self.writes += 1;
        self.order.insert(self.writes, key.clone());
        self.entries.insert(key, (self.writes, value));
        old
    }

    /// Takes an entry out.
    pub fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let (written, value) = self.entries.remove(key)?;
        self.order.remove(&written);
        Some(value)
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All entries, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter().map(|(key, (_, value))| (key, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_the_bound_the_entry_that_was_written_longest_ago_goes_and_the_others_stay() {
        let mut map = BoundedMap::new(3);
        for key in ["a", "b", "c"] {
            assert_eq!(map.insert(key, 1), None);
        }
        assert_eq!(map.insert("a", 2), Some(1));
        map.insert("d", 1);
        assert_eq!(
            (map.get("a"), map.get("b"), map.get("c"), map.len()),
            (Some(&2), None, Some(&1), 3)
        );
    }

    #[test]
    fn what_was_taken_out_leaves_no_trace() {
        let mut map = BoundedMap::new(2);
        map.insert("a", 1);
        assert_eq!(map.remove("a"), Some(1));
        for key in ["b", "c", "d"] {
            map.insert(key, 1);
        }
        assert_eq!((map.len(), map.order.len(), map.is_empty()), (2, 2, false));
        assert_eq!(map.iter().count(), 2);
    }
}
