//! `ImageCandidate`: brings one candidate step by step to production, or keeps it out for good.
//!
//! The steps are those of the pipeline: Pulled, Verified, Built, Validated and Scanned (in parallel), Promoted. One
//! reconcile makes one step; the status that it writes wakes the next.

mod apply;
mod decide;
mod evaluation;
mod evaluation_inputs;
mod gate;
mod jobs;
mod observe;
mod status;
pub use status::RESCAN_PASSED;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::candidate as example;
mod validate;

use crate::readable::Meta;
use apply::{Applied, Transfers};
use decide::Decision;
use observe::Observed;
use repave_policy::exceptions;
use validate::ValidatedCandidate;

use super::{
    conditions,
    context::Context,
    desired::wanted,
    driver::{Outcome, Requeue},
    gauges, paging,
    reconciler::{self, Failure, Given, Reconciler},
    wakes::{Guarded, Wakes, those},
};
use crate::{
    api::{
        BaseImage, ImageCandidate, ImageCandidateStatus, Waiver,
        image_candidate::Step,
        phase::Phase,
        refs::{LABEL_CANDIDATE, LABEL_SELF_TEST},
    },
    runtime::metrics,
};
use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use kube::{
    Api, ResourceExt,
    runtime::reflector::{ObjectRef, Store},
};
use std::{collections::BTreeMap, time::Duration};
use tokio_util::sync::CancellationToken;

struct Candidates {
    ctx: Context,
    /// Copies and promotions that are under way.
    transfers: Transfers,
}

/// Runs until `stop` is cancelled.
pub async fn run(ctx: Context, stop: CancellationToken) {
    let ours = paging::watch().labels(LABEL_CANDIDATE);
    let transfers = Transfers::default();
    let wakes = Wakes::of(&ctx);
    let candidates = wakes.store();
    let (followers, candidates_cache) = (wakes.store(), wakes.store());
    let wakes = wakes
        .owns(Api::<Meta<Job>>::all(ctx.watches.clone()), ours)
        .watches(
            Api::<Meta<BaseImage>>::all(ctx.watches.clone()),
            paging::watch(),
            move |base| on_their_way(&followers, base),
        )
        .watches(
            Api::<Meta<Waiver>>::all(ctx.watches.clone()),
            paging::watch(),
            move |waiver| waiver_may_concern(&candidates, waiver.namespace().as_deref()),
        );
    let of_self_tests = candidates_cache.clone();
    let wakes = wakes
        .watches(
            Api::<Meta<Job>>::namespaced(ctx.watches.clone(), &ctx.settings.namespace),
            paging::watch().labels(LABEL_SELF_TEST),
            move |_| waiting(&of_self_tests),
        )
        .also(
            transfers
                .ended()
                .map(|(namespace, name)| ObjectRef::new(&name).within(&namespace)),
        );
    let counted = gauges::candidates(ctx.metrics.clone(), candidates_cache.clone());
    ctx.slots.count_those_of(candidates_cache);
    let _held = transfers.while_held();
    tokio::select! {
        () = reconciler::run(Candidates { ctx, transfers }, wakes, stop) => {}
        () = counted => {}
    }
}

/// The candidates of a BaseImage that are not decided: what it wants decides whether they go on.
fn on_their_way(
    candidates: &Store<Guarded<ImageCandidate>>,
    base: &Meta<BaseImage>,
) -> Vec<ObjectRef<Guarded<ImageCandidate>>> {
    those(candidates, base.namespace().as_deref(), |candidate: &ImageCandidate| {
        let undecided = candidate.status.as_ref().is_none_or(|status| !is_decided(status));
        candidate.spec.base_image == base.name_any() && undecided
    })
}

/// The candidates that a Waiver of this namespace may open. Those that are not decided read the waivers when they are judged.
fn waiver_may_concern(
    candidates: &Store<Guarded<ImageCandidate>>,
    namespace: Option<&str>,
) -> Vec<ObjectRef<Guarded<ImageCandidate>>> {
    let all = candidates.state();
    let all = all.iter().filter_map(|guarded| guarded.0.as_ref().ok());
    let names: Vec<String> = newest_refused(all, namespace).map(ResourceExt::name_any).collect();
    those(candidates, namespace, |candidate: &ImageCandidate| {
        names.contains(&candidate.name_any())
    })
}

