//! The one reconciler: what wakes an object, what is read, in which order the steps run, and what a failure leaves.
//!
//! ```text
//! validate (pure) -> observe (IO, read only) -> decide (pure) -> apply (IO, writes) -> render (pure) -> one status patch
//! ```
//!
//! Where a decision was made on what a watch shows, what it would write is read live and decided once more before it is
//! applied (`confirm`).
//!
//! Around the steps of every kind: the guard for objects that cannot be decoded, the live read, fair workers for the namespaces
//! ([`Workers`]), the pace of one object, a time limit, the backoff, events and metrics. Must not know any kind.

use super::{
    conditions::Conditions,
    context::{Context, Settings},
    driver::{self, DriverError, EventRecord, Outcome, Owned, Requeue},
    error::{Class, Classified, one_line},
    pace::Pace,
    wakes::{Guarded, Wakes},
    workers::Workers,
};
use crate::{
    domain::duration::Span,
    runtime::{metrics::ReconcileResult, panics::contained},
};
use futures::{FutureExt, StreamExt, future::BoxFuture};
use jiff::Timestamp;
use kube::{
    ResourceExt,
    runtime::{
        Config,
        controller::{Action, applier},
    },
};
use std::{convert::Infallible, future::Future, sync::Arc, time::Duration};
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

/// The status of what a reconciler works on.
pub type StatusOf<R> = <<R as Reconciler>::Resource as Owned>::Status;

/// A step that failed, as everything after it sees it: it has no other way into a status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// A static PascalCase word.
    pub reason: &'static str,
    /// What to do about it.
    pub class: Class,
    /// What is so, why, what to do: one line.
    pub message: String,
}

impl<E: Classified + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self {
            reason: error.reason(),
            class: error.class(),
            message: one_line(&error),
        }
    }
}

/// What a decision is given besides what was observed.
#[derive(Debug, Clone, Copy)]
pub struct Given<'a> {
    /// The time of day.
    pub now: Timestamp,
    /// How this process was told to work.
    pub settings: &'a Settings,
}

/// Whether a decision stands.
pub enum Confirmed<R: Reconciler> {
    /// It does.
    Stands(R::Decision),
    /// What it would write was read once more: it is decided anew from this.
    SeenAnew(R::Observed),
}

/// The steps of one kind, each on its own; the order is not theirs.
pub trait Reconciler: Send + Sync + Sized + 'static {
    /// What it works on.
    type Resource: Owned + Send + Sync + 'static;
    /// Its spec, parsed.
    type Validated: Send + Sync;
    /// What the world looks like.
    type Observed: Send;
    /// What is to be done, why not more, and when to look again: data. What was observed and has to be told goes along in it.
    type Decision: Send + Sync;
    /// What came of it.
    type Receipt: Send + Sync;
    /// The shortest time between two turns of one object.
    const GAP: Duration;
    /// The longest turn; a longer one has failed and is tried again.
    const LIMIT: Duration;

    /// What every step may use.
    fn ctx(&self) -> &Context;
    /// Parses the spec once. Pure.
    fn validate(resource: &Self::Resource) -> Result<Self::Validated, Failure>;
    /// Looks at the world. Reads only.
    fn observe(
        &self,
        resource: &Self::Resource,
        validated: &Self::Validated,
    ) -> impl Future<Output = Result<Self::Observed, Failure>> + Send;
    /// What is to be done. Pure, and without `self`: no client can reach it.
    fn decide(
        resource: &Self::Resource,
        validated: &Self::Validated,
        observed: Self::Observed,
        given: Given<'_>,
    ) -> Self::Decision;
    /// Reads once more, from the store itself, what the decision would write, where it was made on what a watch or a cache
    /// shows. Reads only, and happens once: what it gives is decided and not asked again.
    fn confirm(
        &self,
        _: &Self::Resource,
        _: &Self::Validated,
        decision: Self::Decision,
    ) -> impl Future<Output = Result<Confirmed<Self>, Failure>> + Send {
        std::future::ready(Ok(Confirmed::Stands(decision)))
    }
    /// Does it. The only step that writes; everything in it may be done twice. Actions may be taken out of the decision.
    fn apply(
        &self,
        resource: &Self::Resource,
        validated: &Self::Validated,
        decision: &mut Self::Decision,
    ) -> impl Future<Output = Result<Self::Receipt, Failure>> + Send;
    /// What people see of it, and when to look again. Pure.
    fn render(
        resource: &Self::Resource,
        validated: &Self::Validated,
        decision: &Self::Decision,
        receipt: &Self::Receipt,
        now: Timestamp,
    ) -> Outcome<StatusOf<Self>>;
    /// What a failure leaves; unless said otherwise, everything but the conditions stays.
    fn on_failure(resource: &Self::Resource, failure: &Failure, now: Timestamp) -> Outcome<StatusOf<Self>> {
        conditions_only(resource, failure, now)
    }
    /// Takes in what a turn came to, for metrics and for a memory that a restart may lose.
    fn note(&self, _: &Self::Resource, _: Self::Decision, _: &Outcome<StatusOf<Self>>) {}
}

