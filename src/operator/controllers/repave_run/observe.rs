//! Reads everything that a run depends on, live. Writes nothing and decides nothing.

use super::{
    estate::{self, Ask, Estate, EstateError, Query},
    gate::{self, Gate},
    images::Images,
    seen::Supervised,
    steady::Steady,
    today::{self, Today},
    validate::{InvalidSpec, Validated},
};
use crate::controllers::named::Named as _;
use crate::{
    api::{BaseImage, ImageCandidate, RepavePlan},
    controllers::{
        access::Account,
        context::Context,
        error::{Class, Classified},
        history,
        paging::{self, ListError},
    },
    domain::{
        image_ref::ImageRef,
        lineage::{Release, ReleaseIndex},
        workload::WorkloadKey,
    },
    readable::Guarded,
};
use jiff::Timestamp;
use kube::{Api, ResourceExt, api::ListParams};
use std::collections::BTreeSet;

/// Candidates of one namespace that are read.
const MAX_CANDIDATES: usize = 20_000;

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
    /// Objects could not be listed.
    #[error(transparent)]
    List(#[from] ListError),
    /// The estate.
    #[error(transparent)]
    Estate(#[from] EstateError),
    /// A run or plan that cannot be carried out.
    #[error(transparent)]
    Invalid(#[from] InvalidSpec),
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
            Self::Api(_) | Self::List(_) => "KubernetesUnavailable",
            Self::Estate(error) => error.reason(),
            Self::Invalid(error) => error.reason(),
            Self::TooManyCandidates(_) => "TooManyCandidates",
            Self::History(error) => error.reason(),
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::Api(_) | Self::List(_) => Class::Transient,
            Self::Estate(error) => error.class(),
            Self::Invalid(error) => error.class(),
            Self::TooManyCandidates(_) => Class::Stalled,
            Self::History(error) => error.class(),
        }
    }
}

/// The objects that a run is ordered by, as they are now.
#[derive(Debug, Clone, PartialEq)]
pub struct Orders {
    /// The base image.
    pub base_image: Option<BaseImage>,
    /// What the plan says today; `None` when it is gone.
    pub today: Option<Today>,
    /// Who the run acts as.
    pub account: Account,
}

/// Reads what a run depends on: its orders live, the estate out of the inventory.
pub async fn observe(
    ctx: &Context,
    images: &Images,
    (v, steady): (&Validated, &Steady),
    plan_uid: Option<&str>,
) -> Result<(Orders, Observed), ObserveError> {
    let plan = Api::<RepavePlan>::namespaced(ctx.client.clone(), &v.namespace)
        .named(&v.plan)
        .await?;
    // A plan of the same name that was made later did not order this run.
    let plan = plan.filter(|plan| plan_uid.is_some() && plan.uid().as_deref() == plan_uid);
    let base_image = Api::<BaseImage>::namespaced(ctx.client.clone(), &v.namespace)
        .named(&v.base_image)
        .await?;
    let candidates = candidates(ctx, &v.namespace).await?;
    let histories = history::store::list(ctx, &v.namespace).await?;
    let recorded = history::convert::recorded(&histories, &v.base_image, &v.repository, &v.digest);
    let mut gate = gate::gate(v, plan.as_ref(), base_image.as_ref(), &candidates, recorded.as_ref());
    let known = history::convert::releases(&histories, &candidates);
    let (releases, target) = releases(v, known, ctx.now());
    let today = match plan.as_ref().map(today::today).transpose() {
        Ok(today) => today,
        // What it would take out is not known, so nothing is begun.
        Err(error) => {
            gate = gate::shut_by(&error);
            None
        }
    };
    let orders = Orders {
        base_image,
        today,
        account: today::account(v, plan.as_ref()),
    };
    let image = v.repository.at(&v.digest);
    let estate = estate::look(ctx, images, ask((v, steady), &orders, &releases, &image)).await?;
    let observed = Observed {
        gate,
        releases,
        target,
        estate,
    };
    Ok((orders, observed))
}

/// The same, with these workloads read live.
pub async fn refresh(
    ctx: &Context,
    images: &Images,
    (v, steady): (&Validated, &Steady),
    orders: &Orders,
    observed: Observed,
    keys: &BTreeSet<WorkloadKey>,
) -> Result<Observed, ObserveError> {
    let image = v.repository.at(&v.digest);
    let ask = ask((v, steady), orders, &observed.releases, &image);
    let estate = estate::refresh(ctx, images, ask, observed.estate, keys).await?;
    Ok(Observed { estate, ..observed })
}

fn ask<'a>(
    (v, steady): (&'a Validated, &'a Steady),
    orders: &'a Orders,
    releases: &'a ReleaseIndex,
    image: &'a ImageRef,
) -> Ask<'a> {
    Ask {
        query: Query {
            scope: &v.scope,
            releases,
            supervised: Some(Supervised {
                run_ref: &v.run_ref,
                image,
                steady,
            }),
        },
        today: orders.today.as_ref().map(|today| &today.scope),
        account: &orders.account,
        namespace: &v.namespace,
        base_image: orders.base_image.as_ref(),
        max_targets: v.max_targets,
    }
}

/// Every candidate of a namespace; one that cannot be read is no release.
pub async fn candidates(ctx: &Context, namespace: &str) -> Result<Vec<ImageCandidate>, ObserveError> {
    let api: Api<Guarded<ImageCandidate>> = Api::namespaced(ctx.client.clone(), namespace);
    match paging::list(&api, ListParams::default(), MAX_CANDIDATES, |guarded| guarded.0.ok()).await {
        Err(ListError::TooMany { .. }) => Err(ObserveError::TooManyCandidates(namespace.to_owned())),
        other => Ok(other?),
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
