//! The merged file system of an image as metadata only: names, owners, modes, link targets.
//!
//! Applies entries and whiteouts as container runtimes do (`tree_read` looks things up). Must never touch a real file system, follow a link outside
//! the tree, or do more look-ups than [`Limits::steps`].

use super::error::LayerFault;
use super::limits::Limits;
use super::secrets::Secrets;
use super::tar_stream::{Header, Kind};
use super::walk::{Id, Name, ROOT, Walk, split};
use std::cell::Cell;
use std::collections::BTreeMap;

const NAME_MAX: usize = 255;

/// What only few inodes have.
#[derive(Debug, Default)]
pub(super) struct Extra {
    pub target: Vec<u8>,
    pub capability: bool,
    /// The content, of files that a rule reads.
    pub content: Option<Vec<u8>>,
    /// The secrets that were sought in it, by its names, and those that it holds.
    pub sought: Secrets,
    pub held: Secrets,
    /// SHA-256 of the content, of shells and of SUID and SGID files.
    pub hash: Option<[u8; 32]>,
}

/// One file, directory or link; several names may lead to it.
#[derive(Debug)]
pub(super) struct Inode {
    pub kind: Kind,
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    /// Layer and position in it: where to find the content in a second pass.
    pub origin: (u16, u32),
    extra: Option<Box<Extra>>,
}

impl Inode {
    fn directory(layer: u16) -> Self {
        // What runtimes make of a parent that no layer lists.
        Self {
            kind: Kind::Dir,
            mode: 0o755,
            uid: 0,
            gid: 0,
            size: 0,
            origin: (layer, u32::MAX),
            extra: None,
        }
    }

    pub fn extra(&self) -> Option<&Extra> {
        self.extra.as_deref()
    }

