//! Reads what objects refer to by name: one key of a ConfigMap or Secret, registry credentials.
//!
//! Secrets are only ever fetched by name (no list, no watch), used once, and never kept, logged or shown.

use super::{
    context::Context,
    error::{Class, Classified, WAIT},
};
use crate::{
    api::refs::{KeyRef, LocalRef},
    registry::{Auth, Credentials},
};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;

/// Something that an object refers to is not there or not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
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
            Self::Missing { kind: "Secret", .. } => "SecretMissing",
            Self::Missing { .. } => "ConfigMapMissing",
            Self::KeyMissing { .. } => "KeyMissing",
            Self::Malformed { .. } => "MalformedInput",
            Self::Api(_) => "ApiError",
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::Missing { .. } | Self::KeyMissing { .. } | Self::Malformed { .. } => Class::Waiting(WAIT),
            Self::Api(_) => Class::Transient,
        }
    }
}

const DOCKER_CONFIG: &str = ".dockerconfigjson";

/// The text of one key of a ConfigMap.
pub async fn config_map_key(ctx: &Context, namespace: &str, at: &KeyRef, default: &str) -> Result<String, Error> {
    let (kind, key) = ("ConfigMap", at.key.as_deref().unwrap_or(default));
    let found = Api::<ConfigMap>::namespaced(ctx.client.clone(), namespace)
        .get_opt(&at.name)
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
    let found = Api::<Secret>::namespaced(ctx.client.clone(), namespace)
        .get_opt(name)
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
