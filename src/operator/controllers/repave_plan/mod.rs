//! The controller of a `RepavePlan`: makes one `RepaveRun` for each proven release that outdated workloads wait for.
//!
//! It never touches a workload: that is the run's. It always knows what is outdated: the inventory wakes it when that can
//! have changed. A finished run begins again when something can be moved that it could not move before; a run that was
//! deleted is made again while anything is outdated, which is also how a person tries a release again.

pub mod apply;
mod concerns;
pub mod observe;
pub mod plan;
pub mod run;
pub mod standing;
pub mod status;
#[cfg(test)]
mod tests;
pub mod validate;

use super::{
    context::Context,
    driver::Outcome,
    paging,
    reconciler::{self, Failure, Given, Reconciler},
    repave_run::{Images, memory::Memory},
    wakes::{Wakes, those},
};
use crate::api::{BaseImage, RepavePlan, RepavePlanStatus, RepaveRun};
use crate::readable::Meta;
use jiff::Timestamp;
use kube::{Api, ResourceExt};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

struct Plans {
    ctx: Context,
    images: Images,
    memory: Memory,
}

/// Runs the controller until `stop` is cancelled; turns that have begun are finished.
pub async fn run(ctx: Context, images: Images, memory: Memory, stop: CancellationToken) {
    let wakes = Wakes::of(&ctx);
    let plans = wakes.store();
    let estate = concerns::of_plans(&ctx, wakes.store());
    let wakes = wakes
        .also(estate)
        .owns(Api::<Meta<RepaveRun>>::all(ctx.watches.clone()), paging::watch())
        .watches(
            Api::<Meta<BaseImage>>::all(ctx.watches.clone()),
            paging::watch(),
            move |base| {
                those(&plans, base.namespace().as_deref(), |plan: &RepavePlan| {
                    let mut named = plan.spec.base_image_refs.iter();
                    named.any(|reference| reference.name == base.name_any())
                })
            },
        );
    reconciler::run(Plans { ctx, images, memory }, wakes, stop).await;
}

impl Reconciler for Plans {
    type Resource = RepavePlan;
    type Validated = validate::Validated;
    type Observed = observe::Observed;
    type Decision = plan::Decision;
    type Receipt = apply::Made;
    /// What happens in the estate wakes a plan too, and a look at it is a look at all that the plan selects.
    const GAP: Duration = Duration::from_secs(2);
    const LIMIT: Duration = Duration::from_secs(300);

    fn ctx(&self) -> &Context {
        &self.ctx
    }

    fn validate(plan: &RepavePlan) -> Result<validate::Validated, Failure> {
        Ok(validate::validate(plan)?)
    }

    async fn observe(&self, plan: &RepavePlan, v: &validate::Validated) -> Result<observe::Observed, Failure> {
        Ok(Box::pin(observe::observe(&self.ctx, (&self.images, &self.memory), plan, v)).await?)
    }

    fn decide(plan: &RepavePlan, _: &validate::Validated, observed: observe::Observed, _: Given<'_>) -> plan::Decision {
        plan::decide(plan, observed)
    }

    async fn apply(
        &self,
        _: &RepavePlan,
        _: &validate::Validated,
        decision: &mut plan::Decision,
    ) -> Result<apply::Made, Failure> {
        Ok(apply::apply(&self.ctx, &decision.actions).await?)
    }

    fn render(
        plan: &RepavePlan,
        _: &validate::Validated,
        decision: &plan::Decision,
        made: &apply::Made,
        now: Timestamp,
    ) -> Outcome<RepavePlanStatus> {
        let observed = &decision.observed;
        let runs: Vec<RepaveRun> = observed.runs.iter().chain(&made.created).cloned().collect();
        status::summarize(plan, observed, &runs, now)
    }
}
