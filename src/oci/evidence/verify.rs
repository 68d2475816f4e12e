//! Verification of cosign signatures, in both of their forms, with a public key.
//!
//! Binds the digest and the kind of statement to the signature. Must not take "no signature", "a signature of
//! something else" or "the registry did not answer" for a pass.

use super::{
    cosign::{SIGN_PREDICATE, SIGNATURE, SIGNATURE_TYPE, SIMPLE_SIGNING, STATEMENT, legacy_layers, legacy_tag},
    signing::{BUNDLE_V03, PublicKey, open_bundle},
};
use crate::registry::{Auth, Client, Content, Error, referrers::EMPTY_MEDIA_TYPE};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use repave_core::{digest::Digest, image_ref::Repository, report::bounded};
use serde::Deserialize;
use std::{collections::BTreeMap, time::Duration};

const MAX_PAYLOAD: u64 = 64 * 1024;
const MAX_BUNDLE: u64 = 1 << 20;
/// Signatures of each form that are tried.
const MAX_SIGNATURES: usize = 50;
/// Attached artifacts that are asked whether they are bundles.
const MAX_ARTIFACTS: usize = 200;

/// In which form a signature was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Tag `sha256-<hex>.sig`.
    Legacy,
    /// An attached sigstore bundle.
    Bundle,
}

/// A signature that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Its form.
    pub form: Form,
    /// The blob with what was signed.
    pub signature: Digest,
    /// The key that signed.
    pub key_hint: String,
}

/// Why an image is not verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The registry did not answer; this says nothing about the image.
    #[error(transparent)]
    Registry(#[from] Error),
    /// Nothing is there.
    #[error(
        "no signature found for {image}: looked at the tag {tag} and at the attached bundles ({BUNDLE_V03}); sign it, or check that the signatures were copied with it"
    )]
    NoSignature {
        /// The image.
        image: String,
        /// The legacy tag.
        tag: String,
    },
    /// There are signatures, by others.
    #[error(
        "{found} signatures found for {image}, none by the key {key}: check that the policy names the publisher's current key"
    )]
    NotByThisKey {
        /// The image.
        image: String,
        /// How many were tried.
        found: usize,
        /// The hint of the key asked for.
        key: String,
    },
    /// The key signed something else, and it was put here.
    #[error(
        "a signature by the key {key} at {image} is about {about}: expected this digest and a cosign signature; somebody moved a signature"
    )]
    SignedOther {
        /// The image.
        image: String,
        /// The hint of the key.
        key: String,
        /// What the signed text says.
        about: String,
    },
}

impl VerifyError {
    /// One stable word.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Registry(error) => error.reason(),
            Self::NoSignature { .. } => "SignatureMissing",
            Self::NotByThisKey { .. } => "SignatureByOtherKey",
            Self::SignedOther { .. } => "SignatureForOtherContent",
        }
    }

    /// How long the registry asked us to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Registry(error) => error.retry_after(),
            Self::NoSignature { .. } | Self::NotByThisKey { .. } | Self::SignedOther { .. } => None,
        }
    }
}

/// The state of a search through signatures.
struct Search<'a> {
    digest: &'a Digest,
    key: &'a PublicKey,
    found: usize,
    /// What a good signature by the right key was wrongly about.
    other: Option<String>,
}

/// Looks for a signature of exactly this digest by this key.
pub async fn verify(
    client: &Client,
    repository: &Repository,
    digest: &Digest,
    key: &PublicKey,
    auth: &Auth,
) -> Result<Verified, VerifyError> {
    let mut search = Search {
        digest,
        key,
        found: 0,
        other: None,
    };
    let verified = |form, signature| {
        let key_hint = key.hint().to_owned();
        Ok(Verified {
            form,
            signature,
            key_hint,
        })
    };
    // A registry error in one form must not hide a good signature in the other, nor become "no signature".
    let legacy = search.legacy(client, repository, auth).await;
    if let Ok(Some(signature)) = legacy {
        return verified(Form::Legacy, signature);
    }
    if let Some(signature) = search.bundles(client, repository, auth).await? {
        return verified(Form::Bundle, signature);
    }
    legacy?;
    let image = repository.at(digest).to_string();
    let hint = key.hint().to_owned();
    Err(match (search.other, search.found) {
        (Some(about), _) => VerifyError::SignedOther {
            image,
            key: hint,
            about,
        },
        (None, 0) => VerifyError::NoSignature {
            image,
            tag: legacy_tag(digest),
        },
        (None, found) => VerifyError::NotByThisKey {
            image,
            found,
            key: hint,
        },
    })
}

