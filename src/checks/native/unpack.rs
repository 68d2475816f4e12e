//! The entries of an archive that holds an image (`docker save`, an OCI layout in a tar), read as strictly as layers are.
//!
//! Must not write anything and must not choose names: the caller gets names, links and bytes, all hostile.

use super::{
    blob::{Budget, Decoder, Metered},
    error::{LayerFault, NativeError},
    limits::Limits,
    tar_stream::{Kind, TarStream},
};
use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
};

/// What an entry of the archive is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A file with so many bytes.
    File(u64),
    /// A folder.
    Folder,
    /// A symbolic link to this target, relative to its own folder.
    Symlink(Vec<u8>),
    /// A hard link to this path of the archive.
    HardLink(Vec<u8>),
}

/// One entry of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name as it stands there.
    pub name: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
}

/// Reads an archive, plain or compressed with gzip or zstd, and hands out each entry with its bytes.
pub fn entries(
    archive: &Path,
    limits: &Limits,
    each: &mut dyn FnMut(&Entry, &mut dyn Read) -> io::Result<()>,
) -> Result<(), NativeError> {
    let what = "the archive";
    let file = File::open(archive).map_err(|error| NativeError::io(what, error))?;
    let stored = file.metadata().map_err(|error| NativeError::io(what, error))?.len();
    let decoder = Decoder::new(BufReader::new(file)).map_err(|error| NativeError::io(what, error))?;
    let mut budget = Budget::new(limits);
    let tar = TarStream::new(Metered::new(decoder, &mut budget, stored, limits));
    walk(tar, limits, each).map_err(|fault| match fault {
        LayerFault::Malformed(why) => NativeError::malformed(what, format!("{why}; save the image again")),
        LayerFault::Limit { what: much, allowed } => NativeError::Limit {
            what: format!("{what}: {much}"),
            allowed,
        },
    })
}

fn walk<R: Read>(
    mut tar: TarStream<R>,
    limits: &Limits,
    each: &mut dyn FnMut(&Entry, &mut dyn Read) -> io::Result<()>,
) -> Result<(), LayerFault> {
    let mut count = 0_u64;
    while let Some(header) = tar.next()? {
        count += 1;
        if count > limits.entries {
            return Err(LayerFault::limit("entries", limits.entries));
        }
        if header.sparse {
            return Err(LayerFault::Malformed("a sparse file".to_owned()));
        }
        let kind = match header.kind {
            Kind::File => EntryKind::File(header.size),
            Kind::Dir => EntryKind::Folder,
            Kind::Symlink => EntryKind::Symlink(header.link),
            Kind::HardLink => EntryKind::HardLink(header.link),
            Kind::Char | Kind::Block | Kind::Fifo => {
                let name: String = header.name.escape_ascii().to_string().chars().take(200).collect();
                return Err(LayerFault::Malformed(format!("{name} is a device or a pipe")));
            }
        };
        let entry = Entry {
            name: header.name,
            kind,
        };
        each(&entry, &mut Data(&mut tar))?;
    }
    Ok(())
}

/// The bytes of the entry that the stream stands at.
struct Data<'a, R>(&'a mut TarStream<R>);

impl<R: Read> Read for Data<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(io::Error::other)
    }
}
