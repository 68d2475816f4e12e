//! The layers of images by digest: looked up once at the registry and kept, because a digest never changes its content.
//!
//! A lookup serves reports only: what is moved is recognised by its digest alone. So a slow or failing registry must
//! never hold up a roll-out; lookups are bounded in number and time, and a failed one is not repeated for a while.

use crate::{
    controllers::error::one_line,
    domain::{digest::Digest, image_ref::ImageRef},
    registry::{Auth, Client, Error, Platform},
};
use futures::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// Images that are kept; beyond that all are forgotten and looked up again.
const MAX_IMAGES: usize = 20_000;
/// Lookups in one reconcile.
const MAX_LOOKUPS: usize = 64;
/// Lookups at the same time.
const AT_ONCE: usize = 4;
/// Time for the lookups of one reconcile.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a failed lookup is not repeated.
const FORGET_FAILURE: SignedDuration = SignedDuration::from_mins(10);

#[derive(Debug, Clone)]
enum Entry {
    Layers(Arc<[Digest]>),
    FailedAt(Timestamp),
}

/// What is known of an image's layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layers {
    /// Their diff IDs.
    Known(Arc<[Digest]>),
    /// They could not be read; tried again later.
    Unreadable,
    /// Not looked up yet.
    NotYet,
}

/// The memory of all lookups; one for both controllers.
#[derive(Debug, Clone, Default)]
pub struct Images(Arc<Mutex<HashMap<Digest, Entry>>>);

impl Images {
    /// Looks up what is not known of these images, as far as the bounds allow.
    pub async fn look_up(&self, registry: &Client, wanted: &BTreeMap<Digest, ImageRef>, now: Timestamp) {
        let missing: Vec<_> = wanted
            .iter()
            .filter(|(digest, _)| self.layers(digest, now) == Layers::NotYet)
            .take(MAX_LOOKUPS)
            .collect();
        let lookups = stream::iter(missing).for_each_concurrent(AT_ONCE, |(digest, image)| async move {
            // Failed until answered: a registry that hangs until the time is up must not be asked again at once.
            self.remember(digest.clone(), Entry::FailedAt(now));
            match diff_ids(registry, image).await {
                Ok(layers) => self.remember(digest.clone(), Entry::Layers(layers.into())),
                Err(error) => tracing::info!(%image, error = one_line(&error), "layers not readable; ancestry unknown"),
            }
        });
        if tokio::time::timeout(PATIENCE, lookups).await.is_err() {
            tracing::info!(
                seconds = PATIENCE.as_secs(),
                "not all layers were read in time; ancestry unknown for now"
            );
        }
    }

    /// What is known of one image.
    pub fn layers(&self, digest: &Digest, now: Timestamp) -> Layers {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get(digest) {
            Some(Entry::Layers(layers)) => Layers::Known(layers.clone()),
            Some(Entry::FailedAt(at)) if now.duration_since(*at) < FORGET_FAILURE => Layers::Unreadable,
            Some(Entry::FailedAt(_)) | None => Layers::NotYet,
        }
    }

    fn remember(&self, digest: Digest, entry: Entry) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_IMAGES && !known.contains_key(&digest) {
            known.clear();
        }
        known.insert(digest, entry);
    }
}

/// The one question to the registry: which layers has this image?
async fn diff_ids(registry: &Client, image: &ImageRef) -> Result<Vec<Digest>, Error> {
    let resolved = registry
        .image_config(image, &Platform::linux_amd64(), &Auth::anonymous())
        .await?;
    Ok(resolved.diff_ids)
}
