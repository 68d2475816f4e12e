//! Carries out the plan of a candidate. The only file of this controller that writes, with those below it; everything in
//! it may be done twice. The lease is asked right before each write, by what sends it.

mod error;
mod jobs;
mod openvex;
mod page;
mod promotion;
mod reports;
mod transfer;

pub use error::Error;
pub use transfer::Transfers;

use super::{decide::Action, validate::ValidatedCandidate};
use crate::{
    api::{ImageCandidate, image_candidate::Promoted},
    controllers::{
        context::Context,
        error::Class,
        inputs,
        transfers::{Pending, Progress},
    },
    domain::digest::Digest,
    registry::Auth,
};
use std::time::Duration;
use transfer::Done;

/// What was done.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Applied {
    /// The copy or the promotion has not ended yet, and does this.
    pub under_way: Option<Pending>,
    /// Jobs that were created.
    pub jobs: Vec<String>,
    /// Jobs that wait for a free slot.
    pub queued: Vec<String>,
    /// When those ask again.
    pub ask_again: Option<Duration>,
    /// The checks whose report is kept, with the digest of the artifact.
    pub reports: Vec<(String, Digest)>,
    /// The page for people: the digest of its artifact, or why there is none yet.
    pub page: Option<Result<Digest, PageFailure>>,
    /// What was promoted.
    pub promoted: Option<Promoted>,
}

impl Applied {
    fn moved(&mut self, progress: Progress<Done>) {
        match progress {
            Progress::Done(Done::Copied) => {}
            Progress::Done(Done::Promoted(promoted)) => self.promoted = Some(*promoted),
            Progress::Pending(pending) => {
                self.ask_again = Some(pending.look_again());
                self.under_way = Some(pending);
            }
        }
    }
}

/// Why the page for people is not there yet. It holds nothing else up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageFailure {
    /// A static word.
    pub reason: &'static str,
    /// When it is tried again.
    pub class: Class,
}

/// Carries out the actions, in order. Jobs come first: nobody else takes their slots while something slow is done.
pub async fn apply(
    actions: Vec<Action>,
    candidate: &ImageCandidate,
    validated: &ValidatedCandidate,
    ctx: &Context,
    transfers: &Transfers,
) -> Result<Applied, Error> {
    let mut applied = Applied::default();
    // Before anything is said about it: what was refused, superseded or stopped must not come out behind its back.
    if !actions.iter().any(|action| matches!(action, Action::Promote(_))) {
        transfer::no_promotion(candidate, transfers);
    }
    let (mut starts, mut rest) = (Vec::new(), Vec::new());
    for action in actions {
        match action {
            Action::CreateJob { inputs, job } => starts.push((inputs, job)),
            Action::CopyToStaging
            | Action::StoreReport { .. }
            | Action::PublishPage { .. }
            | Action::DeleteJob(_)
            | Action::Promote(_) => rest.push(action),
        }
    }
    jobs::start(starts, candidate, validated, ctx, &mut applied).await?;
    for action in rest {
        match action {
            Action::CopyToStaging => applied.moved(transfer::copy(candidate, validated, ctx, transfers)?),
            Action::StoreReport { image, delivery } => {
                let check = delivery.report.check.clone();
                let stored = reports::store(candidate, validated, ctx, &image, *delivery).await?;
                applied.reports.push((check, stored));
            }
            Action::PublishPage { image } => {
                applied.page = Some(page::publish(candidate, validated, ctx, &image).await);
            }
            Action::Promote(proof) => {
                let page = match &applied.page {
                    Some(Ok(page)) => Some(page.clone()),
                    Some(Err(_)) | None => candidate.status.as_ref().and_then(|status| status.page.clone()),
                };
                applied.moved(transfer::promotion(candidate, validated, ctx, transfers, &proof, page)?);
            }
            Action::DeleteJob(job) => jobs::delete(&job, validated, ctx).await?,
            // Started above.
            Action::CreateJob { .. } => {}
        }
    }
    Ok(applied)
}

async fn copy_to_staging(
    candidate: &ImageCandidate,
    validated: &ValidatedCandidate,
    ctx: &Context,
) -> Result<(), Error> {
    let pull = inputs::registry_auth(ctx, &validated.namespace, candidate.spec.pull_secret_ref.as_ref()).await?;
    let push = push_auth(candidate, validated, ctx).await?;
    ctx.leader.require()?;
    let stats = ctx
        .registry
        .copy_image(&validated.source, &validated.staging, &pull, &push)
        .await?;
    tracing::info!(candidate = validated.name, image = %validated.source, staging = %validated.staging, ?stats, "copied to staging");
    Ok(())
}

async fn push_auth(candidate: &ImageCandidate, validated: &ValidatedCandidate, ctx: &Context) -> Result<Auth, Error> {
    let secret = candidate.spec.promote.push_secret_ref.as_ref();
    Ok(inputs::registry_auth(ctx, &validated.namespace, secret).await?)
}
