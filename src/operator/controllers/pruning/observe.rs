//! Reads what may be pruned, live: the BaseImage, its history, its candidates, its runs. Reads only.

use crate::controllers::named::Named as _;
use crate::{
    api::{BaseImage, ImageCandidate, RepaveRun, refs::LABEL_BASE_IMAGE},
    controllers::{
        context::Context,
        history::{self, Stored},
        lean,
        paging::{self, First, ListError},
        writes::WriteError,
    },
    readable::Guarded,
};
use kube::{Api, Resource, ResourceExt as _, api::ListParams, core::NamespaceResourceScope};
use serde::de::DeserializeOwned;
use std::fmt::Debug;

/// Objects of one base image that are read at one look: beyond it the oldest are pruned at the next ones.
const MAX_OBJECTS: usize = 5_000;

/// What was read.
#[derive(Debug)]
pub struct Observed {
    /// The BaseImage.
    pub base: BaseImage,
    /// Its history.
    pub history: Stored,
    /// Its candidates: what its controller owns, and nothing that only has its label.
    pub candidates: Vec<ImageCandidate>,
    /// The runs about it, of all plans.
    pub runs: Vec<RepaveRun>,
    /// Whether there are objects of it that cannot be read: then no image is deleted, because they may need it.
    pub unreadable: bool,
}

/// Something could not be read or deleted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Kubernetes API.
    #[error("Kubernetes API: {0}")]
    Api(#[from] kube::Error),
    /// A list.
    #[error(transparent)]
    List(#[from] ListError),
    /// The history.
    #[error(transparent)]
    History(#[from] history::Error),
    /// Something could not be deleted.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Reads it. `None` if there is nothing to decide by: the BaseImage is gone, or has no history yet.
pub async fn observe(ctx: &Context, seen: &BaseImage) -> Result<Option<Observed>, Error> {
    let (namespace, name) = (seen.namespace().unwrap_or_default(), seen.name_any());
    let live = Api::<BaseImage>::namespaced(ctx.client.clone(), &namespace)
        .named(&name)
        .await?;
    let Some(base) = live.filter(|live| live.metadata.deletion_timestamp.is_none()) else {
        return Ok(None);
    };
    let Some(history) = history::store::read(ctx, &namespace, &name).await? else {
        return Ok(None);
    };
    let (candidates, lost) = list(ctx, &namespace, &name, lean::shed_inputs).await?;
    let (runs, lost_runs) = list::<RepaveRun>(ctx, &namespace, &name, |_| ()).await?;
    let uid = base.metadata.uid.clone();
    let owned = |one: &ImageCandidate| {
        let mut owners = one.metadata.owner_references.iter().flatten();
        owners.any(|owner| owner.controller == Some(true) && Some(&owner.uid) == uid.as_ref())
    };
    Ok(Some(Observed {
        candidates: candidates.into_iter().filter(owned).collect(),
        runs: runs.into_iter().filter(|run| run.spec.base_image == name).collect(),
        unreadable: lost || lost_runs,
        base,
        history,
    }))
}

/// The objects with the label of this base image, without what `shed` takes away, and whether some could not be read.
async fn list<K>(
    ctx: &Context,
    namespace: &str,
    base_image: &str,
    shed: fn(&mut K),
) -> Result<(Vec<K>, bool), ListError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    let api: Api<Guarded<K>> = Api::namespaced(ctx.client.clone(), namespace);
    let label = format!("{LABEL_BASE_IMAGE}={base_image}");
    let params = ListParams::default().labels(&label);
    let mut unreadable = false;
    let readable = |guarded: Guarded<K>| {
        unreadable |= guarded.0.is_err();
        let mut object = guarded.0.ok()?;
        shed(&mut object);
        Some(object)
    };
    let First { kept, more } = paging::first(&api, params, MAX_OBJECTS, readable).await?;
    // What was not read may need an image.
    Ok((kept, unreadable || more))
}