#[derive(Deserialize)]
struct Payload {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    image: CriticalImage,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct CriticalImage {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

/// The part of an in-toto statement that says what it is about.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Subject>,
    predicate_type: String,
}

#[derive(Deserialize)]
struct Subject {
    digest: BTreeMap<String, String>,
}

impl Search<'_> {
    async fn legacy(&mut self, client: &Client, repository: &Repository, auth: &Auth) -> Result<Option<Digest>, Error> {
        let layers = legacy_layers(client, repository, &legacy_tag(self.digest), auth).await?;
        let signatures = layers
            .iter()
            .filter(|layer| layer.media_type == SIMPLE_SIGNING)
            .take(MAX_SIGNATURES);
        for layer in signatures {
            self.found += 1;
            let signature = layer
                .annotations
                .get(SIGNATURE)
                .and_then(|text| BASE64.decode(text).ok());
            let Some(signature) = signature else { continue };
            let payload = client.get_blob(repository, &layer.digest, MAX_PAYLOAD, auth).await?;
            if self.key.verifies(&payload, &signature) && self.is_payload_about_digest(&payload) {
                return Ok(Some(layer.digest.clone()));
            }
        }
        Ok(None)
    }

    async fn bundles(
        &mut self,
        client: &Client,
        repository: &Repository,
        auth: &Auth,
    ) -> Result<Option<Digest>, Error> {
        let referrers = client.referrers(repository, self.digest, None, auth).await?;
        // cosign and some registries list the type of the (empty) configuration as the type of the artifact: then only
        // the layer tells.
        let may_be = |kind: &str| is_bundle(kind) || kind == EMPTY_MEDIA_TYPE;
        let possible = referrers
            .iter()
            .filter(|entry| entry.artifact_type.as_deref().is_none_or(may_be));
        let mut tried = 0;
        for entry in possible.take(MAX_ARTIFACTS) {
            if tried >= MAX_SIGNATURES {
                break;
            }
            let manifest = client.get_manifest(&repository.at(&entry.digest), auth).await?;
            let Content::Image(image) = manifest.content(repository.host())? else {
                continue;
            };
            let [layer] = image.layers.as_slice() else { continue };
            if !is_bundle(&layer.media_type) {
                continue;
            }
            tried += 1;
            self.found += 1;
            let bundle = client.get_blob(repository, &layer.digest, MAX_BUNDLE, auth).await?;
            if open_bundle(self.key, &bundle).is_some_and(|statement| self.is_statement_about_digest(&statement)) {
                return Ok(Some(layer.digest.clone()));
            }
        }
        Ok(None)
    }

    fn is_payload_about_digest(&mut self, payload: &[u8]) -> bool {
        let Ok(payload) = serde_json::from_slice::<Payload>(payload) else {
            self.other = Some("something that is no signature payload".to_owned());
            return false;
        };
        let critical = payload.critical;
        if critical.kind == SIGNATURE_TYPE && critical.image.digest == self.digest.as_str() {
            return true;
        }
        self.other = Some(bounded(&format!("{} ({})", critical.image.digest, critical.kind)));
        false
    }

    fn is_statement_about_digest(&mut self, statement: &[u8]) -> bool {
        let Ok(statement) = serde_json::from_slice::<Statement>(statement) else {
            self.other = Some("something that is no in-toto statement".to_owned());
            return false;
        };
        let ours = |subject: &Subject| subject.digest.get("sha256").is_some_and(|hex| hex == self.digest.hex());
        let about_digest = statement.kind == STATEMENT && statement.subject.iter().any(ours);
        if about_digest && statement.predicate_type == SIGN_PREDICATE {
            return true;
        }
        // Another statement of the key about this digest (a summary) is normal and no signature.
        if !about_digest {
            self.other = Some(bounded(&format!("another digest ({})", statement.predicate_type)));
        }
        false
    }
}

/// What was signed, read without its signature, for fuzzing: whether a payload and a statement are about the digest.
#[cfg(feature = "fuzzing")]
pub(crate) fn is_about(key: &PublicKey, digest: &Digest, signed: &[u8]) -> (bool, bool) {
    let mut search = Search {
        digest,
        key,
        found: 0,
        other: None,
    };
    let about = (
        search.is_payload_about_digest(signed),
        search.is_statement_about_digest(signed),
    );
    assert!(
        search
            .other
            .is_none_or(|other| other.len() <= repave_core::report::MAX_TEXT)
    );
    about
}

pub(crate) fn is_bundle(media_type: &str) -> bool {
    media_type.starts_with("application/vnd.dev.sigstore.bundle")
}
