//! Manifests and indexes: read with their digest recomputed, parsed strictly, written byte for byte.
//!
//! Must not serialise a manifest that was read: its digest is the digest of the bytes the registry gave.

use super::{
    answer::status_error,
    auth::Auth,
    client::{Access, Client},
    descriptor::{Descriptor, null_is_empty},
    error::Error,
};
use bytes::Bytes;
use repave_core::{
    digest::Digest,
    image_ref::{ImageRef, Repository},
};
use reqwest::{
    Method, Response,
    header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// An image index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// An image manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Docker's image index.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker's image manifest.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";
const MAX_MANIFEST: u64 = 4 << 20;
const MAX_ENTRIES: usize = 500;

/// An image manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageManifest {
    /// Always 2.
    pub schema_version: u32,
    /// The media type, when it names itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// For an artifact: what it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The image configuration.
    pub config: Descriptor,
    /// The layers, lowest first.
    pub layers: Vec<Descriptor>,
    /// What an artifact is attached to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free text.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "null_is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
}

/// An image index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageIndex {
    /// Always 2.
    pub schema_version: u32,
    /// The media type, when it names itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The children.
    #[serde(deserialize_with = "null_is_empty")]
    pub manifests: Vec<Descriptor>,
    /// Free text.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "null_is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
}

/// A parsed manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// One image.
    Image(Box<ImageManifest>),
    /// Several images.
    Index(ImageIndex),
}

/// A manifest or index as the registry gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The exact bytes.
    pub bytes: Bytes,
    /// One of the four media types.
    pub media_type: String,
    /// The digest of `bytes`.
    pub digest: Digest,
}

/// Where to put a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// Under a tag.
    Tag(String),
    /// Under its digest.
    Digest(Digest),
}

/// What a registry did with a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutManifest {
    /// The manifest's digest.
    pub digest: Digest,
    /// The registry linked the manifest to its subject by itself.
    pub subject_processed: bool,
}

/// The fields that decide what a document is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    media_type: Option<String>,
    config: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
    manifests: Option<serde::de::IgnoredAny>,
}

impl Manifest {
    /// Takes bytes that a registry or a layout gave, under the media type it gave (empty: take the document's own).
    pub fn parse(host: &str, bytes: Bytes, declared: &str) -> Result<Self, Error> {
        let bad = |expected, found: &str| Error::malformed(host, "the manifest", expected, found);
        let shape: Shape = serde_json::from_slice(&bytes).map_err(|e| bad("a JSON manifest", &e.to_string()))?;
        let own = shape.media_type.as_deref();
        let media_type = if is_known(declared) {
            declared
        } else {
            own.unwrap_or(declared)
        };
        if !is_known(media_type) {
            return Err(bad("an OCI or Docker v2 manifest or index", media_type));
        }
        // A document that can be read as two things would be checked as one and run as the other (CVE-2021-41190).
        if own.is_some_and(|own| own != media_type) {
            return Err(bad("a mediaType equal to the Content-Type", own.unwrap_or_default()));
        }
        let index = is_index(media_type);
        if index && (shape.config.is_some() || shape.layers.is_some()) || !index && shape.manifests.is_some() {
            return Err(bad("either an image or an index", "a document with the fields of both"));
        }
        Ok(Self {
            media_type: media_type.to_owned(),
            digest: Digest::of(&bytes),
            bytes,
        })
    }

    /// What is in it.
    pub fn content(&self, host: &str) -> Result<Content, Error> {
        let bad = |e: &serde_json::Error| Error::malformed(host, "the manifest", "valid descriptors", &e.to_string());
        let (content, entries) = if is_index(&self.media_type) {
            let index: ImageIndex = serde_json::from_slice(&self.bytes).map_err(|e| bad(&e))?;
            let entries = index.manifests.len();
            (Content::Index(index), entries)
        } else {
            let image: ImageManifest = serde_json::from_slice(&self.bytes).map_err(|e| bad(&e))?;
            let entries = image.layers.len();
            (Content::Image(Box::new(image)), entries)
        };
        if entries > MAX_ENTRIES {
            return Err(Error::TooLarge {
                host: host.to_owned(),
                what: "the manifest (entries)",
                limit: MAX_ENTRIES as u64,
            });
        }
        Ok(content)
    }

    /// A descriptor that points here.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::of(&self.media_type, &self.bytes)
    }
}

/// Whether a media type is that of an index of images.
pub(crate) fn is_index(media_type: &str) -> bool {
    matches!(media_type, OCI_INDEX | DOCKER_LIST)
}

fn is_known(media_type: &str) -> bool {
    matches!(media_type, OCI_INDEX | OCI_MANIFEST | DOCKER_LIST | DOCKER_MANIFEST)
}

pub(crate) fn content_type(response: &Response) -> String {
    let text = response
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn tail(image: &ImageRef) -> Result<String, Error> {
    let digest = image.digest.as_ref().map(Digest::as_str);
    let reference = digest
        .or(image.tag.as_deref())
        .ok_or_else(|| Error::IncompleteReference {
            image: image.to_string(),
            missing: "tag or digest",
        })?;
    Ok(format!("manifests/{reference}"))
}

fn accept() -> HeaderMap {
    HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(ACCEPTED))])
}

