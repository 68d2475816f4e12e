//! What is attached to an image: listed and added, on registries with and without the referrers API.
//!
//! Without the API the list is an index under the tag `sha256-<hex>`, which every writer must read, change and write
//! back; registries ignore `If-Match`, so it is read again and merged again. Must not drop another writer's entry.

use super::{
    auth::Auth,
    client::{Access, Client},
    descriptor::Descriptor,
    error::Error,
    manifest::{Content, ImageIndex, ImageManifest, OCI_INDEX, OCI_MANIFEST, Reference, content_type},
    tags::next_page,
};
use bytes::Bytes;
use repave_core::{digest::Digest, image_ref::Repository};
use reqwest::Method;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};
use tokio::sync::{Mutex, MutexGuard};

/// Media type of the configuration of an artifact that has none.
pub const EMPTY_MEDIA_TYPE: &str = "application/vnd.oci.empty.v1+json";
const EMPTY: &[u8] = b"{}";
const MAX_PAGES: usize = 20;
/// Entries of a list: one that has as many gets no further one from us.
const MAX_REFERRERS: usize = 1000;
/// Entries that are read: a list that others, or an older version, filled further must stay readable, or it could never be
/// made shorter.
const MAX_READ: usize = 2000;
/// Artifacts that are asked for their type, one by one.
const MAX_UNTOLD: usize = 100;
const MAX_PAGE: u64 = 4 << 20;
const ATTEMPTS: u32 = 5;

/// One lock per few subjects: two tasks of this process never change the same tag at once.
static SUBJECT_LOCKS: [Mutex<()>; 64] = [const { Mutex::const_new(()) }; 64];

/// Something to attach to an image. The same content gives the same bytes, so attaching twice is attaching once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// What it is (a media type).
    pub artifact_type: String,
    /// Its content.
    pub layers: Vec<ArtifactLayer>,
    /// Annotations of the artifact; they appear in the list of referrers.
    pub annotations: BTreeMap<String, String>,
}

/// One file of an artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArtifactLayer {
    /// Its media type.
    pub media_type: String,
    /// Its bytes.
    pub bytes: Bytes,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

impl Artifact {
    /// An artifact of one file.
    pub fn single(artifact_type: &str, media_type: &str, bytes: Bytes, annotations: BTreeMap<String, String>) -> Self {
        let layer = ArtifactLayer {
            media_type: media_type.to_owned(),
            bytes,
            annotations: BTreeMap::new(),
        };
        Self {
            artifact_type: artifact_type.to_owned(),
            layers: vec![layer],
            annotations,
        }
    }

    fn manifest(&self, subject: &Descriptor) -> ImageManifest {
        let layers = self.layers.iter().map(|layer| Descriptor {
            annotations: layer.annotations.clone(),
            ..Descriptor::of(&layer.media_type, &layer.bytes)
        });
        ImageManifest {
            schema_version: 2,
            media_type: Some(OCI_MANIFEST.to_owned()),
            artifact_type: Some(self.artifact_type.clone()),
            config: Descriptor::of(EMPTY_MEDIA_TYPE, EMPTY),
            layers: layers.collect(),
            subject: Some(Descriptor {
                media_type: subject.media_type.clone(),
                digest: subject.digest.clone(),
                size: subject.size,
                artifact_type: None,
                platform: None,
                annotations: BTreeMap::new(),
            }),
            annotations: self.annotations.clone(),
        }
    }
}

pub(crate) async fn lock_subject(repository: &Repository, subject: &Digest) -> MutexGuard<'static, ()> {
    let mut hasher = DefaultHasher::new();
    (repository, subject).hash(&mut hasher);
    let slot = usize::try_from(hasher.finish() % SUBJECT_LOCKS.len() as u64).unwrap_or_default();
    SUBJECT_LOCKS[slot].lock().await
}

/// The tag that stands for the list of referrers where there is no API for it.
pub fn fallback_tag(subject: &Digest) -> String {
    format!("sha256-{}", subject.hex())
}

fn unserialisable(host: &str, error: &serde_json::Error) -> Error {
    Error::malformed(
        host,
        "our own document",
        "something that JSON can say",
        &error.to_string(),
    )
}

pub(super) fn serialised(host: &str, value: &impl serde::Serialize) -> Result<Bytes, Error> {
    serde_json::to_vec(value)
        .map(Bytes::from)
        .map_err(|e| unserialisable(host, &e))
}

