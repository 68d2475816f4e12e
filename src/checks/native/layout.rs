//! Reading an OCI image layout: index, manifest and configuration, each bounded and checked against its digest.
//!
//! Must not follow a link out of the layout and must not choose between images: a layout holds exactly one.

use super::blob::Hashing;
use super::error::NativeError;
use super::limits::Limits;
use repave_core::digest::Digest;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

const DOCUMENT_BYTES: u64 = 4 << 20;

/// A reference to a blob.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
}

#[derive(Debug, Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Debug, Deserialize)]
struct Manifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

/// What is read of the image's configuration.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ImageConfig {
    #[serde(default)]
    os: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub created: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub config: RunConfig,
    #[serde(default, deserialize_with = "null_is_default")]
    pub history: Vec<History>,
    rootfs: RootFs,
}

impl ImageConfig {
    /// How many layers it has.
    pub fn layers(&self) -> u64 {
        self.rootfs.diff_ids.len() as u64
    }
}

/// One step of the build, as the builder wrote it down.
#[derive(Debug, Default, Deserialize)]
pub(super) struct History {
    #[serde(default, deserialize_with = "null_is_default")]
    pub created_by: String,
}

/// How the image starts.
#[derive(Debug, Default, Deserialize)]
pub(super) struct RunConfig {
    #[serde(rename = "User", default, deserialize_with = "null_is_default")]
    pub user: String,
    #[serde(rename = "Env", default, deserialize_with = "null_is_default")]
    pub env: Vec<String>,
    #[serde(rename = "ExposedPorts", default, deserialize_with = "null_is_default")]
    pub exposed_ports: BTreeMap<String, serde_json::Value>,
    #[serde(rename = "Volumes", default, deserialize_with = "null_is_default")]
    pub volumes: BTreeMap<String, serde_json::Value>,
    #[serde(rename = "Labels", default, deserialize_with = "null_is_default")]
    pub labels: BTreeMap<String, String>,
    #[serde(rename = "Entrypoint", default, deserialize_with = "null_is_default")]
    pub entrypoint: Vec<String>,
    #[serde(rename = "Cmd", default, deserialize_with = "null_is_default")]
    pub cmd: Vec<String>,
    #[serde(rename = "Healthcheck", default)]
    pub healthcheck: Option<Healthcheck>,
}

/// How Docker asks whether the program is well.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Healthcheck {
    #[serde(rename = "Test", default, deserialize_with = "null_is_default")]
    pub test: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
struct RootFs {
    diff_ids: Vec<Digest>,
}

fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// One layer: its blob, and the digest that its unpacked bytes must have.
#[derive(Debug)]
pub(super) struct Layer {
    pub blob: Descriptor,
    pub diff_id: Digest,
}

/// The one image of a layout.
#[derive(Debug)]
pub(super) struct Image {
    pub digest: Digest,
    pub config: ImageConfig,
    pub layers: Vec<Layer>,
    root: PathBuf,
}

impl Image {
    pub fn open(root: &Path, limits: &Limits) -> Result<Self, NativeError> {
        let marker: BTreeMap<String, serde_json::Value> = parse("oci-layout", &read_file(root, "oci-layout")?, &[])?;
        if marker.get("imageLayoutVersion").and_then(|v| v.as_str()) != Some("1.0.0") {
            return Err(NativeError::malformed(
                "oci-layout",
                "expected imageLayoutVersion 1.0.0; write the image as an OCI layout",
            ));
        }
        let index: Index = parse("index.json", &read_file(root, "index.json")?, &["manifests"])?;
        let [descriptor] = index.manifests.as_slice() else {
            return Err(NativeError::malformed(
                "index.json",
                format!(
                    "expected one image, found {}; copy one platform by digest",
                    index.manifests.len()
                ),
            ));
        };
        if !descriptor.media_type.contains("manifest.v") {
            return Err(NativeError::Unsupported {
                why: format!(
                    "expected an image manifest in index.json, found {:?}; copy one platform by digest",
                    descriptor.media_type.chars().take(100).collect::<String>()
                ),
            });
        }
        let known = ["config", "layers"];
        let manifest: Manifest = parse("the manifest", &read_blob(root, "the manifest", descriptor)?, &known)?;
        let bytes = read_blob(root, "the configuration", &manifest.config)?;
        let config: ImageConfig = parse(
            "the configuration",
            &bytes,
            &["os", "created", "config", "history", "rootfs"],
        )?;
        let layers = pair_layers(manifest.layers, &config, limits)?;
        Ok(Self {
            digest: descriptor.digest.clone(),
            config,
            layers,
            root: root.to_owned(),
        })
    }

    /// Opens a layer's blob, of exactly the size that the manifest states.
    pub fn open_layer(&self, index: usize, layer: &Layer) -> Result<File, NativeError> {
        open_blob(&self.root, &format!("layer {index}"), &layer.blob)
    }
}

fn pair_layers(blobs: Vec<Descriptor>, config: &ImageConfig, limits: &Limits) -> Result<Vec<Layer>, NativeError> {
    if config.os != "linux" {
        let os: String = config.os.chars().take(100).collect();
        return Err(NativeError::Unsupported {
            why: format!("expected an image for linux, found os {os:?}; only linux images are examined"),
        });
    }
    let diff_ids = &config.rootfs.diff_ids;
    if blobs.len() != diff_ids.len() {
        return Err(NativeError::malformed(
            "the manifest",
            format!(
                "expected {} layers as in the configuration, found {}",
                diff_ids.len(),
                blobs.len()
            ),
        ));
    }
    if blobs.len() as u64 > limits.layers {
        return Err(NativeError::Limit {
            what: "layers".into(),
            allowed: limits.layers,
        });
    }
    if let Some(blob) = blobs.iter().find(|b| !is_layer_type(&b.media_type)) {
        return Err(NativeError::Unsupported {
            why: format!(
                "expected a tar layer, found media type {:?}; push the image without encryption or foreign layers",
                blob.media_type.chars().take(100).collect::<String>()
            ),
        });
    }
    let pairs = blobs.into_iter().zip(diff_ids.iter().cloned());
    Ok(pairs.map(|(blob, diff_id)| Layer { blob, diff_id }).collect())
}

