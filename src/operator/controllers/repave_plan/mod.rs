//! The controller of a `RepavePlan`: makes one `RepaveRun` for each proven release that outdated workloads wait for.
//!
//! It never touches a workload: that is the run's. A run that was deleted is made again while anything is outdated, which
//! is also how a person tries a release again.

pub mod apply;
pub mod observe;
pub mod plan;
pub mod status;
#[cfg(test)]
mod tests;
pub mod validate;

use super::{
    context::Context,
    driver::Outcome,
    reconciler::{self, Failure, Reconciler},
    repave_run::Images,
    wakes::{Wakes, those},
};
use crate::api::{BaseImage, RepavePlan, RepavePlanStatus, RepaveRun};
use jiff::Timestamp;
use kube::{Api, ResourceExt, core::PartialObjectMeta, runtime::watcher};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

struct Plans {
    ctx: Context,
    images: Images,
}

/// Runs the controller until `stop` is cancelled; turns that have begun are finished.
pub async fn run(ctx: Context, images: Images, stop: CancellationToken) {
    let wakes = Wakes::of(&ctx);
    let plans = wakes.store();
    let wakes = wakes
        .owns(
            Api::<PartialObjectMeta<RepaveRun>>::all(ctx.watches.clone()),
            watcher::Config::default(),
        )
        .watches(
            Api::<PartialObjectMeta<BaseImage>>::all(ctx.watches.clone()),
            watcher::Config::default(),
            move |base| {
                those(&plans, base.namespace().as_deref(), |plan: &RepavePlan| {
                    let mut named = plan.spec.base_image_refs.iter();
                    named.any(|reference| reference.name == base.name_any())
                })
            },
        );
    reconciler::run(Plans { ctx, images }, wakes, stop).await;
}

impl Reconciler for Plans {
    type Resource = RepavePlan;
    type Validated = validate::Validated;
    type Observed = observe::Observed;
    type Action = plan::Action;
    /// The runs that are there because of the actions.
    type Receipt = Vec<RepaveRun>;
    const GAP: Duration = Duration::from_millis(500);
    const LIMIT: Duration = Duration::from_secs(300);

    fn ctx(&self) -> &Context {
        &self.ctx
    }

    fn validate(plan: &RepavePlan) -> Result<validate::Validated, Failure> {
        Ok(validate::validate(plan)?)
    }

    async fn observe(&self, plan: &RepavePlan, v: &validate::Validated) -> Result<observe::Observed, Failure> {
        Ok(Box::pin(observe::observe(&self.ctx, &self.images, plan, v)).await?)
    }

    fn decide(
        plan: &RepavePlan,
        _: &validate::Validated,
        observed: &observe::Observed,
        _: Timestamp,
    ) -> Vec<plan::Action> {
        plan::plan(plan, observed)
    }

    async fn apply(&self, actions: Vec<plan::Action>) -> Result<Vec<RepaveRun>, Failure> {
        Ok(apply::apply(&self.ctx, &actions).await?)
    }

    fn render(
        plan: &RepavePlan,
        _: &validate::Validated,
        observed: &observe::Observed,
        made: &Vec<RepaveRun>,
        now: Timestamp,
    ) -> Outcome<RepavePlanStatus> {
        let runs: Vec<RepaveRun> = observed.runs.iter().chain(made).cloned().collect();
        status::summarize(plan, observed, &runs, now)
    }
}
