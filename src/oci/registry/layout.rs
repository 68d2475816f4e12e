//! One image between a registry and an OCI image layout folder, within limits, every blob checked.
//!
//! Must not build a path from anything but a checked digest, must not follow a symbolic link in a layout that
//! somebody else wrote, and must not leave a file under its final name before its digest was checked.

use super::{
    auth::Auth,
    blob::{BlobStream, Upload, checked_local},
    client::Client,
    config::ResolvedImage,
    descriptor::{Descriptor, Platform},
    error::Error,
    manifest::{Content, ImageIndex, ImageManifest, Manifest, Reference},
};
use bytes::Bytes;
use futures::TryStreamExt as _;
use repave_core::{
    digest::Digest,
    image_ref::{ImageRef, Repository},
    report::bounded,
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};
use tokio::{
    fs,
    io::{AsyncReadExt as _, AsyncWriteExt as _},
};
use tokio_util::io::ReaderStream;

const MAX_DOCUMENT: u64 = 4 << 20;
const LAYOUT_VERSION: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
const REF_NAME: &str = "org.opencontainers.image.ref.name";
const LAYOUT: &str = "the OCI layout";

/// How large an image may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayoutLimits {
    /// Bytes of all compressed layers.
    pub max_bytes: u64,
    /// Layers.
    pub max_layers: usize,
}

impl Default for LayoutLimits {
    fn default() -> Self {
        Self {
            max_bytes: 4 << 30,
            max_layers: 200,
        }
    }
}

impl LayoutLimits {
    fn allow(&self, host: &str, image: &ImageManifest) -> Result<(), Error> {
        let too_large = |what, limit| Error::TooLarge {
            host: host.to_owned(),
            what,
            limit,
        };
        if image.layers.len() > self.max_layers {
            return Err(too_large("the image (layers)", self.max_layers as u64));
        }
        let total = image
            .layers
            .iter()
            .try_fold(image.config.size, |sum, layer| sum.checked_add(layer.size));
        if total.is_some_and(|total| total <= self.max_bytes) {
            return Ok(());
        }
        Err(too_large("the image (compressed bytes)", self.max_bytes))
    }
}

impl Client {
    /// Writes one platform's image into `dir` (created; an existing layout there is completed).
    pub async fn write_layout(
        &self,
        image: &ImageRef,
        platform: &Platform,
        dir: &Path,
        limits: &LayoutLimits,
        auth: &Auth,
    ) -> Result<ResolvedImage, Error> {
        let repository = &image.repository;
        let found = self.platform_image(image, platform, auth).await?;
        limits.allow(repository.host(), &found.image)?;
        let blobs = dir.join("blobs").join("sha256");
        fs::create_dir_all(&blobs)
            .await
            .map_err(Error::disk("create the folder"))?;
        for layer in &found.image.layers {
            if fs::metadata(blobs.join(layer.digest.hex())).await.is_err() {
                let stream = self.blob_stream(repository, layer, auth).await?;
                write_blob(&blobs, &layer.digest, stream).await?;
            }
        }
        write_small(&blobs.join(found.image.config.digest.hex()), &found.config).await?;
        write_small(&blobs.join(found.manifest.digest.hex()), &found.manifest.bytes).await?;
        write_small(
            &dir.join("index.json"),
            &layout_index(image, platform, &found.manifest)?,
        )
        .await?;
        // Last: without it the folder is no layout, and a reader sees that it is not complete.
        write_small(&dir.join("oci-layout"), LAYOUT_VERSION).await?;
        Ok(found.resolved)
    }

    /// Pushes the one image of a layout folder by digest.
    pub async fn push_layout(
        &self,
        dir: &Path,
        repository: &Repository,
        limits: &LayoutLimits,
        auth: &Auth,
    ) -> Result<Digest, Error> {
        let root = fs::canonicalize(dir).await.map_err(Error::disk("open the folder"))?;
        let version = read_small(&root.join("oci-layout")).await?;
        let version: serde_json::Value = serde_json::from_slice(&version).unwrap_or_default();
        if version.get("imageLayoutVersion").and_then(|v| v.as_str()) != Some("1.0.0") {
            return Err(invalid("an oci-layout file of version 1.0.0", &version.to_string()));
        }
        let index: ImageIndex = serde_json::from_slice(&read_small(&root.join("index.json")).await?)
            .map_err(|e| invalid("index.json to be an OCI index", &e.to_string()))?;
        let [entry] = index.manifests.as_slice() else {
            return Err(invalid(
                "one image in index.json",
                &format!("{} images", index.manifests.len()),
            ));
        };
        let blobs = real_folder(&root).await?;
        let manifest = read_manifest(&blobs, entry).await?;
        let Content::Image(image) = manifest.content(LAYOUT)? else {
            return Err(invalid("an image manifest", "an index below index.json"));
        };
        limits.allow(LAYOUT, &image)?;
        let parts: BTreeMap<_, _> = image
            .layers
            .iter()
            .chain([&image.config])
            .map(|blob| (&blob.digest, blob))
            .collect();
        for blob in parts.into_values() {
            self.push_file(&blobs, repository, blob, auth).await?;
        }
        let reference = Reference::Digest(manifest.digest.clone());
        self.put_manifest(repository, &reference, &manifest.media_type, manifest.bytes, auth)
            .await?;
        Ok(manifest.digest)
    }

