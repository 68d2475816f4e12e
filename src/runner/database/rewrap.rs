//! From the makers' archive to an OCI layout with one layer: `/6/…` for Grype, `/db/…` for Trivy.
//!
//! Streams: the database is never unpacked to disk. Must not write anything but the files that the scanner reads, and
//! must not believe a size or a name in the archive.

use super::{super::deliver::Failure, source::Found};
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use jiff::Timestamp;
use repave_checks::scanner::Scanner;
use repave_core::digest::Digest;
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::{
    fs::{self, File},
    hash::Hasher as _,
    io::{self, BufReader, BufWriter, Read, Write},
    path::Path,
};
use twox_hash::XxHash64;

/// Most bytes of an unpacked database.
const MAX_UNPACKED: u64 = 8 << 30;

/// Most bytes of Trivy's metadata.
const MAX_METADATA: u64 = 64 * 1024;

/// Most entries of an archive.
const MAX_ENTRIES: usize = 100;

/// What was made.
#[derive(Debug)]
pub(super) struct RewrappedLayer {
    /// When the database was built.
    pub(super) built: Timestamp,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Metadata {
    version: u32,
    updated_at: Timestamp,
}

/// Counts and hashes what passes through.
struct Hashed<W> {
    inner: W,
    hash: Sha256,
    size: u64,
}

impl<W: Write> Hashed<W> {
    fn new(inner: W) -> Self {
        Self {
            inner,
            hash: Sha256::new(),
            size: 0,
        }
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(bytes.get(..written).unwrap_or_default());
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// The same hash that Grype checks a database by.
struct XxHashed<R> {
    inner: R,
    hash: XxHash64,
}

impl<R: Read> Read for XxHashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hash.write(buffer.get(..read).unwrap_or_default());
        Ok(read)
    }
}

type Layer = tar::Builder<Hashed<GzEncoder<Hashed<BufWriter<File>>>>>;

/// Makes the layout.
pub(super) fn rewrap(
    scanner: Scanner,
    found: &Found,
    archive: &Path,
    layout: &Path,
    annotation: &str,
) -> Result<RewrappedLayer, Failure> {
    let blobs = layout.join("blobs/sha256");
    let disk = |error: io::Error| format!("the layout cannot be written: {error}");
    fs::create_dir_all(&blobs).map_err(disk)?;
    let partial = blobs.join(".layer");
    let file = BufWriter::new(File::create(&partial).map_err(disk)?);
    let packed = GzEncoder::new(Hashed::new(file), Compression::fast());
    let mut layer = tar::Builder::new(Hashed::new(packed));
    let torn = |error: io::Error| format!("the archive of {} cannot be read: {error}", found.place);
    let unpacked = unpack(archive).map_err(torn)?;
    let built = match scanner {
        Scanner::Grype => grype(&mut layer, unpacked, found)?,
        Scanner::Trivy => trivy(&mut layer, unpacked, found)?,
    };
    let plain = layer.into_inner().map_err(disk)?;
    let diff_id = Digest::from_hash(&plain.hash.finalize());
    let mut packed = plain.inner.finish().map_err(disk)?;
    packed.flush().map_err(disk)?;
    let (digest, size) = (Digest::from_hash(&packed.hash.finalize()), packed.size);
    fs::rename(&partial, blobs.join(digest.hex())).map_err(disk)?;
    describe(layout, scanner, found, annotation, built, (&digest, size, &diff_id)).map_err(disk)?;
    Ok(RewrappedLayer { built })
}

/// The archive's tar, by its first bytes: gzip or zstd.
fn unpack(archive: &Path) -> io::Result<Box<dyn Read>> {
    let mut magic = [0; 4];
    File::open(archive)?.read_exact(&mut magic)?;
    let file = BufReader::new(File::open(archive)?);
    let unpacked: Box<dyn Read> = match magic {
        [0x1f, 0x8b, ..] => Box::new(GzDecoder::new(file)),
        [0x28, 0xb5, 0x2f, 0xfd] => {
            let decoder = ruzstd::decoding::StreamingDecoder::new(file);
            Box::new(decoder.map_err(|error| io::Error::other(error.to_string()))?)
        }
        _ => return Err(io::Error::other("expected gzip or zstd")),
    };
    Ok(Box::new(unpacked.take(MAX_UNPACKED)))
}

fn folder(layer: &mut Layer, name: &str) -> io::Result<()> {
    let mut header = header(0, 0o755);
    header.set_entry_type(tar::EntryType::Directory);
    layer.append_data(&mut header, name, io::empty())
}

/// The same for the same content: no time, no owner.
fn header(size: u64, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_size(size);
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// Calls `each` for every regular file, by its name without folders.
fn files(
    unpacked: Box<dyn Read>,
    found: &Found,
    mut each: impl FnMut(&str, u64, &mut dyn Read) -> io::Result<()>,
) -> Result<(), Failure> {
    let torn = |error: io::Error| format!("the archive of {} cannot be read: {error}", found.place);
    let mut archive = tar::Archive::new(unpacked);
    for (number, entry) in archive.entries().map_err(torn)?.enumerate() {
        if number >= MAX_ENTRIES {
            return Err(format!("the archive of {} has more than {MAX_ENTRIES} entries", found.place).into());
        }
        let mut entry = entry.map_err(torn)?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let path = entry.path().map_err(torn)?.into_owned();
        let size = entry.size();
        if let Some(name) = path.file_name().and_then(|name| name.to_str()) {
            each(name, size, &mut entry).map_err(torn)?;
        }
    }
    Ok(())
}

fn once(seen: &mut bool, name: &str) -> io::Result<()> {
    if std::mem::replace(seen, true) {
        return Err(io::Error::other(format!("{name} is there twice")));
    }
    Ok(())
}

fn missing(found: &Found, names: &str) -> Failure {
    format!("expected {names} in the archive of {}, found no such file", found.place).into()
}

fn grype(layer: &mut Layer, unpacked: Box<dyn Read>, found: &Found) -> Result<Timestamp, Failure> {
    let disk = |error: io::Error| format!("the layer cannot be written: {error}");
    folder(layer, "6/").map_err(disk)?;
    let (mut seen, mut hash) = (false, 0);
    files(unpacked, found, |name, size, file| {
        if name != "vulnerability.db" {
            return Ok(());
        }
        once(&mut seen, name)?;
        let mut hashed = XxHashed {
            inner: file,
            hash: XxHash64::with_seed(0),
        };
        layer.append_data(&mut header(size, 0o644), "6/vulnerability.db", &mut hashed)?;
        hash = hashed.hash.finish();
        Ok(())
    })?;
    let (true, Some(built), Some(schema)) = (seen, found.built, &found.schema) else {
        return Err(missing(found, "vulnerability.db"));
    };
    // What `grype db import` writes: without it Grype takes the database for a broken one.
    let import = json!({"digest": format!("xxh64:{hash:016x}"), "source": found.place, "client_version": schema});
    let import = import.to_string();
    layer
        .append_data(
            &mut header(import.len() as u64, 0o644),
            "6/import.json",
            import.as_bytes(),
        )
        .map_err(disk)?;
    Ok(built)
}

fn trivy(layer: &mut Layer, unpacked: Box<dyn Read>, found: &Found) -> Result<Timestamp, Failure> {
    let disk = |error: io::Error| format!("the layer cannot be written: {error}");
    folder(layer, "db/").map_err(disk)?;
    let (mut database, mut described, mut metadata) = (false, false, Vec::new());
    files(unpacked, found, |name, size, file| match name {
        "trivy.db" => {
            once(&mut database, name)?;
            layer.append_data(&mut header(size, 0o644), "db/trivy.db", file)
        }
        "metadata.json" if size <= MAX_METADATA => {
            once(&mut described, name)?;
            file.take(MAX_METADATA).read_to_end(&mut metadata)?;
            layer.append_data(&mut header(size, 0o644), "db/metadata.json", metadata.as_slice())
        }
        _ => Ok(()),
    })?;
    if !database || !described {
        return Err(missing(found, "trivy.db and metadata.json"));
    }
    let metadata: Metadata = serde_json::from_slice(&metadata)
        .map_err(|error| format!("the metadata.json of {} cannot be read: {error}", found.place))?;
    if metadata.version != 2 {
        return Err(format!(
            "expected a database of schema 2 at {}, found {}",
            found.place, metadata.version
        )
        .into());
    }
    Ok(metadata.updated_at)
}

/// Configuration, manifest and index around the layer.
fn describe(
    layout: &Path,
    scanner: Scanner,
    found: &Found,
    annotation: &str,
    built: Timestamp,
    (layer, size, diff_id): (&Digest, u64, &Digest),
) -> io::Result<()> {
    let blob = |bytes: &[u8]| {
        let digest = Digest::of(bytes);
        fs::write(layout.join("blobs/sha256").join(digest.hex()), bytes).map(|()| digest)
    };
    // The platform means nothing for files that are only mounted; runtimes want to see one.
    let config = json!({
        "architecture": "amd64", "os": "linux", "created": built, "config": {},
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
    })
    .to_string();
    let config_digest = blob(config.as_bytes())?;
    let media = |kind: &str| format!("application/vnd.oci.image.{kind}");
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media("manifest.v1+json"),
        "config": {"mediaType": media("config.v1+json"), "digest": config_digest, "size": config.len()},
        "layers": [{"mediaType": media("layer.v1.tar+gzip"), "digest": layer, "size": size}],
        "annotations": {
            annotation: found.digest,
            "org.opencontainers.image.created": built,
            "org.opencontainers.image.title": format!("vulnerability database of {}", scanner.name()),
            "org.opencontainers.image.source": found.place,
        },
    })
    .to_string();
    let digest = blob(manifest.as_bytes())?;
    let index = json!({
        "schemaVersion": 2, "mediaType": media("index.v1+json"),
        "manifests": [{"mediaType": media("manifest.v1+json"), "digest": digest, "size": manifest.len()}],
    });
    fs::write(layout.join("index.json"), index.to_string())?;
    fs::write(layout.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)
}
