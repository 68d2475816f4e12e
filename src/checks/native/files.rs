//! Rules over every file of the image: modes, owners, devices, private keys.
//!
//! They see metadata only, and every name of a hard-linked file.

#![expect(
    clippy::unnecessary_wraps,
    reason = "all rules share one signature, and some can fail"
)]

use super::content::is_shell;
use super::error::LayerFault;
use super::rules::{Applies, Context, FindingSink, show};
use super::tar_stream::Kind;
use super::tree::Inode;
use super::walk::Id;
use repave_core::report::Severity;
use std::collections::{BTreeMap, BTreeSet};

type Result<T = Applies> = std::result::Result<T, LayerFault>;

/// `/dev` is mounted over at run time, and these are what bootstrap tools leave there.
const STANDARD_DEVICES: &[&str] = &[
    "/dev/console",
    "/dev/full",
    "/dev/null",
    "/dev/ptmx",
    "/dev/random",
    "/dev/tty",
    "/dev/urandom",
    "/dev/zero",
];

pub(super) fn allowed(list: &BTreeSet<String>, path: &[u8]) -> bool {
    std::str::from_utf8(path).is_ok_and(|path| list.contains(path) || list.contains(&format!("/usr{path}")))
}

pub(super) fn world_writable(context: &Context<'_>, found: &mut FindingSink<'_>) -> Result {
    context.tree.walk(&mut |path, _, inode| {
        let open = inode.kind == Kind::File && inode.mode & 0o002 != 0;
        if open && !allowed(&context.options.world_writable_allowed, path) {
            found.add(
                path,
                format!("{} is writable by everybody (mode {:04o})", show(path), inode.mode),
            );
        }
    });
    Ok(Applies::Yes)
}

pub(super) fn world_writable_dir(context: &Context<'_>, found: &mut FindingSink<'_>) -> Result {
    context.tree.walk(&mut |path, _, inode| {
        let open = inode.kind == Kind::Dir && inode.mode & 0o002 != 0 && inode.mode & 0o1000 == 0;
        if open && !allowed(&context.options.world_writable_allowed, path) {
            let (path_text, mode) = (show(path), inode.mode);
            found.add(
                path,
                format!("{path_text}/ is writable by everybody without a sticky bit (mode {mode:04o})"),
            );
        }
    });
    Ok(Applies::Yes)
}

/// The shells of the image, by inode and by content.
struct Shells {
    inodes: BTreeMap<Id, String>,
    hashes: BTreeMap<[u8; 32], String>,
}

impl Shells {
    fn of(context: &Context<'_>) -> Self {
        let mut shells = Self {
            inodes: BTreeMap::new(),
            hashes: BTreeMap::new(),
        };
        context.tree.walk(&mut |path, id, inode| {
            if inode.kind != Kind::File || inode.size == 0 || !is_shell(path) {
                return;
            }
            shells.inodes.entry(id).or_insert_with(|| show(path));
            if let Some(hash) = inode.extra().and_then(|e| e.hash) {
                shells.hashes.entry(hash).or_insert_with(|| show(path));
            }
        });
        shells
    }

    fn copied(&self, id: Id, inode: &Inode) -> Option<&String> {
        let hash = inode.extra().and_then(|e| e.hash);
        self.inodes.get(&id).or_else(|| self.hashes.get(&hash?))
    }
}

pub(super) fn suid(context: &Context<'_>, found: &mut FindingSink<'_>) -> Result {
    let shells = Shells::of(context);
    context.tree.walk(&mut |path, id, inode| {
        if inode.kind != Kind::File || inode.mode & 0o6000 == 0 {
            return;
        }
        let (name, mode) = (show(path), inode.mode);
        let what = if mode & 0o4000 != 0 { "SUID" } else { "SGID" };
        if let Some(shell) = shells.copied(id, inode) {
            found.add_as(
                Severity::High,
                path,
                format!("{name} is a {what} copy of the shell {shell} (mode {mode:04o})"),
            );
        } else if !allowed(&context.options.suid_allowed, path) {
            found.add(
                path,
                format!("{name} is {what} (mode {mode:04o}) and not on the list of allowed programs"),
            );
        }
    });
    Ok(Applies::Yes)
}

pub(super) fn file_capability(context: &Context<'_>, found: &mut FindingSink<'_>) -> Result {
    context.tree.walk(&mut |path, _, inode| {
        let capable = inode.kind == Kind::File && inode.extra().is_some_and(|e| e.capability);
        if capable && !allowed(&context.options.file_capabilities_allowed, path) {
            found.add(path, format!("{} has file capabilities", show(path)));
        }
    });
    Ok(Applies::Yes)
}

pub(super) fn unowned(context: &Context<'_>, found: &mut FindingSink<'_>) -> Result {
    let (Some(users), Some(groups)) = (&context.accounts.users, &context.accounts.groups) else {
        return Ok(Applies::No);
    };
    let uids: BTreeSet<u32> = users.iter().filter_map(|u| u.uid).collect();
    let gids: BTreeSet<u32> = groups.iter().filter_map(|g| g.gid).collect();
    context.tree.walk(&mut |path, _, inode| {
        // The owner of a symbolic link decides nothing.
        let unknown = !uids.contains(&inode.uid) || !gids.contains(&inode.gid);
        if inode.kind != Kind::Symlink && unknown {
            let (uid, gid) = (inode.uid, inode.gid);
            found.add(
                path,
                format!("{} belongs to {uid}:{gid}, which no account or group has", show(path)),
            );
        }
    });
    Ok(Applies::Yes)
}

pub(super) fn device_node(context: &Context<'_>, found: &mut FindingSink<'_>) -> Result {
    context.tree.walk(&mut |path, _, inode| {
        let standard = inode.kind == Kind::Char && STANDARD_DEVICES.iter().any(|d| d.as_bytes() == path);
        if matches!(inode.kind, Kind::Char | Kind::Block) && !standard {
            found.add(path, format!("{} is a device node", show(path)));
        }
    });
    Ok(Applies::Yes)
}

pub(super) fn private_key(context: &Context<'_>, found: &mut FindingSink<'_>) -> Result {
    context.tree.walk(&mut |path, _, inode| {
        if !inode.extra().is_some_and(|e| e.held.private_key()) {
            return;
        }
        let title = format!("{} holds a private key", show(path));
        if path.starts_with(b"/usr/lib/") || path.starts_with(b"/usr/share/") {
            // Test keys that packages ship: public knowledge, worth a look and no more.
            found.add_as(Severity::Low, path, title);
        } else {
            found.add(path, title);
        }
    });
    Ok(Applies::Yes)
}

pub(super) fn credentials(context: &Context<'_>, found: &mut FindingSink<'_>) -> Result {
    context.tree.walk(&mut |path, _, inode| {
        for what in inode.extra().into_iter().flat_map(|e| e.held.credentials()) {
            found.add(path, format!("{} holds {what}", show(path)));
        }
    });
    Ok(Applies::Yes)
}

pub(super) fn authorized_keys(context: &Context<'_>, found: &mut FindingSink<'_>) -> Result {
    context.tree.walk(&mut |path, _, inode| {
        if inode.extra().is_some_and(|e| e.held.authorized_keys()) {
            found.add(path, format!("{} lets the owners of its keys log in", show(path)));
        }
    });
    Ok(Applies::Yes)
}
