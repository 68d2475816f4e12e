//! A path through the merged tree, part by part, with the links that it goes through.
//!
//! Must not look anything up: `tree` and `tree_read` do, and tell it what they found.

/// Index of an inode; also the key of a directory's children.
pub(super) type Id = u32;
pub(super) type Name = Box<[u8]>;

/// The root directory.
pub(super) const ROOT: Id = 0;

/// Symbolic links that one path may go through, as in Linux.
const MAX_LINKS: u32 = 40;

/// The components of a path, without empty ones and `.`.
pub(super) fn split(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|b| *b == b'/').filter(|p| !matches!(*p, b"" | b"."))
}

/// A path being followed: what is left of it, and the directories gone through (so that `..` stays inside the root).
pub(super) struct Walk {
    pub queue: Vec<Vec<u8>>,
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
