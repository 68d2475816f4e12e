//! Streams the layers of an image, in order, into the merged tree.
//!
//! Every byte is hashed twice (as stored and as unpacked) and both digests must match, or there is no tree at all.
//! A second pass reads contents that only turn out to matter after the merge, such as the target of a hard link.

use super::blob::{Budget, Decoder, Hashing, Metered};
use super::content::{IN_FOLDERS, Interest, KEPT, START_FILES, capture};
use super::error::{LayerFault, NativeError};
use super::hidden::{Hidden, HiddenFiles};
use super::layout::{Image, Layer, check};
use super::limits::Limits;
use super::packages::database;
use super::tar_stream::{Header, Kind, TarStream};
use super::tree::{Tree, components};
use super::walk::Id;
use repave_core::digest::Digest;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufReader, Read};

type Wanted = BTreeMap<(u16, u32), (Id, Interest)>;

/// The merged tree of the image with the contents that rules read, and what no longer shows in it.
#[derive(Debug)]
pub(super) struct Merged {
    pub tree: Tree,
    pub hidden: Hidden,
    /// Bytes of all layers after decompression.
    pub unpacked: u64,
}

/// Merges all layers.
pub(super) fn merge(image: &Image, limits: &Limits) -> Result<Merged, NativeError> {
    let mut tree = Tree::new(limits);
    let mut budget = Budget::new(limits);
    let mut entries = 0_u64;
    let mut kept = 0_u64;
    let mut seen = HiddenFiles::default();
    for index in 0..image.layers.len() {
        stream(image, index, &mut budget, limits, &mut |header, origin, tar| {
            entries += 1;
            if entries > limits.entries {
                return Err(LayerFault::limit("entries of the image", limits.entries));
            }
            apply(&mut tree, &mut seen, header, origin, tar, &mut kept, limits)
        })?;
    }
    complete(image, &mut tree, &mut kept, limits)?;
    let hidden = seen.hidden(&tree);
    Ok(Merged {
        tree,
        hidden,
        unpacked: budget.spent(),
    })
}

fn apply(
    tree: &mut Tree,
    seen: &mut HiddenFiles,
    header: &Header,
    origin: (u16, u32),
    tar: &mut dyn LayerTar,
    kept: &mut u64,
    limits: &Limits,
) -> Result<(), LayerFault> {
    let parts = components(&header.name, limits)?;
    if let Some((last, parents)) = parts.split_last()
        && let Some(hidden) = last.strip_prefix(b".wh.")
    {
        let hidden = (*last != b".wh..wh..opq").then_some(hidden);
        return tree.whiteout(parents, hidden, origin.0);
    }
    let path = [&b"/"[..], &parts.join(&b'/')].concat();
    let id = tree.apply(&parts, header, origin)?;
    let interest = Interest::of(&path, header.mode);
    if header.kind == Kind::File && interest.any() {
        tar.capture(interest, header, tree, id, kept, limits)?;
        seen.note(&path, tree.inode(id), origin)?;
    }
    Ok(())
}

/// Finds the files whose content is needed and was not read in the first pass, and reads the layers they are in again.
fn complete(image: &Image, tree: &mut Tree, kept: &mut u64, limits: &Limits) -> Result<(), NativeError> {
    let wanted = wanted(tree).map_err(|fault| outside(&fault))?;
    let mut budget = Budget::new(limits);
    for index in 0..image.layers.len() {
        if !wanted.keys().any(|(layer, _)| usize::from(*layer) == index) {
            continue;
        }
        stream(
            image,
            index,
            &mut budget,
            limits,
            &mut |header, origin, tar| match wanted.get(&origin) {
                Some((id, interest)) => tar.capture(*interest, header, tree, *id, kept, limits),
                None => Ok(()),
            },
        )?;
    }
    Ok(())
}

