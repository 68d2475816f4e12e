//! Deletes what was decided. The only file of pruning that writes; all of it may be done twice.
//!
//! Images go before their candidate: while the candidate is there, it is known what is to be deleted.

use super::observe::Error;
use crate::{
    api::{BaseImage, ImageCandidate, RepaveRun},
    controllers::{
        context::Context,
        error::one_line,
        inputs,
        writes::{self, WriteError},
    },
    domain::{
        digest::Digest,
        image_ref::Repository,
        prune::{Action, PastRelease, StagedImages},
    },
    evidence,
    registry::{self, Auth, Deleted},
    runtime::{lease::NotLeader, metrics::Kind},
};
use k8s_openapi::NamespaceResourceScope;
use kube::{
    Resource, ResourceExt as _,
    runtime::events::{Event, EventType},
};
use serde::de::DeserializeOwned;
use std::{
    collections::BTreeSet,
    fmt::Debug,
    sync::{Mutex, PoisonError},
};

/// Registries that were told about; beyond it one is told again.
const MAX_TOLD: usize = 1_000;

/// The repositories that delete nothing, as far as people were told.
#[derive(Debug, Default)]
pub struct Told(Mutex<BTreeSet<String>>);

impl Told {
    /// Whether this is the first time.
    fn first(&self, repository: &Repository) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= MAX_TOLD {
            told.pop_first();
        }
        told.insert(repository.to_string())
    }
}

/// Why images were not deleted.
#[derive(Debug, thiserror::Error)]
enum Kept {
    #[error(transparent)]
    NotLeader(#[from] NotLeader),
    #[error(transparent)]
    Input(#[from] inputs::Error),
    #[error("registry: {0}")]
    Registry(#[from] registry::Error),
}

/// Deletes, in order. A registry that does not answer keeps its candidates for the next look and stops nothing else.
pub async fn apply(ctx: &Context, base: &BaseImage, actions: &[Action], told: &Told) -> Result<(), Error> {
    let namespace = base.namespace().unwrap_or_default();
    for action in actions {
        match action {
            Action::DeleteRun { name, uid } => {
                delete::<RepaveRun>(ctx, Kind::RepaveRun, &namespace, name, uid).await?;
            }
            Action::DeleteCandidate {
                name,
                uid,
                images,
                production,
            } => {
                if let Some(past) = production
                    && let Err(error) = delete_release(ctx, base, past, told).await
                {
                    let error = one_line(&error);
                    tracing::warn!(candidate = name, error, "past release not deleted from production");
                    if past.first {
                        continue;
                    }
                }
                if let Some(images) = images
                    && let Err(error) = delete_staged(ctx, base, images, told).await
                {
                    let error = one_line(&error);
                    tracing::warn!(candidate = name, error, "staged images not deleted");
                    if images.first {
                        continue;
                    }
                }
                delete::<ImageCandidate>(ctx, Kind::ImageCandidate, &namespace, name, uid).await?;
            }
        }
    }
    Ok(())
}

async fn delete<K>(ctx: &Context, kind: Kind, namespace: &str, name: &str, uid: &str) -> Result<(), WriteError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    if writes::delete_once::<K>(ctx, kind, namespace, name, uid).await? {
        tracing::info!(kind = kind.as_str(), namespace, name, "pruned");
    }
    Ok(())
}

async fn auth(ctx: &Context, base: &BaseImage) -> Result<Auth, inputs::Error> {
    let namespace = base.namespace().unwrap_or_default();
    inputs::registry_auth(ctx, &namespace, base.spec.promote.push_secret_ref.as_ref()).await
}

/// Deletes staged images with everything that is attached to them. What a registry does not do is told once.
async fn delete_staged(ctx: &Context, base: &BaseImage, images: &StagedImages, told: &Told) -> Result<(), Kept> {
    let auth = auth(ctx, base).await?;
    for digest in &images.digests {
        ctx.leader.require()?;
        let deleted = ctx.registry.delete_with_referrers(&images.repository, digest, &auth);
        if deleted.await? == Deleted::NotAllowed {
            if told.first(&images.repository) {
                publish(ctx, base, &images.repository, "StagedImagesKept", "pruned candidates").await;
            }
            // It will not do the others either.
            return Ok(());
        }
    }
    Ok(())
}

/// Deletes a past release with its tag, its signatures and everything that is attached to it.
async fn delete_release(ctx: &Context, base: &BaseImage, past: &PastRelease, told: &Told) -> Result<(), Kept> {
    let auth = auth(ctx, base).await?;
    ctx.leader.require()?;
    match evidence::delete_image(&ctx.registry, &past.repository, &past.digest, &auth).await? {
        Deleted::Gone => told_of(&past.repository, &past.digest),
        Deleted::NotAllowed if told.first(&past.repository) => {
            publish(ctx, base, &past.repository, "ReleasesKept", "past releases").await;
        }
        Deleted::NotAllowed => {}
    }
    Ok(())
}

fn told_of(repository: &Repository, digest: &Digest) {
    tracing::info!(%repository, %digest, "past release deleted from production");
}

async fn publish(ctx: &Context, base: &BaseImage, repository: &Repository, reason: &str, whose: &str) {
    let note = format!(
        "the registry does not let us delete images at {repository}: those of {whose} stay there; allow deletion, or set a retention rule for that repository"
    );
    let event = Event {
        type_: EventType::Normal,
        reason: reason.to_owned(),
        note: Some(note),
        action: "Prune".to_owned(),
        secondary: None,
    };
    writes::publish(ctx, &base.object_ref(&()), &event).await;
}
