//! What lower layers hold and the merged image no longer shows: secrets and set-id files that were deleted or replaced.
//!
//! Everybody who can pull the image can read every layer, so a deleted secret is a published one. Files are told by
//! their place in the layers, so that one that only got another name or a hard link is not taken for deleted. The rules
//! about them are in `hidden_rules`.

use super::error::LayerFault;
use super::limits::HIDDEN;
use super::secrets::Secrets;
use super::tree::{Inode, Tree};
use std::collections::BTreeSet;

type Origin = (u16, u32);

/// One file of a layer.
#[derive(Debug)]
pub(super) struct Noted {
    pub path: Vec<u8>,
    /// The layer, and the position in it.
    pub origin: Origin,
    pub held: Secrets,
    pub set_id: bool,
}

/// The files of all layers that matter even when they are gone.
#[derive(Debug, Default)]
pub(super) struct HiddenFiles(Vec<Noted>);

impl HiddenFiles {
    /// Notes a file that was just read, if it holds a secret or is set-id.
    pub fn note(&mut self, path: &[u8], inode: &Inode, origin: Origin) -> Result<(), LayerFault> {
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

impl Hidden {
    pub fn files(&self) -> &[Noted] {
        &self.0
    }
}