/// All steps, once, in their order.
pub(crate) async fn steps<R: Reconciler>(
    reconciler: &R,
    resource: &R::Resource,
) -> Result<Outcome<StatusOf<R>>, Failure> {
    let ctx = reconciler.ctx();
    let given = || Given {
        now: ctx.now(),
        settings: &ctx.settings,
    };
    let validated = R::validate(resource)?;
    let observed = reconciler.observe(resource, &validated).await?;
    let decision = R::decide(resource, &validated, observed, given());
    let mut decision = match reconciler.confirm(resource, &validated, decision).await? {
        Confirmed::Stands(decision) => decision,
        Confirmed::SeenAnew(observed) => R::decide(resource, &validated, observed, given()),
    };
    let receipt = reconciler.apply(resource, &validated, &mut decision).await?;
    let outcome = R::render(resource, &validated, &decision, &receipt, ctx.now());
    reconciler.note(resource, decision, &outcome);
    Ok(outcome)
}

/// The conditions say what failed; whatever else was known stays. An event says it once, not again for another text.
pub fn conditions_only<K: Owned>(resource: &K, failure: &Failure, now: Timestamp) -> Outcome<K::Status> {
    let mut status = resource.status().cloned().unwrap_or_default();
    let generation = resource.meta().generation.unwrap_or_default();
    let (list, observed_generation) = K::conditions(&mut status);
    let known = list.iter().any(|c| c.type_ == "Ready" && c.reason == failure.reason);
    let mut conditions = Conditions::from(list, generation, now);
    conditions.failed_as(failure.class, failure.reason, failure.message.clone());
    *list = conditions.into_list();
    *observed_generation = Some(generation);
    let notice = EventRecord {
        warning: true,
        reason: failure.reason,
        message: failure.message.clone(),
    };
    Outcome {
        status,
        next: failure.class.into(),
        events: if known { Vec::new() } else { vec![notice] },
    }
}

struct Frame<R> {
    reconciler: R,
    pace: Pace,
    workers: Workers,
}

/// Runs a controller until `stop` is cancelled; turns that have begun are finished, within their limit.
pub async fn run<R: Reconciler>(reconciler: R, wakes: Wakes<R::Resource>, stop: CancellationToken) {
    let workers = reconciler.ctx().settings.concurrency;
    let frame = Arc::new(Frame {
        pace: Pace::new(R::GAP),
        workers: Workers::new(workers),
        reconciler,
    });
    let (store, woken) = wakes.into_parts();
    let woken = woken.map(Ok::<_, Infallible>).take_until(stop.cancelled_owned());
    applier(
        turn_in_a_task,
        on_error,
        frame,
        store,
        woken,
        // Twice as many: who gets no worker is told so, and has to be asked again even while all of them hang.
        Config::default().concurrency(workers.saturating_mul(2)),
    )
    // Failures were told by `on_error`; what else comes here is an object that is gone.
    .for_each(|_| std::future::ready(()))
    .await;
}

