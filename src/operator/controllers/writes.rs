//! The ways in which a controller writes to the Kubernetes API beside a status: create what is not there, patch, delete,
//! publish an event. There is no other (`tests/writes.rs`).
//!
//! Each asks for the lease right before it sends and counts what was written. Must not decide anything.

use super::{
    context::Context,
    error::{Class, Classified, WAIT, one_line},
};
use crate::runtime::{
    lease::NotLeader,
    metrics::{ApiVerb, Kind},
};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{batch::v1::Job, core::v1::ObjectReference},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy},
    runtime::events::Event,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use std::fmt::Debug;

/// Field manager of everything that the operator makes.
pub const CHILDREN_MANAGER: &str = "repave/children";

/// Something could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The lease is lost.
    #[error(transparent)]
    NotLeader(#[from] NotLeader),
    /// The API server refused, or did not answer.
    #[error("{kind} {name} could not be written: {cause}")]
    Api {
        /// Its kind.
        kind: &'static str,
        /// Its name.
        name: String,
        /// What the API server said.
        #[source]
        cause: Box<kube::Error>,
    },
    /// The name is taken by something that is not ours.
    #[error("{kind} {namespace}/{name} is there and is not ours: delete it, and it is made anew")]
    Taken {
        /// Its kind.
        kind: &'static str,
        /// Where.
        namespace: String,
        /// Its name.
        name: String,
    },
}

impl Classified for WriteError {
    fn reason(&self) -> &'static str {
        match self {
            Self::NotLeader(_) => "NotLeader",
            Self::Api { cause, .. } if is_too_large(cause) => "ObjectTooLarge",
            Self::Api { .. } => "ApiError",
            Self::Taken { .. } => "NameTaken",
        }
    }

    fn class(&self) -> Class {
        match self {
            // It will be as large the next time.
            Self::Api { cause, .. } if is_too_large(cause) => Class::Stalled,
            Self::NotLeader(_) | Self::Api { .. } => Class::Transient,
            Self::Taken { .. } => Class::Waiting(WAIT),
        }
    }
}

/// Whether the API server or etcd refused an object for its size. etcd takes 1.5 MiB, the API server 3 MiB, a ConfigMap 1 MiB;
/// some of it is told in the text only.
pub fn is_too_large(error: &kube::Error) -> bool {
    let words = [
        "request is too large",
        "Too long: may not be more than",
        "Request entity too large",
    ];
    match error {
        kube::Error::Api(status) => status.code == 413 || words.iter().any(|said| status.message.contains(said)),
        _ => false,
    }
}

/// What came of a create.
#[derive(Debug, Clone, PartialEq)]
pub enum Created<K> {
    /// It was made.
    Made(K),
    /// It was there, and it is ours.
    There(K),
}

impl<K> Created<K> {
    /// The object as the API server has it.
    pub fn into_object(self) -> K {
        match self {
            Self::Made(object) | Self::There(object) => object,
        }
    }
}