/// Of each BaseImage of the namespace its newest candidate, where that was refused: a waiver opens only what is wanted now.
fn newest_refused<'a>(
    candidates: impl Iterator<Item = &'a ImageCandidate>,
    namespace: Option<&str>,
) -> impl Iterator<Item = &'a ImageCandidate> {
    let mut newest: BTreeMap<&str, &ImageCandidate> = BTreeMap::new();
    for candidate in candidates.filter(|one| one.namespace().as_deref() == namespace) {
        let best = newest.entry(&candidate.spec.base_image).or_insert(candidate);
        if wanted::order(candidate) > wanted::order(best) {
            *best = candidate;
        }
    }
    let refused = |one: &&ImageCandidate| {
        one.status
            .as_ref()
            .is_some_and(|status| Phase::of(status) == Phase::Rejected)
    };
    newest.into_values().filter(refused)
}

/// The candidates of all namespaces that are not decided: a self-test may be what they wait for.
fn waiting(candidates: &Store<Guarded<ImageCandidate>>) -> Vec<ObjectRef<Guarded<ImageCandidate>>> {
    let undecided = |candidate: &ImageCandidate| candidate.status.as_ref().is_none_or(|status| !is_decided(status));
    let all = candidates.state();
    let ours = all.iter().filter(|guarded| guarded.0.as_ref().is_ok_and(undecided));
    ours.map(|guarded| ObjectRef::from_obj(guarded.as_ref())).collect()
}

impl Reconciler for Candidates {
    type Resource = ImageCandidate;
    type Validated = ValidatedCandidate;
    type Observed = Observed;
    type Decision = Decision;
    type Receipt = Applied;
    const GAP: Duration = Duration::ZERO;
    const LIMIT: Duration = Duration::from_secs(300);

    fn ctx(&self) -> &Context {
        &self.ctx
    }

    fn validate(candidate: &ImageCandidate) -> Result<ValidatedCandidate, Failure> {
        Ok(validate::validate(candidate)?)
    }

    async fn observe(&self, candidate: &ImageCandidate, v: &ValidatedCandidate) -> Result<Observed, Failure> {
        Ok(Box::pin(observe::observe(candidate, v, &self.ctx)).await?)
    }

    fn decide(candidate: &ImageCandidate, v: &ValidatedCandidate, observed: Observed, given: Given<'_>) -> Decision {
        decide::decide(candidate, v, observed, given.settings, given.now)
    }

    async fn apply(
        &self,
        candidate: &ImageCandidate,
        v: &ValidatedCandidate,
        decision: &mut Decision,
    ) -> Result<Applied, Failure> {
        // Reports are large: they are moved into what stores them.
        let actions = std::mem::take(&mut decision.actions);
        Ok(Box::pin(apply::apply(actions, candidate, v, &self.ctx, &self.transfers)).await?)
    }

    fn render(
        candidate: &ImageCandidate,
        v: &ValidatedCandidate,
        decision: &Decision,
        applied: &Applied,
        now: Timestamp,
    ) -> Outcome<ImageCandidateStatus> {
        let (status, events) = status::render(candidate, v, decision, applied, now);
        let changed = candidate.status.as_ref() != Some(&status);
        Outcome {
            next: next_look(decision, applied, changed),
            status,
            events,
        }
    }

    fn on_failure(candidate: &ImageCandidate, failure: &Failure, now: Timestamp) -> Outcome<ImageCandidateStatus> {
        let (status, events) = status::failed(candidate, failure, now);
        if candidate.status.as_ref() == Some(&status) {
            // Its status does not say it, because it is decided (or says it already).
            tracing::warn!(
                candidate = candidate.name_any(),
                reason = failure.reason,
                error = failure.message,
                "candidate not looked at"
            );
        }
        Outcome {
            status,
            next: failure.class.into(),
            events,
        }
    }

    fn note(&self, candidate: &ImageCandidate, _: Decision, outcome: &Outcome<ImageCandidateStatus>) {
        measure(candidate, &outcome.status, &self.ctx);
    }
}

fn is_decided(status: &ImageCandidateStatus) -> bool {
    Phase::of(status).is_final()
}

/// When to look again. A step that changed the status makes the next one due at once; a page that could not be published is tried
/// again when nothing else is going on.
fn next_look(decision: &Decision, applied: &Applied, changed: bool) -> Requeue {
    let next = match applied.ask_again {
        Some(wait) => Requeue::After(wait),
        None => decision.requeue,
    };
    let next = match (next, &applied.page) {
        (Requeue::AwaitChange, Some(Err(failure))) => failure.class.into(),
        (Requeue::Now | Requeue::AwaitChange | Requeue::After(_) | Requeue::Backoff, Some(_) | None) => next,
    };
    match next {
        Requeue::After(_) if changed => Requeue::Now,
        Requeue::Now | Requeue::AwaitChange | Requeue::After(_) | Requeue::Backoff => next,
    }
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
