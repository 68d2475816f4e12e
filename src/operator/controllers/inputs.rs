//! Reads what objects refer to by name: one key of a ConfigMap or Secret, registry credentials.
//!
//! Secrets are only ever fetched by name (no list, no watch), used once, and never kept, logged or shown.

use super::{
    context::Context,
    error::{Class, Classified, WAIT},
};
use crate::controllers::named::Named as _;
use crate::{
    api::refs::{KeyRef, LocalRef},
    domain::object_name::{InvalidObjectName, ObjectName},
    registry::{Auth, Credentials},
};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;

/// Something that an object refers to is not there or not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No object has this name.
    #[error("{kind}: {source}")]
    Name {
        /// ConfigMap or Secret.
        kind: &'static str,
        /// What is wrong.
        source: InvalidObjectName,
    },
    /// The object is missing.
    #[error("{kind} {name:?} is not in namespace {namespace}: create it, and this goes on by itself")]
    Missing {
        /// ConfigMap or Secret.
        kind: &'static str,
        /// Its name.
        name: String,
        /// Where.
        namespace: String,
    },
    /// The key is missing.
    #[error("{kind} {name:?} has no key {key:?}: add it, or name another key in the reference")]
    KeyMissing {
        /// ConfigMap or Secret.
        kind: &'static str,
        /// Its name.
        name: String,
        /// The key.
        key: String,
    },
    /// The content is not what it should be. The content itself is never part of the message.
    #[error("{kind} {name:?}, key {key:?}: {why}")]
    Malformed {
        /// ConfigMap or Secret.
        kind: &'static str,
        /// Its name.
        name: String,
        /// The key.
        key: String,
        /// What is wrong.
        why: String,
    },
    /// The Kubernetes API.
    #[error("Kubernetes API: {0}")]
    Api(#[from] kube::Error),
}

impl Classified for Error {
    fn reason(&self) -> &'static str {
        match self {
            Self::Name { .. } => "InvalidReference",
            Self::Missing { kind: "Secret", .. } => "SecretMissing",
            Self::Missing { .. } => "ConfigMapMissing",
            Self::KeyMissing { .. } => "KeyMissing",
            Self::Malformed { .. } => "MalformedInput",
            Self::Api(_) => "ApiError",
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::Name { .. } | Self::Missing { .. } | Self::KeyMissing { .. } | Self::Malformed { .. } => {
                Class::Waiting(WAIT)
            }
            Self::Api(_) => Class::Transient,
        }
    }
}

const DOCKER_CONFIG: &str = ".dockerconfigjson";

/// The text of one key of a ConfigMap.
pub async fn config_map_key(ctx: &Context, namespace: &str, at: &KeyRef, default: &str) -> Result<String, Error> {
    let (kind, key) = ("ConfigMap", at.key.as_deref().unwrap_or(default));
    is_name(kind, &at.name)?;
    let found = Api::<ConfigMap>::namespaced(ctx.client.clone(), namespace)
        .named(&at.name)
        .await?;
    let map = found.ok_or_else(|| missing(kind, &at.name, namespace))?;
    let key_missing = || Error::KeyMissing {
        kind,
        name: at.name.clone(),
        key: key.to_owned(),
    };
    map.data.and_then(|mut data| data.remove(key)).ok_or_else(key_missing)
}

/// The text of one key of a Secret.
pub async fn secret_key(ctx: &Context, namespace: &str, at: &KeyRef, default: &str) -> Result<String, Error> {
    let key = at.key.as_deref().unwrap_or(default);
    let bytes = secret_bytes(ctx, namespace, &at.name, key).await?;
    String::from_utf8(bytes).map_err(|_| malformed(&at.name, key, "it is not text"))
}

/// The credentials in a Secret of type kubernetes.io/dockerconfigjson; anonymous without one.
pub async fn registry_auth(ctx: &Context, namespace: &str, secret: Option<&LocalRef>) -> Result<Auth, Error> {
    let Some(secret) = secret else {
        return Ok(Auth::anonymous());
    };
    let bytes = secret_bytes(ctx, namespace, &secret.name, DOCKER_CONFIG).await?;
    let credentials = Credentials::from_dockerconfigjson(&bytes)
        .map_err(|error| malformed(&secret.name, DOCKER_CONFIG, &error.to_string()))?;
    Ok(Auth::new(credentials))
}

async fn secret_bytes(ctx: &Context, namespace: &str, name: &str, key: &str) -> Result<Vec<u8>, Error> {
    let kind = "Secret";
    is_name(kind, name)?;
    let found = Api::<Secret>::namespaced(ctx.client.clone(), namespace)
        .named(name)
        .await?;
    let secret = found.ok_or_else(|| missing(kind, name, namespace))?;
    let key_missing = || Error::KeyMissing {
        kind,
        name: name.to_owned(),
        key: key.to_owned(),
    };
    Ok(secret
        .data
        .and_then(|mut data| data.remove(key))
        .ok_or_else(key_missing)?
        .0)
}

fn is_name(kind: &'static str, name: &str) -> Result<(), Error> {
    let parsed = name.parse::<ObjectName>();
    parsed.map(drop).map_err(|source| Error::Name { kind, source })
}

fn missing(kind: &'static str, name: &str, namespace: &str) -> Error {
    Error::Missing {
        kind,
        name: name.to_owned(),
        namespace: namespace.to_owned(),
    }
}

fn malformed(name: &str, key: &str, why: &str) -> Error {
    Error::Malformed {
        kind: "Secret",
        name: name.to_owned(),
        key: key.to_owned(),
        why: why.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::client::Body;
    use std::{
        convert::Infallible,
        sync::{Arc, Mutex},
    };

    /// kube puts a name into the path as it is.
    #[tokio::test]
    async fn a_name_never_leaves_the_namespace_of_the_request() {
        for name in ["../../kube-system/secrets/root", "a?watch=true", "a/status", "a#b"] {
            let seen = Arc::new(Mutex::new(Vec::new()));
            let log = seen.clone();
            let service = tower::service_fn(move |request: http::Request<Body>| {
                log.lock().unwrap().push(request.uri().to_string());
                async { Ok::<_, Infallible>(http::Response::builder().status(404).body(Body::empty()).unwrap()) }
            });
            let mut ctx = crate::controllers::testing::Api::default().context();
            ctx.client = kube::Client::new(service, "tenant");
            let reference = LocalRef { name: name.to_owned() };
            let error = registry_auth(&ctx, "tenant", Some(&reference)).await.unwrap_err();
            assert!(error.to_string().contains("correct the reference"), "{error}");
            let at = KeyRef {
                name: name.to_owned(),
                key: None,
            };
            assert!(config_map_key(&ctx, "tenant", &at, "key").await.is_err());
            let bases = Api::<crate::api::BaseImage>::namespaced(ctx.client.clone(), "tenant");
            assert!(bases.named(name).await.unwrap().is_none());
            let seen = seen.lock().unwrap().clone();
            assert!(seen.is_empty(), "no object has this name: {seen:?}");
        }
    }
}
