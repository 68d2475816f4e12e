//! Makes the layout to push out of the layout that buildah wrote: layers of the base keep the base's own compressed
//! blobs (a registry has them already), new layers are compressed.
//!
//! Must not change what the image is: the config, and with it every diff ID, stays byte for byte the same, and a blob
//! whose content is not what its descriptor says is refused.

use flate2::{Compression, write::GzEncoder};
use repave_core::digest::Digest;
use repave_oci::registry::{Descriptor, ImageIndex, ImageManifest};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use std::{
    fs,
    io::{self, Read as _, Write},
    path::{Path, PathBuf},
};

const MAX_DOCUMENT: u64 = 4 << 20;
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const LAYER_TAR: &str = "application/vnd.oci.image.layer.v1.tar";
const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const DOCKER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

#[derive(Deserialize)]
struct Config {
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<Digest>,
}

/// A layout with one image.
struct Layout {
    blobs: PathBuf,
    entry: Descriptor,
    manifest: ImageManifest,
    diff_ids: Vec<Digest>,
}

impl Layout {
    fn open(dir: &Path) -> Result<Self, String> {
        let blobs = dir.join("blobs").join("sha256");
        let index: ImageIndex = parse(&document(&dir.join("index.json"))?, "index.json")?;
        let [entry] = index.manifests.as_slice() else {
            return Err(format!(
                "expected one image in {}, found {}",
                dir.display(),
                index.manifests.len()
            ));
        };
        let manifest: ImageManifest = parse(&checked(&blobs, &entry.digest)?, "the manifest")?;
        let config: Config = parse(&checked(&blobs, &manifest.config.digest)?, "the config")?;
        let (layers, ids) = (manifest.layers.len(), config.rootfs.diff_ids.len());
        if layers != ids {
            return Err(format!("expected as many layers as diff IDs, found {layers} and {ids}"));
        }
        Ok(Self {
            blobs,
            entry: entry.clone(),
            manifest,
            diff_ids: config.rootfs.diff_ids,
        })
    }
}

fn parse<T: for<'de> Deserialize<'de>>(bytes: &[u8], what: &str) -> Result<T, String> {
    serde_json::from_slice(bytes).map_err(|error| format!("{what} cannot be read: {error}"))
}

fn at<E: std::fmt::Display>(path: &Path) -> impl Fn(E) -> String {
    let path = path.display().to_string();
    move |error| format!("{path}: {error}")
}

fn regular(path: &Path) -> Result<fs::File, String> {
    if !fs::symlink_metadata(path).map_err(at(path))?.is_file() {
        return Err(format!("{} is not a regular file", path.display()));
    }
    fs::File::open(path).map_err(at(path))
}

fn document(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    regular(path)?
        .take(MAX_DOCUMENT + 1)
        .read_to_end(&mut bytes)
        .map_err(at(path))?;
    if bytes.len() as u64 > MAX_DOCUMENT {
        return Err(format!("{} has more than {MAX_DOCUMENT} bytes", path.display()));
    }
    Ok(bytes)
}

fn checked(blobs: &Path, digest: &Digest) -> Result<Vec<u8>, String> {
    let bytes = document(&blobs.join(digest.hex()))?;
    let found = Digest::of(&bytes);
    if found == *digest {
        Ok(bytes)
    } else {
        Err(format!("expected {digest}, found {found}"))
    }
}