/// Each turn is a task of its own, so that turns run side by side. It ends when the controller is dropped.
fn turn_in_a_task<R: Reconciler>(
    seen: Arc<Guarded<R::Resource>>,
    frame: Arc<Frame<R>>,
) -> BoxFuture<'static, Result<Action, DriverError>> {
    let task = AbortOnDropHandle::new(tokio::spawn(turn(seen, frame)));
    async move {
        match task.await {
            Ok(result) => result,
            // Not in the steps of one object: it ends the process.
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Ok(Action::await_change()),
        }
    }
    .boxed()
}

// kube hands both over by value.
#[allow(clippy::needless_pass_by_value)]
fn on_error<R: Reconciler>(seen: Arc<Guarded<R::Resource>>, error: &DriverError, frame: Arc<Frame<R>>) -> Action {
    driver::on_guarded_error(&seen, error, frame.reconciler.ctx())
}

async fn turn<R: Reconciler>(seen: Arc<Guarded<R::Resource>>, frame: Arc<Frame<R>>) -> Result<Action, DriverError> {
    let Some(seen) = driver::readable(&seen) else {
        return Ok(Action::await_change());
    };
    let uid = seen.uid().ok_or(DriverError::NoUid)?;
    let _worker = match frame.workers.enter(&seen.namespace().unwrap_or_default()) {
        Ok(worker) => worker,
        Err(wait) => return Ok(Action::requeue(wait)),
    };
    if let Err(wait) = frame.pace.admit(&uid, Instant::now()) {
        return Ok(Action::requeue(wait));
    }
    let (ctx, begin) = (frame.reconciler.ctx(), Instant::now());
    let result = worked_on(&frame.reconciler, seen).await;
    let label = match &result {
        Ok((_, label)) => *label,
        Err(_) => ReconcileResult::Transient,
    };
    ctx.metrics.reconcile(R::Resource::METRIC, label, begin.elapsed());
    result.map(|(action, _)| action)
}

async fn worked_on<R: Reconciler>(
    reconciler: &R,
    seen: &R::Resource,
) -> Result<(Action, ReconcileResult), DriverError> {
    let ctx = reconciler.ctx();
    let read = tokio::time::timeout(R::LIMIT, driver::read(ctx, seen)).await;
    let Some(object) = read.map_err(|_| DriverError::TimedOut)?? else {
        return Ok((Action::await_change(), ReconcileResult::Done));
    };
    let result = tokio::time::timeout(R::LIMIT, contained(steps(reconciler, &object))).await;
    let result = match result {
        Ok(Ok(result)) => result,
        Ok(Err(panicked)) => Err(panicked.into()),
        Err(_) => Err(timed_out(R::LIMIT)),
    };
    let (outcome, label) = match result {
        Ok(outcome) => {
            let label = match outcome.next {
                Requeue::AwaitChange => ReconcileResult::Done,
                Requeue::Now | Requeue::After(_) => ReconcileResult::Waiting,
                Requeue::Backoff => ReconcileResult::Transient,
            };
            (outcome, label)
        }
        Err(failure) => {
            let label = match failure.class {
                Class::Waiting(_) => ReconcileResult::Waiting,
                Class::Stalled => ReconcileResult::Stalled,
                Class::Transient => ReconcileResult::Transient,
            };
            (R::on_failure(&object, &failure, ctx.now()), label)
        }
    };
    Ok((driver::finish(ctx, &object, outcome).await?, label))
}

fn timed_out(limit: Duration) -> Failure {
    Failure {
        reason: "TimedOut",
        class: Class::Transient,
        message: format!(
            "not done within {}: something that was asked did not answer in time (the log says what is slow); it is tried again",
            Span::seconds(limit.as_secs())
        ),
    }
}

#[cfg(test)]
mod tests;
