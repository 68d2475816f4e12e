//! The ways in which a controller writes to the Kubernetes API beside a status: create what is not there, resume a Job.
//!
//! Each asks for the lease right before it sends and counts what was written. Must not decide anything.

use super::{
    context::Context,
    error::{Class, Classified, WAIT},
};
use crate::runtime::{
    lease::NotLeader,
    metrics::{ApiVerb, Kind},
};
use k8s_openapi::{NamespaceResourceScope, api::batch::v1::Job};
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams, PostParams},
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
{
    let (kind, name, namespace) = (
        metric.as_str(),
        object.name_any(),
        object.namespace().unwrap_or_default(),
    );
    let api = Api::<K>::namespaced(ctx.client.clone(), &namespace);
    let params = PostParams {
        field_manager: Some(CHILDREN_MANAGER.to_owned()),
        ..PostParams::default()
    };
    let failed = |cause| WriteError::Api {
        kind,
        name: name.clone(),
        cause: Box::new(cause),
    };
    ctx.leader.require()?;
    match api.create(&params, object).await {
        Ok(made) => {
            ctx.metrics.api_write(metric, ApiVerb::Create);
            Ok(Created::Made(made))
        }
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            let there = api.get(&name).await.map_err(failed)?;
            if ours(&there) {
                Ok(Created::There(there))
            } else {
                Err(WriteError::Taken { kind, namespace, name })
            }
        }
        Err(cause) => Err(failed(cause)),
    }
}

/// Lets a Job run that was created suspended; only that very Job, by UID.
pub async fn resume(ctx: &Context, job: &Job) -> Result<(), WriteError> {
    let (name, namespace) = (job.name_any(), job.namespace().unwrap_or_default());
    let patch = json!({"metadata": {"uid": job.uid()}, "spec": {"suspend": false}});
    let params = PatchParams {
        field_manager: Some(CHILDREN_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    ctx.leader.require()?;
    Api::<Job>::namespaced(ctx.client.clone(), &namespace)
        .patch(&name, &params, &Patch::Merge(&patch))
        .await
        .map_err(|cause| WriteError::Api {
            kind: "Job",
            name,
            cause: Box::new(cause),
        })?;
    ctx.metrics.api_write(Kind::Job, ApiVerb::Patch);
    Ok(())
}

/// Whether the controller of an object has that UID.
pub fn is_controlled_by(object: &impl Resource, uid: &str) -> bool {
    let mut owners = object.meta().owner_references.iter().flatten();
    owners.any(|owner| owner.controller == Some(true) && owner.uid == uid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        controllers::{
            error::one_line,
            testing::{Api as Server, Fault},
        },
        runtime::lease::Leader,
    };
    use k8s_openapi::api::core::v1::ConfigMap;

    fn map(owner: &str) -> ConfigMap {
        let object = json!({"metadata": {"name": "m", "namespace": "team", "ownerReferences": [
            {"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": owner, "controller": true},
        ]}});
        serde_json::from_value(object).unwrap()
    }

    async fn create(ctx: &Context, owner: &str) -> Result<Created<ConfigMap>, WriteError> {
        create_once(ctx, Kind::ConfigMap, &map(owner), |there| {
            is_controlled_by(there, owner)
        })
        .await
    }

    #[tokio::test]
    async fn what_is_there_is_made_once_and_a_lost_answer_is_found_again() {
        let server = Server::default();
        let ctx = server.context();
        server.faults(|seen| (seen.verb == "POST").then_some(Fault::Lost));
        let error = create(&ctx, "mine").await.unwrap_err();
        assert_eq!(one_line(&error), "ConfigMap m could not be written: the answer is lost");
        server.heal();
        assert!(matches!(create(&ctx, "mine").await.unwrap(), Created::There(_)));
        assert_eq!(server.names("configmaps"), ["team/m"]);
    }

    #[tokio::test]
    async fn what_somebody_else_put_under_the_name_is_not_taken_for_ours() {
        let server = Server::default();
        let ctx = server.context();
        assert!(matches!(create(&ctx, "theirs").await.unwrap(), Created::Made(_)));
        let error = create(&ctx, "mine").await.unwrap_err();
        assert_eq!((error.reason(), error.class()), ("NameTaken", Class::Waiting(WAIT)));
        assert!(
            error
                .to_string()
                .starts_with("ConfigMap team/m is there and is not ours"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn without_the_lease_nothing_is_sent() {
        let server = Server::default();
        let mut ctx = server.context();
        ctx.leader = Leader::never("test");
        assert!(matches!(create(&ctx, "mine").await, Err(WriteError::NotLeader(_))));
        assert!(matches!(
            resume(&ctx, &Job::default()).await,
            Err(WriteError::NotLeader(_))
        ));
        assert!(server.seen().is_empty());
    }

    #[test]
    fn what_is_too_large_is_not_tried_for_ever() {
        for (code, message, class) in [
            (413, "Request entity too large: limit is 3145728", Class::Stalled),
            (500, "etcdserver: request is too large", Class::Stalled),
            (500, "etcdserver: leader changed", Class::Transient),
            (403, "exceeded quota", Class::Transient),
        ] {
            let status = json!({"status": "Failure", "message": message, "reason": "X", "code": code});
            let error = WriteError::Api {
                kind: "ImageCandidate",
                name: "c".into(),
                cause: Box::new(kube::Error::Api(serde_json::from_value(status).unwrap())),
            };
            assert_eq!(error.class(), class, "{message}");
        }
    }
}
