//! The layers of images by digest: looked up once at a registry and kept, because a digest never changes its content.
//!
//! A lookup serves reports only: what is moved is recognised by its digest alone. So a slow or failing registry must
//! never hold up a roll-out; lookups are bounded in number and time, and one that failed waits longer each time. What
//! was read is true for everybody, because it was checked against its digest; that somebody could not read it says
//! nothing about others: failures are kept per repository and per asker. And each namespace that asks has a share of the memory:
//! while it holds less than that, what is in use of whoever holds the most makes room for it.

use crate::{
    controllers::error::one_line,
    domain::{
        digest::Digest,
        image_ref::{ImageRef, Repository},
    },
    registry::{Auth, Client, Error, Platform},
};
use futures::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Images, and failures, that are kept; beyond that the one that was of use longest ago is forgotten.
const MAX_KEPT: usize = 20_000;
/// Bytes of layers that are kept, of all images: a manifest may name thirty thousand of them.
const MAX_BYTES: usize = 32 << 20;
/// Bytes of a layer that is kept.
const BYTES: usize = 32;
/// Layers of an image that are kept; one with more was made to be large, and its ancestry is unknown.
const MAX_LAYERS: usize = 1_000;
/// Lookups in one reconcile.
const MAX_LOOKUPS: usize = 64;
/// Repositories that one digest is looked for in.
const MAX_PLACES: usize = 4;
/// Lookups at the same time.
const AT_ONCE: usize = 4;
/// Time for the lookups of one reconcile.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a lookup that failed once is not repeated; it doubles with each further failure.
const FIRST_PAUSE: SignedDuration = SignedDuration::from_mins(10);
/// The longest such pause.
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_hours(24);
/// What was of use within this time is not forgotten for something new.
const IN_USE: SignedDuration = SignedDuration::from_hours(1);
/// How long a memory that had no room is taken to have none.
const RECHECK: SignedDuration = SignedDuration::from_mins(1);

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

/// Who asks, and with what.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    /// `namespace/name` of the base image: failures of one do not count for another.
    pub name: &'a str,
    /// Its credentials, the most special first. The first that has one for the host is used; anonymous without any.
    pub auths: &'a [Auth],
}

/// Digests with the repositories that workloads pull them from.
pub type Wanted = BTreeMap<Digest, BTreeSet<Repository>>;

/// Where a digest was looked for, and by whom.
type Place = (Digest, Repository, String);

#[derive(Debug, Clone, Copy)]
struct Failure {
    at: Timestamp,
    times: u32,
}

#[derive(Debug)]
struct Kept<T> {
    value: T,
    used: Timestamp,
}

/// The layers of one image. 32 bytes each: a text of 71 would be most of the memory of a large estate.
type Hashes = Box<[[u8; BYTES]]>;

#[derive(Debug)]
struct Image {
    layers: Hashes,
    /// The namespace of who had it looked up.
    by: String,
}

/// How much one namespace holds, or all.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Amount {
    bytes: usize,
    images: usize,
}

#[derive(Debug, Default)]
struct Memory {
    layers: HashMap<Digest, Kept<Image>>,
    /// How much that is, by the namespace of who had it looked up.
    held: BTreeMap<String, Amount>,
    all: Amount,
    failures: HashMap<Place, Kept<Failure>>,
    /// Until when it need not be looked again whether there is room.
    full_until: Option<Timestamp>,
}

/// The memory of all lookups; one for all controllers. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Images(Arc<Mutex<Memory>>);

