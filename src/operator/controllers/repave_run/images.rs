//! The layers of images by digest: looked up once at a registry and kept, because a digest never changes its content.
//!
//! A lookup serves reports only: what is moved is recognised by its digest alone. So a slow or failing registry must
//! never hold up a roll-out; lookups are bounded in number and time, and one that failed waits longer each time. What
//! was read is true for everybody, because it was checked against its digest; that somebody could not read it says
//! nothing about others: failures are kept per repository and per asker.

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

#[derive(Debug, Default)]
struct Memory {
    // 32 bytes a layer: a text of 71 would be most of the memory of a large estate.
    layers: HashMap<Digest, Kept<Box<[[u8; BYTES]]>>>,
    /// How many bytes they are.
    bytes: usize,
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
                    Ok(layers) => return self.found(place, &layers, now),
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
            return Layers::Known(kept.value.iter().map(|hash| Digest::from_hash(hash)).collect());
        }
        let due = places.iter().take(MAX_PLACES).any(|repository| {
            let place = (digest.clone(), repository.clone(), asker.to_owned());
            memory.failures.get(&place).is_none_or(|kept| kept.value.is_over(now))
        });
        // Where everything that is kept is in use, something new would only push out what is asked for next.
        if due && memory.has_room(now) {
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

    fn found(&self, place: Place, layers: &[Digest], now: Timestamp) {
        let mut memory = self.memory();
        if layers.len() > MAX_LAYERS {
            // It stays a failure: it is as large the next time.
            return;
        }
        memory.failures.remove(&place);
        let hashes: Option<Box<[[u8; BYTES]]>> = layers.iter().map(hash).collect();
        if let Some(hashes) = hashes {
            memory.keep_layers(place.0, hashes, now);
        }
    }
}

impl Memory {
    /// Keeps the layers of one more image; what was of use longest ago goes until there is room.
    fn keep_layers(&mut self, image: Digest, layers: Box<[[u8; BYTES]]>, now: Timestamp) {
        let more = layers.len() * BYTES;
        let before = self.layers.remove(&image);
        self.bytes -= before.map_or(0, |kept| kept.value.len() * BYTES);
        if self.bytes + more > MAX_BYTES || self.layers.len() >= MAX_KEPT {
            let mut oldest: Vec<(Timestamp, Digest)> =
                self.layers.iter().map(|(key, kept)| (kept.used, key.clone())).collect();
            oldest.sort_unstable();
            for (_, key) in oldest {
                if self.bytes + more <= MAX_BYTES && self.layers.len() < MAX_KEPT {
                    break;
                }
                self.bytes -= self.layers.remove(&key).map_or(0, |kept| kept.value.len() * BYTES);
            }
        }
        self.bytes += more;
        self.layers.insert(
            image,
            Kept {
                value: layers,
                used: now,
            },
        );
    }