/// A request was not sent, or not answered as it should.
#[derive(Debug, thiserror::Error)]
pub enum Unsent {
    /// The lease is lost.
    #[error(transparent)]
    NotLeader(#[from] NotLeader),
    /// The API server refused, or did not answer.
    #[error(transparent)]
    Api(#[from] kube::Error),
}

impl Unsent {
    /// The same with what could not be written.
    pub fn about(self, kind: Kind, name: &str) -> WriteError {
        match self {
            Self::NotLeader(error) => WriteError::NotLeader(error),
            Self::Api(cause) => WriteError::Api {
                kind: kind.as_str(),
                name: name.to_owned(),
                cause: Box::new(cause),
            },
        }
    }
}

/// Sends one request. A future does nothing before it is awaited, so nothing is sent without the lease.
async fn sent<T>(
    ctx: &Context,
    kind: Kind,
    verb: ApiVerb,
    request: impl Future<Output = Result<T, kube::Error>> + Send,
) -> Result<T, Unsent> {
    ctx.leader.require()?;
    let answer = request.await?;
    ctx.metrics.api_write(kind, verb);
    Ok(answer)
}

/// Creates an object; what is there already is an error.
pub async fn create<K>(ctx: &Context, metric: Kind, manager: &str, object: &K) -> Result<K, Unsent>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Serialize,
    K: Send + Sync,
{
    let api = Api::<K>::namespaced(ctx.client.clone(), &object.namespace().unwrap_or_default());
    let params = PostParams {
        field_manager: Some(manager.to_owned()),
        ..PostParams::default()
    };
    sent(ctx, metric, ApiVerb::Create, api.create(&params, object)).await
}

/// Creates an object whose name says all about it, unless it is there. What is there already must be `ours`: the answer to
/// an earlier create may have been lost, or somebody else may have taken the name.
pub async fn create_once<K>(
    ctx: &Context,
    metric: Kind,
    object: &K,
    ours: impl Fn(&K) -> bool + Send,
) -> Result<Created<K>, WriteError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Serialize,
    K: Send + Sync,
{
    let (name, namespace) = (object.name_any(), object.namespace().unwrap_or_default());
    let error = match create(ctx, metric, CHILDREN_MANAGER, object).await {
        Ok(made) => return Ok(Created::Made(made)),
        Err(error) => error,
    };
    if !matches!(&error, Unsent::Api(kube::Error::Api(status)) if status.is_already_exists()) {
        return Err(error.about(metric, &name));
    }
    let api = Api::<K>::namespaced(ctx.client.clone(), &namespace);
    let there = api.get(&name).await;
    let there = there.map_err(|cause| Unsent::Api(cause).about(metric, &name))?;
    if ours(&there) {
        Ok(Created::There(there))
    } else {
        let kind = metric.as_str();
        Err(WriteError::Taken { kind, namespace, name })
    }
}

/// Patches an object; an apply takes over what others have written of it.
pub async fn patch<K, P>(
    ctx: &Context,
    metric: Kind,
    manager: &str,
    (namespace, name): (&str, &str),
    patch: &Patch<P>,
) -> Result<K, Unsent>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    P: Serialize + Debug + Send + Sync,
{
    let params = PatchParams {
        field_manager: Some(manager.to_owned()),
        force: matches!(patch, Patch::Apply(_)),
        ..PatchParams::default()
    };
    let api = Api::<K>::namespaced(ctx.client.clone(), namespace);
    sent(ctx, metric, ApiVerb::Patch, api.patch(name, &params, patch)).await
}

/// Lets a Job run that was created suspended; only that very Job, by UID.
pub async fn resume(ctx: &Context, job: &Job) -> Result<(), WriteError> {
    let (name, namespace) = (job.name_any(), job.namespace().unwrap_or_default());
    let change = json!({"metadata": {"uid": job.uid()}, "spec": {"suspend": false}});
    let at = (namespace.as_str(), name.as_str());
    let resumed = patch::<Job, _>(ctx, Kind::Job, CHILDREN_MANAGER, at, &Patch::Merge(&change)).await;
    resumed.map(drop).map_err(|error| error.about(Kind::Job, &name))
}

/// Deletes this very object, by UID, and what it owns. One that is gone, or is another one by now, is no failure; `true` if
/// it was there.
pub async fn delete_once<K>(
    ctx: &Context,
    metric: Kind,
    namespace: &str,
    name: &str,
    uid: &str,
) -> Result<bool, WriteError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    let params = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Background),
        preconditions: Some(Preconditions {
            uid: Some(uid.to_owned()),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    let api = Api::<K>::namespaced(ctx.client.clone(), namespace);
    match sent(ctx, metric, ApiVerb::Delete, api.delete(name, &params)).await {
        Ok(_) => Ok(true),
        Err(Unsent::Api(kube::Error::Api(status))) if status.is_not_found() || status.is_conflict() => Ok(false),
        Err(error) => Err(error.about(metric, name)),
    }
}

/// Publishes an event. A failure is logged and changes nothing.
pub async fn publish(ctx: &Context, about: &ObjectReference, event: &Event) {
    let name = about.name.as_deref().unwrap_or_default();
    if let Err(error) = sent(ctx, Kind::Event, ApiVerb::Create, ctx.recorder.publish(event, about)).await {
        tracing::warn!(
            object = name,
            reason = event.reason,
            error = one_line(&error),
            "event not published"
        );
    }
}

/// Whether the controller of an object is that one of a kind.
pub fn is_controlled_by<K: Resource<DynamicType = ()>>(object: &impl Resource, uid: &str) -> bool {
    is_of::<K>(object.meta().owner_references.as_deref(), uid)
}

/// The same of its owner references. All of the kind, its version and the UID count: the UID of an object is no secret.
pub fn is_of<K: Resource<DynamicType = ()>>(owners: Option<&[OwnerReference]>, uid: &str) -> bool {
    let is_it = |owner: &OwnerReference| {
        owner.controller == Some(true)
            && owner.kind == K::kind(&())
            && owner.api_version == K::api_version(&())
            && owner.uid == uid
    };
    !uid.is_empty() && owners.into_iter().flatten().any(is_it)
}

#[cfg(test)]
mod tests;
