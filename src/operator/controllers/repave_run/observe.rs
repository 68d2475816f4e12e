//! Reads everything that a run depends on, live. Writes nothing and decides nothing.

use super::{
    estate::{self, Ask, Estate, EstateError, Query},
    gate::{self, Gate},
    images::Images,
    memory::RunMemory,
    orders::Orders,
    seen::Supervised,
    siblings,
    steady::Steady,
    validate::{InvalidSpec, Validated},
};
use crate::{
    api::ImageCandidate,
    controllers::{
        context::Context,
        error::{Class, Classified},
        history,
        lean::Lean as _,
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
use kube::{Api, api::ListParams};
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

/// What a run is ordered by and may go back to, and whether it may begin anything.
#[derive(Debug, Clone)]
pub struct Ordered {
    orders: Orders,
    gate: Gate,
    releases: ReleaseIndex,
    target: Option<Release>,
}

/// Reads the orders and the releases live. A target that is not known is filled in as of `now`.
pub async fn ordered(
    ctx: &Context,
    v: &Validated,
    plan_uid: Option<&str>,
    now: Timestamp,
) -> Result<Ordered, ObserveError> {
    let (orders, invalid) = Orders::read(ctx, v, plan_uid).await?;
    let candidates = candidates(ctx, &v.namespace).await?;
    let histories = &orders.histories;
    let recorded = history::convert::recorded(histories, &v.base_image, &v.repository, &v.digest);
    let (plan, base_image) = (orders.plan.as_ref(), orders.base_image.as_ref());
    let gate = match &invalid {
        // What the plan would take out is not known, so nothing is begun.
        Some(error) => gate::shut_by(error),
        None => gate::gate(v, plan, base_image, &candidates, recorded.as_ref()),
    };
    let mut known = history::convert::releases(histories, &candidates);
    if let Some(status) = base_image.and_then(|base| base.status.as_ref()) {
        history::convert::take_back_what_is_shown(&mut known, &v.base_image, status);
    }
    let (releases, target) = releases(v, known, now);
    Ok(Ordered {
        orders,
        gate,
        releases,
        target,
    })
}

/// Looks at the estate as the inventory shows it, for these orders.
pub async fn observe(
    ctx: &Context,
    images: &Images,
    (v, plan_uid, remembered): (&Validated, Option<&str>, &RunMemory),
    ordered: Ordered,
) -> Result<(Orders, Observed), ObserveError> {
    let Ordered {
        orders,
        gate,
        releases,
        target,
    } = ordered;
    let image = v.repository.at(&v.digest);
    let ask = ask((v, &remembered.steady), &orders, &releases, &image);
    let mut estate = estate::look(ctx, images, ask).await?;
    let of_plan = (v, plan_uid, &remembered.places);
    estate.elsewhere = siblings::look(ctx, images, of_plan, ask, &estate).await?;
    let observed = Observed {
        gate: gate_of(gate, &estate),
        releases,
        target,
        estate,
    };
    Ok((orders, observed))
}

/// Of an estate that is not seen whole nothing is begun.
fn gate_of(gate: Gate, estate: &Estate) -> Gate {
    match estate.over {
        Some(over) => gate.shut_over(over),
        None => gate,
    }
}

impl Observed {
    /// Takes in what is ordered by now. What was read for other orders is not written on: then all of it is read again.
    pub fn order_anew(&mut self, before: &Orders, now: Ordered) -> Orders {
        let gate = gate_of(now.gate, &self.estate);
        let same = now.orders.are_as(before)
            && (&gate, &now.releases, &now.target) == (&self.gate, &self.releases, &self.target);
        if !same {
            self.estate.live.clear();
        }
        (self.gate, self.releases, self.target) = (gate, now.releases, now.target);
        now.orders
    }
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
        plan: &v.plan,
        base_image: orders.base_image.as_ref(),
        max_targets: orders.today.as_ref().map_or(v.max_targets, |today| today.max_targets),
    }
}

/// Every candidate of a namespace, without its bulk; one that cannot be read is no release.
pub async fn candidates(ctx: &Context, namespace: &str) -> Result<Vec<ImageCandidate>, ObserveError> {
    let api: Api<Guarded<ImageCandidate>> = Api::namespaced(ctx.client.clone(), namespace);
    let lean = |guarded: Guarded<ImageCandidate>| {
        let mut candidate = guarded.0.ok()?;
        candidate.shed();
        Some(candidate)
    };
    match paging::list(&api, ListParams::default(), MAX_CANDIDATES, lean).await {
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
