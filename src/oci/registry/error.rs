//! What can go wrong between us and a registry, one variant per thing that a caller or a person does differently.
//!
//! Must not carry a response body, a header or a URL's query: they may hold secrets or hostile text.

use repave_core::{digest::Digest, image_ref::ImageRef, report::bounded};
use std::time::Duration;

/// A failed call to a registry.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The HTTP client could not be built.
    #[error("the registry client cannot start: {detail}: check the CA bundle and the system's certificates")]
    Setup {
        /// The cause.
        detail: String,
    },
    /// No answer at all: name resolution, connection, TLS, or the answer stopped half-way.
    #[error(
        "expected an answer of registry {host} to {verb}, found none ({detail}): check the name, the network policy and the certificate"
    )]
    Unreachable {
        /// The host that was asked.
        host: String,
        /// What was asked.
        verb: &'static str,
        /// The cause.
        detail: String,
    },
    /// 401 or 403.
    #[error("registry {host} answered {code} to {verb} of {target} ({}): {}", .with, unauthorized_remedy(*.with))]
    Unauthorized {
        /// The host that was asked.
        host: String,
        /// What was asked.
        verb: &'static str,
        /// The repository.
        target: String,
        /// 401 or 403.
        code: u16,
        /// Whether a credential was used.
        with: CredentialUse,
    },
    /// 429, or 503 with `Retry-After`.
    #[error("registry {host} answered {code} to {verb}: too many requests; it is asked again {}", retry_words(*.retry_after))]
    Throttled {
        /// The host that was asked.
        host: String,
        /// What was asked.
        verb: &'static str,
        /// 429 or 503.
        code: u16,
        /// What the registry wants us to wait, at most one hour.
        retry_after: Option<Duration>,
    },
    /// Another 5xx, after quick retries.
    #[error(
        "expected success of {verb} at registry {host}, found status {code}: it is asked again; if it stays, look at the registry"
    )]
    Unavailable {
        /// The host that was asked.
        host: String,
        /// What was asked.
        verb: &'static str,
        /// The status.
        code: u16,
    },
    /// 404 to a manifest.
    #[error("there is no image {image}: check the name, the tag, and whether the credential may see it")]
    ManifestNotFound {
        /// The reference.
        image: Box<ImageRef>,
    },
    /// 404 to a blob.
    #[error("there is no blob {digest} in {repository}: the image is incomplete there; push it again")]
    BlobNotFound {
        /// The repository.
        repository: String,
        /// The blob.
        digest: Digest,
    },
    /// Bytes that are not what their name says.
    #[error(
        "{what} from {host}: expected digest {expected}, found {found}: the content was altered or cut; nothing of it was kept"
    )]
    DigestMismatch {
        /// Where the bytes came from.
        host: String,
        /// What they should be.
        what: &'static str,
        /// The digest asked for.
        expected: Digest,
        /// The digest of the bytes.
        found: String,
    },
    /// A body of another size than its descriptor says.
    #[error(
        "{what} from {host}: expected {expected} bytes, found {found}: the content was altered or cut; nothing of it was kept"
    )]
    SizeMismatch {
        /// Where the bytes came from.
        host: String,
        /// What they should be.
        what: &'static str,
        /// The size in the descriptor.
        expected: u64,
        /// The bytes seen (the count stops at the first one too many).
        found: u64,
    },
    /// More than we are willing to read.
    #[error("{what} from {host}: expected at most {limit}, found more: Repave does not read it")]
    TooLarge {
        /// Where it came from.
        host: String,
        /// What it is, with its unit.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// An answer that does not follow the specification.
    #[error("{what} from {host}: expected {expected}, found {found}")]
    Malformed {
        /// Where it came from.
        host: String,
        /// What it is.
        what: &'static str,
        /// What the specification asks for.
        expected: &'static str,
        /// What came, shortened.
        found: String,
    },
    /// Another 4xx.
    #[error(
        "registry {host} answered {code} {oci_code} to {verb} of {target}: it does not accept this; see the registry's log"
    )]
    Refused {
        /// The host that was asked.
        host: String,
        /// What was asked.
        verb: &'static str,
        /// The repository.
        target: String,
        /// The status.
        code: u16,
        /// The first error code of the body when it is one that the specification names, else empty.
        oci_code: String,
    },
    /// The registry wants us to go somewhere that we do not go.
    #[error("registry {host} points {verb} to {target}, which is refused: {why}")]
    UnsafeTarget {
        /// The registry.
        host: String,
        /// What was asked.
        verb: &'static str,
        /// Scheme and host of the target only.
        target: String,
        /// The rule.
        why: &'static str,
    },
    /// The operator's configuration does not let us talk to this registry.
    #[error("registry {host} is not used: {why}; whoever runs the operator can allow the host in its configuration")]
    HostNotAllowed {
        /// The registry.
        host: String,
        /// The rule.
        why: &'static str,
    },
    /// The image has no variant for the platform.
    #[error("{image} has no variant for {wanted}, it has {found}: choose another platform or image")]
    NoSuchPlatform {
        /// The image.
        image: Box<ImageRef>,
        /// The platform asked for.
        wanted: String,
        /// The platforms there are.
        found: String,
    },
    /// The caller gave a reference without a digest or tag where one is needed.
    #[error("{image} names no {missing}: write it out")]
    IncompleteReference {
        /// The reference.
        image: String,
        /// `tag or digest`, `digest`, or `valid tag`.
        missing: &'static str,
    },
    /// Somebody else kept overwriting the fallback tag of the referrers.
    #[error(
        "the tag {tag} of {repository} was overwritten by another writer {attempts} times: only one Repave may write to a repository"
    )]
    Contended {
        /// The repository.
        repository: String,
        /// The tag.
        tag: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// An OCI layout folder that cannot be used.
    #[error("OCI layout: expected {expected}, found {found}: build the layout again")]
    Layout {
        /// What a layout must be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// The local disk.
    #[error("cannot {action} in the OCI layout: {source}: check the space and the permissions of the volume")]
    Disk {
        /// What was tried.
        action: &'static str,
        /// The cause.
        source: std::io::Error,
    },
}

/// Whether a credential was sent with a refused call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialUse {
    /// None is configured for this host.
    Anonymous,
    /// The configured one was used.
    Configured,
}

