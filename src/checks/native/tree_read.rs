//! Looking things up in the merged tree: paths with links followed inside the image, and a walk over all names.
//!
//! Must not change the tree, and must end for every tangle of links.

use super::error::LayerFault;
use super::tar_stream::Kind;
use super::tree::{Id, Inode, Name, ROOT, Tree, split};

/// Symbolic links that one path may go through, as in Linux.
const MAX_LINKS: u32 = 40;

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

/// A path being followed: what is left of it, and the directories gone through (so that `..` stays inside the root).
pub(super) struct Walk {
    queue: Vec<Vec<u8>>,
    pub dirs: Vec<Id>,
    links: u32,
}

impl Walk {
    pub fn new(from: Id, parts: &[&[u8]]) -> Self {
        Self {
            queue: parts.iter().rev().map(|p| p.to_vec()).collect(),
            dirs: vec![from],
            links: 0,
        }
    }

    pub fn next(&mut self) -> Option<Vec<u8>> {
        self.queue.pop()
    }

    pub fn here(&self) -> Id {
        self.dirs.last().copied().unwrap_or(ROOT)
    }

    pub fn up(&mut self) {
        if self.dirs.len() > 1 {
            self.dirs.pop();
        }
    }

    /// Puts the target in front of what is left; `false` after too many links.
    pub fn follow(&mut self, target: &[u8]) -> bool {
        self.links += 1;
        if target.starts_with(b"/") {
            self.dirs.truncate(1);
        }
        let parts: Vec<&[u8]> = split(target).collect();
        self.queue.extend(parts.iter().rev().map(|p| p.to_vec()));
        self.links <= MAX_LINKS
    }
}
