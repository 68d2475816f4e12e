//! Looking things up in the merged tree: paths with links followed inside the image, and a walk over all names.
//!
//! Must not change the tree, and must end for every tangle of links.

use super::error::LayerFault;
use super::secrets::basename;
use super::tar_stream::Kind;
use super::tree::{Inode, Tree};
use super::walk::{Id, Name, ROOT, Walk, split};

impl Tree {
    /// The inode that a path inside the image leads to. `None`: nothing there, or a loop.
    pub fn resolve(&self, path: &[u8], follow_last: bool) -> Result<Option<Id>, LayerFault> {
        let parts: Vec<&[u8]> = split(path).collect();
        self.resolve_parts(ROOT, &parts, follow_last)
    }

    pub(super) fn resolve_parts(&self, from: Id, parts: &[&[u8]], follow_last: bool) -> Result<Option<Id>, LayerFault> {
        let mut walk = Walk::new(from, parts);
        while let Some(part) = walk.next() {
            if part == b".." {
                walk.up();
                continue;
            }
            let Some(link) = self.child(walk.here(), &part)? else {
                return Ok(None);
            };
            match self.inode(link.inode).kind {
                Kind::Dir => walk.dirs.push(link.inode),
                Kind::Symlink if follow_last || !walk.queue.is_empty() => {
                    if !walk.follow(self.inode(link.inode).target()) {
                        return Ok(None);
                    }
                }
                Kind::Symlink | Kind::File | Kind::HardLink | Kind::Char | Kind::Block | Kind::Fifo => {
                    return Ok(walk.queue.is_empty().then_some(link.inode));
                }
            }
        }
        Ok(Some(walk.here()))
    }

    /// The names in a directory, sorted.
    pub fn list(&self, path: &[u8]) -> Result<Vec<Name>, LayerFault> {
        let Some(dir) = self.resolve(path, true)? else {
            return Ok(Vec::new());
        };
        Ok(self.children(dir)?.into_iter().map(|(name, _)| name).collect())
    }

    /// Visits every name of the image, parents first, with its absolute path.
    pub fn walk(&self, visit: &mut dyn FnMut(&[u8], Id, &Inode)) {
        visit(b"/", ROOT, self.inode(ROOT));
        let mut path = Vec::new();
        let mut stack = vec![self.range(ROOT)];
        let mut lengths = vec![0];
        while let Some(children) = stack.last_mut() {
            let Some(((_, name), link)) = children.next() else {
                stack.pop();
                path.truncate(lengths.pop().unwrap_or(0));
                continue;
            };
            let length = path.len();
            path.push(b'/');
            path.extend_from_slice(name);
            let inode = self.inode(link.inode);
            visit(&path, link.inode, inode);
            if inode.kind == Kind::Dir {
                stack.push(self.range(link.inode));
                lengths.push(length);
            } else {
                path.truncate(length);
            }
        }
    }
}

/// The content of a file that rules read: `None` if the image has no such file.
pub(super) fn text<'a>(tree: &'a Tree, path: &[u8]) -> Result<Option<&'a [u8]>, LayerFault> {
    let Some(id) = tree.resolve(path, true)? else {
        return Ok(None);
    };
    let inode = tree.inode(id);
    if inode.kind != Kind::File {
        return Ok(None);
    }
    let kept = inode.extra().and_then(|e| e.content.as_deref());
    match kept {
        Some(content) => Ok(Some(content)),
        None if inode.size == 0 => Ok(Some(&[])),
        None => Err(LayerFault::Malformed(format!(
            "the content of {} was not read ({} bytes)",
            basename(path).escape_ascii(),
            inode.size
        ))),
    }
}
