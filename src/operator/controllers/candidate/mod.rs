//! `ImageCandidate`: brings one candidate step by step to production, or keeps it out for good.
//!
//! The steps are those of the pipeline: Pulled, Verified, Built, Validated and Scanned (in parallel), Promoted. One
//! reconcile makes one step; the status that it writes wakes the next.

mod apply;
mod decision;
mod jobs;
mod judging;
mod observe;
mod plan;
mod status;
pub use status::STILL_PASSES;
#[cfg(test)]
mod tests;
mod validate;
mod wanted;

use repave_policy::exceptions;

use super::{
    conditions,
    context::Context,
    driver::{self, DriverError, Next, Outcome},
    error::{Class, Classified, one_line},
    slots,
};
use crate::{
    api::{
        BaseImage, ImageCandidate, ImageCandidateStatus, Waiver,
        image_candidate::{CandidateResult, Step},
    },
    runtime::metrics,
};
use futures::StreamExt as _;
use k8s_openapi::api::batch::v1::Job;
use kube::{
    Api, ResourceExt,
    core::{DeserializeGuard, PartialObjectMeta},
    runtime::{
        Controller,
        controller::{Action, Config},
        reflector::{ObjectRef, Store},
        watcher,
    },
};
use std::{future::Future, sync::Arc, time::Duration};

/// Jobs wake us; this is the safety net for an event that never came.
const SAFETY_NET: Duration = Duration::from_secs(20);

/// Why a step ended early.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Validate(#[from] validate::Error),
    #[error(transparent)]
    Observe(#[from] observe::Error),
    #[error(transparent)]
    Apply(#[from] apply::Error),
}

impl Classified for Error {
    fn reason(&self) -> &'static str {
        match self {
            Self::Validate(error) => error.reason(),
            Self::Observe(error) => error.reason(),
            Self::Apply(error) => error.reason(),
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::Validate(error) => error.class(),
            Self::Observe(error) => error.class(),
            Self::Apply(error) => error.class(),
        }
    }
}

type Guarded = DeserializeGuard<ImageCandidate>;

/// Runs until `shutdown` resolves.
pub async fn run(ctx: Context, shutdown: impl Future<Output = ()> + Send + Sync + 'static) {
    let client = ctx.watches.clone();
    let ours = watcher::Config::default().labels(crate::api::refs::LABEL_CANDIDATE);
    let controller = Controller::new(Api::<Guarded>::all(client.clone()), watcher::Config::default());
    let (candidates, followers) = (controller.store(), controller.store());
    controller
        .owns(Api::<Job>::all(client.clone()), ours)
        .watches(
            Api::<PartialObjectMeta<BaseImage>>::all(client.clone()),
            watcher::Config::default(),
            move |base| on_their_way(&followers, &base),
        )
        .watches(
            Api::<PartialObjectMeta<Waiver>>::all(client),
            watcher::Config::default(),
            move |waiver| waiver_may_concern(&candidates, waiver.namespace().as_deref()),
        )
        .with_config(Config::default().concurrency(8))
        .graceful_shutdown_on(shutdown)
        .run(
            reconcile,
            |seen, error, ctx| driver::on_guarded_error(&seen, error, &ctx),
            Arc::new(ctx),
        )
        .for_each(|_| std::future::ready(()))
        .await;
}

/// The candidates of a BaseImage that are not decided: what it wants decides whether they go on.
fn on_their_way(candidates: &Store<Guarded>, base: &PartialObjectMeta<BaseImage>) -> Vec<ObjectRef<Guarded>> {
    let concerned = |candidate: &ImageCandidate| {
        let result = candidate.status.as_ref().and_then(|status| status.result);
        candidate.namespace() == base.namespace()
            && candidate.spec.base_image == base.name_any()
            && !result.is_some_and(CandidateResult::is_final)
    };
    matching(candidates, concerned)
}

fn matching(candidates: &Store<Guarded>, concerned: impl Fn(&ImageCandidate) -> bool) -> Vec<ObjectRef<Guarded>> {
    candidates
        .state()
        .iter()
        .filter(|guarded| guarded.0.as_ref().is_ok_and(&concerned))
        .map(|guarded| ObjectRef::from_obj(guarded.as_ref()))
        .collect()
}

/// The candidates of a namespace that are decided: those that are not read the waivers when they are judged.
fn waiver_may_concern(candidates: &Store<Guarded>, namespace: Option<&str>) -> Vec<ObjectRef<Guarded>> {
    let concerned = |candidate: &ImageCandidate| {
        let result = candidate.status.as_ref().and_then(|status| status.result);
        candidate.namespace().as_deref() == namespace
            && matches!(result, Some(CandidateResult::Rejected | CandidateResult::Passed))
    };
    matching(candidates, concerned)
}

