//! Why what the phase of a candidate needs could not be read, and what that means. Must not decide what becomes of the
//! candidate.

use crate::{
    controllers::{
        candidate::evaluation_inputs::WaiversError,
        databases,
        error::{Class, Classified, WAIT},
        history, inputs,
        paging::ListError,
    },
    evidence::cosign,
    registry,
};

/// Something could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A Secret or its key.
    #[error(transparent)]
    Input(#[from] inputs::Error),
    /// The registry.
    #[error("registry: {0}")]
    Registry(#[from] registry::Error),
    /// A signature could not be looked at.
    #[error("upstream's signature: {0}")]
    Signature(#[from] cosign::VerifyError),
    /// The vulnerability database.
    #[error(transparent)]
    Database(#[from] databases::Error),
    /// What was taken back is not known.
    #[error(transparent)]
    History(#[from] history::Error),
    /// The Waivers.
    #[error(transparent)]
    Waivers(#[from] WaiversError),
    /// A list.
    #[error(transparent)]
    List(#[from] ListError),
    /// The Kubernetes API.
    #[error("Kubernetes API: {0}")]
    Api(#[from] kube::Error),
}

impl Classified for Error {
    fn reason(&self) -> &'static str {
        match self {
            Self::Input(error) => error.reason(),
            Self::Registry(error) | Self::Database(databases::Error::Registry(error)) => error.reason(),
            Self::Signature(error) => error.reason(),
            Self::History(error) => error.reason(),
            Self::Database(databases::Error::Missing(_)) => "DatabaseMissing",
            Self::Database(databases::Error::Late(_)) => "RegistryUnreachable",
            Self::Waivers(error) => error.reason(),
            Self::List(_) | Self::Api(_) => "ApiError",
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::Input(error) => error.class(),
            Self::History(error) => error.class(),
            Self::Registry(error) => error.retry_after().map_or(Class::Transient, Class::Waiting),
            Self::Signature(error) => error.retry_after().map_or(Class::Transient, Class::Waiting),
            Self::Database(databases::Error::Registry(error)) => {
                error.retry_after().map_or(Class::Transient, Class::Waiting)
            }
            Self::Database(databases::Error::Missing(_)) => Class::Waiting(WAIT),
            Self::Waivers(error) => error.class(),
            Self::Database(databases::Error::Late(_)) | Self::List(_) | Self::Api(_) => Class::Transient,
        }
    }
}
