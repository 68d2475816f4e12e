//! Deletes what was decided. The only file of pruning that writes; all of it may be done twice.
//!
//! Images go before their candidate: while the candidate is there, it is known what is to be deleted.

use super::observe::Error;
use crate::{
    api::{BaseImage, ImageCandidate, RepaveRun},
    controllers::{context::Context, error::one_line, inputs},
    domain::{
        image_ref::Repository,
        prune::{Action, StagedImages},
    },
    registry::{self, Auth, Deleted},
};
use kube::{
    Api, Resource, ResourceExt as _,
    api::{DeleteParams, Preconditions, PropagationPolicy},
    core::NamespaceResourceScope,
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

/// The staging repositories that delete nothing, as far as people were told.
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

/// Deletes, in order. A registry that does not answer keeps its candidates for the next look and stops nothing else.
pub async fn apply(ctx: &Context, base: &BaseImage, actions: &[Action], told: &Told) -> Result<(), Error> {
    let namespace = base.namespace().unwrap_or_default();
    for action in actions {
        match action {
            Action::DeleteRun { name, uid } => delete::<RepaveRun>(ctx, &namespace, name, uid).await?,
            Action::DeleteCandidate { name, uid, images } => {
                if let Some(images) = images
                    && let Err(error) = delete_images(ctx, base, images, told).await
                {
                    tracing::warn!(candidate = name, error, "staged images not deleted");
                    if images.first {
                        continue;
                    }
                }
                delete::<ImageCandidate>(ctx, &namespace, name, uid).await?;
            }
        }
    }
    Ok(())
}

/// Deletes this very object; one that is gone, or is another one by now, is no failure.
async fn delete<K>(ctx: &Context, namespace: &str, name: &str, uid: &str) -> Result<(), Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    let params = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Background),
        preconditions: Some(Preconditions {
            uid: Some(uid.to_owned()),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    match Api::<K>::namespaced(ctx.client.clone(), namespace)
        .delete(name, &params)
        .await
    {
        Ok(_) => {
            tracing::info!(kind = %K::kind(&()), namespace, name, "pruned");
            Ok(())
        }
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Deletes staged images with everything that is attached to them. What a registry does not do is told once.
async fn delete_images(ctx: &Context, base: &BaseImage, images: &StagedImages, told: &Told) -> Result<(), String> {
    let namespace = base.namespace().unwrap_or_default();
    let auth = inputs::registry_auth(ctx, &namespace, base.spec.promote.push_secret_ref.as_ref())
        .await
        .map_err(|error| one_line(&error))?;
    for digest in &images.digests {
        let deleted = registry_delete(ctx, images, digest, &auth)
            .await
            .map_err(|error| one_line(&error))?;
        if deleted == Deleted::NotAllowed {
            if told.first(&images.repository) {
                publish(ctx, base, &images.repository).await;
            }
            // It will not do the others either.
            return Ok(());
        }
    }
    Ok(())
}

async fn registry_delete(
    ctx: &Context,
    images: &StagedImages,
    digest: &crate::domain::digest::Digest,
    auth: &Auth,
) -> Result<Deleted, registry::Error> {
    ctx.registry
        .delete_with_referrers(&images.repository, digest, auth)
        .await
}

async fn publish(ctx: &Context, base: &BaseImage, repository: &Repository) {
    let note = format!(
        "the registry does not let us delete images at {repository}: those of pruned candidates stay there; allow deletion, or set a retention rule for that repository"
    );
    let event = Event {
        type_: EventType::Normal,
        reason: "StagedImagesKept".to_owned(),
        note: Some(note),
        action: "Prune".to_owned(),
        secondary: None,
    };
    if let Err(error) = ctx.recorder.publish(&event, &base.object_ref(&())).await {
        tracing::warn!(object = %base.name_any(), error = one_line(&error), "event not published");
    }
}
