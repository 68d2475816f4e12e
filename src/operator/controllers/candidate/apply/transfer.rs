//! The two steps of a candidate that move whole images, as transfers: begun here, carried out beside the workers.

use super::{Error, copy_to_staging, promotion::promote};
use crate::{
    api::{ImageCandidate, image_candidate::Promoted},
    controllers::{
        candidate::validate::ValidatedCandidate,
        context::Context,
        transfers::{self, Key, Parties, Progress},
    },
    domain::{digest::Digest, image_ref::Repository, proof::Proof},
};
use kube::ResourceExt;

const PROMOTION: &str = "the promotion";

/// The transfers of candidates.
pub type Transfers = transfers::Transfers<Result<Done, Error>>;

/// What was moved.
#[derive(Debug, Clone, PartialEq)]
pub enum Done {
    /// The upstream image is in the staging repository.
    Copied,
    /// The image is in production, signed.
    Promoted(Box<Promoted>),
}

/// Copies the upstream image to staging.
pub fn copy(
    candidate: &ImageCandidate,
    validated: &ValidatedCandidate,
    ctx: &Context,
    transfers: &Transfers,
) -> Result<Progress<Done>, Error> {
    let hosts = [&validated.source.repository, &validated.staging];
    let begin = || {
        let (candidate, validated, ctx) = (candidate.clone(), validated.clone(), ctx.clone());
        async move {
            copy_to_staging(&candidate, &validated, &ctx).await?;
            Ok(Done::Copied)
        }
    };
    look(transfers, candidate, "the copy to staging", &hosts, begin)
}

/// Promotes what is proven.
pub fn promotion(
    candidate: &ImageCandidate,
    validated: &ValidatedCandidate,
    ctx: &Context,
    transfers: &Transfers,
    proof: &Proof,
    page: Option<Digest>,
) -> Result<Progress<Done>, Error> {
    let hosts = [&validated.staging, &validated.production];
    let begin = || {
        let (candidate, validated, ctx, proof) = (candidate.clone(), validated.clone(), ctx.clone(), proof.clone());
        async move {
            let promoted = promote(&candidate, &validated, &ctx, &proof, page.as_ref()).await?;
            Ok(Done::Promoted(Box::new(promoted)))
        }
    };
    look(transfers, candidate, PROMOTION, &hosts, begin)
}

/// Ends the promotion that was begun: its candidate is not at that step any more, or waits.
pub fn no_promotion(candidate: &ImageCandidate, transfers: &Transfers) {
    transfers.give_up(&key(candidate, PROMOTION));
}

fn look<F>(
    transfers: &Transfers,
    candidate: &ImageCandidate,
    what: &'static str,
    repositories: &[&Repository],
    begin: impl FnOnce() -> F,
) -> Result<Progress<Done>, Error>
where
    F: Future<Output = Result<Done, Error>> + Send + 'static,
{
    let key = key(candidate, what);
    let parties = Parties {
        namespace: candidate.namespace().unwrap_or_default(),
        name: candidate.name_any(),
        hosts: repositories
            .iter()
            .map(|repository| repository.host().to_owned())
            .collect(),
    };
    match transfers.look(&key, &parties, begin)? {
        Progress::Done(result) => Ok(Progress::Done(result?)),
        Progress::Pending(pending) => Ok(Progress::Pending(pending)),
    }
}

fn key(candidate: &ImageCandidate, what: &'static str) -> Key {
    Key {
        uid: candidate.uid().unwrap_or_default(),
        what,
    }
}
