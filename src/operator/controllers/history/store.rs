//! The `ReleaseHistory` objects: read one, list those of a namespace, write one. No decisions.
//!
//! A write names the UID and the version that was read, so that of two writers one is refused and looks again.

use crate::controllers::named::Named as _;
use crate::{
    api::{GROUP, ReleaseHistory, refs::LABEL_BASE_IMAGE, release_history::ReleaseHistorySpec},
    controllers::{
        context::Context,
        error::{Class, Classified, WAIT, one_line},
        paging::{self, ListError},
        writes::{self, Unsent, WriteError},
    },
    domain::{history::History, image_ref::Repository},
    readable::Guarded,
    runtime::metrics::Kind,
};
use kube::{
    Api, ResourceExt as _,
    api::{ListParams, Patch},
};
use serde_json::json;
use std::time::Duration;

/// Field manager of the histories.
const MANAGER: &str = "repave/history";
/// Histories of one namespace that are read.
const MAX_HISTORIES: usize = 2_000;
/// How long an unreadable history is left alone.
const UNREADABLE: Duration = Duration::from_secs(60);

/// A history and which version of it this is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The releases.
    pub history: History,
    /// The repository that was looked through.
    pub searched: Option<Repository>,
    /// UID and version, for the next write.
    version: (String, String),
}

#[cfg(test)]
impl Stored {
    /// A history that was read, for tests of decisions.
    pub fn of(history: History, searched: Option<Repository>) -> Self {
        Self {
            history,
            searched,
            version: ("uid".to_owned(), "1".to_owned()),
        }
    }
}

/// It could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Kubernetes API.
    #[error("Kubernetes API: {0}")]
    Api(#[from] kube::Error),
    /// They could not be listed.
    #[error(transparent)]
    List(#[from] ListError),
    /// It could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// It is there and cannot be read.
    #[error(
        "ReleaseHistory {name} cannot be read ({why}): nothing is released before it is restored; if no backup has it, delete it and it is rebuilt from the production repository"
    )]
    Unreadable {
        /// Its name.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// It is not there, though its base image writes it before it makes a candidate.
    #[error(
        "ReleaseHistory {0} is gone, so what was taken back is not known: nothing goes on before its BaseImage has written it anew"
    )]
    Missing(String),
    /// Somebody else wrote it in between.
    #[error("ReleaseHistory {0} was written by somebody else in between: it is read again")]
    Conflict(String),
    /// More than are ever kept.
    #[error(
        "namespace {0} has more than {MAX_HISTORIES} ReleaseHistories: delete those of base images that are gone for good"
    )]
    TooMany(String),
}

impl Classified for Error {
    fn reason(&self) -> &'static str {
        match self {
            Self::Api(_) | Self::List(_) => "ApiError",
            Self::Write(error) => error.reason(),
            Self::Unreadable { .. } => "HistoryUnreadable",
            Self::Missing(_) => "HistoryMissing",
            Self::Conflict(_) => "HistoryConflict",
            Self::TooMany(_) => "TooManyHistories",
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::Api(_) | Self::List(_) => Class::Transient,
            Self::Write(error) => error.class(),
            Self::Unreadable { .. } => Class::Waiting(UNREADABLE),
            Self::Missing(_) => Class::Waiting(WAIT),
            Self::Conflict(_) => Class::Waiting(Duration::from_secs(1)),
            Self::TooMany(_) => Class::Stalled,
        }
    }
}

/// The history of a base image.
pub async fn read(ctx: &Context, namespace: &str, name: &str) -> Result<Option<Stored>, Error> {
    let api: Api<Guarded<ReleaseHistory>> = Api::namespaced(ctx.client.clone(), namespace);
    let Some(found) = api.named(name).await? else {
        return Ok(None);
    };
    let found = found.0.map_err(|invalid| Error::Unreadable {
        name: name.to_owned(),
        why: one_line(&invalid),
    })?;
    Ok(Some(Stored {
        history: History::from(&found.spec),
        searched: found.spec.searched.clone(),
        version: (
            found.uid().unwrap_or_default(),
            found.resource_version().unwrap_or_default(),
        ),
    }))
}

/// All histories of a namespace by the name of their base image; one that cannot be read is left out and logged.
pub async fn list(ctx: &Context, namespace: &str) -> Result<Vec<(String, History)>, Error> {
    let api: Api<Guarded<ReleaseHistory>> = Api::namespaced(ctx.client.clone(), namespace);
    let keep = |guarded: Guarded<ReleaseHistory>| match guarded.0 {
        Ok(one) => Some((one.name_any(), History::from(&one.spec))),
        Err(invalid) => {
            tracing::warn!(name = ?invalid.metadata.name, error = one_line(&invalid), "ReleaseHistory cannot be read");
            None
        }
    };
    match paging::list(&api, ListParams::default(), MAX_HISTORIES, keep).await {
        Err(ListError::TooMany { .. }) => Err(Error::TooMany(namespace.to_owned())),
        other => Ok(other?),
    }
}

/// Writes the history of a base image over the version that was read, or makes it.
pub async fn write(
    ctx: &Context,
    (namespace, name): (&str, &str),
    read: Option<&Stored>,
    spec: &ReleaseHistorySpec,
) -> Result<(), Error> {
    let written = match read {
        None => {
            let mut new = ReleaseHistory::new(name, spec.clone());
            new.metadata.namespace = Some(namespace.to_owned());
            new.metadata.labels = Some([(LABEL_BASE_IMAGE.to_owned(), name.to_owned())].into());
            writes::create(ctx, Kind::ReleaseHistory, MANAGER, &new).await
        }
        Some(read) => {
            let (uid, version) = &read.version;
            let whole = json!({
                "apiVersion": format!("{GROUP}/v1alpha1"),
                "kind": "ReleaseHistory",
                "metadata": {"uid": uid, "resourceVersion": version, "labels": {LABEL_BASE_IMAGE: name}},
                "spec": spec,
            });
            let patch = Patch::Apply(&whole);
            writes::patch::<ReleaseHistory, _>(ctx, Kind::ReleaseHistory, MANAGER, (namespace, name), &patch).await
        }
    };
    match written {
        Ok(_) => Ok(()),
        Err(Unsent::Api(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => {
            Err(Error::Conflict(name.to_owned()))
        }
        Err(error) => Err(error.about(Kind::ReleaseHistory, name).into()),
    }
}
