//! Carries out the plan of a candidate. The only file of this controller that writes; everything in it may be done twice.

mod openvex;
mod page;

use super::{
    observe::{self, JobRef},
    plan::Action,
    validate::Wish,
    wanted::Wanted,
};
use crate::{
    api::{
        ImageCandidate,
        image_candidate::{PolicySnapshot, Promoted},
        refs::ANNOTATION_URGENT,
        validation_policy::Enforcement,
    },
    controllers::{
        context::Context,
        error::{Class, Classified},
        inputs,
    },
    domain::{
        digest::Digest,
        image_ref::InvalidImageRef,
        lineage,
        report::{Report, ToolName},
    },
    evidence::{
        self, Evidence, ReportArtifact, signing,
        vsa::{self, ReleaseRecord},
    },
    registry::{self, ArtifactLayer, Auth, Platform},
    report::page::RenderError,
    runner::frame::{Attached, Delivery},
    runtime::metrics::{ApiVerb, Kind},
};
use bytes::Bytes;
use jiff::Timestamp;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{batch::v1::Job, core::v1::ConfigMap},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, PostParams, Preconditions},
};
use serde::{Serialize, de::DeserializeOwned};
use std::{collections::BTreeMap, fmt::Debug};

/// What was done.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Applied {
    /// The upstream image is in the staging repository.
    pub copied: bool,
    /// Jobs that were created.
    pub jobs: Vec<String>,
    /// Jobs that wait for a free slot.
    pub queued: Vec<String>,
    /// Reports that are kept, with the digest of the artifact.
    pub reports: Vec<(Box<Report>, Digest)>,
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
    /// The BaseImage changed its mind while the image was copied.
    #[error(
        "the BaseImage changed while this was being promoted: nothing was released, and it is asked again what it wants"
    )]
    NotWantedNow,
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
    /// The Kubernetes API.
    #[error("Kubernetes API: {0}")]
    Api(#[from] kube::Error),
}

impl Classified for Error {
    fn reason(&self) -> &'static str {
        match self {
            Self::Input(error) => error.reason(),
            Self::Registry(error) => error.reason(),
            Self::NotWantedNow => "NotWantedNow",
            Self::Lost(_) => "StagedImageLost",
            Self::Key { .. } => "SigningKeyUnusable",
            Self::Evidence(error) => error.reason(),
            Self::Tag(_) => "InvalidReference",
            Self::Page(_) => "PageNotWritten",
            Self::Serialize(_) => "InternalError",
            Self::Api(_) => "ApiError",
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::Input(error) => error.class(),
            Self::Registry(error) => error.retry_after().map_or(Class::Transient, Class::Waiting),
            Self::Key { .. } | Self::NotWantedNow => Class::Waiting(crate::controllers::error::WAIT),
            Self::Lost(_) | Self::Tag(_) | Self::Page(_) => Class::Stalled,
            Self::Evidence(_) | Self::Serialize(_) | Self::Api(_) => Class::Transient,
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
            | Action::CancelJob(_)
            | Action::Promote { .. } => rest.push(action),
        }
    }
    start_jobs(starts, candidate, wish, ctx, &mut applied).await?;
    for action in rest {
        match action {
            Action::CopyToStaging => {
                copy_to_staging(candidate, wish, ctx).await?;
                applied.copied = true;
            }
            Action::StoreReport { image, delivery } => {
                let stored = store_report(candidate, wish, ctx, &image, &delivery).await?;
                applied.reports.push((Box::new(delivery.report), stored));
            }
            Action::PublishPage { image } => applied.page = Some(page::publish(candidate, wish, ctx, &image).await),
            Action::Promote { image } => {
                let page = match &applied.page {
                    Some(Ok(page)) => Some(page.clone()),
                    Some(Err(_)) | None => candidate.status.as_ref().and_then(|status| status.page.clone()),
                };
                applied.promoted = Some(promote(candidate, wish, ctx, &image, page.as_ref()).await?);
            }
            Action::CancelJob(job) => cancel(&job, wish, ctx).await?,
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
        if !admitted.contains(&job.name_any()) {
            applied.queued.push(job.name_any());
            continue;
        }
        if create_once(ctx, &wish.namespace, &*inputs).await? {
            ctx.metrics.api_write(Kind::ConfigMap, ApiVerb::Create);
        }
        if create_once(ctx, &wish.namespace, &*job).await? {
            ctx.metrics.api_write(Kind::Job, ApiVerb::Create);
            applied.jobs.push(job.name_any());
        }
    }
    Ok(())
}