    pub fn extra_mut(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    pub fn target(&self) -> &[u8] {
        self.extra().map_or(&[], |e| &e.target)
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    pub inode: Id,
    layer: u16,
}

/// The merged tree.
#[derive(Debug)]
pub(super) struct Tree {
    names: BTreeMap<(Id, Name), Link>,
    inodes: Vec<Inode>,
    name_bytes: u64,
    steps: Cell<u64>,
    limits: Limits,
}

impl Tree {
    pub fn new(limits: &Limits) -> Self {
        Self {
            names: BTreeMap::new(),
            inodes: vec![Inode::directory(0)],
            name_bytes: 0,
            steps: Cell::new(0),
            limits: *limits,
        }
    }

    pub fn inode(&self, id: Id) -> &Inode {
        &self.inodes[id as usize]
    }

    pub fn inode_mut(&mut self, id: Id) -> &mut Inode {
        &mut self.inodes[id as usize]
    }

    /// Applies one entry of a layer; gives the inode that it made or changed.
    pub fn apply(&mut self, path: &[&[u8]], header: &Header, origin: (u16, u32)) -> Result<Id, LayerFault> {
        let layer = origin.0;
        let Some((last, parents)) = path.split_last() else {
            return self.apply_root(header);
        };
        let dir = self.descend(parents, layer)?;
        let existing = self.child(dir, last)?;
        if header.kind == Kind::HardLink {
            return self.hard_link(dir, last, header, layer);
        }
        if let Some(link) = existing
            && header.kind == Kind::Dir
            && self.inode(link.inode).kind == Kind::Dir
        {
            self.names.insert((dir, (*last).into()), Link { layer, ..link });
            self.set_metadata(link.inode, header, origin);
            return Ok(link.inode);
        }
        if let Some(link) = existing {
            self.remove_subtree(dir, last, link)?;
        }
        let mut inode = Inode::directory(layer);
        inode.kind = header.kind;
        inode.size = header.size;
        if header.kind == Kind::Symlink {
            if header.link.is_empty() || header.link.len() as u64 > self.limits.path_bytes {
                return fault("expected a symbolic link with a target", last);
            }
            self.charge_name(header.link.len())?;
            inode.extra_mut().target.clone_from(&header.link);
        }
        let id = self.add(dir, last, inode, layer)?;
        self.set_metadata(id, header, origin);
        Ok(id)
    }

    fn apply_root(&mut self, header: &Header) -> Result<Id, LayerFault> {
        if header.kind != Kind::Dir {
            return fault("expected the root to be a directory", b"/");
        }
        self.set_metadata(ROOT, header, (0, u32::MAX));
        Ok(ROOT)
    }

    fn set_metadata(&mut self, id: Id, header: &Header, origin: (u16, u32)) {
        let inode = self.inode_mut(id);
        inode.mode = header.mode;
        inode.uid = header.uid;
        inode.gid = header.gid;
        inode.origin = origin;
        if header.capability.is_some() {
            inode.extra_mut().capability = true;
        }
    }

    fn hard_link(&mut self, dir: Id, last: &[u8], header: &Header, layer: u16) -> Result<Id, LayerFault> {
        let target = components(&header.link, &self.limits)?;
        let found = match target.split_last() {
            Some((name, parents)) => match self.resolve_parts(ROOT, parents, true)? {
                Some(parent) => self.child(parent, name)?,
                None => None,
            },
            None => None,
        };
        let Some(found) = found.filter(|l| self.inode(l.inode).kind != Kind::Dir) else {
            return fault(
                "expected the target of a hard link to be a file that stands before it",
                &header.link,
            );
        };
        if let Some(old) = self.child(dir, last)? {
            if old.inode == found.inode {
                return Ok(old.inode);
            }
            self.remove_subtree(dir, last, old)?;
        }
        self.charge_name(last.len())?;
        self.names.insert(
            (dir, last.into()),
            Link {
                inode: found.inode,
                layer,
            },
        );
        // Runtimes set the link's owner and mode on the shared inode; readers differ on which wins, so take the wider.
        let inode = self.inode_mut(found.inode);
        inode.mode |= header.mode;
        inode.uid = header.uid;
        inode.gid = header.gid;
        if header.capability.is_some() {
            inode.extra_mut().capability = true;
        }
        Ok(found.inode)
    }

    /// Applies a whiteout: `.wh.<name>` hides one name of the lower layers, `.wh..wh..opq` all names of the directory.
    /// What the same layer adds stays, in whichever order it comes.
    pub fn whiteout(&mut self, parents: &[&[u8]], hidden: Option<&[u8]>, layer: u16) -> Result<(), LayerFault> {
        let Some(dir) = self.resolve_parts(ROOT, parents, true)? else {
            return Ok(());
        };
        let Some(name) = hidden else {
            return self.prune_children(dir, layer).map(|_| ());
        };
        if matches!(name, b"" | b"." | b"..") {
            return fault("expected a whiteout of a name", name);
        }
        match self.child(dir, name)? {
            Some(link) => self.prune(dir, name, link, layer).map(|_| ()),
            None => Ok(()),
        }
    }

    /// Removes what is older than `layer`; says whether nothing is left of it. The depth is that of a path.
    fn prune(&mut self, dir: Id, name: &[u8], link: Link, layer: u16) -> Result<bool, LayerFault> {
        let is_dir = self.inode(link.inode).kind == Kind::Dir;
        let empty = !is_dir || self.prune_children(link.inode, layer)?;
        let gone = empty && link.layer < layer;
        if gone {
            self.names.remove(&(dir, Name::from(name)));
        }
        Ok(gone)
    }

    fn prune_children(&mut self, dir: Id, layer: u16) -> Result<bool, LayerFault> {
        let mut left = 0_u64;
        for (name, link) in self.children(dir)? {
            if !self.prune(dir, &name, link, layer)? {
                left += 1;
            }
        }
        Ok(left == 0)
    }

    fn remove_subtree(&mut self, dir: Id, name: &[u8], link: Link) -> Result<(), LayerFault> {
        let mut pending = vec![(dir, Name::from(name), link.inode)];
        while let Some((dir, name, inode)) = pending.pop() {
            self.names.remove(&(dir, name));
            if self.inode(inode).kind == Kind::Dir {
                pending.extend(self.children(inode)?.into_iter().map(|(n, l)| (inode, n, l.inode)));
            }
        }
        Ok(())
    }

    pub(super) fn children(&self, dir: Id) -> Result<Vec<(Name, Link)>, LayerFault> {
        let mut children = Vec::new();
        for ((_, name), link) in self.range(dir) {
            self.step()?;
            children.push((name.clone(), *link));
        }
        Ok(children)
    }

    pub(super) fn range(&self, dir: Id) -> impl Iterator<Item = (&(Id, Name), &Link)> {
        self.names.range((dir, Name::default())..(dir + 1, Name::default()))
    }

    pub(super) fn child(&self, dir: Id, name: &[u8]) -> Result<Option<Link>, LayerFault> {
        self.step()?;
        Ok(self.names.get(&(dir, Name::from(name))).copied())
    }

    fn step(&self) -> Result<(), LayerFault> {
        self.steps.set(self.steps.get() + 1);
        if self.steps.get() > self.limits.steps {
            return Err(LayerFault::limit("look-ups of names", self.limits.steps));
        }
        Ok(())
    }

    fn charge_name(&mut self, bytes: usize) -> Result<(), LayerFault> {
        self.name_bytes += bytes as u64;
        if self.name_bytes > self.limits.name_bytes {
            return Err(LayerFault::limit(
                "bytes of names and link targets",
                self.limits.name_bytes,
            ));
        }
        Ok(())
    }

    fn add(&mut self, dir: Id, name: &[u8], inode: Inode, layer: u16) -> Result<Id, LayerFault> {
        if name.len() > NAME_MAX {
            return fault("expected a name of at most 255 bytes", name);
        }
        self.charge_name(name.len())?;
        if self.inodes.len() as u64 >= self.limits.entries {
            return Err(LayerFault::limit("files and directories", self.limits.entries));
        }
        let id = Id::try_from(self.inodes.len()).map_err(|_| LayerFault::limit("inodes", u32::MAX.into()))?;
        self.inodes.push(inode);
        self.names.insert((dir, name.into()), Link { inode: id, layer });
        Ok(id)
    }

    /// The directory that these components lead to, links followed inside the tree; missing ones are made, as runtimes do.
    fn descend(&mut self, parts: &[&[u8]], layer: u16) -> Result<Id, LayerFault> {
        let mut walk = Walk::new(ROOT, parts);
        while let Some(part) = walk.next() {
            // Links can lead deeper than any one name: what walks the tree relies on this bound.
            if walk.dirs.len() as u64 > self.limits.depth {
                return Err(LayerFault::limit(
                    "components of a path, links followed",
                    self.limits.depth,
                ));
            }
            if part == b".." {
                walk.up();
                continue;
            }
            let here = walk.here();
            let Some(link) = self.child(here, &part)? else {
                let made = self.add(here, &part, Inode::directory(layer), layer)?;
                walk.dirs.push(made);
                continue;
            };
            match self.inode(link.inode).kind {
                Kind::Dir => walk.dirs.push(link.inode),
                Kind::Symlink if walk.follow(self.inode(link.inode).target()) => {}
                Kind::Symlink => return fault("expected a directory, found a loop of symbolic links", &part),
                Kind::File | Kind::HardLink | Kind::Char | Kind::Block | Kind::Fifo => {
                    return fault("expected a directory above an entry, found another file", &part);
                }
            }
        }
        Ok(walk.here())
    }
}

fn fault<T>(what: &str, name: &[u8]) -> Result<T, LayerFault> {
    let name: String = name.escape_ascii().to_string().chars().take(200).collect();
    Err(LayerFault::Malformed(format!("{what}: {name}")))
}

/// The components of an entry's name. Absolute names start at the image's root, as in every runtime; `..` is refused,
/// because runtimes do not agree on it.
pub(super) fn components<'a>(name: &'a [u8], limits: &Limits) -> Result<Vec<&'a [u8]>, LayerFault> {
    if name.len() as u64 > limits.path_bytes {
        return Err(LayerFault::limit("bytes of a path", limits.path_bytes));
    }
    let parts: Vec<&[u8]> = split(name).collect();
    if parts.len() as u64 > limits.depth {
        return Err(LayerFault::limit("components of a path", limits.depth));
    }
    if parts.contains(&&b".."[..]) {
        return fault("expected a name inside the image, found one with `..`", name);
    }
    Ok(parts)
}
