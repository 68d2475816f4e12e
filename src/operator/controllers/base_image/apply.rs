//! Carries out the decision about a BaseImage: makes candidates. The channel tag is written in `channel.rs`, the status by the
//! driver; nothing else of this controller writes.

use super::{decision::Action, observe};
use crate::{
    api::{BaseImage, ImageCandidate, refs::LABEL_BASE_IMAGE},
    controllers::{
        context::Context,
        error::{Class, Classified, WAIT},
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
pub enum Error {
    /// The API did not answer, or not as it should.
    #[error("Kubernetes API: {0}")]
    Api(#[from] kube::Error),
    /// The candidate is more than the API server stores.
    #[error(
        "the candidate would be larger than Kubernetes stores (about 1.5 MiB with all policies and files): make the files that its checks and customisation refer to smaller"
    )]
    TooLarge,
    /// Its name is taken.
    #[error(
        "ImageCandidate {0} exists and was not made by this BaseImage for these inputs: it goes away with the BaseImage that made it; if it stays, or lost its label repave.dev/base-image, delete it"
    )]
    NameTaken(String),
}

impl Classified for Error {
    fn reason(&self) -> &'static str {
        match self {
            Self::Api(_) => "ApiError",
            Self::TooLarge => "CandidateTooLarge",
            Self::NameTaken(_) => "CandidateNameTaken",
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::Api(_) => Class::Transient,
            Self::TooLarge => Class::Stalled,
            Self::NameTaken(_) => Class::Waiting(WAIT),
        }
    }
}

/// Carries out the actions.
pub async fn apply(actions: &[Action], base: &BaseImage, ctx: &Context) -> Result<Applied, Error> {
    let mut applied = Applied::default();
    for action in actions {
        match action {
            Action::CreateCandidate(candidate) => applied.created = create(ctx, base, candidate).await?,
        }
    }
    Ok(applied)
}

async fn create(ctx: &Context, base: &BaseImage, candidate: &ImageCandidate) -> Result<Option<String>, Error> {
    let namespace = candidate.namespace().unwrap_or_default();
    let api = Api::<ImageCandidate>::namespaced(ctx.client.clone(), &namespace);
    match api.create(&PostParams::default(), candidate).await {
        Ok(_) => Ok(Some(candidate.name_any())),
        // The answer to an earlier create was lost: it is there, and it is the same.
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            let there = api.get_opt(&candidate.name_any()).await?;
            match there.filter(|there| !is_the_same(there, candidate, base)) {
                Some(other) => Err(Error::NameTaken(other.name_any())),
                None => Ok(None),
            }
        }
        Err(kube::Error::Api(status)) if is_too_large(status.code, &status.message) => Err(Error::TooLarge),
        Err(error) => Err(error.into()),
    }
}

fn is_the_same(there: &ImageCandidate, candidate: &ImageCandidate, base: &BaseImage) -> bool {
    let label = |of: &ImageCandidate| of.labels().get(LABEL_BASE_IMAGE).cloned();
    observe::is_of(there, base) && there.spec == candidate.spec && label(there) == label(candidate)
}

/// The API server refuses by 413; etcd behind it, within a 500, in words of its own.
fn is_too_large(code: u16, message: &str) -> bool {
    code == 413 || message.contains("etcdserver: request is too large")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_large_is_told_apart_from_what_may_be_tried_again() {
        assert!(is_too_large(413, "Request entity too large: limit is 3145728"));
        assert!(is_too_large(500, "etcdserver: request is too large"));
        assert!(!is_too_large(500, "etcdserver: request timed out"));
        assert_eq!(Error::TooLarge.class(), Class::Stalled);
        assert_eq!(Error::NameTaken("a".into()).class(), Class::Waiting(WAIT));
    }
}
