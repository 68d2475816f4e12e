//! Reads what a plan depends on: its base images, their proven releases, its runs, and what is outdated.

use super::{
    run::is_run_of,
    standing::{self, Question, Standing},
    validate::Validated,
};
use crate::controllers::named::Named as _;
use crate::{
    api::{BaseImage, RepavePlan, RepaveRun},
    controllers::{
        context::Context,
        desired::owner::not_owned,
        history,
        repave_run::{
            Images,
            memory::Memory,
            observe::{ObserveError, candidates},
            siblings,
        },
    },
    domain::lineage::Release,
};
use jiff::Timestamp;
use kube::{Api, ResourceExt};

/// What a plan depends on.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    /// One entry a base image, in the order of the spec.
    pub bases: Vec<Base>,
    /// The runs of this plan.
    pub runs: Vec<RepaveRun>,
}

/// One base image.
#[derive(Debug, Clone, PartialEq)]
pub struct Base {
    /// Its name.
    pub name: String,
    /// What it has to roll out.
    pub release: Released,
    /// How many workloads run, or are built on, an older release; `None` where there is no proven release.
    pub outdated: Option<usize>,
    /// Whether images are still to be looked up.
    pub incomplete: bool,
    /// How the workloads stand to the release.
    pub standing: Standing,
}

/// What a base image has to roll out.
#[derive(Debug, Clone, PartialEq)]
pub enum Released {
    /// There is no such base image.
    Missing,
    /// It has no release.
    Nothing,
    /// Its repository belongs to another base image: nothing of it is rolled out.
    NotOwned {
        /// What its condition says.
        why: String,
    },
    /// It has one whose candidate does not prove it.
    Unproven {
        /// That candidate.
        candidate: String,
        /// When it was released: the proof may come a moment later.
        promoted_at: Timestamp,
    },
    /// A proven release.
    Proven(Release),
}

/// Reads it.
pub async fn observe(
    ctx: &Context,
    known: (&Images, &Memory),
    plan: &RepavePlan,
    v: &Validated,
) -> Result<Observed, ObserveError> {
    let namespace = plan.namespace().unwrap_or_default();
    let uid = plan.uid();
    let runs = siblings::runs_of(ctx, &namespace, (&plan.name_any(), uid.as_deref()), Some).await?;
    let all = candidates(ctx, &namespace).await?;
    let histories = history::store::list(ctx, &namespace).await?;
    let releases: Vec<Release> = history::convert::releases(&histories, &all);
    let api: Api<BaseImage> = Api::namespaced(ctx.client.clone(), &namespace);
    let mut bases = Vec::with_capacity(v.base_images.len());
    for name in &v.base_images {
        let object = api.named(name).await?;
        let release = released(object.as_ref(), &releases);
        let mut base = Base {
            name: name.clone(),
            release,
            outdated: None,
            incomplete: false,
            standing: Standing::default(),
        };
        if let Released::Proven(release) = &base.release {
            let run = runs.iter().find(|run| is_run_of(run, release));
            let recorded = history::convert::recorded(&histories, name, &release.repository, &release.digest);
            let question = Question {
                plan,
                base_image: object.as_ref(),
                release,
                releases: &releases,
                run,
                proof: (&all, recorded.as_ref()),
            };
            base.standing = Box::pin(standing::of(ctx, known, question)).await?;
            base.outdated = Some(base.standing.counts.outdated as usize);
            base.incomplete = base.standing.incomplete;
        }
        bases.push(base);
    }
    Ok(Observed { bases, runs })
}

/// What a base image has to roll out. Pure.
pub fn released(base: Option<&BaseImage>, releases: &[Release]) -> Released {
    let Some(base) = base else {
        return Released::Missing;
    };
    if let Some(why) = not_owned(base) {
        return Released::NotOwned { why: why.to_owned() };
    }
    let Some(released) = base.status.as_ref().and_then(|status| status.released.as_ref()) else {
        return Released::Nothing;
    };
    let name = base.name_any();
    let proven = releases
        .iter()
        .filter(|r| !r.revoked)
        .find(|r| r.base_image == name && r.candidate == released.candidate && r.digest == released.digest);
    proven.map_or_else(
        || Released::Unproven {
            candidate: released.candidate.clone(),
            promoted_at: released.promoted_at.0,
        },
        // A later candidate may prove the digest that is released already: then its release keeps its place.
        |release| {
            Released::Proven(Release {
                tag: released.tag.clone(),
                sequence: released.sequence,
                ..release.clone()
            })
        },
    )
}
