//! The shell around every reconcile: read the object live, run its steps, write its status once, say when to come back.
//!
//! The read is live and not from the cache, because a stale cache must never lead to a second roll or a lost status.
//! A status is written onto the object that was read and no other: the patch names its UID, and one that was deleted and
//! made anew meanwhile keeps its own. Must not know any kind.

use super::{
    context::Context,
    error::{Class, one_line},
    writes,
};
use crate::controllers::named::Named as _;
use crate::readable::Guarded;
use crate::runtime::{
    lease::NotLeader,
    metrics::{ApiVerb, Kind},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
    core::{NamespaceResourceScope, Status},
    runtime::{
        controller::Action,
        events::{Event, EventType},
    },
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use std::{fmt::Debug, time::Duration};

/// Field manager of every status patch.
pub const STATUS_MANAGER: &str = "repave/status";
/// How soon an object is looked at again that a person must correct: what it refers to may have been corrected instead, and
/// that wakes nobody. A look that finds the same writes nothing.
const STALLED: Duration = Duration::from_secs(300);
/// How soon an object is looked at again that was replaced while it was worked on.
const REPLACED: Duration = Duration::from_secs(1);

/// When to look at the object again, if nothing happens before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requeue {
    /// At once: a step was made, and the next one is due.
    Now,
    /// Only when it changes.
    AwaitChange,
    /// After this long.
    After(Duration),
    /// A step failed outside: after the object's own backoff.
    Backoff,
}

impl From<Class> for Requeue {
    fn from(class: Class) -> Self {
        match class {
            Class::Waiting(wait) => Self::After(wait),
            Class::Stalled => Self::After(STALLED),
            Class::Transient => Self::Backoff,
        }
    }
}

/// One event that a person would want to know of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRecord {
    /// Whether something went wrong.
    pub warning: bool,
    /// PascalCase word.
    pub reason: &'static str,
    /// What is so, why, what to do.
    pub message: String,
}

/// What the steps of a kind came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome<S> {
    /// The whole new status.
    pub status: S,
    /// When to come back.
    pub next: Requeue,
    /// What people should hear of; published after the status is written, never failing anything.
    pub events: Vec<EventRecord>,
}

