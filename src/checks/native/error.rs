//! Why an image could not be examined.
//!
//! Nothing here is a finding: an image that cannot be read whole has no verdict, and the gate stays shut.

use repave_core::digest::Digest;

/// Why the native check has no result.
#[derive(Debug, thiserror::Error)]
pub enum NativeError {
    /// A file of the layout could not be read.
    #[error("cannot read {what}: {source}; pull the image again")]
    Io {
        /// Which file of the layout.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The layout, the manifest or the configuration is not what the OCI specification says.
    #[error("{what}: {why}")]
    Malformed {
        /// Which document.
        what: String,
        /// What was expected, what was found, what to do.
        why: String,
    },
    /// A layer cannot be read as a tar archive that a runtime would unpack.
    #[error("layer {index} ({digest}): {why}; rebuild the layer")]
    Layer {
        /// Position in the manifest, from 0.
        index: usize,
        /// Its blob.
        digest: Digest,
        /// What was expected, what was found.
        why: String,
    },
    /// Bytes do not hash to the digest by which they were asked.
    #[error("{what}: expected {expected}, found {found}; the copy is damaged or forged, pull the image again")]
    DigestMismatch {
        /// Which bytes.
        what: String,
        /// The digest in the manifest or the configuration.
        expected: Digest,
        /// The digest of the bytes.
        found: Digest,
    },
    /// The image is larger than what is examined.
    #[error("{what}: at most {allowed} are examined; make the image smaller or raise this limit")]
    Limit {
        /// What there is too much of.
        what: String,
        /// How much is allowed.
        allowed: u64,
    },
    /// The image is of a kind that this check does not know.
    #[error("{why}")]
    Unsupported {
        /// What was expected, what was found.
        why: String,
    },
}

impl NativeError {
    pub(super) fn malformed(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Malformed {
            what: what.into(),
            why: why.into(),
        }
    }

    pub(super) fn io(what: impl Into<String>, source: std::io::Error) -> Self {
        Self::Io {
            what: what.into(),
            source,
        }
    }
}

/// What is wrong inside a layer, before it is known which layer it is.
#[derive(Debug, thiserror::Error)]
pub(super) enum LayerFault {
    #[error("{0}")]
    Malformed(String),
    #[error("{what}: at most {allowed}")]
    Limit { what: String, allowed: u64 },
}

impl LayerFault {
    pub fn limit(what: impl Into<String>, allowed: u64) -> Self {
        Self::Limit {
            what: what.into(),
            allowed,
        }
    }

    pub fn at(self, index: usize, digest: &Digest) -> NativeError {
        match self {
            Self::Malformed(why) => NativeError::Layer {
                index,
                digest: digest.clone(),
                why,
            },
            Self::Limit { what, allowed } => NativeError::Limit {
                what: format!("layer {index} ({digest}): {what}"),
                allowed,
            },
        }
    }
}

impl From<std::io::Error> for LayerFault {
    fn from(error: std::io::Error) -> Self {
        // The metered reader sends its limit through `io::Error`, because decoders sit between it and the tar reader.
        match error.downcast::<Self>() {
            Ok(fault) => fault,
            Err(error) => Self::Malformed(format!("expected a whole archive, found: {error}")),
        }
    }
}