async fn reconcile(seen: Arc<Guarded>, ctx: Arc<Context>) -> Result<Action, DriverError> {
    let Some(seen) = driver::readable(&seen) else {
        return Ok(Action::await_change());
    };
    let Some(candidate) = driver::read(&ctx, seen).await? else {
        return Ok(Action::await_change());
    };
    let outcome = match steps(&candidate, &ctx).await {
        Ok(outcome) => outcome,
        Err(error) => failure(&candidate, &error, &ctx),
    };
    measure(&candidate, &outcome.status, &ctx);
    driver::finish(&ctx, &candidate, outcome).await
}

/// Counts each step that this reconcile brought to its end, with the time since it began.
fn measure(candidate: &ImageCandidate, new: &ImageCandidateStatus, ctx: &Context) {
    let old = candidate.status.clone().unwrap_or_default();
    let ended = |status: &ImageCandidateStatus, step| {
        status
            .timeline
            .iter()
            .find(|entry| entry.step == step)
            .and_then(|entry| entry.finished.clone())
    };
    for entry in &new.timeline {
        let (Some(finished), None) = (&entry.finished, ended(&old, entry.step)) else {
            continue;
        };
        let took = finished.0.duration_since(entry.started.0).unsigned_abs();
        let passed = conditions::is_true(&new.conditions, entry.step.as_str());
        let result = if passed {
            metrics::StepResult::Passed
        } else {
            metrics::StepResult::Failed
        };
        ctx.metrics.step(metric_step(entry.step), result, took);
    }
}

fn metric_step(step: Step) -> metrics::Step {
    match step {
        Step::Pulled => metrics::Step::Pull,
        Step::Verified => metrics::Step::Verify,
        Step::Built => metrics::Step::Build,
        Step::Validated => metrics::Step::Validate,
        Step::Scanned => metrics::Step::Scan,
        Step::Promoted => metrics::Step::Promote,
    }
}

/// One screen: what a reconcile of a candidate does.
async fn steps(candidate: &ImageCandidate, ctx: &Context) -> Result<Outcome<ImageCandidateStatus>, Error> {
    let wish = validate::validate(candidate)?; // pure
    let observed = observe::observe(candidate, &wish, ctx).await?; // IO, read only
    let actions = plan::plan(candidate, &wish, &observed, &ctx.settings); // pure
    let applied = apply::apply(actions, candidate, &wish, ctx).await?; // IO, writes
    let (status, notices) = status::summarize(candidate, &wish, &observed, &applied, &ctx.settings, ctx.now()); // pure
    let next = match observed.stage {
        // Nothing that could appear would change it: only another BaseImage, and that is another candidate.
        observe::Stage::Finished | observe::Stage::Verify(observe::Verification::NothingDeclared) => Next::AwaitChange,
        observe::Stage::Unwanted { ref wanted, .. } => match wanted {
            wanted::Wanted::Yes | wanted::Wanted::NotYetKnown { .. } => Next::After(SAFETY_NET),
            // The BaseImage wakes us when it goes on; this is for an event that never came.
            wanted::Wanted::Suspended => Next::After(ctx.settings.database_interval),
            wanted::Wanted::No { .. } | wanted::Wanted::BaseImageGone { .. } => Next::AwaitChange,
        },
        observe::Stage::Released => Next::After(ctx.settings.database_interval),
        observe::Stage::Pull
        | observe::Stage::Verify(_)
        | observe::Stage::Build(_)
        | observe::Stage::Check { .. }
        | observe::Stage::Again { .. }
        | observe::Stage::Judge(_)
        | observe::Stage::Promote(_) => Next::After(if applied.queued.is_empty() {
            SAFETY_NET
        } else {
            slots::ASK_AGAIN
        }),
    };
    // A page that could not be published is tried again when nothing else is going on.
    let next = match (&applied.page, next) {
        (Some(Err(failure)), Next::AwaitChange) => failure.class.into(),
        (Some(_) | None, next) => next,
    };
    Ok(Outcome { status, next, notices })
}

fn failure(candidate: &ImageCandidate, error: &Error, ctx: &Context) -> Outcome<ImageCandidateStatus> {
    let (status, notices) = status::failed(candidate, error, ctx.now());
    if candidate.status.as_ref() == Some(&status) {
        // Its status does not say it, because it is decided (or says it already).
        tracing::warn!(
            candidate = candidate.name_any(),
            reason = error.reason(),
            error = one_line(error),
            "candidate not looked at"
        );
    }
    Outcome {
        status,
        next: error.class().into(),
        notices,
    }
}