/// The whole contents of these files, for whoever needs more than the rules: another pass over the layers they are in.
pub(super) fn contents(
    image: &Image,
    tree: &Tree,
    files: &BTreeSet<Id>,
    most: u64,
    limits: &Limits,
) -> Result<Vec<Vec<u8>>, NativeError> {
    let origins: BTreeSet<(u16, u32)> = files.iter().map(|id| tree.inode(*id).origin).collect();
    let (mut budget, mut contents, mut kept) = (Budget::new(limits), Vec::new(), 0_u64);
    for index in 0..image.layers.len() {
        if !origins.iter().any(|(layer, _)| usize::from(*layer) == index) {
            continue;
        }
        stream(image, index, &mut budget, limits, &mut |header, origin, tar| {
            if origins.contains(&origin) {
                // A sparse file costs its holes only here.
                kept = kept.saturating_add(header.size);
                if header.sparse || kept > most {
                    return Err(LayerFault::limit("bytes of the package database", most));
                }
                contents.push(tar.content(most)?);
            }
            Ok(())
        })?;
    }
    Ok(contents)
}

fn wanted(tree: &Tree) -> Result<Wanted, LayerFault> {
    let mut needs: BTreeMap<Id, Interest> = BTreeMap::new();
    let mut need = |id: Id, interest: Interest| {
        let missing = interest.missing(tree.inode(id));
        if missing.any() {
            let entry = needs.entry(id).or_default();
            *entry = entry.with(missing);
        }
    };
    tree.walk(&mut |path, id, inode| need(id, Interest::of(path, inode.mode)));
    for path in kept_paths(tree)? {
        if let Some(id) = tree.resolve(&path, true)? {
            need(id, Interest::kept(&path));
        }
    }
    Ok(needs
        .into_iter()
        .map(|(id, i)| (tree.inode(id).origin, (id, i)))
        .collect())
}

/// The paths of all files that rules read.
pub(super) fn kept_paths(tree: &Tree) -> Result<Vec<Vec<u8>>, LayerFault> {
    let fixed = KEPT.iter().chain(START_FILES);
    let mut paths: Vec<Vec<u8>> = fixed.map(|p| p.as_bytes().to_vec()).collect();
    for dir in database::RPM_DIRS {
        paths.extend(database::RPM_FILES.map(|file| format!("{dir}/{file}").into_bytes()));
    }
    for (dir, _) in IN_FOLDERS {
        paths.extend(folder(tree, dir)?);
    }
    Ok(paths)
}

/// The paths of the files in one of [`IN_FOLDERS`].
pub(super) fn folder(tree: &Tree, dir: &str) -> Result<Vec<Vec<u8>>, LayerFault> {
    let ends = IN_FOLDERS
        .iter()
        .find(|(known, _)| *known == dir)
        .map_or(&[][..], |(_, ends)| ends);
    let names = tree.list(dir.as_bytes())?.into_iter();
    let wanted = names.filter(|name| ends.iter().any(|end| name.ends_with(end.as_bytes())));
    Ok(wanted.map(|name| [dir.as_bytes(), b"/", &name[..]].concat()).collect())
}

/// A fault that belongs to the merged tree and to no single layer.
pub(super) fn outside(fault: &LayerFault) -> NativeError {
    match fault {
        LayerFault::Malformed(why) => NativeError::malformed("the merged image", why.clone()),
        LayerFault::Limit { what, allowed } => NativeError::Limit {
            what: what.clone(),
            allowed: *allowed,
        },
    }
}

/// What a visitor may do with the data of an entry.
trait LayerTar {
    fn capture(
        &mut self,
        interest: Interest,
        header: &Header,
        tree: &mut Tree,
        id: Id,
        kept: &mut u64,
        limits: &Limits,
    ) -> Result<(), LayerFault>;

    /// All of it, at most so many bytes.
    fn content(&mut self, most: u64) -> Result<Vec<u8>, LayerFault>;
}

impl<R: Read> LayerTar for TarStream<R> {
    fn capture(
        &mut self,
        interest: Interest,
        header: &Header,
        tree: &mut Tree,
        id: Id,
        kept: &mut u64,
        limits: &Limits,
    ) -> Result<(), LayerFault> {
        capture(interest, header, self, tree.inode_mut(id), kept, limits)
    }

