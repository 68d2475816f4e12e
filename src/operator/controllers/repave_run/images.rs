//! The layers of images by digest: looked up once at a registry and kept, because a digest never changes its content.
//!
//! A lookup serves reports only: what is moved is recognised by its digest alone. So a slow or failing registry must
//! never hold up a roll-out: lookups are bounded in number and time, a look waits for them a moment only and the rest goes on behind
//! its back, one that failed waits longer each time, and after some tries no run waits for it. Who is next is in [`line`]. What
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
use failures::Failures;
use futures::{StreamExt, stream::FuturesUnordered};
use jiff::{SignedDuration, Timestamp};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

mod failures;
mod line;

use line::{Next, Places};

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
/// Time for one lookup.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a look waits for answers; those that come later are there for the next one.
const MOMENT: Duration = Duration::from_millis(500);
/// Failures in one place after which no run waits for it any more; it is still tried now and then.
const PLACE_TRIES: u32 = 3;
/// The same in all places together: whoever names more of them holds up nobody for longer.
const TRIES: u32 = 8;
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

/// The repositories that workloads pull one digest from, with the namespaces of those workloads.
pub type Sources = BTreeMap<Repository, BTreeSet<String>>;

/// Digests with where they are pulled from.
pub type Wanted = BTreeMap<Digest, Sources>;

/// Where a digest was looked for, and by whom.
type Place = (Digest, Repository, String);

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
    failures: Failures,
    places: Places,
    /// Until when it need not be looked again whether there is room.
    full_until: Option<Timestamp>,
}

/// The memory of all lookups; one for all controllers. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Images(Arc<Mutex<Memory>>);

impl Images {
    /// Looks up what is not known of these images, as far as the bounds allow, and waits a moment for the answers.
    pub async fn look_up(&self, registry: &Client, wanted: &Wanted, asker: Asker<'_>, now: Timestamp) {
        let mut line = {
            let mut memory = self.memory();
            memory.failures.forget_stale(now);
            if !memory.has_room(namespace(asker.name), now) {
                return;
            }
            line::line(&memory, wanted, asker.name, now)
        };
        let auths: Arc<[Auth]> = asker.auths.into();
        let waited = async {
            let mut running = FuturesUnordered::new();
            loop {
                while let Some(next) = self.begin(&mut line, now) {
                    // On its own: dropping the handle when the moment is over does not end it.
                    running.push(tokio::spawn(next.run(registry.clone(), auths.clone(), now)));
                }
                if running.next().await.is_none() {
                    return;
                }
            }
        };
        if tokio::time::timeout(MOMENT, waited).await.is_err() {
            tracing::debug!("not all layers were read in time for this look");
        }
    }

    fn begin(&self, line: &mut VecDeque<Next>, now: Timestamp) -> Option<Lookup> {
        let mut memory = self.memory();
        let next = memory.places.take(line)?;
        // Failed until answered: a registry that hangs until the time is up must not be asked again at once.
        memory.failures.note(&next.place, &next.by, now);
        Some(Lookup {
            images: self.clone(),
            next,
        })
    }

    /// Whether any of these images is to be looked up now.
    pub fn has_missing(&self, wanted: &Wanted, asker: &str, now: Timestamp) -> bool {
        let mut memory = self.memory();
        let missing = wanted
            .iter()
            .any(|(digest, places)| !memory.layers.contains_key(digest) && memory.is_due(digest, places, asker, now));
        missing && memory.has_room(namespace(asker), now)
    }

    /// What is known of one image that is pulled from these repositories.
    pub fn layers(&self, digest: &Digest, places: &Sources, asker: &str, now: Timestamp) -> Layers {
        let mut memory = self.memory();
        if let Some(kept) = memory.layers.get_mut(digest) {
            kept.used = now;
            let layers = kept.value.layers.iter();
            return Layers::Known(layers.map(|hash| Digest::from_hash(hash)).collect());
        }
        // Where everything that is kept is in use, something new would only push out what is asked for next.
        if memory.is_awaited(digest, places, asker, now) && memory.has_room(namespace(asker), now) {
            Layers::NotYet
        } else {
            Layers::Unreadable
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a host said anything.
    fn heard(&self, host: &str, answered: bool, now: Timestamp) {
        let failures = &mut self.memory().failures;
        if answered {
            failures.answered(host);
        } else {
            failures.silent(host, now);
        }
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
            memory.failures.forget(place);
        }
    }
}

/// One lookup that has its place until it is over.
struct Lookup {
    images: Images,
    next: Next,
}

impl Drop for Lookup {
    fn drop(&mut self) {
        self.images.memory().places.over(&self.next);
    }
}

impl Lookup {
    async fn run(self, registry: Client, auths: Arc<[Auth]>, now: Timestamp) {
        let (digest, repository, _) = &self.next.place;
        let image = repository.at(digest);
        let found = tokio::time::timeout(PATIENCE, diff_ids(&registry, &image, &auths)).await;
        let answered = !matches!(found, Err(_) | Ok(Err(Error::Unreachable { .. })));
        self.images.heard(repository.host(), answered, now);
        match found {
            Ok(Ok(layers)) => self.images.found(&self.next.place, &layers, now),
            Ok(Err(error)) => {
                tracing::info!(%repository, %digest, error = one_line(&error), "layers not readable; ancestry unknown");
            }
            Err(_) => {
                tracing::info!(%repository, %digest, seconds = PATIENCE.as_secs(), "no answer in time; ancestry unknown for now");
            }
        }
    }
}

impl Memory {
    fn is_due(&self, digest: &Digest, places: &Sources, asker: &str, now: Timestamp) -> bool {
        places.iter().any(|(repository, namespaces)| {
            let place = (digest.clone(), repository.clone(), asker.to_owned());
            self.failures.is_due(&place, namespaces, now)
        })
    }

    /// Whether a run waits for it: it is being looked up or due to be, has not failed too often, and its registry speaks.
    fn is_awaited(&self, digest: &Digest, places: &Sources, asker: &str, now: Timestamp) -> bool {
        let under_way = self.places.is_under_way(digest, asker);
        let (mut tries, mut awaited) = (0_u32, false);
        for (repository, namespaces) in places {
            let place = (digest.clone(), repository.clone(), asker.to_owned());
            let times = self.failures.of(&place).map_or(0, |failure| failure.times);
            tries = tries.saturating_add(times);
            let open = under_way || self.failures.is_due(&place, namespaces, now);
            // The one under way has been noted as failed.
            awaited |=
                open && !self.failures.is_silent(repository.host()) && times < PLACE_TRIES + u32::from(under_way);
        }
        awaited && tries < TRIES
    }

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

fn hash(digest: &Digest) -> Option<[u8; BYTES]> {
    let mut bytes = [0; BYTES];
    hex::decode_to_slice(digest.hex(), &mut bytes).ok().map(|()| bytes)
}

/// The one question to the registry: which layers has this image?
async fn diff_ids(registry: &Client, image: &ImageRef, auths: &[Auth]) -> Result<Vec<Digest>, Error> {
    let anonymous = Auth::anonymous();
    let auth = auths
        .iter()
        .find(|auth| auth.covers(&image.repository))
        .unwrap_or(&anonymous);
    let resolved = registry.image_config(image, &Platform::linux_amd64(), auth).await?;
    Ok(resolved.diff_ids)
}

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;