impl std::fmt::Display for CredentialUse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "asked without a credential",
            Self::Configured => "asked with the configured credential",
        })
    }
}

fn unauthorized_remedy(with: CredentialUse) -> &'static str {
    match with {
        CredentialUse::Anonymous => "add a dockerconfigjson Secret with an entry for exactly this host",
        CredentialUse::Configured => "check that the credential is current and may do this",
    }
}

fn retry_words(after: Option<Duration>) -> &'static str {
    // No seconds: a text that changes on each try would be written each time.
    after.map_or("later", |_| "when it allows that")
}

impl Error {
    /// Whether this is about the one thing that was asked for, as its writer made it, and not about the registry or the way
    /// to it: it says nothing about its neighbours.
    pub fn is_of_content(&self) -> bool {
        match self {
            Self::ManifestNotFound { .. }
            | Self::BlobNotFound { .. }
            | Self::TooLarge { .. }
            | Self::Malformed { .. } => true,
            Self::Setup { .. }
            | Self::DigestMismatch { .. }
            | Self::SizeMismatch { .. }
            | Self::Unreachable { .. }
            | Self::Unauthorized { .. }
            | Self::Throttled { .. }
            | Self::Unavailable { .. }
            | Self::Refused { .. }
            | Self::UnsafeTarget { .. }
            | Self::HostNotAllowed { .. }
            | Self::NoSuchPlatform { .. }
            | Self::IncompleteReference { .. }
            | Self::Contended { .. }
            | Self::Layout { .. }
            | Self::Disk { .. } => false,
        }
    }

    /// Whether the registry does not do this, or its answer cannot be used: asking again changes nothing, and neither does
    /// another credential.
    pub fn is_for_good(&self) -> bool {
        // 408 and 425 ask for another try, and 501 is the one 5xx that does not.
        let refused = matches!(self, Self::Refused { code, .. } if !matches!(code, 408 | 425));
        let not_implemented = matches!(self, Self::Unavailable { code: 501, .. });
        refused || not_implemented || self.is_of_content()
    }

    /// One stable word: condition reason, event reason and metric label.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Setup { .. } => "RegistryClientSetup",
            Self::Unreachable { .. } => "RegistryUnreachable",
            Self::Unauthorized { .. } => "RegistryUnauthorized",
            Self::Throttled { .. } => "RegistryThrottled",
            Self::Unavailable { .. } => "RegistryUnavailable",
            Self::ManifestNotFound { .. } => "ManifestNotFound",
            Self::BlobNotFound { .. } => "BlobNotFound",
            Self::DigestMismatch { .. } => "DigestMismatch",
            Self::SizeMismatch { .. } => "SizeMismatch",
            Self::TooLarge { .. } => "RegistryContentTooLarge",
            Self::Malformed { .. } => "RegistryAnswerMalformed",
            Self::Refused { .. } => "RegistryRefused",
            Self::UnsafeTarget { .. } => "RegistryRedirectRefused",
            Self::HostNotAllowed { .. } => "RegistryNotAllowed",
            Self::NoSuchPlatform { .. } => "PlatformNotFound",
            Self::IncompleteReference { .. } => "ReferenceIncomplete",
            Self::Contended { .. } => "ReferrersContended",
            Self::Layout { .. } => "LayoutInvalid",
            Self::Disk { .. } => "LayoutDisk",
        }
    }

    /// How long the registry asked us to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        if let Self::Throttled { retry_after, .. } = self {
            *retry_after
        } else {
            None
        }
    }

    /// The image or blob does not exist (or is hidden from this credential).
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::ManifestNotFound { .. } | Self::BlobNotFound { .. })
    }

    /// The credential is missing, wrong or too weak: the user must act.
    pub fn is_unauthorized(&self) -> bool {
        matches!(self, Self::Unauthorized { .. })
    }

    /// Trying again later, with nothing changed by anyone, can succeed.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. }
                | Self::Throttled { .. }
                | Self::Unavailable { .. }
                | Self::Contended { .. }
                | Self::Disk { .. }
        )
    }

    pub(crate) fn malformed(host: &str, what: &'static str, expected: &'static str, found: &str) -> Self {
        Self::Malformed {
            host: host.to_owned(),
            what,
            expected,
            found: bounded(&found.chars().take(200).collect::<String>()),
        }
    }

    pub(crate) fn disk(action: &'static str) -> impl Fn(std::io::Error) -> Self {
        move |source| Self::Disk { action, source }
    }
}
