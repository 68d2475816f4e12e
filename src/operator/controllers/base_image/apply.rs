//! Carries out the plan of a BaseImage. The only file of this controller that writes.

use super::plan::Action;
use crate::{
    api::ImageCandidate,
    controllers::{
        context::Context,
        error::{Class, Classified},
    },
};
use kube::{Api, ResourceExt, api::PostParams};

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// The candidate that was made.
    pub created: Option<String>,
}

/// Something could not be written.
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

/// Carries out the actions.
pub async fn apply(actions: Vec<Action>, ctx: &Context) -> Result<Applied, Error> {
    let mut applied = Applied::default();
    for action in actions {
        match action {
            Action::CreateCandidate(candidate) => applied.created = create(ctx, &candidate).await?,
        }
    }
    Ok(applied)
}

async fn create(ctx: &Context, candidate: &ImageCandidate) -> Result<Option<String>, Error> {
    let namespace = candidate.namespace().unwrap_or_default();
    let api = Api::<ImageCandidate>::namespaced(ctx.client.clone(), &namespace);
    match api.create(&PostParams::default(), candidate).await {
        Ok(_) => Ok(Some(candidate.name_any())),
        // The answer to an earlier create was lost, or the list was old: it is there, and it is the same.
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(None),
        Err(error) => Err(error.into()),
    }
}
