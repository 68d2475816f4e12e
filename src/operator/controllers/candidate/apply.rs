//! Carries out the plan of a candidate. The only file of this controller that writes; everything in it may be done twice.

mod openvex;
mod page;
mod promotion;
mod transfer;

pub use transfer::TransferResult;

use super::{decide::Action, observe::JobRef, validate::Wish};
use crate::{
    api::{
        ImageCandidate,
        image_candidate::Promoted,
        refs::{ANNOTATION_URGENT, LABEL_SELF_TEST},
    },
    controllers::{
        base_image::wanted,
        context::Context,
        error::{Class, Classified},
        inputs, slots,
        transfers::{self, Pending},
        writes::{self, WriteError},
    },
    domain::{digest::Digest, image_ref::InvalidImageRef},
    evidence::{self, ReportArtifact, signing},
    registry::{self, ArtifactLayer, Auth},
    report::page::RenderError,
    runner::frame::{Attached, Delivery},
    runtime::{
        lease::NotLeader,
        metrics::{ApiVerb, Kind},
    },
};
use bytes::Bytes;
use k8s_openapi::api::{batch::v1::Job, core::v1::ConfigMap};
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, Preconditions},
};
use std::{collections::BTreeMap, time::Duration};

/// What was done.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Applied {
    /// The upstream image is in the staging repository.
    pub copied: bool,
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

/// Why the page for people is not there yet. It holds nothing else up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageFailure {
    /// A static word.
    pub reason: &'static str,
    /// When it is tried again.
    pub class: Class,
}

