//! Whether what a candidate builds was taken back before. Reads only; what counts as the same is decided in
//! `domain::recall`.

use super::ValidatedCandidate;
use crate::{
    api::ImageCandidate,
    controllers::{context::Context, history},
    domain::{
        digest::Digest,
        recall::{self, Build, Recalled},
    },
};

/// The release that this candidate would bring again although it was taken back. `built` is its image, once it is known.
pub async fn recalled(
    candidate: &ImageCandidate,
    validated: &ValidatedCandidate,
    built: Option<&Digest>,
    ctx: &Context,
) -> Result<Option<Recalled>, history::Error> {
    let stored = history::store::read(ctx, &validated.namespace, &validated.base_image).await?;
    let stored = stored.ok_or_else(|| history::Error::Missing(validated.base_image.clone()))?;
    Ok(recall::recalled(&stored.history, &build(candidate, built)))
}

/// The build of a candidate, as far as it is known.
pub fn build<'a>(candidate: &'a ImageCandidate, built: Option<&'a Digest>) -> Build<'a> {
    Build {
        base_image: &candidate.spec.base_image,
        inputs: &candidate.spec.inputs_hash,
        source: &candidate.spec.source_digest,
        built,
    }
}
