//! Images made for a measurement: a clean one with further layers and another configuration, as an OCI layout.
//!
//! Must not change the clean image: its blobs are linked, never written.

use super::measure::Call;
use anyhow::{Context as _, Result};
use flate2::{Compression, write::GzEncoder};
use repave::domain::digest::Digest;
use serde_json::{Value, json};
use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// The digest of the one image of a layout.
pub fn digest(layout: &Path) -> Result<Digest> {
    let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json"))?)?;
    let text = index.pointer("/manifests/0/digest").and_then(Value::as_str);
    text.and_then(|text| text.parse().ok())
        .context("an index without an image")
}

/// The file of a blob.
pub fn blob(layout: &Path, digest: &str) -> PathBuf {
    layout.join("blobs/sha256").join(digest.trim_start_matches("sha256:"))
}

/// The manifest of the one image of a layout.
pub fn manifest(layout: &Path) -> Result<Value> {
    let path = blob(layout, digest(layout)?.as_str());
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

/// The files of the layers, lowest first.
pub fn layers(layout: &Path) -> Result<Vec<PathBuf>> {
    let manifest = manifest(layout)?;
    let layers = manifest.get("layers").and_then(Value::as_array).context("no layers")?;
    let digests = layers.iter().filter_map(|layer| layer.get("digest")?.as_str());
    Ok(digests.map(|digest| blob(layout, digest)).collect())
}

/// The configuration of the one image of a layout.
pub fn config(layout: &Path) -> Result<Value> {
    let manifest = manifest(layout)?;
    let digest = manifest.pointer("/config/digest").and_then(Value::as_str);
    Ok(serde_json::from_slice(&fs::read(blob(
        layout,
        digest.context("no config")?,
    ))?)?)
}

/// Writes a layout: the layers of `base`, these layers (tar) on top, and this configuration.
pub fn derive(base: &Path, into: &Path, tars: &[Vec<u8>], mut config: Value) -> Result<Digest> {
    let blobs = into.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    let mut layers = manifest(base)?
        .get("layers")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    for file in self::layers(base)? {
        fs::hard_link(&file, blobs.join(file.file_name().unwrap_or_default()))?;
    }
    let write = |bytes: &[u8]| -> Result<Digest> {
        let digest = Digest::of(bytes);
        fs::write(blobs.join(digest.hex()), bytes)?;
        Ok(digest)
    };
    for tar in tars {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(tar)?;
        let packed = gzip.finish()?;
        layers.push(json!({"mediaType": LAYER, "digest": write(&packed)?, "size": packed.len()}));
        let ids = config.pointer_mut("/rootfs/diff_ids").and_then(Value::as_array_mut);
        ids.context("no diff_ids")?.push(json!(Digest::of(tar)));
    }
    let config = serde_json::to_vec(&config)?;
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": write(&config)?, "size": config.len()},
        "layers": layers,
    }))?;
    let digest = write(&manifest)?;
    let entry = json!({"mediaType": MANIFEST, "digest": digest, "size": manifest.len(),
        "platform": {"architecture": "amd64", "os": "linux"}});
    fs::write(
        into.join("index.json"),
        json!({"schemaVersion": 2, "manifests": [entry]}).to_string(),
    )?;
    fs::write(into.join("oci-layout"), "{\"imageLayoutVersion\":\"1.0.0\"}")?;
    Ok(digest)
}

/// Unpacks all layers with owners, modes and extended attributes, honouring whiteouts.
pub fn unpack(layout: &Path, into: &Path) -> Result<()> {
    fs::create_dir_all(into)?;
    for layer in layers(layout)? {
        let list = Call::new(["tar".into(), "-tzf".into(), layer.clone().into_os_string()]).output()?;
        for name in String::from_utf8_lossy(&list).lines() {
            whiteout(into, name.trim_start_matches("./").trim_end_matches('/'))?;
        }
        let mut words: Vec<std::ffi::OsString> = vec!["tar".into(), "-xzpf".into(), layer.into(), "-C".into()];
        words.push(into.into());
        words.extend(["--numeric-owner", "--xattrs", "--xattrs-include=*", "--exclude=.wh.*"].map(Into::into));
        Call::new(words).output()?;
    }
    Ok(())
}

/// Removes what a name of the form `.wh.…` removes.
fn whiteout(root: &Path, name: &str) -> Result<()> {
    let (folder, file) = name.rsplit_once('/').unwrap_or(("", name));
    let Some(hidden) = file.strip_prefix(".wh.") else {
        return Ok(());
    };
    let folder = root.join(folder);
    let targets: Vec<PathBuf> = if hidden == ".wh..opq" {
        fs::read_dir(&folder)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .collect()
    } else {
        vec![folder.join(hidden)]
    };
    for target in targets {
        match fs::symlink_metadata(&target) {
            Ok(found) if found.is_dir() => fs::remove_dir_all(&target)?,
            Ok(_) => fs::remove_file(&target)?,
            Err(_) => {}
        }
    }
    Ok(())
}
