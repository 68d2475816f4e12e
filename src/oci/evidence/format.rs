//! What cosign's signatures are called and where they are, for who writes them (`cosign`) and who reads them (`verify`).
//!
//! Must not sign or believe anything.

use crate::registry::{Auth, Client, Content, Descriptor, Error};
use repave_core::{digest::Digest, image_ref::Repository};

/// Predicate of a signature.
pub const SIGN_PREDICATE: &str = "https://sigstore.dev/cosign/sign/v1";
pub(crate) const STATEMENT: &str = "https://in-toto.io/Statement/v1";
pub(crate) const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
pub(crate) const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
pub(crate) const SIGNATURE_TYPE: &str = "cosign container image signature";

/// The tag of the legacy form.
pub(crate) fn legacy_tag(digest: &Digest) -> String {
    format!("sha256-{}.sig", digest.hex())
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