    async fn push_file(
        &self,
        blobs: &Path,
        repository: &Repository,
        blob: &Descriptor,
        auth: &Auth,
    ) -> Result<(), Error> {
        if self.blob_exists(repository, &blob.digest, auth).await? {
            return Ok(());
        }
        let file = open_regular(&blobs.join(blob.digest.hex())).await?;
        let source = ReaderStream::with_capacity(file, 64 * 1024).map_err(Error::disk("read a blob"));
        let stream = checked_local(Box::pin(source), blob, self.options().read_timeout);
        if let Upload::Session(session) = self.start_upload(repository, None, auth).await? {
            self.upload(repository, session, stream, blob, auth).await?;
        }
        Ok(())
    }
}

fn layout_index(image: &ImageRef, platform: &Platform, manifest: &Manifest) -> Result<Vec<u8>, Error> {
    let name = image.tag.clone().unwrap_or_else(|| manifest.digest.short().to_owned());
    let entry = Descriptor {
        platform: Some(platform.clone()),
        annotations: BTreeMap::from([(REF_NAME.to_owned(), name)]),
        ..manifest.descriptor()
    };
    let index = ImageIndex {
        schema_version: 2,
        media_type: Some(super::manifest::OCI_INDEX.to_owned()),
        manifests: vec![entry],
        annotations: BTreeMap::new(),
    };
    serde_json::to_vec(&index).map_err(|e| invalid("an index that JSON can say", &e.to_string()))
}

fn invalid(expected: &'static str, found: &str) -> Error {
    Error::Layout {
        expected,
        found: bounded(&found.chars().take(200).collect::<String>()),
    }
}

/// Under a temporary name until the stream ended without an error.
async fn write_blob(blobs: &Path, digest: &Digest, mut stream: BlobStream) -> Result<(), Error> {
    let partial = blobs.join(format!(".{}.partial", digest.hex()));
    let mut file = fs::File::create(&partial).await.map_err(Error::disk("create a blob"))?;
    let written = async {
        while let Some(chunk) = stream.try_next().await? {
            file.write_all(&chunk).await.map_err(Error::disk("write a blob"))?;
        }
        file.flush().await.map_err(Error::disk("write a blob"))
    };
    if let Err(error) = written.await {
        // The first error is the one to tell; a left-over partial file is never read.
        drop(fs::remove_file(&partial).await);
        return Err(error);
    }
    fs::rename(&partial, blobs.join(digest.hex()))
        .await
        .map_err(Error::disk("name a blob"))
}

async fn write_small(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let partial = path.with_extension("partial");
    fs::write(&partial, bytes).await.map_err(Error::disk("write a file"))?;
    fs::rename(&partial, path).await.map_err(Error::disk("name a file"))
}

/// `blobs/sha256` as a real folder of the layout, not a link to somewhere else.
async fn real_folder(root: &Path) -> Result<PathBuf, Error> {
    let wanted = root.join("blobs").join("sha256");
    let real = fs::canonicalize(&wanted)
        .await
        .map_err(Error::disk("open blobs/sha256"))?;
    if real == wanted {
        Ok(wanted)
    } else {
        Err(invalid("blobs/sha256 to be a folder", "a symbolic link"))
    }
}

async fn open_regular(path: &Path) -> Result<fs::File, Error> {
    let kind = fs::symlink_metadata(path).await.map_err(Error::disk("find a file"))?;
    if !kind.is_file() {
        return Err(invalid("regular files", "a link, folder or device"));
    }
    fs::File::open(path).await.map_err(Error::disk("open a file"))
}

async fn read_small(path: &Path) -> Result<Bytes, Error> {
    let mut bytes = Vec::new();
    let file = open_regular(path).await?;
    file.take(MAX_DOCUMENT + 1)
        .read_to_end(&mut bytes)
        .await
        .map_err(Error::disk("read a file"))?;
    if bytes.len() as u64 > MAX_DOCUMENT {
        return Err(Error::TooLarge {
            host: LAYOUT.to_owned(),
            what: "a document (bytes)",
            limit: MAX_DOCUMENT,
        });
    }
    Ok(Bytes::from(bytes))
}

async fn read_manifest(blobs: &Path, entry: &Descriptor) -> Result<Manifest, Error> {
    let bytes = read_small(&blobs.join(entry.digest.hex())).await?;
    let manifest = Manifest::parse(LAYOUT, bytes, &entry.media_type)?;
    if manifest.digest == entry.digest {
        return Ok(manifest);
    }
    Err(Error::DigestMismatch {
        host: LAYOUT.to_owned(),
        what: "the manifest",
        expected: entry.digest.clone(),
        found: manifest.digest.to_string(),
    })
}
