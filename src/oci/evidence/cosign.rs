//! Signatures of images as cosign writes them, in both of its forms; `verify` reads them.
//!
//! Both forms are written because consumers differ: admission controllers read the legacy tag with a key, cosign 3
//! prefers bundles. Must not put a time of now into anything: signing again has to give the same bytes.

use super::signing::{BUNDLE_V03, PromotionKey, bundle};
pub use super::verify::{Form, Verified, VerifyError, verify};
use crate::registry::{
    Artifact, Auth, Client, Content, Descriptor, Error, ImageManifest, Reference,
    manifest::{OCI_MANIFEST, is_index},
    referrers::lock_subject,
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use repave_core::{digest::Digest, image_ref::Repository};
use serde_json::json;
use std::collections::BTreeMap;

/// Predicate of a signature.
pub const SIGN_PREDICATE: &str = "https://sigstore.dev/cosign/sign/v1";
pub(crate) const STATEMENT: &str = "https://in-toto.io/Statement/v1";
pub(crate) const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
pub(crate) const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
pub(crate) const SIGNATURE_TYPE: &str = "cosign container image signature";
const ATTEMPTS: u32 = 5;

/// Where the signatures of a digest are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The tag of the legacy form.
    pub legacy_tag: String,
    /// The artifact with the bundle.
    pub bundle: Digest,
}

pub(crate) fn legacy_tag(digest: &Digest) -> String {
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

/// Signs an image and, when it is an index, the image of every platform below it: admission may resolve either.
pub async fn sign_with_children(
    client: &Client,
    repository: &Repository,
    image: &Descriptor,
    key: &PromotionKey,
    auth: &Auth,
) -> Result<Signed, Error> {
    if is_index(&image.media_type) {
        let manifest = client.get_manifest(&repository.at(&image.digest), auth).await?;
        if let Content::Index(index) = manifest.content(repository.host())? {
            // Attestations of the builder are children too, for the platform `unknown`; nothing runs them.
            let runs = |child: &&Descriptor| child.platform.as_ref().is_some_and(|platform| platform.os != "unknown");
            for child in index.manifests.iter().filter(runs) {
                sign(client, repository, child, key, auth).await?;
            }
        }
    }
    sign(client, repository, image, key, auth).await
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
pub(crate) async fn legacy_layers(
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
