//! Reads what a judgement takes besides the reports: the namespace's waivers, and what the release before had. Reads only.
//!
//! Waivers must be readable, because a candidate is judged once. The release before only informs: whatever of it cannot be
//! read is "not known" and keeps nothing up.

use super::{
    exceptions,
    validate::{PlannedCheck, Wish},
};
use crate::controllers::named::Named as _;
use crate::{
    api::{BaseImage, ImageCandidate, Waiver},
    controllers::{context::Context, error::one_line, inputs},
    domain::{digest::Digest, report::Report, waiver::Suppression},
    evidence,
    readable::Guarded,
};
use kube::{Api, api::ListParams};
use std::collections::BTreeMap;

/// Most waivers of a namespace that are read; those beyond have no effect, so that a flood of them opens nothing.
pub const MAX_WAIVERS: u32 = 500;

/// What a judgement takes besides the reports.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Judging {
    /// The waivers that are about this image, whatever the time is.
    pub waivers: Vec<Suppression>,
    /// Which of them are in force now ([`exceptions::in_force`]).
    pub in_force: String,
    /// Whether there are more waivers than are read.
    pub left_out: bool,
    /// The release before.
    pub previous: Previous,
}

/// The release before.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Previous {
    /// There is none.
    #[default]
    None,
    /// There is one and it cannot be read.
    NotKnown,
    /// What it had.
    Known {
        /// Its candidate.
        candidate: String,
        /// Its checks that are judged now, by name.
        checks: BTreeMap<String, Before>,
    },
}

/// One check of the release before.
#[derive(Debug, Clone, PartialEq)]
pub struct Before {
    /// Its report.
    pub report: Box<Report>,
    /// How many findings were waived.
    pub waived: u32,
}

/// Reads it for the checks whose report has come; nothing where there is none.
pub async fn judging(
    ctx: &Context,
    candidate: &ImageCandidate,
    wish: &Wish,
    image: &Digest,
    now: &[&PlannedCheck],
) -> Result<Judging, kube::Error> {
    if now.is_empty() {
        return Ok(Judging::default());
    }
    let waivers = waivers(ctx, &wish.namespace).await?;
    Ok(with(ctx, candidate, wish, image, now, &waivers).await)
}

/// The same for these checks and waivers.
pub async fn with(
    ctx: &Context,
    candidate: &ImageCandidate,
    wish: &Wish,
    image: &Digest,
    now: &[&PlannedCheck],
    waivers: &Waivers,
) -> Judging {
    let previous = previous(ctx, candidate, wish, now).await.unwrap_or_else(|error| {
        tracing::warn!(
            candidate = wish.name,
            error = one_line(&error),
            "the release before cannot be read"
        );
        Previous::NotKnown
    });
    Judging {
        waivers: exceptions::of_waivers(&waivers.read, candidate, image),
        in_force: exceptions::in_force(&waivers.read, candidate, image, ctx.now()),
        left_out: waivers.left_out,
        previous,
    }
}

/// The waivers of a namespace.
pub struct Waivers {
    /// Those that can be read, in the order of their names, at most [`MAX_WAIVERS`].
    pub read: Vec<Waiver>,
    /// Whether there are more: they have no effect, and the candidate says so.
    pub left_out: bool,
}

/// Reads the waivers of a namespace.
pub async fn waivers(ctx: &Context, namespace: &str) -> Result<Waivers, kube::Error> {
    let list = Api::<Guarded<Waiver>>::namespaced(ctx.client.clone(), namespace)
        .list(&ListParams::default().limit(MAX_WAIVERS))
        .await?;
    let left_out = list.metadata.continue_.is_some_and(|more| !more.is_empty());
    let read = list.items.into_iter().filter_map(|guarded| guarded.0.ok());
    Ok(Waivers {
        read: read.collect(),
        left_out,
    })
}

/// Why the release before is not known.
#[derive(Debug, thiserror::Error)]
enum Unread {
    #[error("Kubernetes API: {0}")]
    Api(#[from] kube::Error),
    #[error(transparent)]
    Input(#[from] inputs::Error),
}

async fn previous(
    ctx: &Context,
    candidate: &ImageCandidate,
    wish: &Wish,
    now: &[&PlannedCheck],
) -> Result<Previous, Unread> {
    let bases = Api::<BaseImage>::namespaced(ctx.client.clone(), &wish.namespace);
    let base = bases.named(&candidate.spec.base_image).await?;
    let Some(released) = base.and_then(|base| base.status).and_then(|status| status.released) else {
        return Ok(Previous::None);
    };
    let candidates = Api::<ImageCandidate>::namespaced(ctx.client.clone(), &wish.namespace);
    let Some(before) = candidates.named(&released.candidate).await? else {
        return Ok(Previous::NotKnown);
    };
    let auth = inputs::registry_auth(ctx, &wish.namespace, before.spec.promote.push_secret_ref.as_ref()).await?;
    let mut checks = BTreeMap::new();
    let summaries = before.status.iter().flat_map(|status| &status.checks);
    for summary in summaries {
        let check = now.iter().find(|check| check.name == summary.name);
        let (Some(check), Some(artifact)) = (check, &summary.report) else {
            continue;
        };
        let json = match evidence::fetch_report(&ctx.registry, &before.spec.staging, artifact, &auth).await {
            Ok(json) => json,
            Err(error) => {
                tracing::warn!(
                    candidate = wish.name,
                    check = summary.name,
                    error = one_line(&error),
                    "a report of the release before cannot be read"
                );
                continue;
            }
        };
        if let Ok(report) = check.stored(&json, &released.digest) {
            let (report, waived) = (Box::new(report), summary.waived);
            checks.insert(check.name.clone(), Before { report, waived });
        }
    }
    Ok(Previous::Known {
        candidate: released.candidate,
        checks,
    })
}
