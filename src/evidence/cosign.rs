//! Signatures of images as cosign writes them, in both of its forms, and their verification.
//!
//! Both forms are written because consumers differ: admission controllers read the legacy tag with a key, cosign 3
//! prefers bundles. Verification binds the digest and the kind of statement. Must not take "no signature" or "the
//! registry did not answer" for a pass.

use super::signing::{BUNDLE_V03, PromotionKey, PublicKey, bundle, open_bundle};
use crate::{
    domain::{digest::Digest, image_ref::Repository, report::bounded},
    registry::{
        Artifact, Auth, Client, Content, Descriptor, Error, ImageManifest, Reference, manifest::OCI_MANIFEST,
        referrers::lock_subject,
    },
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use std::{collections::BTreeMap, time::Duration};

/// Predicate of a signature.
pub const SIGN_PREDICATE: &str = "https://sigstore.dev/cosign/sign/v1";
pub(crate) const STATEMENT: &str = "https://in-toto.io/Statement/v1";
const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const SIGNATURE_TYPE: &str = "cosign container image signature";
const MAX_PAYLOAD: u64 = 64 * 1024;
const MAX_BUNDLE: u64 = 1 << 20;
const MAX_SIGNATURES: usize = 50;
const ATTEMPTS: u32 = 5;

/// Where the signatures of a digest are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The tag of the legacy form.
    pub legacy_tag: String,
    /// The artifact with the bundle.
    pub bundle: Digest,
}

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

fn legacy_tag(digest: &Digest) -> String {
    format!("sha256-{}.sig", digest.hex())
}

fn unserialisable(repository: &Repository, error: &serde_json::Error) -> Error {
    Error::malformed(
        repository.host(),
        "our own signature",
        "something that JSON can say",
        &error.to_string(),
    )
}

/// Signs one digest in both forms. Doing it again changes nothing.
pub async fn sign(
    client: &Client,
    repository: &Repository,
    image: &Descriptor,
    key: &PromotionKey,
    auth: &Auth,
) -> Result<Signed, Error> {
    let legacy_tag = sign_legacy(client, repository, &image.digest, key, auth).await?;
    let statement = json!({
        "_type": STATEMENT,
        "subject": [{"digest": {"sha256": image.digest.hex()}}],
        "predicateType": SIGN_PREDICATE,
        "predicate": {},
    });
    let bundle = attach_statement(client, repository, image, &statement, SIGN_PREDICATE, key, auth).await?;
    Ok(Signed { legacy_tag, bundle })
}

/// Signs an in-toto statement and attaches it as a bundle, without a time of now: the same bytes every time.
pub(crate) async fn attach_statement(
    client: &Client,
    repository: &Repository,
    image: &Descriptor,
    statement: &serde_json::Value,
    predicate: &str,
    key: &PromotionKey,
    auth: &Auth,
) -> Result<Digest, Error> {
    let statement = serde_json::to_vec(statement).map_err(|e| unserialisable(repository, &e))?;
    let bundle = serde_json::to_vec(&bundle(key, &statement)).map_err(|e| unserialisable(repository, &e))?;
    let annotations = [
        ("dev.sigstore.bundle.content", "dsse-envelope"),
        ("dev.sigstore.bundle.predicateType", predicate),
    ];
    let annotations = annotations
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
    let artifact = Artifact::single(BUNDLE_V03, BUNDLE_V03, Bytes::from(bundle), annotations);
    client.attach(repository, image, &artifact, auth).await
}