impl Client {
    /// What is attached to `subject`, at most 2 000 entries; filtered here whatever the registry does.
    pub async fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
        artifact_type: Option<&str>,
        auth: &Auth,
    ) -> Result<Vec<Descriptor>, Error> {
        let mut found = match self.native_referrers(repository, subject, artifact_type, auth).await? {
            Some(found) => found,
            None => self.fallback_index(repository, subject, auth).await?.0,
        };
        if artifact_type.is_some() {
            self.learn_types(repository, &mut found, auth).await?;
        }
        found.retain(|entry| artifact_type.is_none() || entry.artifact_type.as_deref() == artifact_type);
        Ok(found)
    }

    /// Some writers and registries leave the type of an artifact out of the list, or put the type of its (empty)
    /// configuration there: then the artifact itself is asked.
    async fn learn_types(&self, repository: &Repository, found: &mut [Descriptor], auth: &Auth) -> Result<(), Error> {
        let untold = found
            .iter_mut()
            .filter(|entry| matches!(entry.artifact_type.as_deref(), None | Some(EMPTY_MEDIA_TYPE)));
        for (count, entry) in untold.enumerate() {
            if count >= MAX_UNTOLD {
                return Err(too_many(repository.host(), MAX_UNTOLD));
            }
            let manifest = match self.get_manifest(&repository.at(&entry.digest), auth).await {
                Ok(manifest) => manifest,
                // Listed and deleted: it is not attached any more.
                Err(Error::ManifestNotFound { .. }) => continue,
                Err(error) => return Err(error),
            };
            if let Content::Image(image) = manifest.content(repository.host())? {
                entry.artifact_type = image.artifact_type.or(Some(image.config.media_type));
                entry.annotations = image.annotations;
            }
        }
        Ok(())
    }

    /// `None` when the registry has no referrers API.
    async fn native_referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
        artifact_type: Option<&str>,
        auth: &Auth,
    ) -> Result<Option<Vec<Descriptor>>, Error> {
        let mut call = self.call(
            ("referrers", Method::GET, Access::Pull),
            repository,
            &format!("referrers/{subject}"),
            auth,
        )?;
        if let Some(artifact_type) = artifact_type {
            call.url.query_pairs_mut().append_pair("artifactType", artifact_type);
        }
        let mut found = Vec::new();
        for page in 0..MAX_PAGES {
            let response = self.send(&call).await?;
            match response.status().as_u16() {
                // Some registries answer an unknown path with a web page.
                200 if page > 0 || content_type(&response) == OCI_INDEX => {}
                200 | 400 | 404 | 405 | 406 | 501 if page == 0 => return Ok(None),
                _ => return Err(self.refused(&call, response).await),
            }
            let next = next_page(&call, &response)?;
            let body = self
                .bounded_body(response, call.host(), "a page of referrers (bytes)", MAX_PAGE)
                .await?;
            found.extend(parse_index(call.host(), &body)?.manifests);
            if found.len() > MAX_READ {
                break;
            }
            match next {
                Some(url) => call.url = url,
                None => return Ok(Some(found)),
            }
        }
        Err(too_many(repository.host(), MAX_READ))
    }

    /// The list under the fallback tag and the exact document it came from.
    pub(super) async fn fallback_index(
        &self,
        repository: &Repository,
        subject: &Digest,
        auth: &Auth,
    ) -> Result<(Vec<Descriptor>, Value), Error> {
        let host = repository.host();
        let tag = repository
            .tagged(&fallback_tag(subject))
            .map_err(|e| Error::IncompleteReference {
                image: e.found,
                missing: "valid tag",
            })?;
        let manifest = match self.get_manifest(&tag, auth).await {
            Ok(manifest) => manifest,
            Err(Error::ManifestNotFound { .. }) => {
                return Ok((
                    Vec::new(),
                    json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}),
                ));
            }
            Err(error) => return Err(error),
        };
        if manifest.media_type != OCI_INDEX {
            return Err(Error::malformed(
                host,
                "the list of referrers",
                "an OCI index",
                &manifest.media_type,
            ));
        }
        let index = parse_index(host, &manifest.bytes)?;
        if index.manifests.len() > MAX_READ {
            return Err(too_many(host, MAX_READ));
        }
        let document = serde_json::from_slice(&manifest.bytes)
            .map_err(|e| Error::malformed(host, "the list of referrers", "JSON", &e.to_string()))?;
        Ok((index.manifests, document))
    }

    /// Attaches an artifact to `subject` and makes sure that it is listed. Doing it again changes nothing.
    pub async fn attach(
        &self,
        repository: &Repository,
        subject: &Descriptor,
        artifact: &Artifact,
        auth: &Auth,
    ) -> Result<Digest, Error> {
        let host = repository.host();
        let bytes = serialised(host, &artifact.manifest(subject))?;
        let digest = Digest::of(&bytes);
        let _one_writer = lock_subject(repository, &subject.digest).await;
        let listed = self
            .referrers(repository, &subject.digest, Some(&artifact.artifact_type), auth)
            .await;
        let listed = match listed {
            Ok(listed) => listed,
            // A registry that keeps the list itself may take more than we read.
            Err(Error::TooLarge { what: LIST, .. }) => Vec::new(),
            Err(error) => return Err(error),
        };
        if listed.iter().any(|entry| entry.digest == digest) {
            return Ok(digest);
        }
        self.put_blob(repository, Bytes::from_static(EMPTY), auth).await?;
        for layer in &artifact.layers {
            self.put_blob(repository, layer.bytes.clone(), auth).await?;
        }
        let size = bytes.len() as u64;
        let put = self
            .put_manifest(
                repository,
                &Reference::Digest(digest.clone()),
                OCI_MANIFEST,
                bytes,
                auth,
            )
            .await?;
        // A registry may have the API without saying so in its answer to the push.
        let native = self.native_referrers(repository, &subject.digest, None, auth);
        let linked = put.subject_processed
            || native
                .await?
                .is_some_and(|list| list.iter().any(|entry| entry.digest == digest));
        if !linked {
            let entry = Descriptor {
                media_type: OCI_MANIFEST.to_owned(),
                digest: digest.clone(),
                size,
                artifact_type: Some(artifact.artifact_type.clone()),
                platform: None,
                annotations: artifact.annotations.clone(),
            };
            self.list_in_fallback(repository, &subject.digest, &entry, auth).await?;
        }
        Ok(digest)
    }

    /// Adds an entry to the fallback list: read, merge, write, read again until the entry and all others are there.
    async fn list_in_fallback(
        &self,
        repository: &Repository,
        subject: &Digest,
        entry: &Descriptor,
        auth: &Auth,
    ) -> Result<(), Error> {
        let host = repository.host();
        let tag = fallback_tag(subject);
        // Whatever was ever seen in the list while we wrote it: a lost update of another writer is repaired too.
        let mut wanted: BTreeMap<Digest, Value> = BTreeMap::new();
        let ours = serde_json::to_value(entry).map_err(|e| unserialisable(host, &e))?;
        wanted.insert(entry.digest.clone(), ours);
        for _ in 0..ATTEMPTS {
            let (listed, mut document) = self.fallback_index(repository, subject, auth).await?;
            let Some(Value::Array(rows)) = document.get_mut("manifests") else {
                let what = "the list of referrers";
                return Err(Error::malformed(host, what, "a list of manifests", "none"));
            };
            let missing: Vec<Value> = wanted
                .iter()
                .filter(|(digest, _)| !listed.iter().any(|row| row.digest == **digest))
                .map(|(_, value)| value.clone())
                .collect();
            if missing.is_empty() {
                return Ok(());
            }
            if listed.len() + missing.len() > MAX_REFERRERS {
                return Err(too_many(host, MAX_REFERRERS));
            }
            wanted.extend(listed.iter().map(|row| row.digest.clone()).zip(rows.iter().cloned()));
            rows.extend(missing);
            let bytes = serialised(host, &document)?;
            self.put_manifest(repository, &Reference::Tag(tag.clone()), OCI_INDEX, bytes, auth)
                .await?;
        }
        // The last write is only believed when it is read back.
        let (listed, _) = self.fallback_index(repository, subject, auth).await?;
        if wanted
            .keys()
            .all(|digest| listed.iter().any(|row| row.digest == *digest))
        {
            return Ok(());
        }
        Err(Error::Contended {
            repository: repository.to_string(),
            tag,
            attempts: ATTEMPTS,
        })
    }
}

pub(crate) fn parse_index(host: &str, bytes: &[u8]) -> Result<ImageIndex, Error> {
    serde_json::from_slice(bytes)
        .map_err(|e| Error::malformed(host, "the list of referrers", "an OCI index", &e.to_string()))
}

const LIST: &str = "the list of referrers (entries)";

fn too_many(host: &str, limit: usize) -> Error {
    Error::TooLarge {
        host: host.to_owned(),
        what: LIST,
        limit: limit as u64,
    }
}
