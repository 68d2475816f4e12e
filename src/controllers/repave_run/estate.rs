//! Reads the estate live: the namespaces that are opted in, their Deployments, and where needed their pods.
//!
//! Never from a cache: a budget that is counted on stale data is no budget. Reads only.

use super::{
    images::{Images, Layers},
    validate::Scope,
};
use crate::{
    controllers::{
        context::Context,
        paging::{self, ListError},
    },
    domain::{
        digest::Digest,
        image_ref::{ImageRef, Repository},
        lineage::{Lineage, ReleaseIndex},
        pod::{self, PodEvidence},
        wave::parse_selector,
        workload::{Rollout, Workload},
    },
};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Namespace, Pod},
};
use kube::{Api, api::ListParams};
use std::collections::BTreeMap;

/// Workloads of one plan; a larger estate is refused and not silently cut.
const MAX_WORKLOADS: usize = 50_000;
/// Namespaces of the cluster that are looked at.
const MAX_NAMESPACES: usize = 20_000;
/// Pods that are looked at per workload: they all run the same template.
const MAX_PODS: u32 = 50;
/// Lists at the same time.
const AT_ONCE: usize = 8;

/// Why the estate could not be read.
#[derive(Debug, thiserror::Error)]
pub enum EstateError {
    /// A list failed.
    #[error("the workloads could not be listed: {0}")]
    List(#[from] ListError),
    /// More than one plan can have.
    #[error("the plan selects more than {MAX_WORKLOADS} workloads: split it by targets.selector")]
    TooMany,
}

/// One workload with what was found out about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// The workload.
    pub workload: Workload,
    /// What each of its containers runs, in the same order.
    pub images: Vec<RunningImage>,
    /// What its pods with the target image say; empty unless it was asked for.
    pub evidence: PodEvidence,
}

/// What a container runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningImage {
    /// Where its image comes from.
    pub repository: Option<Repository>,
    /// Its digest.
    pub digest: Option<Digest>,
    /// What that image is.
    pub lineage: Lineage,
}

/// The estate of one plan.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Estate {
    /// All workloads in scope, sorted by namespace and name.
    pub workloads: Vec<Seen>,
    /// How many images have no known ancestry.
    pub unknown: usize,
    /// How many images are still to be looked up.
    pub not_yet: usize,
}

/// What to look for.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    /// Where.
    pub scope: &'a Scope,
    /// The known releases.
    pub releases: &'a ReleaseIndex,
    /// The image whose pods are asked how they do, on workloads with this run's mark.
    pub supervised: Option<(&'a str, &'a ImageRef)>,
}