/// Writes the layout `out` and returns its manifest's digest.
pub fn repack(built: &Path, base: &Path, out: &Path) -> Result<Digest, String> {
    let (built, base) = (Layout::open(built)?, Layout::open(base)?);
    let blobs = out.join("blobs").join("sha256");
    fs::create_dir_all(&blobs).map_err(at(&blobs))?;
    let mut manifest = built.manifest.clone();
    let mut of_base = true;
    for (n, (layer, diff_id)) in manifest.layers.iter_mut().zip(&built.diff_ids).enumerate() {
        // Layers are shared from the bottom: after the first difference nothing is the base's any more.
        of_base &= base.diff_ids.get(n) == Some(diff_id);
        *layer = match base.manifest.layers.get(n) {
            Some(known) if of_base => keep(known, &base.blobs, &blobs)?,
            Some(_) | None if layer.media_type == LAYER_TAR => compress(layer, &built.blobs, &blobs)?,
            Some(_) | None => keep(layer, &built.blobs, &blobs)?,
        };
    }
    manifest.media_type = Some(OCI_MANIFEST.to_owned());
    write(&blobs, &checked(&built.blobs, &manifest.config.digest)?)?;
    let bytes = serde_json::to_vec(&manifest).map_err(|error| error.to_string())?;
    let digest = write(&blobs, &bytes)?;
    let entry = Descriptor {
        media_type: OCI_MANIFEST.to_owned(),
        digest: digest.clone(),
        size: bytes.len() as u64,
        platform: base.entry.platform,
        ..built.entry
    };
    finish(out, entry)?;
    Ok(digest)
}

