//! `Waiver`: says how each one stands (in force, expiring, expired, unused) and who needed it.
//!
//! It decides nothing: a candidate reads the waivers itself when it is judged. It plans and applies nothing either, so it
//! has no files for that. Woken by the candidates that name a waiver and by the waiver's own dates.

mod observe;
mod status;
#[cfg(test)]
mod tests;
use repave_policy::waiver as validate;

use super::{
    context::Context,
    driver::Outcome,
    paging,
    reconciler::{self, Failure, Given, Reconciler},
    wakes::{Guarded, Wakes},
};
use crate::api::{ImageCandidate, Waiver, WaiverStatus};
use jiff::Timestamp;
use kube::{Api, ResourceExt, runtime::reflector::ObjectRef};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

struct Waivers {
    ctx: Context,
}

/// Runs until `stop` is cancelled.
pub async fn run(ctx: Context, stop: CancellationToken) {
    let wakes = Wakes::of(&ctx).watches(
        Api::<Guarded<ImageCandidate>>::all(ctx.watches.clone()),
        paging::watch(),
        named,
    );
    reconciler::run(Waivers { ctx }, wakes, stop).await;
}

/// The waivers that a candidate names.
fn named(candidate: &Guarded<ImageCandidate>) -> Vec<ObjectRef<Guarded<Waiver>>> {
    let Ok(candidate) = &candidate.0 else {
        return Vec::new();
    };
    let namespace = candidate.namespace().unwrap_or_default();
    let names = candidate.status.iter().flat_map(|status| &status.waivers);
    names.map(|name| ObjectRef::new(name).within(&namespace)).collect()
}

impl Reconciler for Waivers {
    type Resource = Waiver;
    // Its dates are judged with the clock, when its status is made.
    type Validated = ();
    /// The names of the candidates that needed it.
    type Observed = Vec<String>;
    // It only says how it stands.
    type Decision = Vec<String>;
    type Receipt = ();
    const GAP: Duration = Duration::from_secs(2);
    const LIMIT: Duration = Duration::from_secs(120);

    fn ctx(&self) -> &Context {
        &self.ctx
    }

    fn validate(_: &Waiver) -> Result<(), Failure> {
        Ok(())
    }

    async fn observe(&self, waiver: &Waiver, (): &()) -> Result<Vec<String>, Failure> {
        Ok(observe::observe(&self.ctx, waiver).await?)
    }

    fn decide(_: &Waiver, (): &(), users: Vec<String>, _: Given<'_>) -> Vec<String> {
        users
    }

    async fn apply(&self, _: &Waiver, (): &(), _: &mut Vec<String>) -> Result<(), Failure> {
        Ok(())
    }

    fn render(waiver: &Waiver, (): &(), users: &Vec<String>, (): &(), now: Timestamp) -> Outcome<WaiverStatus> {
        status::summarize(waiver, users, now)
    }
}
