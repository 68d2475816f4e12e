//! Builds image layouts in memory for the tests of this module.
//!
//! Writes real tar, gzip, zstd and JSON with real digests, so that each test can spoil exactly one thing.

use super::{Examination, Limits, NativeError, Options, examine};
use repave_core::digest::Digest;
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::path::Path;
use tar::{Builder, EntryType, Header};

/// How a layer is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    Plain,
    Gzip,
    Zstd,
}

/// A layer under construction.
pub(super) struct Layer(Builder<Vec<u8>>);

impl Layer {
    pub fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    /// One entry, with its name written as given: even one that the builder of the `tar` crate would refuse.
    pub fn raw(mut self, name: &[u8], kind: EntryType, mode: u32, owner: (u64, u64), link: &[u8], data: &[u8]) -> Self {
        let mut header = Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(owner.0);
        header.set_gid(owner.1);
        header.set_size(data.len() as u64);
        header.set_cksum();
        self.0.append(&header, data).unwrap();
        self
    }

    pub fn file(self, path: &str, mode: u32, content: &str) -> Self {
        self.raw(
            path.as_bytes(),
            EntryType::Regular,
            mode,
            (0, 0),
            b"",
            content.as_bytes(),
        )
    }

    pub fn owned(self, path: &str, mode: u32, owner: (u64, u64), content: &str) -> Self {
        self.raw(
            path.as_bytes(),
            EntryType::Regular,
            mode,
            owner,
            b"",
            content.as_bytes(),
        )
    }

    pub fn dir(self, path: &str, mode: u32) -> Self {
        self.raw(path.as_bytes(), EntryType::Directory, mode, (0, 0), b"", b"")
    }

    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.raw(
            path.as_bytes(),
            EntryType::Symlink,
            0o777,
            (0, 0),
            target.as_bytes(),
            b"",
        )
    }

    pub fn hard_link(self, path: &str, target: &str, mode: u32) -> Self {
        self.raw(path.as_bytes(), EntryType::Link, mode, (0, 0), target.as_bytes(), b"")
    }

    pub fn device(self, path: &str, kind: EntryType) -> Self {
        self.raw(path.as_bytes(), kind, 0o600, (0, 0), b"", b"")
    }

    /// PAX records for the next entry.
    pub fn pax(mut self, records: &[(&str, &[u8])]) -> Self {
        self.0.append_pax_extensions(records.iter().copied()).unwrap();
        self
    }

    pub fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// An image under construction.
pub(super) struct Image {
    pub layers: Vec<(Vec<u8>, Packing)>,
    pub config: Value,
    /// More members of the configuration, beside `config`.
    pub about: Value,
    pub limits: Limits,
    pub options: Options,
}

impl Image {
    pub fn new(layers: Vec<Layer>) -> Self {
        Self::of_bytes(layers.into_iter().map(Layer::bytes).collect())
    }

    pub fn of_bytes(layers: Vec<Vec<u8>>) -> Self {
        Self {
            layers: layers.into_iter().map(|l| (l, Packing::Plain)).collect(),
            config: json!({"User": "app"}),
            about: json!({}),
            limits: Limits::default(),
            options: Options::default(),
        }
    }

