//! Rules over `/etc` as programs and scanners see it: preloaded libraries, and links that lead out of the image.

use super::error::LayerFault;
use super::rules::{Applies, Context, FindingSink, show};
use super::tar_stream::Kind;
use super::tree::Inode;
use super::walk::split;

type Result<T = Applies> = std::result::Result<T, LayerFault>;

/// Files that decide about access. Debian has no absolute link among them.
const SENSITIVE: &[&str] = &[
    "/etc",
    "/etc/bash.bashrc",
    "/etc/environment",
    "/etc/group",
    "/etc/gshadow",
    "/etc/ld.so.preload",
    "/etc/login.defs",
    "/etc/nsswitch.conf",
    "/etc/pam.d",
    "/etc/passwd",
    "/etc/profile",
    "/etc/profile.d",
    "/etc/security",
    "/etc/shadow",
    "/etc/ssh",
    "/etc/sudoers",
    "/etc/sudoers.d",
];

const SENSITIVE_DIRS: &[&str] = &[
    "/etc/pam.d",
    "/etc/profile.d",
    "/etc/security",
    "/etc/ssh",
    "/etc/sudoers.d",
];

pub(super) fn ld_preload(context: &Context<'_>, found: &mut FindingSink<'_>) -> Result {
    let path = "/etc/ld.so.preload";
    if let Some(content) = context.text(path)? {
        let lines = content.split(|b| *b == b'\n');
        let used = lines
            .map(<[u8]>::trim_ascii)
            .find(|line| !line.is_empty() && !line.starts_with(b"#"));
        if let Some(line) = used {
            found.add(
                path.as_bytes(),
                format!("{path} loads {} into every program", show(line)),
            );
        }
    }
    Ok(Applies::Yes)
}

/// Scanners that read an image under a prefix follow such a link into their own container and judge a foreign file.
pub(super) fn escaping_symlink(context: &Context<'_>, found: &mut FindingSink<'_>) -> Result {
    let mut paths: Vec<Vec<u8>> = SENSITIVE.iter().map(|p| p.as_bytes().to_vec()).collect();
    for dir in SENSITIVE_DIRS {
        for name in context.tree.list(dir.as_bytes())? {
            paths.push([dir.as_bytes(), b"/", &name].concat());
        }
    }
    for path in &paths {
        let Some(id) = context.tree.resolve(path, false)? else {
            continue;
        };
        let inode = context.tree.inode(id);
        if inode.kind == Kind::Symlink && escapes(path, inode.target()) {
            add_link(found, path, inode.target());
        }
    }
    // Elsewhere in /etc absolute links are common, but no link has a reason to climb above the root.
    context.tree.walk(&mut |path, _, inode| {
        let climbs = is_link_in_etc(path, inode) && !inode.target().starts_with(b"/") && escapes(path, inode.target());
        if climbs && !paths.iter().any(|known| known == path) {
            add_link(found, path, inode.target());
        }
    });
    Ok(Applies::Yes)
}

fn is_link_in_etc(path: &[u8], inode: &Inode) -> bool {
    inode.kind == Kind::Symlink && path.starts_with(b"/etc/")
}

fn add_link(found: &mut FindingSink<'_>, path: &[u8], target: &[u8]) {
    let (shown, target) = (show(path), show(target));
    found.add(
        path,
        format!("{shown} links to {target}, outside of the image for a scanner"),
    );
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "all rules share one signature, and some can fail"
)]
pub(super) fn absolute_symlink(context: &Context<'_>, found: &mut FindingSink<'_>) -> Result {
    context.tree.walk(&mut |path, _, inode| {
        if is_link_in_etc(path, inode) && inode.target().starts_with(b"/") {
            add_link(found, path, inode.target());
        }
    });
    Ok(Applies::Yes)
}

fn escapes(path: &[u8], target: &[u8]) -> bool {
    let mut depth = split(path).count().saturating_sub(1);
    target.starts_with(b"/")
        || split(target).any(|part| {
            if part != b".." {
                depth += 1;
                return false;
            }
            let out = depth == 0;
            depth = depth.saturating_sub(1);
            out
        })
}
