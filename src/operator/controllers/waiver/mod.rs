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
    conditions::Conditions,
    context::Context,
    driver::{self, DriverError, Outcome},
    error::{Classified, one_line},
};
use crate::api::{ImageCandidate, Waiver, WaiverStatus};
use futures::StreamExt as _;
use kube::{
    Api, ResourceExt,
    core::DeserializeGuard,
    runtime::{
        Controller,
        controller::{Action, Config},
        reflector::ObjectRef,
        watcher,
    },
};
use std::{future::Future, sync::Arc, time::Duration};

type Guarded = DeserializeGuard<Waiver>;

/// Changes that come within this time are one.
const DEBOUNCE: Duration = Duration::from_secs(2);

/// Runs until `shutdown` resolves.
pub async fn run(ctx: Context, shutdown: impl Future<Output = ()> + Send + Sync + 'static) {
    let client = ctx.watches.clone();
    Controller::new(Api::<Guarded>::all(client.clone()), watcher::Config::default())
        .watches(
            Api::<DeserializeGuard<ImageCandidate>>::all(client),
            watcher::Config::default(),
            |candidate| named(&candidate),
        )
        .with_config(Config::default().concurrency(2).debounce(DEBOUNCE))
        .graceful_shutdown_on(shutdown)
        .run(
            reconcile,
            |seen, error, ctx| driver::on_guarded_error(&seen, error, &ctx),
            Arc::new(ctx),
        )
        .for_each(|_| std::future::ready(()))
        .await;
}

/// The waivers that a candidate names.
fn named(candidate: &DeserializeGuard<ImageCandidate>) -> Vec<ObjectRef<Guarded>> {
    let Ok(candidate) = &candidate.0 else {
        return Vec::new();
    };
    let namespace = candidate.namespace().unwrap_or_default();
    let names = candidate.status.iter().flat_map(|status| &status.waivers);
    names.map(|name| ObjectRef::new(name).within(&namespace)).collect()
}

async fn reconcile(seen: Arc<Guarded>, ctx: Arc<Context>) -> Result<Action, DriverError> {
    let Some(seen) = driver::readable(&seen) else {
        return Ok(Action::await_change());
    };
    let Some(waiver) = driver::read(&ctx, seen).await? else {
        return Ok(Action::await_change());
    };
    let outcome = match observe::observe(&ctx, &waiver).await {
        Ok(users) => status::summarize(&waiver, &users, ctx.now()),
        Err(error) => failure(&waiver, &error, &ctx),
    };
    driver::finish(&ctx, &waiver, outcome).await
}

/// What was known stays, and the conditions say why it could not be renewed.
fn failure(waiver: &Waiver, error: &observe::Error, ctx: &Context) -> Outcome<WaiverStatus> {
    let mut status = waiver.status.clone().unwrap_or_default();
    let generation = waiver.metadata.generation.unwrap_or_default();
    let mut conditions = Conditions::from(&status.conditions, generation, ctx.now());
    conditions.failed(error, one_line(error));
    status.observed_generation = Some(generation);
    status.conditions = conditions.into_list();
    Outcome {
        status,
        next: error.class().into(),
        notices: Vec::new(),
    }
}
