//! What fuzzing may call of the native check: one function a format, over bytes alone.
//!
//! Compiled with the feature `fuzzing` only. Must not read anything in another way than the check does.

use super::{
    accounts::Accounts,
    layers, layout,
    limits::Limits,
    packages::{database, rpm_header},
    pax::Records,
    tar_stream::{Header, Kind},
    tree::Tree,
};

/// Small enough that an input of a few kilobytes can reach each bound.
const LIMITS: Limits = Limits {
    entries: 2_000,
    layers: 16,
    path_bytes: 1_024,
    depth: 64,
    name_bytes: 1 << 20,
    decompressed_bytes: 4 << 20,
    ratio: 200,
    ratio_free_bytes: 1 << 20,
    content_bytes: 2 << 20,
    steps: 100_000,
};

/// A layer: plain, gzip or zstd around tar with its extensions.
pub fn layer(bytes: &[u8]) {
    let Ok((tree, unpacked)) = layers::of_bytes(bytes, &LIMITS) else {
        return;
    };
    assert!(unpacked <= LIMITS.decompressed_bytes);
    let (mut names, mut kept) = (0_u64, 0_u64);
    tree.walk(&mut |path, _, inode| {
        names += 1;
        assert!(
            path.split(|b| *b == b'/').all(|part| part != b".."),
            "a path leaves the image"
        );
        kept += inode
            .extra()
            .and_then(|extra| extra.content.as_deref())
            .map_or(0, <[u8]>::len) as u64;
    });
    assert!(kept <= LIMITS.content_bytes, "{kept} bytes of content");
    assert!(names <= LIMITS.entries * LIMITS.depth);
    // Rules look names up through links that the layer made.
    for path in [&b"/etc/passwd"[..], b"/usr/bin/sh", b"/a/b/c"] {
        let _ = tree.resolve(path, true);
    }
    let _ = Accounts::read(&tree);
    let _ = database::installed(&tree);
}

/// The JSON of an image.
pub fn documents(bytes: &[u8]) {
    layout::documents(bytes, &LIMITS);
}

/// PAX records.
pub fn pax(bytes: &[u8]) {
    if let Ok(records) = Records::parse(bytes) {
        let _ = records.sparse();
        let kept = [&records.path, &records.link, &records.capability];
        let kept: usize = kept.into_iter().flatten().map(Vec::len).sum();
        assert!(kept <= bytes.len());
    }
}

/// Files of a tree that holds only these.
fn tree(files: &[(&str, &[u8])]) -> Option<Tree> {
    let mut tree = Tree::new(&Limits::default());
    for (n, (path, content)) in (0_u32..).zip(files) {
        let header = Header {
            name: path.as_bytes().to_vec(),
            link: Vec::new(),
            kind: Kind::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: content.len() as u64,
            sparse: false,
            capability: None,
        };
        let parts: Vec<&[u8]> = path.split('/').map(str::as_bytes).collect();
        let id = tree.apply(&parts, &header, (0, n)).ok()?;
        tree.inode_mut(id).extra_mut().content = Some(content.to_vec());
    }
    Some(tree)
}

/// The accounts: everything in one file, which each of them is.
pub fn accounts(bytes: &[u8]) {
    let Some(tree) = tree(&[("etc/passwd", bytes), ("etc/shadow", bytes), ("etc/group", bytes)]) else {
        return;
    };
    if let Ok(accounts) = Accounts::read(&tree) {
        let lines = bytes.split(|b| *b == b'\n').count();
        assert!(accounts.users.unwrap_or_default().len() <= lines);
        assert!(accounts.groups.unwrap_or_default().len() <= lines);
    }
}

fn packages(path: &str, bytes: &[u8]) {
    let Some(tree) = tree(&[(path, bytes)]) else { return };
    if let Ok(Some(installed)) = database::installed(&tree) {
        // Pages of a database may be shared, but what is named stands in the bytes.
        assert!(installed.names.iter().all(|name| name.len() <= bytes.len()));
        assert!(installed.names.len() <= bytes.len());
    }
}

/// The status file of dpkg.
pub fn dpkg(bytes: &[u8]) {
    packages("var/lib/dpkg/status", bytes);
    packages("var/lib/dpkg/status.d/base", bytes);
}

/// The list of apk.
pub fn apk(bytes: &[u8]) {
    packages("lib/apk/db/installed", bytes);
}

/// The database of rpm in any of its three formats.
pub fn rpm(bytes: &[u8]) {
    packages("var/lib/rpm/rpmdb.sqlite", bytes);
}

/// One header of rpm.
pub fn rpm_header(bytes: &[u8]) {
    if let Ok(name) = rpm_header::name(bytes) {
        assert!(!name.is_empty() && name.len() <= 256 && !name.contains(&0));
    }
}
