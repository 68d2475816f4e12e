//! What every reconcile may use: the clients, the settings, and the memory that a restart may lose.

use super::backoff::Backoff;
use crate::{domain::image_ref::ImageRef, registry};
use jiff::Timestamp;
use std::{collections::BTreeSet, sync::Arc};

/// How the operator was told to work; the same for every object.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Image with the check tools, by digest.
    pub tools_image: ImageRef,
    /// Image with buildah, by digest.
    pub builder_image: ImageRef,
    /// Image with the runner (the operator's own), by digest.
    pub runner_image: ImageRef,
    /// Registries that are spoken to without TLS.
    pub insecure_registries: BTreeSet<String>,
}

/// What every reconcile may use.
#[derive(Clone)]
pub struct Context {
    /// The Kubernetes API.
    pub client: kube::Client,
    /// Registries.
    pub registry: registry::Client,
    /// How the operator was told to work.
    pub settings: Arc<Settings>,
    /// Failures in a row, per object.
    pub backoff: Arc<Backoff>,
    /// Publishes Kubernetes events; one per process, so that repeats are folded.
    pub recorder: kube::runtime::events::Recorder,
}

impl Context {
    /// The time now. The only clock of the controllers: steps get it as a parameter.
    pub fn now(&self) -> Timestamp {
        // Conditions and annotations carry whole seconds.
        let now = Timestamp::now();
        Timestamp::from_second(now.as_second()).unwrap_or(now)
    }
}
