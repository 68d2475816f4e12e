//! Why the plan of a candidate could not be carried out, and what that means. Must not decide what becomes of the candidate.

use crate::{
    controllers::{
        candidate::evaluation_inputs::WaiversError,
        desired,
        error::{Class, Classified, WAIT},
        history, inputs,
        paging::ListError,
        slots,
        transfers::GivenUp,
        writes::WriteError,
    },
    domain::{image_ref::InvalidImageRef, recall::Recalled},
    evidence::{self, signing},
    registry,
    report::page::RenderError,
    runtime::lease::NotLeader,
};

/// Something could not be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A Secret or its key.
    #[error(transparent)]
    Input(#[from] inputs::Error),
    /// The registry.
    #[error("registry: {0}")]
    Registry(#[from] registry::Error),
    /// The lease is lost: another process acts now.
    #[error(transparent)]
    NotLeader(#[from] NotLeader),
    /// The BaseImage changed its mind while the image was copied.
    #[error(
        "the BaseImage changed while this was being promoted: nothing was released, and it is asked again what it wants"
    )]
    NotWantedNow,
    /// What opened its gates is not so any more, or is too old.
    #[error(
        "the waivers changed while this was being promoted, or its gates opened more than a day ago: nothing was released, and its stored reports are judged again"
    )]
    JudgedAgain,
    /// What the BaseImage wants now could not be found out.
    #[error(transparent)]
    Wanted(#[from] desired::inputs::Error),
    /// The image is not in staging any more.
    #[error("{0} is not in the staging repository any more: delete this candidate to build it again")]
    Lost(String),
    /// The signing key.
    #[error("signing key (Secret {secret:?}): {error}")]
    Key {
        /// The Secret.
        secret: String,
        /// What is wrong.
        error: signing::KeyError,
    },
    /// The evidence could not be published.
    #[error("evidence: {0}")]
    Evidence(#[from] evidence::PublishError),
    /// The immutable tag is malformed.
    #[error("promote.channelTag: {0}")]
    Tag(#[from] InvalidImageRef),
    /// The page could not be written.
    #[error(transparent)]
    Page(#[from] RenderError),
    /// A report could not be written as JSON.
    #[error("report is not serialisable: {0}")]
    Serialize(#[from] serde_json::Error),
    /// An object with the inputs of a Job is larger than the API server takes.
    #[error(
        "{kind} {name}: expected at most about 1 MiB of inputs for one Job, found more. Make the files of the check smaller (gossfile, tailoring, VEX documents) or divide it into several checks: the BaseImage then makes a new candidate"
    )]
    TooLarge {
        /// What was to be created.
        kind: String,
        /// Its name.
        name: String,
    },
    /// The Waivers.
    #[error(transparent)]
    Waivers(#[from] WaiversError),
    /// A list.
    #[error(transparent)]
    List(#[from] ListError),
    /// What was there under the name, and says to be ours, is not what was asked for.
    #[error(
        "{kind} {name} was there and is not what Repave makes ({difference}): it is deleted, and made anew. If this comes back, look who else writes it"
    )]
    Forged {
        /// Its kind.
        kind: &'static str,
        /// Its name.
        name: String,
        /// What is not as it should be.
        difference: String,
    },
    /// The API server stored something else than was sent.
    #[error(
        "{kind} {name} was changed when it was created ({difference}), and what it reports would not count: let the admission of this cluster leave objects with the label repave.dev/base-image alone"
    )]
    Changed {
        /// Its kind.
        kind: &'static str,
        /// Its name.
        name: String,
        /// What is not as it was sent.
        difference: String,
    },
    /// The Kubernetes API.
    #[error("Kubernetes API: {0}")]
    Api(#[from] kube::Error),
    /// A Job or its ConfigMap.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// What runs is not known, so nothing is started.
    #[error(transparent)]
    Slots(#[from] slots::Error),
    /// A copy or promotion came to no result.
    #[error(transparent)]
    GivenUp(#[from] GivenUp),
    /// What was taken back before is not known.
    #[error(transparent)]
    History(#[from] history::Error),
    /// The image was taken back while it was promoted, or before.
    #[error("{0}. Nothing was released")]
    Recalled(Recalled),
}

impl Classified for Error {
    fn reason(&self) -> &'static str {
        match self {
            Self::Input(error) => error.reason(),
            Self::Registry(error) => error.reason(),
            Self::NotLeader(_) => "NotLeader",
            Self::NotWantedNow => "NotWantedNow",
            Self::JudgedAgain => "JudgedAgain",
            Self::Wanted(error) => error.reason(),
            Self::Lost(_) => "StagedImageLost",
            Self::Key { .. } => "SigningKeyUnusable",
            Self::Evidence(error) => error.reason(),
            Self::Tag(_) => "InvalidReference",
            Self::TooLarge { .. } => "InputsTooLarge",
            Self::Forged { .. } => "ForeignJob",
            Self::Changed { .. } => "JobChangedByAdmission",
            Self::Page(_) => "PageNotWritten",
            Self::Serialize(_) => "InternalError",
            Self::Waivers(error) => error.reason(),
            Self::List(_) | Self::Api(_) | Self::Slots(_) => "ApiError",
            Self::Write(error) => error.reason(),
            Self::GivenUp(error) => error.reason(),
            Self::History(error) => error.reason(),
            Self::Recalled(_) => "Revoked",
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::Input(error) => error.class(),
            Self::Registry(error) => error.retry_after().map_or(Class::Transient, Class::Waiting),
            Self::Key { .. } | Self::NotWantedNow | Self::JudgedAgain | Self::Recalled(_) | Self::Forged { .. } => {
                Class::Waiting(WAIT)
            }
            Self::Lost(_) | Self::Tag(_) | Self::Page(_) | Self::TooLarge { .. } | Self::Changed { .. } => {
                Class::Stalled
            }
            Self::Evidence(_)
            | Self::Serialize(_)
            | Self::NotLeader(_)
            | Self::List(_)
            | Self::Api(_)
            | Self::Slots(_) => Class::Transient,
            Self::Waivers(error) => error.class(),
            Self::Wanted(error) => error.class(),
            Self::Write(error) => error.class(),
            Self::GivenUp(error) => error.class(),
            Self::History(error) => error.class(),
        }
    }
}