async fn sign_legacy(
    client: &Client,
    repository: &Repository,
    digest: &Digest,
    key: &PromotionKey,
    auth: &Auth,
) -> Result<String, Error> {
    let payload = json!({
        "critical": {
            "identity": {"docker-reference": repository.to_string()},
            "image": {"docker-manifest-digest": digest},
            "type": SIGNATURE_TYPE,
        },
        "optional": null,
    });
    let payload = serde_json::to_vec(&payload).map_err(|e| unserialisable(repository, &e))?;
    let signature = BASE64.encode(key.sign(&payload));
    let layer = Descriptor {
        annotations: BTreeMap::from([(SIGNATURE.to_owned(), signature)]),
        ..Descriptor::of(SIMPLE_SIGNING, &payload)
    };
    let tag = legacy_tag(digest);
    let _one_writer = lock_subject(repository, digest).await;
    for _ in 0..ATTEMPTS {
        // Signatures of others under the same tag stay.
        let mut layers = legacy_layers(client, repository, &tag, auth).await?;
        if layers.contains(&layer) {
            return Ok(tag);
        }
        client.put_blob(repository, Bytes::from(payload.clone()), auth).await?;
        layers.push(layer.clone());
        put_legacy(client, repository, &tag, layers, auth).await?;
    }
    let (repository, attempts) = (repository.to_string(), ATTEMPTS);
    Err(Error::Contended {
        repository,
        tag,
        attempts,
    })
}

async fn put_legacy(
    client: &Client,
    repository: &Repository,
    tag: &str,
    layers: Vec<Descriptor>,
    auth: &Auth,
) -> Result<(), Error> {
    // cosign's own configuration for it; the time is its constant, not a time of now.
    let diff_ids: Vec<&Digest> = layers.iter().map(|layer| &layer.digest).collect();
    let history = vec![json!({"created": "0001-01-01T00:00:00Z"}); layers.len()];
    let config = json!({
        "architecture": "", "created": "0001-01-01T00:00:00Z", "history": history, "os": "",
        "rootfs": {"type": "layers", "diff_ids": diff_ids}, "config": {},
    });
    let config = Bytes::from(serde_json::to_vec(&config).map_err(|e| unserialisable(repository, &e))?);
    let manifest = ImageManifest {
        schema_version: 2,
        media_type: Some(OCI_MANIFEST.to_owned()),
        artifact_type: None,
        config: Descriptor::of("application/vnd.oci.image.config.v1+json", &config),
        layers,
        subject: None,
        annotations: BTreeMap::new(),
    };
    client.put_blob(repository, config, auth).await?;
    let bytes = Bytes::from(serde_json::to_vec(&manifest).map_err(|e| unserialisable(repository, &e))?);
    client
        .put_manifest(repository, &Reference::Tag(tag.to_owned()), OCI_MANIFEST, bytes, auth)
        .await?;
    Ok(())
}

/// The legacy signatures of a digest; none when there is no such tag.
async fn legacy_layers(
    client: &Client,
    repository: &Repository,
    tag: &str,
    auth: &Auth,
) -> Result<Vec<Descriptor>, Error> {
    let image = repository.tagged(tag).map_err(|e| Error::IncompleteReference {
        image: e.found,
        missing: "valid tag",
    })?;
    let manifest = match client.get_manifest(&image, auth).await {
        Ok(manifest) => manifest,
        Err(Error::ManifestNotFound { .. }) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    match manifest.content(repository.host())? {
        Content::Image(image) => Ok(image.layers),
        Content::Index(_) => Err(Error::malformed(
            repository.host(),
            "the signature tag",
            "an image manifest",
            "an index",
        )),
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
        // cosign leaves `artifactType` out of a fallback entry, so the type of the layer decides.
        let possible = referrers
            .iter()
            .filter(|entry| entry.artifact_type.as_deref().is_none_or(is_bundle));
        for entry in possible.take(MAX_SIGNATURES) {
            let manifest = client.get_manifest(&repository.at(&entry.digest), auth).await?;
            let Content::Image(image) = manifest.content(repository.host())? else {
                continue;
            };
            let [layer] = image.layers.as_slice() else { continue };
            if !is_bundle(&layer.media_type) {
                continue;
            }
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

fn is_bundle(media_type: &str) -> bool {
    media_type.starts_with("application/vnd.dev.sigstore.bundle")
}