/// Deletes this Job and its pods; one that is gone, or has ended and was replaced by another of its name, is no failure.
async fn cancel(job: &JobRef, wish: &Wish, ctx: &Context) -> Result<(), Error> {
    let params = DeleteParams::background().preconditions(Preconditions {
        uid: Some(job.uid.clone()),
        resource_version: None,
    });
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

/// Creates an object whose name says all about it; `false` if it was there already.
async fn create_once<K>(ctx: &Context, namespace: &str, object: &K) -> Result<bool, Error>
where
    K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Serialize,
{
    match Api::<K>::namespaced(ctx.client.clone(), namespace)
        .create(&PostParams::default(), object)
        .await
    {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(false),
        Err(error) => Err(error.into()),
    }
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

/// The order is what makes a crash harmless: nothing points to the image before its evidence is there, and the status
/// says so last. `docs/architecture.md` has the reasons.
async fn promote(
    candidate: &ImageCandidate,
    wish: &Wish,
    ctx: &Context,
    image: &Digest,
    page: Option<&Digest>,
) -> Result<Promoted, Error> {
    let auth = push_auth(candidate, wish, ctx).await?;
    let key = signing_key(candidate, wish, ctx).await?;
    let staged = wish.staging.at(image);
    still_wanted(candidate, ctx).await?;
    ctx.registry.copy_image(&staged, &wish.production, &auth, &auth).await?;
    // The copy may take minutes, and only from here on something says that this is a release.
    still_wanted(candidate, ctx).await?;
    let tag = immutable_tag(candidate, image);
    ctx.registry.tag(&wish.production, image, &tag, &auth).await?;
    let produced = wish.production.at(image);
    let subject = ctx
        .registry
        .head(&produced, &auth)
        .await?
        .ok_or_else(|| Error::Lost(produced.to_string()))?;
    let config = ctx
        .registry
        .image_config(&produced, &Platform::linux_amd64(), &auth)
        .await?;
    let chain_id = lineage::chain_ids(&config.diff_ids)
        .pop()
        .ok_or_else(|| Error::Lost(produced.to_string()))?;
    let layers = u32::try_from(config.diff_ids.len()).unwrap_or(u32::MAX);
    let reports = stored_reports(candidate, wish, ctx, &auth).await?;
    let release = ReleaseRecord {
        base_image: format!("{}/{}", wish.namespace, candidate.spec.base_image),
        sequence: candidate.spec.sequence,
        candidate: candidate.name_any(),
        source_digest: candidate.spec.source_digest.clone(),
        chain_id: chain_id.clone(),
        layers,
        tag: tag.clone(),
    };
    let evidence = Evidence {
        vex: openvex::document(candidate, wish, ctx, image, &reports).await?,
        reports,
        page: page::stored(wish, ctx, page, &auth).await,
        summary: summary(candidate, wish, release),
    };
    evidence::publish(&ctx.registry, &wish.production, &subject, &evidence, &key, &auth).await?;
    ctx.registry
        .tag(&wish.production, image, &candidate.spec.promote.channel_tag, &auth)
        .await?;
    Ok(Promoted {
        repository: wish.production.clone(),
        digest: image.clone(),
        tag,
        chain_id,
        layers,
        at: Time(ctx.now()),
    })
}

/// Asked again right before a write that people rely on: what was wanted when the step began may not be any more.
async fn still_wanted(candidate: &ImageCandidate, ctx: &Context) -> Result<(), Error> {
    match observe::ask(candidate, ctx).await? {
        Wanted::Yes => Ok(()),
        Wanted::NotYetKnown { .. } | Wanted::Suspended | Wanted::No { .. } | Wanted::BaseImageGone { .. } => {
            Err(Error::NotWantedNow)
        }
    }
}

async fn signing_key(candidate: &ImageCandidate, wish: &Wish, ctx: &Context) -> Result<signing::PromotionKey, Error> {
    let reference = &candidate.spec.promote.signing.key_ref;
    let pem = inputs::secret_key(ctx, &wish.namespace, reference, "cosign.key").await?;
    signing::PromotionKey::from_pem(&pem).map_err(|error| Error::Key {
        secret: reference.name.clone(),
        error,
    })
}

/// `<channel>-<day of the candidate>-<digest>`: the same on every try.
fn immutable_tag(candidate: &ImageCandidate, image: &Digest) -> String {
    let day = created(candidate).strftime("%Y%m%d").to_string();
    format!("{}-{day}-{}", candidate.spec.promote.channel_tag, image.short())
}

fn created(candidate: &ImageCandidate) -> Timestamp {
    candidate
        .creation_timestamp()
        .map_or(Timestamp::UNIX_EPOCH, |time| time.0)
}

/// The reports that were kept in staging when each check was judged.
async fn stored_reports(
    candidate: &ImageCandidate,
    wish: &Wish,
    ctx: &Context,
    auth: &Auth,
) -> Result<Vec<ReportArtifact>, Error> {
    let mut reports = Vec::new();
    for check in candidate.status.iter().flat_map(|status| &status.checks) {
        let lost = || Error::Lost(format!("the report of check {}", check.name));
        let Some(digest) = check.report.as_ref() else {
            if check.enforced {
                return Err(lost());
            }
            // A check that is only reported may have come to nothing.
            continue;
        };
        reports.push(evidence::fetch_whole_report(&ctx.registry, &wish.staging, digest, &check.name, auth).await?);
    }
    Ok(reports)
}

/// What the promotion attests: this verifier, these policies, passed. Its time is the candidate's, so that a second try
/// writes the same bytes.
fn summary(candidate: &ImageCandidate, wish: &Wish, release: ReleaseRecord) -> vsa::VerificationSummary {
    let enforced = |policy: &&PolicySnapshot| policy.spec.enforcement == Enforcement::Enforce;
    let policies: Vec<_> = candidate.spec.policies.iter().filter(enforced).collect();
    let names: Vec<_> = policies.iter().map(|policy| policy.name.as_str()).collect();
    // What is only reported attests nothing.
    let mut levels: Vec<String> = names
        .first()
        .map(|_| "REPAVE_POLICY_PASSED".to_owned())
        .into_iter()
        .collect();
    let policies = serde_json::to_vec(&policies).unwrap_or_default();
    for (tool, level) in [
        (ToolName::Openscap, "REPAVE_OPENSCAP_PASSED"),
        (ToolName::Grype, "REPAVE_VULNERABILITIES_PASSED"),
        (ToolName::Trivy, "REPAVE_VULNERABILITIES_PASSED"),
    ] {
        if wish.checks.iter().any(|check| check.enforced && check.tool == tool)
            && !levels.iter().any(|known| known == level)
        {
            levels.push(level.to_owned());
        }
    }
    vsa::VerificationSummary {
        verifier_id: "https://repave.dev/operator".to_owned(),
        verifier_version: env!("CARGO_PKG_VERSION").to_owned(),
        time_verified: created(candidate),
        policy: vsa::ResourceRef {
            uri: format!("k8s://{}/validationpolicies/{}", wish.namespace, names.join("+")),
            digest: Digest::of(&policies),
        },
        input_attestations: Vec::new(),
        verified_levels: levels,
        release,
    }
}