impl Images {
    /// Looks up what is not known of these images, as far as the bounds allow.
    pub async fn look_up(&self, registry: &Client, wanted: &Wanted, asker: Asker<'_>, now: Timestamp) {
        let missing: Vec<_> = wanted
            .iter()
            .filter(|(digest, places)| self.layers(digest, places, asker.name, now) == Layers::NotYet)
            .take(MAX_LOOKUPS)
            .collect();
        let lookups = stream::iter(missing).for_each_concurrent(AT_ONCE, |(digest, places)| async move {
            for repository in places.iter().take(MAX_PLACES) {
                let place = (digest.clone(), repository.clone(), asker.name.to_owned());
                if !self.is_due(&place, now) {
                    continue;
                }
                // Failed until answered: a registry that hangs until the time is up must not be asked again at once.
                self.failed(&place, now);
                match diff_ids(registry, &repository.at(digest), asker).await {
                    Ok(layers) => return self.found(&place, &layers, now),
                    Err(error) => {
                        tracing::info!(%repository, %digest, error = one_line(&error), "layers not readable; ancestry unknown");
                    }
                }
            }
        });
        if tokio::time::timeout(PATIENCE, lookups).await.is_err() {
            tracing::info!(
                seconds = PATIENCE.as_secs(),
                "not all layers were read in time; ancestry unknown for now"
            );
        }
    }

    /// Whether any of these images is still to be looked up.
    pub fn has_missing(&self, wanted: &Wanted, asker: &str, now: Timestamp) -> bool {
        let mut all = wanted.iter();
        all.any(|(digest, places)| self.layers(digest, places, asker, now) == Layers::NotYet)
    }