    fn content(&mut self, most: u64) -> Result<Vec<u8>, LayerFault> {
        let (mut content, mut buffer) = (Vec::new(), [0_u8; 16 * 1024]);
        loop {
            let n = self.read(&mut buffer)?;
            if n == 0 {
                return Ok(content);
            }
            content.extend_from_slice(&buffer[..n]);
            if content.len() as u64 > most {
                return Err(LayerFault::limit("bytes of a file", most));
            }
        }
    }
}

type Visit<'a> = dyn FnMut(&Header, (u16, u32), &mut dyn LayerTar) -> Result<(), LayerFault> + 'a;

/// A layer without digests, for fuzzing: the tree and how many bytes were unpacked.
#[cfg(feature = "fuzzing")]
pub(super) fn of_bytes(stored: &[u8], limits: &Limits) -> Result<(Tree, u64), LayerFault> {
    let (mut tree, mut budget) = (Tree::new(limits), Budget::new(limits));
    let (mut seen, mut kept, mut count) = (HiddenFiles::default(), 0, 0_u64);
    let size = stored.len() as u64;
    let unpacked = Metered::new(Decoder::new(stored)?, &mut budget, size, limits);
    entries(unpacked, 0, limits, &mut |header, origin, tar| {
        count += 1;
        if count > limits.entries {
            return Err(LayerFault::limit("entries of the image", limits.entries));
        }
        apply(&mut tree, &mut seen, header, origin, tar, &mut kept, limits)
    })?;
    Ok((tree, budget.spent()))
}

/// Reads one layer to its end and verifies both its digests.
fn stream(
    image: &Image,
    index: usize,
    budget: &mut Budget,
    limits: &Limits,
    visit: &mut Visit<'_>,
) -> Result<(), NativeError> {
    let layer = &image.layers[index];
    let mut stored = Hashing::new(image.open_layer(index, layer)?);
    let unpacked = unpack(&mut stored, layer, index, budget, limits, visit);
    if let Err(limit @ LayerFault::Limit { .. }) = unpacked {
        return Err(limit.at(index, &layer.blob.digest));
    }
    // A damaged copy often cannot be read as an archive either: say that the copy is damaged, not that the image is.
    check(&format!("layer {index}"), &layer.blob.digest, stored)?;
    let found = unpacked.map_err(|fault| fault.at(index, &layer.blob.digest))?;
    if found == layer.diff_id {
        return Ok(());
    }
    Err(NativeError::DigestMismatch {
        what: format!("layer {index}, unpacked"),
        expected: layer.diff_id.clone(),
        found,
    })
}

/// Reads the archive in a blob and what follows it; gives the digest of the unpacked bytes.
fn unpack(
    stored: impl Read,
    layer: &Layer,
    index: usize,
    budget: &mut Budget,
    limits: &Limits,
    visit: &mut Visit<'_>,
) -> Result<Digest, LayerFault> {
    let decoder = Decoder::new(BufReader::with_capacity(64 * 1024, stored))?;
    let mut unpacked = Hashing::new(Metered::new(decoder, budget, layer.blob.size, limits));
    entries(&mut unpacked, index, limits, visit)?;
    Ok(unpacked.finish()?)
}

fn entries<R: Read>(unpacked: R, index: usize, limits: &Limits, visit: &mut Visit<'_>) -> Result<(), LayerFault> {
    let layer = u16::try_from(index).map_err(|_| LayerFault::limit("layers", u16::MAX.into()))?;
    let mut tar = TarStream::new(unpacked);
    let mut ordinal = 0_u32;
    let mut sparse = 0_u64;
    while let Some(header) = tar.next()? {
        ordinal = ordinal.saturating_add(1);
        if header.sparse {
            // A hole costs no byte here, but the node that unpacks the image may pay for it.
            sparse = sparse.saturating_add(header.size);
            if sparse > limits.decompressed_bytes {
                return Err(LayerFault::limit("bytes of sparse files", limits.decompressed_bytes));
            }
        }
        visit(&header, (layer, ordinal), &mut tar)?;
    }
    Ok(())
}
