//! Which caches are not filled yet. A leader whose caches are not filled does nothing, so it is not ready.

use crate::runtime::readiness::{Gate, Readiness};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

/// The caches that were announced and are not filled, by the name of their kind.
#[derive(Debug, Clone, Default)]
pub struct Caches {
    readiness: Readiness,
    missing: Arc<Mutex<BTreeSet<String>>>,
}

impl Caches {
    /// None is announced; the gate stays as it is until one is.
    pub fn new(readiness: Readiness) -> Self {
        Self {
            readiness,
            missing: Arc::default(),
        }
    }

    /// This one is being filled: the gate is shut.
    pub fn filling(&self, kind: &str) {
        self.change(|missing| missing.insert(kind.to_owned()));
    }

    /// This one is filled; with the last one the gate opens. It stays open when a watch breaks: what is cached is old
    /// then, and every decision reads live.
    pub fn filled(&self, kind: &str) {
        self.change(|missing| missing.remove(kind));
    }

    fn change(&self, change: impl FnOnce(&mut BTreeSet<String>) -> bool) {
        let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        if !change(&mut missing) {
            return;
        }
        if missing.is_empty() {
            self.readiness.open(Gate::Caches);
        } else {
            let names: Vec<&str> = missing.iter().map(String::as_str).collect();
            let text = format!(
                "not listed yet: {}; if this stays, look at the log for a watch that fails and at the ClusterRole",
                names.join(", ")
            );
            self.readiness.shut(Gate::Caches, &text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gate_opens_with_the_last_cache_and_says_which_ones_are_missing() {
        let readiness = Readiness::default();
        let caches = Caches::new(readiness.clone());
        let said = || {
            let missing = readiness.missing();
            missing
                .into_iter()
                .find(|(gate, _)| *gate == Gate::Caches)
                .map(|(_, text)| text)
        };
        caches.filling("BaseImage");
        caches.filling("Waiver");
        assert!(said().unwrap().starts_with("not listed yet: BaseImage, Waiver;"));
        caches.filled("BaseImage");
        assert!(said().unwrap().starts_with("not listed yet: Waiver;"));
        caches.filled("Waiver");
        assert_eq!(said(), None);
        caches.filled("Waiver");
        assert_eq!(said(), None);
    }
}