    /// What is known of one image that is pulled from these repositories.
    pub fn layers(&self, digest: &Digest, places: &BTreeSet<Repository>, asker: &str, now: Timestamp) -> Layers {
        let mut memory = self.memory();
        if let Some(kept) = memory.layers.get_mut(digest) {
            kept.used = now;
            let layers = kept.value.layers.iter();
            return Layers::Known(layers.map(|hash| Digest::from_hash(hash)).collect());
        }
        let due = places.iter().take(MAX_PLACES).any(|repository| {
            let place = (digest.clone(), repository.clone(), asker.to_owned());
            memory.failures.get(&place).is_none_or(|kept| kept.value.is_over(now))
        });
        // Where everything that is kept is in use, something new would only push out what is asked for next.
        if due && memory.has_room(namespace(asker), now) {
            Layers::NotYet
        } else {
            Layers::Unreadable
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_due(&self, place: &Place, now: Timestamp) -> bool {
        let memory = self.memory();
        memory.failures.get(place).is_none_or(|kept| kept.value.is_over(now))
    }

    fn failed(&self, place: &Place, now: Timestamp) {
        let mut memory = self.memory();
        let times = memory
            .failures
            .get(place)
            .map_or(1, |kept| kept.value.times.saturating_add(1));
        keep(&mut memory.failures, place.clone(), Failure { at: now, times }, now);
    }

    fn found(&self, place: &Place, layers: &[Digest], now: Timestamp) {
        let mut memory = self.memory();
        if layers.len() > MAX_LAYERS {
            // It stays a failure: it is as large the next time.
            return;
        }
        let hashes: Option<Hashes> = layers.iter().map(hash).collect();
        let Some(layers) = hashes else { return };
        let by = namespace(&place.2).to_owned();
        if memory.keep_layers(&place.0, Image { layers, by }, now) {
            memory.failures.remove(place);
        }
    }
}

impl Memory {
    /// Keeps the layers of one more image, if there is or can be made room for it.
    fn keep_layers(&mut self, digest: &Digest, image: Image, now: Timestamp) -> bool {
        self.forget(digest);
        let more = image.layers.len() * BYTES;
        if !self.fits(more) {
            self.make_room(&image.by, more, now);
        }
        if !self.fits(more) {
            return false;
        }
        let held = self.held.entry(image.by.clone()).or_default();
        for amount in [held, &mut self.all] {
            amount.bytes += more;
            amount.images += 1;
        }
        let kept = Kept {
            value: image,
            used: now,
        };
        self.layers.insert(digest.clone(), kept);
        true
    }

    /// What was of no use for long goes first, the oldest first; then, for one that holds less than its share, what was of use
    /// longest ago of whoever holds the most.
    fn make_room(&mut self, by: &str, more: usize, now: Timestamp) {
        let unused = self.oldest(|kept| is_unused(kept, now));
        self.forget_until_fits(unused, more);
        while !self.fits(more) && self.is_below_share(by, more) {
            let most = self.held.iter().max_by_key(|(_, amount)| **amount);
            let Some(most) = most.map(|(most, _)| most.clone()).filter(|most| most != by) else {
                return;
            };
            let theirs = self.oldest(|kept| kept.value.by == most);
            self.forget_until_fits(theirs, more);
        }
    }

    fn forget_until_fits(&mut self, images: Vec<Digest>, more: usize) {
        for digest in images {
            if self.fits(more) {
                return;
            }
            self.forget(&digest);
        }
    }

    /// The images that pass a test, the one that was of use longest ago first.
    fn oldest(&self, test: impl Fn(&Kept<Image>) -> bool) -> Vec<Digest> {
        let all = self.layers.iter().filter(|(_, kept)| test(kept));
        let mut all: Vec<(Timestamp, &Digest)> = all.map(|(digest, kept)| (kept.used, digest)).collect();
        all.sort_unstable();
        all.into_iter().map(|(_, digest)| digest.clone()).collect()
    }

    fn forget(&mut self, digest: &Digest) {
        let Some(Kept { value: image, .. }) = self.layers.remove(digest) else {
            return;
        };
        let bytes = image.layers.len() * BYTES;
        let less = |amount: &mut Amount| {
            amount.bytes -= bytes;
            amount.images -= 1;
            *amount == Amount::default()
        };
        less(&mut self.all);
        if self.held.get_mut(&image.by).is_some_and(less) {
            self.held.remove(&image.by);
        }
    }

    fn fits(&self, more: usize) -> bool {
        self.all.images < MAX_KEPT && self.all.bytes + more <= MAX_BYTES
    }

    /// Whether a namespace would hold, with so many bytes more, no more than its part of all, where each has the same.
    fn is_below_share(&self, by: &str, more: usize) -> bool {
        let held = self.held.get(by).copied();
        let parties = self.held.len() + usize::from(held.is_none());
        let held = held.unwrap_or_default();
        held.images < MAX_KEPT / parties && held.bytes + more <= MAX_BYTES / parties
    }

    fn has_room(&mut self, by: &str, now: Timestamp) -> bool {
        let most = MAX_LAYERS * BYTES;
        if self.fits(most) || self.is_below_share(by, most) {
            return true;
        }
        if self.full_until.is_some_and(|until| now < until) {
            return false;
        }
        let room = self.layers.values().any(|kept| is_unused(kept, now));
        self.full_until = if room { None } else { now.checked_add(RECHECK).ok() };
        room
    }
}

fn is_unused<T>(kept: &Kept<T>, now: Timestamp) -> bool {
    now.duration_since(kept.used) >= IN_USE
}

/// The namespace of an asker.
fn namespace(asker: &str) -> &str {
    asker.split_once('/').map_or(asker, |(namespace, _)| namespace)
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

fn hash(digest: &Digest) -> Option<[u8; BYTES]> {
    let mut bytes = [0; BYTES];
    hex::decode_to_slice(digest.hex(), &mut bytes).ok().map(|()| bytes)
}

/// Keeps one more; at the bound the one that was of use longest ago goes.
fn keep<K: Hash + Eq + Clone, T>(map: &mut HashMap<K, Kept<T>>, key: K, value: T, now: Timestamp) {
    if map.len() >= MAX_KEPT && !map.contains_key(&key) {
        let oldest = map.iter().min_by_key(|(_, kept)| kept.used).map(|(key, _)| key.clone());
        if let Some(oldest) = oldest {
            map.remove(&oldest);
        }
    }
    map.insert(key, Kept { value, used: now });
}

/// The one question to the registry: which layers has this image?
async fn diff_ids(registry: &Client, image: &ImageRef, asker: Asker<'_>) -> Result<Vec<Digest>, Error> {
    let anonymous = Auth::anonymous();
    let auth = asker
        .auths
        .iter()
        .find(|auth| auth.covers(&image.repository))
        .unwrap_or(&anonymous);
    let resolved = registry.image_config(image, &Platform::linux_amd64(), auth).await?;
    Ok(resolved.diff_ids)
}

#[cfg(test)]
mod tests;
