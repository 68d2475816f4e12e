//! The one reconciler: what wakes an object, what is read, in which order the steps run, and what a failure leaves.
//!
//! ```text
//! validate (pure) -> observe (IO, read only) -> decide (pure) -> apply (IO, writes) -> render (pure) -> one status patch
//! ```
//!
//! Around the steps of every kind: the guard for objects that cannot be decoded, the live read, fair workers for the namespaces
//! ([`Workers`]), the pace of one object, a time limit, the backoff, events and metrics. Must not know any kind.

use super::{
    conditions::Conditions,
    context::Context,
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
pub type StatusOf<R> = <<R as Steps>::Resource as Owned>::Status;

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

/// The steps of one kind, each on its own; the order is not theirs.
pub trait Reconciler: Send + Sync + Sized + 'static {
    /// What it works on.
    type Resource: Owned + Send + Sync + 'static;
    /// Its spec, parsed.
    type Validated: Send + Sync;
    /// What the world looks like.
    type Observed: Send + Sync;
    /// One thing to be done, as data.
    type Action: Send;
    /// What came of the actions.
    type Receipt: Send;
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
        observed: &Self::Observed,
        now: Timestamp,
    ) -> Vec<Self::Action>;
    /// Does it. The only step that writes; everything in it may be done twice.
    fn apply(&self, actions: Vec<Self::Action>) -> impl Future<Output = Result<Self::Receipt, Failure>> + Send;
    /// What people see of it, and when to look again. Pure.
    fn render(
        resource: &Self::Resource,
        validated: &Self::Validated,
        observed: &Self::Observed,
        receipt: &Self::Receipt,
        now: Timestamp,
    ) -> Outcome<<Self::Resource as Owned>::Status>;
    /// What a failure leaves; unless said otherwise, everything but the conditions stays.
    fn on_failure(
        resource: &Self::Resource,
        failure: &Failure,
        now: Timestamp,
    ) -> Outcome<<Self::Resource as Owned>::Status> {
        conditions_only(resource, failure, now)
    }
}

/// The steps of one kind as one. [`Reconciler`] is how it is done; a kind whose steps do not fit it says so here.
pub trait Steps: Send + Sync + Sized + 'static {
    /// What it works on.
    type Resource: Owned + Send + Sync + 'static;
    /// The shortest time between two turns of one object.
    const GAP: Duration;
    /// The longest turn; a longer one has failed and is tried again.
    const LIMIT: Duration;

    /// What every step may use.
    fn ctx(&self) -> &Context;
    /// All steps, in order. A failure is told by `on_failure`.
    fn steps(&self, resource: &Self::Resource)
    -> impl Future<Output = Result<Outcome<StatusOf<Self>>, Failure>> + Send;
    /// What a failure leaves; unless said otherwise, everything but the conditions stays.
    fn on_failure(resource: &Self::Resource, failure: &Failure, now: Timestamp) -> Outcome<StatusOf<Self>> {
        conditions_only(resource, failure, now)
    }
}

impl<R: Reconciler> Steps for R {
    type Resource = R::Resource;
    const GAP: Duration = R::GAP;
    const LIMIT: Duration = R::LIMIT;

    fn ctx(&self) -> &Context {
        Reconciler::ctx(self)
    }

    async fn steps(&self, resource: &Self::Resource) -> Result<Outcome<StatusOf<Self>>, Failure> {
        let validated = R::validate(resource)?;
        let observed = self.observe(resource, &validated).await?;
        let now = Reconciler::ctx(self).now();
        let actions = R::decide(resource, &validated, &observed, now);
        let receipt = self.apply(actions).await?;
        Ok(R::render(resource, &validated, &observed, &receipt, now))
    }

    fn on_failure(resource: &Self::Resource, failure: &Failure, now: Timestamp) -> Outcome<StatusOf<Self>> {
        <R as Reconciler>::on_failure(resource, failure, now)
    }
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

struct Frame<S> {
    steps: S,
    pace: Pace,
    workers: Workers,
}

/// Runs a controller until `stop` is cancelled; turns that have begun are finished, within their limit.
pub async fn run<S: Steps>(steps: S, wakes: Wakes<S::Resource>, stop: CancellationToken) {
    let workers = steps.ctx().settings.concurrency;
    let frame = Arc::new(Frame {
        pace: Pace::new(S::GAP),
        workers: Workers::new(workers),
        steps,
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
fn turn_in_a_task<S: Steps>(
    seen: Arc<Guarded<S::Resource>>,
    frame: Arc<Frame<S>>,
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
fn on_error<S: Steps>(seen: Arc<Guarded<S::Resource>>, error: &DriverError, frame: Arc<Frame<S>>) -> Action {
    driver::on_guarded_error(&seen, error, frame.steps.ctx())
}

async fn turn<S: Steps>(seen: Arc<Guarded<S::Resource>>, frame: Arc<Frame<S>>) -> Result<Action, DriverError> {
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
    let (ctx, begin) = (frame.steps.ctx(), Instant::now());
    let result = worked_on(&frame.steps, seen).await;
    let label = match &result {
        Ok((_, label)) => *label,
        Err(_) => ReconcileResult::Transient,
    };
    ctx.metrics.reconcile(S::Resource::METRIC, label, begin.elapsed());
    result.map(|(action, _)| action)
}

async fn worked_on<S: Steps>(steps: &S, seen: &S::Resource) -> Result<(Action, ReconcileResult), DriverError> {
    let ctx = steps.ctx();
    let read = tokio::time::timeout(S::LIMIT, driver::read(ctx, seen)).await;
    let Some(object) = read.map_err(|_| DriverError::TimedOut)?? else {
        return Ok((Action::await_change(), ReconcileResult::Done));
    };
    let result = tokio::time::timeout(S::LIMIT, contained(steps.steps(&object))).await;
    let result = match result {
        Ok(Ok(result)) => result,
        Ok(Err(panicked)) => Err(panicked.into()),
        Err(_) => Err(timed_out(S::LIMIT)),
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
            (S::on_failure(&object, &failure, ctx.now()), label)
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
