//! Reads everything that a run depends on, live. Writes nothing and decides nothing.

use super::{
    estate::{self, Estate, EstateError, Query},
    gate::{self, Gate},
    images::Images,
    validate::Validated,
};
use crate::{
    api::{BaseImage, ImageCandidate, RepavePlan},
    controllers::{
        context::Context,
        error::{Class, Classified},
        history,
    },
    domain::lineage::{Release, ReleaseIndex},
};
use jiff::Timestamp;
use kube::{Api, ResourceExt, api::ListParams, core::DeserializeGuard};

/// Candidates of one namespace that are read.
const MAX_CANDIDATES: usize = 20_000;
/// Objects in one page of a list.
const PAGE: u32 = 500;

/// What a run depends on.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    /// Whether it may start anything.
    pub gate: Gate,
    /// Every known release.
    pub releases: ReleaseIndex,
    /// The one that everything is moved to.
    pub target: Option<Release>,
    /// The workloads.
    pub estate: Estate,
}

/// Why it could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// An object could not be read.
    #[error("Kubernetes API: {0}")]
    Api(#[from] kube::Error),
    /// The estate.
    #[error(transparent)]
    Estate(#[from] EstateError),
    /// The histories of releases.
    #[error(transparent)]
    History(#[from] history::Error),
    /// More candidates than are ever kept.
    #[error("namespace {0} has more than {MAX_CANDIDATES} ImageCandidates: delete old ones")]
    TooManyCandidates(String),
}

impl Classified for ObserveError {
    fn reason(&self) -> &'static str {
        match self {
            Self::Api(_) | Self::Estate(EstateError::Api(_)) => "KubernetesUnavailable",
            Self::Estate(EstateError::TooMany) => "TooManyWorkloads",
            Self::TooManyCandidates(_) => "TooManyCandidates",
            Self::History(error) => error.reason(),
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::Api(_) | Self::Estate(EstateError::Api(_)) => Class::Transient,
            Self::Estate(EstateError::TooMany) | Self::TooManyCandidates(_) => Class::Stalled,
            Self::History(error) => error.class(),
        }
    }
}

/// Reads what a run depends on.
pub async fn observe(
    ctx: &Context,
    images: &Images,
    v: &Validated,
    plan_uid: Option<&str>,
) -> Result<Observed, ObserveError> {
    let plan = Api::<RepavePlan>::namespaced(ctx.client.clone(), &v.namespace)
        .get_opt(&v.plan)
        .await?;
    // A plan of the same name that was made later did not order this run.
    let plan = plan.filter(|plan| plan_uid.is_some() && plan.uid().as_deref() == plan_uid);
    let base_image = Api::<BaseImage>::namespaced(ctx.client.clone(), &v.namespace)
        .get_opt(&v.base_image)
        .await?;
    let candidates = candidates(ctx, &v.namespace).await?;
    let candidate = candidates.iter().find(|c| c.name_any() == v.candidate);
    let histories = history::store::list(ctx, &v.namespace).await?;
    let recorded = history::convert::recorded(&histories, &v.base_image, &v.repository, &v.digest);
    let gate = gate::gate(v, plan.as_ref(), base_image.as_ref(), candidate, recorded.as_ref());
    let known = history::convert::releases(&histories, &candidates);
    let (releases, target) = releases(v, known, ctx.now());
    let image = v.repository.at(&v.digest);
    let query = Query {
        scope: &v.scope,
        releases: &releases,
        supervised: Some((&v.mark, &image)),
    };
    let estate = estate::read(ctx, images, query).await?;
    Ok(Observed {
        gate,
        releases,
        target,
        estate,
    })
}

/// Every candidate of a namespace; one that cannot be read is no release.
pub async fn candidates(ctx: &Context, namespace: &str) -> Result<Vec<ImageCandidate>, ObserveError> {
    let api: Api<DeserializeGuard<ImageCandidate>> = Api::namespaced(ctx.client.clone(), namespace);
    let mut params = ListParams::default().limit(PAGE);
    let mut found = Vec::new();
    loop {
        let page = api.list(&params).await?;
        found.extend(page.items.into_iter().filter_map(|guarded| guarded.0.ok()));
        if found.len() > MAX_CANDIDATES {
            return Err(ObserveError::TooManyCandidates(namespace.to_owned()));
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(found),
        }
    }
}

/// The index of all releases, and the target in it.
pub fn releases(v: &Validated, mut known: Vec<Release>, now: Timestamp) -> (ReleaseIndex, Option<Release>) {
    let target = known
        .iter()
        .find(|r| r.base_image == v.base_image && r.repository == v.repository && r.digest == v.digest)
        .cloned();
    // Without its candidate the target is no release any more, and the gate is shut; but what was moved to it must
    // still be recognised, so that it can be rolled back. No image is ever "built on" such an entry.
    let target = target.unwrap_or_else(|| Release {
        base_image: v.base_image.clone(),
        candidate: v.candidate.clone(),
        repository: v.repository.clone(),
        digest: v.digest.clone(),
        tag: v.tag.clone(),
        chain_id: v.digest.clone(),
        layers: usize::MAX,
        sequence: v.sequence,
        promoted_at: now,
        revoked: false,
    });
    // The same digest can be proven by several candidates; the order is that of the release which the run was made for.
    let target = Release {
        sequence: v.sequence,
        ..target
    };
    known.push(target.clone());
    (ReleaseIndex::new(&v.base_image, known), Some(target))
}
