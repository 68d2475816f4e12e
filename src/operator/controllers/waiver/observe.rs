//! Reads which candidates needed a waiver. Reads only.

use crate::{
    api::{ImageCandidate, Waiver},
    controllers::{
        context::Context,
        error::{Class, Classified},
        paging::{self, ListError},
    },
    readable::Guarded,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{Api, ResourceExt, api::ListParams};
use std::cmp::Reverse;

/// Most candidates of a namespace: of more it is not said who needed the waiver.
const MAX_CANDIDATES: usize = 20_000;

/// The candidates could not be listed.
#[derive(Debug, thiserror::Error)]
#[error("ImageCandidates of this namespace: {0}")]
pub struct Error(#[from] ListError);

impl Classified for Error {
    fn reason(&self) -> &'static str {
        "ApiError"
    }

    fn class(&self) -> Class {
        Class::Transient
    }
}

/// A candidate, as far as it is told: when it was made, and its name.
pub type User = (Option<Time>, String);

/// The names of the candidates that needed it, newest first.
pub async fn observe(ctx: &Context, waiver: &Waiver) -> Result<Vec<String>, Error> {
    let (name, namespace) = (waiver.name_any(), waiver.namespace().unwrap_or_default());
    let api = Api::<Guarded<ImageCandidate>>::namespaced(ctx.client.clone(), &namespace);
    let users = paging::list(&api, ListParams::default(), MAX_CANDIDATES, |guarded| {
        guarded.0.ok().and_then(|candidate| user(&name, &candidate))
    });
    Ok(newest_first(users.await?))
}

/// The candidate, if it needed the waiver. Pure.
pub fn user(waiver: &str, candidate: &ImageCandidate) -> Option<User> {
    let mut needed = candidate.status.iter().flat_map(|status| &status.waivers);
    needed
        .any(|name| name == waiver)
        .then(|| (candidate.creation_timestamp(), candidate.name_any()))
}

/// Their names. Pure.
pub fn newest_first(mut users: Vec<User>) -> Vec<String> {
    users.sort_by_key(|user| Reverse(user.clone()));
    users.into_iter().map(|(_, name)| name).collect()
}
