//! Layers that unpack to far more than they weigh: the work must end with the limit, not with the archive.

use super::testing::{Image, Layer, Packing, pack};
use tar::{EntryType, Header};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    pack(bytes, Packing::Gzip).0
}

/// The blob as it is: its diff ID is wrong, so that a reader that went to the end would say so instead.
fn blob(bytes: Vec<u8>) -> Image {
    Image::of_bytes(vec![bytes])
}

fn error(image: &Image) -> String {
    image.examine().unwrap_err().to_string()
}

#[test]
fn ten_million_entries_end_at_the_limit() {
    let mut layer = Layer::new();
    for i in 0..10_000 {
        layer = layer.file(&format!("opt/{i}"), 0o644, "");
    }
    let mut headers = layer.bytes();
    headers.truncate(10_000 * 512);
    // One gzip member 1000 times: five gigabytes of headers.
    let mut image = blob(gzip(&headers).repeat(1000));
    image.limits.entries = 30_000;
    let found = error(&image);
    assert!(found.contains("at most 30000"), "{found}");
}

/// The header of a file that claims to hold more than the bombs below have.
fn huge() -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_path("opt/huge").unwrap();
    header.set_size(1 << 40);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_cksum();
    header.as_bytes().to_vec()
}

#[test]
fn a_gzip_bomb_ends_at_the_ratio_with_default_limits() {
    let mut bomb = gzip(&huge());
    bomb.extend(gzip(&vec![0; 1 << 20]).repeat(300));
    assert!((bomb.len() as u64) < (300 << 20) / 200);
    assert!(error(&blob(bomb)).contains("expansion ratio"));
}

/// A zstd frame of blocks that each repeat one byte 128 KiB times.
fn zstd_bomb(blocks: usize) -> Vec<u8> {
    // RFC 8878: magic, no flags, a window of 1 MiB.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x50];
    let head = huge();
    let size = u32::try_from(head.len()).unwrap();
    frame.extend_from_slice(&(size << 3).to_le_bytes()[..3]);
    frame.extend_from_slice(&head);
    for block in 0..blocks {
        let last = u32::from(block + 1 == blocks);
        frame.extend_from_slice(&((128 << 10) << 3 | 1 << 1 | last).to_le_bytes()[..3]);
        frame.push(0);
    }
    frame
}

#[test]
fn a_zstd_bomb_ends_at_the_ratio_with_default_limits() {
    assert!(error(&blob(zstd_bomb(8000))).contains("expansion ratio"));
    // The same frame within the bounds is read to its end, and there the file is too short.
    assert!(error(&blob(zstd_bomb(80))).contains("ends inside a file"));
}

#[test]
fn a_zstd_window_that_no_memory_has_is_refused() {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xf8];
    frame.extend_from_slice(&[1, 0, 0]);
    assert!(error(&blob(frame)).contains("layer 0"));
}

#[test]
fn more_hidden_secrets_than_are_remembered_are_an_error() {
    let mut layer = Layer::new();
    for _ in 0..10_001 {
        layer = layer.file("opt/su", 0o4755, "");
    }
    // Empty set-id files: no content, all the same an entry each.
    assert!(error(&Image::new(vec![layer])).contains("set-id bits over all layers: at most 10000"));
}
