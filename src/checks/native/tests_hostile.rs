//! Images that were made to break the reader: none may pass, panic, or take more than the limits allow.

use super::testing::{Image, Layer, Packing, base, now, pack, put_blob};
use super::{Limits, NativeError, Options, examine, report};
use proptest::prelude::*;
use repave_core::digest::Digest;
use repave_core::report::Outcome;
use serde_json::json;
use std::fs;
use tar::{EntryType, Header};

fn error(image: &Image) -> String {
    image.examine().unwrap_err().to_string()
}

fn one(layer: Layer) -> Image {
    Image::new(vec![layer])
}

#[test]
fn names_that_leave_the_image_are_refused_and_absolute_ones_stay_inside() {
    for name in [&b"../x"[..], b"a/../../x", b"a/.."] {
        let layer = Layer::new().raw(name, EntryType::Regular, 0o644, (0, 0), b"", b"x");
        assert!(
            error(&one(layer)).contains("name inside the image"),
            "{}",
            name.escape_ascii()
        );
    }
    let found = one(Layer::new().file("/opt/x", 0o666, "x")).findings();
    assert_eq!(found, ["native.world-writable /opt/x"]);
    let found = one(Layer::new().symlink("l", "../../..").file("l/x", 0o666, "x")).findings();
    assert_eq!(found, ["native.world-writable /x"]);
}

#[test]
fn names_need_not_be_utf8_and_never_reach_a_terminal_raw() {
    let layer = Layer::new()
        .raw(b"opt/\xff\xfe", EntryType::Regular, 0o666, (0, 0), b"", b"")
        .raw(b"opt/\x1b[31m", EntryType::Regular, 0o666, (0, 0), b"", b"");
    let found = one(layer).findings();
    assert_eq!(
        found,
        [
            "native.world-writable /opt/\\x1b[31m",
            "native.world-writable /opt/\\xff\\xfe"
        ]
    );
}

#[test]
fn loops_of_links_end() {
    let looped = Layer::new()
        .symlink("etc/passwd", "group")
        .symlink("etc/group", "passwd")
        .file("app", 0o755, "x");
    let found = one(looped).examine().unwrap();
    assert!(found.not_applicable >= 10, "{found:?}");
    let parent = Layer::new().symlink("a", "b").symlink("b", "a").file("a/x", 0o644, "x");
    assert!(error(&one(parent)).contains("loop of symbolic links"));
}

#[test]
fn links_can_not_multiply_the_work() {
    let far = "x/../".repeat(19);
    let mut layer = Layer::new().dir("x", 0o755).symlink("l0", ".");
    for i in 1..30 {
        layer = layer.symlink(&format!("l{i}"), &format!("{far}l{}", i - 1));
    }
    for i in 0..200 {
        layer = layer.file(&format!("l29/{i}"), 0o644, "");
    }
    let mut image = one(layer);
    image.limits.steps = 10_000;
    assert!(error(&image).contains("look-ups"));
}

#[test]
fn a_hard_link_needs_a_file_that_stands_before_it() {
    for layer in [
        Layer::new().hard_link("a", "missing", 0o644),
        Layer::new().dir("d", 0o755).hard_link("a", "d", 0o644),
        Layer::new().hard_link("a", "../a", 0o644),
        Layer::new().hard_link("a", "", 0o644),
    ] {
        error(&one(layer));
    }
    let own = Layer::new().file("a", 0o666, "x").hard_link("a", "a", 0o644);
    assert_eq!(one(own).findings(), ["native.world-writable /a"]);
}

#[test]
fn damaged_layers_are_errors() {
    let whole = base().bytes();
    for cut in [whole.len() / 2 + 100, 700, 513] {
        let bytes = whole[..cut].to_vec();
        assert!(error(&Image::of_bytes(vec![bytes])).contains("layer 0"), "{cut}");
    }
    let mut flipped = whole.clone();
    flipped[512] ^= 1;
    assert!(error(&Image::of_bytes(vec![flipped])).contains("checksum"));
    let mut gap = Layer::new().file("a", 0o644, "").bytes();
    gap.splice(512..512, [0; 512]);
    gap.truncate(1024);
    gap.extend_from_slice(&Layer::new().file("b", 0o666, "").bytes());
    assert!(error(&Image::of_bytes(vec![gap])).contains("zero block"));
}