/// Something could not be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A Secret or its key.
    #[error(transparent)]
    Input(#[from] inputs::Error),
    /// The registry.
    #[error("registry: {0}")]
    Registry(#[from] registry::Error),
    /// The lease is lost: another process acts now.
    #[error(transparent)]
    NotLeader(#[from] NotLeader),
    /// The BaseImage changed its mind while the image was copied.
    #[error(
        "the BaseImage changed while this was being promoted: nothing was released, and it is asked again what it wants"
    )]
    NotWantedNow,
    /// What the BaseImage wants now could not be found out.
    #[error(transparent)]
    Wanted(#[from] wanted::Error),
    /// The image is not in staging any more.
    #[error("{0} is not in the staging repository any more: delete this candidate to build it again")]
    Lost(String),
    /// The signing key.
    #[error("signing key (Secret {secret:?}): {error}")]
    Key {
        /// The Secret.
        secret: String,
        /// What is wrong.
        error: signing::KeyError,
    },
    /// The evidence could not be published.
    #[error("evidence: {0}")]
    Evidence(#[from] evidence::PublishError),
    /// The immutable tag is malformed.
    #[error("promote.channelTag: {0}")]
    Tag(#[from] InvalidImageRef),
    /// The page could not be written.
    #[error(transparent)]
    Page(#[from] RenderError),
    /// A report could not be written as JSON.
    #[error("report is not serialisable: {0}")]
    Serialize(#[from] serde_json::Error),
    /// An object with the inputs of a Job is larger than the API server takes.
    #[error(
        "{kind} {name}: expected at most about 1 MiB of inputs for one Job, found more. Make the files of the check smaller (gossfile, tailoring, VEX documents) or divide it into several checks: the BaseImage then makes a new candidate"
    )]
    TooLarge {
        /// What was to be created.
        kind: String,
        /// Its name.
        name: String,
    },
    /// The Kubernetes API.
    #[error("Kubernetes API: {0}")]
    Api(#[from] kube::Error),
    /// A Job or its ConfigMap.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// What runs is not known, so nothing is started.
    #[error(transparent)]
    Slots(#[from] slots::Error),
    /// A copy or promotion has not ended yet.
    #[error(transparent)]
    Transfer(#[from] Pending),
}

impl Classified for Error {
    fn reason(&self) -> &'static str {
        match self {
            Self::Input(error) => error.reason(),
            Self::Registry(error) => error.reason(),
            Self::NotLeader(_) => "NotLeader",
            Self::NotWantedNow => "NotWantedNow",
            Self::Wanted(error) => error.reason(),
            Self::Lost(_) => "StagedImageLost",
            Self::Key { .. } => "SigningKeyUnusable",
            Self::Evidence(error) => error.reason(),
            Self::Tag(_) => "InvalidReference",
            Self::TooLarge { .. } => "InputsTooLarge",
            Self::Page(_) => "PageNotWritten",
            Self::Serialize(_) => "InternalError",
            Self::Api(_) | Self::Slots(_) => "ApiError",
            Self::Write(error) => error.reason(),
            Self::Transfer(pending) => pending.reason(),
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::Input(error) => error.class(),
            Self::Registry(error) => error.retry_after().map_or(Class::Transient, Class::Waiting),
            Self::Key { .. } | Self::NotWantedNow => Class::Waiting(crate::controllers::error::WAIT),
            Self::Lost(_) | Self::Tag(_) | Self::Page(_) | Self::TooLarge { .. } => Class::Stalled,
            Self::Evidence(_) | Self::Serialize(_) | Self::NotLeader(_) | Self::Api(_) | Self::Slots(_) => {
                Class::Transient
            }
            Self::Wanted(error) => error.class(),
            Self::Write(error) => error.class(),
            Self::Transfer(pending) => pending.class(),
        }
    }
}

/// Carries out the actions, in order.
pub async fn apply(
    actions: Vec<Action>,
    candidate: &ImageCandidate,
    wish: &Wish,
    ctx: &Context,
) -> Result<Applied, Error> {
    let mut applied = Applied::default();
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
    start_jobs(starts, candidate, wish, ctx, &mut applied).await?;
    for action in rest {
        ctx.leader.require()?;
        match action {
            Action::CopyToStaging => {
                transfer::copy(candidate, wish, ctx)?;
                applied.copied = true;
            }
            Action::StoreReport { image, delivery } => {
                let stored = store_report(candidate, wish, ctx, &image, &delivery).await?;
                applied.reports.push((delivery.report.check, stored));
            }
            Action::PublishPage { image } => applied.page = Some(page::publish(candidate, wish, ctx, &image).await),
            Action::Promote(proof) => {
                let page = match &applied.page {
                    Some(Ok(page)) => Some(page.clone()),
                    Some(Err(_)) | None => candidate.status.as_ref().and_then(|status| status.page.clone()),
                };
                match transfer::promotion(candidate, wish, ctx, &proof, page) {
                    Ok(promoted) => applied.promoted = Some(promoted),
                    // What was done beside it (the page) is kept.
                    Err(Error::Transfer(Pending::Running { .. })) => applied.ask_again = Some(transfers::LOOK_AGAIN),
                    Err(error) => return Err(error),
                }
            }
            Action::DeleteJob(job) => delete_job(&job, wish, ctx).await?,
            // Started above.
            Action::CreateJob { .. } => {}
        }
    }
    Ok(applied)
}

/// Creates the Jobs that get a slot. Nobody else starts one in between, so it comes before everything slow.
async fn start_jobs(
    jobs: Vec<(Box<ConfigMap>, Box<Job>)>,
    candidate: &ImageCandidate,
    wish: &Wish,
    ctx: &Context,
    applied: &mut Applied,
) -> Result<(), Error> {
    if jobs.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = jobs.iter().map(|(_, job)| job.name_any()).collect();
    let urgent = candidate.annotations().contains_key(ANNOTATION_URGENT);
    let admitted = ctx.slots.admit(ctx, &wish.namespace, &names, urgent).await?;
    for (inputs, job) in jobs {
        if admitted.contains(&job.name_any()) {
            start_job(ctx, candidate, *inputs, &job).await?;
            applied.jobs.push(job.name_any());
        } else {
            applied.queued.push(job.name_any());
            applied.ask_again = Some(admitted.ask_again);
        }
    }
    Ok(())
}

/// Job first and suspended, then its ConfigMap, which belongs to it and goes with it; then it may run. A crash in between
/// leaves a suspended Job, which is taken up here again: no pod ever waits for a ConfigMap that nobody makes, and no
/// ConfigMap outlives its Job.
async fn start_job(ctx: &Context, candidate: &ImageCandidate, mut inputs: ConfigMap, job: &Job) -> Result<(), Error> {
    let candidate = candidate.uid().unwrap_or_default();
    let in_our_namespace = job.namespace().as_deref() == Some(ctx.settings.namespace.as_str());
    let ours = |there: &Job| {
        writes::is_controlled_by(there, &candidate)
            || (in_our_namespace && there.labels().contains_key(LABEL_SELF_TEST))
    };
    let job = writes::create_once(ctx, Kind::Job, job, ours)
        .await
        .map_err(too_large)?
        .into_object();
    let uid = job.uid().unwrap_or_default();
    inputs.metadata.owner_references = job.controller_owner_ref(&()).map(|owner| vec![owner]);
    // One of an older version belongs to the candidate; its name says what is in it.
    let ours = |there: &ConfigMap| writes::is_controlled_by(there, &uid) || writes::is_controlled_by(there, &candidate);
    writes::create_once(ctx, Kind::ConfigMap, &inputs, ours)
        .await
        .map_err(too_large)?;
    if job.spec.as_ref().and_then(|spec| spec.suspend) == Some(true) {
        writes::resume(ctx, &job).await?;
    }
    Ok(())
}

/// An object that the API server or etcd refused for its size: the same one is refused for ever, and a person can help.
fn too_large(error: WriteError) -> Error {
    match error {
        WriteError::Api { kind, name, cause } if writes::is_too_large(&cause) => Error::TooLarge {
            kind: kind.to_owned(),
            name,
        },
        error => error.into(),
    }
}

/// Deletes this Job and its pods; one that is gone, or has ended and was replaced by another of its name, is no failure.
async fn delete_job(job: &JobRef, wish: &Wish, ctx: &Context) -> Result<(), Error> {
    let params = DeleteParams::background().preconditions(Preconditions {
        uid: Some(job.uid.clone()),
        resource_version: None,
    });
    ctx.leader.require().map_err(WriteError::from)?;
    let jobs = Api::<Job>::namespaced(ctx.client.clone(), &wish.namespace);
    match jobs.delete(&job.name, &params).await {
        Ok(_) => {
            ctx.metrics.api_write(Kind::Job, ApiVerb::Delete);
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn copy_to_staging(candidate: &ImageCandidate, wish: &Wish, ctx: &Context) -> Result<(), Error> {
    let pull = inputs::registry_auth(ctx, &wish.namespace, candidate.spec.pull_secret_ref.as_ref()).await?;
    let push = push_auth(candidate, wish, ctx).await?;
    let stats = ctx
        .registry
        .copy_image(&wish.source, &wish.staging, &pull, &push)
        .await?;
    tracing::info!(candidate = wish.name, image = %wish.source, staging = %wish.staging, ?stats, "copied to staging");
    Ok(())
}

async fn push_auth(candidate: &ImageCandidate, wish: &Wish, ctx: &Context) -> Result<Auth, Error> {
    let secret = candidate.spec.promote.push_secret_ref.as_ref();
    Ok(inputs::registry_auth(ctx, &wish.namespace, secret).await?)
}

async fn store_report(
    candidate: &ImageCandidate,
    wish: &Wish,
    ctx: &Context,
    image: &Digest,
    delivery: &Delivery,
) -> Result<Digest, Error> {
    let auth = push_auth(candidate, wish, ctx).await?;
    let staged = wish.staging.at(image);
    let subject = ctx
        .registry
        .head(&staged, &auth)
        .await?
        .ok_or_else(|| Error::Lost(staged.to_string()))?;
    let report = ReportArtifact {
        kind: delivery.report.check.clone(),
        json: Bytes::from(serde_json::to_vec(&delivery.report)?),
        attached: delivery.attached.iter().map(layer).collect(),
    };
    Ok(evidence::attach_report(&ctx.registry, &wish.staging, &subject, &report, &auth).await?)
}

fn layer(attached: &Attached) -> ArtifactLayer {
    ArtifactLayer {
        media_type: format!("{}+gzip", attached.media_type),
        bytes: Bytes::copy_from_slice(&attached.gzip),
        annotations: BTreeMap::from([(evidence::TITLE.to_owned(), format!("{}.gz", attached.name))]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_for_size_is_for_ever() {
        let refusal = |code, message: &str| {
            let mut status = kube::core::Status::failure(message, "Invalid");
            status.code = code;
            WriteError::Api {
                kind: "ConfigMap",
                name: "repave-check-1".into(),
                cause: Box::new(kube::Error::Api(Box::new(status))),
            }
        };
        for (code, message, large) in [
            (500, "etcdserver: request is too large", true),
            (
                422,
                "ConfigMap \"x\" is invalid: []: Too long: may not be more than 1048576 bytes",
                true,
            ),
            (413, "limit is 3145728", true),
            (422, "metadata.name: Invalid value", false),
            (429, "the server is busy", false),
        ] {
            let error = too_large(refusal(code, message));
            assert_eq!(matches!(error, Error::TooLarge { .. }), large, "{message}");
        }
        let error = Error::TooLarge {
            kind: "ConfigMap".into(),
            name: "repave-check-1".into(),
        };
        assert_eq!(error.class(), Class::Stalled);
        assert!(error.to_string().contains("divide it into several checks"));
    }
}
