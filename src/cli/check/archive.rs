//! An image in a tar archive, as an OCI layout: an OCI archive as it is, a `docker save` archive with a manifest made here.
//!
//! No name of the archive ever becomes a path on the disk: every file is kept under its own digest. Links are followed
//! within the archive only. Must not accept two entries of one name: readers disagree on which one counts.

use anyhow::{Context as _, bail, ensure};
use repave_checks::native::{Entry, EntryKind, Limits, entries};
use repave_core::digest::Digest;
use repave_oci::registry::Descriptor;
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read, Write as _},
    path::{Path, PathBuf},
};

/// Largest document of an image.
pub const MAX_DOCUMENT: u64 = 4 << 20;
/// Entries of an archive: some per layer.
const MAX_ENTRIES: u64 = 10_000;
/// Most links in a row.
const MAX_HOPS: usize = 8;

const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// The version of the layout that is written and read.
pub const OCI_LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// What was in an archive: its files are below `blobs/sha256` of the layout by their digests.
struct Contents {
    root: PathBuf,
    files: BTreeMap<String, Descriptor>,
    links: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    layers: Vec<String>,
}

/// Unpacks the archive into a layout at `root`; the result says whether its manifest was made here.
pub fn into_layout(archive: &Path, root: &Path) -> anyhow::Result<bool> {
    let contents = unpack(archive, root)?;
    let is_oci = contents.find("oci-layout")?.is_some() && contents.find("index.json")?.is_some();
    let index = if is_oci {
        contents.document("index.json")?
    } else {
        contents.docker_index()?
    };
    fs::write(root.join("index.json"), index)?;
    fs::write(root.join("oci-layout"), OCI_LAYOUT)?;
    Ok(!is_oci)
}

fn unpack(archive: &Path, root: &Path) -> anyhow::Result<Contents> {
    fs::create_dir_all(root.join("blobs/sha256"))?;
    let mut contents = Contents {
        root: root.to_owned(),
        files: BTreeMap::new(),
        links: BTreeMap::new(),
    };
    let limits = Limits {
        entries: MAX_ENTRIES,
        ..Limits::default()
    };
    entries(archive, &limits, &mut |entry, data| {
        // As text: the archive's own error keeps one line of it.
        contents
            .take(entry, data)
            .map_err(|error| io::Error::other(format!("{error:#}")))
    })?;
    Ok(contents)
}

impl Contents {
    fn take(&mut self, entry: &Entry, data: &mut dyn Read) -> anyhow::Result<()> {
        if entry.kind == EntryKind::Folder {
            return Ok(());
        }
        let name = plain("", &entry.name)?;
        ensure!(
            !self.files.contains_key(&name) && !self.links.contains_key(&name),
            "{name} is in the archive twice"
        );
        match &entry.kind {
            EntryKind::Folder => {}
            EntryKind::File(size) => {
                let stored = self.store(data, *size)?;
                let named = name.strip_prefix("blobs/sha256/");
                ensure!(
                    named.is_none_or(|named| named == stored.digest.hex()),
                    "{name}: its bytes have the digest {}: the archive is damaged or forged",
                    stored.digest
                );
                self.files.insert(name, stored);
            }
            EntryKind::Symlink(target) => {
                let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
                let target = plain(folder, target).with_context(|| format!("the link {name}"))?;
                self.links.insert(name, target);
            }
            EntryKind::HardLink(target) => {
                let target = plain("", target).with_context(|| format!("the link {name}"))?;
                self.links.insert(name, target);
            }
        }
        Ok(())
    }