    /// Writes the layout; gives the manifest digest.
    pub fn write(&self, root: &Path) -> Digest {
        fs::create_dir_all(root.join("blobs/sha256")).unwrap();
        let put = |bytes: &[u8]| put_blob(root, bytes);
        let blobs: Vec<Value> = self
            .layers
            .iter()
            .map(|(bytes, packing)| {
                let (packed, suffix) = pack(bytes, *packing);
                descriptor(
                    &format!("application/vnd.oci.image.layer.v1.tar{suffix}"),
                    &put(&packed),
                    packed.len(),
                )
            })
            .collect();
        let diff_ids: Vec<Digest> = self.layers.iter().map(|(bytes, _)| Digest::of(bytes)).collect();
        let mut config = json!({"os": "linux", "architecture": "amd64", "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        config
            .as_object_mut()
            .unwrap()
            .extend(self.about.as_object().unwrap().clone());
        let config = config.to_string();
        let config = descriptor(
            "application/vnd.oci.image.config.v1+json",
            &put(config.as_bytes()),
            config.len(),
        );
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": blobs}).to_string();
        let digest = put(manifest.as_bytes());
        let manifest = descriptor("application/vnd.oci.image.manifest.v1+json", &digest, manifest.len());
        let index = json!({"schemaVersion": 2, "manifests": [manifest]}).to_string();
        fs::write(root.join("index.json"), index).unwrap();
        fs::write(root.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        digest
    }

    pub fn examine(&self) -> Result<Examination, NativeError> {
        let folder = tempfile::tempdir().unwrap();
        self.write(folder.path());
        examine(folder.path(), &self.options, &self.limits, now())
    }

    /// `id subject` of all findings.
    pub fn findings(&self) -> Vec<String> {
        let found = self.examine().unwrap().findings;
        found
            .into_iter()
            .map(|f| format!("{} {}", f.id, f.subject.unwrap()))
            .collect()
    }
}

/// The time of all examinations in tests.
pub(super) fn now() -> jiff::Timestamp {
    "2026-11-01T12:00:00Z".parse().unwrap()
}

pub(super) fn put_blob(root: &Path, bytes: &[u8]) -> Digest {
    let digest = Digest::of(bytes);
    fs::write(root.join("blobs/sha256").join(digest.hex()), bytes).unwrap();
    digest
}

fn descriptor(media_type: &str, digest: &Digest, size: usize) -> Value {
    json!({"mediaType": media_type, "digest": digest, "size": size})
}

pub(super) fn pack(bytes: &[u8], packing: Packing) -> (Vec<u8>, &'static str) {
    match packing {
        Packing::Plain => (bytes.to_vec(), ""),
        Packing::Gzip => {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            gzip.write_all(bytes).unwrap();
            (gzip.finish().unwrap(), "+gzip")
        }
        Packing::Zstd => {
            use ruzstd::encoding::{CompressionLevel, compress_to_vec};
            // Two frames with a skippable one between them, as `zstd:chunked` writes.
            let (head, tail) = bytes.split_at(bytes.len() / 2);
            let mut packed = compress_to_vec(head, CompressionLevel::Fastest);
            packed.extend_from_slice(&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]);
            packed.extend(compress_to_vec(tail, CompressionLevel::Fastest));
            (packed, "+zstd")
        }
    }
}

/// A small clean Debian-like base.
pub(super) fn base() -> Layer {
    let passwd = "root:x:0:0:root:/root:/bin/bash\nsync:x:4:65534:sync:/bin:/bin/sync\n\
                  app:x:1000:1000::/home/app:/usr/sbin/nologin\n";
    let group = "root:x:0:\nshadow:x:42:\nnogroup:x:65534:\napp:x:1000:\n";
    Layer::new()
        .dir("./", 0o755)
        .dir("etc/", 0o755)
        .dir("root/", 0o700)
        .dir("tmp/", 0o1777)
        .dir("usr/bin/", 0o755)
        .symlink("bin", "usr/bin")
        .file("usr/bin/bash", 0o755, "ELF bash")
        .file("usr/bin/su", 0o4755, "ELF su")
        .file("etc/passwd", 0o644, passwd)
        .file("etc/group", 0o644, group)
        .owned(
            "etc/shadow",
            0o640,
            (0, 42),
            "root:*:1:0:99999:7:::\napp:!:1:0:99999:7:::\n",
        )
        .file("etc/profile", 0o644, "PATH=\"/usr/bin:/bin\"\nexport PATH\n")
        .symlink("etc/os-release", "../usr/lib/os-release")
        .symlink("etc/mtab", "/proc/mounts")
        .symlink("etc/localtime", "/usr/share/zoneinfo/Etc/UTC")
        .file("usr/lib/os-release", 0o644, "NAME=x\nID=debian\n")
        .file("var/lib/dpkg/status", 0o644, "Package: base-files\n")
        .raw(b"home/app/", EntryType::Directory, 0o750, (1000, 1000), b"", b"")
}
