//! Reads which candidates needed a waiver. Reads only.

use crate::{
    api::{ImageCandidate, Waiver},
    controllers::{
        context::Context,
        error::{Class, Classified},
    },
    readable::Guarded,
};
use kube::{Api, ResourceExt, api::ListParams};

/// Most candidates of a namespace that are read.
const MAX_CANDIDATES: u32 = 1000;

/// The candidates could not be listed.
#[derive(Debug, thiserror::Error)]
#[error("Kubernetes API: {0}")]
pub struct Error(#[from] kube::Error);

impl Classified for Error {
    fn reason(&self) -> &'static str {
        "ApiError"
    }

    fn class(&self) -> Class {
        Class::Transient
    }
}

/// The names of the candidates that needed it, newest first.
pub async fn observe(ctx: &Context, waiver: &Waiver) -> Result<Vec<String>, Error> {
    let namespace = waiver.namespace().unwrap_or_default();
    let all = Api::<Guarded<ImageCandidate>>::namespaced(ctx.client.clone(), &namespace)
        .list(&ListParams::default().limit(MAX_CANDIDATES))
        .await?;
    let readable: Vec<_> = all.items.into_iter().filter_map(|guarded| guarded.0.ok()).collect();
    Ok(users(&waiver.name_any(), &readable))
}

/// Those of the candidates that needed the waiver, newest first. Pure.
pub fn users(waiver: &str, candidates: &[ImageCandidate]) -> Vec<String> {
    let uses = |c: &&ImageCandidate| c.status.iter().any(|s| s.waivers.iter().any(|name| name == waiver));
    let mut users: Vec<_> = candidates.iter().filter(uses).collect();
    users.sort_by_key(|c| std::cmp::Reverse((c.creation_timestamp(), c.name_any())));
    users.into_iter().map(ResourceExt::name_any).collect()
}