    /// Keeps the bytes under their digest; the media type says how a layer is packed.
    fn store(&self, data: &mut dyn Read, size: u64) -> anyhow::Result<Descriptor> {
        let blobs = self.root.join("blobs/sha256");
        let partial = blobs.join(".partial");
        let mut file = fs::File::create(&partial)?;
        let (mut hash, mut buffer, mut head) = (Sha256::new(), vec![0_u8; 64 * 1024], Vec::new());
        loop {
            let read = data.read(&mut buffer)?;
            let Some(chunk) = buffer.get(..read).filter(|chunk| !chunk.is_empty()) else {
                break;
            };
            if head.len() < 4 {
                head.extend(chunk.iter().take(4));
            }
            hash.update(chunk);
            file.write_all(chunk)?;
        }
        let digest = Digest::from_hash(hash.finalize().as_slice());
        fs::rename(&partial, blobs.join(digest.hex()))?;
        let packing = match head.as_slice() {
            [0x1f, 0x8b, ..] => "+gzip",
            [0x28, 0xb5, 0x2f, 0xfd, ..] => "+zstd",
            _ => "",
        };
        let mut stored = Descriptor::of(&format!("{OCI_LAYER}{packing}"), b"");
        (stored.digest, stored.size) = (digest, size);
        Ok(stored)
    }

    /// A file by its name, through links.
    fn find(&self, name: &str) -> anyhow::Result<Option<&Descriptor>> {
        let mut name = plain("", name.as_bytes())?;
        for _ in 0..MAX_HOPS {
            if let Some(found) = self.files.get(&name) {
                return Ok(Some(found));
            }
            // Also a link to the folder that a file is in.
            let Some(next) = self.links.get(&name) else {
                return Ok(None);
            };
            name.clone_from(next);
        }
        bail!("{name}: more than {MAX_HOPS} links in a row in the archive")
    }

    fn needed(&self, name: &str) -> anyhow::Result<&Descriptor> {
        let shown = repave_core::report::bounded(name);
        let found = self.find(name)?;
        found.with_context(|| format!("the archive has no {shown}: save the image again, whole"))
    }

    fn document(&self, name: &str) -> anyhow::Result<Vec<u8>> {
        let found = self.needed(name)?;
        ensure!(
            found.size <= MAX_DOCUMENT,
            "{name}: expected at most {MAX_DOCUMENT} bytes"
        );
        Ok(fs::read(self.root.join("blobs/sha256").join(found.digest.hex()))?)
    }

    /// An index with a manifest of ours for the one image of a `docker save` archive.
    fn docker_index(&self) -> anyhow::Result<Vec<u8>> {
        ensure!(
            self.find("manifest.json")?.is_some(),
            "expected an OCI archive (oci-layout, index.json) or a docker save archive (manifest.json), found neither"
        );
        let images: Vec<DockerImage> = serde_json::from_slice(&self.document("manifest.json")?)
            .context("manifest.json: expected what docker save writes")?;
        let [image] = images.as_slice() else {
            bail!(
                "expected one image in the archive, found {}: save one alone",
                images.len()
            );
        };
        // A config that is no document would be read later without this bound.
        self.document(&image.config)?;
        let config = self.needed(&image.config)?;
        let layers: anyhow::Result<Vec<&Descriptor>> = image.layers.iter().map(|layer| self.needed(layer)).collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": repave_oci::registry::manifest::OCI_MANIFEST,
            "config": {"mediaType": OCI_CONFIG, "digest": config.digest, "size": config.size},
            "layers": layers?,
        })
        .to_string();
        let entry = Descriptor::of(repave_oci::registry::manifest::OCI_MANIFEST, manifest.as_bytes());
        fs::write(self.root.join("blobs/sha256").join(entry.digest.hex()), manifest)?;
        Ok(json!({"schemaVersion": 2, "manifests": [entry]})
            .to_string()
            .into_bytes())
    }
}

/// A path within the archive, from a folder in it; one that leads out of it is refused.
fn plain(folder: &str, name: &[u8]) -> anyhow::Result<String> {
    let shown = || repave_core::report::bounded(&String::from_utf8_lossy(name));
    let text = std::str::from_utf8(name)
        .ok()
        .with_context(|| format!("{}: expected a name in UTF-8", shown()))?;
    ensure!(
        !text.starts_with('/') && text.len() <= 1000,
        "{}: expected a relative path within the archive",
        shown()
    );
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => ensure!(parts.pop().is_some(), "{} leads out of the archive", shown()),
            part => parts.push(part),
        }
    }
    ensure!(!parts.is_empty(), "{}: expected the name of a file", shown());
    Ok(parts.join("/"))
}
