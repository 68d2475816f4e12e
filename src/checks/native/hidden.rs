//! What lower layers hold and the merged image no longer shows: secrets and set-id files that were deleted or replaced.
//!
//! Everybody who can pull the image can read every layer, so a deleted secret is a published one. Files are told by
//! their place in the layers, so that one that only got another name or a hard link is not taken for deleted.

#![expect(
    clippy::unnecessary_wraps,
    reason = "all rules share one signature, and some can fail"
)]

use super::error::LayerFault;
use super::limits::HIDDEN;
use super::rules::{Applies, Context, Found, show};
use super::secrets::Secrets;
use super::tree::{Inode, Tree};
use std::collections::BTreeSet;

type Result<T = Applies> = std::result::Result<T, LayerFault>;
type Origin = (u16, u32);

/// One file of a layer.
#[derive(Debug)]
struct Noted {
    path: Vec<u8>,
    origin: Origin,
    held: Secrets,
    set_id: bool,
}

/// The files of all layers that matter even when they are gone.
#[derive(Debug, Default)]
pub(super) struct Seen(Vec<Noted>);

impl Seen {
    /// Notes a file that was just read, if it holds a secret or is set-id.
    pub fn note(&mut self, path: &[u8], inode: &Inode, origin: Origin) -> Result<()> {
        let held = inode.extra().map_or_else(Secrets::default, |e| e.held);
        let set_id = inode.mode & 0o6000 != 0;
        if held.words().is_empty() && !set_id {
            return Ok(());
        }
        if self.0.len() >= HIDDEN {
            let what = "files with secrets or set-id bits over all layers";
            return Err(LayerFault::limit(what, HIDDEN as u64));
        }
        self.0.push(Noted {
            path: path.to_vec(),
            origin,
            held,
            set_id,
        });
        Ok(())
    }

    /// Those that have no name in the merged tree.
    pub fn hidden(self, tree: &Tree) -> Hidden {
        let mut live = BTreeSet::new();
        if !self.0.is_empty() {
            let noted: BTreeSet<Origin> = self.0.iter().map(|n| n.origin).collect();
            tree.walk(&mut |_, _, inode| {
                if noted.contains(&inode.origin) {
                    live.insert(inode.origin);
                }
            });
        }
        Hidden(self.0.into_iter().filter(|n| !live.contains(&n.origin)).collect())
    }
}

/// Files that the merged image no longer shows.
#[derive(Debug, Default)]
pub(super) struct Hidden(Vec<Noted>);

pub(super) fn secret(context: &Context<'_>, found: &mut Found<'_>) -> Result {
    for noted in &context.hidden.0 {
        // Test keys that packages ship are public; an update replaces them in every image.
        let is_public = noted.path.starts_with(b"/usr/lib/") || noted.path.starts_with(b"/usr/share/");
        for what in noted.held.words().into_iter().filter(|_| !is_public) {
            let (path, layer) = (show(&noted.path), noted.origin.0);
            found.add(
                &noted.path,
                format!("{path} holds {what} in layer {layer}, although a later layer hides it"),
            );
        }
    }
    Ok(Applies::Yes)
}

pub(super) fn set_id(context: &Context<'_>, found: &mut Found<'_>) -> Result {
    for noted in context.hidden.0.iter().filter(|n| n.set_id) {
        if !super::files::allowed(&context.options.suid_allowed, &noted.path) {
            let (path, layer) = (show(&noted.path), noted.origin.0);
            found.add(
                &noted.path,
                format!("{path} is SUID or SGID in layer {layer}, although a later layer hides it"),
            );
        }
    }
    Ok(Applies::Yes)
}
