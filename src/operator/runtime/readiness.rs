//! What the process still waits for, by name, for `/readyz`.
//!
//! Must not grow: a gate is a fixed name, and there are few of them.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

/// Everything that must hold before this replica is ready. Being the leader is not part of it: a standby is ready too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gate {
    /// Our CustomResourceDefinitions are served.
    Crds,
    /// The API server answers for the leader lease.
    Lease,
    /// The caches of the controllers are filled.
    Caches,
}

impl Gate {
    const ALL: [Self; 3] = [Self::Crds, Self::Lease, Self::Caches];

    /// The name in `/readyz`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Crds => "crds",
            Self::Lease => "lease",
            Self::Caches => "caches",
        }
    }
}

/// The shared state of all gates; every gate is shut at the start.
#[derive(Debug, Clone)]
pub struct Readiness(Arc<RwLock<BTreeMap<Gate, Option<String>>>>);

impl Default for Readiness {
    fn default() -> Self {
        let shut = Gate::ALL.map(|gate| (gate, Some("not started".to_owned())));
        Self(Arc::new(RwLock::new(shut.into())))
    }
}

impl Readiness {
    /// That gate is open.
    pub fn open(&self, gate: Gate) {
        self.set(gate, None);
    }

    /// That gate is shut; the text says what is missing and what to do. It is cut to 1000 characters.
    pub fn shut(&self, gate: Gate, missing: &str) {
        self.set(gate, Some(missing.chars().take(1000).collect()));
    }

    fn set(&self, gate: Gate, state: Option<String>) {
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(gate, state);
    }

    /// What is missing, gate by gate; empty when ready.
    pub fn missing(&self) -> Vec<(Gate, String)> {
        let gates = self.0.read().unwrap_or_else(PoisonError::into_inner);
        gates
            .iter()
            .filter_map(|(gate, missing)| Some((*gate, missing.clone()?)))
            .collect()
    }
}