/// Reads the estate.
pub async fn read(ctx: &Context, images: &Images, query: Query<'_>) -> Result<Estate, EstateError> {
    let workloads = workloads(ctx, query.scope).await?;
    let mut found: Vec<(Workload, Vec<Pod>)> = stream::iter(workloads)
        .map(|workload| async move {
            let pods = if needs_pods(&workload, query) {
                pods(ctx, &workload).await?
            } else {
                Vec::new()
            };
            Ok::<_, EstateError>((workload, pods))
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    found.sort_by(|(a, _), (b, _)| a.key.cmp(&b.key));
    let now = ctx.now();
    let wanted = unknown_images(&found, query.releases);
    images.look_up(&ctx.registry, &wanted, now).await;
    let layers = |digest: &Digest| images.layers(digest, now);
    Ok(assemble(found, query, &layers))
}

/// Every Deployment in scope, page by page.
async fn workloads(ctx: &Context, scope: &Scope) -> Result<Vec<Workload>, EstateError> {
    let api: Api<Namespace> = Api::all(ctx.client.clone());
    let params = ListParams::default().labels_from(&scope.namespaces);
    let names = paging::list(&api, params, MAX_NAMESPACES, |namespace: Namespace| {
        let meta = namespace.metadata;
        meta.name.filter(|_| meta.deletion_timestamp.is_none())
    })
    .await?;
    let mut lists = stream::iter(names)
        .map(|name| async move {
            let api: Api<Deployment> = Api::namespaced(ctx.client.clone(), &name);
            let params = ListParams::default().labels_from(&scope.workloads);
            paging::list(&api, params, MAX_WORKLOADS, |deployment| {
                Workload::from_deployment(&deployment)
            })
            .await
        })
        .buffer_unordered(AT_ONCE);
    let mut workloads = Vec::new();
    while let Some(found) = lists.try_next().await.map_err(too_many)? {
        workloads.extend(found);
        if workloads.len() > MAX_WORKLOADS {
            return Err(EstateError::TooMany);
        }
    }
    Ok(workloads)
}

fn too_many(error: ListError) -> EstateError {
    match error {
        ListError::TooMany { .. } => EstateError::TooMany,
        ListError::Api(_) | ListError::Stuck => EstateError::List(error),
    }
}

/// Pods are read only where the Deployment does not say enough: a tag, or a moved workload that is not healthy.
fn needs_pods(workload: &Workload, query: Query<'_>) -> bool {
    let tagged = workload.containers.iter().any(|c| {
        let image: Option<ImageRef> = c.image.parse().ok();
        image.is_some_and(|image| image.digest.is_none())
    });
    let supervised = query.supervised.is_some_and(|(mark, image)| {
        let text = image.to_string();
        workload.marks.run.as_deref() == Some(mark) && workload.containers.iter().any(|c| c.image == text)
    });
    tagged || (supervised && workload.rollout != Rollout::Settled)
}

async fn pods(ctx: &Context, workload: &Workload) -> Result<Vec<Pod>, EstateError> {
    // A selector that cannot be read finds no pods: then the digest of a tag is unknown, and nothing is moved.
    let Ok(selector) = parse_selector(&workload.pod_selector) else {
        return Ok(Vec::new());
    };
    if selector.selects_all() {
        return Ok(Vec::new());
    }
    let api: Api<Pod> = Api::namespaced(ctx.client.clone(), &workload.key.namespace);
    let params = ListParams::default().labels_from(&selector).limit(MAX_PODS);
    Ok(api.list(&params).await.map_err(ListError::Api)?.items)
}

/// The digest of a container: what is written, or else what its pods run.
fn digest_of(image: Option<&ImageRef>, container: &str, pods: &[Pod]) -> Option<Digest> {
    image?.digest.clone().or_else(|| pod::running_digest(pods, container))
}

/// Images that are no release themselves, with where to look them up.
fn unknown_images(found: &[(Workload, Vec<Pod>)], releases: &ReleaseIndex) -> BTreeMap<Digest, ImageRef> {
    let mut wanted = BTreeMap::new();
    for (workload, pods) in found {
        for container in &workload.containers {
            let image: Option<ImageRef> = container.image.parse().ok();
            let digest = digest_of(image.as_ref(), &container.name, pods);
            if let (Some(image), Some(digest)) = (image, digest)
                && releases.by_digest(&digest).is_none()
            {
                wanted.insert(digest.clone(), image.repository.at(&digest));
            }
        }
    }
    wanted
}

/// Puts together what was read. Pure.
pub fn assemble(found: Vec<(Workload, Vec<Pod>)>, query: Query<'_>, layers: &dyn Fn(&Digest) -> Layers) -> Estate {
    let mut estate = Estate::default();
    for (workload, pods) in found {
        let mut images = Vec::with_capacity(workload.containers.len());
        for container in &workload.containers {
            let image: Option<ImageRef> = container.image.parse().ok();
            let digest = digest_of(image.as_ref(), &container.name, &pods);
            let lineage = match digest.as_ref().map(|digest| (digest, layers(digest))) {
                Some((digest, Layers::Known(layers))) => query.releases.classify(digest, &layers),
                Some((digest, Layers::Unreadable | Layers::NotYet)) => query.releases.classify(digest, &[]),
                None => Lineage::Unknown,
            };
            if lineage == Lineage::Unknown {
                match digest.as_ref().map(layers) {
                    Some(Layers::NotYet) => estate.not_yet += 1,
                    Some(Layers::Known(_) | Layers::Unreadable) | None => estate.unknown += 1,
                }
            }
            images.push(RunningImage {
                repository: image.map(|image| image.repository),
                digest,
                lineage,
            });
        }
        let evidence = query
            .supervised
            .map_or_else(PodEvidence::default, |(_, image)| pod::evidence(&pods, image));
        estate.workloads.push(Seen {
            workload,
            images,
            evidence,
        });
    }
    estate
}
