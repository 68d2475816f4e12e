//! What is seen of a BaseImage, and why it could not be: types only.

use crate::{
    api::{ImageCandidate, base_image::Release, refs::LABEL_BASE_IMAGE},
    controllers::{
        desired::{self, owner::Taken, spec::Inputs},
        error::{Class, Classified, WAIT},
        history::Past,
        inputs,
        paging::ListError,
        reconciler::Failure,
    },
    domain::digest::Digest,
    registry,
};
use std::{sync::Arc, time::Duration};

/// Candidates with the label of one BaseImage. Its history is 200 at most, and what is beyond that is deleted.
pub const MAX_CANDIDATES: usize = 1_000;

/// What was seen.
#[derive(Debug)]
pub enum Seen {
    /// Its repository is another's: nothing else was looked at.
    NotOwner(Taken),
    /// It may promote to its repository.
    Owner(Box<Facts>),
}

/// What the owner of a repository sees.
#[derive(Debug)]
pub struct Facts {
    /// All candidates that were made for this very BaseImage.
    pub candidates: Vec<ImageCandidate>,
    /// Its history.
    pub past: Past,
    /// What is not its own; nothing where something is to be announced first.
    pub outside: Option<Result<Outside, Failed>>,
}

/// What a BaseImage refers to.
#[derive(Debug)]
pub struct Outside {
    /// What upstream's tag points to.
    pub upstream: Digest,
    /// How long that is good for.
    pub good_for: Duration,
    /// What decides about a build besides.
    pub inputs: Inputs,
}

/// A step that failed, but for which the history is known.
#[derive(Debug)]
pub struct Failed {
    /// What failed.
    pub failure: Failure,
    /// Whether it is upstream that could not be looked up.
    pub of_upstream: bool,
}

impl<E: Into<Failure>> From<E> for Failed {
    fn from(failure: E) -> Self {
        Self {
            failure: failure.into(),
            of_upstream: false,
        }
    }
}

impl Failed {
    /// A look that failed.
    pub fn to_observe(error: Error) -> Self {
        Self {
            of_upstream: error.is_of_upstream(),
            failure: error.into(),
        }
    }
}

/// What a BaseImage depends on, its history included.
#[derive(Debug)]
pub struct Observed {
    /// What upstream's tag points to.
    pub upstream: Digest,
    /// How long that is good for.
    pub good_for: Duration,
    /// What decides about a build besides.
    pub inputs: Inputs,
    /// All candidates that were made for this very BaseImage.
    pub candidates: Vec<ImageCandidate>,
    /// The greatest sequence that its history knows.
    pub last_sequence: u64,
    /// What its history says is released.
    pub released: Option<Release>,
}

/// Something could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What the BaseImage refers to.
    #[error(transparent)]
    Inputs(#[from] desired::inputs::Error),
    /// A Secret.
    #[error(transparent)]
    Input(#[from] inputs::Error),
    /// The tag does not exist.
    #[error("{image} does not exist at the registry: check source.image and source.track.tag")]
    TagMissing {
        /// `repository:tag`.
        image: String,
    },
    /// The registry did not answer as it should.
    #[error("upstream registry: {0}")]
    Registry(#[source] Arc<registry::Error>),
    /// The candidates could not be listed.
    #[error(transparent)]
    List(#[from] ListError),
    /// More candidates than are ever kept of one BaseImage.
    #[error(
        "more than {MAX_CANDIDATES} ImageCandidates have the label {LABEL_BASE_IMAGE}={0}: nothing is decided on a part of them, delete old ones"
    )]
    TooManyCandidates(String),
}

impl Classified for Error {
    fn reason(&self) -> &'static str {
        match self {
            Self::Inputs(error) => error.reason(),
            Self::Input(error) => error.reason(),
            Self::TagMissing { .. } => "TagMissing",
            Self::Registry(error) => error.reason(),
            Self::List(_) => "ApiError",
            Self::TooManyCandidates(_) => "TooManyCandidates",
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::Inputs(error) => error.class(),
            // Whoever deletes candidates does not wake us for sure.
            Self::TagMissing { .. } | Self::TooManyCandidates(_) => Class::Waiting(WAIT),
            Self::Input(error) => error.class(),
            Self::Registry(error) => error.retry_after().map_or(Class::Transient, Class::Waiting),
            Self::List(_) => Class::Transient,
        }
    }
}

impl Error {
    /// Whether it is upstream that could not be looked up, and not something that the BaseImage refers to.
    pub fn is_of_upstream(&self) -> bool {
        match self {
            Self::TagMissing { .. } | Self::Registry(_) => true,
            Self::Inputs(_) | Self::Input(_) | Self::List(_) | Self::TooManyCandidates(_) => false,
        }
    }
}