/// What the driver itself can fail at.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The object could not be read or its status not be written.
    #[error("Kubernetes API: {0}")]
    Api(#[from] kube::Error),
    /// The object has no namespace, though its kind is namespaced.
    #[error("the object has no namespace")]
    NoNamespace,
    /// The object has no UID, so that nothing can be written onto it.
    #[error("expected an object with a UID as the API server gives it, found none")]
    NoUid,
    /// The lease is lost: another replica does the work.
    #[error(transparent)]
    NotLeader(#[from] NotLeader),
    /// The object was not read in time.
    #[error("Kubernetes API: the object was not read in time; it is tried again")]
    TimedOut,
    /// A status could not be written as JSON.
    #[error("status is not serialisable: {0}")]
    Serialize(#[from] serde_json::Error),
}

/// A kind with a status that a controller owns.
pub trait Owned:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Serialize
{
    /// The status.
    type Status: Clone + Debug + Default + PartialEq + Serialize + Send + Sync;
    /// The label of its metrics.
    const METRIC: Kind;
    /// The status as it was read.
    fn status(&self) -> Option<&Self::Status>;
    /// The conditions of a status and the generation that they are about.
    fn conditions(status: &mut Self::Status) -> (&mut Vec<Condition>, &mut Option<i64>);
}

/// Reads the object anew; `None` when it is gone or being deleted.
pub async fn read<K: Owned>(ctx: &Context, seen: &K) -> Result<Option<K>, DriverError> {
    let namespace = seen.namespace().ok_or(DriverError::NoNamespace)?;
    let live = Api::<K>::namespaced(ctx.client.clone(), &namespace)
        .named(&seen.name_any())
        .await?;
    Ok(live.filter(|object| object.meta().deletion_timestamp.is_none()))
}

/// Writes the status if it differs, publishes the notices, and says when to come back.
///
/// An object that was deleted, or deleted and made anew, since it was read gets neither: what is there now is read again.
pub async fn finish<K: Owned>(ctx: &Context, object: &K, outcome: Outcome<K::Status>) -> Result<Action, DriverError> {
    if object.status() != Some(&outcome.status) {
        if !patch_status(ctx, object, &outcome.status).await? {
            return Ok(Action::requeue(REPLACED));
        }
        ctx.metrics.api_write(K::METRIC, ApiVerb::PatchStatus);
    }
    for notice in outcome.events {
        publish(ctx, object, notice).await;
    }
    let uid = object.uid().ok_or(DriverError::NoUid)?;
    Ok(match outcome.next {
        Requeue::Now => {
            ctx.backoff.succeeded(&uid);
            Action::requeue(Duration::ZERO)
        }
        Requeue::AwaitChange => {
            ctx.backoff.succeeded(&uid);
            Action::await_change()
        }
        Requeue::After(wait) => {
            ctx.backoff.succeeded(&uid);
            Action::requeue(wait)
        }
        Requeue::Backoff => Action::requeue(ctx.backoff.failed(&uid)),
    })
}

/// `false` when the object is not the one that was read any more: another one has its name, or it was written since. So what a
/// second leader decided on older eyes never takes the place of what was decided after.
async fn patch_status<K: Owned>(ctx: &Context, object: &K, status: &K::Status) -> Result<bool, DriverError> {
    let namespace = object.namespace().ok_or(DriverError::NoNamespace)?;
    let uid = object.uid().ok_or(DriverError::NoUid)?;
    let mut read = json!({"uid": uid});
    if let Some(version) = object.resource_version() {
        read["resourceVersion"] = json!(version);
    }
    let patch = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": read,
        "status": serde_json::to_value(status)?,
    });
    let params = PatchParams::apply(STATUS_MANAGER).force();
    ctx.leader.require()?;
    match Api::<K>::namespaced(ctx.client.clone(), &namespace)
        .patch_status(&object.name_any(), &params, &Patch::Apply(&patch))
        .await
    {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(answer)) if is_replaced(&answer) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether a refused status patch means that the object of that UID is gone. The precondition is answered with 409, and
/// by the validation of metadata with 422 on the field itself.
fn is_replaced(answer: &Status) -> bool {
    answer.is_not_found() || answer.is_conflict() || (answer.code == 422 && answer.message.contains("metadata.uid"))
}

/// Publishes one event; a failure is logged and changes nothing.
async fn publish<K: Owned>(ctx: &Context, object: &K, notice: EventRecord) {
    let event = Event {
        type_: if notice.warning {
            EventType::Warning
        } else {
            EventType::Normal
        },
        reason: notice.reason.to_owned(),
        note: Some(notice.message.chars().take(1000).collect()),
        action: "Reconcile".to_owned(),
        secondary: None,
    };
    writes::publish(ctx, &object.object_ref(&()), &event).await;
}

/// The object, if it can be read. One that cannot is logged and waits for its next change: it must not stop the watch of
/// all others (kube-runtime ends a list at the first object that it cannot decode).
pub fn readable<K: Owned>(guarded: &Guarded<K>) -> Option<&K> {
    match &guarded.0 {
        Ok(object) => Some(object),
        Err(invalid) => {
            let (kind, error) = (K::kind(&()), one_line(invalid));
            tracing::warn!(%kind, name = ?invalid.metadata.name, error, "object cannot be read");
            None
        }
    }
}

/// As [`on_error`], for an object that may be unreadable.
pub fn on_guarded_error<K: Owned>(guarded: &Guarded<K>, error: &DriverError, ctx: &Context) -> Action {
    readable(guarded).map_or_else(Action::await_change, |object| on_error(object, error, ctx))
}

/// The answer to a reconcile that failed in the driver itself: log, and try again with backoff.
pub fn on_error<K: Owned>(object: &K, error: &DriverError, ctx: &Context) -> Action {
    tracing::warn!(
        kind = %K::kind(&()),
        namespace = object.namespace().unwrap_or_default(),
        name = object.name_any(),
        error = one_line(error),
        "reconcile failed"
    );
    Action::requeue(ctx.backoff.failed(&object.uid().unwrap_or_default()))
}

macro_rules! owned {
    ($($kind:ty => $status:ty, $metric:ident);* $(;)?) => {
        $(impl Owned for $kind {
            const METRIC: Kind = Kind::$metric;
            type Status = $status;

            fn status(&self) -> Option<&Self::Status> {
                self.status.as_ref()
            }

            fn conditions(status: &mut Self::Status) -> (&mut Vec<Condition>, &mut Option<i64>) {
                (&mut status.conditions, &mut status.observed_generation)
            }
        })*
    };
}
owned!(
    crate::api::BaseImage => crate::api::BaseImageStatus, BaseImage;
    crate::api::ImageCandidate => crate::api::ImageCandidateStatus, ImageCandidate;
    crate::api::RepavePlan => crate::api::RepavePlanStatus, RepavePlan;
    crate::api::RepaveRun => crate::api::RepaveRunStatus, RepaveRun;
    crate::api::Waiver => crate::api::WaiverStatus, Waiver;
);

#[cfg(test)]
mod tests;
