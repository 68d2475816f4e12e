//! The two steps of a candidate that move whole images, as transfers: begun here, carried out beside the workers.

use super::{Error, copy_to_staging, promotion::promote};
use crate::{
    api::{ImageCandidate, image_candidate::Promoted},
    controllers::{
        candidate::validate::Wish,
        context::Context,
        transfers::{Key, Parties},
    },
    domain::{digest::Digest, image_ref::Repository, proof::Proof},
};
use kube::ResourceExt;

/// What a transfer comes to.
pub type TransferResult = Result<Done, Error>;

/// What was moved.
#[derive(Debug, Clone, PartialEq)]
pub enum Done {
    /// The upstream image is in the staging repository.
    Copied,
    /// The image is in production, signed.
    Promoted(Box<Promoted>),
}

/// Copies the upstream image to staging; done when it says so.
pub fn copy(candidate: &ImageCandidate, wish: &Wish, ctx: &Context) -> Result<(), Error> {
    let hosts = [&wish.source.repository, &wish.staging];
    let begin = || {
        let (candidate, wish, ctx) = (candidate.clone(), wish.clone(), ctx.clone());
        async move {
            ctx.leader.require().map_err(|lost| Error::Write(lost.into()))?;
            copy_to_staging(&candidate, &wish, &ctx).await?;
            Ok(Done::Copied)
        }
    };
    let key = key(candidate, "the copy to staging");
    // The key says what it is: nothing else ends under it.
    ctx.transfers
        .look(&key, &parties(candidate, &hosts), begin)?
        .map(|_| ())
}

/// Promotes what is proven; what was promoted when it is done.
pub fn promotion(
    candidate: &ImageCandidate,
    wish: &Wish,
    ctx: &Context,
    proof: &Proof,
    page: Option<Digest>,
) -> Result<Promoted, Error> {
    let hosts = [&wish.staging, &wish.production];
    let begin = || {
        let (candidate, wish, ctx, proof) = (candidate.clone(), wish.clone(), ctx.clone(), proof.clone());
        async move {
            ctx.leader.require().map_err(|lost| Error::Write(lost.into()))?;
            let promoted = promote(&candidate, &wish, &ctx, &proof, page.as_ref()).await?;
            Ok(Done::Promoted(Box::new(promoted)))
        }
    };
    let key = key(candidate, "the promotion");
    match ctx.transfers.look(&key, &parties(candidate, &hosts), begin)?? {
        Done::Promoted(promoted) => Ok(*promoted),
        Done::Copied => Err(Error::Lost(wish.production.to_string())),
    }
}

fn key(candidate: &ImageCandidate, what: &'static str) -> Key {
    Key {
        uid: candidate.uid().unwrap_or_default(),
        what,
    }
}

fn parties(candidate: &ImageCandidate, repositories: &[&Repository]) -> Parties {
    Parties {
        namespace: candidate.namespace().unwrap_or_default(),
        name: candidate.name_any(),
        hosts: repositories
            .iter()
            .map(|repository| repository.host().to_owned())
            .collect(),
    }
}