    fn has_room(&mut self, now: Timestamp) -> bool {
        if self.layers.len() < MAX_KEPT && self.bytes + MAX_LAYERS * BYTES <= MAX_BYTES {
            return true;
        }
        if self.full_until.is_some_and(|until| now < until) {
            return false;
        }
        let room = self.layers.values().any(|kept| now.duration_since(kept.used) >= IN_USE);
        self.full_until = if room { None } else { now.checked_add(RECHECK).ok() };
        room
    }
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
mod tests {
    use super::*;

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + minutes * 60).unwrap()
    }

    fn digest(seed: usize) -> Digest {
        Digest::of(&seed.to_be_bytes())
    }

    fn repository(name: &str) -> Repository {
        format!("registry.test/{name}").parse().unwrap()
    }

    fn place(seed: usize, name: &str, asker: &str) -> Place {
        (digest(seed), repository(name), asker.to_owned())
    }

    fn places(names: &[&str]) -> BTreeSet<Repository> {
        names.iter().map(|name| repository(name)).collect()
    }

    #[test]
    fn a_failed_lookup_waits_longer_each_time_and_never_more_than_a_day() {
        let images = Images::default();
        let (mut now, places) = (at(0), places(&["app"]));
        for minutes in [10, 20, 40, 80, 160, 320, 640, 1280, 1440, 1440] {
            images.failed(&place(1, "app", "a"), now);
            let ask = |after: i64| images.layers(&digest(1), &places, "a", now + SignedDuration::from_mins(after));
            assert_eq!(ask(minutes - 1), Layers::Unreadable, "{minutes}");
            assert_eq!(ask(minutes), Layers::NotYet, "{minutes}");
            now += SignedDuration::from_mins(minutes);
        }
    }

    #[test]
    fn a_failure_counts_for_one_asker_and_one_repository_only() {
        let images = Images::default();
        images.failed(&place(1, "private", "tenant/x"), at(0));
        let ask = |names: &[&str], asker: &str| images.layers(&digest(1), &places(names), asker, at(1));
        assert_eq!(ask(&["private"], "tenant/x"), Layers::Unreadable);
        assert_eq!(ask(&["private"], "platform/debian"), Layers::NotYet);
        assert_eq!(ask(&["private", "public"], "tenant/x"), Layers::NotYet);
    }

    #[test]
    fn what_one_asker_has_read_is_known_to_all() {
        let images = Images::default();
        let layers = [digest(7), digest(8)];
        images.found(place(1, "app", "a"), &layers, at(0));
        let found = images.layers(&digest(1), &places(&["elsewhere"]), "b", at(1));
        assert_eq!(found, Layers::Known(layers.into()));
    }

    #[test]
    fn a_full_memory_forgets_the_oldest_one_only_and_always_comes_to_an_end() {
        let images = Images::default();
        for seed in 0..MAX_KEPT {
            images.found(place(seed, "app", "a"), &[digest(seed)], at(i64::from(seed > 0)));
        }
        let ask = |seed: usize, now: Timestamp| images.layers(&digest(seed), &places(&["app"]), "a", now);
        // All are in use: there is no room for one more, and saying "not yet" for ever would hold up every run.
        assert_eq!(ask(MAX_KEPT, at(2)), Layers::Unreadable);
        assert_eq!(ask(MAX_KEPT, at(120)), Layers::NotYet);
        images.found(place(MAX_KEPT, "app", "a"), &[digest(3)], at(120));
        assert!(matches!(ask(MAX_KEPT, at(120)), Layers::Known(_)));
        assert_eq!(ask(0, at(120)), Layers::NotYet, "the oldest went");
        assert!(matches!(ask(1, at(120)), Layers::Known(_)), "all others stay");
    }

    /// A manifest of 4 MiB may name some 35 000 layers, and the configuration as many diff IDs.
    #[test]
    fn what_is_kept_is_bounded_in_bytes_and_not_only_in_images() {
        let (images, places) = (Images::default(), places(&["tenant/x"]));
        let layers: Vec<Digest> = (0..35_000).map(digest).collect();
        images.failed(&place(0, "tenant/x", "evil"), at(0));
        images.found(place(0, "tenant/x", "evil"), &layers, at(0));
        let known = images.layers(&digest(0), &places, "evil", at(0));
        assert_eq!(known, Layers::Unreadable, "it is not looked up at once again");
        for seed in 0..1_500 {
            images.found(place(seed, "tenant/x", "evil"), &layers[..MAX_LAYERS], at(0));
        }
        let mut memory = images.memory();
        let bytes: usize = memory.layers.values().map(|kept| kept.value.len() * BYTES).sum();
        assert_eq!((bytes, bytes <= MAX_BYTES), (memory.bytes, true), "{} MiB", bytes >> 20);
        assert!(
            !memory.has_room(at(1)) && memory.has_room(at(120)),
            "what is in use stays"
        );
    }

    /// Review rvb. Before the bound in bytes 20 000 images were needed; now it is as many as one namespace has Deployments with
    /// no replicas, and each costs its tenant a manifest and a configuration that name one empty layer a thousand times.
    #[test]
    fn rvb_the_images_of_one_asker_leave_room_for_those_of_the_others() {
        let (images, mine) = (Images::default(), places(&["tenant/x"]));
        let layers = vec![digest(7); MAX_LAYERS];
        for seed in 0..1_049 {
            images.found(place(seed, "tenant/x", "tenant/evil"), &layers, at(0));
        }
        for minutes in (30..24 * 60).step_by(30) {
            // His plan looks at them again and again: they are in use.
            for seed in 0..1_049 {
                images.layers(&digest(seed), &mine, "tenant/evil", at(minutes));
            }
            let (victim, theirs) = (digest(1_000_000), places(&["platform/app"]));
            let ask = images.layers(&victim, &theirs, "platform/debian", at(minutes + 1));
            assert_eq!(
                ask,
                Layers::NotYet,
                "after {minutes} minutes nobody else's image is looked up any more"
            );
        }
    }
}