#[test]
fn a_truncated_compressed_layer_is_an_error() {
    for packing in [Packing::Gzip, Packing::Zstd] {
        let folder = tempfile::tempdir().unwrap();
        let bytes = base().bytes();
        let (packed, _) = pack(&bytes, packing);
        let cut = &packed[..packed.len() - 9];
        // The blob is honest about its digest and size; only the stream inside it ends early.
        let mut image = Image::of_bytes(vec![cut.to_vec()]);
        image.write(folder.path());
        image.layers[0].1 = Packing::Plain;
        let found = examine(folder.path(), &Options::default(), &Limits::default(), now());
        assert!(
            matches!(found, Err(NativeError::Layer { .. })),
            "{packing:?}: {found:?}"
        );
    }
}

#[test]
fn bytes_that_do_not_match_a_digest_are_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let image = Image::new(vec![base()]);
    image.write(root);
    let blobs: Vec<_> = fs::read_dir(root.join("blobs/sha256"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    assert_eq!(blobs.len(), 3);
    for blob in blobs {
        let good = fs::read(&blob).unwrap();
        let mut bad = good.clone();
        *bad.last_mut().unwrap() ^= 1;
        fs::write(&blob, &bad).unwrap();
        let found = examine(root, &Options::default(), &Limits::default(), now());
        assert!(matches!(found, Err(NativeError::DigestMismatch { .. })), "{found:?}");
        fs::write(&blob, &good[1..]).unwrap();
        let found = examine(root, &Options::default(), &Limits::default(), now())
            .unwrap_err()
            .to_string();
        assert!(found.contains("bytes, found"), "{found}");
        fs::write(&blob, &good).unwrap();
    }
}

#[test]
fn a_layer_with_another_diff_id_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let mut image = Image::new(vec![base()]);
    image.layers[0].1 = Packing::Gzip;
    image.write(folder.path());
    let index = fs::read_to_string(folder.path().join("index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_str(&index).unwrap();
    let hex = index["manifests"][0]["digest"]
        .as_str()
        .unwrap()
        .strip_prefix("sha256:")
        .unwrap();
    let manifest = fs::read(folder.path().join("blobs/sha256").join(hex)).unwrap();
    let mut manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let config = json!({"os": "linux", "rootfs": {"diff_ids": [Digest::of(b"other")]}}).to_string();
    manifest["config"] = json!({"digest": put_blob(folder.path(), config.as_bytes()), "size": config.len()});
    let manifest = manifest.to_string();
    let digest = put_blob(folder.path(), manifest.as_bytes());
    let entry =
        json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": manifest.len()});
    fs::write(
        folder.path().join("index.json"),
        json!({"manifests": [entry]}).to_string(),
    )
    .unwrap();
    let found = examine(folder.path(), &Options::default(), &Limits::default(), now()).unwrap_err();
    assert!(
        matches!(&found, NativeError::DigestMismatch { what, .. } if what.contains("unpacked")),
        "{found}"
    );
    fs::write(
        folder.path().join("index.json"),
        json!({"manifests": [entry, entry]}).to_string(),
    )
    .unwrap();
    let found = examine(folder.path(), &Options::default(), &Limits::default(), now())
        .unwrap_err()
        .to_string();
    assert!(found.contains("expected one image, found 2"), "{found}");
}

#[test]
fn twins_of_keys_and_other_systems_are_refused() {
    let mut image = Image::new(vec![base()]);
    image.config = json!({"User": "app", "user": "root"});
    assert!(error(&image).contains("\"user\" as well"));
    let why = "expected an image for linux".to_owned();
    let unsupported = report(
        "c",
        &Digest::of(b""),
        Err(NativeError::Unsupported { why: why.clone() }),
        1,
    );
    assert_eq!(unsupported.outcome, Outcome::Unsupported { message: why });
}

#[test]
fn bombs_end_in_an_error() {
    let zeros = "\0".repeat(3 << 20);
    let mut image = one(Layer::new().file("zeros", 0o644, &zeros));
    image.layers[0].1 = Packing::Gzip;
    image.limits.ratio_free_bytes = 1 << 20;
    assert!(error(&image).contains("ratio"));
    let mut image = one(Layer::new().file("zeros", 0o644, &zeros));
    image.limits.decompressed_bytes = 1 << 20;
    assert!(error(&image).contains("unpacked bytes of the image"));
    // After the end of the archive the bytes still count.
    let mut bytes = Layer::new().file("a", 0o644, "").bytes();
    bytes.resize(3 << 20, 0);
    let mut image = Image::of_bytes(vec![bytes]);
    image.limits.decompressed_bytes = 1 << 20;
    assert!(error(&image).contains("unpacked bytes of the image"));
}

#[test]
fn counts_and_lengths_are_limited() {
    type Tighten = fn(&mut Limits);
    let cases: [(&str, Tighten); 6] = [
        ("entries of the image", |l| l.entries = 3),
        ("bytes of a path", |l| l.path_bytes = 4),
        ("components of a path", |l| l.depth = 2),
        ("names and link targets", |l| l.name_bytes = 8),
        ("configuration files", |l| l.content_bytes = 40),
        ("layers", |l| l.layers = 0),
    ];
    for (expected, tighten) in cases {
        let mut image = one(base());
        tighten(&mut image.limits);
        let found = error(&image);
        assert!(found.contains(expected), "{expected}: {found}");
    }
    // Links must not build a deeper tree than names may.
    let mut image = one(Layer::new()
        .symlink("l", &"a/".repeat(20))
        .symlink("l/l", &"a/".repeat(20))
        .file("l/l/x", 0o644, ""));
    image.limits.depth = 30;
    assert!(error(&image).contains("links followed"));
    // Directories that a path only implies count as well.
    let mut image = one(Layer::new().file("a/b/c/d/e", 0o644, ""));
    image.limits.entries = 4;
    assert!(error(&image).contains("files and directories"));
    let large = "x".repeat(2 << 20);
    assert!(error(&one(Layer::new().file("etc/passwd", 0o644, &large))).contains("configuration file"));
    assert!(
        error(&one(Layer::new()
            .pax(&[("comment", large.as_bytes())])
            .file("a", 0o644, "")))
        .contains("extended")
    );
    assert!(
        error(&one(Layer::new()
            .pax(&[("path", "n".repeat(256).as_bytes())])
            .file("a", 0o644, "")))
        .contains("255")
    );
}

#[test]
fn a_sparse_terabyte_is_an_error_and_a_small_one_is_read() {
    let sparse = |real: u64| {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::GNUSparse);
        header.set_path("huge").unwrap();
        header.set_mode(0o666);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        let octal = format!("{real:011o}\0");
        header
            .as_gnu_mut()
            .unwrap()
            .realsize
            .copy_from_slice(&octal.as_bytes()[octal.len() - 12..]);
        if real > 0o77_777_777_777 {
            let mut field = [0_u8; 12];
            field[0] = 0x80;
            field[4..].copy_from_slice(&real.to_be_bytes());
            header.as_gnu_mut().unwrap().realsize = field;
        }
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend_from_slice(&[0; 1024]);
        Image::of_bytes(vec![bytes])
    };
    assert!(error(&sparse(1 << 40)).contains("sparse"));
    assert_eq!(sparse(4096).findings(), ["native.world-writable /huge"]);
    // A plain header that claims a terabyte of data which is not there.
    let mut header = Header::new_gnu();
    header.set_path("huge").unwrap();
    header.set_size(1 << 40);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_cksum();
    assert!(error(&Image::of_bytes(vec![header.as_bytes().to_vec()])).contains("ends inside a file"));
}

#[test]
fn data_after_links_and_directories_is_read_as_runtimes_do() {
    // A directory that claims a size has no data: what follows is the next header, which a reader that skips misses.
    let mut bytes = Layer::new()
        .raw(b"d/", EntryType::Directory, 0o755, (0, 0), b"", b"")
        .bytes();
    bytes.truncate(512);
    let mut header = Header::from_byte_slice(&bytes[..512]).clone();
    header.set_size(512);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend(Layer::new().file("hidden", 0o666, "").bytes());
    assert_eq!(
        Image::of_bytes(vec![bytes]).findings(),
        ["native.world-writable /hidden"]
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn arbitrary_bytes_as_a_layer_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
        let _ = Image::of_bytes(vec![bytes]).examine();
    }

    #[test]
    fn a_spoiled_layer_never_panics(at in 0_usize..6000, value in any::<u8>(), kind in 0..3_usize, fix in any::<bool>()) {
        let mut bytes = base().bytes();
        let packing = [Packing::Plain, Packing::Gzip, Packing::Zstd][kind];
        if fix {
            let at = at % bytes.len();
            bytes[at] = value;
            // A right checksum lets the spoiled field through to what reads it.
            let start = at / 512 * 512;
            let mut header = Header::from_byte_slice(&bytes[start..start + 512]).clone();
            header.set_cksum();
            bytes[start..start + 512].copy_from_slice(header.as_bytes());
        }
        let (mut packed, _) = pack(&bytes, packing);
        if !fix {
            let at = at % packed.len();
            packed[at] = value;
        }
        let _ = Image::of_bytes(vec![packed]).examine();
    }
}
