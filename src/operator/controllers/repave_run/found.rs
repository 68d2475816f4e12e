//! What the images of workloads are: their digests, from the text or from pods, and whose layers they are built on.
//!
//! Puts together what was read; reads layers only, and must not decide what is done with a workload.

use super::{
    images::{Asker, Images, Layers, Sources, Wanted},
    seen::{Ask, Estate, LedAway, ObservedWorkload, Query, RunningImage},
};
use crate::{
    controllers::{access::Barred, context::Context, error::one_line, inputs, inventory::Entry},
    domain::{
        digest::Digest,
        image_ref::ImageRef,
        lineage::{Lineage, ReleaseIndex},
        pod::{self, PodEvidence},
        workload::Workload,
    },
    registry::Auth,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use std::{collections::BTreeSet, sync::Arc};

/// One workload on its way to be [`Seen`].
#[derive(Debug, Clone)]
pub(super) struct Found {
    /// The workload.
    pub workload: Arc<Workload>,
    /// What its containers run, as far as it is known.
    pub digests: Vec<Option<Digest>>,
    /// When its pods were read for that.
    pub pods_read: Option<Timestamp>,
    /// Its pods are still to be read.
    pub waits: bool,
    /// What its pods say.
    pub evidence: PodEvidence,
    /// Why nothing is begun on it.
    pub barred: Option<Barred>,
}

impl Found {
    /// One entry of the inventory.
    pub fn new(entry: Entry, barred: Option<Barred>) -> Self {
        let pods = entry.pods.as_deref();
        let known = |at: usize| pods.and_then(|pods| pods.digests.get(at).cloned().flatten());
        let containers = entry.workload.containers.iter().enumerate();
        let digests = containers
            .map(|(at, c)| written_digest(&c.image).or_else(|| known(at)))
            .collect();
        Self {
            digests,
            pods_read: pods.map(|pods| pods.read),
            waits: false,
            evidence: PodEvidence::default(),
            barred,
            workload: entry.workload,
        }
    }
}

/// The digests that the containers of a workload name themselves.
pub(super) fn written_digests(workload: &Workload) -> Vec<Option<Digest>> {
    workload
        .containers
        .iter()
        .map(|one| written_digest(&one.image))
        .collect()
}

/// The digest that an image reference names itself.
pub(super) fn written_digest(image: &str) -> Option<Digest> {
    image.parse::<ImageRef>().ok().and_then(|image| image.digest)
}

/// Says what every image is, with layers that are looked up where they are not known.
pub(super) async fn classify(ctx: &Context, images: &Images, found: Vec<Found>, ask: Ask<'_>) -> Estate {
    let now = ctx.now();
    let wanted = unknown_images(&found, ask.query.releases);
    let name = ask.base_image.map(ResourceExt::name_any).unwrap_or_default();
    let asker = format!("{}/{name}", ask.namespace);
    if images.has_missing(&wanted, &asker, now) {
        let auths = auths(ctx, ask).await;
        let asker = Asker {
            name: &asker,
            auths: &auths,
        };
        images.look_up(&ctx.registry, &wanted, asker, now).await;
    }
    let nowhere = Sources::new();
    let layers = |digest: &Digest| images.layers(digest, wanted.get(digest).unwrap_or(&nowhere), &asker, now);
    seen(found, ask.query.releases, &layers)
}

/// The credentials of the base image. Without them some layers stay unknown, which is a number and no failure.
async fn auths(ctx: &Context, ask: Ask<'_>) -> Vec<Auth> {
    let Some(base) = ask.base_image else {
        return Vec::new();
    };
    let secrets = [&base.spec.source.pull_secret_ref, &base.spec.promote.push_secret_ref];
    let mut auths = Vec::new();
    for secret in secrets.into_iter().flatten() {
        match inputs::registry_auth(ctx, ask.namespace, Some(secret)).await {
            Ok(auth) => auths.push(auth),
            Err(error) => tracing::info!(
                secret = secret.name,
                error = one_line(&error),
                "layers are looked up without it"
            ),
        }
    }
    auths
}

/// Images that are no release themselves, with where to look them up.
fn unknown_images(found: &[Found], releases: &ReleaseIndex) -> Wanted {
    let mut wanted = Wanted::new();
    for found in found {
        for (container, digest) in found.workload.containers.iter().zip(&found.digests) {
            if let (Ok(image), Some(digest)) = (container.image.parse::<ImageRef>(), digest)
                && releases.by_digest(digest).is_none()
            {
                let places = wanted.entry(digest.clone()).or_default();
                let namespaces = places.entry(image.repository).or_default();
                namespaces.insert(found.workload.key.namespace.clone());
            }
        }
    }
    wanted
}

/// Puts together what was read of workloads and their pods. Pure.
pub fn assemble(found: Vec<(Workload, Vec<Pod>)>, query: Query<'_>, layers: &dyn Fn(&Digest) -> Layers) -> Estate {
    let found = found
        .into_iter()
        .map(|(workload, pods)| Found {
            digests: digests_with(&workload, &pods, query.releases),
            pods_read: None,
            waits: false,
            evidence: evidence(&pods, query),
            barred: None,
            workload: Arc::new(workload),
        })
        .collect();
    seen(found, query.releases, layers)
}

/// The digest of each container: what is written, or else what its pods run. Of several releases the oldest one counts: as long
/// as one pod runs it, the workload is outdated.
pub(super) fn digests_with(workload: &Workload, pods: &[Pod], releases: &ReleaseIndex) -> Vec<Option<Digest>> {
    let containers = workload.containers.iter();
    containers
        .map(|c| written_digest(&c.image).or_else(|| oldest(&pod::running_digests(pods, &c.name), releases)))
        .collect()
}

/// The only digest, or the oldest one if all are releases of one base image.
fn oldest(running: &BTreeSet<Digest>, releases: &ReleaseIndex) -> Option<Digest> {
    if running.len() <= 1 {
        return running.first().cloned();
    }
    let known: Vec<_> = running
        .iter()
        .map(|digest| releases.by_digest(digest))
        .collect::<Option<_>>()?;
    let first = known.first()?;
    let one_base = known.iter().all(|release| release.base_image == first.base_image);
    // One that was taken back comes before every other one.
    let oldest = known
        .iter()
        .min_by_key(|release| (!release.revoked, release.sequence))?;
    one_base.then(|| oldest.digest.clone())
}

/// What the pods say about the image that is supervised.
pub(super) fn evidence(pods: &[Pod], query: Query<'_>) -> PodEvidence {
    query
        .supervised
        .map_or_else(PodEvidence::default, |supervised| pod::evidence(pods, supervised.image))
}

fn seen(found: Vec<Found>, releases: &ReleaseIndex, layers: &dyn Fn(&Digest) -> Layers) -> Estate {
    let mut estate = Estate::default();
    for found in found {
        let mut images = Vec::with_capacity(found.workload.containers.len());
        for (container, digest) in found.workload.containers.iter().zip(found.digests) {
            let known = digest.as_ref().map(|digest| (digest, layers(digest)));
            let lineage = match &known {
                Some((digest, Layers::Known(layers))) => releases.classify(digest, layers),
                Some((digest, Layers::Unreadable | Layers::NotYet)) => releases.classify(digest, &[]),
                None => Lineage::Unknown,
            };
            if lineage == Lineage::Unknown {
                match known {
                    Some((_, Layers::NotYet)) => estate.not_yet += 1,
                    None if found.waits => estate.not_yet += 1,
                    Some((_, Layers::Known(_) | Layers::Unreadable)) | None => estate.unknown += 1,
                }
            }
            images.push(RunningImage {
                repository: container.image.parse().ok().map(|image: ImageRef| image.repository),
                digest,
                lineage,
            });
        }
        estate.workloads.push(Arc::new(ObservedWorkload {
            workload: found.workload,
            images,
            evidence: found.evidence,
            led_away: LedAway::NotAsked,
            barred: found.barred,
        }));
    }
    estate
}