fn digest_header(response: &Response) -> Option<Digest> {
    response
        .headers()
        .get("docker-content-digest")?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

fn expect_digest(host: &str, expected: &Digest, found: &Digest) -> Result<(), Error> {
    if expected == found {
        return Ok(());
    }
    Err(Error::DigestMismatch {
        host: host.to_owned(),
        what: "the manifest",
        expected: expected.clone(),
        found: found.to_string(),
    })
}

impl Client {
    /// What a reference points to now; `None` when there is no such image. Costs no counted pull.
    pub async fn head(&self, image: &ImageRef, auth: &Auth) -> Result<Option<Descriptor>, Error> {
        let host = image.repository.host();
        let verb = ("head_manifest", Method::HEAD, Access::Pull);
        let mut call = self.call(verb, &image.repository, &tail(image)?, auth)?;
        call.headers = accept();
        let response = self.send(&call).await?;
        match response.status().as_u16() {
            200 => {}
            404 => return Ok(None),
            _ => return Err(status_error(&call, &response)),
        }
        let length = response
            .headers()
            .get(CONTENT_LENGTH)
            .and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
        let media_type = content_type(&response);
        let (Some(digest), Some(size), true) = (digest_header(&response), length, is_known(&media_type)) else {
            // A registry that leaves a header out is asked for the manifest itself.
            return self
                .get_manifest(image, auth)
                .await
                .map(|manifest| Some(manifest.descriptor()));
        };
        if let Some(expected) = &image.digest {
            expect_digest(host, expected, &digest)?;
        }
        Ok(Some(Descriptor {
            media_type,
            digest,
            size,
            artifact_type: None,
            platform: None,
            annotations: BTreeMap::new(),
        }))
    }

    /// The manifest, with its digest recomputed and compared.
    pub async fn get_manifest(&self, image: &ImageRef, auth: &Auth) -> Result<Manifest, Error> {
        let host = image.repository.host();
        let verb = ("get_manifest", Method::GET, Access::Pull);
        let mut call = self.call(verb, &image.repository, &tail(image)?, auth)?;
        call.headers = accept();
        let response = self.send(&call).await?;
        match response.status().as_u16() {
            200 => {}
            404 => {
                return Err(Error::ManifestNotFound {
                    image: Box::new(image.clone()),
                });
            }
            _ => return Err(self.refused(&call, response).await),
        }
        let declared = content_type(&response);
        let expected = image.digest.clone().or_else(|| digest_header(&response));
        let bytes = self
            .bounded_body(response, host, "the manifest (bytes)", MAX_MANIFEST)
            .await?;
        if let Some(expected) = expected {
            expect_digest(host, &expected, &Digest::of(&bytes))?;
        }
        Manifest::parse(host, bytes, &declared)
    }

    /// Puts a manifest, byte for byte.
    pub async fn put_manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
        media_type: &str,
        bytes: Bytes,
        auth: &Auth,
    ) -> Result<PutManifest, Error> {
        let digest = Digest::of(&bytes);
        let image = match reference {
            Reference::Tag(tag) => repository.tagged(tag).map_err(|e| Error::IncompleteReference {
                image: e.found,
                missing: "valid tag",
            })?,
            Reference::Digest(wanted) => {
                expect_digest(repository.host(), wanted, &digest)?;
                repository.at(wanted)
            }
        };
        let verb = ("put_manifest", Method::PUT, Access::PullPush);
        let mut call = self.call(verb, repository, &tail(&image)?, auth)?;
        let value = HeaderValue::from_str(media_type)
            .map_err(|_| Error::malformed(repository.host(), "the manifest", "a printable media type", media_type))?;
        call.headers.insert(CONTENT_TYPE, value);
        call.body = Some(bytes);
        let response = self.send(&call).await?;
        if !response.status().is_success() {
            return Err(self.refused(&call, response).await);
        }
        if let Some(stored) = digest_header(&response) {
            expect_digest(repository.host(), &digest, &stored)?;
        }
        Ok(PutManifest {
            digest,
            subject_processed: response.headers().contains_key("oci-subject"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str, declared: &str) -> Result<Manifest, Error> {
        Manifest::parse("r.io", Bytes::copy_from_slice(json.as_bytes()), declared)
    }

    #[test]
    fn a_document_that_can_be_read_as_two_things_is_refused() {
        let d = Digest::of(b"x");
        let both = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"a","digest":"{d}","size":1}},"layers":[],"manifests":[]}}"#
        );
        for declared in [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST] {
            assert!(parse(&both, declared).unwrap_err().to_string().contains("both"));
        }
        let index = format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[]}}"#);
        assert!(parse(&index, OCI_INDEX).is_ok());
        assert!(parse(&index, "application/json").is_ok());
        assert!(parse(&index, OCI_MANIFEST).is_err());
        assert!(
            parse(
                r#"{"schemaVersion":1}"#,
                "application/vnd.docker.distribution.manifest.v1+json"
            )
            .is_err()
        );
    }

    #[test]
    fn a_digest_that_is_none_is_refused_when_parsed() {
        let json = r#"{"schemaVersion":2,"manifests":[{"mediaType":"a","digest":"sha256:../../etc/passwd","size":1}]}"#;
        let error = parse(json, OCI_INDEX).unwrap().content("r.io").unwrap_err();
        assert_eq!(error.reason(), "RegistryAnswerMalformed");
    }
}
