//! Asks the live BaseImage whether it wants a candidate. Reads only; what the answer is, is decided in `wanted.rs`.
//!
//! Everything is read live, because a cache may be old and a promotion cannot be taken back. Must not guess: what is not known
//! yet is waited for.

use super::{
    inputs::{self, Error},
    owner::{self, Claim},
    wanted::{self, Wanted},
};
use crate::{
    api::{BaseImage, ImageCandidate},
    controllers::{context::Context, named::Named as _},
};
use kube::{Api, ResourceExt as _};

/// Whether it names this candidate: asked before every step. Costs one GET, and one more where it names another one.
pub async fn wanted(candidate: &ImageCandidate, ctx: &Context) -> Result<Wanted, kube::Error> {
    Ok(named(candidate, ctx).await?.1)
}

/// Whether it names this candidate, and that is what it asks for today, in a repository of its own: asked right before people
/// come to rely on it. Costs one GET more for each policy and each ConfigMap.
pub async fn still_wanted(candidate: &ImageCandidate, ctx: &Context) -> Result<Wanted, Error> {
    let (base, said) = named(candidate, ctx).await?;
    let Some(base) = base.filter(|_| said == Wanted::Yes) else {
        return Ok(said);
    };
    let unknown = |why: String| Ok(Wanted::NotYetKnown { why });
    let Some(rivals) = ctx.base_images.rivals(&base) else {
        return unknown("the list of all BaseImages is still being read".to_owned());
    };
    let validated = super::validate(&base)?;
    if let Some(taken) = owner::taken(&Claim::of(&base), &rivals) {
        return unknown(taken.message());
    }
    let inputs = inputs::read(&base, &validated, ctx).await?;
    Ok(wanted::made_of(candidate, &base, &validated, &inputs)?)
}

async fn named(candidate: &ImageCandidate, ctx: &Context) -> Result<(Option<BaseImage>, Wanted), kube::Error> {
    let namespace = candidate.namespace().unwrap_or_default();
    let bases = Api::<BaseImage>::namespaced(ctx.client.clone(), &namespace);
    let base = bases.named(&candidate.spec.base_image).await?;
    let other = match base.as_ref().and_then(|base| wanted::other(candidate, base)) {
        Some(name) => {
            let candidates = Api::<ImageCandidate>::namespaced(ctx.client.clone(), &namespace);
            candidates.named(name).await?
        }
        None => None,
    };
    let said = wanted::named(candidate, base.as_ref(), other.as_ref());
    Ok((base, said))
}