fn is_layer_type(media_type: &str) -> bool {
    let plain = ["+gzip", "+zstd", ".gzip", ".zstd"]
        .iter()
        .find_map(|suffix| media_type.strip_suffix(suffix))
        .unwrap_or(media_type);
    matches!(
        plain,
        "application/vnd.oci.image.layer.v1.tar"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar"
            | "application/vnd.docker.image.rootfs.diff.tar"
    )
}

/// Strict JSON. Go matches keys without regard to case, we do not: a twin of a key that is read would let the runtime
/// see another image, so it is refused.
fn parse<T: DeserializeOwned>(what: &str, bytes: &[u8], known: &[&str]) -> Result<T, NativeError> {
    let broken = |e: serde_json::Error| NativeError::malformed(what, format!("expected the JSON of an OCI image: {e}"));
    let value: serde_json::Value = serde_json::from_slice(bytes).map_err(broken)?;
    reject_case_duplicates(what, &value, known)?;
    if let Some(config) = value.get("config").filter(|_| known.contains(&"rootfs")) {
        let read = [
            "User",
            "Env",
            "ExposedPorts",
            "Volumes",
            "Labels",
            "Entrypoint",
            "Cmd",
            "Healthcheck",
        ];
        reject_case_duplicates(what, config, &read)?;
    }
    // From the bytes and not from the value: the value has already dropped duplicate keys, this refuses them.
    serde_json::from_slice(bytes).map_err(broken)
}

/// Each document of an image by itself, for fuzzing.
#[cfg(feature = "fuzzing")]
pub(super) fn documents(bytes: &[u8], limits: &Limits) {
    let index = parse::<Index>("index.json", bytes, &["manifests"]);
    let manifest = parse::<Manifest>("the manifest", bytes, &["config", "layers"]);
    let config = parse::<ImageConfig>("the configuration", bytes, &["rootfs", "config", "history"]);
    if let (Ok(manifest), Ok(config)) = (manifest, &config)
        && let Ok(layers) = pair_layers(manifest.layers, config, limits)
    {
        assert!(layers.len() as u64 <= limits.layers);
    }
    assert!(
        index.is_err() || config.is_err(),
        "one document is both an index and a configuration"
    );
}

fn reject_case_duplicates(what: &str, value: &serde_json::Value, known: &[&str]) -> Result<(), NativeError> {
    let keys = value.as_object().into_iter().flat_map(|object| object.keys());
    for key in keys {
        if let Some(twin) = known.iter().find(|k| k.eq_ignore_ascii_case(key) && *k != key) {
            return Err(NativeError::malformed(
                what,
                format!("expected the key {twin:?}, found {key:?} as well"),
            ));
        }
    }
    Ok(())
}

fn open(root: &Path, relative: &str) -> Result<(File, u64), NativeError> {
    let path = root.join(relative);
    let metadata = std::fs::symlink_metadata(&path).map_err(|e| NativeError::io(relative, e))?;
    if !metadata.is_file() {
        return Err(NativeError::malformed(
            relative,
            "expected a plain file; pull the image again",
        ));
    }
    let file = File::open(&path).map_err(|e| NativeError::io(relative, e))?;
    Ok((file, metadata.len()))
}

fn read_file(root: &Path, relative: &str) -> Result<Vec<u8>, NativeError> {
    let (file, size) = open(root, relative)?;
    read_bounded(relative, file, size)
}

fn read_bounded(what: &str, file: impl Read, size: u64) -> Result<Vec<u8>, NativeError> {
    if size > DOCUMENT_BYTES {
        return Err(NativeError::Limit {
            what: format!("bytes of {what}"),
            allowed: DOCUMENT_BYTES,
        });
    }
    let mut bytes = Vec::new();
    file.take(DOCUMENT_BYTES)
        .read_to_end(&mut bytes)
        .map_err(|e| NativeError::io(what, e))?;
    Ok(bytes)
}

fn open_blob(root: &Path, what: &str, descriptor: &Descriptor) -> Result<File, NativeError> {
    let (file, size) = open(root, &format!("blobs/sha256/{}", descriptor.digest.hex()))?;
    if size != descriptor.size {
        return Err(NativeError::malformed(
            format!("{what} ({})", descriptor.digest),
            format!("expected {} bytes, found {size}; pull the image again", descriptor.size),
        ));
    }
    Ok(file)
}

fn read_blob(root: &Path, what: &str, descriptor: &Descriptor) -> Result<Vec<u8>, NativeError> {
    let file = open_blob(root, what, descriptor)?;
    let bytes = read_bounded(what, file, descriptor.size)?;
    check(what, &descriptor.digest, Hashing::new(bytes.as_slice()))?;
    Ok(bytes)
}

/// Compares the digest of everything that a reader gave and still gives.
pub(super) fn check(what: &str, expected: &Digest, bytes: Hashing<impl Read>) -> Result<(), NativeError> {
    let found = bytes.finish().map_err(|e| NativeError::io(what, e))?;
    if found == *expected {
        return Ok(());
    }
    Err(NativeError::DigestMismatch {
        what: what.to_owned(),
        expected: expected.clone(),
        found,
    })
}