fn finish(out: &Path, entry: Descriptor) -> Result<(), String> {
    let index = ImageIndex {
        schema_version: 2,
        media_type: Some(OCI_INDEX.to_owned()),
        manifests: vec![entry],
        annotations: std::collections::BTreeMap::new(),
    };
    let index = serde_json::to_vec(&index).map_err(|error| error.to_string())?;
    fs::write(out.join("index.json"), index).map_err(at(out))?;
    // Last: without it the folder is no layout.
    fs::write(out.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#).map_err(at(out))
}

fn write(blobs: &Path, bytes: &[u8]) -> Result<Digest, String> {
    let digest = Digest::of(bytes);
    let path = blobs.join(digest.hex());
    fs::write(&path, bytes).map_err(at(&path))?;
    Ok(digest)
}

/// The blob as it is, hashed on the way.
fn keep(layer: &Descriptor, from: &Path, to: &Path) -> Result<Descriptor, String> {
    let target = to.join(layer.digest.hex());
    let mut file = fs::File::create(&target).map_err(at(&target))?;
    let (found, _) = copy(&from.join(layer.digest.hex()), &mut file)?;
    expect(&layer.digest, &found)?;
    let media_type = if layer.media_type == DOCKER_GZIP {
        LAYER_GZIP
    } else {
        &layer.media_type
    };
    Ok(Descriptor {
        media_type: media_type.to_owned(),
        ..layer.clone()
    })
}

fn compress(layer: &Descriptor, from: &Path, to: &Path) -> Result<Descriptor, String> {
    let partial = to.join(format!("{}.partial", layer.digest.hex()));
    let file = fs::File::create(&partial).map_err(at(&partial))?;
    let mut encoder = GzEncoder::new(Hashing::new(file), Compression::default());
    let (found, _) = copy(&from.join(layer.digest.hex()), &mut encoder)?;
    expect(&layer.digest, &found)?;
    let hashing = encoder.finish().map_err(at(&partial))?;
    let (digest, size) = (Digest::from_hash(hashing.hash.finalize().as_slice()), hashing.bytes);
    fs::rename(&partial, to.join(digest.hex())).map_err(at(&partial))?;
    Ok(Descriptor {
        media_type: LAYER_GZIP.to_owned(),
        digest,
        size,
        ..layer.clone()
    })
}

fn expect(expected: &Digest, found: &Digest) -> Result<(), String> {
    if expected == found {
        Ok(())
    } else {
        Err(format!("expected a layer {expected}, found {found}"))
    }
}

fn copy(from: &Path, to: &mut impl Write) -> Result<(Digest, u64), String> {
    let mut source = regular(from)?;
    let mut hashing = Hashing::new(to);
    io::copy(&mut source, &mut hashing).map_err(at(from))?;
    hashing.flush().map_err(at(from))?;
    Ok((Digest::from_hash(hashing.hash.finalize().as_slice()), hashing.bytes))
}

/// Hashes and counts what is written through it.
struct Hashing<W> {
    inner: W,
    hash: Sha256,
    bytes: u64,
}

impl<W> Hashing<W> {
    fn new(inner: W) -> Self {
        Self {
            inner,
            hash: Sha256::new(),
            bytes: 0,
        }
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A layout of these uncompressed layers; the first `packed` of them are stored as gzip.
    fn layout(dir: &Path, layers: &[&[u8]], packed: usize) {
        let blobs = dir.join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        let descriptor = |media_type: &str, bytes: &[u8]| json!({"mediaType": media_type, "digest": write(&blobs, bytes).unwrap(), "size": bytes.len()});
        let stored: Vec<_> = layers
            .iter()
            .enumerate()
            .map(|(n, layer)| {
                if n >= packed {
                    return descriptor(LAYER_TAR, layer);
                }
                let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(layer).unwrap();
                descriptor(DOCKER_GZIP, &encoder.finish().unwrap())
            })
            .collect();
        let diff_ids: Vec<Digest> = layers.iter().map(|layer| Digest::of(layer)).collect();
        let config =
            json!({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        let config = descriptor(
            "application/vnd.oci.image.config.v1+json",
            &serde_json::to_vec(&config).unwrap(),
        );
        let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": stored});
        let entry = descriptor(OCI_MANIFEST, &serde_json::to_vec(&manifest).unwrap());
        fs::write(
            dir.join("index.json"),
            serde_json::to_vec(&json!({"schemaVersion": 2, "manifests": [entry]})).unwrap(),
        )
        .unwrap();
    }

    #[test]
    fn layers_of_the_base_keep_its_blobs_and_new_ones_are_compressed() {
        let dir = tempfile::tempdir().unwrap();
        let (base, built, out) = (
            dir.path().join("base"),
            dir.path().join("built"),
            dir.path().join("out"),
        );
        layout(&base, &[b"one", b"two"], 2);
        layout(&built, &[b"one", b"two", b"three"], 0);
        let digest = repack(&built, &base, &out).unwrap();
        let (base, built, out) = (
            Layout::open(&base).unwrap(),
            Layout::open(&built).unwrap(),
            Layout::open(&out).unwrap(),
        );
        assert_eq!(out.entry.digest, digest);
        assert_eq!(out.manifest.config, built.manifest.config);
        let digests = |layers: &[Descriptor]| layers.iter().map(|layer| layer.digest.clone()).collect::<Vec<_>>();
        assert_eq!(digests(&out.manifest.layers[..2]), digests(&base.manifest.layers));
        assert!(out.manifest.layers.iter().all(|layer| layer.media_type == LAYER_GZIP));
        let new = &out.manifest.layers[2];
        let mut text = Vec::new();
        let packed = fs::read(out.blobs.join(new.digest.hex())).unwrap();
        flate2::read::GzDecoder::new(packed.as_slice())
            .read_to_end(&mut text)
            .unwrap();
        assert_eq!(
            (text.as_slice(), new.size, Digest::of(&packed)),
            (b"three".as_slice(), packed.len() as u64, new.digest.clone())
        );
    }

    #[test]
    fn the_same_build_gives_the_same_digest() {
        let dir = tempfile::tempdir().unwrap();
        let (base, built) = (dir.path().join("base"), dir.path().join("built"));
        layout(&base, &[b"one"], 1);
        layout(&built, &[b"one", b"three"], 0);
        assert_eq!(
            repack(&built, &base, &dir.path().join("a")),
            repack(&built, &base, &dir.path().join("b"))
        );
    }

    #[test]
    fn a_blob_that_is_not_what_its_descriptor_says_or_a_link_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (base, built, out) = (
            dir.path().join("base"),
            dir.path().join("built"),
            dir.path().join("out"),
        );
        layout(&base, &[b"one"], 0);
        layout(&built, &[b"one", b"three"], 0);
        let blob = built.join("blobs/sha256").join(Digest::of(b"three").hex());
        fs::write(&blob, b"four").unwrap();
        assert!(repack(&built, &base, &out).unwrap_err().contains("expected a layer"));
        fs::remove_file(&blob).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &blob).unwrap();
        assert!(repack(&built, &base, &out).unwrap_err().contains("not a regular file"));
        assert!(!out.join("oci-layout").exists(), "a failed layout must not look whole");
    }
}
